//! A request arrives: routing, faults, and what the route does with it.

use super::state::{Exchange, Expiry};
use super::{Remembered, Worker};
use crate::contract::{Action, Body, Out};
use crate::head::{RequestHead, ResponseHead};
use crate::ids::{ClusterId, DownstreamId, ExchangeId};
use crate::random::Purpose;
use crate::router::hash::request_hash;
use crate::router::{self, Decision, Matched, Outcome};
use crate::telemetry::{Details, Flag};
use crate::xds::{Fault, Forward, NetworkFilter, Route, RouteAction, RouteSource};
use std::sync::Arc;

const PARTS_PER_MILLION: u64 = 1_000_000;
/// Envoy's default `per_connection_buffer_limit_bytes`.
const RETRY_BUFFER_BYTES: u64 = 1 << 20;

impl Worker {
    pub(super) fn on_request(
        &mut self,
        id: ExchangeId,
        downstream: DownstreamId,
        key: u64,
        head: Arc<RequestHead>,
        ends: bool,
        out: &mut Out,
    ) {
        let exchange = Exchange::begin(id, downstream, key, self.now, ends);
        let x = id.index;
        match self.exchanges.get_mut(x as usize) {
            Some(slot) => {
                assert!(
                    !slot.live,
                    "a driver reuses a slot only after its access log"
                );
                *slot = exchange;
            }
            None => {
                assert!(self.exchanges.len() == x as usize, "exchange ids are dense");
                self.exchanges.push(exchange);
            }
        }
        if let Some(downstream) = self.downstream_mut(downstream) {
            downstream.exchanges += 1;
        }
        let Some(decision) = self.decide(downstream, head) else {
            self.local_reply(x, 404, "", Details::RouteNotFound, Some(Flag::NR), out);
            return;
        };
        self.exchanges[x as usize].decision = Some(Arc::clone(&decision));
        self.choose_cluster(x, &decision);
        match &decision.outcome {
            Outcome::Matched(matched) => match &matched.route.fault {
                None => self.run_route(x, matched, out),
                Some(fault) => self.inject(x, matched, fault, out),
            },
            Outcome::NoVirtualHost | Outcome::NoRoute { .. } => {
                self.local_reply(x, 404, "", Details::RouteNotFound, Some(Flag::NR), out);
            }
            Outcome::BadPath => {
                self.local_reply(x, 400, "", Details::PathNormalizationFailed, None, out)
            }
            Outcome::TlsRequired { location, .. } => {
                self.redirect(x, 301, location, Details::DirectResponse, out);
            }
        }
    }

    /// Routes the head, or remembers how it was routed before.
    fn decide(
        &mut self,
        downstream: DownstreamId,
        head: Arc<RequestHead>,
    ) -> Option<Arc<Decision>> {
        let downstream = self.downstream(downstream)?;
        let scope = downstream.scope;
        let slot = head.id.map(|id| id.0 as usize);
        if let Some(at) = slot
            && let Some(Some(seen)) = self.remembered.get(at)
            && seen.scope == scope
            && seen.epoch == self.epoch
        {
            return Some(Arc::clone(&seen.decision));
        }
        let chain = downstream.chain.chain()?;
        let NetworkFilter::Http(manager) = &chain.filter else {
            return None;
        };
        let table = match &manager.routes {
            RouteSource::Rds(name) => self.tables.get(name)?,
            RouteSource::Inline(table) => table,
        };
        let mut decision = router::route(table, manager, &head, chain.terminates_tls);
        if let Outcome::Matched(matched) = &mut decision.outcome
            && let RouteAction::Forward(forward) = &matched.route.action
        {
            matched.cluster_ids = forward
                .clusters
                .iter()
                .map(|entry| self.usable(&entry.cluster))
                .collect();
        }
        let decision = Arc::new(decision);
        if let Some(at) = slot {
            if self.remembered.len() <= at {
                self.remembered.resize(at + 1, None);
            }
            let decision = Arc::clone(&decision);
            self.remembered[at] = Some(Remembered {
                scope,
                epoch: self.epoch,
                decision,
            });
        }
        Some(decision)
    }

    /// The cluster called `name`, unless it is unknown or removed.
    pub(super) fn usable(&self, name: &str) -> Option<ClusterId> {
        self.cluster_id(name)
            .filter(|&id| !self.cluster(id).removed)
    }

    /// The cluster is chosen with the route, before any filter: a fault's answer already carries the
    /// header changes of the chosen entry.
    fn choose_cluster(&mut self, x: u32, decision: &Decision) {
        if let Outcome::Matched(matched) = &decision.outcome
            && let RouteAction::Forward(forward) = &matched.route.action
        {
            let exchange = &mut self.exchanges[x as usize];
            exchange.stream_value = self.draws.draw(exchange.key, Purpose::Stream, 0);
            let choice = router::weighted_choice(
                &forward.clusters,
                matched.total_weight,
                exchange.stream_value,
            );
            exchange.weighted_choice = choice as u32;
            exchange.cluster = matched.cluster_ids[choice];
        }
    }

    /// The fault filter: a delay first, and after it perhaps an abort.
    fn inject(&mut self, x: u32, matched: &Matched, fault: &Fault, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        if let Some(delay) = &fault.delay
            && self.draws.draw(exchange.key, Purpose::FaultDelay, 0) % PARTS_PER_MILLION
                < u64::from(delay.fraction_ppm)
        {
            exchange.flags.set(Flag::DI);
            exchange.pause = self
                .timers
                .start(self.now, delay.fixed, Expiry::FaultDelay(x));
            return;
        }
        self.abort_or_route(x, matched, fault, out);
    }

    /// The delay is over.
    pub(super) fn after_fault_delay(&mut self, x: u32, out: &mut Out) {
        let Some(decision) = self.exchanges[x as usize].decision.clone() else {
            return;
        };
        if let Outcome::Matched(matched) = &decision.outcome
            && let Some(fault) = &matched.route.fault
        {
            self.abort_or_route(x, matched, fault, out);
        }
    }

    fn abort_or_route(&mut self, x: u32, matched: &Matched, fault: &Fault, out: &mut Out) {
        let key = self.exchanges[x as usize].key;
        let abort = fault.abort.as_ref().filter(|abort| {
            self.draws.draw(key, Purpose::FaultAbort, 0) % PARTS_PER_MILLION
                < u64::from(abort.fraction_ppm)
        });
        let Some(abort) = abort else {
            self.run_route(x, matched, out);
            return;
        };
        match abort.grpc_status {
            None => {
                let (body, details) = ("fault filter abort", Details::FaultFilterAbort);
                self.local_reply(x, abort.status, body, details, Some(Flag::FI), out);
            }
            Some(code) => {
                let mut head = ResponseHead::of_status(200);
                head.headers
                    .append("grpc-status".into(), code.to_string().as_bytes());
                head.headers
                    .append("grpc-message".into(), b"fault filter abort");
                self.exchanges[x as usize].flags.set(Flag::FI);
                self.reply_with(
                    x,
                    Arc::new(head),
                    Body::Empty,
                    Details::FaultFilterAbort,
                    out,
                );
            }
        }
    }

    fn run_route(&mut self, x: u32, matched: &Matched, out: &mut Out) {
        match &matched.route.action {
            RouteAction::Forward(forward) => self.forward(x, matched, forward, out),
            RouteAction::DirectResponse { status, body } => {
                let head = self.local_heads.of_status(*status);
                let body = if body.is_empty() {
                    Body::Empty
                } else {
                    Body::Local(Arc::clone(body))
                };
                self.reply_with(x, head, body, Details::DirectResponse, out);
            }
            RouteAction::Redirect(redirect) => self.run_redirect(x, &matched.route, redirect, out),
        }
    }

    fn run_redirect(
        &mut self,
        x: u32,
        route: &Arc<Route>,
        redirect: &crate::xds::Redirect,
        out: &mut Out,
    ) {
        let Some(decision) = &self.exchanges[x as usize].decision else {
            return;
        };
        let location = router::redirect_location(redirect, route, &decision.head);
        self.redirect(x, redirect.status, &location, Details::DirectResponse, out);
    }

    fn redirect(&mut self, x: u32, status: u16, location: &str, details: Details, out: &mut Out) {
        let mut head = ResponseHead::of_status(status);
        head.headers.append("location".into(), location.as_bytes());
        self.reply_with(x, Arc::new(head), Body::Empty, details, out);
    }

    /// The router filter, up to the first attempt.
    fn forward(&mut self, x: u32, matched: &Matched, forward: &Forward, out: &mut Out) {
        let exchange = &self.exchanges[x as usize];
        let choice = exchange.weighted_choice as usize;
        let known = exchange.cluster.filter(|&id| !self.cluster(id).removed);
        if known.is_none() {
            let status = forward.cluster_not_found_status;
            self.local_reply(x, status, "", Details::ClusterNotFound, Some(Flag::NC), out);
            return;
        };
        let exchange = &mut self.exchanges[x as usize];
        if let Some(retry) = &forward.retry {
            exchange.retries_left = retry.num_retries;
            if retry.num_retries > 0 && !exchange.request_complete {
                out.actions.push(Action::Buffer {
                    exchange: exchange.id,
                    limit: RETRY_BUFFER_BYTES,
                });
            }
        }
        if !forward.hash_policies.is_empty() {
            self.hash(x, &matched.upstream_heads[choice], forward);
        }
        self.try_host(x, out);
        if self.exchanges[x as usize].live {
            self.start_timeout(x, forward);
        }
    }

    /// Only consistent hashing asks for a hash, and so makes cookies.
    fn hash(&mut self, x: u32, head: &RequestHead, forward: &Forward) {
        let cluster = self.exchanges[x as usize].cluster;
        if !cluster.is_some_and(|id| self.cluster(id).config.lb_policy.hashes()) {
            return;
        }
        let Some(downstream) = self.downstream(self.exchanges[x as usize].downstream) else {
            return;
        };
        let (peer, local) = (downstream.opened.peer, downstream.opened.original_dst);
        let (hash, cookies) = request_hash(&forward.hash_policies, head, peer, local);
        let exchange = &mut self.exchanges[x as usize];
        exchange.hash = hash;
        exchange
            .cookies
            .extend(cookies.into_iter().map(|cookie| cookie.line));
    }

    /// The route timeout runs from the end of the request.
    fn start_timeout(&mut self, x: u32, forward: &Forward) {
        let exchange = &mut self.exchanges[x as usize];
        if exchange.request_complete
            && let Some(timeout) = forward.timeout
        {
            exchange.timeout = self.timers.start(self.now, timeout, Expiry::Route(x));
        }
    }

    pub(super) fn on_request_end(&mut self, id: ExchangeId) {
        let Some(x) = self.exchange(id) else { return };
        if std::mem::replace(&mut self.exchanges[x as usize].request_complete, true) {
            return;
        }
        let Some(decision) = self.exchanges[x as usize].decision.clone() else {
            return;
        };
        if let Some(route) = decision.route()
            && let RouteAction::Forward(forward) = &route.action
            && self.exchanges[x as usize].attempts > 0
        {
            self.start_timeout(x, forward);
            self.start_per_try(x);
        }
    }
}
