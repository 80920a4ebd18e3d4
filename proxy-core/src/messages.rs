//! What the machines of one proxy tell each other. A driver delivers these at once and in order;
//! to the receiver they are inputs like any other, so that a journal holds all that decided.

use crate::contract::EjectionReason;
use crate::ids::ClusterId;
pub use crate::resilience::rate_limit::{BucketId, BucketOwner, ChainId};
use crate::xds::{
    Cluster, EndpointHealth, Listener, LoadAssignment, Name, RouteTable, TokenBucket,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// To a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// A cluster is new or changed, and warm.
    Cluster {
        id: ClusterId,
        cluster: Arc<Cluster>,
    },
    RemoveCluster {
        id: ClusterId,
    },
    /// The endpoints of a cluster, new or changed.
    Endpoints {
        id: ClusterId,
        assignment: Arc<LoadAssignment>,
    },
    Listener(Arc<Listener>),
    RemoveListener {
        name: Name,
    },
    Routes(Arc<RouteTable>),
    RemoveRoutes {
        name: Name,
    },
    /// A host's health is not what discovery says of it: outlier detection and health checks count
    /// too (already merged by the update-merge window). Holds until the next assignment.
    Health {
        id: ClusterId,
        address: SocketAddr,
        health: EndpointHealth,
    },
    /// The existing connections of a host that turned unhealthy are drained at once.
    Drain {
        id: ClusterId,
        address: SocketAddr,
    },
    /// A consecutive-error counter of a host starts afresh; `None`: all of them.
    ResetCounters {
        id: ClusterId,
        address: SocketAddr,
        which: Option<EjectionReason>,
    },
    /// Hand over what was counted for the statistical outlier detectors, and count afresh.
    CollectStatistics {
        id: ClusterId,
    },
    /// A count that the workers of a proxy share was changed by a sibling.
    Shared {
        counter: SharedCounter,
        change: i32,
    },
    /// A sibling took a token from a bucket that the workers of a proxy share.
    TokenTaken {
        bucket: BucketId,
        size: TokenBucket,
    },
}

/// A count shared by the workers of one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SharedCounter {
    Connections(ClusterId),
    Pending(ClusterId),
    Requests(ClusterId),
    Retries(ClusterId),
    /// Active requests of one host.
    HostActive(ClusterId, SocketAddr),
    /// Connections to one host, where their number is limited.
    HostConnections(ClusterId, SocketAddr),
    Consecutive5xx(ClusterId, SocketAddr),
    ConsecutiveGateway(ClusterId, SocketAddr),
    ConsecutiveLocalOrigin(ClusterId, SocketAddr),
    /// Requests held back by the fault filter.
    ActiveFaults,
}

impl SharedCounter {
    /// Of which cluster; `None`: of none.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        match *self {
            SharedCounter::Connections(id)
            | SharedCounter::Pending(id)
            | SharedCounter::Requests(id)
            | SharedCounter::Retries(id)
            | SharedCounter::HostActive(id, _)
            | SharedCounter::HostConnections(id, _)
            | SharedCounter::Consecutive5xx(id, _)
            | SharedCounter::ConsecutiveGateway(id, _)
            | SharedCounter::ConsecutiveLocalOrigin(id, _) => Some(id),
            SharedCounter::ActiveFaults => None,
        }
    }
}

/// To the main machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToMain {
    /// A consecutive-error counter of a host reached its threshold.
    Outlier {
        id: ClusterId,
        address: SocketAddr,
        reason: EjectionReason,
    },
    /// A host answered with `x-envoy-degraded`.
    Degraded { id: ClusterId, address: SocketAddr },
    /// The cluster has opened its first connection; health checks come more often from now on.
    Used { id: ClusterId },
    /// The answer to [`ToWorker::CollectStatistics`]: the hosts that had any request.
    Statistics {
        id: ClusterId,
        hosts: Vec<HostStatistics>,
    },
}

/// Requests to a host since the last collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatistics {
    pub address: SocketAddr,
    /// As the host answered; of all events, unless those of the proxy's own making are split off.
    pub external: Successes,
    pub local_origin: Successes,
}

/// How many requests there were, and how many of them succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successes {
    pub succeeded: u64,
    pub total: u64,
}

impl Successes {
    pub(crate) fn count(&mut self, succeeded: bool) {
        self.succeeded += u64::from(succeeded);
        self.total += 1;
    }

    pub(crate) fn add(&mut self, other: Successes) {
        self.succeeded += other.succeeded;
        self.total += other.total;
    }
}
