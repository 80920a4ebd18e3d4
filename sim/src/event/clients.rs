//! The calls that sources and applications make.

use super::lines::{Direct, PoolClient, PoolKey};
use super::schedule::{Destination, Event, Flight, Requester};
use super::{Links, World};
use crate::plan::{Entry, Place, Target};
use crate::random::Purpose;
use crate::tally::Ended;
use proxy_core::contract::Direction;
use proxy_core::head::RequestHead;
use proxy_core::random::mix;
use proxy_core::telemetry::Flags;
use proxy_core::time::Nanos;
use std::net::SocketAddr;
use std::sync::Arc;

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
    pub(super) head: Arc<RequestHead>,
    started_at: Nanos,
    /// Tries before this one.
    pub(super) tried: u32,
    /// The connection to a proxy in use.
    pub(super) line: Option<u32>,
    flags: Flags,
    /// Where a client without a proxy went.
    direct: Option<Direct>,
}

impl World<'_, '_> {
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

    /// Calls `target` from a pod, or from outside.
    fn call_target(
        &mut self,
        call: u32,
        from: Requester,
        pod: Option<u32>,
        target: &Target,
        key: u64,
    ) {
        let through = pod.and_then(|pod| self.pods[pod as usize].sends_through);
        let proxy = through.and_then(|through| self.pods[through as usize].proxy);
        if through.is_some() && through != pod && proxy.is_none() {
            // Nobody listens where the node redirects to.
            return self.answer(from, None, key);
        }
        if let (Some(own), Some(proxy)) = (pod, proxy) {
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
            return self.send_on_line(call, from, line, through, key);
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
        let port = target.address.port();
        let Some(direct) = self.direct(pod, service, port, key) else {
            return self.answer(from, None, key);
        };
        self.calls[call].direct = Some(direct);
        let chosen = direct.pod;
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
    pub(super) fn send_to(
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
        if self.together(own_pod, to_pod) {
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
        let state = &self.calls[call];
        if let (Some(client), Some(direct), 1..) = (state.pod, state.direct, status) {
            self.keep_direct(client, direct);
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
            pod: direct.map(|direct| direct.pod),
        };
        self.calls.remove(call);
        if let Some(Direct { service, .. }) = direct {
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
                self.user_thinks(source, user, ended.duration);
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

    /// A ready pod of a Service, as clients without a proxy are led to one.
    pub(super) fn ready_pod(&self, service: u32, key: u64) -> Option<u32> {
        let value = mix(key ^ self.seed.rotate_left(32));
        self.pick(&self.plan.services[service as usize].pods, value, |pod| {
            pod.ready
        })
    }

    /// One of the pods that `fits`, chosen by a uniform value.
    pub(super) fn pick(
        &self,
        pods: &[u32],
        value: u64,
        fits: impl Fn(&super::PodState) -> bool,
    ) -> Option<u32> {
        crate::random::pick(pods, value, |pod| fits(&self.pods[pod as usize]))
    }
}
