//! The driver of the core: inputs in, actions carried out, one timer for each proxy.

use super::World;
use super::schedule::{Destination, Event, Requester};
use crate::observe::Observers;
use control_plane::{ProxyIdentity, ProxyKind, Router};
use proxy_core::Identity;
use proxy_core::contract::{ConnTransport, Input, MainInput, Protocol};
use proxy_core::ids::{AttemptId, ConnId};
use proxy_core::journal::Journal;
use proxy_core::proxy::{Outs, Proxy, Witness};
use proxy_core::slab::Slab;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A proxy and what its driver keeps for it.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub(super) name: Name,
    pub(super) pod: u32,
    /// Of a node's proxy: which of its two.
    pub(super) router: Option<Router>,
    /// `None`: its pod is gone.
    proxy: Option<Proxy>,
    outs: Outs,
    pub(super) workers: Vec<WorkerState>,
    journal: Option<Journal>,
    /// The observers' witness sees what it is told.
    watched: bool,
    /// Its name, and how often its pod was restarted before.
    journal_name: String,
    main_deadline: Nanos,
    /// When the next timer event is scheduled.
    timer_at: Nanos,
    /// No push may overtake an earlier one.
    pub(super) last_push_at: Nanos,
    /// By cluster id.
    pub(super) clusters: Vec<Option<super::logs::ClusterNames>>,
}

/// What the driver keeps for one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerState {
    pub(super) exchanges: Slab<Exchange>,
    /// At an outgoing router: the exchange that an attempt is the last one of. Only looked up.
    pub(super) attempts: FxHashMap<AttemptId, u32>,
    pub(super) downstreams: Slab<Downstream>,
    /// By the index of the connection's id.
    pub(super) conns: Vec<Conn>,
    /// How those were dialed; apart, since it is rarely looked at.
    pub(super) dialed: Vec<(SocketAddr, ConnTransport)>,
    /// By endpoint id.
    pub(super) endpoints: Vec<Endpoint>,
}

/// A request in progress at a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) from: Requester,
    pub(super) key: u64,
    /// At an outgoing router: its last attempt, and the pod that an incoming one chose for it.
    pub(super) attempt: Option<AttemptId>,
    pub(super) served_by: Option<u32>,
}

/// A downstream connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Downstream {
    pub(super) client: LineEnd,
    /// Exchanges in progress.
    pub(super) active: u32,
    /// Takes no further requests, and ends with the last exchange.
    pub(super) draining: bool,
    pub(super) protocol: Protocol,
}

/// The client's end of a connection to a proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LineEnd {
    Conn {
        proxy: u32,
        worker: u16,
        conn: ConnId,
    },
    Line {
        line: u32,
    },
}

/// What an endpoint of a worker means to the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) pod: Option<u32>,
    /// Its address in the digest.
    pub(super) hash: u64,
}

/// An upstream connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conn {
    pub(super) generation: u32,
    pub(super) open: bool,
    /// Where its requests go, once it is up.
    pub(super) to: Option<Destination>,
    pub(super) protocol: Protocol,
}

impl World<'_, '_> {
    /// Starts the proxies of a pod with all that the control plane knows.
    pub(super) fn start_proxies(&mut self, pod: u32) {
        for identity in self.plan.pods[pod as usize].pod.identities() {
            self.start_proxy(pod, identity);
        }
    }

    fn start_proxy(&mut self, pod: u32, own_identity: ProxyIdentity) {
        let own = &self.plan.pods[pod as usize].pod;
        let name = Arc::clone(&own_identity.name);
        let router = match own_identity.kind {
            ProxyKind::NodeProxy(router) => Some(router),
            _ => None,
        };
        let workers = self.plan.concurrency.max(1);
        let seed = self.plan.proxies_seed.unwrap_or(self.seed);
        let identity = Identity::new(seed, Arc::clone(&name), workers);
        let journal = self
            .observers
            .journal
            .is_some()
            .then(|| Journal::new(&identity));
        let number = self.proxies.len() as u32;
        let journal_name = match self
            .proxies
            .iter()
            .filter(|proxy| proxy.name == name)
            .count()
        {
            0 => name.to_string(),
            restarts => format!("{name}-restart-{restarts}"),
        };
        self.proxies.push(ProxyState {
            name: Arc::clone(&name),
            pod,
            router,
            proxy: Some(Proxy::new(&identity)),
            outs: Outs::new(workers),
            workers: (0..workers).map(|_| WorkerState::default()).collect(),
            journal,
            watched: self.observers.watches(&name),
            journal_name,
            main_deadline: Nanos::MAX,
            timer_at: Nanos::MAX,
            last_push_at: self.queue.now(),
            clusters: Vec::new(),
        });
        let state = &mut self.pods[pod as usize];
        match router {
            Some(Router::Incoming) => state.incoming = Some(number),
            _ => state.proxy = Some(number),
        }
        let push = self.control_plane.connect(self.queue.now(), own_identity);
        if self.control_plane.is_stopped() {
            let state = &mut self.pods[pod as usize];
            (state.ready, state.unconfigured) = (false, true);
            let mut own = own.clone();
            own.ready = false;
            self.control_plane.set_pod(self.queue.now(), own);
        }
        for delta in push.deltas {
            self.feed_main(
                number,
                MainInput::Xds {
                    delta,
                    version: push.version,
                },
            );
        }
    }

    /// The proxy of a pod that ended.
    pub(super) fn stop_proxy(&mut self, proxy: u32) {
        let state = &mut self.proxies[proxy as usize];
        state.proxy = None;
        let name = Arc::clone(&state.name);
        if let Some(journal) = state.journal.take() {
            self.observers
                .journal(&state.journal_name, journal.finish());
        }
        self.control_plane.disconnect(&name);
    }

    /// The run is over.
    pub(super) fn finish_journals(&mut self) {
        for state in &mut self.proxies {
            if let Some(journal) = state.journal.take() {
                self.observers
                    .journal(&state.journal_name, journal.finish());
            }
        }
    }

    pub(super) fn feed_main(&mut self, proxy: u32, input: MainInput) {
        let now = self.queue.now();
        let state = &mut self.proxies[proxy as usize];
        let Some(core) = &mut state.proxy else { return };
        let witness = witness(&mut state.journal, state.watched, &mut self.observers);
        core.handle_main(now, input, &mut state.outs, witness);
        self.everything_of(proxy);
    }

    #[inline]
    pub(super) fn feed(&mut self, proxy: u32, worker: u16, input: Input) {
        let now = self.queue.now();
        let state = &mut self.proxies[proxy as usize];
        let Some(core) = &mut state.proxy else { return };
        let witness = witness(&mut state.journal, state.watched, &mut self.observers);
        let told = core.handle_worker(now, u32::from(worker), input, &mut state.outs, witness);
        if told {
            self.everything_of(proxy);
        } else {
            self.carry_out(proxy, worker);
            self.set_timer(proxy);
        }
    }

    /// Carries out what all machines of a proxy asked for.
    fn everything_of(&mut self, proxy: u32) {
        self.carry_out_main(proxy);
        for worker in 0..self.proxies[proxy as usize].workers.len() as u16 {
            self.carry_out(proxy, worker);
        }
        let state = &mut self.proxies[proxy as usize];
        let deadline = state.proxy.as_ref().and_then(Proxy::main_deadline);
        state.main_deadline = deadline.unwrap_or(Nanos::MAX);
        self.set_timer(proxy);
        self.flush_journal(proxy);
    }

    fn flush_journal(&mut self, proxy: u32) {
        let state = &mut self.proxies[proxy as usize];
        if let Some(journal) = &mut state.journal {
            self.observers.journal(&state.journal_name, journal.take());
        }
    }

    fn carry_out_main(&mut self, proxy: u32) {
        let out = &mut self.proxies[proxy as usize].outs.main;
        let mut actions = std::mem::take(&mut out.actions);
        let mut changes = std::mem::take(&mut out.changes);
        for action in actions.drain(..) {
            self.act_for_main(proxy, action);
        }
        for change in changes.drain(..) {
            self.state_changed(proxy, &change);
        }
        let out = &mut self.proxies[proxy as usize].outs.main;
        (out.actions, out.changes) = (actions, changes);
    }

    fn carry_out(&mut self, proxy: u32, worker: u16) {
        let out = &mut self.proxies[proxy as usize].outs.workers[worker as usize];
        let mut actions = std::mem::take(&mut out.actions);
        let mut logs = std::mem::take(&mut out.logs);
        for action in actions.drain(..) {
            self.act(proxy, worker, action);
        }
        for log in logs.drain(..) {
            self.exchange_ended(proxy, worker, log);
        }
        let out = &mut self.proxies[proxy as usize].outs.workers[worker as usize];
        (out.actions, out.logs) = (actions, logs);
        if !out.changes.is_empty() {
            let mut changes = std::mem::take(&mut out.changes);
            for change in changes.drain(..) {
                self.state_changed(proxy, &change);
            }
            self.proxies[proxy as usize].outs.workers[worker as usize].changes = changes;
        }
    }

    #[inline]
    fn set_timer(&mut self, proxy: u32) {
        let state = &mut self.proxies[proxy as usize];
        let Some(core) = &state.proxy else { return };
        let mut deadline = state.main_deadline;
        for worker in 0..core.workers() {
            deadline = core
                .worker(worker)
                .deadline()
                .unwrap_or(Nanos::MAX)
                .min(deadline);
        }
        if deadline < state.timer_at {
            state.timer_at = deadline;
            self.queue.at(deadline, Event::ProxyTimer { proxy });
        }
    }

    pub(super) fn proxy_timer(&mut self, proxy: u32) {
        let now = self.queue.now();
        let state = &mut self.proxies[proxy as usize];
        // An earlier timer has been set since this one, or has done its work.
        if now < state.timer_at {
            return;
        }
        state.timer_at = Nanos::MAX;
        if state.main_deadline <= now {
            self.feed_main(proxy, MainInput::Tick);
        }
        for worker in 0..self.proxies[proxy as usize].workers.len() as u16 {
            let Some(core) = &self.proxies[proxy as usize].proxy else {
                return;
            };
            let deadline = core.worker(u32::from(worker)).deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.feed(proxy, worker, Input::Tick);
            }
        }
        self.set_timer(proxy);
    }

    /// The core behind a proxy that runs.
    #[inline]
    pub(super) fn core(&self, proxy: u32) -> Option<&Proxy> {
        self.proxies[proxy as usize].proxy.as_ref()
    }
}

/// Who sees what a proxy is told.
#[inline]
fn witness<'w>(
    journal: &'w mut Option<Journal>,
    watched: bool,
    observers: &'w mut Observers<'_>,
) -> Option<&'w mut dyn Witness> {
    match (journal, watched, &mut observers.witness) {
        (Some(journal), ..) => Some(journal),
        (None, true, Some((_, witness))) => Some(&mut **witness),
        _ => None,
    }
}
