//! What all hosts of a run share. Hosts run one after another on one thread.

use super::clients::Lines;
use super::network::Net;
use super::reports::Report;
use super::sources::SourceState;
use super::{constant, nanos};
use crate::event::station::Station;
use crate::plan::{Place, Plan, PlanBehavior};
use crate::random::{WorldDraws, pick};
use control_plane::ControlPlane;
use indexmap::IndexMap;
use proxy::Driver;
use proxy_core::head::RequestHead;
use proxy_core::random::mix;
use proxy_core::telemetry::Flags;
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
use rustc_hash::FxBuildHasher;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A pod as it is now.
#[derive(Default)]
pub(super) struct PodState {
    /// Runs, and takes connections.
    pub(super) up: bool,
    /// In its endpoints as far as clients without a proxy can tell.
    pub(super) ready: bool,
    /// Its proxy has no configuration yet, so that it is not ready.
    pub(super) unconfigured: bool,
    /// Counts crashes, restarts and scalings: what was planned for an earlier life is void.
    pub(super) life: u32,
    /// Its proxy, if it has one and runs.
    pub(super) proxy: Option<RunningProxy>,
    /// How often a proxy was started.
    pub(super) starts: u32,
    /// What the host is to do; `None` until it runs.
    pub(super) orders: Option<mpsc::UnboundedSender<Order>>,
}

impl PodState {
    /// Runs, and is to stay.
    pub(super) fn is_there(&self) -> bool {
        self.up && (self.ready || self.unconfigured)
    }
}

#[derive(Clone)]
pub(super) struct RunningProxy {
    pub(super) driver: Driver<Net>,
    pub(super) journal_name: String,
}

/// What a host is told from outside.
pub(super) enum Order {
    Push {
        version: u64,
        deltas: Vec<XdsDelta>,
    },
    /// Make a request of a source from here; the answer is its end.
    Ask {
        source: u32,
        key: u64,
        head: Arc<RequestHead>,
        ended: oneshot::Sender<()>,
    },
}

/// Hosts outlive any borrow.
pub(super) type OwnStation = Station<Rc<PlanBehavior>>;

/// An application: its station, and the requests that are there.
pub(super) struct Application {
    pub(super) station: OwnStation,
    pub(super) jobs: BTreeMap<u32, Job>,
    pub(super) next_job: u32,
    /// Its connections to others, once it runs.
    pub(super) lines: Option<Rc<Lines>>,
}

/// A request at an application.
pub(super) struct Job {
    pub(super) arrived_at: Nanos,
    /// Tells it to start, if it waits for a worker.
    pub(super) start: Option<oneshot::Sender<()>>,
}

/// A request to a proxy whose flags its client waits for: the proxy's pod and the key.
type Watched = BTreeMap<(u32, u64), Flags>;

pub(super) struct World {
    pub(super) plan: Rc<Plan>,
    pub(super) seed: u64,
    pub(super) pods: RefCell<Vec<PodState>>,
    /// Those of pods, then those outside.
    pub(super) applications: Vec<RefCell<Application>>,
    pub(super) sources: Vec<SourceState>,
    pub(super) control_plane: RefCell<ControlPlane>,
    pub(super) reports: RefCell<Vec<Report>>,
    pub(super) watched: RefCell<Watched>,
    /// Requests of clients, and calls of applications, in progress.
    pub(super) open_calls: Cell<u64>,
    /// Proxies started so far.
    pub(super) proxies: Cell<u32>,
    pub(super) keeps_journals: bool,
    places: IndexMap<IpAddr, Place, FxBuildHasher>,
}

impl World {
    pub(super) fn new(plan: Rc<Plan>, seed: u64, keeps_journals: bool) -> World {
        let pods = plan.pods.iter().map(|pod| PodState {
            up: pod.at_start,
            ready: pod.at_start,
            ..PodState::default()
        });
        let of_pods = plan.pods.iter().map(|pod| {
            let workload = &plan.workloads[pod.workload as usize];
            (&workload.behavior, workload.full_name())
        });
        let outside = plan.externals.iter();
        let outside = outside.map(|place| (&place.behavior, place.host.clone()));
        let applications = of_pods.chain(outside).map(|(behavior, name)| {
            let draws = WorldDraws::new(seed, &name);
            RefCell::new(Application {
                station: Station::new(Rc::new(behavior.clone()), draws, plan.warmup),
                jobs: BTreeMap::new(),
                next_job: 0,
                lines: None,
            })
        });
        let sources = plan.traffic.iter().map(|t| SourceState::new(t, seed));
        World {
            pods: RefCell::new(pods.collect()),
            applications: applications.collect(),
            sources: sources.collect(),
            control_plane: RefCell::new(plan.control_plane.clone()),
            reports: RefCell::default(),
            watched: RefCell::default(),
            open_calls: Cell::new(0),
            proxies: Cell::new(0),
            keeps_journals,
            places: plan.places(),
            plan,
            seed,
        }
    }

    /// The time, on the host that runs.
    pub(super) fn now(&self) -> Nanos {
        nanos(turmoil::sim_elapsed().unwrap_or_default())
    }

    pub(super) fn report(&self, report: Report) {
        self.reports.borrow_mut().push(report);
    }

    pub(super) fn place(&self, ip: IpAddr) -> Option<Place> {
        self.places.get(&ip).copied()
    }

    pub(super) fn ip_of(&self, pod: u32) -> IpAddr {
        self.plan.pods[pod as usize].pod.ip
    }

    pub(super) fn is_up(&self, pod: u32) -> bool {
        self.pods.borrow()[pod as usize].up
    }

    pub(super) fn driver_of(&self, pod: u32) -> Option<Driver<Net>> {
        let pods = self.pods.borrow();
        let proxy = pods[pod as usize].proxy.as_ref();
        proxy.map(|proxy| proxy.driver.clone())
    }

    /// The latency, one way, between two pods; `None` is outside.
    pub(super) fn latency(&self, a: Option<u32>, b: Option<u32>) -> Nanos {
        let locality =
            |pod: Option<u32>| pod.map_or("", |pod| &*self.plan.pods[pod as usize].pod.locality);
        constant(self.plan.network.between(locality(a), locality(b)))
    }

    /// A ready pod of a Service, as clients without a proxy are led to one.
    pub(super) fn ready_pod(&self, service: u32, key: u64) -> Option<u32> {
        let value = mix(key ^ self.seed.rotate_left(32));
        let pods = self.pods.borrow();
        let fits = |pod: u32| pods[pod as usize].ready;
        pick(&self.plan.services[service as usize].pods, value, fits)
    }

    /// The connections of an application to others.
    pub(super) fn lines_of(self: &Rc<World>, station: u32) -> Rc<Lines> {
        let mut application = self.applications[station as usize].borrow_mut();
        let make = || Rc::new(Lines::of_application(Rc::clone(self), station));
        Rc::clone(application.lines.get_or_insert_with(make))
    }

    /// Ends the circles: proxies and connections hold the world, and it holds them.
    pub(super) fn forget(&self) {
        for pod in self.pods.borrow_mut().iter_mut() {
            pod.proxy = None;
        }
        for application in &self.applications {
            application.borrow_mut().lines = None;
        }
    }
}
