//! Sources of requests.

use super::arrivals::Arrivals;
use super::clients::CallFor;

use super::World;
use super::schedule::Event;
use crate::plan::{ANSWERED_AT_ONCE, Entry, PlanLoad, PlanTraffic};
use crate::random::{Purpose, WorldDraws};
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A source of requests.
#[derive(Debug)]
pub(super) struct Source<'p> {
    pub(super) plan: &'p PlanTraffic,
    pub(super) draws: WorldDraws,
    /// Hash of its name: what its keys begin with.
    name: u64,
    /// The clients' address.
    pub(super) ip: IpAddr,
    arrivals: Option<Arrivals>,
    /// The next arrival.
    next_ordinal: u64,
    epoch: u32,
    /// Requests made by each user of a closed loop.
    asked: Vec<u64>,
    /// For each pod of a gateway: its proxy when last used, and the connections to it.
    pub(super) gateway_pools: Vec<Option<(u32, u32)>>,
    /// Users that are asking now; more of them pause for good after their answer.
    users: u32,
}

impl<'p> Source<'p> {
    pub(super) fn new(plan: &'p PlanTraffic, seed: u64) -> Source<'p> {
        let draws = WorldDraws::new(seed, &plan.name);
        let name = hash_text(&plan.name);
        let (arrivals, users) = match &plan.load {
            PlanLoad::Open { pieces, spread } => {
                (Some(Arrivals::new(draws, *spread, pieces.clone())), 0)
            }
            PlanLoad::Closed { users, .. } => (None, *users),
        };
        // 192.0.2.0/24 is set aside for examples.
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + (name % 254) as u8));
        Source {
            plan,
            draws,
            name,
            ip,
            arrivals,
            next_ordinal: 0,
            epoch: 0,
            asked: vec![0; users as usize],
            gateway_pools: Vec::new(),
            users,
        }
    }
}

impl World<'_, '_> {
    pub(super) fn start_source(&mut self, source: u32) {
        let state = &self.sources[source as usize];
        match &state.plan.load {
            PlanLoad::Open { .. } => self.schedule_arrival(source),
            PlanLoad::Closed { think, .. } => {
                for user in 0..state.users {
                    let key = mix(u64::from(user));
                    let wait =
                        think.sample(self.sources[source as usize].draws, key, Purpose::Think);
                    let from = self.sources[source as usize].plan.from;
                    self.queue
                        .at(from + wait, Event::UserWakes { source, user });
                }
            }
        }
    }

    fn schedule_arrival(&mut self, source: u32) {
        let state = &mut self.sources[source as usize];
        let Some((ordinal, at)) = state.arrivals.as_mut().and_then(Arrivals::next) else {
            return;
        };
        state.next_ordinal = ordinal;
        let epoch = state.epoch;
        if at < state.plan.until {
            self.queue.at(at, Event::Arrival { source, epoch });
        }
    }

    pub(super) fn arrive(&mut self, source: u32, epoch: u32) {
        let state = &self.sources[source as usize];
        if state.epoch != epoch {
            return;
        }
        let key = mix(state.name ^ mix(state.next_ordinal));
        self.schedule_arrival(source);
        self.ask(CallFor::Source { source }, source, key);
    }

    /// The rate of an open-loop source changes.
    pub(super) fn change_rate(&mut self, source: u32, per_s: f64) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        state.epoch += 1;
        if let Some(arrivals) = &mut state.arrivals {
            arrivals.change_rate(now, state.plan.until, per_s, state.next_ordinal);
        }
        self.schedule_arrival(source);
    }

    pub(super) fn user_wakes(&mut self, source: u32, user: u32) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        if user >= state.users || now >= state.plan.until {
            return;
        }
        let asked = state.asked[user as usize];
        state.asked[user as usize] += 1;
        let key = mix(state.name ^ mix(u64::from(user) << 40 | asked));
        self.ask(CallFor::User { source, user }, source, key);
    }

    /// The number of users of a closed-loop source changes.
    pub(super) fn change_users(&mut self, source: u32, users: u32) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        let before = std::mem::replace(&mut state.users, users);
        if state.asked.len() < users as usize {
            state.asked.resize(users as usize, 0);
        }
        for user in before..users {
            self.queue.at(now, Event::UserWakes { source, user });
        }
    }

    fn ask(&mut self, made_for: CallFor, source: u32, key: u64) {
        let state = &self.sources[source as usize];
        let variant = state.plan.choose(state.draws.bits(key, Purpose::Mix, 0));
        let head = Arc::clone(&self.plan.heads[variant.0 as usize]);
        let pod = match &state.plan.entry {
            Entry::Workload { pods, .. } => {
                let value = state.draws.bits(key, Purpose::Endpoint, 1);
                match self.pick(pods, value, |pod| pod.up) {
                    Some(pod) => Some(pod),
                    None => return self.nobody_asks(made_for),
                }
            }
            Entry::Gateway { .. } | Entry::Direct { .. } => None,
        };
        self.call(made_for, pod, key, head);
    }

    /// No pod is there that could: a user tries again.
    fn nobody_asks(&mut self, made_for: CallFor) {
        if let CallFor::User { source, user } = made_for {
            self.user_thinks(source, user, Nanos::ZERO);
        }
    }

    /// The user has waited so long for the answer.
    pub(super) fn user_thinks(&mut self, source: u32, user: u32, waited: Nanos) {
        let state = &self.sources[source as usize];
        if let PlanLoad::Closed { think, .. } = &state.plan.load {
            let key = mix(u64::from(user) << 40 | state.asked[user as usize]);
            let mut wait = think.sample(state.draws, key, Purpose::Think);
            if wait + waited == Nanos::ZERO {
                wait = ANSWERED_AT_ONCE;
            }
            self.queue
                .at(self.queue.now() + wait, Event::UserWakes { source, user });
        }
    }
}
