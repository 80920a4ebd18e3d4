//! The hosts of a cluster as the main machine knows them, and when the workers hear of changes
//! (Envoy `eds.cc`, `cluster_manager_impl.cc`).

use crate::ids::ClusterId;
use crate::messages::ToWorker;
use crate::time::Nanos;
use crate::xds::{Cluster, Endpoint, EndpointHealth, LoadAssignment, LocalityEndpoints};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxBuildHasher;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// One host, with everything that counts towards its health.
#[derive(Clone, Debug)]
pub(super) struct Member {
    priority: u32,
    discovered: EndpointHealth,
    pub(super) ejected: bool,
    /// It said so itself, lately.
    pub(super) degraded: bool,
    /// Its active health checks do not agree that it is healthy.
    pub(super) failed_check: bool,
    /// No health check has judged it yet, and it does not count until then.
    pub(super) unchecked: bool,
    /// As last delivered to the workers.
    told: EndpointHealth,
    /// The workers were told since then to drain it.
    drained: bool,
}

impl Member {
    /// As discovery says, and as the workers were told.
    fn new(priority: u32, health: EndpointHealth) -> Member {
        Member {
            priority,
            discovered: health,
            ejected: false,
            degraded: false,
            failed_check: false,
            unchecked: false,
            told: health,
            drained: false,
        }
    }

    /// Unhealthy if anything says so; else degraded if anything says so. What is unhealthy and left
    /// out of the percentages is called draining, whatever the reason.
    fn health(&self) -> EndpointHealth {
        use EndpointHealth::{Degraded, Draining, Healthy, Unhealthy};
        let failed = self.ejected || self.failed_check;
        match self.discovered {
            Draining => Draining,
            _ if failed && self.unchecked => Draining,
            Unhealthy => Unhealthy,
            _ if failed => Unhealthy,
            _ if self.degraded => Degraded,
            discovered @ (Healthy | Degraded) => discovered,
        }
    }
}

/// Changes of one priority on their way to the workers.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    delivered_at: Option<Nanos>,
    deliver_at: Option<Nanos>,
}

impl Window {
    /// Whether a change is delivered at once. Changes of health and weight alone wait for others, a
    /// full window from the first one that has to wait.
    fn passes(&mut self, now: Nanos, span: Nanos, mergeable: bool) -> bool {
        // Whole milliseconds, as Envoy compares them.
        let quiet = |at: Nanos| (now - at).as_millis() > span.as_millis();
        if !mergeable || span == Nanos::ZERO || self.delivered_at.is_none_or(quiet) {
            self.deliver_at = None;
            self.delivered_at = Some(now);
            return true;
        }
        self.deliver_at.get_or_insert(now + span);
        false
    }
}

/// Who came and who went with an assignment.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) added: Vec<SocketAddr>,
    pub(super) removed: Vec<SocketAddr>,
    /// Priorities to deliver now.
    pub(super) due: Vec<u32>,
}

type Hosts = IndexMap<SocketAddr, Member, FxBuildHasher>;

/// The hosts of one cluster.
#[derive(Debug)]
pub(super) struct Members {
    config: Arc<Cluster>,
    /// `None`: nothing counts but what discovery says, and the workers know as much of it as was
    /// delivered. So it is with most clusters for good.
    hosts: Option<Hosts>,
    pub(super) discovered: Arc<LoadAssignment>,
    /// That, with the hosts that it no longer lists but health checks keep.
    latest: Arc<LoadAssignment>,
    /// What the workers have.
    delivered: Arc<LoadAssignment>,
    /// By priority.
    windows: Vec<Window>,
}

impl Members {
    pub(super) fn new(config: Arc<Cluster>) -> Members {
        let none = Arc::new(LoadAssignment::new(Arc::clone(&config.name), Vec::new()));
        Members {
            config,
            hosts: None,
            discovered: Arc::clone(&none),
            latest: Arc::clone(&none),
            delivered: none,
            windows: Vec::new(),
        }
    }

    pub(super) fn len(&mut self) -> usize {
        self.hosts().len()
    }

    pub(super) fn get_mut(&mut self, address: SocketAddr) -> Option<&mut Member> {
        self.hosts().get_mut(&address)
    }

    /// Each host by itself, from now on.
    fn hosts(&mut self) -> &mut Hosts {
        let (latest, delivered) = (&self.latest, &self.delivered);
        self.hosts.get_or_insert_with(|| {
            let mut told: IndexMap<SocketAddr, EndpointHealth, FxBuildHasher> = IndexMap::default();
            for endpoint in endpoints(delivered) {
                told.entry(endpoint.address).or_insert(endpoint.health);
            }
            let mut hosts = Hosts::default();
            for locality in &latest.localities {
                for endpoint in &locality.endpoints {
                    let mut member = Member::new(locality.priority, endpoint.health);
                    if let Some(&told) = told.get(&endpoint.address) {
                        member.told = told;
                    }
                    hosts.insert(endpoint.address, member);
                }
            }
            hosts
        })
    }

    /// Discovery lists it.
    pub(super) fn discovers(&self, address: SocketAddr) -> bool {
        endpoints(&self.discovered).any(|endpoint| endpoint.address == address)
    }

    pub(super) fn speaks_mutual_tls(&self, address: SocketAddr) -> bool {
        endpoints(&self.latest).any(|e| e.address == address && e.mutual_tls)
    }

    /// Takes over what discovery says. Hosts that stay keep their state; those that it drops stay
    /// as well while their health checks pass.
    pub(super) fn assign(&mut self, now: Nanos, assignment: Arc<LoadAssignment>) -> Moves {
        let latest = self.with_kept(&assignment);
        let checked = !self.config.health_checks.is_empty();
        let mut moves = match checked || self.hosts.is_some() {
            true => self.move_hosts(&latest, checked),
            false => moves(&self.latest, &latest),
        };
        let before = std::mem::replace(&mut self.latest, latest);
        self.discovered = assignment;
        moves.due = self.pass(now, &before);
        moves
    }

    fn move_hosts(&mut self, latest: &LoadAssignment, checked: bool) -> Moves {
        let mut moves = Moves::default();
        let mut old = std::mem::take(self.hosts());
        let mut hosts = Hosts::default();
        for locality in &latest.localities {
            for endpoint in &locality.endpoints {
                let address = endpoint.address;
                let mut member = old.swap_remove(&address).unwrap_or_else(|| {
                    moves.added.push(address);
                    Member {
                        failed_check: checked,
                        unchecked: checked && self.config.ignore_new_hosts_until_first_health_check,
                        ..Member::new(locality.priority, endpoint.health)
                    }
                });
                member.priority = locality.priority;
                member.discovered = endpoint.health;
                hosts.insert(address, member);
            }
        }
        let gone = endpoints(&self.latest).map(|endpoint| endpoint.address);
        moves.removed = gone.filter(|address| old.contains_key(address)).collect();
        self.hosts = Some(hosts);
        moves
    }

    /// The priorities that `latest` changes against `before` and that are delivered at once.
    fn pass(&mut self, now: Nanos, before: &LoadAssignment) -> Vec<u32> {
        let after = Arc::clone(&self.latest);
        let common = before.overprovisioning_factor_percent
            != after.overprovisioning_factor_percent
            || before.weighted_priority_health != after.weighted_priority_health
            || before.drop_overload_ppm != after.drop_overload_ppm;
        let levels = levels(before).max(levels(&after));
        self.windows
            .resize(self.windows.len().max(levels as usize), Window::default());
        let changed =
            |&priority: &u32| common || !level(before, priority).eq(level(&after, priority));
        (0..levels)
            .filter(changed)
            .filter(|&priority| {
                let mergeable = addresses(before, priority) == addresses(&after, priority);
                let window = &mut self.windows[priority as usize];
                window.passes(now, self.config.update_merge_window, mergeable)
            })
            .collect()
    }

    /// `assignment` with the hosts that it drops but that pass their health checks, as they were.
    fn with_kept(&self, assignment: &Arc<LoadAssignment>) -> Arc<LoadAssignment> {
        if self.config.health_checks.is_empty() || self.config.ignore_health_on_host_removal {
            return Arc::clone(assignment);
        }
        let listed: BTreeSet<SocketAddr> = endpoints(assignment).map(|e| e.address).collect();
        let stays = |address: &SocketAddr| {
            !listed.contains(address)
                && self
                    .hosts
                    .as_ref()
                    .and_then(|hosts| hosts.get(address))
                    .is_some_and(|member| {
                        !member.failed_check && member.discovered != EndpointHealth::Unhealthy
                    })
        };
        let mut with_kept = Arc::clone(assignment);
        for locality in &self.latest.localities {
            for endpoint in &locality.endpoints {
                if !stays(&endpoint.address) {
                    continue;
                }
                let localities = &mut Arc::make_mut(&mut with_kept).localities;
                let same = localities.iter().position(|other| {
                    other.locality == locality.locality && other.priority == locality.priority
                });
                let at = same.unwrap_or_else(|| {
                    localities.push(LocalityEndpoints {
                        // Discovery gives it no weight any more.
                        weight: 0,
                        endpoints: Vec::new(),
                        ..locality.clone()
                    });
                    localities.len() - 1
                });
                localities[at].endpoints.push(endpoint.clone());
            }
        }
        with_kept
    }

    /// The health of some host changed: Envoy then updates every priority of its cluster. Those to
    /// deliver now.
    pub(super) fn health_changed(&mut self, now: Nanos) -> Vec<u32> {
        let span = self.config.update_merge_window;
        (0u32..)
            .zip(&mut self.windows)
            .filter_map(|(priority, window)| window.passes(now, span, true).then_some(priority))
            .collect()
    }

    /// The priorities whose window is over.
    pub(super) fn tick(&mut self, now: Nanos) -> Vec<u32> {
        let mut due = Vec::new();
        for (priority, window) in (0u32..).zip(&mut self.windows) {
            if window.deliver_at.is_some_and(|at| at <= now) {
                window.deliver_at = None;
                window.delivered_at = Some(now);
                due.push(priority);
            }
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.windows.iter().filter_map(|w| w.deliver_at).min()
    }

    /// Everything there is, to workers that know nothing of it. No window starts.
    pub(super) fn deliver_all(&mut self, id: ClusterId, tell: &mut impl FnMut(ToWorker)) {
        self.windows.fill(Window::default());
        self.delivered = Arc::clone(&self.latest);
        let every: Vec<u32> = (0..levels(&self.latest)).collect();
        self.tell_assignment(id, &every, tell);
    }

    /// Tells the workers of some priorities, as they are now.
    pub(super) fn deliver(&mut self, id: ClusterId, due: &[u32], tell: &mut impl FnMut(ToWorker)) {
        if due.is_empty() {
            return;
        }
        let assignment = self.compose(due);
        let same = Arc::ptr_eq(&assignment, &self.delivered);
        if !same && assignment != self.delivered {
            self.delivered = assignment;
            return self.tell_assignment(id, due, tell);
        }
        for (&address, member) in self.hosts.iter_mut().flatten() {
            let health = member.health();
            let news = health != member.told || member.drained;
            if due.contains(&member.priority) && news {
                member.told = health;
                member.drained = false;
                tell(ToWorker::Health {
                    id,
                    address,
                    health,
                });
            }
        }
    }

    /// Tells the workers to drain a host that turned unhealthy, which they may hear of only later.
    pub(super) fn drain(
        &mut self,
        id: ClusterId,
        address: SocketAddr,
        tell: &mut impl FnMut(ToWorker),
    ) {
        if let Some(member) = self.hosts().get_mut(&address) {
            member.drained = member.told == EndpointHealth::Healthy;
        }
        tell(ToWorker::Drain { id, address });
    }

    /// An assignment makes the workers forget what health they were told of before.
    fn tell_assignment(&mut self, id: ClusterId, due: &[u32], tell: &mut impl FnMut(ToWorker)) {
        let assignment = Arc::clone(&self.delivered);
        tell(ToWorker::Endpoints {
            id,
            assignment: Arc::clone(&assignment),
        });
        let Some(hosts) = &mut self.hosts else {
            return;
        };
        for endpoint in endpoints(&assignment) {
            let Some(member) = hosts.get_mut(&endpoint.address) else {
                continue;
            };
            if due.contains(&member.priority) {
                member.told = member.health();
                member.drained = false;
            }
            if member.told != endpoint.health {
                tell(ToWorker::Health {
                    id,
                    address: endpoint.address,
                    health: member.told,
                });
            }
        }
    }

    /// What the workers are to have: `due` priorities as they are now, the others as delivered.
    fn compose(&self, due: &[u32]) -> Arc<LoadAssignment> {
        if Arc::ptr_eq(&self.delivered, &self.latest) {
            return Arc::clone(&self.latest);
        }
        let held = |priority: &u32| {
            !due.contains(priority)
                && !level(&self.delivered, *priority).eq(level(&self.latest, *priority))
        };
        let levels = levels(&self.delivered).max(levels(&self.latest));
        if !(0..levels).any(|priority| held(&priority)) {
            return Arc::clone(&self.latest);
        }
        let localities = (0..levels).flat_map(|priority| {
            let of = if held(&priority) {
                &self.delivered
            } else {
                &self.latest
            };
            level(of, priority).cloned()
        });
        Arc::new(LoadAssignment {
            localities: localities.collect(),
            ..LoadAssignment::clone(&self.latest)
        })
    }
}

/// Who comes and who goes where nothing but discovery counts.
fn moves(before: &LoadAssignment, after: &LoadAssignment) -> Moves {
    let all = |assignment| -> IndexSet<SocketAddr, FxBuildHasher> {
        endpoints(assignment)
            .map(|endpoint| endpoint.address)
            .collect()
    };
    let (old, new) = (all(before), all(after));
    Moves {
        added: new.difference(&old).copied().collect(),
        removed: old.difference(&new).copied().collect(),
        due: Vec::new(),
    }
}

fn endpoints(assignment: &LoadAssignment) -> impl Iterator<Item = &Endpoint> {
    assignment.localities.iter().flat_map(|l| &l.endpoints)
}

fn levels(assignment: &LoadAssignment) -> u32 {
    let priorities = assignment.localities.iter().map(|l| l.priority + 1);
    priorities.max().unwrap_or(0)
}

fn level(assignment: &LoadAssignment, priority: u32) -> impl Iterator<Item = &LocalityEndpoints> {
    let localities = assignment.localities.iter();
    localities.filter(move |locality| locality.priority == priority)
}

fn addresses(assignment: &LoadAssignment, priority: u32) -> BTreeSet<SocketAddr> {
    level(assignment, priority)
        .flat_map(|locality| locality.endpoints.iter().map(|endpoint| endpoint.address))
        .collect()
}
