//! A request arrives: routing, and what the route does with it.

use super::reply::LocalReply;
use super::state::{Exchange, Expiry, NONE};
use super::{Remembered, Worker};
use crate::contract::{Action, Out};
use crate::head::RequestHead;
use crate::ids::{ClusterId, DownstreamId, ExchangeId};
use crate::random::Purpose;
use crate::router::hash::request_hash;
use crate::router::{self, Decision, Matched, Outcome, Stream};
use crate::telemetry::{Details, Flag};
use crate::xds::{Forward, NetworkFilter, RouteAction, RouteSource};
use std::sync::Arc;

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
        let stream_value = self.draws.draw(key, Purpose::Stream, 0);
        self.exchanges[x as usize].stream_value = stream_value;
        let Some(decision) = self.decide(downstream, head, stream_value) else {
            self.local_reply(x, 404, "", Details::RouteNotFound, Some(Flag::NR), out);
            return;
        };
        self.exchanges[x as usize].decision = Some(Arc::clone(&decision));
        self.choose_cluster(x, &decision, out);
        self.start_stream_timers(x, &decision);
        match &decision.outcome {
            Outcome::BadPath => {
                self.local_reply(x, 400, "", Details::PathNormalizationFailed, None, out)
            }
            Outcome::EscapedPath { location } => {
                let details = Details::PathNormalizationFailed;
                self.redirect(x, 307, Arc::clone(location), details, out);
            }
            _ => self.run_filters(x, &decision, out),
        }
    }

    fn start_stream_timers(&mut self, x: u32, decision: &Decision) {
        let exchange = &mut self.exchanges[x as usize];
        if let Some(duration) = decision.max_stream_duration {
            let expiry = Expiry::StreamDuration(x);
            exchange.duration = self.timers.start(self.now, duration, expiry);
        }
        if let Some(idle) = decision.stream_idle_timeout {
            exchange.idle = self.timers.start(self.now, idle, Expiry::StreamIdle(x));
        }
    }

    /// The stream has made progress.
    fn restart_idle_timer(&mut self, x: u32, decision: &Decision) {
        if let Some(idle) = decision.stream_idle_timeout {
            let exchange = &mut self.exchanges[x as usize];
            self.timers.stop(&mut exchange.idle);
            exchange.idle = self.timers.start(self.now, idle, Expiry::StreamIdle(x));
        }
    }

    /// Routes the head, or remembers how it was routed before.
    fn decide(
        &mut self,
        downstream: DownstreamId,
        head: Arc<RequestHead>,
        stream_value: u64,
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
        let stream = Stream {
            opened: &downstream.opened,
            secure: chain.terminates_tls,
            value: stream_value,
        };
        let mut decision = router::route(table, manager, &head, stream);
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
        if let Some(at) = slot
            && !decision.one_off
        {
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
        self.cluster_id(name).filter(|&id| {
            let awake = self.clusters[id.0 as usize].awake();
            awake.is_none_or(|cluster| !cluster.removed)
        })
    }

    /// The cluster is chosen with the route, before any filter: a fault's answer already carries the
    /// header changes of the chosen entry.
    fn choose_cluster(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if let Outcome::Matched(matched) = &decision.outcome
            && let RouteAction::Forward(forward) = &matched.route.action
        {
            let exchange = &mut self.exchanges[x as usize];
            let choice = router::weighted_choice(
                &forward.clusters,
                matched.total_weight,
                exchange.stream_value,
            );
            exchange.weighted_choice = choice as u32;
            exchange.cluster = matched.cluster_ids[choice];
            if let Some(id) = exchange.cluster {
                self.wake(id, out);
            }
        }
    }

    pub(super) fn run_route(
        &mut self,
        x: u32,
        decision: &Decision,
        matched: &Matched,
        out: &mut Out,
    ) {
        match &matched.route.action {
            RouteAction::Forward(forward) => self.forward(x, matched, forward, out),
            RouteAction::DirectResponse { status, body } => {
                let reply = LocalReply {
                    status: *status,
                    grpc_status: None,
                    header: None,
                    first: router::location_of_direct_response(*status, &decision.head)
                        .map(|location| ("location", location)),
                    body: Arc::clone(body),
                    details: Details::DirectResponse,
                };
                self.answer(x, reply, out);
            }
            RouteAction::Redirect(redirect) => {
                let location = router::redirect_location(redirect, &matched.route, &decision.head);
                let details = Details::DirectResponse;
                self.redirect(x, redirect.status, location.into(), details, out);
            }
        }
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
        if self.dropped_for_overload(x, out) {
            return;
        }
        let exchange = &mut self.exchanges[x as usize];
        exchange.completed_at = self.now;
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
            self.start_timeout(x, matched);
        }
    }

    /// `drop_overload` of the cluster's endpoints.
    fn dropped_for_overload(&mut self, x: u32, out: &mut Out) -> bool {
        const WHOLE: u32 = 1_000_000;
        let exchange = &self.exchanges[x as usize];
        let share = exchange
            .cluster
            .map_or(0, |id| self.cluster(id).drop_overload_ppm);
        if share == 0 {
            return false;
        }
        if share < WHOLE {
            let draw = self.draws.draw(exchange.key, Purpose::DropOverload, 0);
            if u128::from(draw) * u128::from(WHOLE) >= u128::from(share) << 64 {
                return false;
            }
        }
        let (flag, header, body, details) = if share < WHOLE {
            let details = Details::DropOverload;
            (Flag::DO, "x-envoy-drop-overload", "drop overload", details)
        } else {
            let body = "unconditional drop overload";
            let details = Details::UnconditionalDropOverload;
            (
                Flag::UDO,
                "x-envoy-unconditional-drop-overload",
                body,
                details,
            )
        };
        self.exchanges[x as usize].flags.set(flag);
        let reply = LocalReply {
            status: 503,
            grpc_status: None,
            header: Some(header),
            first: None,
            body: self.local_texts.of(body),
            details,
        };
        self.answer(x, reply, out);
        true
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
    fn start_timeout(&mut self, x: u32, matched: &Matched) {
        let exchange = &mut self.exchanges[x as usize];
        if exchange.request_complete
            && let Some(timeout) = matched.timeouts.route
        {
            exchange.timeout = self.timers.start(self.now, timeout, Expiry::Route(x));
        }
    }

    pub(super) fn on_request_end(&mut self, id: ExchangeId) {
        let Some(x) = self.exchange(id) else { return };
        let exchange = &mut self.exchanges[x as usize];
        if std::mem::replace(&mut exchange.request_complete, true) {
            return;
        }
        exchange.completed_at = self.now;
        let Some(decision) = exchange.decision.clone() else {
            return;
        };
        if !exchange.responded {
            self.restart_idle_timer(x, &decision);
        }
        // A request that ends while nothing is under way, but a back-off, is not timed at all.
        if let Some((matched, _)) = decision.forward()
            && self.exchanges[x as usize].attempt.is_some()
        {
            self.start_timeout(x, matched);
            self.start_per_try(x);
        }
    }

    /// Without its whole body a request cannot be tried again: a retry that is waiting is given up.
    pub(super) fn on_buffer_full(&mut self, id: ExchangeId, out: &mut Out) {
        let Some(x) = self.exchange(id) else { return };
        let exchange = &mut self.exchanges[x as usize];
        if std::mem::replace(&mut exchange.buffer_full, true) || !exchange.retry_waits() {
            return;
        }
        self.timers.stop(&mut exchange.pause);
        let alone = exchange.hedged == NONE;
        self.release_retry_slot(x, out);
        if alone {
            let body = "exceeded request buffer limit while retrying upstream";
            self.local_reply(x, 507, body, Details::RetryBufferExceeded, None, out);
        }
    }
}
