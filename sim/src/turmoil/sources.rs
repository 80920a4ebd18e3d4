//! Sources of requests.

use super::clients::{Lines, ask};
use super::duration;
use super::world::{Order, World};
use crate::event::arrivals::Arrivals;
use crate::plan::{ANSWERED_AT_ONCE, Entry, PlanLoad, PlanTraffic};
use crate::random::{Purpose, WorldDraws, pick};
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;
use tokio::time::sleep;

/// A source as it is now.
pub(super) struct SourceState {
    pub(super) draws: WorldDraws,
    /// Hash of its name: what its keys begin with.
    name: u64,
    /// The clients' address.
    pub(super) ip: IpAddr,
    load: RefCell<Load>,
    /// Rate or users have changed.
    changed: Notify,
}

#[derive(Default)]
struct Load {
    arrivals: Option<Arrivals>,
    /// The next arrival.
    next_ordinal: u64,
    /// Users that are asking now; more of them pause for good after their answer.
    users: u32,
    /// Users whose tasks run, or ran.
    started: u32,
    /// Requests made by each user.
    asked: Vec<u64>,
}

impl SourceState {
    pub(super) fn new(plan: &PlanTraffic, seed: u64) -> SourceState {
        let draws = WorldDraws::new(seed, &plan.name);
        let name = hash_text(&plan.name);
        let load = match &plan.load {
            PlanLoad::Open { pieces, spread } => Load {
                arrivals: Some(Arrivals::new(draws, *spread, pieces.clone())),
                ..Load::default()
            },
            PlanLoad::Closed { users, .. } => Load {
                users: *users,
                ..Load::default()
            },
        };
        SourceState {
            draws,
            name,
            // 192.0.2.0/24 is set aside for examples.
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + (name % 254) as u8)),
            load: RefCell::new(load),
            changed: Notify::new(),
        }
    }

    /// The rate of an open-loop source changes.
    pub(super) fn change_rate(&self, now: Nanos, until: Nanos, per_s: f64) {
        let load = &mut *self.load.borrow_mut();
        if let Some(arrivals) = &mut load.arrivals {
            arrivals.change_rate(now, until, per_s, load.next_ordinal);
        }
        self.changed.notify_one();
    }

    /// The number of users of a closed-loop source changes.
    pub(super) fn change_users(&self, users: u32) {
        self.load.borrow_mut().users = users;
        self.changed.notify_one();
    }

    fn next_arrival(&self) -> Option<(u64, Nanos)> {
        let load = &mut *self.load.borrow_mut();
        let next = load.arrivals.as_mut().and_then(Arrivals::next);
        if let Some((ordinal, _)) = next {
            load.next_ordinal = ordinal;
        }
        next
    }
}

/// The host of all clients: every source.
pub(super) async fn run(world: Rc<World>) -> turmoil::Result {
    for (number, traffic) in (0u32..).zip(&world.plan.traffic) {
        let lines = Rc::new(Lines::of_source(Rc::clone(&world), number));
        match &traffic.load {
            PlanLoad::Open { .. } => spawn_local(open_loop(lines, number)),
            PlanLoad::Closed { .. } => spawn_local(closed_loop(lines, number)),
        };
    }
    std::future::pending().await
}

async fn open_loop(lines: Rc<Lines>, number: u32) {
    let world = Rc::clone(&lines.world);
    let (source, plan) = (
        &world.sources[number as usize],
        &world.plan.traffic[number as usize],
    );
    loop {
        let next = source.next_arrival().filter(|(_, at)| *at < plan.until);
        let Some((ordinal, at)) = next else {
            source.changed.notified().await;
            continue;
        };
        tokio::select! {
            biased;
            () = source.changed.notified() => continue,
            () = sleep_until(&world, at) => {}
        }
        let key = mix(source.name ^ mix(ordinal));
        let lines = Rc::clone(&lines);
        spawn_local(async move { ask_once(&lines, number, key).await });
    }
}

async fn closed_loop(lines: Rc<Lines>, number: u32) {
    let world = Rc::clone(&lines.world);
    let source = &world.sources[number as usize];
    let mut at_start = true;
    loop {
        let new = {
            let load = &mut *source.load.borrow_mut();
            let new = load.started..load.users;
            load.started = load.users;
            if load.asked.len() < load.users as usize {
                load.asked.resize(load.users as usize, 0);
            }
            new
        };
        for user in new {
            spawn_local(run_user(Rc::clone(&lines), number, user, at_start));
        }
        at_start = false;
        source.changed.notified().await;
    }
}

/// A user: asks, waits for the answer, thinks. Those there from the start think first.
async fn run_user(lines: Rc<Lines>, number: u32, user: u32, thinks_first: bool) {
    let world = Rc::clone(&lines.world);
    let (source, plan) = (
        &world.sources[number as usize],
        &world.plan.traffic[number as usize],
    );
    let PlanLoad::Closed { think, .. } = &plan.load else {
        return;
    };
    if thinks_first {
        let wait = think.sample(source.draws, mix(u64::from(user)), Purpose::Think);
        sleep_until(&world, plan.from + wait).await;
    }
    loop {
        let asked = {
            let load = &mut *source.load.borrow_mut();
            if user >= load.users || world.now() >= plan.until {
                // Starts anew when there are more users again.
                load.started = load.started.min(user);
                return;
            }
            let asked = load.asked[user as usize];
            load.asked[user as usize] += 1;
            asked
        };
        let key = mix(source.name ^ mix(u64::from(user) << 40 | asked));
        let asked_at = world.now();
        ask_once(&lines, number, key).await;
        let key = mix(u64::from(user) << 40 | (asked + 1));
        let mut wait = think.sample(source.draws, key, Purpose::Think);
        if wait == Nanos::ZERO && world.now() == asked_at {
            wait = ANSWERED_AT_ONCE;
        }
        sleep(duration(wait)).await;
    }
}

/// One request: from here, or from a pod of the source's workload.
async fn ask_once(lines: &Lines, number: u32, key: u64) {
    let world = &lines.world;
    let (source, plan) = (
        &world.sources[number as usize],
        &world.plan.traffic[number as usize],
    );
    let variant = plan.choose(source.draws.bits(key, Purpose::Mix, 0));
    let head = Arc::clone(&world.plan.heads[variant.0 as usize]);
    let Entry::Workload { pods, .. } = &plan.entry else {
        return ask(lines, number, key, head).await;
    };
    let value = source.draws.bits(key, Purpose::Endpoint, 1);
    let (ended, answer) = oneshot::channel();
    {
        let states = world.pods.borrow();
        let chosen = pick(pods, value, |pod| states[pod as usize].up);
        // Nobody is there to ask.
        let Some(pod) = chosen else { return };
        let order = Order::Ask {
            source: number,
            key,
            head,
            ended,
        };
        // A pod that ends loses what it was asked.
        let _ = states[pod as usize]
            .orders
            .as_ref()
            .map(|orders| orders.send(order));
    }
    let _ = answer.await;
}

async fn sleep_until(world: &World, at: Nanos) {
    sleep(duration(at - world.now())).await;
}
