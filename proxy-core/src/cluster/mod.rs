//! The run-time state of a cluster on one worker: its hosts, their health, and who is next.

mod assign;
mod host;
mod tried;

pub(crate) use host::{Host, HostId, HostList, Pool};
pub(crate) use tried::Tried;

use crate::balancer::locality::{LocalHosts, Place};
use crate::balancer::peak_ewma::PeakEwma;
use crate::balancer::subset::{Criteria, SubsetBalancers};
use crate::balancer::{
    Balancer, Choice, HostsView, Level, PreviousPriorities, PriorityPolicy, UpdateContext,
};
use crate::ids::ClusterId;
use crate::random::{Draws, Purpose, hash_text};
use crate::time::Nanos;
use crate::xds::{Cluster, LbPolicy, LocalityLb, Name};
use indexmap::IndexMap;
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

/// One balancer, or one for each subset.
#[derive(Debug)]
enum Balancing {
    Whole(Balancer),
    Subsets(Box<SubsetBalancers>),
}

/// A cluster on one worker.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) config: Arc<Cluster>,
    id: ClusterId,
    /// The cluster's name and the worker's number as the subject of draws: workers do not start
    /// their rotations at the same host.
    subject: u64,
    draws: Draws,
    pub(crate) counts: BreakerCounts,
    pub(crate) hosts: Vec<Host>,
    /// Requests in flight by host, beside `hosts` for the balancers' sake.
    pub(crate) active: Vec<u32>,
    weights: Vec<u32>,
    pub(crate) latencies: Vec<PeakEwma>,
    /// Current members, by address.
    members: IndexMap<SocketAddr, u32, FxBuildHasher>,
    /// Hosts that left, as long as their slots are not used again.
    departed: Vec<u32>,
    /// When members outside any assignment were last looked through.
    cleaned_at: Nanos,
    priority_policy: PriorityPolicy,
    /// The members by priority; there is always a first one, and none ever goes away.
    levels: Vec<Level>,
    place: Place,
    /// Versions of the configuration so far: each has new balancers.
    version: u64,
    balancing: Balancing,
    /// Membership or health changed since the balancers were told.
    stale: bool,
    /// Parts per million of the requests that are dropped.
    pub(crate) drop_overload_ppm: u32,
    /// No longer configured: takes no new requests.
    pub(crate) removed: bool,
    /// Has opened a connection, and said so where health checks want to know.
    pub(crate) used: bool,
}

/// A request for a host.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) now: Nanos,
    pub(crate) key: u64,
    /// 0 for the first try of an exchange.
    pub(crate) attempt: u32,
    pub(crate) hash: Option<u64>,
    /// Which subset; read only where there are any.
    pub(crate) criteria: Option<Criteria<'a>>,
    /// Hosts tried before, and how many further picks to spend on avoiding them.
    pub(crate) tried: &'a [HostId],
    pub(crate) max_repicks: u32,
    pub(crate) previous_priorities: Option<&'a mut PreviousPriorities>,
}

impl ClusterState {
    /// A cluster without hosts. `own_locality` is the proxy's, `local` its own cluster's members.
    pub(crate) fn new(
        id: ClusterId,
        config: Arc<Cluster>,
        worker: u32,
        draws: Draws,
        (own_locality, local): (Name, Option<Arc<LocalHosts>>),
        now: Nanos,
    ) -> ClusterState {
        let subject = hash_text(&config.name).wrapping_add(u64::from(worker));
        ClusterState {
            id,
            balancing: balancing(&config, subject, 0, &draws, now),
            subject,
            draws,
            counts: BreakerCounts::default(),
            hosts: Vec::new(),
            active: Vec::new(),
            weights: Vec::new(),
            latencies: Vec::new(),
            members: IndexMap::default(),
            departed: Vec::new(),
            cleaned_at: now,
            priority_policy: PriorityPolicy {
                overprovisioning_percent: 140,
                weighted_health: false,
            },
            levels: vec![Level::default()],
            place: Place {
                own: own_locality,
                weighted: config.locality_lb == LocalityLb::Weighted,
                local,
            },
            version: 0,
            stale: false,
            drop_overload_ppm: 0,
            removed: false,
            used: false,
            config,
        }
    }

    /// Takes over a changed configuration: it starts with new hosts and balancers. Returns the hosts
    /// that left.
    pub(crate) fn reconfigure(&mut self, config: Arc<Cluster>, now: Nanos) -> Vec<u32> {
        self.version += 1;
        self.removed = false;
        self.place.weighted = config.locality_lb == LocalityLb::Weighted;
        self.config = config;
        let gone = self.clear();
        self.levels = vec![Level::default()];
        self.balancing = balancing(&self.config, self.subject, self.version, &self.draws, now);
        gone
    }

    /// The member at `address`.
    pub(crate) fn member(&self, address: SocketAddr) -> Option<u32> {
        self.members.get(&address).copied()
    }

    /// A host's health changed: who may be chosen follows from it.
    pub(crate) fn health_changed(&mut self, host: u32, now: Nanos) {
        let priority = self.hosts[host as usize].priority as usize;
        self.levels[priority].changed = true;
        self.changed(now);
    }

    /// The proxy's own cluster has other members, or they have another health.
    pub(crate) fn local_changed(&mut self, local: &Arc<LocalHosts>) {
        self.place.local = Some(Arc::clone(local));
        match &mut self.balancing {
            Balancing::Whole(balancer) => balancer.route_zones(local, &self.place, &self.config),
            Balancing::Subsets(subsets) => subsets.route_zones(local, &self.place, &self.config),
        }
    }

    /// What other clusters need to know of this one, if it is the proxy's own.
    pub(crate) fn local_hosts(&self) -> LocalHosts {
        let level = &self.levels[0];
        LocalHosts::of(level, &self.hosts, self.priority_policy)
    }

    /// Some level changed. Balancers hear of it before the next pick, or at once where weights move
    /// by themselves: schedules begin with the weights of the moment.
    fn changed(&mut self, now: Nanos) {
        self.stale = true;
        if self.weights_move() {
            self.tell_balancers(now);
        }
    }

    fn weights_move(&self) -> bool {
        let uneven = || {
            let mut weights = self.members.values().map(|&h| self.weights[h as usize]);
            let first = weights.next();
            weights.any(|weight| Some(weight) != first)
        };
        match self.config.lb_policy {
            LbPolicy::RoundRobin => self.config.slow_start.is_some(),
            LbPolicy::LeastRequest { .. } => self.config.slow_start.is_some() || uneven(),
            _ => false,
        }
    }

    #[cold]
    fn tell_balancers(&mut self, now: Nanos) {
        self.stale = false;
        let eager = self.weights_move();
        if self.config.slow_start.is_some() {
            let members = self.levels.iter().filter(|level| level.changed);
            for &host in members.flat_map(|level| &level.hosts) {
                let host = &mut self.hosts[host as usize];
                if host.is_healthy() {
                    host.healthy_since.get_or_insert(now);
                }
            }
        }
        let context = UpdateContext {
            view: HostsView {
                now,
                config: &self.config,
                hosts: &self.hosts,
                active: &self.active,
                weights: &self.weights,
                latencies: &self.latencies,
                cluster_active: self.counts.requests,
            },
            policy: self.priority_policy,
            place: &self.place,
            draws: &self.draws,
            eager,
        };
        for (priority, level) in self.levels.iter_mut().enumerate() {
            if !std::mem::take(&mut level.changed) {
                continue;
            }
            match &mut self.balancing {
                Balancing::Whole(balancer) => {
                    balancer.update(priority, &level.hosts, &level.localities, &context);
                }
                Balancing::Subsets(subsets) => subsets.update(priority, level, &context),
            }
        }
    }

    /// The host for one try; `None`: no healthy upstream.
    #[inline]
    pub(crate) fn select(&mut self, mut selection: Selection<'_>) -> Option<u32> {
        if self.stale {
            self.tell_balancers(selection.now);
        }
        let chosen = self.select_once(&mut selection, 0)?;
        match selection.max_repicks {
            0 => Some(chosen),
            _ => self.avoid_tried(chosen, selection),
        }
    }

    /// `chosen`, or what comes of further picks as long as it was tried before.
    #[cold]
    fn avoid_tried(&mut self, mut chosen: u32, mut selection: Selection<'_>) -> Option<u32> {
        let mut repick = 0;
        while repick < selection.max_repicks
            && selection.tried.contains(&self.hosts[chosen as usize].id)
        {
            repick += 1;
            chosen = self.select_once(&mut selection, repick)?;
        }
        Some(chosen)
    }

    #[inline]
    fn select_once(&mut self, selection: &mut Selection<'_>, repick: u32) -> Option<u32> {
        let (key, attempt) = (selection.key, u64::from(selection.attempt));
        let round = attempt << 32 | u64::from(repick);
        let hash = self.config.lb_policy.hashes().then(|| {
            selection
                .hash
                .unwrap_or_else(|| self.draws.draw(key, Purpose::MissingHash, attempt))
        });
        // Put together where they are needed, which for the usual policies is almost nowhere.
        let view = || HostsView {
            now: selection.now,
            config: &self.config,
            hosts: &self.hosts,
            active: &self.active,
            weights: &self.weights,
            latencies: &self.latencies,
            cluster_active: self.counts.requests,
        };
        let previous_priorities = selection.previous_priorities.as_deref_mut();
        let choice = || Choice {
            key,
            round,
            hash,
            walk: repick,
            tried: selection.tried,
            previous_priorities,
        };
        match &mut self.balancing {
            Balancing::Whole(balancer) => balancer.pick(view, &self.draws, &mut choice()),
            Balancing::Subsets(subsets) => {
                let criteria = selection.criteria.unwrap_or_default();
                subsets.pick(&view(), &self.draws, criteria, &mut choice())
            }
        }
    }
}

fn balancing(config: &Cluster, subject: u64, n: u64, draws: &Draws, now: Nanos) -> Balancing {
    match &config.subsets {
        Some(subsets) if !subsets.selectors.is_empty() => {
            let balancers = SubsetBalancers::new(subsets, subject, n, draws, now);
            Balancing::Subsets(Box::new(balancers))
        }
        _ => Balancing::Whole(Balancer::new(subject, n, draws, now)),
    }
}
