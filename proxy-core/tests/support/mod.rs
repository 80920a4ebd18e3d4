//! A proxy with one worker on a scripted network, in virtual time.
// Each test binary uses its own part, and a broken script may stop it.
#![allow(dead_code, clippy::unwrap_used)]

mod answers;
mod made;
pub mod picks;

pub use made::*;

use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::head::{Headers, RequestHead, ResponseHead};
use proxy_core::ids::*;
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

pub fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

/// What an endpoint does with a connection or a request.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// Answers with a status after some milliseconds.
    Status(u16, u64),
    /// The same with headers.
    Answer(u16, u64, &'static [(&'static str, &'static str)]),
    /// Refuses connections after some milliseconds.
    Refuse(u64),
    /// Breaks the stream off after some milliseconds.
    Reset(ResetReason, u64),
    /// Closes the connection instead of answering, after some milliseconds.
    Hangup(u64),
    /// Takes requests and never answers.
    Silent,
    /// Connections never come up.
    Blackhole,
}

#[derive(Clone, Debug)]
enum Event {
    /// Number, downstream connection, head, and whether it is all of the request.
    Request(u64, u32, Arc<RequestHead>, bool),
    End(u64),
    BufferFull(u64),
    Input(Input),
    Main(MainInput),
    Behave(u8, Behaviour),
    Probes(u8, Option<ProbeOutcome>),
}

pub struct World {
    pub proxy: Proxy,
    pub outs: Outs,
    pub now: Nanos,
    events: BTreeMap<(Nanos, u64), Event>,
    sequence: u64,
    pub behaviours: BTreeMap<SocketAddr, Behaviour>,
    /// What health checks find; `None`: no answer.
    probes: BTreeMap<SocketAddr, Option<ProbeOutcome>>,
    /// What Mixer says, after some milliseconds; `None`: nothing.
    pub mixer: Option<(u64, Verdict)>,
    conns: BTreeMap<ConnId, SocketAddr>,
    pub logs: Vec<(Nanos, AccessLog)>,
    pub responses: Vec<(ExchangeId, Arc<ResponseHead>, Body)>,
    pub changes: Vec<(Nanos, StateChange)>,
    pub sent: Vec<(Nanos, SocketAddr, ConnId, Arc<RequestHead>, BodySource)>,
    pub actions: Vec<(Nanos, Action)>,
    exchanges: u32,
    started: u32,
    ids: BTreeMap<u64, ExchangeId>,
}

impl World {
    /// One cluster `c` of `hosts` endpoints behind one route `/`.
    pub fn of(cluster: Cluster, hosts: u8, forward: Forward) -> World {
        let mut world = World::with_routes(vec![route("/", RouteAction::Forward(forward))]);
        world.cluster(cluster, (1..=hosts).map(|n| (n, 0)).collect());
        world
    }

    pub fn with_routes(routes: Vec<Route>) -> World {
        let mut world = World::bare();
        let host = VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            routes: routes.into_iter().map(Arc::new).collect(),
            ..VirtualHost::default()
        };
        world.table(vec![host]);
        world
    }

    pub fn bare() -> World {
        World::with_identity(&Identity::new(1, "p".into(), 1))
    }

    pub fn with_identity(identity: &Identity) -> World {
        World {
            proxy: Proxy::new(identity),
            outs: Outs::new(1),
            now: Nanos::ZERO,
            events: BTreeMap::new(),
            sequence: 0,
            behaviours: BTreeMap::new(),
            probes: BTreeMap::new(),
            mixer: None,
            conns: BTreeMap::new(),
            logs: vec![],
            responses: vec![],
            changes: vec![],
            sent: vec![],
            actions: vec![],
            exchanges: 0,
            started: 0,
            ids: BTreeMap::new(),
        }
    }

    pub fn table(&mut self, hosts: Vec<VirtualHost>) {
        let table = RouteTable::new("t".into(), hosts, true);
        self.xds(XdsDelta::Routes {
            upsert: vec![Arc::new(table)],
            remove: vec![],
        });
        self.xds(XdsDelta::Listeners {
            upsert: vec![Arc::new(listener())],
            remove: vec![],
        });
        let opened = opened(0);
        self.input(Input::Opened(opened));
    }

    /// Endpoints are `(number, priority)`.
    pub fn cluster(&mut self, cluster: Cluster, hosts: Vec<(u8, u32)>) {
        let name = Arc::clone(&cluster.name);
        self.xds(XdsDelta::Clusters {
            upsert: vec![Arc::new(cluster)],
            remove: vec![],
        });
        self.endpoints(&name, hosts);
    }

    pub fn endpoints(&mut self, cluster: &str, hosts: Vec<(u8, u32)>) {
        self.xds(XdsDelta::Endpoints {
            upsert: vec![Arc::new(assignment(cluster, hosts))],
        });
    }

    pub fn xds(&mut self, delta: XdsDelta) {
        let input = MainInput::Xds { delta, version: 1 };
        self.main(input);
    }

    pub fn behave(&mut self, host: u8, behaviour: Behaviour) {
        self.behaviours.insert(address(host), behaviour);
    }

    pub fn behave_at(&mut self, at_ms: u64, host: u8, behaviour: Behaviour) {
        self.at(ms(at_ms), Event::Behave(host, behaviour));
    }

    pub fn input_at(&mut self, at_ms: u64, input: Input) {
        self.at(ms(at_ms), Event::Input(input));
    }

    /// What health checks of a host find from now on.
    pub fn probes_find(&mut self, host: u8, outcome: Option<ProbeOutcome>) {
        self.probes.insert(address(host), outcome);
    }

    pub fn probes_find_at(&mut self, at_ms: u64, host: u8, outcome: Option<ProbeOutcome>) {
        self.at(ms(at_ms), Event::Probes(host, outcome));
    }

    pub fn xds_at(&mut self, at_ms: u64, delta: XdsDelta) {
        self.at(ms(at_ms), Event::Main(MainInput::Xds { delta, version: 1 }));
    }

    /// A request at `at_ms`; its exchange has the number returned, which is also its key.
    pub fn get(&mut self, at_ms: u64, path: &str) -> u64 {
        self.request(at_ms, head(path, &[]))
    }

    pub fn request(&mut self, at_ms: u64, head: RequestHead) -> u64 {
        self.request_on(at_ms, 0, head)
    }

    /// A request on another downstream connection than the first.
    pub fn request_on(&mut self, at_ms: u64, downstream: u32, head: RequestHead) -> u64 {
        let number = u64::from(self.exchanges);
        self.exchanges += 1;
        self.at(
            ms(at_ms),
            Event::Request(number, downstream, Arc::new(head), true),
        );
        number
    }

    /// A request whose body ends only by [`World::end_at`].
    pub fn post(&mut self, at_ms: u64, head: RequestHead) -> u64 {
        let number = u64::from(self.exchanges);
        self.exchanges += 1;
        self.at(ms(at_ms), Event::Request(number, 0, Arc::new(head), false));
        number
    }

    pub fn end_at(&mut self, at_ms: u64, number: u64) {
        self.at(ms(at_ms), Event::End(number));
    }

    /// The body outgrows the buffer.
    pub fn outgrow_at(&mut self, at_ms: u64, number: u64) {
        self.at(ms(at_ms), Event::BufferFull(number));
    }

    fn at(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn after(&mut self, millis: u64, input: Input) {
        self.at(self.now + ms(millis), Event::Input(input));
    }

    /// Until `until_ms`, or until nothing is left but sweeps.
    pub fn run(&mut self, until_ms: u64) {
        loop {
            let event = self.events.keys().next().map(|key| key.0);
            let worker = self.proxy.worker(0).deadline();
            let main = self.proxy.main_deadline();
            let next = [event, worker, main].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= ms(until_ms)) else {
                self.now = self.now.max(ms(until_ms));
                return;
            };
            self.now = self.now.max(next);
            if main.is_some_and(|at| at <= self.now) {
                self.main(MainInput::Tick);
            } else if worker.is_some_and(|at| at <= self.now) {
                self.input(Input::Tick);
            } else if let Some((_, event)) = self.events.pop_first() {
                self.fire(event);
            }
        }
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::End(number) => {
                let exchange = self.ids[&number];
                self.input(Input::RequestEnd { exchange });
            }
            Event::BufferFull(number) => {
                let exchange = self.ids[&number];
                self.input(Input::BufferFull { exchange });
            }
            Event::Request(number, of, head, ends) => {
                let exchange = ExchangeId {
                    index: self.started,
                    generation: 0,
                };
                self.started += 1;
                self.ids.insert(number, exchange);
                self.input(Input::Request {
                    exchange,
                    downstream: downstream(of),
                    key: number,
                    head,
                    ends,
                });
            }
            Event::Input(input) => self.input(input),
            Event::Main(input) => self.main(input),
            Event::Behave(host, behaviour) => self.behave(host, behaviour),
            Event::Probes(host, outcome) => self.probes_find(host, outcome),
        }
    }

    pub fn main(&mut self, input: MainInput) {
        self.proxy
            .handle_main(self.now, input, &mut self.outs, None);
        self.act();
    }

    pub fn input(&mut self, input: Input) {
        self.proxy
            .handle_worker(self.now, 0, input, &mut self.outs, None);
        self.act();
    }

    fn act(&mut self) {
        let main = std::mem::take(&mut self.outs.main);
        let worker = std::mem::take(&mut self.outs.workers[0]);
        for out in [main, worker] {
            self.logs
                .extend(out.logs.into_iter().map(|l| (self.now, l)));
            self.changes
                .extend(out.changes.into_iter().map(|c| (self.now, c)));
            for action in out.actions {
                self.actions.push((self.now, action.clone()));
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, .. } => {
                self.conns.insert(conn, address);
                match self.behaviours.get(&address) {
                    Some(Behaviour::Blackhole) => {}
                    Some(Behaviour::Refuse(after)) => {
                        let reason = ConnectFailure::Refused;
                        self.after(*after, Input::ConnectFailed { conn, reason });
                    }
                    _ => self.after(0, Input::Connected { conn }),
                }
            }
            Action::Send {
                attempt,
                conn,
                head,
                source,
                ..
            } => {
                let address = self.conns[&conn];
                self.sent.push((self.now, address, conn, head, source));
                match self.behaviours.get(&address) {
                    Some(&Behaviour::Status(..) | &Behaviour::Answer(..)) => {
                        let (status, after, headers) = match self.behaviours[&address] {
                            Behaviour::Answer(status, after, headers) => (status, after, headers),
                            Behaviour::Status(status, after) => (status, after, &[][..]),
                            _ => unreachable!(),
                        };
                        let mut head = ResponseHead::of_status(status);
                        for (name, value) in headers {
                            head.headers.append((*name).into(), value.as_bytes());
                        }
                        let head = Arc::new(head);
                        let ends = true;
                        self.after(
                            after,
                            Input::ResponseHead {
                                attempt,
                                head,
                                ends,
                            },
                        );
                    }
                    Some(&Behaviour::Reset(reason, after)) => {
                        self.after(after, Input::Reset { attempt, reason });
                    }
                    Some(&Behaviour::Hangup(after)) => {
                        self.after(after, Input::ConnClosed { conn });
                    }
                    Some(_) => {}
                    None => {
                        let head = Arc::new(ResponseHead::of_status(200));
                        let ends = true;
                        self.after(
                            1,
                            Input::ResponseHead {
                                attempt,
                                head,
                                ends,
                            },
                        );
                    }
                }
            }
            Action::Respond {
                exchange,
                head,
                body,
            } => self.responses.push((exchange, head, body)),
            Action::Ask { exchange, .. } => {
                if let Some((after, verdict)) = self.mixer.clone() {
                    self.after(after, Input::Answered { exchange, verdict });
                }
            }
            Action::Probe { probe, .. } => {
                let found = self.probes.get(&probe.address).copied();
                let healthy = ProbeOutcome::Status(200);
                if let Some(outcome) = found.unwrap_or(Some(healthy)) {
                    let answer = MainInput::Probed { probe, outcome };
                    self.at(self.now + ms(1), Event::Main(answer));
                }
            }
            _ => {}
        }
    }
}

pub const RESET: &str = "upstream connect error or disconnect/reset before headers. ";

/// Every exchange has ended once and gave back what it took.
pub fn settled(world: &World, exchanges: usize) {
    assert_eq!(world.logs.len(), exchanges);
    assert_eq!(world.slots(), [0; 4]);
}
