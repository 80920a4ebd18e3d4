//! The driver: the machines of one proxy, and what stands behind the ids they use.

use crate::Environment;
use crate::heads;
use crate::probe;
use crate::tables::Tables;
use crate::upstream;
use proxy_core::contract::{Action, BodySource, Input, MainInput, StateChange, Verdict};
use proxy_core::journal::Journal;
use proxy_core::proxy::{Outs, Witness};
use proxy_core::random::key_of_try;
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::{Name, XdsDelta};
use proxy_core::{Identity, Proxy};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// What a proxy is started with.
pub struct Setup {
    pub identity: Identity,
    /// Every try and mirror carries a key of its own in `x-request-id` (see
    /// [`proxy_core::random::key_of_try`]), for endpoints whose behaviour is drawn from it. A real
    /// proxy leaves the header as it is.
    pub keys_of_tries: bool,
    /// Keep a journal of everything the machines are told and answer.
    pub journal: bool,
    /// Told of every [`Record`], in order. Must not call the driver.
    pub sink: Sink,
}

/// Takes what a proxy reports; given the core, to look up the names behind ids.
pub type Sink = Box<dyn FnMut(&Proxy, Record)>;

/// What a proxy reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An exchange ended; ids are those of worker `worker`.
    Access { worker: u32, log: AccessLog },
    /// The state of the proxy changed.
    Change(StateChange),
    /// An update of the configuration was taken over, or refused with a reason.
    Answered { version: u64, refusal: Option<Name> },
}

/// A running proxy. Clones are the same proxy. To be used within a `tokio::task::LocalSet`; its
/// tasks end with that.
pub struct Driver<E: Environment>(Rc<Shared<E>>);

struct Shared<E> {
    environment: E,
    keys_of_tries: bool,
    state: RefCell<State>,
    /// The next deadline has come closer.
    sooner: Notify,
}

struct State {
    proxy: Proxy,
    outs: Outs,
    journal: Option<Journal>,
    sink: Sink,
    workers: Vec<Tables>,
    /// Downstream connections so far; they take turns at the workers.
    accepted: u64,
    now: Nanos,
    /// What the timer waits for.
    armed: Option<Nanos>,
}

impl<E: Environment> Clone for Driver<E> {
    fn clone(&self) -> Driver<E> {
        Driver(Rc::clone(&self.0))
    }
}

impl<E: Environment> fmt::Debug for Driver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<E: Environment> Driver<E> {
    /// Starts a proxy that has no configuration yet.
    pub fn start(setup: Setup, environment: E) -> Driver<E> {
        let proxy = Proxy::new(&setup.identity);
        let workers = proxy.workers();
        let state = State {
            proxy,
            outs: Outs::new(workers),
            journal: setup.journal.then(|| Journal::new(&setup.identity)),
            sink: setup.sink,
            workers: (0..workers).map(|_| Tables::new()).collect(),
            accepted: 0,
            now: Nanos::ZERO,
            armed: None,
        };
        let driver = Driver(Rc::new(Shared {
            environment,
            keys_of_tries: setup.keys_of_tries,
            state: RefCell::new(state),
            sooner: Notify::new(),
        }));
        spawn_local(run_timer(driver.clone()));
        driver
    }

    /// Hands over an update from the control plane; the answer is a [`Record::Answered`].
    pub fn xds(&self, delta: XdsDelta, version: u64) {
        self.tell_main(MainInput::Xds { delta, version });
    }

    /// Looks at the core.
    pub fn with_proxy<R>(&self, look: impl FnOnce(&Proxy) -> R) -> R {
        look(&self.0.state.borrow().proxy)
    }

    /// What the journal has gained since the last call; empty if none is kept. A long run takes it
    /// from time to time, as it grows in memory.
    pub fn take_journal(&self) -> Vec<u8> {
        let mut state = self.0.state.borrow_mut();
        state.journal.as_mut().map_or(Vec::new(), Journal::take)
    }

    /// Ends the journal and gives the rest of it; what happens later is not recorded.
    pub fn finish_journal(&self) -> Vec<u8> {
        let journal = self.0.state.borrow_mut().journal.take();
        journal.map_or(Vec::new(), Journal::finish)
    }

    pub(crate) fn environment(&self) -> &E {
        &self.0.environment
    }

    /// The worker that takes the next downstream connection.
    pub(crate) fn next_worker(&self) -> u32 {
        let mut state = self.0.state.borrow_mut();
        let worker = state.accepted % state.workers.len() as u64;
        state.accepted += 1;
        worker as u32
    }

    pub(crate) fn with_tables<R>(&self, worker: u32, act: impl FnOnce(&mut Tables) -> R) -> R {
        act(&mut self.0.state.borrow_mut().workers[worker as usize])
    }

    /// Tells a worker what happened and carries out what is asked for in return.
    pub(crate) fn tell(&self, worker: u32, input: Input) {
        let state = &mut *self.0.state.borrow_mut();
        let now = self.now(state);
        let (proxy, outs) = (&mut state.proxy, &mut state.outs);
        proxy.handle_worker(now, worker, input, outs, witness(&mut state.journal));
        self.carry_out_all(state);
    }

    pub(crate) fn tell_main(&self, input: MainInput) {
        let state = &mut *self.0.state.borrow_mut();
        let now = self.now(state);
        let (proxy, outs) = (&mut state.proxy, &mut state.outs);
        proxy.handle_main(now, input, outs, witness(&mut state.journal));
        self.carry_out_all(state);
    }

    fn carry_out_all(&self, state: &mut State) {
        self.carry_out_main(state);
        for worker in 0..state.proxy.workers() {
            self.carry_out(state, worker);
        }
        let next = state.deadline();
        if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
            self.0.sooner.notify_one();
        }
    }

    /// Time as the machines are to see it: it never runs backwards.
    fn now(&self, state: &mut State) -> Nanos {
        state.now = state.now.max(self.0.environment.now());
        state.now
    }

    fn carry_out_main(&self, state: &mut State) {
        for action in std::mem::take(&mut state.outs.main.actions) {
            match action {
                Action::Resolve { host } => {
                    spawn_local(resolve(self.clone(), host));
                }
                Action::Probe {
                    probe,
                    transport,
                    request,
                } => {
                    spawn_local(probe::run(self.clone(), probe, transport, request));
                }
                Action::Ack { version } => state.report(Record::Answered {
                    version,
                    refusal: None,
                }),
                Action::Nack { version, reason } => state.report(Record::Answered {
                    version,
                    refusal: Some(reason),
                }),
                _ => debug_assert!(false, "{action:?} is not for a main machine to ask"),
            }
        }
        for change in std::mem::take(&mut state.outs.main.changes) {
            state.report(Record::Change(change));
        }
    }

    fn carry_out(&self, state: &mut State, worker: u32) {
        let out = &mut state.outs.workers[worker as usize];
        let actions = std::mem::take(&mut out.actions);
        let (changes, logs) = (
            std::mem::take(&mut out.changes),
            std::mem::take(&mut out.logs),
        );
        let tables = &mut state.workers[worker as usize];
        for action in actions {
            self.act(tables, worker, action);
        }
        for change in changes {
            state.report(Record::Change(change));
        }
        for log in logs {
            state.workers[worker as usize].end_exchange(&log);
            state.report(Record::Access { worker, log });
        }
    }

    fn act(&self, tables: &mut Tables, worker: u32, action: Action) {
        match action {
            Action::Connect {
                conn,
                address,
                transport,
                protocol,
                ..
            } => {
                let close = tables.add_conn(conn);
                spawn_local(upstream::run_conn(
                    self.clone(),
                    upstream::Place { worker, conn },
                    (address, protocol),
                    transport,
                    close,
                ));
            }
            Action::CloseConn { conn } => {
                tables.conns.take(conn.index, conn.generation);
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
                let limit = |millis: u64| Some(millis).filter(|&millis| millis > 0);
                let mirrored = matches!(source, BodySource::Mirror(_));
                let announced = heads::Announced {
                    ordinal: announce_ordinal.then_some(ordinal),
                    expected_timeout_ms: limit(expected_timeout_ms),
                    grpc_timeout_ms: limit(grpc_timeout_ms),
                    mirrored_by: mirrored.then(|| self.0.environment.address()),
                };
                let request = tables.outgoing(source).and_then(|(key, body)| {
                    let key = key_of_try(key, source, ordinal);
                    let key = self.0.keys_of_tries.then_some(key);
                    heads::to_request(&head, announced, key, body)
                });
                let cancel = tables.add_attempt(attempt, conn);
                let place = upstream::Place { worker, conn };
                let sent = upstream::run_attempt(self.clone(), place, attempt, request);
                spawn_local(upstream::unless_given_up(self.clone(), place, cancel, sent));
            }
            Action::Cancel { attempt, .. } => {
                tables.attempts.take(attempt.index, attempt.generation);
            }
            Action::Respond {
                exchange,
                head,
                body,
            } => tables.respond(exchange, &head, body),
            Action::Abort { exchange } => tables.abort(exchange),
            Action::Buffer { exchange, limit } => tables.keep(exchange, limit),
            Action::CloseDownstream { downstream } => tables.drain(downstream),
            // Nothing here speaks Mixer's protocol.
            Action::Ask { exchange, .. } => {
                let driver = self.clone();
                spawn_local(async move {
                    let verdict = Verdict::Failed;
                    driver.tell(worker, Input::Answered { exchange, verdict });
                });
            }
            Action::Report { .. } => {}
            Action::Probe { .. }
            | Action::Resolve { .. }
            | Action::Ack { .. }
            | Action::Nack { .. } => {
                debug_assert!(false, "{action:?} is not for a worker to ask");
            }
        }
    }
}

impl State {
    fn report(&mut self, record: Record) {
        (self.sink)(&self.proxy, record);
    }

    /// When a machine next needs a tick.
    fn deadline(&self) -> Option<Nanos> {
        let workers = 0..self.proxy.workers();
        workers
            .filter_map(|worker| self.proxy.worker(worker).deadline())
            .chain(self.proxy.main_deadline())
            .min()
    }
}

/// The proxy's one timer. It may go off early: a tick with nothing due changes nothing.
async fn run_timer<E: Environment>(driver: Driver<E>) {
    loop {
        let next = {
            let mut state = driver.0.state.borrow_mut();
            state.armed = state.deadline();
            state.armed
        };
        let sooner = driver.0.sooner.notified();
        match next {
            None => sooner.await,
            Some(next) => tokio::select! {
                biased;
                () = driver.0.environment.sleep_until(next) => tick(&driver),
                () = sooner => {}
            },
        }
    }
}

/// Gives a tick to every machine that is due.
fn tick<E: Environment>(driver: &Driver<E>) {
    let (main, workers) = {
        let state = &mut *driver.0.state.borrow_mut();
        let now = driver.now(state);
        let due = |deadline: Option<Nanos>| deadline.is_some_and(|deadline| deadline <= now);
        let workers: Vec<u32> = (0..state.proxy.workers())
            .filter(|&worker| due(state.proxy.worker(worker).deadline()))
            .collect();
        (due(state.proxy.main_deadline()), workers)
    };
    if main {
        driver.tell_main(MainInput::Tick);
    }
    for worker in workers {
        driver.tell(worker, Input::Tick);
    }
}

fn witness(journal: &mut Option<Journal>) -> Option<&mut dyn Witness> {
    let journal = journal.as_mut()?;
    Some(journal)
}

async fn resolve<E: Environment>(driver: Driver<E>, host: Name) {
    let addresses = driver.environment().resolve(&host).await;
    driver.tell_main(MainInput::Resolved { host, addresses });
}
