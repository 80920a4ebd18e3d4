//! What a scenario says that one Envoy with stand-ins around it cannot play. It is refused with the
//! reason, never left out.

use super::runs::Run;
use super::script::Script;
use crate::Failure;
use control_plane::ProxyKind;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CircuitBreakers, Cluster, Discovery, HttpProtocol, LbPolicy, Name, Transport, XdsDelta,
};
use scenarios::model::Discipline;
use sim::Plan;
use sim::distribution::Distribution;
use sim::plan::{PlanHappening, PlanLoad};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Envoy plays in real time.
const LONGEST: Nanos = Nanos::from_secs(60);

/// Why a scenario cannot be rehearsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl From<Refusal> for Failure {
    fn from(Refusal(why): Refusal) -> Failure {
        Failure::Config(format!("cannot be rehearsed: {why}"))
    }
}

/// What can be told from the scenario alone.
pub(super) fn plan(plan: &Plan) -> Result<(), Refusal> {
    if plan.pods.iter().any(|pod| pod.node.is_some()) {
        let why = "pods use the proxies of their nodes, which are Linkerd's";
        return Err(Refusal(why.to_owned()));
    }
    if plan.duration > LONGEST {
        return Err(Refusal(format!(
            "it takes {} s in real time, and {} s is the most: shorten it with `--set duration=...`",
            plan.duration.as_secs_f64(),
            LONGEST.as_secs_f64()
        )));
    }
    if plan.mixer.is_some() {
        let why = "its proxies ask Mixer (mixerAddress in the MeshConfig), and today's Envoy has no such filter";
        return Err(Refusal(why.to_owned()));
    }
    for traffic in &plan.traffic {
        let why = match (&traffic.load, traffic.retries) {
            (PlanLoad::Closed { .. }, _) => "is closed-loop",
            (_, 1..) => "tries again by itself",
            _ => continue,
        };
        return Err(Refusal(format!(
            "traffic `{}` {why}: when it asks depends on the answers, and both sides are asked the same",
            traffic.name
        )));
    }
    Ok(())
}

/// What takes a look at the requests.
pub(super) fn script(plan: &Plan, script: &Script) -> Result<(), Refusal> {
    let proxy = &script.proxy;
    if script.arrivals.is_empty() {
        return Err(Refusal(format!(
            "`{proxy}` sends no request in this scenario"
        )));
    }
    if let Some(arrival) = script
        .arrivals
        .iter()
        .find(|arrival| arrival.opened.tls.is_some())
    {
        let to = arrival.opened.original_dst;
        return Err(Refusal(format!(
            "a client speaks TLS to {to}, and rehearsals are plain text"
        )));
    }
    let ends = plan.timeline.iter().any(|event| match &event.happening {
        PlanHappening::Crash { pods, .. } | PlanHappening::Restart { pods } => {
            pods.contains(&script.pod)
        }
        _ => false,
    });
    if ends {
        return Err(Refusal(format!(
            "the timeline ends or restarts `{proxy}` itself"
        )));
    }
    Ok(())
}

/// What stands behind the clusters that are used in `run`.
pub(super) fn used(plan: &Plan, script: &Script, run: &Run) -> Result<(), Refusal> {
    let deltas = || script.pushes.iter().flat_map(|push| &push.deltas);
    let mut clusters: BTreeMap<&Name, Vec<&Arc<Cluster>>> = BTreeMap::new();
    for delta in deltas() {
        if let XdsDelta::Clusters { upsert, .. } = delta {
            upsert
                .iter()
                .for_each(|c| clusters.entry(&c.name).or_default().push(c));
        }
    }
    let mut used: Vec<&Name> = run
        .exchanges
        .iter()
        .filter_map(|e| e.cluster.as_ref())
        .collect();
    used.sort();
    used.dedup();
    for cluster in used.iter().filter_map(|name| clusters.get(*name)).flatten() {
        if let Some(why) = unplayable(cluster) {
            return Err(Refusal(format!("cluster `{}` {why}", cluster.name)));
        }
    }
    for pod in pods_behind(plan, script, &used) {
        one_pod(plan, script.pod, pod)?;
    }
    Ok(())
}

fn unplayable(cluster: &Cluster) -> Option<&'static str> {
    match &cluster.discovery {
        Discovery::Eds | Discovery::Static(_) => {}
        Discovery::StrictDns { .. } | Discovery::LogicalDns { .. } => {
            return Some("is resolved by DNS, which a rehearsal has none of");
        }
        Discovery::OriginalDst { .. } => {
            return Some("passes connections through to where they were going");
        }
    }
    if cluster.http_protocol == HttpProtocol::Http2 {
        return Some("speaks HTTP/2, and the stand-ins for pods do not");
    }
    if let Transport::Tls { .. } = cluster.transport {
        return Some("originates TLS, and rehearsals are plain text");
    }
    if !cluster.health_checks.is_empty() {
        return Some("has active health checks, and the stand-ins for pods know of none");
    }
    if let LbPolicy::PeakEwma { .. } = cluster.lb_policy {
        return Some("is balanced by peak EWMA, which Envoy does not have");
    }
    None
}

/// Pods that a cluster among `used` ever had as an endpoint.
fn pods_behind(plan: &Plan, script: &Script, used: &[&Name]) -> Vec<u32> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for delta in script.pushes.iter().flat_map(|push| &push.deltas) {
        if let XdsDelta::Endpoints { upsert } = delta {
            let theirs = upsert.iter().filter(|a| used.contains(&&a.cluster));
            let endpoints = theirs.flat_map(|a| a.localities.iter().flat_map(|l| &l.endpoints));
            addresses.extend(endpoints.map(|endpoint| endpoint.address));
        }
    }
    let is_there = |ip| addresses.iter().any(|address| address.ip() == ip);
    let pods = (0u32..).zip(&plan.pods);
    pods.filter(|(_, pod)| is_there(pod.pod.ip))
        .map(|(number, _)| number)
        .collect()
}

fn one_pod(plan: &Plan, from: u32, pod: u32) -> Result<(), Refusal> {
    let planned = &plan.pods[pod as usize];
    let workload = &plan.workloads[planned.workload as usize];
    let name = workload.full_name();
    let behavior = &workload.behavior;
    if behavior
        .scripts
        .iter()
        .any(|(_, script)| !script.steps.is_empty())
    {
        return Err(Refusal(format!(
            "`{name}` makes calls of its own: how long they take is the mesh's matter, and one proxy is all there is"
        )));
    }
    if behavior.discipline != Discipline::Fifo {
        return Err(Refusal(format!("`{name}` is not first come, first served")));
    }
    let place = |pod: u32| &*plan.pods[pod as usize].pod.locality;
    if !matches!(
        plan.network.between(place(from), place(pod)),
        Distribution::Constant(_)
    ) {
        return Err(Refusal(format!(
            "the latency on the way to `{name}` is not constant"
        )));
    }
    let own = &planned.pod;
    if own.proxy == ProxyKind::None {
        return Ok(());
    }
    let push = plan
        .control_plane
        .clone()
        .connect(Nanos::ZERO, own.identity());
    let clusters = push.deltas.iter().filter_map(|delta| match delta {
        XdsDelta::Clusters { upsert, .. } => Some(upsert),
        _ => None,
    });
    let limited = |c: &&Arc<Cluster>| {
        super::script::is_inbound(&c.name) && c.circuit_breakers != CircuitBreakers::UNLIMITED
    };
    match clusters.flatten().find(limited) {
        Some(_) => Err(Refusal(format!(
            "the sidecar of `{name}` has limits of its own, and no sidecar stands before a stand-in: give `{}` no proxy",
            workload.name
        ))),
        None => Ok(()),
    }
}
