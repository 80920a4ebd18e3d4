//! One endpoint of a cluster, as a worker sees it.

use crate::ids::EndpointId;
use crate::time::Nanos;
use crate::xds::{Endpoint, EndpointHealth, Name};
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

/// A host: health, error counters and its connection pool.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) endpoint: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    pub(crate) locality: Name,
    pub(crate) hostname: Option<Name>,
    pub(crate) lb_metadata: Vec<(Name, Name)>,
    pub(crate) health: EndpointHealth,
    pub(crate) mutual_tls: bool,
    /// In the current assignment.
    pub(crate) listed: bool,
    /// By outlier detection, as last delivered to this worker.
    pub(crate) ejected: bool,
    /// The start of its slow start; kept over later ejections.
    pub(crate) healthy_since: Option<Nanos>,
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
            mutual_tls: endpoint.mutual_tls,
            listed: true,
            ejected: false,
            healthy_since: None,
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            idle: HostList::EMPTY,
            pending: HostList::EMPTY,
            connecting: 0,
            connections: 0,
        }
    }

    /// Takes over what discovery says now; whether any of it is new.
    pub(crate) fn update(&mut self, priority: u32, endpoint: &Endpoint) -> bool {
        let same = self.priority == priority
            && self.health == endpoint.health
            && self.mutual_tls == endpoint.mutual_tls
            && self.hostname == endpoint.hostname
            && self.lb_metadata == endpoint.lb_metadata;
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
        self.connections == 0 && self.pending.len == 0
    }

    /// Left out of the percentages of healthy and degraded hosts.
    pub(crate) fn is_excluded(&self) -> bool {
        self.health == EndpointHealth::Draining
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.ejected && self.health == EndpointHealth::Healthy
    }

    pub(crate) fn is_degraded(&self) -> bool {
        !self.ejected && self.health == EndpointHealth::Degraded
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
