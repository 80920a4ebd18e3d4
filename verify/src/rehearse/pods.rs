//! Stand-ins for a scenario's pods: HTTP servers on loopback that behave in time as the pods'
//! applications do, and break off, vanish and come back when the pods would.

use super::REQUEST;
use super::clock::Clock;
use super::happenings::{PodChange, PodEvent};
use crate::seen::ATTEMPT;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy_core::contract::BodySource;
use proxy_core::ids::ExchangeId;
use proxy_core::random::key_of_try;
use proxy_core::time::Nanos;
use sim::plan::PlanBehavior;
use sim::{Admission, Plan, Station};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet, spawn_local};

/// All pods that a proxy may be sent to.
pub(super) struct Pods {
    clock: Clock,
    pods: Vec<Rc<Pod>>,
    lateness: Rc<Lateness>,
}

/// How much later than intended answers went out.
#[derive(Default)]
struct Lateness {
    answers: Cell<u64>,
    sum_ns: Cell<u64>,
}

/// One pod.
struct Pod {
    clock: Clock,
    /// Where the proxy's clusters have it.
    addresses: Vec<SocketAddr>,
    /// Added to each answer: the network both ways, and the proxies' own time.
    delay: Nanos,
    /// Of the script's arrivals.
    keys: Rc<Vec<u64>>,
    lateness: Rc<Lateness>,
    application: RefCell<Application>,
    /// Empty while the pod is down.
    servers: RefCell<JoinSet<()>>,
    /// On requests that were not answered yet.
    work: RefCell<JoinSet<()>>,
}

struct Application {
    station: Station<Arc<PlanBehavior>>,
    next_job: u32,
    /// Requests that wait for a worker.
    waiting: BTreeMap<u32, oneshot::Sender<()>>,
}

impl Pods {
    /// Everyone of `plan` that has an address among `addresses`, with its servers if it is there at
    /// the start. `delay` gives what is added to a pod's answers.
    pub(super) async fn start(
        plan: &Plan,
        seed: u64,
        addresses: &[SocketAddr],
        keys: Vec<u64>,
        delay: impl Fn(u32) -> Nanos,
        clock: Clock,
    ) -> io::Result<Pods> {
        let keys = Rc::new(keys);
        let lateness = Rc::<Lateness>::default();
        let mut pods = Vec::new();
        for (number, planned) in (0u32..).zip(&plan.pods) {
            let own = addresses
                .iter()
                .filter(|address| address.ip() == planned.pod.ip);
            let pod = Rc::new(Pod {
                clock,
                addresses: own.copied().collect(),
                delay: delay(number),
                keys: Rc::clone(&keys),
                lateness: Rc::clone(&lateness),
                application: RefCell::new(Application {
                    station: Station::of_pod(plan, number, seed),
                    next_job: 0,
                    waiting: BTreeMap::new(),
                }),
                servers: RefCell::default(),
                work: RefCell::default(),
            });
            if planned.at_start {
                pod.come_up().await?;
            }
            pods.push(pod);
        }
        Ok(Pods {
            clock,
            pods,
            lateness,
        })
    }

    /// How late answers were, on average.
    pub(super) fn late(&self) -> Nanos {
        Nanos(self.lateness.sum_ns.get() / self.lateness.answers.get().max(1))
    }

    /// Has everything happen in its time.
    pub(super) async fn follow(&self, events: &[PodEvent]) -> io::Result<()> {
        for event in events {
            self.clock.wait_until(event.at).await;
            let pod = &self.pods[event.pod as usize];
            match &event.change {
                PodChange::Up => pod.come_up().await?,
                PodChange::Down => pod.go_down(),
                PodChange::Behave(change) => {
                    let application = &mut *pod.application.borrow_mut();
                    application.station.change(change);
                    application.start_waiting();
                }
                PodChange::Restore(change) => {
                    let application = &mut *pod.application.borrow_mut();
                    application.station.restore(change);
                    application.start_waiting();
                }
            }
        }
        Ok(())
    }
}

impl Pod {
    async fn come_up(self: &Rc<Pod>) -> io::Result<()> {
        if !self.servers.borrow().is_empty() {
            return Ok(());
        }
        for address in &self.addresses {
            let listener = TcpListener::bind(address).await?;
            let pod = Rc::clone(self);
            self.servers.borrow_mut().spawn_local(pod.accept(listener));
        }
        Ok(())
    }

    /// Connections break, and no new ones are taken. All work is lost.
    fn go_down(&self) {
        self.servers.borrow_mut().abort_all();
        *self.servers.borrow_mut() = JoinSet::new();
        *self.work.borrow_mut() = JoinSet::new();
        let application = &mut *self.application.borrow_mut();
        application.station.clear(self.clock.now());
        application.waiting.clear();
    }

    async fn accept(self: Rc<Pod>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        // An error of one accept concerns a connection that is gone already.
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                connections.spawn_local(Rc::clone(&self).serve(stream));
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn serve(self: Rc<Pod>, stream: TcpStream) {
        // Answers are small and alone on their way.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| answer(Rc::clone(&self), request));
        // A proxy that closes its connection does not concern the pod.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

/// The answer to a request. Its work goes on if the proxy gives it up.
async fn answer(
    pod: Rc<Pod>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, oneshot::error::RecvError> {
    let status = begin_work(pod, request).await?;
    let mut response = Response::new(Empty::new());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}

fn begin_work(pod: Rc<Pod>, request: Request<Incoming>) -> oneshot::Receiver<u16> {
    let (answer, answered) = oneshot::channel();
    let worker = Rc::clone(&pod);
    let mut running = pod.work.borrow_mut();
    while running.try_join_next().is_some() {}
    running.spawn_local(async move {
        // Nobody listens if the proxy has left.
        let _ = answer.send(work(&worker, &request).await);
    });
    answered
}

async fn work(pod: &Pod, request: &Request<Incoming>) -> u16 {
    let arrived = pod.clock.now();
    let key = pod.key_of(request);
    let behavior = Arc::clone(&pod.application.borrow().station.behavior);
    let script = behavior.script_for(request.uri().path());
    let started = match pod.admit(arrived) {
        Start::Refused => {
            pod.clock.wait_until(arrived + pod.delay).await;
            return 503;
        }
        Start::Now => arrived,
        Start::Later(start) => {
            if start.await.is_err() {
                return 503;
            }
            pod.clock.now()
        }
    };
    let work = pod.application.borrow().station.service_time(script, key);
    pod.clock.wait_until(started + work).await;
    let status = pod.application.borrow().station.status(script, key);
    pod.release();
    let at = started + work + pod.delay;
    pod.clock.wait_until(at).await;
    pod.lateness.note(pod.clock.now().0.saturating_sub(at.0));
    status
}

impl Lateness {
    fn note(&self, ns: u64) {
        self.answers.set(self.answers.get() + 1);
        self.sum_ns.set(self.sum_ns.get() + ns);
    }
}

enum Start {
    Now,
    Later(oneshot::Receiver<()>),
    Refused,
}

impl Pod {
    /// What the event engine would key the same try by.
    fn key_of(&self, request: &Request<Incoming>) -> u64 {
        let number = |name: &str| {
            let text = request.headers().get(name)?.to_str().ok()?;
            text.parse::<u32>().ok()
        };
        let arrival = number(REQUEST).unwrap_or_default();
        let key = self.keys.get(arrival as usize).copied().unwrap_or_default();
        let exchange = ExchangeId {
            index: 0,
            generation: 0,
        };
        key_of_try(
            key,
            BodySource::Exchange(exchange),
            number(ATTEMPT).unwrap_or(1),
        )
    }

    fn admit(&self, now: Nanos) -> Start {
        let application = &mut *self.application.borrow_mut();
        let job = application.next_job;
        application.next_job = job.wrapping_add(1);
        match application.station.admit(now, job) {
            Admission::Refused => Start::Refused,
            Admission::Starts => Start::Now,
            Admission::Waits => {
                let (start, started) = oneshot::channel();
                application.waiting.insert(job, start);
                Start::Later(started)
            }
        }
    }

    fn release(&self) {
        let application = &mut *self.application.borrow_mut();
        if let Some(job) = application.station.release(self.clock.now()) {
            application.begin(job);
        }
    }
}

impl Application {
    fn begin(&mut self, job: u32) {
        if let Some(start) = self.waiting.remove(&job) {
            // A job that is gone needs no worker.
            let _ = start.send(());
        }
    }

    fn start_waiting(&mut self) {
        while let Some(job) = self.station.next_waiting() {
            self.begin(job);
        }
    }
}

/// An address that takes no connection and refuses none: its queue of connections is full.
pub(super) struct BlackHole {
    _listener: TcpListener,
    _queue: JoinHandle<Vec<io::Result<TcpStream>>>,
}

impl BlackHole {
    pub(super) fn at(address: SocketAddr) -> io::Result<BlackHole> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1)?;
        let fill = async move {
            let mut queue = Vec::new();
            let patience = std::time::Duration::from_millis(100);
            while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await
            {
                queue.push(stream);
            }
            queue
        };
        Ok(BlackHole {
            _listener: listener,
            _queue: spawn_local(fill),
        })
    }
}
