//! The run on bytes: HTTP/1.1 through hyper over turmoil's simulated TCP, with the same core, plan
//! and record as the event engine.
//!
//! A pod is a host: its sidecar (crate `proxy`) and its application, joined by pipes in memory, as
//! iptables and loopback join them. Between hosts every connection begins with a PROXY protocol
//! header that says where it was going, and goes to the one port that each host listens on.
//!
//! turmoil's clock has whole milliseconds, so latencies must be such, and work is rounded to the
//! nearest. TLS is not spoken: it costs its round trips, and servers are told of it. Thirty hosts are
//! the most, since turmoil's cost per millisecond grows with their cube.
//!
//! | module | holds |
//! |---|---|
//! | `control` | the control plane and the timeline, between the milliseconds |
//! | `world` | what all hosts share |
//! | `pod` | a host: its proxy, its application, its listener |
//! | `network` | connections between hosts and within |
//! | `application` | what applications do for a request |
//! | `clients` | calls and their connections |
//! | `sources` | sources of requests |
//! | `reports` | what is counted |

mod application;
mod clients;
mod control;
mod network;
mod pod;
mod reports;
mod sources;
mod world;

use crate::distribution::Distribution;
use crate::observe::{Observers, Outcome};
use crate::plan::Plan;
use control::Control;
use proxy_core::time::Nanos;
use scenarios::model::Discipline;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;
use world::World;

/// Hosts at most: pods, outside services, and one for all clients.
pub const HOSTS_MAX: usize = 30;
/// After the end of a run, requests in flight have this long to finish.
const GRACE: Nanos = Nanos::from_secs(60);
/// The host of clients that have no pod.
const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255));
const MILLISECOND: Nanos = Nanos::from_millis(1);

/// Why a scenario cannot run on bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--engine turmoil cannot run this scenario: {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Runs `plan` with `seed`. The same plan and seed give the same outcome.
pub fn run(plan: &Plan, seed: u64, observers: Observers<'_>) -> Result<Outcome, Unsupported> {
    check(plan)?;
    let end = plan.duration + GRACE;
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH)
        .simulation_duration(duration(end) * 2)
        // Connections not accepted yet, and writes on their way, for each socket.
        .tcp_capacity(1 << 12)
        .build();
    let world = Rc::new(World::new(
        Rc::new(plan.clone()),
        seed,
        observers.journal.is_some(),
    ));
    let mut addresses: Vec<(IpAddr, &str)> = Vec::new();
    for (number, pod) in (0u32..).zip(&plan.pods) {
        let world = Rc::clone(&world);
        sim.host(pod.pod.ip, move || pod::run(Rc::clone(&world), number));
        addresses.push((pod.pod.ip, &pod.pod.locality));
    }
    for (number, external) in (0u32..).zip(&plan.externals) {
        let station = plan.pods.len() as u32 + number;
        let world = Rc::clone(&world);
        sim.host(external.address, move || {
            pod::run_external(Rc::clone(&world), station)
        });
        addresses.push((external.address, ""));
    }
    let clients = Rc::clone(&world);
    sim.host(CLIENTS, move || sources::run(Rc::clone(&clients)));
    addresses.push((CLIENTS, ""));
    for (at, (a, a_locality)) in addresses.iter().enumerate() {
        for (b, b_locality) in &addresses[at + 1..] {
            let latency = constant(plan.network.between(a_locality, b_locality));
            sim.set_link_latency(*a, *b, duration(latency));
        }
    }
    let outcome = Control::new(plan, seed, &world, sim, observers).run(end);
    world.forget();
    outcome.map_err(|error| Unsupported(format!("turmoil: {error}")))
}

/// Whether `plan` can run on bytes.
pub fn check(plan: &Plan) -> Result<(), Unsupported> {
    let unsupported = |why: String| Err(Unsupported(why));
    let hosts = plan.pods.len() + plan.externals.len() + 1;
    if hosts > HOSTS_MAX {
        return unsupported(format!(
            "it takes at most {HOSTS_MAX} hosts, and this scenario has {} pods, {} outside services and one host of clients",
            plan.pods.len(),
            plan.externals.len(),
        ));
    }
    if plan.pods.iter().any(|pod| pod.node.is_some()) {
        return unsupported("there are no proxies of nodes there (proxy: node)".to_owned());
    }
    let links = plan.network.links.iter().map(|(_, _, latency)| latency);
    for latency in links.chain([&plan.network.default]) {
        let whole =
            |latency: Nanos| latency >= MILLISECOND && latency.0.is_multiple_of(MILLISECOND.0);
        if !matches!(latency, Distribution::Constant(latency) if whole(*latency)) {
            return unsupported(
                "its clock has whole milliseconds, so every network latency must be a constant one, 1ms or more (network: {latency: 1ms})"
                    .to_owned(),
            );
        }
    }
    if plan.overhead != Nanos::ZERO {
        return unsupported("proxies have no overhead there (proxies: {overhead: 0s})".to_owned());
    }
    if plan.mixer.is_some() {
        return unsupported(
            "no proxy there asks Mixer (mixerAddress in the MeshConfig)".to_owned(),
        );
    }
    let mut behaviors = plan.workloads.iter().map(|workload| &workload.behavior);
    let outside = plan.externals.iter().map(|external| &external.behavior);
    let shares =
        |behavior: &crate::plan::PlanBehavior| behavior.discipline == Discipline::ProcessorSharing;
    if behaviors.any(shares) || outside.clone().any(shares) {
        return unsupported("processor sharing is not there, only fifo and lifo".to_owned());
    }
    Ok(())
}

/// A latency that [`check`] let pass.
fn constant(latency: &Distribution) -> Nanos {
    match latency {
        Distribution::Constant(latency) => *latency,
        _ => MILLISECOND,
    }
}

fn duration(time: Nanos) -> Duration {
    Duration::from_nanos(time.0)
}

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
