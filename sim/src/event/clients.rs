//! Sources of requests, the calls they and applications make, and the connections these go over.

use super::arrivals::Arrivals;
use super::proxies::{LineEnd, ephemeral_port};
use super::schedule::{Destination, Event, Flight, Requester};
use super::{Links, World};
use crate::plan::{Entry, Place, PlanLoad, PlanTraffic, Target};
use crate::random::{Purpose, WorldDraws};
use crate::tally::Ended;
use proxy_core::contract::{Direction, DownstreamTls, Opened};
use proxy_core::head::RequestHead;
use proxy_core::ids::DownstreamId;
use proxy_core::random::{hash_text, mix};
use proxy_core::telemetry::Flags;
use proxy_core::time::Nanos;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A source of requests.
#[derive(Debug)]
pub(super) struct Source<'p> {
    pub(super) plan: &'p PlanTraffic,
    draws: WorldDraws,
    /// Hash of its name: what its keys begin with.
    name: u64,
    /// The clients' address.
    ip: IpAddr,
    arrivals: Option<Arrivals>,
    /// The next arrival.
    next_ordinal: u64,
    epoch: u32,
    /// Requests made by each user of a closed loop.
    asked: Vec<u64>,
    /// For each pod of a gateway: its proxy when last used, and the connections to it.
    gateway_pools: Vec<Option<(u32, u32)>>,
    /// Users that are asking now; more of them pause for good after their answer.
    users: u32,
}

impl<'p> Source<'p> {
    pub(super) fn new(plan: &'p PlanTraffic, seed: u64) -> Source<'p> {
        let draws = WorldDraws::new(seed, &plan.name);
        let name = hash_text(&plan.name);
        let (arrivals, users) = match &plan.load {
            PlanLoad::Open { pieces, spread } => {
                (Some(Arrivals::new(draws, *spread, pieces.clone())), 0)
            }
            PlanLoad::Closed { users, .. } => (None, *users),
        };
        // 192.0.2.0/24 is set aside for examples.
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + (name % 254) as u8));
        Source {
            plan,
            draws,
            name,
            ip,
            arrivals,
            next_ordinal: 0,
            epoch: 0,
            asked: vec![0; users as usize],
            gateway_pools: Vec::new(),
            users,
        }
    }
}

/// Who made a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallFor {
    Source {
        source: u32,
    },
    User {
        source: u32,
        user: u32,
    },
    /// Call number `number` of the step that a job is at.
    Job {
        job: u32,
        generation: u32,
        number: u32,
    },
}

/// A request as its client sees it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) made_for: CallFor,
    /// The pod of the client; `None`: outside.
    pub(super) pod: Option<u32>,
    pub(super) key: u64,
    head: Arc<RequestHead>,
    started_at: Nanos,
    /// Tries before this one.
    tried: u32,
    /// The connection to a proxy in use.
    line: Option<u32>,
    flags: Flags,
    /// Where a client without a proxy went: the Service and the pod.
    direct: Option<(u32, u32)>,
}

/// Connections of one client to one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    client: PoolClient,
    proxy: u32,
    /// Where the client was connecting to.
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PoolClient {
    Source(u32),
    Pod(u32),
}

/// Idle connections, most recently used last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Vec<u32>,
    /// Ever opened.
    opened: u32,
}

/// A client's connection to a proxy.
#[derive(Debug)]
pub(super) struct Line {
    pool: u32,
    proxy: u32,
    worker: u16,
    pub(super) open: bool,
    /// Once accepted.
    downstream: Option<DownstreamId>,
    /// Until then.
    opening: Option<Box<Opening>>,
}

/// What a client says when it connects.
#[derive(Debug)]
struct Opening {
    peer: SocketAddr,
    original_dst: SocketAddr,
    direction: Direction,
    tls: Option<DownstreamTls>,
}

impl World<'_, '_> {
    pub(super) fn start_source(&mut self, source: u32) {
        let state = &self.sources[source as usize];
        match &state.plan.load {
            PlanLoad::Open { .. } => self.schedule_arrival(source),
            PlanLoad::Closed { think, .. } => {
                for user in 0..state.users {
                    let key = mix(u64::from(user));
                    let wait =
                        think.sample(self.sources[source as usize].draws, key, Purpose::Think);
                    let from = self.sources[source as usize].plan.from;
                    self.queue
                        .at(from + wait, Event::UserWakes { source, user });
                }
            }
        }
    }

    fn schedule_arrival(&mut self, source: u32) {
        let state = &mut self.sources[source as usize];
        let Some((ordinal, at)) = state.arrivals.as_mut().and_then(Arrivals::next) else {
            return;
        };
        state.next_ordinal = ordinal;
        let epoch = state.epoch;
        if at < state.plan.until {
            self.queue.at(at, Event::Arrival { source, epoch });
        }
    }

    pub(super) fn arrive(&mut self, source: u32, epoch: u32) {
        let state = &self.sources[source as usize];
        if state.epoch != epoch {
            return;
        }
        let key = mix(state.name ^ mix(state.next_ordinal));
        self.schedule_arrival(source);
        self.ask(CallFor::Source { source }, source, key);
    }

    /// The rate of an open-loop source changes.
    pub(super) fn change_rate(&mut self, source: u32, per_s: f64) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        state.epoch += 1;
        if let Some(arrivals) = &mut state.arrivals {
            arrivals.change_rate(now, state.plan.until, per_s, state.next_ordinal);
        }
        self.schedule_arrival(source);
    }

    pub(super) fn user_wakes(&mut self, source: u32, user: u32) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        if user >= state.users || now >= state.plan.until {
            return;
        }
        let asked = state.asked[user as usize];
        state.asked[user as usize] += 1;
        let key = mix(state.name ^ mix(u64::from(user) << 40 | asked));
        self.ask(CallFor::User { source, user }, source, key);
    }

    /// The number of users of a closed-loop source changes.
    pub(super) fn change_users(&mut self, source: u32, users: u32) {
        let now = self.queue.now();
        let state = &mut self.sources[source as usize];
        let before = std::mem::replace(&mut state.users, users);
        if state.asked.len() < users as usize {
            state.asked.resize(users as usize, 0);
        }
        for user in before..users {
            self.queue.at(now, Event::UserWakes { source, user });
        }
    }

    fn ask(&mut self, made_for: CallFor, source: u32, key: u64) {
        let state = &self.sources[source as usize];
        let variant = state.plan.choose(state.draws.bits(key, Purpose::Mix, 0));
        let head = Arc::clone(&self.plan.heads[variant.0 as usize]);
        let pod = match &state.plan.entry {
            Entry::Workload { pods, .. } => {
                let value = state.draws.bits(key, Purpose::Endpoint, 1);
                match self.pick(pods, value, |pod| pod.up) {
                    Some(pod) => Some(pod),
                    // Nobody is there to ask.
                    None => return,
                }
            }
            Entry::Gateway { .. } | Entry::Direct { .. } => None,
        };
        self.call(made_for, pod, key, head);
    }

    /// Makes a call.
    pub(super) fn call(
        &mut self,
        made_for: CallFor,
        pod: Option<u32>,
        key: u64,
        head: Arc<RequestHead>,
    ) {
        let call = Call {
            made_for,
            pod,
            key,
            head,
            started_at: self.queue.now(),
            tried: 0,
            line: None,
            flags: Flags::default(),
            direct: None,
        };
        let (index, _) = self.calls.insert(call);
        self.try_call(index);
    }

    fn try_call(&mut self, call: u32) {
        let generation = self.calls.generation(call);
        let state = &mut self.calls[call];
        state.flags = Flags::default();
        state.direct = None;
        let (tried, made_for, pod) = (state.tried, state.made_for, state.pod);
        let key = match tried {
            0 => state.key,
            tried => mix(state.key ^ mix(u64::from(tried) << 32)),
        };
        if let Some(timeout) = self.timeout_of(made_for) {
            self.queue.after(
                timeout,
                Event::CallTimeout {
                    call,
                    generation,
                    tried,
                },
            );
        }
        let from = Requester::Call {
            call,
            generation,
            tried,
        };
        let plan = self.plan;
        match made_for {
            CallFor::Source { source } | CallFor::User { source, .. } => {
                match &plan.traffic[source as usize].entry {
                    Entry::Gateway { pods, port } => {
                        self.call_gateway(call, from, source, pods, *port, key);
                    }
                    Entry::Workload { target, .. } => {
                        self.call_target(call, from, pod, target, key)
                    }
                    Entry::Direct { target } => self.call_target(call, from, None, target, key),
                }
            }
            CallFor::Job { job, number, .. } => {
                if let Some(planned) = self.planned_call(job, number) {
                    self.call_target(call, from, pod, &planned.target, key);
                }
            }
        }
    }

    fn timeout_of(&self, made_for: CallFor) -> Option<Nanos> {
        match made_for {
            CallFor::Source { source } | CallFor::User { source, .. } => {
                self.plan.traffic[source as usize].timeout
            }
            CallFor::Job { job, number, .. } => self.planned_call(job, number)?.timeout,
        }
    }

    fn call_gateway(
        &mut self,
        call: u32,
        from: Requester,
        source: u32,
        pods: &[u32],
        port: u16,
        key: u64,
    ) {
        let value = self.sources[source as usize]
            .draws
            .bits(key, Purpose::Endpoint, 0);
        let chosen = self.pick(pods, value, |pod| pod.up && pod.ready);
        let proxy = chosen.and_then(|pod| self.pods[pod as usize].proxy);
        let (Some(pod), Some(proxy)) = (chosen, proxy) else {
            return self.answer(from, None, key);
        };
        let address = SocketAddr::new(self.plan.pods[pod as usize].pod.ip, port);
        let pool = self.gateway_pool(source, pod, proxy, address);
        let line = self.idle_line(pool, proxy, address, Direction::Gateway, call);
        self.send_on_line(call, from, line, Some(pod), key);
    }

    /// The connections of a source to a gateway's pod, without a search where it can be helped.
    #[inline]
    fn gateway_pool(&mut self, source: u32, pod: u32, proxy: u32, address: SocketAddr) -> u32 {
        let known = self.sources[source as usize]
            .gateway_pools
            .get(pod as usize);
        if let Some(Some((of, pool))) = known
            && *of == proxy
        {
            return *pool;
        }
        let client = PoolClient::Source(source);
        let pool = self.pool(PoolKey {
            client,
            proxy,
            address,
        });
        let pools = &mut self.sources[source as usize].gateway_pools;
        if pools.len() <= pod as usize {
            pools.resize(pod as usize + 1, None);
        }
        pools[pod as usize] = Some((proxy, pool));
        pool
    }

    /// Calls `target` from a pod, or from outside.
    fn call_target(
        &mut self,
        call: u32,
        from: Requester,
        pod: Option<u32>,
        target: &Target,
        key: u64,
    ) {
        let own_proxy = pod.and_then(|pod| self.pods[pod as usize].proxy);
        if let (Some(own), Some(proxy)) = (pod, own_proxy) {
            let mut address = target.address;
            if target.headless {
                let chosen = target
                    .service
                    .and_then(|service| self.ready_pod(service, key));
                match chosen {
                    Some(chosen) => address.set_ip(self.plan.pods[chosen as usize].pod.ip),
                    None => return self.answer(from, None, key),
                }
            }
            let client = PoolClient::Pod(own);
            let pool = self.pool(PoolKey {
                client,
                proxy,
                address,
            });
            let line = self.idle_line(pool, proxy, address, Direction::Outbound, call);
            return self.send_on_line(call, from, line, pod, key);
        }
        self.call_without_proxy(call, from, pod, target, key);
    }

    fn call_without_proxy(
        &mut self,
        call: u32,
        from: Requester,
        pod: Option<u32>,
        target: &Target,
        key: u64,
    ) {
        if let Some(Place::External(number)) = self.places.get(&target.address.ip()) {
            let station = self.pods.len() as u32 + number;
            return self.send_to(call, from, Destination::Station { station }, None, key);
        }
        let Some(service) = target.service else {
            return self.answer(from, None, key);
        };
        let Some(chosen) = self.ready_pod(service, key) else {
            return self.answer(from, None, key);
        };
        self.calls[call].direct = Some((service, chosen));
        let ip = self.plan.pods[chosen as usize].pod.ip;
        let address = SocketAddr::new(ip, target.target_port);
        match self.pods[chosen as usize].proxy {
            None => {
                let to = Destination::Station { station: chosen };
                self.send_to(call, from, to, Some(chosen), key);
            }
            Some(proxy) => {
                let client = match (self.calls[call].made_for, pod) {
                    (_, Some(pod)) => PoolClient::Pod(pod),
                    (CallFor::Source { source } | CallFor::User { source, .. }, None) => {
                        PoolClient::Source(source)
                    }
                    (CallFor::Job { .. }, None) => return self.answer(from, None, key),
                };
                let pool = self.pool(PoolKey {
                    client,
                    proxy,
                    address,
                });
                let line = self.idle_line(pool, proxy, address, Direction::Inbound, call);
                self.send_on_line(call, from, line, Some(chosen), key);
            }
        }
    }

    #[inline]
    fn pool(&mut self, key: PoolKey) -> u32 {
        match self.pools.get_index_of(&key) {
            Some(at) => at as u32,
            None => self.pools.insert_full(key, Pool::default()).0 as u32,
        }
    }

    /// An idle connection, or a new one.
    #[inline]
    fn idle_line(
        &mut self,
        pool: u32,
        proxy: u32,
        original_dst: SocketAddr,
        direction: Direction,
        call: u32,
    ) -> u32 {
        while let Some(line) = self.pools[pool as usize].idle.pop() {
            if self.lines[line].open {
                return line;
            }
            self.drop_line(line);
        }
        let made_for = self.calls[call].made_for;
        let (ip, tls) = match (self.calls[call].pod, made_for) {
            (Some(pod), _) => (self.plan.pods[pod as usize].pod.ip, None),
            (None, CallFor::Source { source } | CallFor::User { source, .. }) => {
                let source = &self.sources[source as usize];
                let tls = source.plan.tls.then(|| DownstreamTls {
                    sni: Some(host_of(&self.calls[call].head)),
                    mutual: false,
                });
                (source.ip, tls)
            }
            (None, CallFor::Job { .. }) => (original_dst.ip(), None),
        };
        let opened = &mut self.pools[pool as usize].opened;
        let peer = SocketAddr::new(ip, ephemeral_port(*opened));
        *opened += 1;
        let line = Line {
            pool,
            proxy,
            worker: self.worker_for(proxy, peer),
            open: true,
            downstream: None,
            opening: Some(Box::new(Opening {
                peer,
                original_dst,
                direction,
                tls,
            })),
        };
        self.lines.insert(line).0
    }

    /// Sends the request; on a new connection from another place, after a handshake.
    #[inline]
    fn send_on_line(
        &mut self,
        call: u32,
        from: Requester,
        line: u32,
        to_pod: Option<u32>,
        key: u64,
    ) {
        self.calls[call].line = Some(line);
        let generation = self.lines.generation(line);
        self.send_to(
            call,
            from,
            Destination::Line { line, generation },
            to_pod,
            key,
        );
    }

    #[inline]
    fn send_to(
        &mut self,
        call: u32,
        from: Requester,
        to: Destination,
        to_pod: Option<u32>,
        key: u64,
    ) {
        let head = Arc::clone(&self.calls[call].head);
        let own_pod = self.calls[call].pod;
        let flight = self
            .flights
            .insert(Flight {
                from,
                to,
                key,
                head,
            })
            .0;
        let event = Event::Request { flight };
        if own_pod.is_some() && own_pod == to_pod {
            return self.queue.after(Nanos::ZERO, event);
        }
        let place =
            |pod: Option<u32>| pod.map_or(Links::OUTSIDE, |p| self.pods[p as usize].locality);
        let (latency, constant) = self.links.latency(place(own_pod), place(to_pod), key, 0);
        let handshake = match to {
            Destination::Line { line, .. } => match &self.lines[line].opening {
                Some(opening) => latency * if opening.tls.is_some() { 4 } else { 2 },
                None => Nanos::ZERO,
            },
            _ => Nanos::ZERO,
        };
        self.schedule(handshake + latency, constant, event);
    }

    /// The proxy's end of a connection, accepted now if it is new; `None` if it is closed.
    #[inline]
    pub(super) fn open_line(
        &mut self,
        line: u32,
        generation: u32,
    ) -> Option<(u32, u16, DownstreamId)> {
        if !self.lines.holds(line, generation) {
            return None;
        }
        let state = &self.lines[line];
        let (proxy, worker) = (state.proxy, state.worker);
        // A proxy that drains a connection still takes what is on its way.
        if let Some(downstream) = state.downstream {
            self.core(proxy)?;
            return Some((proxy, worker, downstream));
        }
        let opening = self.lines[line].opening.take()?;
        let Opening {
            peer,
            original_dst,
            direction,
            tls,
        } = *opening;
        let opened = |downstream| Opened {
            downstream,
            peer,
            original_dst,
            direction,
            tls,
        };
        let accepted = self.accept(proxy, worker, LineEnd::Line { line }, opened);
        self.lines[line].downstream = accepted;
        self.lines[line].open = accepted.is_some();
        Some((proxy, worker, accepted?))
    }

    /// The client's end of a connection is gone, and the proxy hears of it.
    fn drop_line(&mut self, line: u32) {
        let state = &self.lines[line];
        let (proxy, worker, downstream) = (state.proxy, state.worker, state.downstream);
        if let Some(downstream) = downstream {
            self.downstream_closed(proxy, worker, downstream);
        }
        self.lines.remove(line);
    }

    /// The flags that the first proxy on the way logged.
    #[inline]
    pub(super) fn call_logged(&mut self, call: u32, generation: u32, tried: u32, flags: Flags) {
        if self.calls.holds(call, generation) && self.calls[call].tried == tried {
            self.calls[call].flags = flags;
        }
    }

    /// A try is over.
    #[inline]
    pub(super) fn call_answered(&mut self, call: u32, generation: u32, tried: u32, status: u16) {
        if !self.calls.holds(call, generation) || self.calls[call].tried != tried {
            return;
        }
        if let Some(line) = self.calls[call].line.take() {
            if self.lines[line].open {
                let pool = self.lines[line].pool;
                self.pools[pool as usize].idle.push(line);
            } else {
                self.drop_line(line);
            }
        }
        self.try_ended(call, status);
    }

    pub(super) fn call_timed_out(&mut self, call: u32, generation: u32, tried: u32) {
        if !self.calls.holds(call, generation) || self.calls[call].tried != tried {
            return;
        }
        if let Some(line) = self.calls[call].line.take() {
            self.drop_line(line);
        }
        self.try_ended(call, 0);
    }

    fn try_ended(&mut self, call: u32, status: u16) {
        let state = &mut self.calls[call];
        let failed = status == 0 || status >= 500;
        if let CallFor::Source { source } | CallFor::User { source, .. } = state.made_for
            && failed
            && state.tried < self.plan.traffic[source as usize].retries
        {
            state.tried += 1;
            self.try_call(call);
            return;
        }
        self.call_ended(call, status);
    }

    fn call_ended(&mut self, call: u32, status: u16) {
        let now = self.queue.now();
        let state = &self.calls[call];
        let made_for = state.made_for;
        let (pod, direct) = (state.pod, state.direct);
        let mut ended = Ended {
            started_at: state.started_at,
            duration: now - state.started_at,
            status,
            flags: state.flags,
            attempts: 1,
            pod: direct.map(|(_, pod)| pod),
        };
        self.calls.remove(call);
        if let Some((service, _)) = direct {
            let caller = match (pod, made_for) {
                (Some(pod), _) => Some(crate::plan::Caller::Workload(
                    self.plan.pods[pod as usize].workload,
                )),
                (None, CallFor::Source { source } | CallFor::User { source, .. }) => {
                    Some(crate::plan::Caller::Traffic(source))
                }
                (None, CallFor::Job { .. }) => None,
            };
            if let Some(caller) = caller {
                let calls = self.tally.calls_between(caller, service);
                self.tally.call_ended(calls, &ended);
            }
        }
        match made_for {
            CallFor::Source { source } => self.tally.traffic_ended(source, &ended),
            CallFor::User { source, user } => {
                ended.pod = None;
                self.tally.traffic_ended(source, &ended);
                self.user_thinks(source, user);
            }
            CallFor::Job {
                job,
                generation,
                number,
            } => {
                let failed = !ended.succeeded();
                self.job_call_ended(job, generation, number, failed);
            }
        }
    }

    fn user_thinks(&mut self, source: u32, user: u32) {
        let state = &self.sources[source as usize];
        if let PlanLoad::Closed { think, .. } = &state.plan.load {
            let key = mix(u64::from(user) << 40 | state.asked[user as usize]);
            let wait = think.sample(state.draws, key, Purpose::Think);
            self.queue
                .at(self.queue.now() + wait, Event::UserWakes { source, user });
        }
    }

    /// A ready pod of a Service, as clients without a proxy are led to one.
    pub(super) fn ready_pod(&self, service: u32, key: u64) -> Option<u32> {
        let value = mix(key ^ self.seed.rotate_left(32));
        self.pick(&self.plan.services[service as usize].pods, value, |pod| {
            pod.ready
        })
    }

    /// One of the pods that `fits`, chosen by a uniform value.
    fn pick(
        &self,
        pods: &[u32],
        value: u64,
        fits: impl Fn(&super::PodState) -> bool,
    ) -> Option<u32> {
        crate::random::pick(pods, value, |pod| fits(&self.pods[pod as usize]))
    }

    /// A proxy ended: clients' connections to it break.
    pub(super) fn drop_lines_to(&mut self, proxy: u32) {
        let gone: Vec<u32> = self
            .lines
            .taken()
            .filter(|&line| self.lines[line].open && self.lines[line].proxy == proxy)
            .collect();
        for line in gone {
            self.lines[line].open = false;
        }
        let waiting: Vec<u32> = self
            .calls
            .taken()
            .filter(|&call| {
                let line = self.calls[call].line;
                line.is_some_and(|line| self.lines[line].proxy == proxy)
            })
            .collect();
        for call in waiting {
            let (generation, tried) = (self.calls.generation(call), self.calls[call].tried);
            let key = self.calls[call].key;
            self.answer(
                Requester::Call {
                    call,
                    generation,
                    tried,
                },
                None,
                key,
            );
        }
    }
}

/// The host name of a request, without a port.
fn host_of(head: &RequestHead) -> proxy_core::xds::Name {
    head.authority.split(':').next().unwrap_or_default().into()
}
