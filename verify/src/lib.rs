//! The core beside a real Envoy: the same resources, the same requests, and what each makes of them.
//!
//! | module | holds |
//! |---|---|
//! | `generate`, `regex` | requests that just meet conditions, and just miss them |
//! | `mapping`, `bootstrap` | many configurations in one Envoy on loopback |
//! | `envoy`, `client`, `upstream`, `logs` | the real side: process, both ends, access log |
//! | `core` | the other side, in virtual time |
//! | `compare`, `sample`, `report` | single answers, shares of random ones, what to say of them |
//! | [`rehearse`] | the timeline of a scenario, in time |

mod bootstrap;
mod client;
mod compare;
mod core;
mod envoy;
mod generate;
mod logs;
mod mapping;
mod regex;
pub mod rehearse;
mod report;
mod run;
mod sample;
mod seen;
mod upstream;

pub use compare::Field;
pub use envoy::{HOW_TO_GET, find as find_envoy};
pub use report::{Agreement, Difference, FieldDifference, Report};
pub use sample::{Sample, Way};

use control_plane::{ProxyIdentity, Request, Resources};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What one proxy is told, and what to ask it.
#[derive(Clone, Debug)]
pub struct Config {
    /// In the report.
    pub name: String,
    pub proxy: ProxyIdentity,
    pub resources: Resources,
    /// With their addresses; empty: requests are made up for everything that `resources` match.
    pub requests: Vec<Request>,
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Envoy to start.
    pub envoy: PathBuf,
    /// How often a request is sent whose way is random; 0: its shares are not compared.
    pub sample_size: u64,
    /// Everything together takes no longer.
    pub limit: Duration,
}

impl Settings {
    /// With ten thousand requests a sample, and ten minutes for all.
    pub fn new(envoy: PathBuf) -> Settings {
        Settings {
            envoy,
            sample_size: 10_000,
            limit: Duration::from_secs(600),
        }
    }
}

/// Why there is no verdict.
#[derive(Debug)]
pub enum Failure {
    /// Envoy has no word for something, or it cannot be played.
    Config(String),
    /// Envoy did not start, refused the resources or did not answer.
    Envoy(String),
    /// Ports, files, processes.
    Machine(String),
    Interrupted,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Config(reason) | Failure::Machine(reason) => f.write_str(reason),
            Failure::Envoy(reason) => write!(f, "Envoy: {reason}"),
            Failure::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Machine(error.to_string())
    }
}

/// Requests that just meet the conditions of `resources`, and just miss them, to a proxy at `ip`.
pub fn requests(resources: &Resources, ip: IpAddr) -> Vec<Request> {
    generate::requests(resources, ip).requests
}

/// Asks one Envoy and the core the same about every configuration. What it starts is stopped again.
///
/// # Errors
/// No verdict: see [`Failure`].
pub fn configs(configs: &[Config], settings: &Settings) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::select! {
            report = run::run(configs, settings) => report,
            () = tokio::time::sleep(settings.limit) => {
                let seconds = settings.limit.as_secs();
                Err(Failure::Envoy(format!("not done within {seconds} s")))
            }
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    })
}
