//! A proxy between a client and scripted endpoints, in virtual time.

use crate::case::Case;
use control_plane::Resources;
use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::head::{Headers, RequestHead, ResponseHead};
use proxy_core::ids::*;
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One way over loopback.
const HOP: Nanos = Nanos(50_000);
/// What an endpoint takes beside its scripted delay.
const WORK: Nanos = Nanos(250_000);

/// A request that reached an endpoint.
pub struct Hit {
    pub endpoint: usize,
    pub mirrored: bool,
    pub head: Arc<RequestHead>,
}

/// How one request ended.
pub struct Answer {
    pub log: Option<AccessLog>,
    /// 0: none.
    pub status: u16,
    pub head: Option<Arc<ResponseHead>>,
    /// Written by the proxy.
    pub body: Option<String>,
    pub took: Nanos,
    pub hits: Vec<Hit>,
    /// Cluster and endpoint of the log by name.
    pub cluster: Option<String>,
    pub endpoint: Option<SocketAddr>,
}

/// What is sent.
#[derive(Clone)]
pub struct Ask {
    pub head: Arc<RequestHead>,
    pub body: u64,
}

struct Server {
    behavior: Value,
    /// Requests since the script last changed.
    count: u64,
    conns: Vec<ConnId>,
}

enum Event {
    Start {
        user: usize,
    },
    Input(Input),
    Arrive {
        attempt: AttemptId,
        conn: ConnId,
        head: Arc<RequestHead>,
        source: BodySource,
    },
}

struct Pending {
    user: usize,
    number: usize,
    started_at: Nanos,
    answer: Answer,
    /// The request's body, and how much of it the proxy keeps.
    body: u64,
    limit: Option<u64>,
}

pub struct World {
    proxy: Proxy,
    outs: Outs,
    pub now: Nanos,
    events: BTreeMap<(Nanos, u64), Event>,
    sequence: u64,
    servers: Vec<Server>,
    addresses: Vec<SocketAddr>,
    conns: BTreeMap<ConnId, usize>,
    port: u16,
    /// Exchanges so far, which is also the next key.
    exchanges: u32,
    downstreams: u32,
    pending: BTreeMap<u32, Pending>,
    /// Which exchange a key belongs to, mirrors included, after its end too.
    hits: BTreeMap<u32, Vec<Hit>>,
    pub changes: Vec<StateChange>,
    /// Connections asked for.
    pub connects: u32,
    /// Why the proxy would not have its configuration.
    pub refused: Option<String>,
}

impl World {
    pub fn new(case: &Case, resources: &Resources, seed: u64) -> World {
        let identity = Identity::new(seed, "client".into(), 1);
        let mut world = World {
            proxy: Proxy::new(&identity),
            outs: Outs::new(1),
            now: Nanos::from_secs(1),
            events: BTreeMap::new(),
            sequence: 0,
            servers: case
                .endpoints
                .iter()
                .map(|e| Server {
                    behavior: e.behavior.clone(),
                    count: 0,
                    conns: Vec::new(),
                })
                .collect(),
            addresses: case.endpoints.iter().map(|e| e.address).collect(),
            conns: BTreeMap::new(),
            port: case.port,
            exchanges: 0,
            downstreams: 0,
            pending: BTreeMap::new(),
            hits: BTreeMap::new(),
            changes: Vec::new(),
            connects: 0,
            refused: None,
        };
        let resources = resources.clone();
        for delta in [
            XdsDelta::Clusters {
                upsert: resources.clusters,
                remove: vec![],
            },
            XdsDelta::Endpoints {
                upsert: resources.endpoints,
            },
            XdsDelta::Listeners {
                upsert: resources.listeners,
                remove: vec![],
            },
            XdsDelta::Routes {
                upsert: resources.routes,
                remove: vec![],
            },
        ] {
            world.main(MainInput::Xds { delta, version: 1 });
        }
        // It has been up for a while.
        world.wait(Nanos::from_secs(3));
        world
    }

    /// Changes what endpoints do, by id.
    pub fn script(&mut self, case: &Case, set: &Value) {
        for (id, behavior) in set.as_object().unwrap() {
            let at = case.endpoints.iter().position(|e| e.id == *id).unwrap();
            let server = &mut self.servers[at];
            server.behavior = behavior.clone();
            server.count = 0;
            if behavior["mode"] == "refuse" {
                for conn in std::mem::take(&mut server.conns) {
                    self.after(HOP, Event::Input(Input::ConnClosed { conn }));
                }
            }
        }
    }

    /// Sends `asks` from so many connections, each waiting for its answer before the next; the
    /// answers in the order of the asks.
    pub fn run(&mut self, asks: &[Ask], concurrency: usize) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = asks.iter().map(|_| None).collect();
        let mut numbers = BTreeMap::new();
        let first = self.downstreams;
        for user in 0..concurrency {
            let downstream = downstream(self.downstreams);
            self.downstreams += 1;
            self.input(Input::Opened(Opened {
                downstream,
                peer: SocketAddr::from(([127, 0, 0, 1], 40_000 + user as u16)),
                original_dst: SocketAddr::from(([240, 240, 1, 7], self.port)),
                direction: Direction::Outbound,
                tls: None,
                protocol: Protocol::Http1,
            }));
            self.after(HOP, Event::Start { user });
        }
        let mut asked = 0;
        let mut left = asks.len();
        while left > 0 {
            let event = self.next_event(Nanos::MAX).expect("something is to happen");
            if let Event::Start { user } = event {
                if let Some(ask) = asks.get(asked) {
                    numbers.insert(self.exchanges, asked);
                    self.start(user, downstream(first + user as u32), asked, ask);
                    asked += 1;
                }
            } else {
                self.fire(event);
            }
            let ended: Vec<u32> = self
                .pending
                .iter()
                .filter(|(_, p)| p.answer.log.is_some())
                .map(|(e, _)| *e)
                .collect();
            for exchange in ended {
                let ended = self.pending.remove(&exchange).unwrap();
                answers[ended.number] = Some(ended.answer);
                left -= 1;
                self.after(HOP, Event::Start { user: ended.user });
            }
        }
        for user in 0..concurrency as u32 {
            self.input(Input::DownstreamClosed {
                downstream: downstream(first + user),
            });
        }
        self.wait(Nanos::from_millis(1));
        let mut answers: Vec<Answer> = answers.into_iter().map(Option::unwrap).collect();
        for (exchange, number) in numbers {
            answers[number].hits = self.hits.remove(&exchange).unwrap_or_default();
        }
        answers
    }

    /// Lets time pass.
    pub fn wait(&mut self, span: Nanos) {
        let until = self.now + span;
        while let Some(event) = self.next_event(until) {
            if !matches!(event, Event::Start { .. }) {
                self.fire(event);
            }
        }
        self.now = until;
    }

    fn start(&mut self, user: usize, downstream: DownstreamId, number: usize, ask: &Ask) {
        let exchange = ExchangeId {
            index: self.exchanges,
            generation: 0,
        };
        self.pending.insert(
            self.exchanges,
            Pending {
                user,
                number,
                started_at: self.now,
                answer: Answer {
                    log: None,
                    status: 0,
                    head: None,
                    body: None,
                    took: Nanos::ZERO,
                    hits: Vec::new(),
                    cluster: None,
                    endpoint: None,
                },
                body: ask.body,
                limit: None,
            },
        );
        let key = u64::from(self.exchanges);
        self.exchanges += 1;
        self.input(Input::Request {
            exchange,
            downstream,
            key,
            head: Arc::clone(&ask.head),
            ends: ask.body == 0,
        });
        let Some(pending) = self.pending.get(&exchange.index) else {
            return;
        };
        if ask.body > 0 && pending.answer.log.is_none() {
            if pending.limit.is_some_and(|limit| pending.body > limit) {
                self.input(Input::BufferFull { exchange });
            }
            self.input(Input::RequestEnd { exchange });
        }
    }

    fn after(&mut self, span: Nanos, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + span, self.sequence), event);
    }

    /// What the driver does next; the proxy's timers go off on the way.
    fn next_event(&mut self, until: Nanos) -> Option<Event> {
        loop {
            let event = self.events.keys().next().map(|key| key.0);
            let worker = self.proxy.worker(0).deadline();
            let main = self.proxy.main_deadline();
            let next = [event, worker, main].into_iter().flatten().min()?;
            if next > until {
                return None;
            }
            self.now = self.now.max(next);
            if main.is_some_and(|at| at <= self.now) {
                self.main(MainInput::Tick);
            } else if worker.is_some_and(|at| at <= self.now) {
                self.input(Input::Tick);
                // It may have ended an exchange.
                if self.pending.values().any(|p| p.answer.log.is_some()) {
                    return Some(Event::Input(Input::Tick));
                }
            } else {
                return self.events.pop_first().map(|(_, event)| event);
            }
        }
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::Start { .. } => {}
            Event::Input(Input::ConnClosed { conn }) => {
                if self.conns.remove(&conn).is_some() {
                    self.input(Input::ConnClosed { conn });
                }
            }
            Event::Input(input) => self.input(input),
            Event::Arrive {
                attempt,
                conn,
                head,
                source,
            } => self.arrive(attempt, conn, head, source),
        }
    }

    fn arrive(
        &mut self,
        attempt: AttemptId,
        conn: ConnId,
        head: Arc<RequestHead>,
        source: BodySource,
    ) {
        let Some(&at) = self.conns.get(&conn) else {
            return;
        };
        let server = &mut self.servers[at];
        let behavior = server.behavior.clone();
        if behavior["mode"] == "reset" {
            return;
        }
        server.count += 1;
        let count = server.count;
        let (BodySource::Exchange(exchange) | BodySource::Mirror(exchange)) = source;
        self.hits.entry(exchange.index).or_default().push(Hit {
            endpoint: at,
            mirrored: matches!(source, BodySource::Mirror(_)),
            head,
        });
        let number = |key: &str| behavior[key].as_u64();
        let delay = WORK + Nanos::from_millis(number("delay_ms").unwrap_or(0)) + HOP;
        if let Some("reset_after_request" | "close") = behavior["mode"].as_str() {
            return self.after(delay, Event::Input(Input::ConnClosed { conn }));
        }
        let mut status = number("status").unwrap_or(200);
        let fails = number("fail_every").is_some_and(|every| count.is_multiple_of(every))
            || count <= number("fail_first").unwrap_or(0);
        if fails {
            status = number("fail_status").unwrap_or(503);
        }
        let mut headers = Headers::default();
        let kind = if behavior["body"].is_string() {
            "text/plain"
        } else {
            "application/json"
        };
        headers.append("content-type".into(), kind.as_bytes());
        for (name, value) in behavior["headers"].as_object().into_iter().flatten() {
            headers.append(
                name.to_ascii_lowercase().into(),
                value.as_str().unwrap().as_bytes(),
            );
        }
        let head = Arc::new(ResponseHead {
            status: status as u16,
            headers,
        });
        self.after(
            delay,
            Event::Input(Input::ResponseHead {
                attempt,
                head,
                ends: true,
            }),
        );
    }

    fn main(&mut self, input: MainInput) {
        self.proxy
            .handle_main(self.now, input, &mut self.outs, None);
        self.act();
    }

    fn input(&mut self, input: Input) {
        self.proxy
            .handle_worker(self.now, 0, input, &mut self.outs, None);
        self.act();
    }

    fn act(&mut self) {
        let main = std::mem::take(&mut self.outs.main);
        let worker = std::mem::take(&mut self.outs.workers[0]);
        for out in [main, worker] {
            self.changes.extend(out.changes);
            for action in out.actions {
                self.carry_out(action);
            }
            for log in out.logs {
                self.ended(log);
            }
        }
    }

    fn ended(&mut self, log: AccessLog) {
        let worker = self.proxy.worker(0);
        let Some(pending) = self.pending.get_mut(&log.exchange.index) else {
            return;
        };
        pending.answer.took = self.now + HOP - pending.started_at;
        pending.answer.status = log.status;
        pending.answer.cluster = log
            .cluster
            .and_then(|id| worker.cluster_name(id))
            .map(|name| name.to_string());
        pending.answer.endpoint = log.endpoint.and_then(|id| worker.endpoint_address(id));
        pending.answer.log = Some(log);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, .. } => {
                let at = self
                    .addresses
                    .iter()
                    .position(|a| *a == address)
                    .expect("an endpoint of the case");
                self.connects += 1;
                let server = &mut self.servers[at];
                let mode = server.behavior["mode"].as_str().unwrap_or("ok").to_owned();
                if mode == "refuse" {
                    let reason = ConnectFailure::Refused;
                    return self.after(HOP, Event::Input(Input::ConnectFailed { conn, reason }));
                }
                server.conns.push(conn);
                self.conns.insert(conn, at);
                self.after(HOP, Event::Input(Input::Connected { conn }));
                if mode == "reset" {
                    self.after(HOP + HOP, Event::Input(Input::ConnClosed { conn }));
                }
            }
            Action::CloseConn { conn } => {
                self.conns.remove(&conn);
            }
            Action::Send {
                attempt,
                conn,
                source,
                head,
                ordinal,
                announce_ordinal,
                expected_timeout_ms,
                grpc_timeout_ms,
            } => {
                let mut head = head;
                let mirrored = matches!(source, BodySource::Mirror(_));
                let lines = [
                    (
                        "x-envoy-attempt-count",
                        announce_ordinal,
                        ordinal.to_string(),
                    ),
                    (
                        "x-envoy-expected-rq-timeout-ms",
                        expected_timeout_ms > 0,
                        expected_timeout_ms.to_string(),
                    ),
                    (
                        "grpc-timeout",
                        grpc_timeout_ms > 0,
                        format!("{grpc_timeout_ms}m"),
                    ),
                    ("x-envoy-internal", mirrored, "true".to_owned()),
                    ("x-forwarded-for", mirrored, "<local-ip>".to_owned()),
                ];
                for (name, _, value) in lines.into_iter().filter(|(_, sent, _)| *sent) {
                    let head = Arc::make_mut(&mut head);
                    head.headers.set(name.into(), value.as_bytes());
                }
                self.after(
                    HOP,
                    Event::Arrive {
                        attempt,
                        conn,
                        head,
                        source,
                    },
                );
            }
            Action::Respond {
                exchange,
                head,
                body,
            } => {
                let Some(pending) = self.pending.get_mut(&exchange.index) else {
                    return;
                };
                pending.answer.head = Some(head);
                pending.answer.body = match body {
                    Body::Relay(_) => None,
                    Body::Local(text) => Some(text.to_string()),
                    Body::Empty => Some(String::new()),
                };
            }
            Action::Buffer { exchange, limit } => {
                if let Some(pending) = self.pending.get_mut(&exchange.index) {
                    pending.limit = Some(limit);
                }
            }
            Action::Nack { reason, .. } => self.refused = Some(reason.to_string()),
            _ => {}
        }
    }
}

fn downstream(index: u32) -> DownstreamId {
    DownstreamId {
        index,
        generation: 0,
    }
}
