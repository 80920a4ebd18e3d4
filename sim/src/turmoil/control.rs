//! What happens between the milliseconds: the timeline, the control plane's pushes, and counting.

use super::nanos;
use super::reports::{self, Report};
use super::world::{Order, World};
use crate::distribution::Distribution;
use crate::observe::{Observers, Outcome};
use crate::plan::{Plan, PlanHappening};
use crate::random::{Purpose, WorldDraws};
use crate::tally::Tally;
use control_plane::Push;
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long a pod that was scaled away may take to finish (Kubernetes' default).
const TERMINATION_GRACE: Nanos = Nanos::from_secs(30);
/// Between two times that journals are passed on.
const JOURNAL_EVERY: Nanos = Nanos::from_millis(100);
/// Steps between two reports of progress.
const PROGRESS_EVERY: u64 = 1 << 10;

/// Something planned.
enum Planned {
    Timeline {
        number: u32,
    },
    Push {
        pod: u32,
        version: u64,
        deltas: Vec<XdsDelta>,
    },
    /// The control plane sees that a crashed pod is gone.
    Noticed {
        pod: u32,
        life: u32,
    },
    Restart {
        pod: u32,
        life: u32,
    },
    /// The end of a pod that was scaled away.
    Terminated {
        pod: u32,
        life: u32,
    },
}

pub(super) struct Control<'p, 'o> {
    plan: &'p Plan,
    seed: u64,
    world: &'p Rc<World>,
    sim: turmoil::Sim<'static>,
    tally: Tally<'p>,
    observers: Observers<'o>,
    /// By time, then in order of planning.
    planned: BTreeMap<(Nanos, u64), Planned>,
    next_planned: u64,
    push_draws: WorldDraws,
    /// By pod: no push may overtake an earlier one.
    last_push_at: Vec<Nanos>,
    passes: u64,
}

impl<'p, 'o> Control<'p, 'o> {
    pub(super) fn new(
        plan: &'p Plan,
        seed: u64,
        world: &'p Rc<World>,
        sim: turmoil::Sim<'static>,
        observers: Observers<'o>,
    ) -> Control<'p, 'o> {
        let mut control = Control {
            plan,
            seed,
            world,
            sim,
            tally: Tally::new(plan),
            observers,
            planned: BTreeMap::new(),
            next_planned: 0,
            push_draws: WorldDraws::new(seed, "push"),
            last_push_at: vec![Nanos::ZERO; plan.pods.len()],
            passes: 0,
        };
        for (number, event) in (0u32..).zip(&plan.timeline) {
            control.plan_at(event.at, Planned::Timeline { number });
        }
        control
    }

    /// Runs until the end and until no call is in progress, but no longer than `end`.
    pub(super) fn run(mut self, end: Nanos) -> Result<Outcome, Box<dyn std::error::Error>> {
        for step in 0.. {
            let now = self.now();
            let over = now >= self.plan.duration && self.world.open_calls.get() == 0;
            if over || now >= end {
                break;
            }
            self.catch_up(now);
            self.sim.step()?;
            self.count();
            if step % PROGRESS_EVERY == 0 {
                let done = now.as_secs_f64() / self.plan.duration.as_secs_f64();
                self.observers.progress(done.min(1.0));
            }
        }
        Ok(self.finish())
    }

    fn now(&self) -> Nanos {
        nanos(self.sim.elapsed())
    }

    fn plan_at(&mut self, at: Nanos, what: Planned) {
        self.planned.insert((at, self.next_planned), what);
        self.next_planned += 1;
    }

    /// Does what is due.
    fn catch_up(&mut self, now: Nanos) {
        self.push(now);
        while let Some(next) = self.planned.first_entry().filter(|e| e.key().0 <= now) {
            match next.remove() {
                Planned::Timeline { number } => self.timeline(now, number),
                Planned::Push {
                    pod,
                    version,
                    deltas,
                } => {
                    let order = Order::Push { version, deltas };
                    let pods = &mut *self.world.pods.borrow_mut();
                    let state = &mut pods[pod as usize];
                    // A pod that has ended is told nothing.
                    let orders = state.orders.as_ref();
                    let _ = orders.map(|orders| orders.send(order));
                    if std::mem::take(&mut state.unconfigured) {
                        state.ready = true;
                        let own = self.plan.pods[pod as usize].pod.clone();
                        self.world.control_plane.borrow_mut().set_pod(now, own);
                    }
                }
                Planned::Noticed { pod, life } => self.crash_noticed(now, pod, life),
                Planned::Restart { pod, life } => {
                    if self.is_life(pod, life) {
                        self.restart(now, pod);
                    }
                }
                Planned::Terminated { pod, life } => {
                    if self.is_life(pod, life) {
                        self.stop(now, pod);
                    }
                }
            }
            self.push(now);
        }
    }

    fn is_life(&self, pod: u32, life: u32) -> bool {
        self.world.pods.borrow()[pod as usize].life == life
    }

    /// Sends what the control plane has to send.
    fn push(&mut self, now: Nanos) {
        let due = |deadline: Option<Nanos>| deadline.is_some_and(|deadline| deadline <= now);
        if !due(self.world.control_plane.borrow().deadline()) {
            return;
        }
        let pushes = self.world.control_plane.borrow_mut().tick(now);
        self.send_pushes(now, pushes);
    }

    fn send_pushes(&mut self, now: Nanos, pushes: Vec<Push>) {
        for push in pushes {
            let mut pods = self.plan.pods.iter();
            let Some(pod) = pods.position(|pod| pod.pod.identity().name == push.proxy) else {
                continue;
            };
            let key = mix(hash_text(&push.proxy) ^ mix(now.0));
            let delay: &Distribution = &self.plan.push_delay;
            let delay = delay.sample(self.push_draws, key, Purpose::PushDelay);
            let at = (now + delay).max(self.last_push_at[pod]);
            self.last_push_at[pod] = at;
            self.plan_at(
                at,
                Planned::Push {
                    pod: pod as u32,
                    version: push.version,
                    deltas: push.deltas,
                },
            );
        }
    }

    fn timeline(&mut self, now: Nanos, number: u32) {
        let event = &self.plan.timeline[number as usize];
        self.tally.happened(now, &event.name, event.what.clone());
        match &event.happening {
            PlanHappening::Config(objects) => {
                let mut control_plane = self.world.control_plane.borrow_mut();
                control_plane.set_objects(now, objects.clone());
            }
            PlanHappening::Scale { workload, replicas } => self.scale(now, *workload, *replicas),
            PlanHappening::Crash {
                pods,
                noticed_after,
                restart_after,
            } => {
                for &pod in pods {
                    self.crash(now, pod, *noticed_after, *restart_after);
                }
            }
            PlanHappening::Restart { pods } => pods.iter().for_each(|&pod| self.restart(now, pod)),
            PlanHappening::Drain { pods } => pods.iter().for_each(|&pod| self.drain(now, pod)),
            PlanHappening::Stop => self.world.control_plane.borrow_mut().stop(),
            PlanHappening::Start => {
                let pushes = self.world.control_plane.borrow_mut().start(now);
                self.send_pushes(now, pushes);
            }
            PlanHappening::Disconnect { pods } => self.set_streams(now, pods, false),
            PlanHappening::Reconnect { pods } => self.set_streams(now, pods, true),
            PlanHappening::Behave { pods, change } => {
                self.change_stations(pods, |station| station.change(change));
            }
            PlanHappening::Restore { pods, change } => {
                self.change_stations(pods, |station| station.restore(change));
            }
            // No proxy asks one there.
            PlanHappening::Mixer(_) => {}
            PlanHappening::Rate { traffic, per_s } => {
                let until = self.plan.traffic[*traffic as usize].until;
                self.world.sources[*traffic as usize].change_rate(now, until, *per_s);
            }
            PlanHappening::Users { traffic, users } => {
                self.world.sources[*traffic as usize].change_users(*users);
            }
        }
    }

    /// The streams of pods' proxies break, or are back.
    fn set_streams(&mut self, now: Nanos, pods: &[u32], connected: bool) {
        for &pod in pods {
            let name = self.plan.pods[pod as usize].pod.identity().name;
            let mut control_plane = self.world.control_plane.borrow_mut();
            if connected {
                let pushes = control_plane.reconnect(now, &name);
                drop(control_plane);
                self.send_pushes(now, pushes);
            } else {
                control_plane.break_stream(&name);
            }
        }
    }

    /// More workers may become free by a change of behaviour.
    fn change_stations(&self, pods: &[u32], change: impl Fn(&mut super::world::OwnStation)) {
        for &pod in pods {
            let application = &mut *self.world.applications[pod as usize].borrow_mut();
            change(&mut application.station);
            while let Some(job) = application.station.next_waiting() {
                application.start(job);
            }
        }
    }

    fn scale(&mut self, now: Nanos, workload: u32, replicas: u32) {
        let pods = &self.plan.workloads[workload as usize].pods;
        for (ordinal, &pod) in (0u32..).zip(pods) {
            let (there, life) = {
                let state = &self.world.pods.borrow()[pod as usize];
                (state.is_there(), state.life)
            };
            if ordinal < replicas && !there {
                self.restart(now, pod);
            } else if ordinal >= replicas && there {
                self.drain(now, pod);
                self.plan_at(now + TERMINATION_GRACE, Planned::Terminated { pod, life });
            }
        }
    }

    fn drain(&mut self, now: Nanos, pod: u32) {
        {
            let state = &mut self.world.pods.borrow_mut()[pod as usize];
            state.ready = false;
            state.unconfigured = false;
        }
        let mut own = self.plan.pods[pod as usize].pod.clone();
        own.terminating = true;
        self.world.control_plane.borrow_mut().set_pod(now, own);
    }

    fn crash(&mut self, now: Nanos, pod: u32, noticed_after: Nanos, restart_after: Option<Nanos>) {
        if !self.world.is_up(pod) {
            return;
        }
        self.break_off(now, pod);
        let life = self.world.pods.borrow()[pod as usize].life;
        self.plan_at(now + noticed_after, Planned::Noticed { pod, life });
        if let Some(after) = restart_after {
            self.plan_at(now + after, Planned::Restart { pod, life });
        }
    }

    fn crash_noticed(&mut self, now: Nanos, pod: u32, life: u32) {
        if !self.is_life(pod, life) {
            return;
        }
        self.world.pods.borrow_mut()[pod as usize].ready = false;
        let mut own = self.plan.pods[pod as usize].pod.clone();
        own.ready = false;
        self.world.control_plane.borrow_mut().set_pod(now, own);
    }

    /// A pod starts, or starts again.
    fn restart(&mut self, now: Nanos, pod: u32) {
        let was_up = {
            let state = &mut self.world.pods.borrow_mut()[pod as usize];
            if state.is_there() {
                return;
            }
            state.life += 1;
            state.ready = true;
            std::mem::replace(&mut state.up, true)
        };
        let own = &self.plan.pods[pod as usize].pod;
        let mut control_plane = self.world.control_plane.borrow_mut();
        control_plane.set_pod(now, own.clone());
        if !was_up {
            self.sim.bounce(own.ip);
        }
    }

    /// The end of a pod that was scaled away.
    fn stop(&mut self, now: Nanos, pod: u32) {
        if self.world.is_up(pod) {
            self.break_off(now, pod);
            let own = &self.plan.pods[pod as usize].pod;
            let mut control_plane = self.world.control_plane.borrow_mut();
            control_plane.remove_pod(now, &own.namespace, &own.name);
        }
    }

    /// A pod ends at once: its requests are lost and its connections break.
    fn break_off(&mut self, now: Nanos, pod: u32) {
        let own = &self.plan.pods[pod as usize].pod;
        let proxy = {
            let state = &mut self.world.pods.borrow_mut()[pod as usize];
            state.up = false;
            state.unconfigured = false;
            state.life += 1;
            state.orders = None;
            state.proxy.take()
        };
        if let Some(proxy) = proxy {
            let journal = proxy.driver.finish_journal();
            self.end_journal(&proxy.journal_name, journal);
            let name = own.identity().name;
            self.world.control_plane.borrow_mut().disconnect(&name);
        }
        self.sim.crash(own.ip);
        let application = &mut *self.world.applications[pod as usize].borrow_mut();
        application.lines = None;
        application.station.clear(now);
        for job in std::mem::take(&mut application.jobs).into_values() {
            self.world.report(Report::Served {
                pod,
                started_at: job.arrived_at,
                failed: true,
            });
        }
    }

    /// Counts what the hosts have reported, and passes on the journals.
    fn count(&mut self) {
        let reported = std::mem::take(&mut *self.world.reports.borrow_mut());
        for report in reported {
            let exchange = reports::count(self.plan, &mut self.tally, &mut self.observers, report);
            self.passes += u64::from(exchange);
        }
        if self.world.keeps_journals && self.now().0.is_multiple_of(JOURNAL_EVERY.0) {
            for pod in self.world.pods.borrow().iter() {
                if let Some(proxy) = &pod.proxy {
                    let bytes = proxy.driver.take_journal();
                    self.observers.journal(&proxy.journal_name, bytes);
                }
            }
        }
    }

    fn end_journal(&mut self, name: &str, journal: Vec<u8>) {
        if self.world.keeps_journals {
            self.observers.journal(name, journal);
        }
    }

    fn finish(mut self) -> Outcome {
        self.count();
        let (warmup, end) = (self.plan.warmup, self.plan.duration);
        let applications = self.world.applications.iter().take(self.plan.pods.len());
        let busy: Vec<Option<f64>> = applications
            .map(|application| application.borrow_mut().station.utilisation(warmup, end))
            .collect();
        let proxies: Vec<_> = {
            let mut pods = self.world.pods.borrow_mut();
            pods.iter_mut().filter_map(|pod| pod.proxy.take()).collect()
        };
        for proxy in proxies {
            let journal = proxy.driver.finish_journal();
            self.end_journal(&proxy.journal_name, journal);
        }
        Outcome {
            passes: self.passes,
            record: self.tally.finish(self.seed, "turmoil", &busy),
        }
    }
}
