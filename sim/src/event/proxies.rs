//! The driver of the core: inputs in, actions carried out, one timer for each proxy.

use super::World;
use super::links::Locality;
use super::schedule::{Answer, Destination, Event, Flight, Requester};
use crate::plan::Place;
use control_plane::{ProxyIdentity, ProxyKind};
use proxy_core::Identity;
use proxy_core::contract::{
    ConnTransport, ConnectFailure, Direction, DownstreamTls, Input, MainInput, Opened,
};
use proxy_core::ids::{ConnId, DownstreamId, ExchangeId};
use proxy_core::journal::Journal;
use proxy_core::proxy::{Outs, Proxy, Witness};
use proxy_core::random::mix;
use proxy_core::slab::Slab;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use std::net::SocketAddr;
use std::sync::Arc;

const FIRST_EPHEMERAL_PORT: u32 = 32_768;
const EPHEMERAL_PORTS: u32 = 28_232;

/// A port that a client's connection number `n` comes from.
pub(super) fn ephemeral_port(n: u32) -> u16 {
    (FIRST_EPHEMERAL_PORT + n % EPHEMERAL_PORTS) as u16
}

/// A proxy and what its driver keeps for it.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub(super) name: Name,
    pub(super) pod: u32,
    /// `None`: its pod is gone.
    proxy: Option<Proxy>,
    outs: Outs,
    pub(super) workers: Vec<WorkerState>,
    journal: Option<Journal>,
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
    pub(super) downstreams: Slab<Downstream>,
    /// By the index of the connection's id.
    pub(super) conns: Vec<Conn>,
    /// Where those were dialed to; apart, since it is rarely looked at.
    pub(super) dialed: Vec<SocketAddr>,
    /// By endpoint id.
    pub(super) endpoints: Vec<Endpoint>,
}

/// A request in progress at a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) from: Requester,
    pub(super) key: u64,
}

/// A downstream connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Downstream {
    pub(super) client: LineEnd,
    /// Exchanges in progress.
    pub(super) active: u32,
    /// Takes no further requests, and ends with the last exchange.
    pub(super) draining: bool,
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
    /// Speaks Istio's mutual TLS.
    pub(super) mutual: bool,
}

impl World<'_, '_> {
    /// Starts the proxy of a pod, if it has one, with all that the control plane knows.
    pub(super) fn start_proxy(&mut self, pod: u32) {
        let own = &self.plan.pods[pod as usize].pod;
        if own.proxy == ProxyKind::None {
            return;
        }
        let name: Name = format!("{}.{}", own.name, own.namespace).into();
        let workers = self.plan.concurrency.max(1);
        let identity = Identity {
            seed: self.seed,
            proxy: Arc::clone(&name),
            workers,
        };
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
            proxy: Some(Proxy::new(&identity)),
            outs: Outs::new(workers),
            workers: (0..workers).map(|_| WorkerState::default()).collect(),
            journal,
            journal_name,
            main_deadline: Nanos::MAX,
            timer_at: Nanos::MAX,
            last_push_at: self.queue.now(),
            clusters: Vec::new(),
        });
        self.pods[pod as usize].proxy = Some(number);
        let push = self.control_plane.connect(
            self.queue.now(),
            ProxyIdentity {
                name,
                kind: own.proxy,
                namespace: Arc::clone(&own.namespace),
                labels: own.labels.clone(),
                ip: own.ip,
                locality: Arc::clone(&own.locality),
            },
        );
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
        let witness = state
            .journal
            .as_mut()
            .map(|journal| journal as &mut dyn Witness);
        core.handle_main(now, input, &mut state.outs, witness);
        self.everything_of(proxy);
    }

    #[inline]
    pub(super) fn feed(&mut self, proxy: u32, worker: u16, input: Input) {
        let now = self.queue.now();
        let state = &mut self.proxies[proxy as usize];
        let Some(core) = &mut state.proxy else { return };
        let witness = state
            .journal
            .as_mut()
            .map(|journal| journal as &mut dyn Witness);
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

    /// A client's connection reaches a proxy. `None`: the proxy will not have it.
    pub(super) fn accept(
        &mut self,
        proxy: u32,
        worker: u16,
        client: LineEnd,
        opened: impl FnOnce(DownstreamId) -> Opened,
    ) -> Option<DownstreamId> {
        self.core(proxy)?;
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let downstream = Downstream {
            client,
            active: 0,
            draining: false,
        };
        let (index, generation) = state.downstreams.insert(downstream);
        let id = DownstreamId { index, generation };
        self.feed(proxy, worker, Input::Opened(opened(id)));
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let refused = state.downstreams[index].draining;
        if refused {
            state.downstreams.remove(index);
        }
        (!refused).then_some(id)
    }

    /// Which worker of a proxy takes a connection, by its client's address.
    pub(super) fn worker_for(&self, proxy: u32, peer: SocketAddr) -> u16 {
        let workers = self.proxies[proxy as usize].workers.len() as u64;
        if workers == 1 {
            return 0;
        }
        (mix(crate::tally::address_hash(peer)) % workers) as u16
    }

    /// A connection that a proxy asked for: is somebody there?
    pub(super) fn dialed(&mut self, proxy: u32, worker: u16, id: ConnId) {
        let Some(conn) = self.open_conn(proxy, worker, id) else {
            return;
        };
        let mutual = conn.mutual;
        let address =
            self.proxies[proxy as usize].workers[worker as usize].dialed[id.index as usize];
        let own_pod = self.proxies[proxy as usize].pod;
        let refused = Input::ConnectFailed {
            conn: id,
            reason: ConnectFailure::Refused,
        };
        let Some(place) = self.behind(address, id) else {
            return self.feed(proxy, worker, refused);
        };
        let to = match place {
            Place::External(number) => Destination::Station {
                station: self.pods.len() as u32 + number,
            },
            Place::Pod(pod) => {
                let state = &self.pods[pod as usize];
                if !state.up {
                    return self.feed(proxy, worker, refused);
                }
                match state.proxy {
                    Some(server) if pod != own_pod => {
                        let client = LineEnd::Conn {
                            proxy,
                            worker,
                            conn: id,
                        };
                        match self.accept_from_proxy(server, own_pod, client, address, mutual) {
                            Some(to) => to,
                            None => return self.feed(proxy, worker, refused),
                        }
                    }
                    _ => Destination::Station { station: pod },
                }
            }
            Place::Service(_) => return self.feed(proxy, worker, refused),
        };
        if let Some(conn) = self.open_conn(proxy, worker, id) {
            conn.to = Some(to);
            self.feed(proxy, worker, Input::Connected { conn: id });
        }
    }

    fn accept_from_proxy(
        &mut self,
        server: u32,
        client_pod: u32,
        client: LineEnd,
        address: SocketAddr,
        mutual: bool,
    ) -> Option<Destination> {
        let LineEnd::Conn { conn, .. } = client else {
            return None;
        };
        let ip = self.plan.pods[client_pod as usize].pod.ip;
        let peer = SocketAddr::new(ip, ephemeral_port(conn.index));
        let server_pod = self.proxies[server as usize].pod;
        let gateway = self.plan.pods[server_pod as usize].pod.proxy == ProxyKind::Gateway;
        let direction = if gateway {
            Direction::Gateway
        } else {
            Direction::Inbound
        };
        let worker = self.worker_for(server, peer);
        let tls = mutual.then_some(DownstreamTls {
            sni: None,
            mutual: true,
        });
        let id = self.accept(server, worker, client, |downstream| Opened {
            downstream,
            peer,
            original_dst: address,
            direction,
            tls,
        })?;
        Some(Destination::Proxy {
            proxy: server,
            worker,
            downstream: id,
        })
    }

    /// What answers at an address; a Service's own address leads to one of its ready pods.
    fn behind(&self, address: SocketAddr, conn: ConnId) -> Option<Place> {
        match self.places.get(&address.ip()) {
            Some(Place::Service(service)) => {
                let n = u64::from(conn.index) << 32 | u64::from(conn.generation);
                self.ready_pod(*service, mix(n)).map(Place::Pod)
            }
            place => place.copied(),
        }
    }

    /// The state of an upstream connection, unless it is closed.
    pub(super) fn open_conn(&mut self, proxy: u32, worker: u16, id: ConnId) -> Option<&mut Conn> {
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let conn = state.conns.get_mut(id.index as usize)?;
        (conn.open && conn.generation == id.generation).then_some(conn)
    }

    pub(super) fn conn_closed(&mut self, proxy: u32, worker: u16, id: ConnId) {
        if let Some(conn) = self.open_conn(proxy, worker, id) {
            conn.open = false;
            self.feed(proxy, worker, Input::ConnClosed { conn: id });
        }
    }

    /// The peer drains an upstream connection: it ends unless a request is on its way there.
    pub(super) fn hung_up(&mut self, proxy: u32, worker: u16, id: ConnId) {
        let Some(conn) = self.open_conn(proxy, worker, id) else {
            return;
        };
        let to = conn.to;
        let idle = self
            .core(proxy)
            .is_some_and(|core| core.worker(u32::from(worker)).is_idle(id));
        if !idle {
            return;
        }
        self.conn_closed(proxy, worker, id);
        if let Some(Destination::Proxy {
            proxy,
            worker,
            downstream,
        }) = to
        {
            self.downstream_closed(proxy, worker, downstream);
        }
    }

    pub(super) fn downstream_closed(&mut self, proxy: u32, worker: u16, id: DownstreamId) {
        if self.core(proxy).is_none() {
            return;
        }
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if state.downstreams.holds(id.index, id.generation) {
            self.feed(proxy, worker, Input::DownstreamClosed { downstream: id });
            let state = &mut self.proxies[proxy as usize].workers[worker as usize];
            if state.downstreams.holds(id.index, id.generation) {
                state.downstreams.remove(id.index);
            }
        }
    }

    #[inline]
    pub(super) fn request_arrives(&mut self, flight: u32) {
        self.flights.remove(flight);
        let Flight {
            from,
            to,
            key,
            head,
        } = &self.flights[flight];
        let (from, to, key, head) = (*from, *to, *key, Arc::clone(head));
        match to {
            Destination::Proxy {
                proxy,
                worker,
                downstream,
            } => {
                self.request_for_proxy(proxy, worker, downstream, from, key, &head);
            }
            Destination::Station { station } => self.request_for_station(station, from, key, head),
            Destination::Line { line, generation } => match self.open_line(line, generation) {
                Some((proxy, worker, downstream)) => {
                    self.request_for_proxy(proxy, worker, downstream, from, key, &head);
                }
                None => self.answer(from, None, key),
            },
        }
    }

    #[inline]
    fn request_for_proxy(
        &mut self,
        proxy: u32,
        worker: u16,
        downstream: DownstreamId,
        from: Requester,
        key: u64,
        head: &Arc<proxy_core::head::RequestHead>,
    ) {
        // The crash that ended the proxy has told the client's end of the connection.
        if self.core(proxy).is_none() {
            return;
        }
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if !state
            .downstreams
            .holds(downstream.index, downstream.generation)
        {
            return;
        }
        state.downstreams[downstream.index].active += 1;
        let (index, generation) = state.exchanges.insert(Exchange { from, key });
        self.passes += 1;
        let input = Input::Request {
            exchange: ExchangeId { index, generation },
            downstream,
            key,
            head: self.heads.numbered(head),
            ends: true,
        };
        self.feed(proxy, worker, input);
    }

    #[inline]
    pub(super) fn response_arrives(&mut self, answer: u32) {
        self.answers.remove(answer);
        let Answer { to, head } = &mut self.answers[answer];
        let (to, head) = (*to, head.take());
        match (to, head) {
            (
                Requester::Attempt {
                    proxy,
                    worker,
                    attempt,
                },
                Some(head),
            ) => {
                self.feed(
                    proxy,
                    worker,
                    Input::ResponseHead {
                        attempt,
                        head,
                        ends: true,
                    },
                );
            }
            (
                Requester::Attempt {
                    proxy,
                    worker,
                    attempt,
                },
                None,
            ) => {
                let reason = proxy_core::contract::ResetReason::ConnectionTermination;
                self.feed(proxy, worker, Input::Reset { attempt, reason });
            }
            (
                Requester::Call {
                    call,
                    generation,
                    tried,
                },
                head,
            ) => {
                let status = head.map_or(0, |head| head.status);
                self.call_answered(call, generation, tried, status);
            }
        }
    }

    /// Where a requester is, and in which pod.
    #[inline]
    pub(super) fn whereabouts(&self, requester: Requester) -> (Locality, Option<u32>) {
        let pod = match requester {
            Requester::Attempt { proxy, .. } => Some(self.proxies[proxy as usize].pod),
            Requester::Call { call, .. } => self.calls[call].pod,
        };
        (
            pod.map_or(super::Links::OUTSIDE, |pod| {
                self.pods[pod as usize].locality
            }),
            pod,
        )
    }

    /// Sends a response (`None`: the news that none will come) from a pod, or from outside.
    #[inline]
    pub(super) fn answer_from(
        &mut self,
        pod: Option<u32>,
        to: Requester,
        head: Option<Arc<proxy_core::head::ResponseHead>>,
        key: u64,
    ) {
        let (locality, requester_pod) = self.whereabouts(to);
        let answer = self.answers.insert(Answer { to, head }).0;
        let event = Event::Response { answer };
        if pod.is_some() && pod == requester_pod {
            return self.queue.after(Nanos::ZERO, event);
        }
        let from = pod.map_or(super::Links::OUTSIDE, |pod| {
            self.pods[pod as usize].locality
        });
        let (latency, constant) = self.links.latency(from, locality, key, 1);
        self.schedule(latency, constant, event);
    }

    /// The same from wherever the requester is: a failure that it sees itself.
    pub(super) fn answer(
        &mut self,
        to: Requester,
        head: Option<Arc<proxy_core::head::ResponseHead>>,
        key: u64,
    ) {
        let (_, pod) = self.whereabouts(to);
        self.answer_from(pod, to, head, key);
    }

    /// Schedules after a latency; constant ones are cheaper.
    #[inline]
    pub(super) fn schedule(&mut self, latency: Nanos, constant: bool, event: Event) {
        if constant {
            self.queue.after(latency, event);
        } else {
            self.queue.at(self.queue.now() + latency, event);
        }
    }

    /// The transport of a connection, as its server sees it.
    pub(super) fn is_mutual(transport: &ConnTransport) -> bool {
        *transport == ConnTransport::MutualTls
    }
}
