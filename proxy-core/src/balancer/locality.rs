//! How the localities of a priority share its load: by weight (Envoy `locality_wrr.cc`), or so that
//! it stays in the proxy's own zone (`ZoneAwareLoadBalancerBase`).

use super::edf::Edf;
use super::priority::Availability;
use super::source::Source;
use super::{Health, HostsView, Level, PriorityPolicy, UpdateContext};
use crate::cluster::Host;
use crate::random::{Draws, Purpose};
use crate::xds::{Cluster, LocalityLb, Name, ZoneAware};
use std::cmp::Ordering;
use std::sync::Arc;

/// Envoy's unit of shares.
const WHOLE: u64 = 10_000;

/// A locality with hosts in some priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locality {
    pub(crate) name: Name,
    /// 0: takes no load under locality-weighted balancing.
    pub(crate) weight: u32,
}

/// Where the proxy is, as far as a cluster needs to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// The proxy's own locality.
    pub(crate) own: Name,
    /// The cluster balances by locality weights.
    pub(crate) weighted: bool,
    /// The proxy's own cluster, if the proxy was told which that is.
    pub(crate) local: Option<Arc<LocalHosts>>,
}

impl Place {
    /// The order of localities: the own one first, then by region, zone and subzone.
    pub(crate) fn order(&self, a: &str, b: &str) -> Ordering {
        let own = |name: &str| *name == *self.own;
        own(b)
            .cmp(&own(a))
            .then_with(|| a.split('/').cmp(b.split('/')))
    }
}

/// The members of the proxy's own cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LocalHosts {
    /// By locality: all hosts, and healthy ones.
    pub(crate) localities: Vec<(Name, u64, u64)>,
    /// Of hosts that are not excluded, the percentage that is healthy or degraded.
    pub(crate) available_percent: f64,
}

impl LocalHosts {
    /// The members of the proxy's own cluster, which has one priority.
    pub(crate) fn of(level: &Level, hosts: &[Host], policy: PriorityPolicy) -> LocalHosts {
        let mut availability = Availability::new(policy);
        let mut localities: Vec<(Name, u64, u64)> = level
            .localities
            .iter()
            .map(|locality| (Arc::clone(&locality.name), 0, 0))
            .collect();
        for &host in &level.hosts {
            let host = &hosts[host as usize];
            availability.count(host, 1);
            if let Some((_, all, healthy)) = localities
                .iter_mut()
                .find(|(name, ..)| *name == host.locality)
            {
                *all += 1;
                *healthy += u64::from(host.is_healthy());
            }
        }
        LocalHosts {
            localities,
            available_percent: availability.finish().available_percent(),
        }
    }
}

/// The localities of one priority, each with its own sources.
#[derive(Debug)]
pub(crate) struct Localities {
    named: Vec<Locality>,
    /// Healthy and degraded hosts, by locality; none under consistent hashing.
    sources: Vec<[Source; 2]>,
    routing: Routing,
}

#[derive(Debug)]
enum Routing {
    /// For healthy and for degraded hosts; none without a host or a weight.
    Weighted(Box<[Option<Schedule>; 2]>),
    Zones(Zones),
}

/// Localities by turns, in proportion to their effective weights.
#[derive(Debug)]
struct Schedule {
    edf: Edf,
    weights: Vec<f64>,
}

#[derive(Debug, PartialEq)]
enum Zones {
    /// The priority is used as a whole.
    Off,
    On {
        enabled_percent: u32,
        /// The proxy's own cluster is in a panic.
        local_panic: bool,
        /// Of [`WHOLE`], what stays in the own zone.
        direct: u64,
        /// What the localities can take beyond what their own proxies send, added up; empty if all
        /// stays.
        residual: Vec<u64>,
    },
}

impl Localities {
    /// `None` where localities make no difference. `hosts` are all of the priority, `parts` the
    /// healthy and the degraded ones; seeds are the balancer's and that of locality schedules.
    pub(crate) fn build(
        before: Option<Box<Localities>>,
        hosts: &[u32],
        parts: (&[u32], &[u32]),
        named: &[Locality],
        context: &UpdateContext<'_>,
        (seed, locality_seed): (u64, u64),
    ) -> Option<Box<Localities>> {
        let (view, place) = (&context.view, context.place);
        let hashed = view.config.lb_policy.hashes();
        if !place.weighted && (hashed || place.local.is_none()) {
            return None;
        }
        let mut sources = before.map_or_else(Vec::new, |before| before.sources);
        if !hashed {
            // Rotations of localities that come back go on where they were.
            let len = sources.len().max(named.len());
            sources.resize_with(len, Default::default);
            for (i, [healthy, degraded]) in sources.iter_mut().enumerate() {
                let of = |hosts: &[u32]| -> Vec<u32> {
                    let here = |host: &&u32| {
                        let locality = named.get(i);
                        locality.is_some_and(|l| view.hosts[**host as usize].locality == l.name)
                    };
                    hosts.iter().filter(here).copied().collect()
                };
                healthy.update(of(parts.0), seed);
                degraded.update(of(parts.1), seed);
            }
        }
        let routing = if place.weighted {
            let overprovisioning = f64::from(context.policy.overprovisioning_percent) / 100.0;
            Routing::Weighted(Box::new([parts.0, parts.1].map(|eligible| {
                let weights = effective_weights(eligible, hosts, named, view, overprovisioning);
                Schedule::new(weights, locality_seed)
            })))
        } else {
            Routing::Zones(Zones::Off)
        };
        let mut localities = Localities {
            named: named.to_vec(),
            sources,
            routing,
        };
        if let Some(local) = &place.local {
            localities.route_zones(local, place, view.config);
        }
        Some(Box::new(localities))
    }

    pub(crate) fn named(&self) -> &[Locality] {
        &self.named
    }

    pub(crate) fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.sources.iter_mut().flatten()
    }

    /// Works out what stays in the zone, unless localities are balanced by weight.
    pub(crate) fn route_zones(&mut self, local: &LocalHosts, place: &Place, config: &Cluster) {
        if let Routing::Zones(zones) = &mut self.routing {
            let healthy = self
                .sources
                .iter()
                .map(|[healthy, _]| healthy.hosts.len() as u64);
            let healthy: Vec<u64> = healthy.take(self.named.len()).collect();
            *zones = Zones::work_out(&self.named, &healthy, local, place, config);
        }
    }

    /// The source of one locality; `Some(None)`: the priority as a whole; `None`: no host.
    #[allow(clippy::option_option)]
    pub(crate) fn choose(
        &mut self,
        health: Health,
        view: &HostsView<'_>,
        draws: &Draws,
        (key, round): (u64, u64),
    ) -> Option<Option<&mut Source>> {
        let locality = match &mut self.routing {
            Routing::Weighted(schedules) => {
                schedules[health as usize].as_mut().and_then(Schedule::pick)
            }
            Routing::Zones(Zones::Off) => None,
            Routing::Zones(Zones::On {
                enabled_percent,
                local_panic,
                direct,
                residual,
            }) => {
                let n = round << 2;
                if !draws.percent(*enabled_percent, key, Purpose::Zone, n) {
                    None
                } else if *local_panic {
                    if view.config.fail_traffic_on_panic {
                        return None;
                    }
                    None
                } else {
                    let draw = |i| draws.draw(key, Purpose::Zone, n + i);
                    Some(zone(*direct, residual, draw))
                }
            }
        };
        Some(locality.map(|at| &mut self.sources[at][health as usize]))
    }
}

/// The own zone, or another one in proportion to what it can take.
fn zone(direct: u64, residual: &[u64], draw: impl Fn(u64) -> u64) -> usize {
    let Some(&total) = residual.last() else {
        return 0;
    };
    if draw(1) % WHOLE < direct {
        return 0;
    }
    match total {
        0 => (draw(2) % residual.len() as u64) as usize,
        total => {
            let sample = draw(2) % total;
            residual.partition_point(|&sum| sum <= sample)
        }
    }
}

impl Schedule {
    fn new(weights: Vec<f64>, seed: u64) -> Option<Schedule> {
        let in_turn: Vec<u32> = (0..weights.len() as u32)
            .filter(|&at| weights[at as usize] > 0.0)
            .collect();
        (!in_turn.is_empty()).then(|| Schedule {
            edf: Edf::new(&in_turn, seed, |at| weights[at as usize]),
            weights,
        })
    }

    fn pick(&mut self) -> Option<usize> {
        let weights = &self.weights;
        self.edf
            .pick(|at| weights[at as usize])
            .map(|at| at as usize)
    }
}

/// Locality weights, cut back where too few hosts are eligible.
fn effective_weights(
    eligible: &[u32],
    all: &[u32],
    named: &[Locality],
    view: &HostsView<'_>,
    overprovisioning: f64,
) -> Vec<f64> {
    named
        .iter()
        .map(|locality| {
            let here = |host: &&u32| view.hosts[**host as usize].locality == locality.name;
            let counted = |host: &&u32| here(host) && !view.hosts[**host as usize].is_excluded();
            match all.iter().filter(counted).count() {
                0 => 0.0,
                all => {
                    let ratio = eligible.iter().filter(here).count() as f64 / all as f64;
                    f64::from(locality.weight) * (overprovisioning * ratio).min(1.0)
                }
            }
        })
        .collect()
}

impl Zones {
    fn work_out(
        named: &[Locality],
        healthy: &[u64],
        local: &LocalHosts,
        place: &Place,
        config: &Cluster,
    ) -> Zones {
        // Envoy's defaults hold where nothing is configured.
        let zone_aware = match config.locality_lb {
            LocalityLb::ZoneAware(zone_aware) => zone_aware,
            _ => ZoneAware {
                routing_enabled_percent: 100,
                min_cluster_size: 6,
                force_local_zone_min_size: None,
            },
        };
        let force = zone_aware.force_local_zone_min_size;
        let local_count = |name: &str| {
            let found = local.localities.iter().find(|(n, ..)| **n == *name);
            found.map_or((0, 0), |&(_, all, healthy)| (all, healthy))
        };
        let total: u64 = healthy.iter().sum();
        if named.len() < 2
            || (local.localities.len() < 2 && force.is_none())
            || local_count(&place.own).0 == 0
            || total < zone_aware.min_cluster_size
        {
            return Zones::Off;
        }
        let local_total: u64 = local.localities.iter().map(|(.., healthy)| healthy).sum();
        let share = |part: u64, whole: u64| (WHOLE * part).checked_div(whole).unwrap_or(0);
        let shares: Vec<(u64, u64)> = named
            .iter()
            .zip(healthy)
            .map(|(locality, &count)| match count {
                0 => (0, 0),
                _ => (
                    share(local_count(&locality.name).1, local_total),
                    share(count, total),
                ),
            })
            .collect();
        let has_own = named[0].name == place.own;
        let (mine, theirs) = if has_own { shares[0] } else { (0, 0) };
        let forced = has_own && force.is_some_and(|least| healthy[0] >= u64::from(least.max(1)));
        let (direct, residual) = if has_own && theirs > 0 && theirs >= mine || forced {
            (WHOLE, Vec::new())
        } else {
            let room = |(i, &(mine, theirs)): (usize, &(u64, u64))| {
                if i == 0 && has_own {
                    0
                } else {
                    theirs.saturating_sub(mine)
                }
            };
            let mut sum = 0;
            let residual = shares.iter().enumerate().map(room);
            let residual = residual.map(|room| {
                sum += room;
                sum
            });
            let direct = (theirs * WHOLE).checked_div(mine).unwrap_or(0);
            (direct, residual.collect())
        };
        Zones::On {
            enabled_percent: zone_aware.routing_enabled_percent,
            local_panic: local.available_percent
                < f64::from(config.healthy_panic_threshold_percent.min(100)),
            direct,
            residual,
        }
    }
}
