//! The discrete-event engine: a request is an object, not bytes, and time jumps from event to event.
//!
//! | module | holds |
//! |---|---|
//! | [`arrivals`] | when requests of an open-loop source arrive |
//! | `queue` | the event queue |
//! | `schedule` | what is scheduled, and requests on their way |
//! | `links` | latencies |
//! | `station` | applications as queueing stations |
//! | `jobs` | what applications do for a request |
//! | `sources`, `clients`, `lines` | sources, calls and their connections |
//! | `proxies`, `connections`, `flights` | the driver of the core |
//! | `actions`, `probes` | what the core asks for |
//! | `mixer` | the Mixer that proxies of 2017 ask |
//! | `logs` | what the core reports |
//! | `control` | the control plane and the timeline |

mod actions;
pub mod arrivals;
mod clients;
mod connections;
mod control;
mod flights;
mod heads;
mod jobs;
mod lines;
mod links;
mod logs;
mod mixer;
mod probes;
mod proxies;
mod queue;
mod schedule;
mod sources;
pub(crate) mod station;

use crate::observe::{Observers, Outcome};
use crate::plan::{Place, Plan, PlanBehavior};
use crate::random::WorldDraws;
use crate::tally::Tally;
use clients::Call;
use control::PendingPush;
use control_plane::{ControlPlane, ProxyKind};
use heads::Heads;
use indexmap::IndexMap;
use jobs::Job;
use lines::{Direct, Line, Pool, PoolKey};
use links::{Links, Locality};
use mixer::{MixerState, PendingVerdict};
use probes::PendingProbe;
use proxies::ProxyState;
use proxy_core::slab::Slab;
use proxy_core::time::Nanos;
use queue::EventQueue;
use rustc_hash::FxBuildHasher;
use schedule::{Answer, Event, Flight};
use sources::Source;
use station::Station;
use std::net::IpAddr;

/// After the end of a run, requests in flight have this long to finish.
const GRACE: Nanos = Nanos::from_secs(60);
/// Events between two reports of progress.
const PROGRESS_EVERY: u32 = 1 << 16;

/// A pod as it is now.
#[derive(Debug)]
struct PodState {
    locality: Locality,
    /// Runs, and takes connections.
    up: bool,
    /// In its endpoints as far as clients without a proxy can tell.
    ready: bool,
    /// Its proxy has no configuration yet, so that it is not ready.
    unconfigured: bool,
    /// Its proxy's place, if it has one; of a node's proxy: that of its outgoing router.
    proxy: Option<u32>,
    /// Of a node's proxy: the place of its incoming router.
    incoming: Option<u32>,
    /// The pod that is the proxy of its node, where nodes have one.
    node: Option<u32>,
    /// The pod with the proxy that takes what it sends: itself or that of its node.
    sends_through: Option<u32>,
    /// Counts crashes, restarts and scalings: what was scheduled for an earlier life is void.
    life: u32,
}

impl PodState {
    /// Runs, and is to stay.
    fn is_there(&self) -> bool {
        self.up && (self.ready || self.unconfigured)
    }
}

/// Everything there is.
struct World<'p, 'o> {
    plan: &'p Plan,
    seed: u64,
    queue: EventQueue<Event>,
    tally: Tally<'p>,
    observers: Observers<'o>,
    links: Links,
    heads: Heads,
    places: IndexMap<IpAddr, Place, FxBuildHasher>,
    pods: Vec<PodState>,
    /// Those of pods, then those outside.
    stations: Vec<Station<&'p PlanBehavior>>,
    jobs: Slab<Job>,
    sources: Vec<Source<'p>>,
    calls: Slab<Call>,
    pools: IndexMap<PoolKey, Pool, FxBuildHasher>,
    lines: Slab<Line>,
    /// By client's pod, Service and port; most recently used last.
    idle_direct: IndexMap<(u32, u32, u16), Vec<Direct>, FxBuildHasher>,
    proxies: Vec<ProxyState>,
    flights: Slab<Flight>,
    answers: Slab<Answer>,
    probes: Slab<PendingProbe>,
    mixer: Option<MixerState>,
    verdicts: Slab<PendingVerdict>,
    control_plane: ControlPlane,
    control_timer_at: Nanos,
    pushes: Slab<PendingPush>,
    push_draws: WorldDraws,
    /// Requests that reached a proxy.
    passes: u64,
}

/// Runs `plan` with `seed`. The same plan and seed give the same outcome.
pub fn run(plan: &Plan, seed: u64, observers: Observers<'_>) -> Outcome {
    let mut world = World::new(plan, seed, observers);
    world.start();
    let end = plan.duration + GRACE;
    let mut until_report = PROGRESS_EVERY;
    while let Some(event) = world.queue.pop(end) {
        world.happen(event);
        until_report -= 1;
        if until_report == 0 {
            until_report = PROGRESS_EVERY;
            world.report_progress();
        }
        if world.queue.now() >= plan.duration && world.calls.is_empty() {
            break;
        }
    }
    world.finish()
}

impl<'p, 'o> World<'p, 'o> {
    fn new(plan: &'p Plan, seed: u64, observers: Observers<'o>) -> World<'p, 'o> {
        let links = Links::new(plan, seed);
        let pods = (0u32..).zip(&plan.pods).map(|(number, pod)| PodState {
            locality: links.locality(&pod.pod.locality),
            up: pod.at_start,
            ready: pod.at_start,
            unconfigured: false,
            proxy: None,
            incoming: None,
            node: pod.node,
            sends_through: match pod.pod.proxy {
                ProxyKind::None => None,
                ProxyKind::Node => pod.node,
                _ => Some(number),
            },
            life: 0,
        });
        let pods = pods.collect();
        let of_pods = plan.pods.iter().map(|pod| {
            let workload = &plan.workloads[pod.workload as usize];
            (&workload.behavior, workload.full_name())
        });
        let outside = plan
            .externals
            .iter()
            .map(|place| (&place.behavior, place.host.clone()));
        let stations = of_pods.chain(outside).map(|(behavior, name)| {
            Station::new(behavior, WorldDraws::new(seed, &name), plan.warmup)
        });
        let stations = stations.collect();
        World {
            plan,
            seed,
            queue: EventQueue::new(),
            tally: Tally::new(plan),
            observers,
            heads: Heads::new(&plan.heads),
            places: plan.places(),
            pods,
            stations,
            jobs: Slab::new(),
            sources: plan
                .traffic
                .iter()
                .map(|traffic| Source::new(traffic, seed))
                .collect(),
            calls: Slab::new(),
            pools: IndexMap::default(),
            lines: Slab::new(),
            idle_direct: IndexMap::default(),
            proxies: Vec::new(),
            flights: Slab::new(),
            answers: Slab::new(),
            probes: Slab::new(),
            mixer: plan
                .mixer
                .as_ref()
                .map(|mixer| MixerState::new(mixer, seed)),
            verdicts: Slab::new(),
            control_plane: plan.control_plane.clone(),
            control_timer_at: Nanos::MAX,
            pushes: Slab::new(),
            push_draws: WorldDraws::new(seed, "push"),
            passes: 0,
            links,
        }
    }

    fn start(&mut self) {
        for pod in 0..self.pods.len() as u32 {
            if self.pods[pod as usize].up {
                self.start_proxies(pod);
            }
        }
        for number in 0..self.plan.timeline.len() as u32 {
            self.queue.at(
                self.plan.timeline[number as usize].at,
                Event::Timeline { number },
            );
        }
        for source in 0..self.sources.len() as u32 {
            self.start_source(source);
        }
        self.set_control_timer();
    }

    #[inline]
    fn happen(&mut self, event: Event) {
        match event {
            Event::Request { flight } => self.request_arrives(flight),
            Event::Response { answer } => self.response_arrives(answer),
            Event::WorkDone { job, generation } => {
                if self.jobs.holds(job, generation) {
                    self.work_done(job);
                }
            }
            Event::SharedWorkDone { station, epoch } => self.shared_work_done(station, epoch),
            Event::Arrival { source, epoch } => self.arrive(source, epoch),
            Event::UserWakes { source, user } => self.user_wakes(source, user),
            Event::CallTimeout {
                call,
                generation,
                tried,
            } => {
                self.call_timed_out(call, generation, tried);
            }
            Event::Dialed {
                proxy,
                worker,
                conn,
            } => self.dialed(proxy, worker, conn),
            Event::ConnClosed {
                proxy,
                worker,
                conn,
            } => self.conn_closed(proxy, worker, conn),
            Event::HungUp {
                proxy,
                worker,
                conn,
            } => self.hung_up(proxy, worker, conn),
            Event::DownstreamClosed {
                proxy,
                worker,
                downstream,
            } => {
                self.downstream_closed(proxy, worker, downstream);
            }
            Event::StreamReset {
                proxy,
                worker,
                from,
            } => self.stream_reset(proxy, worker, from),
            Event::ProbeArrives { probe } => self.probe_arrives(probe),
            Event::ProbeAnswered { probe } => self.probe_answered(probe),
            Event::MixerAnswers { answer } => self.mixer_answers(answer),
            Event::ProxyTimer { proxy } => self.proxy_timer(proxy),
            Event::ControlPlaneTimer => self.control_plane_timer(),
            Event::Push { push } => self.push_arrives(push),
            Event::Timeline { number } => self.timeline(number),
            Event::Noticed { pod, life } => self.crash_noticed(pod, life),
            Event::Restart { pod, life } => {
                if self.pods[pod as usize].life == life {
                    self.restart(pod);
                }
            }
            Event::Terminated { pod, life } => {
                if self.pods[pod as usize].life == life {
                    self.stop(pod);
                }
            }
        }
    }

    /// In the same pod or on the same node, so that no network is between them.
    #[inline]
    fn together(&self, a: Option<u32>, b: Option<u32>) -> bool {
        let (Some(a), Some(b)) = (a, b) else {
            return false;
        };
        let node = |pod: u32| self.pods.get(pod as usize)?.node;
        a == b || node(a).is_some_and(|of_a| node(b) == Some(of_a))
    }

    fn report_progress(&mut self) {
        let done = self.queue.now().as_secs_f64() / self.plan.duration.as_secs_f64();
        self.observers.progress(done.min(1.0));
    }

    fn finish(mut self) -> Outcome {
        let (warmup, end) = (self.plan.warmup, self.plan.duration);
        let pods = self.stations.iter_mut().take(self.plan.pods.len());
        let busy: Vec<Option<f64>> = pods
            .map(|station| station.utilisation(warmup, end))
            .collect();
        self.finish_journals();
        Outcome {
            passes: self.passes,
            record: self.tally.finish(self.seed, "event", &busy),
        }
    }
}
