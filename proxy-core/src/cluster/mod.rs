//! The run-time state of a cluster on one worker: its hosts, their health, and who is next.

mod host;
mod priority;

pub(crate) use host::{Host, HostList};

use crate::balancer::peak_ewma::PeakEwma;
use crate::balancer::{Choice, HostsView, Picker};
use crate::ids::EndpointId;
use crate::random::{Draws, Purpose, hash_text};
use crate::time::Nanos;
use crate::xds::{Cluster, EndpointHealth, LbPolicy, LoadAssignment};
use indexmap::IndexMap;
use priority::{HostSource, PriorityCounts, PriorityLoads};
use rustc_hash::FxBuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

/// Counts that circuit breakers limit, over all workers of the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BreakerCounts {
    pub(crate) connections: u32,
    pub(crate) pending: u32,
    pub(crate) requests: u32,
    pub(crate) retries: u32,
}

/// The hosts of one priority, by source, each with the policy's state over them.
#[derive(Debug, Default)]
struct Priority {
    sources: [SourceHosts; 3],
}

#[derive(Debug, Default)]
struct SourceHosts {
    hosts: Vec<u32>,
    /// Built on the first pick; until then the state before the last change is kept for it.
    picker: Option<Picker>,
    before: Option<Picker>,
}

/// A cluster on one worker.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) config: Arc<Cluster>,
    /// The cluster's name and the worker's number as the subject of draws: workers do not start
    /// their rotations at the same host.
    subject: u64,
    pub(crate) counts: BreakerCounts,
    pub(crate) hosts: Vec<Host>,
    /// Requests in flight by host, beside `hosts` for the balancers' sake.
    pub(crate) active: Vec<u32>,
    weights: Vec<u32>,
    pub(crate) latencies: Vec<PeakEwma>,
    /// Current members, by address.
    members: IndexMap<SocketAddr, u32, FxBuildHasher>,
    overprovisioning_percent: u32,
    priorities: Vec<Priority>,
    loads: PriorityLoads,
    /// Membership or health changed since `priorities` was built.
    stale: bool,
    /// Parts per million of the requests that are dropped.
    pub(crate) drop_overload_ppm: u32,
    /// No longer configured: takes no new requests.
    pub(crate) removed: bool,
}

/// A request for a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) now: Nanos,
    pub(crate) key: u64,
    /// 0 for the first try of an exchange.
    pub(crate) attempt: u32,
    pub(crate) hash: Option<u64>,
    /// Hosts to avoid, and how many further picks to spend on that.
    pub(crate) tried: &'a [EndpointId],
    pub(crate) max_repicks: u32,
}

impl ClusterState {
    pub(crate) fn new(config: Arc<Cluster>, worker: u32) -> ClusterState {
        ClusterState {
            subject: hash_text(&config.name).wrapping_add(u64::from(worker)),
            config,
            counts: BreakerCounts::default(),
            hosts: Vec::new(),
            active: Vec::new(),
            weights: Vec::new(),
            latencies: Vec::new(),
            members: IndexMap::default(),
            overprovisioning_percent: 140,
            priorities: Vec::new(),
            loads: PriorityLoads::default(),
            stale: true,
            drop_overload_ppm: 0,
            removed: false,
        }
    }

    /// The member at `address`.
    pub(crate) fn member(&self, address: SocketAddr) -> Option<u32> {
        self.members.get(&address).copied()
    }

    /// Adds a host outside any assignment (original destination).
    pub(crate) fn add_host(
        &mut self,
        endpoint: EndpointId,
        address: SocketAddr,
        now: Nanos,
    ) -> u32 {
        let default_rtt = match self.config.lb_policy {
            LbPolicy::PeakEwma { default_rtt, .. } => default_rtt,
            _ => Nanos::ZERO,
        };
        let host = self.hosts.len() as u32;
        self.hosts.push(Host::new(endpoint, address));
        self.active.push(0);
        self.weights.push(1);
        self.latencies.push(PeakEwma::new(default_rtt, now));
        self.members.insert(address, host);
        host
    }

    /// Takes over an assignment: hosts still listed keep their state, others leave. Returns those
    /// that left.
    pub(crate) fn assign(
        &mut self,
        assignment: &LoadAssignment,
        now: Nanos,
        mut endpoint_id: impl FnMut(SocketAddr) -> EndpointId,
    ) -> Vec<u32> {
        self.overprovisioning_percent = assignment.overprovisioning_factor_percent;
        self.drop_overload_ppm = assignment.drop_overload_ppm;
        for &host in self.members.values() {
            self.hosts[host as usize].listed = false;
        }
        for locality in &assignment.localities {
            for endpoint in &locality.endpoints {
                let host = match self.member(endpoint.address) {
                    Some(host) => host,
                    None => self.add_host(endpoint_id(endpoint.address), endpoint.address, now),
                };
                self.weights[host as usize] = endpoint.weight.max(1);
                let state = &mut self.hosts[host as usize];
                state.listed = true;
                state.health = endpoint.health;
                state.mutual_tls = endpoint.mutual_tls;
                state.priority = locality.priority;
            }
        }
        let gone: Vec<u32> = self
            .members
            .values()
            .copied()
            .filter(|&host| !self.hosts[host as usize].listed)
            .collect();
        self.members
            .retain(|_, host| self.hosts[*host as usize].listed);
        self.stale = true;
        gone
    }

    /// Every member leaves; the hosts stay for the requests they have.
    pub(crate) fn clear(&mut self) -> Vec<u32> {
        self.stale = true;
        let gone: Vec<u32> = self.members.drain(..).map(|(_, host)| host).collect();
        for &host in &gone {
            self.hosts[host as usize].listed = false;
        }
        gone
    }

    /// A host's health changed: who may be chosen is recomputed before the next pick.
    pub(crate) fn health_changed(&mut self) {
        self.stale = true;
    }

    fn rebuild(&mut self) {
        self.stale = false;
        let levels = self
            .members
            .values()
            .map(|&h| self.hosts[h as usize].priority + 1)
            .max()
            .unwrap_or(0);
        let mut lists: Vec<[Vec<u32>; 3]> = (0..levels).map(|_| Default::default()).collect();
        let mut counts = vec![PriorityCounts::default(); levels as usize];
        for &index in self.members.values() {
            let host = &self.hosts[index as usize];
            let (list, count) = (
                &mut lists[host.priority as usize],
                &mut counts[host.priority as usize],
            );
            list[HostSource::All as usize].push(index);
            count.hosts += 1;
            count.excluded += u32::from(host.health == EndpointHealth::Draining);
            if host.is_degraded() {
                list[HostSource::Degraded as usize].push(index);
                count.degraded += 1;
            } else if host.is_healthy() {
                list[HostSource::Healthy as usize].push(index);
                count.healthy += 1;
            }
        }
        self.loads = PriorityLoads::compute(
            &counts,
            self.overprovisioning_percent,
            self.config.healthy_panic_threshold_percent,
            &self.loads,
        );
        let mut before = std::mem::take(&mut self.priorities).into_iter();
        self.priorities = lists
            .into_iter()
            .map(|lists| {
                let mut old = before.next().unwrap_or_default().sources.into_iter();
                let sources = lists.map(|hosts| {
                    let before = old
                        .next()
                        .and_then(|source| source.picker.or(source.before));
                    SourceHosts {
                        hosts,
                        picker: None,
                        before,
                    }
                });
                Priority { sources }
            })
            .collect();
    }

    fn build_picker(&mut self, priority: usize, source: HostSource, draws: &Draws) {
        let SourceHosts { hosts, before, .. } = &self.priorities[priority].sources[source as usize];
        let seed = draws.draw(self.subject, Purpose::BalancerSeed, priority as u64);
        let key = |host: u32| self.hosts[host as usize].address.to_string();
        let mut picker = Picker::build(&self.config.lb_policy, hosts, self.view(), &key, seed);
        if let Some(before) = before {
            picker.inherit(before);
        }
        self.priorities[priority].sources[source as usize].picker = Some(picker);
    }

    fn view(&self) -> HostsView<'_> {
        HostsView {
            active: &self.active,
            weights: &self.weights,
            latencies: &self.latencies,
        }
    }

    /// The host for one try; `None`: no healthy upstream.
    #[inline]
    pub(crate) fn select(&mut self, draws: &Draws, selection: Selection<'_>) -> Option<u32> {
        if self.stale {
            self.rebuild();
        }
        let mut chosen = self.select_once(draws, &selection, 0)?;
        let mut repick = 0;
        while repick < selection.max_repicks
            && selection
                .tried
                .contains(&self.hosts[chosen as usize].endpoint)
        {
            repick += 1;
            chosen = self.select_once(draws, &selection, repick)?;
        }
        Some(chosen)
    }

    #[inline]
    fn select_once(
        &mut self,
        draws: &Draws,
        selection: &Selection<'_>,
        repick: u32,
    ) -> Option<u32> {
        let round = u64::from(selection.attempt) << 8 | u64::from(repick);
        let hashed = matches!(
            self.config.lb_policy,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. }
        );
        let hash = match (hashed, selection.hash) {
            (true, Some(hash)) => hash,
            (true, None) => draws.draw(
                selection.key,
                Purpose::MissingHash,
                u64::from(selection.attempt),
            ),
            (false, _) => draws.draw(selection.key, Purpose::Priority, round),
        };
        let (priority, source) = self.loads.choose(hash)?;
        if self.priorities.get(priority)?.sources[source as usize]
            .picker
            .is_none()
        {
            self.build_picker(priority, source, draws);
        }
        let view = HostsView {
            active: &self.active,
            weights: &self.weights,
            latencies: &self.latencies,
        };
        let chosen = &mut self.priorities[priority].sources[source as usize];
        let choice = Choice {
            now: selection.now,
            key: selection.key,
            round,
            hash,
            walk: repick,
        };
        chosen
            .picker
            .as_mut()?
            .pick(&chosen.hosts, view, draws, choice)
    }
}
