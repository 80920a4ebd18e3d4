//! Clusters that no request has chosen yet sleep: what a worker is told of them is kept, and taken up
//! when the first one does. Most proxies know many clusters and use few.

use super::Worker;
use crate::cluster::ClusterState;
use crate::contract::Out;
use crate::ids::ClusterId;
use crate::messages::ToWorker;
use crate::time::Nanos;
use crate::xds::{Cluster, LoadAssignment, Name};
use std::sync::Arc;

/// The place of a cluster.
#[derive(Debug)]
pub(super) enum Slot {
    /// Not delivered yet.
    Empty,
    Asleep(Box<Asleep>),
    Awake(Box<ClusterState>),
}

/// What was told, and when.
#[derive(Debug)]
pub(super) struct Asleep {
    first: (Nanos, Arc<Cluster>),
    later: Vec<(Nanos, Told)>,
}

#[derive(Debug)]
enum Told {
    Cluster(Arc<Cluster>),
    Endpoints(Arc<LoadAssignment>),
}

impl Slot {
    pub(super) fn awake(&self) -> Option<&ClusterState> {
        match self {
            Slot::Awake(state) => Some(state),
            Slot::Empty | Slot::Asleep(_) => None,
        }
    }

    pub(super) fn awake_mut(&mut self) -> Option<&mut ClusterState> {
        match self {
            Slot::Awake(state) => Some(state),
            Slot::Empty | Slot::Asleep(_) => None,
        }
    }

    pub(super) fn name(&self) -> Option<&Name> {
        match self {
            Slot::Empty => None,
            Slot::Asleep(asleep) => Some(&asleep.first.1.name),
            Slot::Awake(state) => Some(&state.config.name),
        }
    }
}

impl Worker {
    /// Keeps what concerns a sleeping cluster, or one that is new and may sleep; else gives it back.
    /// Where zone-aware routing looks at the proxy's own cluster, none sleeps.
    pub(super) fn kept(&mut self, message: ToWorker) -> Option<ToWorker> {
        let now = self.now;
        match message {
            ToWorker::Cluster { id, cluster } if self.local_cluster.is_none() => {
                match &mut self.clusters[id.0 as usize] {
                    slot @ Slot::Empty => {
                        let asleep = Asleep {
                            first: (now, cluster),
                            later: Vec::new(),
                        };
                        *slot = Slot::Asleep(Box::new(asleep));
                        None
                    }
                    Slot::Asleep(asleep) => {
                        asleep.later.push((now, Told::Cluster(cluster)));
                        None
                    }
                    Slot::Awake(_) => Some(ToWorker::Cluster { id, cluster }),
                }
            }
            ToWorker::Endpoints { id, assignment } => match self.clusters.get_mut(id.0 as usize) {
                Some(Slot::Asleep(asleep)) => {
                    asleep.later.push((now, Told::Endpoints(assignment)));
                    None
                }
                _ => Some(ToWorker::Endpoints { id, assignment }),
            },
            other => Some(other),
        }
    }

    /// The cluster is about to be used.
    pub(super) fn wake(&mut self, id: ClusterId, out: &mut Out) {
        let slot = &mut self.clusters[id.0 as usize];
        if !matches!(slot, Slot::Asleep(_)) {
            return;
        }
        let Slot::Asleep(asleep) = std::mem::replace(slot, Slot::Empty) else {
            return;
        };
        // As if it had been awake all along.
        let now = self.now;
        self.now = asleep.first.0;
        self.take_cluster(id, asleep.first.1, out);
        for (at, told) in asleep.later {
            self.now = at;
            match told {
                Told::Cluster(cluster) => self.take_cluster(id, cluster, out),
                Told::Endpoints(assignment) => self.on_endpoints(id, &assignment, out),
            }
        }
        self.now = now;
    }
}
