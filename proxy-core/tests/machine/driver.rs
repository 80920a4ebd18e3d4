//! A driver that says what it is told to, of exchanges and connections that there are.

use crate::step::Step;
use crate::support::{self, head, listener, ms, opened};
use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::head::ResponseHead;
use proxy_core::ids::*;
use proxy_core::journal::Journal;
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

/// What a driver knows of one worker.
#[derive(Default)]
struct Side {
    conns: Vec<ConnId>,
    connecting: Vec<ConnId>,
    protocols: BTreeMap<ConnId, Protocol>,
    /// With the connection, and whether the head of the response has come.
    attempts: Vec<(AttemptId, ConnId, bool)>,
    live: BTreeMap<u32, ExchangeId>,
    generations: Vec<u32>,
    free: Vec<u32>,
    started: usize,
    ended: usize,
    past: Vec<Input>,
}

impl Side {
    /// The `n`-th attempt whose response head has come, or has not.
    fn waiting(&self, n: usize, head: bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.attempts.len())
            .filter(|&at| self.attempts[at].2 == head)
            .collect();
        (!all.is_empty()).then(|| all[n % all.len()])
    }
}

pub const MOST_STREAMS: usize = 2;

pub struct Driver {
    pub proxy: Proxy,
    outs: Outs,
    pub now: Nanos,
    sides: Vec<Side>,
    journal: Journal,
    keys: u64,
    pub generation: u32,
    pub cluster: Cluster,
    probes: Vec<ProbeId>,
}

impl Driver {
    pub fn new(workers: u32) -> Driver {
        let identity = Identity::new(3, "p".into(), workers);
        let mut driver = Driver {
            proxy: Proxy::new(&identity),
            outs: Outs::new(workers),
            now: Nanos::ZERO,
            sides: (0..workers).map(|_| Side::default()).collect(),
            journal: Journal::new(&identity),
            keys: 0,
            generation: 0,
            cluster: support::cluster(),
            probes: Vec::new(),
        };
        driver.breakers(3);
        driver.endpoints(3);
        driver.routes();
        driver.xds(XdsDelta::Listeners {
            upsert: vec![Arc::new(listener())],
            remove: vec![],
        });
        for worker in 0..workers {
            driver.input(worker, Input::Opened(opened(0)));
            driver.input(
                worker,
                Input::Opened(Opened {
                    protocol: Protocol::Http2,
                    ..opened(1)
                }),
            );
        }
        driver
    }

    pub fn main(&mut self, input: MainInput) {
        let witness = Some(&mut self.journal as &mut dyn proxy_core::proxy::Witness);
        self.proxy
            .handle_main(self.now, input, &mut self.outs, witness);
        self.act();
    }

    fn input(&mut self, worker: u32, input: Input) {
        let witness = Some(&mut self.journal as &mut dyn proxy_core::proxy::Witness);
        self.proxy
            .handle_worker(self.now, worker, input, &mut self.outs, witness);
        self.act();
    }

    fn act(&mut self) {
        for action in std::mem::take(&mut self.outs.main).actions {
            if let Action::Probe { probe, .. } = action {
                self.probes.push(probe);
            }
        }
        for (out, side) in self.outs.workers.iter_mut().zip(&mut self.sides) {
            for action in out.actions.drain(..) {
                match action {
                    Action::Connect {
                        conn,
                        address,
                        protocol,
                        ..
                    } => {
                        assert!((1..8).any(|n| address == support::address(n)));
                        side.protocols.insert(conn, protocol);
                        side.connecting.push(conn);
                    }
                    Action::CloseConn { conn } => {
                        assert!(!side.attempts.iter().any(|a| a.1 == conn), "still in use");
                        let known = side.conns.len() + side.connecting.len();
                        side.conns.retain(|c| *c != conn);
                        side.connecting.retain(|c| *c != conn);
                        let left = side.conns.len() + side.connecting.len();
                        assert_eq!(left + 1, known, "closed once");
                    }
                    Action::Send { attempt, conn, .. } => {
                        assert!(side.conns.contains(&conn), "sent on what is up");
                        let streams = side.attempts.iter().filter(|a| a.1 == conn).count();
                        let most = match side.protocols[&conn] {
                            Protocol::Http1 => 1,
                            Protocol::Http2 => MOST_STREAMS,
                        };
                        assert!(streams < most, "no more at once than it can");
                        side.attempts.push((attempt, conn, false));
                    }
                    Action::Cancel { attempt, .. } => {
                        side.attempts.retain(|a| a.0 != attempt);
                    }
                    Action::Respond { exchange, .. } | Action::Abort { exchange } => {
                        assert_eq!(side.live.get(&exchange.index), Some(&exchange));
                    }
                    _ => {}
                }
            }
            for log in out.logs.drain(..) {
                let ended = side.live.remove(&log.exchange.index);
                assert_eq!(ended, Some(log.exchange), "one log for each exchange");
                side.free.push(log.exchange.index);
                side.ended += 1;
            }
            out.changes.clear();
        }
    }

    pub fn wait(&mut self, millis: u64) {
        let until = self.now + ms(millis);
        loop {
            let workers = 0..self.proxy.workers();
            let next = workers
                .filter_map(|w| Some((self.proxy.worker(w).deadline()?, Some(w))))
                .chain(self.proxy.main_deadline().map(|at| (at, None)))
                .min();
            match next.filter(|next| next.0 <= until) {
                None => break,
                Some((at, who)) => {
                    self.now = self.now.max(at);
                    match who {
                        None => self.main(MainInput::Tick),
                        Some(worker) => self.input(worker, Input::Tick),
                    }
                }
            }
        }
        self.now = until;
    }

    pub fn step(&mut self, worker: u32, step: Step) {
        let side = &mut self.sides[worker as usize];
        let pick = |n: usize, len: usize| (len > 0).then(|| n % len.max(1));
        let exchange = |side: &Side, n: usize| {
            pick(n, side.live.len()).and_then(|at| side.live.values().nth(at).copied())
        };
        let input = match step {
            Step::Request {
                path,
                downstream,
                ends,
            } => {
                let index = match side.free.pop() {
                    Some(index) => index,
                    None => {
                        side.generations.push(0);
                        side.generations.len() as u32 - 1
                    }
                };
                let generation = &mut side.generations[index as usize];
                *generation += 1;
                let exchange = ExchangeId {
                    index,
                    generation: *generation,
                };
                side.live.insert(index, exchange);
                side.started += 1;
                self.keys += 1;
                Some(Input::Request {
                    exchange,
                    downstream: DownstreamId {
                        index: downstream,
                        generation: 0,
                    },
                    key: self.keys,
                    head: Arc::new(head(
                        ["/plain", "/full", "/slow", "/none", "/hedged", "/hedged"][path],
                        if path == 5 { GRPC } else { &[] },
                    )),
                    ends,
                })
            }
            Step::RequestEnd(n) => exchange(side, n).map(|exchange| Input::RequestEnd { exchange }),
            Step::BufferFull(n) => exchange(side, n).map(|exchange| Input::BufferFull { exchange }),
            Step::Cancel(n) => exchange(side, n).map(|exchange| Input::Cancelled { exchange }),
            Step::Connected(n) => pick(n, side.connecting.len()).map(|at| {
                let conn = side.connecting.remove(at);
                side.conns.push(conn);
                Input::Connected { conn }
            }),
            Step::Refused(n) => pick(n, side.connecting.len()).map(|at| Input::ConnectFailed {
                conn: side.connecting.remove(at),
                reason: ConnectFailure::Refused,
            }),
            Step::Closed(n) => pick(n, side.conns.len()).map(|at| {
                let conn = side.conns.remove(at);
                side.attempts.retain(|a| a.1 != conn);
                Input::ConnClosed { conn }
            }),
            Step::GoAway(n) => pick(n, side.conns.len()).map(|at| Input::GoAway {
                conn: side.conns[at],
            }),
            Step::Settings(n, max_concurrent_streams) => {
                let all = side.conns.len() + side.connecting.len();
                let conn = |at| side.conns.iter().chain(&side.connecting).nth(at);
                pick(n, all).and_then(conn).map(|&conn| Input::Settings {
                    conn,
                    max_concurrent_streams,
                })
            }
            Step::Probed(n, outcome) => {
                if let Some(at) = pick(n, self.probes.len()) {
                    // Also those long given up.
                    let probe = self.probes.remove(at);
                    self.main(MainInput::Probed { probe, outcome });
                }
                None
            }
            Step::Head {
                attempt,
                status,
                ends,
            } => side.waiting(attempt, false).map(|at| {
                let attempt = side.attempts[at].0;
                side.attempts[at].2 = true;
                if ends {
                    side.attempts.remove(at);
                }
                Input::ResponseHead {
                    attempt,
                    head: Arc::new(ResponseHead::of_status(status)),
                    ends,
                }
            }),
            Step::End(n) => side.waiting(n, true).map(|at| Input::ResponseEnd {
                attempt: side.attempts.remove(at).0,
            }),
            Step::Reset(n) => pick(n, side.attempts.len()).map(|at| Input::Reset {
                attempt: side.attempts.remove(at).0,
                reason: ResetReason::RemoteReset,
            }),
            Step::Stale(n) => pick(n, side.past.len()).map(|at| side.past[at].clone()),
            Step::Wait(millis) => {
                self.wait(millis);
                None
            }
            Step::Endpoints(n) => {
                self.endpoints(n);
                None
            }
            Step::Breakers(limit) => {
                self.breakers(limit);
                None
            }
            Step::Policies {
                protocol,
                checks,
                statistics,
            } => {
                self.policies(protocol, checks, statistics);
                None
            }
            Step::RemoveCluster => {
                self.xds(XdsDelta::Clusters {
                    upsert: vec![],
                    remove: vec!["c".into()],
                });
                None
            }
            Step::Routes => {
                self.routes();
                None
            }
            Step::Leave => {
                let downstream = DownstreamId {
                    index: 0,
                    generation: 0,
                };
                self.input(worker, Input::DownstreamClosed { downstream });
                self.input(worker, Input::Opened(opened(0)));
                None
            }
        };
        if let Some(input) = input {
            self.input(worker, input.clone());
            self.remember(worker, input);
        }
    }

    /// Inputs about what is over are kept, to be said again later.
    fn remember(&mut self, worker: u32, input: Input) {
        let side = &mut self.sides[worker as usize];
        let over = match &input {
            Input::Cancelled { .. } | Input::ConnClosed { .. } | Input::ConnectFailed { .. } => {
                true
            }
            Input::Reset { .. } => true,
            Input::ResponseHead { ends, .. } => *ends,
            Input::ResponseEnd { .. } => true,
            _ => false,
        };
        if over {
            side.past.push(input);
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        for worker in 0..self.proxy.workers() {
            for exchange in self.sides[worker as usize].live.clone().into_values() {
                self.input(worker, Input::Cancelled { exchange });
            }
        }
        // Mirrors of routes with a timeout give up on their own.
        self.wait(1000);
        for worker in 0..self.proxy.workers() {
            let side = &self.sides[worker as usize];
            assert_eq!((side.started, side.live.len()), (side.ended, 0));
            assert_eq!(self.proxy.worker(worker).slots_taken(), [0; 4]);
        }
        self.journal.finish()
    }
}
