//! Whatever a driver says, in whatever order, the machines keep their books.

mod support;

use proptest::prelude::*;
use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::head::ResponseHead;
use proxy_core::ids::*;
use proxy_core::journal::{Journal, ReplayError, replay};
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{assignment, head, listener, ms, opened, retries, route};

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

fn limit(max_tokens: u32) -> LocalRateLimit {
    LocalRateLimit {
        max_tokens,
        tokens_per_fill: 3,
        fill_interval: ms(100),
        enabled: Fraction::ppm(900_000),
        enforced: Fraction::ppm(900_000),
        per_connection: false,
        status: 429,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Request {
        path: usize,
        downstream: u32,
        ends: bool,
    },
    RequestEnd(usize),
    BufferFull(usize),
    Cancel(usize),
    Connected(usize),
    Refused(usize),
    Closed(usize),
    GoAway(usize),
    Settings(usize, u32),
    Probed(usize, ProbeOutcome),
    Head {
        attempt: usize,
        status: u16,
        ends: bool,
    },
    End(usize),
    Reset(usize),
    Stale(usize),
    Wait(u64),
    Endpoints(u8),
    Breakers(u32),
    Policies {
        protocol: HttpProtocol,
        checks: usize,
        statistics: bool,
    },
    RemoveCluster,
    Routes,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..64;
    prop_oneof![
        8 => (0usize..6, 0u32..2, any::<bool>())
            .prop_map(|(path, downstream, ends)| Step::Request { path, downstream, ends }),
        2 => n.clone().prop_map(Step::RequestEnd),
        1 => n.clone().prop_map(Step::BufferFull),
        1 => n.clone().prop_map(Step::Cancel),
        8 => n.clone().prop_map(Step::Connected),
        2 => n.clone().prop_map(Step::Refused),
        1 => n.clone().prop_map(Step::Closed),
        1 => n.clone().prop_map(Step::GoAway),
        1 => (n.clone(), 0u32..5).prop_map(|(conn, most)| Step::Settings(conn, most)),
        3 => (n.clone(), prop::sample::select(OUTCOMES.to_vec()))
            .prop_map(|(probe, outcome)| Step::Probed(probe, outcome)),
        8 => (n.clone(), prop::sample::select(vec![200, 503, 500, 409]), any::<bool>())
            .prop_map(|(attempt, status, ends)| Step::Head { attempt, status, ends }),
        4 => n.clone().prop_map(Step::End),
        2 => n.clone().prop_map(Step::Reset),
        2 => n.prop_map(Step::Stale),
        4 => (0u64..400).prop_map(Step::Wait),
        2 => (0u64..80).prop_map(Step::Wait),
        1 => (0u8..8).prop_map(Step::Endpoints),
        1 => (0u32..4).prop_map(Step::Breakers),
        2 => (prop::sample::select(PROTOCOLS.to_vec()), 0usize..3, any::<bool>()).prop_map(
            |(protocol, checks, statistics)| Step::Policies { protocol, checks, statistics }
        ),
        1 => Just(Step::RemoveCluster),
        1 => Just(Step::Routes),
        1 => Just(Step::Leave),
    ]
}

const PROTOCOLS: [HttpProtocol; 3] = [
    HttpProtocol::Http1,
    HttpProtocol::Http2,
    HttpProtocol::UseDownstream,
];

const OUTCOMES: [ProbeOutcome; 4] = [
    ProbeOutcome::Status(200),
    ProbeOutcome::Status(200),
    ProbeOutcome::Status(503),
    ProbeOutcome::Failed,
];

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

const MOST_STREAMS: usize = 2;

struct Driver {
    proxy: Proxy,
    outs: Outs,
    now: Nanos,
    sides: Vec<Side>,
    journal: Journal,
    keys: u64,
    generation: u32,
    cluster: Cluster,
    probes: Vec<ProbeId>,
}

impl Driver {
    fn new(workers: u32) -> Driver {
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

    fn xds(&mut self, delta: XdsDelta) {
        self.main(MainInput::Xds { delta, version: 1 });
    }

    fn breakers(&mut self, limit: u32) {
        self.cluster = Cluster {
            circuit_breakers: CircuitBreakers {
                max_connections: limit,
                max_pending_requests: limit,
                max_requests: limit,
                max_retries: limit,
                retry_budget: (limit == 1).then_some(RetryBudget {
                    budget_percent: 30.0,
                    min_retry_concurrency: 1,
                }),
                max_connections_per_host: (limit % 2 == 1).then_some(limit),
            },
            outlier_detection: Some(OutlierDetection {
                max_ejection_percent: 60,
                consecutive_5xx: 2,
                interval: ms(100),
                base_ejection_time: ms(200),
                ..OutlierDetection::default()
            }),
            connect_timeout: ms(150),
            max_stream_duration: (limit == 2).then_some(ms(170)),
            max_requests_per_connection: 3,
            max_concurrent_streams: MOST_STREAMS as u32,
            idle_timeout: Some(ms(300)),
            ..self.cluster.clone()
        };
        self.configure();
    }

    fn policies(&mut self, protocol: HttpProtocol, checks: usize, statistics: bool) {
        self.cluster.http_protocol = protocol;
        let check = HealthCheck {
            probe: Probe::Http {
                host: "c".into(),
                path: "/".into(),
                expected_statuses: vec![],
                retriable_statuses: vec![],
            },
            timeout: ms(40),
            interval: ms(60),
            unhealthy_interval: None,
            unhealthy_edge_interval: None,
            healthy_edge_interval: None,
            no_traffic_interval: ms(90),
            no_traffic_healthy_interval: None,
            initial_jitter: ms(20),
            interval_jitter: ms(20),
            interval_jitter_percent: 20,
            unhealthy_threshold: 2,
            healthy_threshold: 2,
        };
        self.cluster.health_checks = vec![check; checks];
        if let Some(detection) = &mut self.cluster.outlier_detection {
            let enforcing = if statistics { 100 } else { 0 };
            detection.success_rate = SuccessRate {
                enforcing,
                minimum_hosts: 2,
                request_volume: 1,
                stdev_factor: 500,
            };
            detection.failure_percentage = FailurePercentage {
                enforcing,
                threshold: 50,
                minimum_hosts: 1,
                request_volume: 1,
            };
        }
        self.configure();
    }

    fn configure(&mut self) {
        let upsert = vec![Arc::new(self.cluster.clone())];
        self.xds(XdsDelta::Clusters {
            upsert,
            remove: vec![],
        });
    }

    fn endpoints(&mut self, n: u8) {
        let hosts = (1..=n).map(|h| (h, u32::from(h % 2))).collect();
        let mut assignment = assignment("c", hosts);
        assignment.drop_overload_ppm = if n == 7 { 300_000 } else { 0 };
        self.xds(XdsDelta::Endpoints {
            upsert: vec![assignment.into()],
        });
    }

    fn routes(&mut self) {
        self.generation += 1;
        let plain = Forward::to("c".into());
        let full = Forward {
            retry: Some(RetryPolicy {
                per_try_timeout: Some(ms(60)),
                ..retries(3, "5xx,retriable-4xx")
            }),
            timeout: Some(ms(250)),
            mirrors: vec![Mirror {
                cluster: "c".into(),
                fraction: Fraction::ppm(500_000),
                shadow_suffix: false,
            }],
            ..plain.clone()
        };
        let mut slow = route("/slow", RouteAction::Forward(full.clone()));
        slow.fault = Some(Fault {
            delay: Some(FaultDelay {
                fixed: ms(30),
                fraction_ppm: 700_000,
            }),
            abort: Some(FaultAbort {
                status: 418,
                grpc_status: None,
                fraction_ppm: 200_000,
            }),
            max_active_faults: Some(2),
        });
        slow.local_rate_limit = Some(LocalRateLimit {
            per_connection: true,
            ..limit(5)
        });
        let hedged = Forward {
            retry: Some(RetryPolicy {
                per_try_timeout: Some(ms(40)),
                per_try_idle_timeout: Some(ms(70)),
                ..retries(3, "5xx,retriable-4xx")
            }),
            hedge_on_per_try_timeout: true,
            timeout: Some(ms(250)),
            idle_timeout: Some(ms(130)),
            max_stream_duration: Some(ms(220)),
            max_grpc_timeout: Some(ms(150)),
            ..plain.clone()
        };
        let mut hedged = route("/hedged", RouteAction::Forward(hedged));
        hedged.matches.fraction = Some(Fraction::ppm(700_000));
        hedged.local_rate_limit = Some(limit(9));
        let host = VirtualHost {
            name: format!("v{}", self.generation).into(),
            domains: vec!["*".into()],
            routes: vec![
                Arc::new(slow),
                Arc::new(hedged),
                Arc::new(route("/full", RouteAction::Forward(full))),
                Arc::new(route("/plain", RouteAction::Forward(plain))),
            ],
            ..VirtualHost::default()
        };
        self.xds(XdsDelta::Routes {
            upsert: vec![Arc::new(RouteTable::new("t".into(), vec![host], true))],
            remove: vec![],
        });
    }

    fn main(&mut self, input: MainInput) {
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

    fn wait(&mut self, millis: u64) {
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

    fn step(&mut self, worker: u32, step: Step) {
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

    fn finish(mut self) -> Vec<u8> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn books_balance(
        workers in 1u32..4,
        steps in prop::collection::vec((0u32..4, step()), 1..150),
    ) {
        let mut driver = Driver::new(workers);
        for (worker, step) in steps {
            driver.step(worker % workers, step);
        }
        let journal = String::from_utf8(driver.finish()).unwrap();
        if let Err(error) = replay(&journal) {
            prop_assert!(false, "{}", error);
        }
    }
}

#[test]
fn every_line_of_a_journal_counts() {
    let mut driver = Driver::new(2);
    for n in 0..6 {
        driver.step(
            n % 2,
            Step::Request {
                path: 1,
                downstream: 0,
                ends: true,
            },
        );
        driver.step(n % 2, Step::Connected(0));
        let status = if n == 3 { 503 } else { 200 };
        driver.step(
            n % 2,
            Step::Head {
                attempt: 0,
                status,
                ends: true,
            },
        );
        driver.step(0, Step::Wait(20));
    }
    let journal = String::from_utf8(driver.finish()).unwrap();
    replay(&journal).unwrap();
    let lines: Vec<&str> = journal.lines().collect();
    let whole = |lines: &[&str]| lines.join("\n") + "\n";
    for at in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(at);
        assert!(replay(&whole(&dropped)).is_err(), "dropped {at}");
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert!(replay(&whole(&doubled)).is_err(), "doubled {at}");
        for altered in [
            format!("{} ", lines[at]),
            lines[at].replacen('{', "{ ", 1),
            lines[at].replacen(|c: char| c.is_ascii_digit(), "7", 1),
        ] {
            if altered == lines[at] {
                continue;
            }
            let mut changed = lines.clone();
            changed[at] = &altered;
            assert!(replay(&whole(&changed)).is_err(), "changed {at}: {altered}");
        }
    }
    assert_eq!(
        replay(&whole(&lines[..lines.len() - 1])),
        Err(ReplayError::Truncated)
    );
}

#[test]
fn an_idle_tick_changes_nothing() {
    let mut driver = Driver::new(1);
    driver.step(
        0,
        Step::Request {
            path: 1,
            downstream: 0,
            ends: true,
        },
    );
    let before = format!("{:?}", driver.proxy.worker(0));
    let mut out = Out::default();
    let mut proxy = driver.proxy;
    let mut outs = Outs::new(1);
    proxy.handle_worker(driver.now, 0, Input::Tick, &mut outs, None);
    proxy.handle_main(driver.now, MainInput::Tick, &mut outs, None);
    assert_eq!(format!("{:?}", proxy.worker(0)), before);
    out.append(outs.workers.remove(0));
    out.append(outs.main);
    assert_eq!(out, Out::default());
}
