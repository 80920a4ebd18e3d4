//! What the machines of one proxy tell each other. A driver delivers these at once and in order;
//! to the receiver they are inputs like any other, so that a journal holds all that decided.

use crate::contract::EjectionReason;
use crate::ids::ClusterId;
pub use crate::resilience::rate_limit::{BucketOwner, BucketSize};
use crate::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable};
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
    /// A host was ejected or came back (already merged by the update-merge window).
    Ejected {
        id: ClusterId,
        address: SocketAddr,
        ejected: bool,
    },
    /// An ejected host's existing connections are drained at once.
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
    /// A count that the workers of a proxy share was changed by a sibling.
    Shared {
        counter: SharedCounter,
        change: i32,
    },
    /// A sibling took a token from a bucket that the workers of a proxy share.
    TokenTaken {
        owner: BucketOwner,
        size: BucketSize,
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
    Consecutive5xx(ClusterId, SocketAddr),
    ConsecutiveGateway(ClusterId, SocketAddr),
    ConsecutiveLocalOrigin(ClusterId, SocketAddr),
    /// Requests held back by the fault filter.
    ActiveFaults,
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
}
