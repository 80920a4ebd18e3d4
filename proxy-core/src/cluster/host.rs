//! One endpoint of a cluster, as a worker sees it.

use crate::contract::Protocol;
use crate::ids::EndpointId;
use crate::messages::Successes;
use crate::time::Nanos;
use crate::xds::{Endpoint, EndpointHealth, Name};
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

/// One life of one host in one worker: a host that left and came back is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostId {
    pub(crate) cluster: u32,
    pub(crate) slot: u32,
    /// Counts the hosts that had the slot.
    pub(crate) generation: u32,
}

impl HostId {
    pub(crate) const NONE: HostId = HostId {
        cluster: NONE,
        slot: NONE,
        generation: NONE,
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
    pub(crate) id: HostId,
    pub(crate) endpoint: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    pub(crate) locality: Name,
    pub(crate) hostname: Option<Name>,
    pub(crate) lb_metadata: Vec<(Name, Name)>,
    /// All that is known of it, as last delivered to this worker.
    pub(crate) health: EndpointHealth,
    /// Turned unhealthy since then.
    pub(crate) turned_unhealthy: bool,
    pub(crate) mutual_tls: bool,
    /// In the current assignment.
    pub(crate) listed: bool,
    /// The start of its slow start; kept over later ejections.
    pub(crate) healthy_since: Option<Nanos>,
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
    /// The host that discovery describes.
    pub(crate) fn new(
        id: HostId,
        number: EndpointId,
        locality: Name,
        priority: u32,
        endpoint: &Endpoint,
    ) -> Host {
        Host {
            id,
            endpoint: number,
            address: endpoint.address,
            priority,
            locality,
            hostname: endpoint.hostname.clone(),
            lb_metadata: endpoint.lb_metadata.clone(),
            health: endpoint.health,
            turned_unhealthy: false,
            mutual_tls: endpoint.mutual_tls,
            listed: true,
            healthy_since: None,
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            external: Successes::default(),
            local_origin: Successes::default(),
            pools: [Pool::EMPTY; 2],
            connections_elsewhere: 0,
        }
    }

    /// Takes over what discovery says now; whether any of it is new.
    pub(crate) fn update(&mut self, priority: u32, endpoint: &Endpoint) -> bool {
        let same = self.priority == priority
            && self.health == endpoint.health
            && self.mutual_tls == endpoint.mutual_tls
            && self.hostname == endpoint.hostname
            && self.lb_metadata == endpoint.lb_metadata;
        self.turned_unhealthy = false;
        if !same {
            self.priority = priority;
            self.health = endpoint.health;
            self.mutual_tls = endpoint.mutual_tls;
            self.hostname.clone_from(&endpoint.hostname);
            self.lb_metadata.clone_from(&endpoint.lb_metadata);
        }
        !same
    }

    /// A value of the `envoy.lb` metadata.
    pub(crate) fn metadata(&self, key: &str) -> Option<&Name> {
        let found = self.lb_metadata.iter().find(|(name, _)| **name == *key);
        found.map(|(_, value)| value)
    }

    /// Nothing is on its way to or from the host.
    pub(crate) fn is_quiet(&self) -> bool {
        let idle = |pool: &Pool| pool.connections == 0 && pool.pending.len == 0;
        self.pools.iter().all(idle)
    }

    /// Left out of the percentages of healthy and degraded hosts.
    pub(crate) fn is_excluded(&self) -> bool {
        self.health == EndpointHealth::Draining
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

    /// As its flags say, which are ahead of what is delivered of them.
    pub(crate) fn is_flagged_healthy(&self) -> bool {
        self.is_healthy() && !self.turned_unhealthy
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.health == EndpointHealth::Degraded
    }
}

#[cfg(test)]
impl Host {
    pub(crate) fn of(locality: &str, priority: u32, endpoint: &Endpoint) -> Host {
        Host::new(
            HostId::NONE,
            EndpointId(0),
            locality.into(),
            priority,
            endpoint,
        )
    }
}
