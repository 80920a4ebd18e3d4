//! Load balancing: from the hosts of a cluster, or of a subset of it, to one of them.
//!
//! A [`Balancer`] picks a priority ([`priority`]), among its hosts a source: the healthy, degraded
//! or, in a panic, all hosts, perhaps of one locality ([`locality`]); and in it a host ([`source`]).
//!
//! To add a policy: a file here, a variant of [`crate::xds::LbPolicy`], and its arms in [`source`].

mod edf;
mod hashed;
pub(crate) mod locality;
mod maglev;
mod mersenne;
mod murmur2;
pub(crate) mod peak_ewma;
mod previous_priorities;
mod priority;
mod ring_hash;
mod slow_start;
mod source;
pub(crate) mod subset;

pub(crate) use previous_priorities::PreviousPriorities;

use crate::cluster::{Host, HostId};
use crate::random::{Draws, Purpose};
use crate::time::Nanos;
use crate::xds::{Cluster, LbPolicy};
use hashed::Hashed;
use locality::{LocalHosts, Localities, Locality, Place};
use peak_ewma::PeakEwma;
use priority::{Availability, PriorityCounts, PriorityLoads};
use source::Source;

/// What a balancer may know of a cluster and its hosts; slices are indexed by host.
#[derive(Clone, Copy)]
pub(crate) struct HostsView<'a> {
    pub(crate) now: Nanos,
    pub(crate) config: &'a Cluster,
    pub(crate) hosts: &'a [Host],
    /// Requests in flight, over all workers.
    pub(crate) active: &'a [u32],
    pub(crate) weights: &'a [u32],
    pub(crate) latencies: &'a [PeakEwma],
    /// Requests in flight in the whole cluster.
    pub(crate) cluster_active: u32,
}

impl HostsView<'_> {
    /// A host's weight under round robin and least request, as of now.
    fn live_weight(&self, host: u32) -> f64 {
        let weight = f64::from(self.weights[host as usize]);
        let biased = match self.config.lb_policy {
            LbPolicy::LeastRequest {
                active_request_bias,
                ..
            } => {
                let active = f64::from(self.active[host as usize]) + 1.0;
                match active_request_bias {
                    0.0 => weight,
                    bias if bias > 0.0 && bias != 1.0 => weight / libm::pow(active, bias),
                    _ => weight / active,
                }
            }
            _ => weight,
        };
        let Some(slow_start) = &self.config.slow_start else {
            return biased;
        };
        let host = &self.hosts[host as usize];
        match host.healthy_since {
            Some(since) if host.is_flagged_healthy() => {
                biased * slow_start::factor(slow_start, self.now - since)
            }
            _ => biased,
        }
    }
}

/// The members of one priority.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// In the order in which they were listed.
    pub(crate) hosts: Vec<u32>,
    /// Those with hosts: the proxy's own first, the others in lexicographic order.
    pub(crate) localities: Vec<Locality>,
    /// Something about it changed since the balancers took it over.
    pub(crate) changed: bool,
}

/// How the health of priorities is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PriorityPolicy {
    pub(crate) overprovisioning_percent: u32,
    pub(crate) weighted_health: bool,
}

/// One choice to be made.
pub(crate) struct Choice<'a> {
    /// Key of the exchange.
    pub(crate) key: u64,
    /// Numbers the choices of one exchange.
    pub(crate) round: u64,
    /// The request's hash, or the value that stands in for it; policies without hashing draw theirs.
    pub(crate) hash: Option<u64>,
    /// Counts the re-picks of one selection, for policies that walk.
    pub(crate) walk: u32,
    /// Hosts tried before, oldest first.
    pub(crate) tried: &'a [HostId],
    /// Keeps retries away from the priorities of those hosts.
    pub(crate) previous_priorities: Option<&'a mut PreviousPriorities>,
}

impl Choice<'_> {
    /// What the priority follows from.
    fn hash(&self, draws: &Draws) -> u64 {
        self.hash
            .unwrap_or_else(|| draws.draw(self.key, Purpose::Priority, self.round))
    }
}

/// Which of a priority's hosts to choose from, by their health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Degraded,
}

/// The hosts of one priority, by source, each with the policy's state over them.
#[derive(Debug, Default)]
struct PriorityHosts {
    counts: PriorityCounts,
    /// Updates so far.
    updates: u64,
    all: Source,
    healthy: Source,
    degraded: Source,
    localities: Option<Box<Localities>>,
}

/// The state of a load balancer of one worker (Envoy `LoadBalancer`), over a cluster or a subset.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Of its draws.
    subject: u64,
    /// Drawn once: where every rotation and schedule of this balancer begins.
    seed: u64,
    priorities: Vec<PriorityHosts>,
    loads: PriorityLoads,
    /// When the newest of the hosts in slow start became healthy.
    newest: Nanos,
}

impl Balancer {
    /// A balancer without hosts; `n` numbers the balancers of one subject.
    pub(crate) fn new(subject: u64, n: u64, draws: &Draws, now: Nanos) -> Balancer {
        Balancer {
            subject,
            seed: draws.draw(subject, Purpose::BalancerSeed, n),
            priorities: vec![PriorityHosts::default()],
            loads: PriorityLoads::compute(&[PriorityCounts::default()], 0),
            newest: now,
        }
    }

    /// No host in any priority, healthy or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.priorities.iter().all(|p| p.all.hosts.is_empty())
    }

    /// Takes over the hosts of one priority: schedules begin anew, rotations go on.
    pub(crate) fn update(
        &mut self,
        priority: usize,
        hosts: &[u32],
        localities: &[Locality],
        context: &UpdateContext<'_>,
    ) {
        let view = &context.view;
        if self.priorities.len() <= priority {
            self.priorities
                .resize_with(priority + 1, PriorityHosts::default);
        }
        let state = &mut self.priorities[priority];
        state.updates += 1;
        let (mut healthy, mut degraded) = (Vec::new(), Vec::new());
        let mut availability = Availability::new(context.policy);
        for &host in hosts {
            let (member, weight) = (&view.hosts[host as usize], view.weights[host as usize]);
            availability.count(member, weight);
            if member.is_healthy() {
                healthy.push(host);
            } else if member.is_degraded() {
                degraded.push(host);
            }
        }
        state.counts = availability.finish();
        if let Some(slow_start) = &view.config.slow_start {
            for &host in &healthy {
                let since = view.hosts[host as usize].healthy_since.unwrap_or(view.now);
                if since > self.newest && within(view.now - since, slow_start.window) {
                    self.newest = since;
                }
            }
        }
        let slow = view
            .config
            .slow_start
            .as_ref()
            .is_some_and(|slow_start| within(view.now - self.newest, slow_start.window));
        state.all.update(hosts.to_vec(), self.seed);
        state.healthy.update(healthy, self.seed);
        state.degraded.update(degraded, self.seed);
        let before = state.localities.take();
        state.localities = (priority == 0 || context.place.weighted)
            .then(|| {
                let seed = context.draws.draw(
                    self.subject,
                    Purpose::LocalitySeed,
                    (priority as u64) << 32 | state.updates,
                );
                let parts = (&state.healthy.hosts[..], &state.degraded.hosts[..]);
                Localities::build(before, hosts, parts, localities, context, (self.seed, seed))
            })
            .flatten();
        if context.eager {
            let localities = state.localities.iter_mut().flat_map(|l| l.sources_mut());
            [&mut state.all, &mut state.healthy, &mut state.degraded]
                .into_iter()
                .chain(localities)
                .for_each(|source| source.build(view, self.seed, slow));
        }
        let counts: Vec<PriorityCounts> = self.priorities.iter().map(|p| p.counts).collect();
        self.loads = PriorityLoads::compute(&counts, view.config.healthy_panic_threshold_percent);
    }

    /// The proxy's own cluster changed, which decides on how much stays in the zone.
    pub(crate) fn route_zones(&mut self, local: &LocalHosts, place: &Place, config: &Cluster) {
        if let Some(localities) = &mut self.priorities[0].localities {
            localities.route_zones(local, place, config);
        }
    }

    /// One of the hosts; `None`: no healthy upstream. Most picks need little of what `view` gathers.
    #[inline(always)]
    pub(crate) fn pick<'a>(
        &mut self,
        view: impl Fn() -> HostsView<'a>,
        draws: &Draws,
        choice: &mut Choice<'_>,
    ) -> Option<u32> {
        let (priority, health) = match choice.previous_priorities.as_deref_mut() {
            Some(previous) if choice.hash.is_none() => {
                let counts = self.priorities.iter().map(|p| p.counts);
                let hash = draws.draw(choice.key, Purpose::Priority, choice.round);
                previous.choose(hash, choice.tried, &self.loads, counts, view().hosts)?
            }
            _ if self.loads.first_takes_all() => (0, Health::Healthy),
            _ => self.loads.choose(choice.hash(draws))?,
        };
        let panics = self.loads.panics(priority);
        let hosts = &mut self.priorities[priority];
        if let Some(hash) = choice.hash {
            let source = if panics {
                &mut hosts.all
            } else {
                &mut hosts.healthy
            };
            let localities = hosts.localities.as_ref().map(|l| l.named());
            return source.pick_hashed(localities, &view(), (hash, choice.walk));
        }
        let source = if panics {
            if view().config.fail_traffic_on_panic {
                return None;
            }
            &mut hosts.all
        } else {
            let whole = match health {
                Health::Healthy => &mut hosts.healthy,
                Health::Degraded => &mut hosts.degraded,
            };
            match &mut hosts.localities {
                Some(localities) => localities
                    .choose(health, &view(), draws, (choice.key, choice.round))?
                    .unwrap_or(whole),
                None => whole,
            }
        };
        source.pick(view, draws, (choice.key, choice.round), self.seed)
    }
}

/// What goes with an update of a balancer's hosts.
pub(crate) struct UpdateContext<'a> {
    pub(crate) view: HostsView<'a>,
    pub(crate) policy: PriorityPolicy,
    pub(crate) place: &'a Place,
    pub(crate) draws: &'a Draws,
    /// What a schedule begins with depends on when it is built, so it is built with the update.
    pub(crate) eager: bool,
}

/// Envoy compares whole milliseconds.
fn within(span: Nanos, window: Nanos) -> bool {
    window.as_millis() > 0 && span.as_millis() <= window.as_millis()
}
