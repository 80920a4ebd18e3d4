//! One endpoint of a cluster, as a worker sees it.

use crate::ids::EndpointId;
use crate::xds::EndpointHealth;
use std::net::SocketAddr;

const NONE: u32 = u32::MAX;

/// The ends of an intrusive list (of idle connections, of queued attempts).
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostList {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) len: u32,
}

impl HostList {
    pub(crate) const EMPTY: HostList = HostList {
        first: NONE,
        last: NONE,
        len: 0,
    };
}

/// A host: health, error counters and its connection pool.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    pub(crate) health: EndpointHealth,
    pub(crate) mutual_tls: bool,
    /// In the current assignment.
    pub(crate) listed: bool,
    /// By outlier detection, as last delivered to this worker.
    pub(crate) ejected: bool,
    pub(crate) consecutive_5xx: u32,
    pub(crate) consecutive_gateway: u32,
    pub(crate) consecutive_local_origin: u32,
    /// Usable connections, most recently freed last.
    pub(crate) idle: HostList,
    /// Attempts without a connection, oldest first.
    pub(crate) pending: HostList,
    pub(crate) connecting: u32,
    /// Connections in any state.
    pub(crate) connections: u32,
}

impl Host {
    pub(crate) fn new(endpoint: EndpointId, address: SocketAddr) -> Host {
        Host {
            endpoint,
            address,
            priority: 0,
            health: EndpointHealth::Healthy,
            mutual_tls: false,
            listed: true,
            ejected: false,
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            idle: HostList::EMPTY,
            pending: HostList::EMPTY,
            connecting: 0,
            connections: 0,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.ejected && self.health == EndpointHealth::Healthy
    }

    pub(crate) fn is_degraded(&self) -> bool {
        !self.ejected && self.health == EndpointHealth::Degraded
    }
}
