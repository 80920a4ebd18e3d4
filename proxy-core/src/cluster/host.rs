//! One endpoint of a cluster, as a worker sees it.

use crate::contract::Protocol;
use crate::ids::EndpointId;
use crate::messages::Successes;
use crate::xds::EndpointHealth;
use std::net::SocketAddr;

const NONE: u32 = u32::MAX;

/// The ends of an intrusive list (of ready connections, of queued attempts).
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

/// The connections of one protocol to a host, and the attempts that wait for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    /// Connections that can take a request, most recently freed last.
    pub(crate) ready: HostList,
    /// Attempts without a connection, oldest first.
    pub(crate) pending: HostList,
    /// Requests that the connections on their way will be able to take.
    pub(crate) coming: u64,
    /// Connections in any state.
    pub(crate) connections: u32,
}

impl Pool {
    const EMPTY: Pool = Pool {
        ready: HostList::EMPTY,
        pending: HostList::EMPTY,
        coming: 0,
        connections: 0,
    };
}

/// A host: health, error counters and its connection pools.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    /// All that is known of it, as last delivered to this worker.
    pub(crate) health: EndpointHealth,
    pub(crate) mutual_tls: bool,
    /// In the current assignment.
    pub(crate) listed: bool,
    pub(crate) consecutive_5xx: u32,
    pub(crate) consecutive_gateway: u32,
    pub(crate) consecutive_local_origin: u32,
    /// Since the last collection, where a statistical detector can decide.
    pub(crate) external: Successes,
    pub(crate) local_origin: Successes,
    /// By protocol.
    pools: [Pool; 2],
    /// Connections of the sibling workers, where their number is limited.
    pub(crate) connections_elsewhere: u32,
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
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            external: Successes::default(),
            local_origin: Successes::default(),
            pools: [Pool::EMPTY; 2],
            connections_elsewhere: 0,
        }
    }

    #[inline]
    pub(crate) fn pool(&self, protocol: Protocol) -> &Pool {
        &self.pools[protocol as usize]
    }

    #[inline]
    pub(crate) fn pool_mut(&mut self, protocol: Protocol) -> &mut Pool {
        &mut self.pools[protocol as usize]
    }

    /// Connections of this worker, of either protocol.
    pub(crate) fn connections(&self) -> u32 {
        self.pools.iter().map(|pool| pool.connections).sum()
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.health == EndpointHealth::Healthy
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.health == EndpointHealth::Degraded
    }
}
