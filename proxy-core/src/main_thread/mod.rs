//! The main machine of a proxy: it takes updates from the control plane, warms clusters and
//! listeners, resolves names, runs outlier detection and health checks. Workers hear of all of it
//! by message.
//!
//! | module | holds |
//! |---|---|
//! | `cluster` | one cluster: who judges its hosts, and what the workers are told |
//! | `members` | the hosts of a cluster, and when changes reach the workers |
//! | `refusal` | resources that cannot be taken over |

mod cluster;
mod members;
mod refusal;

use crate::contract::{Action, MainInput, Out};
use crate::ids::ClusterId;
use crate::messages::{ToMain, ToWorker};
use crate::random::Draws;
use crate::time::Nanos;
use crate::worker::Identity;
use crate::xds::{
    Cluster, Discovery, Endpoint, Listener, LoadAssignment, LocalityEndpoints, Name, NetworkFilter,
    RouteSource, XdsDelta,
};
use cluster::{RunningCluster, Surroundings, tell};
use indexmap::{IndexMap, IndexSet};
use refusal::refuse;
use rustc_hash::FxBuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A cluster by its name: the version in use, and the one that is to replace it.
#[derive(Debug, Default)]
struct ClusterSlot {
    active: Option<Box<RunningCluster>>,
    warming: Option<Box<RunningCluster>>,
}

impl ClusterSlot {
    fn versions(&mut self) -> impl Iterator<Item = &mut RunningCluster> {
        let versions = self.active.iter_mut().chain(&mut self.warming);
        versions.map(|version| &mut **version)
    }

    /// The version that matters to discovery.
    fn newest(&self) -> Option<&RunningCluster> {
        self.warming.as_deref().or(self.active.as_deref())
    }
}

/// The main machine of a proxy.
#[derive(Debug)]
pub struct Main {
    around: Surroundings,
    now: Nanos,
    /// By id; removed clusters keep their place.
    clusters: IndexMap<Name, ClusterSlot, FxBuildHasher>,
    tables: IndexSet<Name, FxBuildHasher>,
    /// Listeners whose route tables have not arrived yet.
    warming: Vec<Arc<Listener>>,
    /// Of all clusters; found anew with each input.
    deadline: Option<Nanos>,
}

impl Main {
    /// A main machine that has been told nothing yet.
    pub fn new(identity: &Identity) -> Main {
        Main {
            around: Surroundings {
                draws: Draws::new(identity.seed, &identity.proxy),
                workers: identity.workers.max(1),
                next_probe: 0,
            },
            now: Nanos::ZERO,
            clusters: IndexMap::default(),
            tables: IndexSet::default(),
            warming: Vec::new(),
            deadline: None,
        }
    }

    /// Takes in one input; like [`crate::Worker::handle`].
    pub fn handle(&mut self, now: Nanos, input: MainInput, out: &mut Out) {
        assert!(now >= self.now, "time never runs backwards");
        self.now = now;
        match input {
            MainInput::Xds { mut delta, version } => {
                let refused = refuse(&mut delta);
                self.apply(delta, out);
                out.actions.push(match refused {
                    None => Action::Ack { version },
                    Some(reason) => Action::Nack {
                        version,
                        reason: reason.into(),
                    },
                });
            }
            MainInput::Resolved { host, addresses } => self.on_resolved(&host, &addresses, out),
            MainInput::Probed { probe, outcome } => {
                let at = probe.cluster.0 as usize;
                let Some((_, slot)) = self.clusters.get_index_mut(at) else {
                    return;
                };
                for version in slot.versions() {
                    version.probed(now, probe, outcome, &self.around, out);
                }
                self.activate_if_ready(at, out);
            }
            MainInput::Message { message, .. } => {
                let (ToMain::Outlier { id, .. }
                | ToMain::Degraded { id, .. }
                | ToMain::Used { id }
                | ToMain::Statistics { id, .. }) = &message;
                let slot = self.clusters.get_index_mut(id.0 as usize);
                if let Some(active) = slot.and_then(|(_, slot)| slot.active.as_mut()) {
                    active.told(now, message, &self.around, out);
                }
            }
            MainInput::Tick => {
                for at in 0..self.clusters.len() {
                    for version in self.clusters[at].versions() {
                        if version.deadline().is_some_and(|at| at <= now) {
                            version.tick(now, &mut self.around, out);
                        }
                    }
                    self.activate_if_ready(at, out);
                }
            }
        }
        self.deadline = self.next_deadline();
    }

    /// When [`MainInput::Tick`] is next needed.
    pub fn deadline(&self) -> Option<Nanos> {
        self.deadline
    }

    fn next_deadline(&self) -> Option<Nanos> {
        self.clusters
            .values()
            .flat_map(|slot| slot.active.iter().chain(&slot.warming))
            .filter_map(|version| version.deadline())
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
                    self.assign(&assignment, out);
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
        let known = self
            .clusters
            .get(&cluster.name)
            .and_then(ClusterSlot::newest);
        if known.is_some_and(|version| version.config == cluster) {
            return;
        }
        // Endpoints already known are used at once; an EDS cluster without any warms first.
        let assignment = match &cluster.discovery {
            Discovery::Static(assignment) => Some(Arc::new(assignment.clone())),
            Discovery::OriginalDst { .. } => Some(Arc::new(LoadAssignment::new(
                Arc::clone(&cluster.name),
                vec![],
            ))),
            Discovery::Eds => known.and_then(RunningCluster::discovered),
            Discovery::StrictDns { host, .. } | Discovery::LogicalDns { host, .. } => {
                out.actions.push(Action::Resolve {
                    host: Arc::clone(host),
                });
                None
            }
        };
        let entry = self.clusters.entry(Arc::clone(&cluster.name));
        let at = entry.index();
        let slot = entry.or_default();
        let mut version = RunningCluster::new(ClusterId(at as u32), cluster, self.now);
        if let Some(older) = &slot.active {
            version.inherit(older);
        }
        if let Some(assignment) = assignment {
            version.assign(self.now, &assignment, &self.around, out);
        }
        slot.warming = Some(Box::new(version));
        self.activate_if_ready(at, out);
    }

    /// A cluster that has all it needs replaces the version before it.
    fn activate_if_ready(&mut self, at: usize, out: &mut Out) {
        let slot = &mut self.clusters[at];
        if slot
            .warming
            .as_deref()
            .is_some_and(RunningCluster::is_ready)
        {
            slot.active = slot.warming.take();
            if let Some(active) = &mut slot.active {
                active.hand_over(out);
            }
        }
    }

    fn remove_cluster(&mut self, name: &str, out: &mut Out) {
        let Some((at, _, slot)) = self.clusters.get_full_mut(name) else {
            return;
        };
        slot.warming = None;
        if slot.active.take().is_some() {
            let id = ClusterId(at as u32);
            tell(out, ToWorker::RemoveCluster { id });
        }
    }

    fn assign(&mut self, assignment: &Arc<LoadAssignment>, out: &mut Out) {
        let Some((at, _, slot)) = self.clusters.get_full_mut(&assignment.cluster) else {
            return;
        };
        for version in slot.versions() {
            version.assign(self.now, assignment, &self.around, out);
        }
        self.activate_if_ready(at, out);
    }

    fn on_resolved(&mut self, host: &Name, addresses: &[IpAddr], out: &mut Out) {
        for at in 0..self.clusters.len() {
            let Some(version) = self.clusters[at].newest() else {
                continue;
            };
            let cluster = &version.config;
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
            self.assign(&Arc::new(assignment), out);
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
}

/// The route tables a listener asks for by name.
fn route_names(listener: &Listener) -> impl Iterator<Item = &Name> {
    listener.chains().filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(manager) => match &manager.routes {
            RouteSource::Rds(name) => Some(name),
            RouteSource::Inline(_) => None,
        },
        NetworkFilter::Tcp(_) => None,
    })
}
