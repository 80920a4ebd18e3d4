//! The answer: classes of requests that change.

use crate::settings::SettingChange;
use control_plane::Request;
use proxy_core::xds::ConfigRef;
use serde::Serialize;

/// What two configurations do differently.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub changes: Vec<Change>,
    /// What may change, and what kept that from being decided.
    pub undecided: Vec<Undecided>,
    /// How many proxies were asked.
    pub proxies: usize,
    /// Workloads that one side lacks: their own requests have nothing to be compared with.
    pub only_old: Vec<String>,
    pub only_new: Vec<String>,
    /// The files give no workload a sidecar, so all were taken to have one.
    pub assumed_sidecars: bool,
    /// There is no Service on either side, so rules about services are about nothing.
    pub without_services: bool,
}

impl Report {
    /// Nothing changes, for certain.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.undecided.is_empty()
    }
}

/// A class of requests: what two rules do with them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What about them changes, in order of importance.
    pub kinds: Vec<Kind>,
    /// Setting by setting.
    pub settings: Vec<SettingChange>,
    pub old: Treatment,
    pub new: Treatment,
    pub witness: Witness,
    /// The hosts asked for, by their shortest names.
    pub hosts: Vec<String>,
    /// The proxies that change alike, the witness's first.
    pub proxies: Vec<String>,
}

/// What changes about requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Where they go, or who answers them.
    Destination,
    Weights,
    /// Who may pass, and how connections have to be secured.
    Access,
    Rewrite,
    Timeout,
    Retries,
    Headers,
    Mirrors,
    Faults,
    Cors,
    RateLimits,
    /// How the cluster that they go to is used.
    Policy,
    /// Anything else that a route or a connection manager does.
    Other,
}

impl Kind {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Destination => "destination",
            Kind::Weights => "weights",
            Kind::Access => "access",
            Kind::Rewrite => "rewrite",
            Kind::Timeout => "timeout",
            Kind::Retries => "retries",
            Kind::Headers => "headers",
            Kind::Mirrors => "mirrors",
            Kind::Faults => "faults",
            Kind::Cors => "CORS",
            Kind::RateLimits => "rate limits",
            Kind::Policy => "policy",
            Kind::Other => "settings",
        }
    }
}

/// What one side does with the requests of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Treatment {
    /// In a few words.
    pub summary: String,
    /// The rules responsible; empty: none, what happens is the default.
    pub rules: Vec<ConfigRef>,
}

/// A request of a class, and the proxy that is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Witness {
    /// As `explain` takes it.
    pub proxy: String,
    pub request: Request,
    /// Its host alone does not lead to its address.
    #[serde(skip)]
    pub is_elsewhere: bool,
}

/// Something that could not be decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Undecided {
    pub about: String,
    pub reason: String,
    /// The rules concerned, on both sides.
    pub old: Vec<ConfigRef>,
    pub new: Vec<ConfigRef>,
    pub proxies: Vec<String>,
}
