//! The main machine of a proxy: it takes updates from the control plane, warms clusters and
//! listeners, resolves names, and runs outlier detection. Workers hear of all of it by message.

use crate::contract::{Action, MainInput, Out, StateChange, WorkerSet};
use crate::ids::ClusterId;
use crate::messages::{ToMain, ToWorker};
use crate::random::Draws;
use crate::resilience::outlier::{Detector, Verdicts};
use crate::router;
use crate::time::Nanos;
use crate::worker::Identity;
use crate::xds::{
    Cluster, Discovery, Endpoint, LbPolicy, Listener, LoadAssignment, LocalityEndpoints, Name,
    NetworkFilter, RouteAction, RouteSource, RouteTable, XdsDelta,
};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxBuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Envoy's own limits.
const MAXIMUM_RING_SIZE: u64 = 8 * 1024 * 1024;
const MAXIMUM_MAGLEV_SIZE: u64 = 5_000_011;

#[derive(Debug)]
struct ClusterEntry {
    cluster: Arc<Cluster>,
    /// Last known endpoints; `None` while warming.
    assignment: Option<Arc<LoadAssignment>>,
    detector: Option<Detector>,
    /// The workers have a version of it, perhaps an older one.
    delivered: bool,
    removed: bool,
}

/// The main machine of a proxy.
#[derive(Debug)]
pub struct Main {
    draws: Draws,
    now: Nanos,
    /// By id; removed clusters keep their place.
    clusters: IndexMap<Name, ClusterEntry, FxBuildHasher>,
    tables: IndexSet<Name, FxBuildHasher>,
    /// Listeners whose route tables have not arrived yet.
    warming: Vec<Arc<Listener>>,
}

impl Main {
    /// A main machine that has been told nothing yet.
    pub fn new(identity: &Identity) -> Main {
        Main {
            draws: Draws::new(identity.seed, &identity.proxy),
            now: Nanos::ZERO,
            clusters: IndexMap::default(),
            tables: IndexSet::default(),
            warming: Vec::new(),
        }
    }

    /// Takes in one input; like [`crate::Worker::handle`].
    pub fn handle(&mut self, now: Nanos, input: MainInput, out: &mut Out) {
        assert!(now >= self.now, "time never runs backwards");
        self.now = now;
        match input {
            MainInput::Xds { delta, version } => match refusal(&delta) {
                Some(reason) => out.actions.push(Action::Nack {
                    version,
                    reason: reason.into(),
                }),
                None => {
                    self.apply(delta, out);
                    out.actions.push(Action::Ack { version });
                }
            },
            MainInput::Resolved { host, addresses } => self.on_resolved(&host, &addresses, out),
            MainInput::Message {
                message:
                    ToMain::Outlier {
                        id,
                        address,
                        reason,
                    },
                ..
            } => {
                let draws = self.draws;
                self.with_detector(id.0 as usize, out, |detector, verdicts| {
                    detector.detected(now, address, reason, &draws, verdicts);
                });
            }
            MainInput::Tick => {
                for at in 0..self.clusters.len() {
                    if self.clusters[at]
                        .detector
                        .as_ref()
                        .is_some_and(|d| d.deadline() <= now)
                    {
                        self.with_detector(at, out, |detector, verdicts| {
                            detector.tick(now, verdicts)
                        });
                    }
                }
            }
        }
    }

    /// When [`MainInput::Tick`] is next needed.
    pub fn deadline(&self) -> Option<Nanos> {
        self.clusters
            .values()
            .filter_map(|entry| entry.detector.as_ref())
            .map(Detector::deadline)
            .min()
    }

    fn apply(&mut self, delta: XdsDelta, out: &mut Out) {
        match delta {
            XdsDelta::Clusters { upsert, remove } => {
                for cluster in upsert {
                    self.upsert_cluster(cluster, out);
                }
                for name in remove {
                    self.remove_cluster(&name, out);
                }
            }
            XdsDelta::Endpoints { upsert } => {
                for assignment in upsert {
                    self.assign(assignment, out);
                }
            }
            XdsDelta::Listeners { upsert, remove } => {
                for listener in upsert {
                    self.warming.retain(|old| old.name != listener.name);
                    self.warming.push(listener);
                }
                self.release_listeners(out);
                for name in remove {
                    self.warming.retain(|old| old.name != name);
                    tell(out, ToWorker::RemoveListener { name });
                }
            }
            XdsDelta::Routes { upsert, remove } => {
                for table in upsert {
                    self.tables.insert(Arc::clone(&table.name));
                    tell(out, ToWorker::Routes(table));
                }
                self.release_listeners(out);
                for name in remove {
                    self.tables.swap_remove(&name);
                    tell(out, ToWorker::RemoveRoutes { name });
                }
            }
        }
    }

    fn upsert_cluster(&mut self, cluster: Arc<Cluster>, out: &mut Out) {
        let known = self.clusters.get(&cluster.name);
        if known.is_some_and(|entry| !entry.removed && entry.cluster == cluster) {
            return;
        }
        // Endpoints already known are used at once; an EDS cluster without any warms first.
        let assignment = match &cluster.discovery {
            Discovery::Static(assignment) => Some(Arc::new(assignment.clone())),
            Discovery::OriginalDst { .. } => Some(Arc::new(LoadAssignment::new(
                Arc::clone(&cluster.name),
                vec![],
            ))),
            Discovery::Eds => known
                .filter(|e| !e.removed)
                .and_then(|entry| entry.assignment.clone()),
            Discovery::StrictDns { host, .. } | Discovery::LogicalDns { host, .. } => {
                out.actions.push(Action::Resolve {
                    host: Arc::clone(host),
                });
                None
            }
        };
        let name = Arc::clone(&cluster.name);
        let entry = ClusterEntry {
            delivered: known.is_some_and(|entry| entry.delivered),
            cluster,
            assignment: None,
            detector: None,
            removed: false,
        };
        let (at, _) = self.clusters.insert_full(name, entry);
        if let Some(assignment) = assignment {
            self.warmed(at, assignment, out);
        }
    }

    fn remove_cluster(&mut self, name: &str, out: &mut Out) {
        let Some((at, _, entry)) = self.clusters.get_full_mut(name) else {
            return;
        };
        let told = std::mem::take(&mut entry.delivered);
        entry.removed = true;
        entry.assignment = None;
        entry.detector = None;
        if told {
            tell(
                out,
                ToWorker::RemoveCluster {
                    id: ClusterId(at as u32),
                },
            );
        }
    }

    fn assign(&mut self, assignment: Arc<LoadAssignment>, out: &mut Out) {
        let Some((at, _, entry)) = self.clusters.get_full_mut(&assignment.cluster) else {
            return;
        };
        if entry.removed || entry.assignment.as_ref() == Some(&assignment) {
            return;
        }
        if entry.assignment.is_none() {
            self.warmed(at, assignment, out);
            return;
        }
        entry.assignment = Some(Arc::clone(&assignment));
        self.tell_endpoints(at, assignment, out);
    }

    /// A cluster has endpoints and is used from now on.
    fn warmed(&mut self, at: usize, assignment: Arc<LoadAssignment>, out: &mut Out) {
        let now = self.now;
        let id = ClusterId(at as u32);
        let entry = &mut self.clusters[at];
        entry.assignment = Some(Arc::clone(&assignment));
        entry.delivered = true;
        entry.detector = entry
            .cluster
            .outlier_detection
            .as_ref()
            .map(|config| Detector::new(id, &entry.cluster.name, config.clone(), now));
        tell(
            out,
            ToWorker::Cluster {
                id,
                cluster: Arc::clone(&entry.cluster),
            },
        );
        out.changes.push(StateChange::Warmed { cluster: id });
        self.tell_endpoints(at, assignment, out);
    }

    fn tell_endpoints(&mut self, at: usize, assignment: Arc<LoadAssignment>, out: &mut Out) {
        let now = self.now;
        tell(
            out,
            ToWorker::Endpoints {
                id: ClusterId(at as u32),
                assignment: Arc::clone(&assignment),
            },
        );
        self.with_detector(at, out, |detector, verdicts| {
            detector.assign(now, &assignment, verdicts)
        });
    }

    fn on_resolved(&mut self, host: &Name, addresses: &[IpAddr], out: &mut Out) {
        for at in 0..self.clusters.len() {
            let cluster = &self.clusters[at].cluster;
            let (port, limit) = match &cluster.discovery {
                Discovery::StrictDns { host: name, port } if name == host => {
                    (*port, addresses.len())
                }
                Discovery::LogicalDns { host: name, port } if name == host => (*port, 1),
                _ => continue,
            };
            let endpoints = addresses
                .iter()
                .take(limit)
                .map(|&ip| Endpoint::new(SocketAddr::new(ip, port)))
                .collect();
            let locality = LocalityEndpoints {
                locality: "".into(),
                priority: 0,
                weight: 1,
                endpoints,
            };
            let assignment = LoadAssignment::new(Arc::clone(&cluster.name), vec![locality]);
            self.assign(Arc::new(assignment), out);
        }
    }

    /// Hands over the listeners whose route tables are all there.
    fn release_listeners(&mut self, out: &mut Out) {
        let tables = &self.tables;
        self.warming.retain(|listener| {
            let ready = route_names(listener).all(|name| tables.contains(name));
            if ready {
                tell(out, ToWorker::Listener(Arc::clone(listener)));
            }
            !ready
        });
    }

    fn with_detector(
        &mut self,
        at: usize,
        out: &mut Out,
        act: impl FnOnce(&mut Detector, &mut Verdicts),
    ) {
        let Some(detector) = self
            .clusters
            .get_index_mut(at)
            .and_then(|(_, entry)| entry.detector.as_mut())
        else {
            return;
        };
        let id = ClusterId(at as u32);
        let mut verdicts = Verdicts::default();
        act(detector, &mut verdicts);
        for (address, which) in verdicts.reset {
            tell(out, ToWorker::ResetCounters { id, address, which });
        }
        for (address, ejected) in verdicts.deliver {
            tell(
                out,
                ToWorker::Ejected {
                    id,
                    address,
                    ejected,
                },
            );
        }
        for address in verdicts.drain {
            tell(out, ToWorker::Drain { id, address });
        }
        out.changes.append(&mut verdicts.changes);
    }
}

fn tell(out: &mut Out, message: ToWorker) {
    out.to_workers.push((WorkerSet::All, message));
}

/// The route tables a listener asks for by name.
fn route_names(listener: &Listener) -> impl Iterator<Item = &Name> {
    listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain)
        .filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(manager) => match &manager.routes {
                RouteSource::Rds(name) => Some(name),
                RouteSource::Inline(_) => None,
            },
            NetworkFilter::Tcp(_) => None,
        })
}

/// The route tables that are part of a listener.
fn inline_tables(listener: &Listener) -> impl Iterator<Item = &Arc<RouteTable>> {
    listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain)
        .filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(manager) => match &manager.routes {
                RouteSource::Inline(table) => Some(table),
                RouteSource::Rds(_) => None,
            },
            NetworkFilter::Tcp(_) => None,
        })
}

/// Why an update cannot be taken over, if it cannot.
fn refusal(delta: &XdsDelta) -> Option<String> {
    match delta {
        XdsDelta::Clusters { upsert, .. } => {
            upsert.iter().find_map(|cluster| match cluster.lb_policy {
                LbPolicy::RingHash {
                    minimum_ring_size: min,
                    maximum_ring_size: max,
                    ..
                } if min > max => Some(format!(
                    "cluster {}: minimum ring size {min} exceeds the maximum {max}",
                    cluster.name
                )),
                LbPolicy::RingHash {
                    maximum_ring_size: max,
                    ..
                } if max > MAXIMUM_RING_SIZE => Some(format!(
                    "cluster {}: ring size {max} exceeds {MAXIMUM_RING_SIZE}",
                    cluster.name
                )),
                LbPolicy::Maglev { table_size, .. } if !is_maglev_size(table_size) => Some(format!(
                    "cluster {}: maglev table size {table_size} is not a prime up to {MAXIMUM_MAGLEV_SIZE}",
                    cluster.name
                )),
                _ => None,
            })
        }
        XdsDelta::Routes { upsert, .. } => upsert.iter().find_map(|table| table_refusal(table)),
        XdsDelta::Listeners { upsert, .. } => upsert
            .iter()
            .flat_map(|listener| inline_tables(listener))
            .find_map(|table| router::refusal(table)),
        XdsDelta::Endpoints { .. } => None,
    }
}

/// A walk by any step visits every slot of a table only if its size is prime.
fn is_maglev_size(size: u64) -> bool {
    (2..=MAXIMUM_MAGLEV_SIZE).contains(&size)
        && (2..)
            .take_while(|n| n * n <= size)
            .all(|n| !size.is_multiple_of(n))
}

fn table_refusal(table: &RouteTable) -> Option<String> {
    if let Some(why) = router::refusal(table) {
        return Some(format!("route table {}: {why}", table.name));
    }
    let mut domains: IndexSet<String, FxBuildHasher> = IndexSet::default();
    for host in &table.virtual_hosts {
        for domain in &host.domains {
            if !domains.insert(domain.to_ascii_lowercase()) {
                return Some(format!(
                    "route table {}: domain {domain} stands in two virtual hosts",
                    table.name
                ));
            }
        }
        for route in &host.routes {
            if let RouteAction::Forward(forward) = &route.action {
                let total: u64 = forward
                    .clusters
                    .iter()
                    .map(|entry| u64::from(entry.weight))
                    .sum();
                if forward.clusters.is_empty() || (forward.clusters.len() > 1 && total == 0) {
                    return Some(format!(
                        "route {} of {}: no cluster has a weight",
                        route.name, host.name
                    ));
                }
            }
        }
    }
    None
}
