//! The record of one run: what `meshsim run --format json` prints.

use crate::latency::LatencySummary;
use indexmap::IndexMap;
use serde::Serialize;

/// Schema id of [`RunRecord`].
pub const SCHEMA: &str = "meshsim.run/1";

/// One run of one scenario with one seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    pub schema: &'static str,
    /// Of meshsim.
    pub version: &'static str,
    pub scenario: String,
    pub seed: u64,
    /// `event` or `turmoil`.
    pub engine: &'static str,
    /// Over every access-log record and state change, in order.
    pub digest: String,
    pub simulated_s: f64,
    pub warmup_s: f64,
    /// By source.
    pub traffic: IndexMap<String, TrafficRecord>,
    /// By workload, `NAME.NAMESPACE`; those that served nothing are there with zeros.
    pub workloads: IndexMap<String, WorkloadRecord>,
    /// By cluster name, over all proxies.
    pub clusters: IndexMap<String, ClusterRecord>,
    /// Who called whom, and what share each version served.
    pub calls: Vec<CallRecord>,
    /// What Mixer was asked and told, if proxies ask one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixer: Option<MixerRecord>,
    /// What happened when, in order: the scenario's timeline, pushes that arrived, ejections.
    pub timeline: Vec<HappeningRecord>,
    pub expectations: Vec<Verdict>,
    /// All expectations held.
    pub passed: bool,
}

/// A source of requests, as its clients saw it. Warm-up left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrafficRecord {
    pub requests: u64,
    /// Answered below 500.
    pub succeeded: u64,
    /// `None` if there was no request.
    pub success_rate: Option<f64>,
    /// By status; `0` is no answer.
    pub codes: IndexMap<String, u64>,
    /// By response flag of the first proxy on the way.
    pub flags: IndexMap<String, u64>,
    pub latency_ms: LatencySummary,
}

/// Requests that a workload's applications took on. Warm-up left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkloadRecord {
    pub requests: u64,
    /// By pod.
    pub endpoints: IndexMap<String, EndpointRecord>,
    /// Share of the workers' time spent on requests; `None` without a limit of workers.
    pub utilisation: Option<f64>,
}

/// One pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointRecord {
    pub requests: u64,
    /// Answered 5xx, or broken off.
    pub failures: u64,
}

/// One cluster, summed over proxies. Warm-up left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterRecord {
    pub requests: u64,
    /// Tries handed to a connection pool.
    pub attempts: u64,
    pub retries: u64,
    pub ejections: u64,
    pub overflows: u64,
}

/// Calls from one workload (or source) to one Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallRecord {
    pub from: String,
    pub to: String,
    pub requests: u64,
    /// Answered below 500.
    pub succeeded: u64,
    /// Requests by the workload that served them; those that reached none are not in it.
    pub served_by: IndexMap<String, u64>,
}

/// Mixer's calls. Warm-up left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MixerRecord {
    /// Requests that it was asked about.
    pub checks: u64,
    /// Those of them that it denied,
    pub denied: u64,
    /// and those it gave no verdict on.
    pub failed: u64,
    /// Responses that it was told of.
    pub reports: u64,
    /// Those that never reached it.
    pub reports_lost: u64,
    /// Samples of metrics with more label values than are kept.
    pub series_left_out: u64,
    /// By name and labels.
    pub metrics: Vec<MetricRecord>,
}

/// One series of a metric of Mixer's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricRecord {
    pub name: String,
    pub labels: IndexMap<String, String>,
    pub count: u64,
    /// Of the values; durations in seconds.
    pub sum: f64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HappeningRecord {
    pub at_s: f64,
    /// Of the scenario's event; empty for what followed from it.
    pub name: String,
    pub what: String,
}

/// How one expectation came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// As written.
    pub name: String,
    pub passed: bool,
    /// With its unit; "no requests" where there was nothing to observe.
    pub observed: String,
    pub bound: String,
    pub file: String,
    pub line: u32,
}
