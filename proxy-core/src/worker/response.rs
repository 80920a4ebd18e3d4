//! What comes back from an endpoint, and whether to try again.

use super::Worker;
use super::state::{Expiry, NONE, Owner, Stage};
use crate::contract::{Action, Body, EjectionReason, Out, ResetReason};
use crate::head::ResponseHead;
use crate::ids::{AttemptId, ClusterId};
use crate::messages::{SharedCounter, ToMain};
use crate::resilience::retry;
use crate::telemetry::{Details, Flag, UpstreamReset};
use crate::time::Nanos;
use crate::xds::{LbPolicy, OutlierDetection, RetryOn};
use std::sync::Arc;

/// What may be a reason to try again.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    Response(&'a ResponseHead),
    Reset(UpstreamReset),
    /// A try took too long, and goes on beside its retry.
    TimedOut,
}

/// What became of the wish to try again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Unwanted,
    /// No retry is left, or the circuit breaker is open.
    Refused,
    Scheduled,
}

/// What a try tells outlier detection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Status(u16),
    /// The proxy's own view: no connection, reset, timeout; with the status it stands for.
    LocalOrigin(u16),
}

impl Worker {
    pub(super) fn on_response_head(
        &mut self,
        id: AttemptId,
        head: Arc<ResponseHead>,
        ends: bool,
        out: &mut Out,
    ) {
        if !self.attempts.holds(id.index, id.generation) {
            return;
        }
        let a = id.index;
        if self.attempts[a].stage != Stage::Sent {
            return;
        }
        self.attempts[a].stage = Stage::Responding;
        let (cluster, host) = (self.attempts[a].cluster, self.attempts[a].host);
        let status = match self.speaks_grpc(self.attempts[a].owner) {
            true => grpc_reported_status(&head),
            false => head.status,
        };
        self.report(cluster, host, Report::Status(status), out);
        self.notice_degraded(cluster, host, &head, out);
        let Owner::Exchange(x) = self.attempts[a].owner else {
            if ends {
                self.end_attempt(a, true, out);
            }
            return;
        };
        self.stop_timers_of_try(a);
        let cause = Cause::Response(&head);
        let verdict = if self.exchanges[x as usize].attempt == Some(a) {
            self.schedule_retry(x, cause, out)
        } else if self.would_retry(x, cause) {
            // It was tried again already.
            Retry::Refused
        } else {
            Retry::Unwanted
        };
        match verdict {
            Retry::Scheduled => {
                let clean = ends && self.exchanges[x as usize].request_complete;
                self.end_attempt(a, clean, out);
            }
            // Another attempt may still do better.
            Retry::Refused if self.others_may_answer(x, a) => {
                self.forget_in_exchange(x, a);
                self.end_attempt(a, false, out);
            }
            Retry::Refused | Retry::Unwanted => {
                self.settle_on(x, a, out);
                self.relay(x, a, head, ends, out);
            }
        }
    }

    fn speaks_grpc(&self, owner: Owner) -> bool {
        let x = match owner {
            Owner::Exchange(x) => Some(x),
            Owner::Mirror(id) => self.exchange(id),
        };
        x.is_some_and(|x| self.exchange_speaks_grpc(x))
    }

    /// The attempt whose response goes to the client; all others are given up.
    fn settle_on(&mut self, x: u32, a: u32, out: &mut Out) {
        self.release_retry_slot(x, out);
        let exchange = &mut self.exchanges[x as usize];
        self.timers.stop(&mut exchange.pause);
        self.timers.stop(&mut exchange.idle);
        if exchange.hedged != NONE {
            self.forget_in_exchange(x, a);
            self.drop_attempts(x, false, out);
            self.exchanges[x as usize].attempt = Some(a);
        }
    }

    /// Whether an attempt other than `a` still waits for its response, or a retry for its turn.
    fn others_may_answer(&self, x: u32, a: u32) -> bool {
        let exchange = &self.exchanges[x as usize];
        let another_hedged = match exchange.hedged {
            NONE => false,
            first => first != a || self.attempts[first].next_hedged != NONE,
        };
        another_hedged || exchange.attempt.is_some_and(|main| main != a) || exchange.retry_waits()
    }

    /// Forwards the response head; the driver streams the rest.
    fn relay(&mut self, x: u32, a: u32, head: Arc<ResponseHead>, ends: bool, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        exchange.responded = true;
        exchange.status = head.status;
        exchange.details = Details::ViaUpstream;
        let head = self.mutated(x, head);
        let head = self.with_limits(x, head);
        let attempt = super::state::attempt_id(a, self.attempts.generation(a));
        let body = if ends {
            Body::Empty
        } else {
            Body::Relay(attempt)
        };
        out.actions.push(Action::Respond {
            exchange: self.exchanges[x as usize].id,
            head,
            body,
        });
        if ends {
            self.end_response(x, a, out);
        }
    }

    /// A response that came before all of the request was sent leaves a useless connection.
    fn end_response(&mut self, x: u32, a: u32, out: &mut Out) {
        let clean = self.exchanges[x as usize].request_complete;
        self.exchanges[x as usize].attempt = None;
        self.end_attempt(a, clean, out);
        self.finish(x, out);
    }

    pub(super) fn on_response_end(&mut self, id: AttemptId, out: &mut Out) {
        if !self.attempts.holds(id.index, id.generation)
            || self.attempts[id.index].stage != Stage::Responding
        {
            return;
        }
        match self.attempts[id.index].owner {
            Owner::Exchange(x) => self.end_response(x, id.index, out),
            Owner::Mirror(_) => self.end_attempt(id.index, true, out),
        }
    }

    pub(super) fn on_reset(&mut self, id: AttemptId, reason: ResetReason, out: &mut Out) {
        if !self.attempts.holds(id.index, id.generation)
            || self.attempts[id.index].stage == Stage::Pending
        {
            return;
        }
        let reset = match reason {
            ResetReason::RemoteReset => UpstreamReset::RemoteReset,
            ResetReason::RefusedStream => UpstreamReset::RemoteRefusedStreamReset,
            ResetReason::ConnectionTermination => UpstreamReset::ConnectionTermination,
            ResetReason::ProtocolError => UpstreamReset::ProtocolError,
        };
        self.detach(id.index, false, out);
        self.attempt_failed(id.index, reset, out);
    }

    /// An attempt that is off its connection, or never had one, ended without a response.
    pub(super) fn attempt_failed(&mut self, a: u32, reset: UpstreamReset, out: &mut Out) {
        let (cluster, host, owner) = (
            self.attempts[a].cluster,
            self.attempts[a].host,
            self.attempts[a].owner,
        );
        if reset != UpstreamReset::Overflow {
            let status = if reset == UpstreamReset::LocalReset {
                504
            } else {
                503
            };
            self.report(cluster, host, Report::LocalOrigin(status), out);
        }
        let Owner::Exchange(x) = owner else {
            return self.forget_attempt(a);
        };
        let hedged = self.exchanges[x as usize].attempt != Some(a);
        self.forget_in_exchange(x, a);
        self.forget_attempt(a);
        let exchange = &mut self.exchanges[x as usize];
        if exchange.responded {
            exchange.flags.set(reset_flag(reset));
            exchange.details = Details::ResetAfterResponse(reset);
            out.actions.push(Action::Abort {
                exchange: exchange.id,
            });
            self.finish(x, out);
            return;
        }
        let cause = Cause::Reset(reset);
        if !hedged && self.schedule_retry(x, cause, out) == Retry::Scheduled {
            return;
        }
        if !self.others_may_answer(x, a) {
            self.reset_reply(x, reset, out);
        }
    }

    /// Whether the retry policy covers what happened to an attempt.
    fn would_retry(&self, x: u32, cause: Cause<'_>) -> bool {
        let exchange = &self.exchanges[x as usize];
        let Some((matched, forward)) = exchange.decision.as_ref().and_then(|d| d.forward()) else {
            return false;
        };
        let Some(policy) = &forward.retry else {
            return false;
        };
        let head = &matched.upstream_heads[exchange.weighted_choice as usize];
        match cause {
            // Hedging asks only that there be some condition.
            Cause::TimedOut => policy.retry_on != RetryOn::default(),
            _ if !retry::retries_request(policy, head) => false,
            Cause::Response(head) => retry::retries_response(policy, head),
            Cause::Reset(reset) => retry::retries_reset(policy, reset, exchange.request_sent),
        }
    }

    /// Takes the decision in Envoy's order: the slot of the retry before is free, condition, limit,
    /// circuit breaker, back-off.
    pub(super) fn schedule_retry(&mut self, x: u32, cause: Cause<'_>, out: &mut Out) -> Retry {
        self.release_retry_slot(x, out);
        let exchange = &self.exchanges[x as usize];
        let Some(id) = exchange.cluster else {
            return Retry::Unwanted;
        };
        if exchange.responded || exchange.buffer_full || !self.would_retry(x, cause) {
            return Retry::Unwanted;
        }
        let exchange = &mut self.exchanges[x as usize];
        if exchange.retries_left == 0 {
            exchange.flags.set(Flag::URX);
            return Retry::Refused;
        }
        exchange.retries_left -= 1;
        let cluster = self.cluster_mut(id);
        let under_way = cluster
            .counts
            .requests
            .saturating_add(cluster.counts.pending);
        let limit = retry::concurrency_limit(&cluster.config.circuit_breakers, under_way);
        if cluster.counts.retries >= limit {
            self.exchanges[x as usize].flags.set(Flag::UO);
            out.overflow(id);
            return Retry::Refused;
        }
        cluster.counts.retries += 1;
        self.share(|_| SharedCounter::Retries(id), 1, out);
        let wait = self.back_off(x, cause);
        let exchange = &mut self.exchanges[x as usize];
        exchange.retry_slot = true;
        exchange.retries += 1;
        exchange.attempt = None;
        exchange.pause = self.timers.start(self.now, wait, Expiry::BackOff(x));
        Retry::Scheduled
    }

    fn back_off(&mut self, x: u32, cause: Cause<'_>) -> Nanos {
        let draw = self.back_off_draw(x);
        let (now, exchange) = (self.now, &mut self.exchanges[x as usize]);
        let forward = exchange.decision.as_ref().and_then(|d| d.forward());
        let Some(policy) = forward.and_then(|(_, forward)| forward.retry.as_ref()) else {
            return Nanos::ZERO;
        };
        if let Cause::Response(head) = cause
            && let Some(limited) = &policy.rate_limited_back_off
            && let Some(wait) = retry::rate_limited_back_off(limited, head, now, draw)
        {
            return wait;
        }
        let wait = retry::back_off(policy, exchange.back_offs, draw);
        exchange.back_offs += 1;
        wait
    }

    pub(super) fn release_retry_slot(&mut self, x: u32, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        if std::mem::take(&mut exchange.retry_slot)
            && let Some(id) = exchange.cluster
        {
            self.cluster_mut(id).counts.retries -= 1;
            self.share(|_| SharedCounter::Retries(id), -1, out);
        }
    }

    /// An attempt that was on a connection is over. `clean`: its response was complete, so the
    /// connection can be used again, unless the request still is on its way.
    pub(super) fn end_attempt(&mut self, a: u32, clean: bool, out: &mut Out) {
        let clean = clean && self.request_complete(self.attempts[a].owner);
        if !clean {
            let attempt = super::state::attempt_id(a, self.attempts.generation(a));
            let conn = self.attempts[a].conn;
            let conn = super::state::conn_id(conn, self.conns.generation(conn));
            out.actions.push(Action::Cancel { attempt, conn });
        }
        self.detach(a, clean, out);
        self.forget_attempt(a);
    }

    /// Whether the request behind an attempt has been received in full; one that is over counts so.
    fn request_complete(&self, owner: Owner) -> bool {
        let x = match owner {
            Owner::Exchange(x) => Some(x),
            Owner::Mirror(id) => self.exchange(id),
        };
        x.is_none_or(|x| self.exchanges[x as usize].request_complete)
    }

    pub(super) fn forget_attempt(&mut self, a: u32) {
        self.stop_timers_of_try(a);
        let state = &mut self.attempts[a];
        self.timers.stop(&mut state.duration);
        state.head = None;
        self.attempts.remove(a);
    }

    fn stop_timers_of_try(&mut self, a: u32) {
        let state = &mut self.attempts[a];
        self.timers.stop(&mut state.timer);
        self.timers.stop(&mut state.idle);
    }

    pub(super) fn observe_latency(&mut self, a: u32) {
        let (id, host, sent_at) = (
            self.attempts[a].cluster,
            self.attempts[a].host,
            self.attempts[a].sent_at,
        );
        let now = self.now;
        let cluster = self.cluster_mut(id);
        if let LbPolicy::PeakEwma { decay, .. } = cluster.config.lb_policy {
            cluster.latencies[host as usize].observe(now, now - sent_at, decay);
        }
    }

    /// A connection took an attempt: with split errors, a success of the proxy's own making.
    pub(super) fn connected_locally(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        let cluster = self.cluster_mut(id);
        let split = cluster
            .config
            .outlier_detection
            .as_ref()
            .is_some_and(|config| config.split_external_local_origin_errors);
        if !split {
            return;
        }
        let counts = cluster
            .config
            .outlier_detection
            .as_ref()
            .is_some_and(OutlierDetection::counts);
        let state = &mut cluster.hosts[host as usize];
        if counts {
            state.local_origin.count(true);
        }
        let before = std::mem::take(&mut state.consecutive_local_origin);
        let address = state.address;
        if before > 0 {
            let counter = SharedCounter::ConsecutiveLocalOrigin(id, address);
            self.share(|_| counter, -(before as i32), out);
        }
    }

    /// Counts a result for outlier detection; a threshold just reached is told to the main machine.
    pub(super) fn report(&mut self, id: ClusterId, host: u32, report: Report, out: &mut Out) {
        let cluster = self.cluster_mut(id);
        let Some(config) = &cluster.config.outlier_detection else {
            return;
        };
        let (n_gateway, n_5xx, n_local) = (
            config.consecutive_gateway_failure,
            config.consecutive_5xx,
            config.consecutive_local_origin_failure,
        );
        let split = config.split_external_local_origin_errors;
        let counts = config.counts();
        let state = &mut cluster.hosts[host as usize];
        if !state.listed {
            return;
        }
        if counts {
            state.count(report, split);
        }
        let before = [
            state.consecutive_gateway,
            state.consecutive_5xx,
            state.consecutive_local_origin,
        ];
        match report {
            Report::LocalOrigin(_) if split => state.consecutive_local_origin += 1,
            Report::LocalOrigin(status) | Report::Status(status) => {
                let gateway = (502..=504).contains(&status);
                state.consecutive_gateway = if gateway {
                    state.consecutive_gateway + 1
                } else {
                    0
                };
                let failed = (500..600).contains(&status);
                state.consecutive_5xx = if failed { state.consecutive_5xx + 1 } else { 0 };
            }
        }
        let after = [
            state.consecutive_gateway,
            state.consecutive_5xx,
            state.consecutive_local_origin,
        ];
        let address = state.address;
        let reasons = [
            (EjectionReason::ConsecutiveGatewayFailure, n_gateway),
            (EjectionReason::Consecutive5xx, n_5xx),
            (EjectionReason::ConsecutiveLocalOriginFailure, n_local),
        ];
        let counters = [
            SharedCounter::ConsecutiveGateway(id, address),
            SharedCounter::Consecutive5xx(id, address),
            SharedCounter::ConsecutiveLocalOrigin(id, address),
        ];
        for i in 0..3 {
            if after[i] != before[i] {
                self.share(|_| counters[i], after[i] as i32 - before[i] as i32, out);
            }
            // Fires on equality only.
            if after[i] > before[i] && after[i] == reasons[i].1 {
                out.to_main.push(ToMain::Outlier {
                    id,
                    address,
                    reason: reasons[i].0,
                });
            }
        }
    }
}

/// gRPC responses without a body report the status their code stands for.
fn grpc_reported_status(head: &ResponseHead) -> u16 {
    let Some(code) = head.headers.get("grpc-status") else {
        return head.status;
    };
    match code {
        b"0" => 200,
        b"1" => 499,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" => 404,
        b"6" | b"10" => 409,
        b"7" => 403,
        b"8" => 429,
        b"12" => 501,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    }
}

/// The response flag of a reset.
pub(super) fn reset_flag(reset: UpstreamReset) -> Flag {
    match reset {
        UpstreamReset::RemoteConnectionFailure
        | UpstreamReset::LocalConnectionFailure
        | UpstreamReset::ConnectionTimeout => Flag::UF,
        UpstreamReset::ConnectionTermination => Flag::UC,
        UpstreamReset::RemoteReset | UpstreamReset::RemoteRefusedStreamReset => Flag::UR,
        UpstreamReset::LocalReset => Flag::LR,
        UpstreamReset::ProtocolError => Flag::UPE,
        UpstreamReset::Overflow => Flag::UO,
    }
}
