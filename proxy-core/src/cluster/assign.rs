//! Who the members of a cluster are, and where their state is kept.

use super::{ClusterState, Host, HostId};
use crate::balancer::locality::Locality;
use crate::balancer::peak_ewma::PeakEwma;
use crate::balancer::{Level, PriorityPolicy};
use crate::ids::EndpointId;
use crate::time::Nanos;
use crate::xds::{Endpoint, LbPolicy, LoadAssignment, LocalityEndpoints, Name};
use std::net::SocketAddr;
use std::sync::Arc;

/// Envoy's default `cleanup_interval`.
const CLEANUP_INTERVAL: Nanos = Nanos::from_secs(5);

impl ClusterState {
    /// Adds a host outside any assignment (original destination). From time to time those that have
    /// no connection leave.
    pub(crate) fn add_host(&mut self, number: EndpointId, address: SocketAddr, now: Nanos) -> u32 {
        if now - self.cleaned_at >= CLEANUP_INTERVAL {
            self.cleaned_at = now;
            let hosts = &mut self.hosts;
            let departed = &mut self.departed;
            self.members.retain(|_, &mut host| {
                let state = &mut hosts[host as usize];
                state.listed = !state.is_quiet();
                if !state.listed {
                    departed.push(host);
                }
                state.listed
            });
        }
        self.add("".into(), 0, &Endpoint::new(address), number, now)
    }

    /// Takes over an assignment: hosts still listed keep their state, others leave. Returns those
    /// that left.
    pub(crate) fn assign(
        &mut self,
        assignment: &LoadAssignment,
        now: Nanos,
        mut endpoint_id: impl FnMut(SocketAddr) -> EndpointId,
    ) -> Vec<u32> {
        let policy = PriorityPolicy {
            overprovisioning_percent: assignment.overprovisioning_factor_percent,
            weighted_health: assignment.weighted_priority_health,
        };
        let all_changed = std::mem::replace(&mut self.priority_policy, policy) != policy;
        self.drop_overload_ppm = assignment.drop_overload_ppm;
        let priorities = assignment
            .localities
            .iter()
            .map(|l| l.priority as usize + 1);
        let priorities = priorities.max().unwrap_or(1).max(self.levels.len());
        self.levels.resize_with(priorities, Level::default);
        for &host in self.members.values() {
            self.hosts[host as usize].listed = false;
        }
        self.make_room();
        let mut gone = Vec::new();
        let mut listed: Vec<Vec<u32>> = vec![Vec::new(); priorities];
        for locality in &assignment.localities {
            for endpoint in &locality.endpoints {
                let known = self.member(endpoint.address);
                if known.is_some_and(|host| self.hosts[host as usize].listed) {
                    // Of an address that is listed twice the first counts.
                    continue;
                }
                let host = match known {
                    Some(host) if self.hosts[host as usize].locality == locality.locality => {
                        self.update(host, locality.priority, endpoint);
                        host
                    }
                    // A host that moves to another locality is a new one.
                    moved => {
                        gone.extend(moved);
                        let number = endpoint_id(endpoint.address);
                        let (name, priority) = (&locality.locality, locality.priority);
                        self.add(Arc::clone(name), priority, endpoint, number, now)
                    }
                };
                listed[locality.priority as usize].push(host);
            }
        }
        let left = self.members.values().copied();
        gone.extend(left.filter(|&host| !self.hosts[host as usize].listed));
        self.members
            .retain(|_, host| self.hosts[*host as usize].listed);
        self.depart(&gone);
        for (priority, hosts) in listed.into_iter().enumerate() {
            let localities = self.localities(&hosts, priority as u32, assignment);
            let level = &mut self.levels[priority];
            level.changed |= all_changed || level.localities != localities;
            // The order of hosts alone is no change.
            if level.changed {
                level.hosts = hosts;
                level.localities = localities;
            }
        }
        if self.levels.iter().any(|level| level.changed) {
            self.changed(now);
        }
        gone
    }

    /// Every member leaves; the hosts stay for the requests they have.
    pub(crate) fn clear(&mut self) -> Vec<u32> {
        let gone: Vec<u32> = self.members.drain(..).map(|(_, host)| host).collect();
        self.depart(&gone);
        for level in &mut self.levels {
            level.hosts.clear();
            level.localities.clear();
            level.changed = true;
        }
        self.stale = true;
        gone
    }

    fn update(&mut self, host: u32, priority: u32, endpoint: &Endpoint) {
        let weight = endpoint.weight.max(1);
        let old_weight = std::mem::replace(&mut self.weights[host as usize], weight);
        let state = &mut self.hosts[host as usize];
        state.listed = true;
        let old_priority = state.priority;
        if state.update(priority, endpoint) || old_weight != weight {
            self.levels[old_priority as usize].changed = true;
            self.levels[priority as usize].changed = true;
        }
    }

    fn depart(&mut self, gone: &[u32]) {
        for &host in gone {
            let state = &mut self.hosts[host as usize];
            state.listed = false;
            if let Some(level) = self.levels.get_mut(state.priority as usize) {
                level.changed = true;
            }
        }
        self.departed.extend(gone);
    }

    /// A new host, in the slot of one that left and is done if there is any.
    fn add(
        &mut self,
        locality: Name,
        priority: u32,
        endpoint: &Endpoint,
        number: EndpointId,
        now: Nanos,
    ) -> u32 {
        self.levels[priority as usize].changed = true;
        let quiet = |&host: &u32| self.hosts[host as usize].is_quiet();
        let free = match self.departed.last() {
            Some(last) if quiet(last) => self.departed.pop(),
            _ => None,
        };
        let slot = free.unwrap_or(self.hosts.len() as u32);
        let generation = free.map_or(0, |slot| {
            self.hosts[slot as usize].id.generation.wrapping_add(1)
        });
        let id = HostId {
            cluster: self.id.0,
            slot,
            generation,
        };
        let host = Host::new(id, number, locality, priority, endpoint);
        let default_rtt = match self.config.lb_policy {
            LbPolicy::PeakEwma { default_rtt, .. } => default_rtt,
            _ => Nanos::ZERO,
        };
        let latency = PeakEwma::new(default_rtt, now);
        let weight = endpoint.weight.max(1);
        if free.is_some() {
            self.hosts[slot as usize] = host;
            self.active[slot as usize] = 0;
            self.weights[slot as usize] = weight;
            self.latencies[slot as usize] = latency;
        } else {
            self.hosts.push(host);
            self.active.push(0);
            self.weights.push(weight);
            self.latencies.push(latency);
        }
        self.members.insert(endpoint.address, slot);
        slot
    }

    /// Slots that can be used again go last.
    fn make_room(&mut self) {
        let hosts = &self.hosts;
        self.departed
            .sort_by_key(|&host| hosts[host as usize].is_quiet());
    }

    /// The localities of some hosts, in order, with their weights.
    fn localities(
        &self,
        hosts: &[u32],
        priority: u32,
        assignment: &LoadAssignment,
    ) -> Vec<Locality> {
        let mut localities: Vec<Locality> = Vec::new();
        for &host in hosts {
            let name = &self.hosts[host as usize].locality;
            if localities.iter().any(|known| known.name == *name) {
                continue;
            }
            let listing = |l: &&LocalityEndpoints| l.priority == priority && l.locality == *name;
            let weight = assignment.localities.iter().find(listing);
            localities.push(Locality {
                name: Arc::clone(name),
                weight: weight.map_or(0, |l| l.weight),
            });
        }
        localities.sort_by(|a, b| self.place.order(&a.name, &b.name));
        localities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Protocol;
    use crate::ids::ClusterId;
    use crate::random::Draws;
    use crate::xds::{Cluster, Discovery};

    fn state(discovery: Discovery) -> ClusterState {
        let cluster = Arc::new(Cluster::new("c".into(), discovery));
        let draws = Draws::new(1, "test");
        ClusterState::new(
            ClusterId(0),
            cluster,
            0,
            draws,
            ("".into(), None),
            Nanos::ZERO,
        )
    }

    fn address(n: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 80))
    }

    /// So many endpoints, all of them new.
    fn replace(state: &mut ClusterState, round: u32, count: u32) {
        let locality = LocalityEndpoints {
            locality: "".into(),
            priority: 0,
            weight: 1,
            endpoints: (0..count)
                .map(|n| Endpoint::new(address(round * 10 + n)))
                .collect(),
        };
        let assignment = LoadAssignment::new("c".into(), vec![locality]);
        state.assign(&assignment, Nanos::ZERO, |_| EndpointId(0));
    }

    #[test]
    fn slots_are_used_again_once_they_are_quiet() {
        let mut state = state(Discovery::Eds);
        replace(&mut state, 0, 4);
        state.hosts[0].pool_mut(Protocol::Http1).connections = 1;
        (1..50).for_each(|round| replace(&mut state, round, 4));
        assert_eq!(state.hosts.len(), 9);
        assert_eq!(state.hosts[0].address, address(0), "busy, so it stays");
        state.hosts[0].pool_mut(Protocol::Http1).connections = 0;
        replace(&mut state, 50, 5);
        assert_eq!(state.hosts.len(), 9);
        assert_ne!(state.hosts[0].address, address(0));
        for (slot, host) in state.hosts.iter().enumerate() {
            assert_eq!(host.id.slot as usize, slot);
            assert!(host.id.generation > 0);
        }
    }

    #[test]
    fn original_destinations_without_connections_leave() {
        let mut state = state(Discovery::OriginalDst { port: None });
        let first = state.add_host(EndpointId(0), address(0), Nanos::ZERO);
        state.hosts[first as usize]
            .pool_mut(Protocol::Http1)
            .connections = 1;
        for n in 1..100 {
            state.add_host(EndpointId(0), address(n), Nanos::from_secs(u64::from(n)));
        }
        assert!(state.hosts.len() < 8, "{}", state.hosts.len());
        assert_eq!(state.member(address(0)), Some(first));
        assert_eq!(state.member(address(1)), None);
    }
}
