//! What hosts report, and how it is counted.

use super::world::World;
use crate::observe::{LogLine, Observers};
use crate::plan::{Caller, Plan};
use crate::tally::{Ended, Tally, address_hash, cluster_meant};
use proxy::{Record, Sink};
use proxy_core::contract::StateChange;
use proxy_core::ids::ClusterId;
use proxy_core::random::hash_text;
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Something to count.
pub(super) enum Report {
    /// A request of a source ended.
    Traffic { source: u32, ended: Ended },
    /// A call of a client without a proxy ended.
    Direct {
        caller: Caller,
        service: u32,
        ended: Ended,
    },
    /// An application answered, or broke off.
    Served {
        pod: u32,
        started_at: Nanos,
        failed: bool,
    },
    Proxy {
        at: Nanos,
        pod: u32,
        /// In order of start.
        number: u32,
        name: Name,
        what: OfProxy,
    },
}

/// What a proxy reports, with the names behind its ids.
pub(super) enum OfProxy {
    Access {
        log: AccessLog,
        cluster: Option<Name>,
        endpoint: Option<SocketAddr>,
    },
    Change {
        change: StateChange,
        cluster: Option<Name>,
    },
    Refused {
        reason: Name,
    },
}

/// Where the proxy of a pod reports.
pub(super) fn proxy_sink(world: Rc<World>, pod: u32, number: u32, name: Name) -> Sink {
    Box::new(move |proxy, record| {
        let what = match record {
            Record::Access { worker, log } => {
                if let Some(flags) = world.watched.borrow_mut().get_mut(&(pod, log.key)) {
                    *flags = log.flags;
                }
                let worker = proxy.worker(worker);
                let cluster = log.cluster.and_then(|id| worker.cluster_name(id)).cloned();
                let endpoint = log.endpoint.and_then(|id| worker.endpoint_address(id));
                OfProxy::Access {
                    log,
                    cluster,
                    endpoint,
                }
            }
            Record::Change(change) => OfProxy::Change {
                cluster: proxy.worker(0).cluster_name(cluster_of(&change)).cloned(),
                change,
            },
            Record::Answered {
                refusal: Some(reason),
                ..
            } => OfProxy::Refused { reason },
            Record::Answered { refusal: None, .. } => return,
        };
        world.report(Report::Proxy {
            at: world.now(),
            pod,
            number,
            name: Arc::clone(&name),
            what,
        });
    })
}

fn cluster_of(change: &StateChange) -> ClusterId {
    match change {
        StateChange::Ejected { cluster, .. }
        | StateChange::EjectionOverflow { cluster, .. }
        | StateChange::Unejected { cluster, .. }
        | StateChange::HealthChecked { cluster, .. }
        | StateChange::Degraded { cluster, .. }
        | StateChange::Overflow { cluster }
        | StateChange::Warmed { cluster } => *cluster,
    }
}

/// Counts a report; true if it is an exchange of a proxy.
pub(super) fn count(
    plan: &Plan,
    tally: &mut Tally<'_>,
    observers: &mut Observers<'_>,
    report: Report,
) -> bool {
    match report {
        Report::Traffic { source, ended } => tally.traffic_ended(source, &ended),
        Report::Direct {
            caller,
            service,
            ended,
        } => {
            let calls = tally.calls_between(caller, service);
            tally.call_ended(calls, &ended);
        }
        Report::Served {
            pod,
            started_at,
            failed,
        } => tally.served(pod, started_at, failed),
        Report::Proxy {
            at,
            pod,
            number,
            name,
            what,
        } => match what {
            OfProxy::Access {
                log,
                cluster,
                endpoint,
            } => {
                count_exchange(plan, tally, (at, pod, number), &log, &cluster, endpoint);
                if let Some(observe) = &mut observers.access_log {
                    observe(&LogLine {
                        at,
                        proxy: &name,
                        log: &log,
                        cluster: cluster.as_deref(),
                        endpoint,
                    });
                }
                return true;
            }
            OfProxy::Change { change, cluster } => {
                if let Some(cluster) = cluster {
                    tally.changed(at, (number, &name), &change, &cluster);
                }
            }
            OfProxy::Refused { reason } => {
                tally.happened(
                    at,
                    "",
                    format!("{name} refuses its configuration: {reason}"),
                );
            }
        },
    }
    false
}

fn count_exchange(
    plan: &Plan,
    tally: &mut Tally<'_>,
    (at, pod, number): (Nanos, u32, u32),
    log: &AccessLog,
    cluster: &Option<Name>,
    endpoint: Option<SocketAddr>,
) {
    let hash = cluster.as_deref().map_or(0, hash_text);
    let endpoint_hash = endpoint.map_or(0, address_hash);
    tally.logged(at, number, log, hash, endpoint_hash);
    if let Some(cluster) = cluster {
        let cluster = tally.cluster(cluster);
        tally.cluster_used(cluster, log.started_at, log.attempts);
    }
    // One that ended before a cluster was chosen counts for the one it was meant for.
    let Some(service) = cluster
        .clone()
        .or_else(|| cluster_meant(log))
        .and_then(|cluster| plan.service_behind(&cluster))
    else {
        return;
    };
    let caller = Caller::Workload(plan.pods[pod as usize].workload);
    let served_by = endpoint.and_then(|endpoint| {
        let ip = endpoint.ip();
        plan.pods.iter().position(|pod| pod.pod.ip == ip)
    });
    let ended = Ended {
        started_at: log.started_at,
        duration: log.duration,
        status: log.status,
        flags: log.flags,
        attempts: log.attempts,
        pod: served_by.map(|pod| pod as u32),
    };
    let calls = tally.calls_between(caller, service);
    tally.call_ended(calls, &ended);
}
