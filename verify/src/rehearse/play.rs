//! A script played on a real Envoy, in time.

use super::clock::Clock;
use super::files::{Files, free_port};
use super::logs;
use super::pods::{BlackHole, Pods};
use super::runs::Run;
use super::script::Script;
use super::{client, happenings};
use crate::Failure;
use crate::envoy::{Envoy, FLUSH};
use control_plane::ProxyKind;
use proxy_core::time::Nanos;
use proxy_core::xds::{Discovery, LoadAssignment, XdsDelta};
use sim::Plan;
use sim::distribution::Distribution;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_local};

/// Between the order to start and the start of the scenario.
const LEAD: Duration = Duration::from_millis(200);
/// Requests in flight at the end have this long.
const GRACE: Duration = Duration::from_secs(5);

/// What Envoy made of a script.
pub(super) struct Played {
    pub(super) run: Run,
    /// How late the latest request was sent,
    pub(super) sent_late: Nanos,
    /// and answers of stand-ins on average.
    pub(super) answered_late: Nanos,
}

/// Plays `script` of `plan` on the Envoy at `binary`.
pub(super) fn play(
    plan: &Plan,
    script: &Script,
    seed: u64,
    binary: &Path,
) -> Result<Played, Failure> {
    let mut files = Files::new(script, free_port()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let times = LocalSet::new().block_on(&runtime, async {
        let (bootstrap, admin) = (files.bootstrap(), files.admin());
        let start = Envoy::start(binary, &bootstrap, admin, files.folder(), plan.concurrency);
        let _envoy = start.await?;
        play_in_time(plan, script, seed, &mut files).await
    })?;
    Ok(Played {
        run: logs::read(files.folder().path(), &script.arrivals, times.started_ns)?,
        sent_late: times.sent_late,
        answered_late: times.answered_late,
    })
}

struct Times {
    /// The time of day at the scenario's start.
    started_ns: u64,
    sent_late: Nanos,
    answered_late: Nanos,
}

async fn play_in_time(
    plan: &Plan,
    script: &Script,
    seed: u64,
    files: &mut Files,
) -> Result<Times, Failure> {
    let clock = Clock::starting_in(LEAD);
    let started_ns = time_of_day_ns() + LEAD.as_nanos() as u64;
    let addresses = addresses(script);
    let arrivals = &script.arrivals;
    let keys = arrivals.iter().map(|arrival| arrival.key).collect();
    let delay = |pod| delay(plan, script.pod, pod);
    let pods = Rc::new(Pods::start(plan, seed, &addresses, keys, delay, clock).await?);
    let holes = black_holes(plan, &addresses)?;
    let events = happenings::of_plan(plan);
    let followed = spawn_local({
        let pods = Rc::clone(&pods);
        async move { pods.follow(&events).await }
    });
    let to = files.addresses();
    let push = async {
        for push in &script.pushes {
            clock.wait_until(push.at).await;
            files.apply(&push.deltas)?;
        }
        Ok::<(), Failure>(())
    };
    let (pushed, sent_late) = tokio::join!(push, client::ask(arrivals, to, GRACE, clock));
    pushed?;
    if followed.is_finished()
        && let Ok(followed) = followed.await
    {
        followed?;
    }
    tokio::time::sleep(FLUSH * 4).await;
    drop(holes);
    let answered_late = pods.late();
    Ok(Times {
        started_ns,
        sent_late,
        answered_late,
    })
}

fn time_of_day_ns() -> u64 {
    #[allow(clippy::disallowed_types, clippy::disallowed_methods)]
    // Envoy's logs tell the time of day.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// Every address that the proxy's clusters ever have.
fn addresses(script: &Script) -> Vec<SocketAddr> {
    let mut addresses = BTreeSet::new();
    let mut add = |assignment: &LoadAssignment| {
        let localities = assignment.localities.iter();
        addresses.extend(localities.flat_map(|l| l.endpoints.iter().map(|e| e.address)));
    };
    for delta in script.pushes.iter().flat_map(|push| &push.deltas) {
        match delta {
            XdsDelta::Endpoints { upsert } => upsert.iter().for_each(|a| add(a)),
            XdsDelta::Clusters { upsert, .. } => {
                for cluster in upsert {
                    if let Discovery::Static(assignment) = &cluster.discovery {
                        add(assignment);
                    }
                }
            }
            _ => {}
        }
    }
    addresses.into_iter().collect()
}

/// Addresses on loopback that no pod has: nobody is there to refuse.
fn black_holes(plan: &Plan, addresses: &[SocketAddr]) -> io::Result<Vec<BlackHole>> {
    let is_pod = |ip: IpAddr| plan.pods.iter().any(|pod| pod.pod.ip == ip);
    let nobody = addresses
        .iter()
        .filter(|address| address.ip().is_loopback() && !is_pod(address.ip()));
    nobody.map(|&address| BlackHole::at(address)).collect()
}

/// What lies between a proxy and a pod's application, there and back: the network, and the time of
/// both proxies.
fn delay(plan: &Plan, from: u32, to: u32) -> Nanos {
    let place = |pod: u32| &*plan.pods[pod as usize].pod.locality;
    let latency = match plan.network.between(place(from), place(to)) {
        Distribution::Constant(latency) => *latency,
        _ => Nanos::ZERO,
    };
    let sidecar = plan.pods[to as usize].pod.proxy != ProxyKind::None;
    latency * 2 + plan.overhead * if sidecar { 2 } else { 1 }
}
