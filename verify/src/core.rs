//! The core's side: a proxy on one thread in virtual time, with upstreams that do as the real ones.

use crate::mapping::label;
use crate::seen::{ATTEMPT, Asked, Hit, Script, Seen};
use control_plane::Resources;
use proxy_core::contract::{
    Action, Body, BodySource, ConnectFailure, Input, MainInput, Opened, Protocol, ResetReason,
    Verdict,
};
use proxy_core::head::{Headers, RequestHead, ResponseHead};
use proxy_core::ids::{AttemptId, ConnId, DownstreamId, ExchangeId};
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::{NetworkFilter, RouteSource, RouteTable, XdsDelta};
use proxy_core::{Identity, xds::Name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// One way over loopback, and what an upstream takes.
const HOP: Nanos = Nanos(50_000);

/// Hosts that warm up for longer are asked while they do.
const LONGEST_WARMUP: Nanos = Nanos::from_secs(10);

/// Seeds besides the first.
const OTHERS: std::ops::RangeInclusive<u64> = 2..=6;

/// A proxy of its own for one configuration.
pub(crate) struct Core {
    proxy: Proxy,
    outs: Outs,
    now: Nanos,
    events: BTreeMap<(Nanos, u64), Input>,
    sequence: u64,
    asked: u32,
    told: Resources,
    upstreams: Rc<BTreeSet<SocketAddr>>,
    /// Where each goes, what it speaks, and how often it was used.
    conns: BTreeMap<ConnId, (SocketAddr, Protocol, u32)>,
    tables: Vec<Arc<RouteTable>>,
    current: Current,
    took: Nanos,
}

#[derive(Default)]
struct Current {
    closed: bool,
    answer: Option<(Arc<ResponseHead>, Option<Name>)>,
    log: Option<AccessLog>,
    hits: Vec<Hit>,
    script: Script,
}

impl Core {
    /// Told all of `resources`, and up for a while.
    pub(crate) fn new(resources: &Resources, upstreams: Rc<BTreeSet<SocketAddr>>) -> Core {
        Core::seeded(1, resources, upstreams)
    }

    /// The same with balancers that begin elsewhere. Where endpoints take turns, a request and its
    /// copies may draw the same lots for ever, and others at Envoy.
    pub(crate) fn others(&self) -> impl Iterator<Item = Core> {
        OTHERS.map(|seed| Core::seeded(seed, &self.told, Rc::clone(&self.upstreams)))
    }

    fn seeded(seed: u64, resources: &Resources, upstreams: Rc<BTreeSet<SocketAddr>>) -> Core {
        let identity = Identity::new(seed, "verify".into(), 1);
        let mut core = Core {
            proxy: Proxy::new(&identity),
            outs: Outs::new(1),
            now: Nanos::from_secs(1),
            events: BTreeMap::new(),
            sequence: 0,
            asked: 0,
            told: resources.clone(),
            upstreams,
            conns: BTreeMap::new(),
            tables: tables(resources),
            current: Current::default(),
            took: Nanos::ZERO,
        };
        let all = resources.clone();
        let deltas = [
            XdsDelta::Clusters {
                upsert: all.clusters,
                remove: Vec::new(),
            },
            XdsDelta::Endpoints {
                upsert: all.endpoints,
            },
            XdsDelta::Listeners {
                upsert: all.listeners,
                remove: Vec::new(),
            },
            XdsDelta::Routes {
                upsert: all.routes,
                remove: Vec::new(),
            },
        ];
        for delta in deltas {
            core.main(MainInput::Xds { delta, version: 1 });
        }
        core.wait(Nanos::from_secs(3).max(warmup(resources)));
        core
    }

    /// What becomes of a request on a connection of its own. `key` decides everything random.
    pub(crate) fn ask(&mut self, asked: &Asked, key: u64) -> Seen {
        let number = self.asked;
        self.asked += 1;
        let downstream = DownstreamId {
            index: 0,
            generation: number,
        };
        let exchange = ExchangeId {
            index: 0,
            generation: number,
        };
        self.current = Current {
            script: asked.script(),
            ..Current::default()
        };
        self.input(Input::Opened(Opened {
            downstream,
            peer: asked.peer,
            original_dst: asked.destination,
            direction: asked.direction,
            tls: None,
            protocol: Protocol::Http1,
        }));
        if !self.current.closed {
            let head = Arc::clone(&asked.head);
            self.input(Input::Request {
                exchange,
                downstream,
                key,
                head,
                ends: true,
            });
            while self.current.log.is_none() && self.step() {}
        }
        // Mirrored requests may still be on their way.
        while !self.events.is_empty() && self.step() {}
        self.input(Input::DownstreamClosed { downstream });
        self.now += Nanos::from_millis(1);
        self.seen()
    }

    /// How long the last request took.
    pub(crate) fn took(&self) -> Nanos {
        self.took
    }

    fn seen(&mut self) -> Seen {
        let current = std::mem::take(&mut self.current);
        let mut seen = Seen {
            closed: current.closed,
            hits: current.hits,
            ..Seen::default()
        };
        seen.hits.sort();
        if let Some((head, body)) = current.answer {
            seen.response_headers = texts(&head.headers);
            seen.response_headers.sort();
            seen.body = body.map(|text| text.to_string());
        }
        if let Some(log) = current.log {
            self.took = log.duration;
            let worker = self.proxy.worker(0);
            let route = log.decision.as_ref().and_then(|decision| decision.route());
            seen.route = route.and_then(|route| self.place(route));
            let cluster = log.cluster.and_then(|cluster| worker.cluster_name(cluster));
            seen.cluster = cluster.map(ToString::to_string);
            seen.endpoint = log
                .endpoint
                .and_then(|endpoint| worker.endpoint_address(endpoint));
            seen.status = log.status;
            seen.flags = log.flags.to_string();
            seen.details = log.details.to_string();
            seen.attempts = log.attempts;
        }
        seen
    }

    fn place(&self, route: &Arc<proxy_core::xds::Route>) -> Option<String> {
        self.tables.iter().find_map(|table| {
            let mut hosts = table.virtual_hosts.iter().enumerate();
            hosts.find_map(|(host_at, host)| {
                let at = host.routes.iter().position(|one| Arc::ptr_eq(one, route))?;
                Some(label(table, host_at, at))
            })
        })
    }

    fn after(&mut self, span: Nanos, input: Input) {
        self.sequence += 1;
        self.events.insert((self.now + span, self.sequence), input);
    }

    fn wait(&mut self, span: Nanos) {
        let until = self.now + span;
        while self.next().is_some_and(|at| at <= until) && self.step() {}
        self.now = until;
    }

    fn next(&self) -> Option<Nanos> {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let timers = [self.proxy.worker(0).deadline(), self.proxy.main_deadline()];
        timers.into_iter().flatten().chain(event).min()
    }

    /// Lets the next thing happen; false if there is none.
    fn step(&mut self) -> bool {
        let Some(next) = self.next() else {
            return false;
        };
        self.now = self.now.max(next);
        if self.proxy.main_deadline().is_some_and(|at| at <= self.now) {
            self.main(MainInput::Tick);
        } else if self
            .proxy
            .worker(0)
            .deadline()
            .is_some_and(|at| at <= self.now)
        {
            self.input(Input::Tick);
        } else if let Some((_, input)) = self.events.pop_first() {
            self.input(input);
        }
        true
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
            for action in out.actions {
                self.carry_out(action);
            }
            self.current.log = out.logs.into_iter().next_back().or(self.current.log.take());
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect {
                conn,
                address,
                protocol,
                ..
            } => {
                if self.upstreams.contains(&address) {
                    self.conns.insert(conn, (address, protocol, 0));
                    self.after(HOP, Input::Connected { conn });
                } else {
                    let reason = ConnectFailure::Refused;
                    self.after(HOP, Input::ConnectFailed { conn, reason });
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
                let mut headers = head.headers.clone();
                let mut announce = |name: &str, value: String| {
                    headers.set(name.into(), value.as_bytes());
                };
                if announce_ordinal {
                    announce(ATTEMPT, ordinal.to_string());
                }
                if expected_timeout_ms > 0 {
                    let millis = expected_timeout_ms.to_string();
                    announce("x-envoy-expected-rq-timeout-ms", millis);
                }
                if grpc_timeout_ms > 0 {
                    announce("grpc-timeout", format!("{grpc_timeout_ms}m"));
                }
                if matches!(source, BodySource::Mirror(_)) {
                    announce("x-envoy-internal", "true".to_owned());
                }
                self.arrive(attempt, conn, &head, &headers);
            }
            Action::Respond { head, body, .. } => {
                let local = match body {
                    Body::Local(text) if ![204, 304].contains(&head.status) => Some(text),
                    // Those statuses go without a body, whatever there is.
                    Body::Local(_) | Body::Empty | Body::Relay(_) => None,
                };
                self.current.answer = Some((head, local));
            }
            Action::CloseDownstream { .. } => self.current.closed = self.current.log.is_none(),
            // A real Envoy asks no Mixer.
            Action::Ask { exchange, .. } => {
                let verdict = Verdict::Allowed;
                self.after(Nanos::ZERO, Input::Answered { exchange, verdict });
            }
            // All names have become addresses before; bodies are empty.
            _ => {}
        }
    }

    fn arrive(&mut self, attempt: AttemptId, conn: ConnId, head: &RequestHead, headers: &Headers) {
        let Some((endpoint, protocol, used)) = self.conns.get_mut(&conn) else {
            return;
        };
        let (endpoint, protocol, before) = (*endpoint, *protocol, *used);
        *used += 1;
        let step = self.current.script.step(&self.current.hits).clone();
        self.current.hits.push(Hit {
            endpoint,
            before,
            method: head.method.to_string(),
            authority: head.authority.to_string(),
            path: head.path.to_string(),
            headers: texts(headers),
        });
        let delay = HOP + HOP + step.after;
        if step.reset {
            let reason = ResetReason::RemoteReset;
            let reset = match protocol {
                Protocol::Http2 => Input::Reset { attempt, reason },
                _ => Input::ConnClosed { conn },
            };
            return self.after(delay, reset);
        }
        let mut head = ResponseHead::of_status(step.status);
        for (name, value) in &step.headers {
            head.headers.set(name.as_str().into(), value.as_bytes());
        }
        let head = Arc::new(head);
        let ends = !step.has_body();
        let input = Input::ResponseHead {
            attempt,
            head,
            ends,
        };
        self.after(delay, input);
        if !ends {
            self.after(delay, Input::ResponseEnd { attempt });
        }
    }
}

/// Until hosts of slow start take their whole share, or so long that nobody waits for it.
pub(crate) fn warmup(resources: &Resources) -> Nanos {
    let clusters = resources.clusters.iter();
    let windows = clusters.filter_map(|cluster| Some(cluster.slow_start.as_ref()?.window));
    windows.max().unwrap_or(Nanos::ZERO).min(LONGEST_WARMUP)
}

/// Every route table, inline ones too.
fn tables(resources: &Resources) -> Vec<Arc<RouteTable>> {
    let mut tables = resources.routes.clone();
    for listener in &resources.listeners {
        for chain in listener.chains() {
            if let NetworkFilter::Http(manager) = &chain.filter
                && let RouteSource::Inline(table) = &manager.routes
            {
                tables.push(Arc::clone(table));
            }
        }
    }
    tables
}

fn texts(headers: &Headers) -> Vec<(String, String)> {
    let latin1 = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect();
    let lines = headers.0.iter();
    lines
        .map(|(name, value)| (name.to_string(), latin1(value.as_bytes())))
        .collect()
}
