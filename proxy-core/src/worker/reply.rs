//! Answering the client, and the end of an exchange.

use super::Worker;
use super::response::{Report, reset_flag};
use super::state::{Form, NONE, Stage};
use crate::contract::{Action, Body, Out};
use crate::head::ResponseHead;
use crate::router::{Outcome, head_of_filter, response_head};
use crate::telemetry::{AccessLog, Details, Flag, UpstreamReset};
use crate::xds::{HeaderMutations, Name, RouteAction};
use std::sync::Arc;

/// One of the proxy's own answers.
#[derive(Debug)]
pub(super) struct LocalReply {
    pub(super) status: u16,
    /// Instead of what the status stands for.
    pub(super) grpc_status: Option<u32>,
    /// A header that says `true`.
    pub(super) header: Option<&'static str>,
    /// A header that stands before the route's changes.
    pub(super) first: Option<(&'static str, Name)>,
    pub(super) body: Name,
    pub(super) details: Details,
}

impl Worker {
    /// The proxy's own answer: status and text.
    pub(super) fn local_reply(
        &mut self,
        x: u32,
        status: u16,
        body: &'static str,
        details: Details,
        flag: Option<Flag>,
        out: &mut Out,
    ) {
        if let Some(flag) = flag {
            self.exchanges[x as usize].flags.set(flag);
        }
        let reply = LocalReply {
            status,
            grpc_status: None,
            header: None,
            first: None,
            body: self.local_texts.of(body),
            details,
        };
        self.answer(x, reply, out);
    }

    /// The answer to a reset that is not tried again.
    pub(super) fn reset_reply(&mut self, x: u32, reset: UpstreamReset, out: &mut Out) {
        self.exchanges[x as usize].flags.set(reset_flag(reset));
        let retried = self.exchanges[x as usize].retries > 0;
        let overloaded = reset == UpstreamReset::Overflow;
        let reply = LocalReply {
            status: match reset {
                UpstreamReset::ProtocolError => 502,
                _ => 503,
            },
            grpc_status: None,
            header: overloaded.then_some("x-envoy-overloaded"),
            first: None,
            body: self.local_texts.of_reset(reset, retried),
            details: Details::ResetBeforeResponse(reset),
        };
        self.answer(x, reply, out);
    }

    /// Answers in the form the client expects. The route's changes come after the first header and before
    /// the answer's other headers.
    pub(super) fn answer(&mut self, x: u32, reply: LocalReply, out: &mut Out) {
        self.answer_with(x, reply, &HeaderMutations::default(), out);
    }

    /// The same with headers of the filter that answers, which come after the route's changes.
    pub(super) fn answer_with(
        &mut self,
        x: u32,
        reply: LocalReply,
        of_filter: &HeaderMutations,
        out: &mut Out,
    ) {
        self.exchanges[x as usize].details = reply.details;
        let grpc = self.exchange_speaks_grpc(x).then(|| {
            let code = reply
                .grpc_status
                .unwrap_or_else(|| grpc_status(reply.status));
            (code, &reply.body)
        });
        let status = grpc.map_or(reply.status, |_| 200);
        let form = match grpc {
            Some((code, message)) => Form::Grpc(code, Arc::clone(message)),
            None if reply.body.is_empty() => Form::Empty,
            None => Form::Text,
        };
        let body = match form {
            Form::Text => Body::Local(reply.body),
            Form::Empty | Form::Grpc(..) => Body::Empty,
        };
        let plain = match &reply.first {
            None => self.local_heads.of_status(status),
            Some((name, value)) => {
                let mut head = ResponseHead::of_status(status);
                head.headers.append((*name).into(), value.as_bytes());
                Arc::new(head)
            }
        };
        let mut head = self.mutated(x, Arc::clone(&plain));
        if !of_filter.is_empty() {
            head = self.changed_by_filter(x, head, of_filter);
        }
        let own = self.local_heads.of(status, reply.header, &form);
        if Arc::ptr_eq(&head, &plain) && reply.first.is_none() {
            head = own;
        } else {
            let headers = &mut Arc::make_mut(&mut head).headers;
            if form == Form::Empty {
                headers.remove("content-type");
            }
            for (name, value) in &own.headers.0 {
                // A text is of the type that the route gives it.
                let given = form == Form::Text && **name == *"content-type";
                if !given || headers.get(name).is_none() {
                    headers.set(Arc::clone(name), value.as_bytes());
                }
            }
        }
        self.respond(x, head, body, out);
    }

    fn changed_by_filter(
        &self,
        x: u32,
        head: Arc<ResponseHead>,
        of_filter: &HeaderMutations,
    ) -> Arc<ResponseHead> {
        let exchange = &self.exchanges[x as usize];
        match (&exchange.decision, self.downstream(exchange.downstream)) {
            (Some(decision), Some(downstream)) => {
                head_of_filter(&head, of_filter, decision, &downstream.opened)
            }
            _ => head,
        }
    }

    /// Sends the client elsewhere.
    pub(super) fn redirect(
        &mut self,
        x: u32,
        status: u16,
        location: Name,
        details: Details,
        out: &mut Out,
    ) {
        let reply = LocalReply {
            status,
            grpc_status: None,
            header: None,
            first: Some(("location", location)),
            body: self.local_texts.of(""),
            details,
        };
        self.answer(x, reply, out);
    }

    /// The CORS filter's answer, which the route changes nothing of.
    pub(super) fn answer_preflight(&mut self, x: u32, head: Arc<ResponseHead>, out: &mut Out) {
        self.exchanges[x as usize].details = Details::CorsResponse;
        self.respond(x, head, Body::Empty, out);
    }

    pub(super) fn exchange_speaks_grpc(&self, x: u32) -> bool {
        let decision = &self.exchanges[x as usize].decision;
        decision.as_ref().is_some_and(|decision| decision.grpc)
    }

    fn respond(&mut self, x: u32, head: Arc<ResponseHead>, body: Body, out: &mut Out) {
        let head = self.with_limits(x, head);
        let exchange = &mut self.exchanges[x as usize];
        exchange.responded = true;
        exchange.status = head.status;
        out.actions.push(Action::Respond {
            exchange: exchange.id,
            head,
            body,
        });
        self.finish(x, out);
    }

    /// The response head after the route's changes, with the cookies of its hash policies and what
    /// CORS adds.
    pub(super) fn mutated(&mut self, x: u32, head: Arc<ResponseHead>) -> Arc<ResponseHead> {
        let exchange = &self.exchanges[x as usize];
        let Some(decision) = &exchange.decision else {
            return head;
        };
        let Outcome::Matched(matched) = &decision.outcome else {
            return head;
        };
        let entry = match &matched.route.action {
            RouteAction::Forward(forward) => {
                forward.clusters.get(exchange.weighted_choice as usize)
            }
            // Only their own answers are theirs, not those of filters.
            _ if exchange.details != Details::DirectResponse => return head,
            RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => None,
        };
        let Some(downstream) = self.downstream(exchange.downstream) else {
            return head;
        };
        // Until the router comes to pick a host the request is as it was received.
        let picked = exchange.attempts > 0 || exchange.details == Details::NoHealthyUpstream;
        let request = match picked {
            false => &decision.head,
            true => &matched.upstream_heads[exchange.weighted_choice as usize],
        };
        let code = match exchange.details {
            Details::ViaUpstream => head.status,
            _ => 0,
        };
        let mut head = response_head(&head, code, matched, entry, request, &downstream.opened);
        // Cookies go with upstream responses only.
        if exchange.details == Details::ViaUpstream && !exchange.cookies.is_empty() {
            let changed = Arc::make_mut(&mut head);
            // Every try made them anew.
            for _ in 0..exchange.attempts {
                for cookie in &exchange.cookies {
                    changed
                        .headers
                        .append("set-cookie".into(), cookie.as_bytes());
                }
            }
        }
        let before = matches!(
            exchange.details,
            Details::FaultFilterAbort
                | Details::RbacAccessDenied(_)
                | Details::JwtAuthnAccessDenied(_)
                | Details::MixerDenied(_)
        ) || exchange.limited_before_cors;
        // Filters before that of CORS answer without it.
        if let Some(cors) = &matched.cors
            && !before
            && !cors.response_headers.0.is_empty()
        {
            let headers = &mut Arc::make_mut(&mut head).headers;
            for (name, value) in &cors.response_headers.0 {
                headers.set(Arc::clone(name), value.as_bytes());
            }
        }
        head
    }

    /// The overall timeout of an exchange.
    pub(super) fn route_timed_out(&mut self, x: u32, out: &mut Out) {
        self.drop_attempts(x, true, out);
        self.exchanges[x as usize].flags.set(Flag::UT);
        self.cut_off(
            x,
            504,
            "upstream request timeout",
            Details::ResponseTimeout,
            out,
        );
    }

    /// Answers a request that took too long, or breaks off its response.
    pub(super) fn cut_off(
        &mut self,
        x: u32,
        status: u16,
        body: &'static str,
        details: Details,
        out: &mut Out,
    ) {
        let exchange = &mut self.exchanges[x as usize];
        if !exchange.responded {
            return self.local_reply(x, status, body, details, None, out);
        }
        exchange.details = details;
        out.actions.push(Action::Abort {
            exchange: exchange.id,
        });
        self.finish(x, out);
    }

    /// 408 while the client itself has not finished, otherwise 504.
    pub(super) fn timeout_status(&self, x: u32) -> u16 {
        match self.exchanges[x as usize].request_complete {
            true => 504,
            false => 408,
        }
    }

    /// The client is gone.
    pub(super) fn client_left(&mut self, x: u32, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        exchange.flags.set(Flag::DC);
        exchange.details = Details::DownstreamRemoteDisconnect;
        self.finish(x, out);
    }

    /// Gives up every attempt in progress; a timeout is held against their hosts.
    pub(super) fn drop_attempts(&mut self, x: u32, timed_out: bool, out: &mut Out) {
        if let Some(a) = self.exchanges[x as usize].attempt.take() {
            self.drop_attempt(a, timed_out, out);
        }
        while self.exchanges[x as usize].hedged != NONE {
            let a = self.exchanges[x as usize].hedged;
            self.exchanges[x as usize].hedged = self.attempts[a].next_hedged;
            self.drop_attempt(a, timed_out, out);
        }
    }

    /// Gives up an attempt that its exchange has forgotten.
    pub(super) fn drop_attempt(&mut self, a: u32, timed_out: bool, out: &mut Out) {
        let state = &self.attempts[a];
        let (cluster, host) = (state.cluster, state.host);
        match state.stage {
            Stage::Pending => {
                self.dequeue(a, out);
                self.forget_attempt(a);
                return;
            }
            Stage::Sent if timed_out && !state.timed_out => {
                self.report(cluster, host, Report::LocalOrigin(504), out);
            }
            Stage::Sent | Stage::Responding => {}
        }
        self.end_attempt(a, false, out);
    }

    /// Takes an attempt off its exchange.
    pub(super) fn forget_in_exchange(&mut self, x: u32, a: u32) {
        let exchange = &mut self.exchanges[x as usize];
        if exchange.attempt == Some(a) {
            exchange.attempt = None;
            return;
        }
        let next = self.attempts[a].next_hedged;
        let mut at = exchange.hedged;
        if at == a {
            exchange.hedged = next;
            return;
        }
        while at != NONE {
            let state = &mut self.attempts[at];
            if state.next_hedged == a {
                state.next_hedged = next;
                return;
            }
            at = state.next_hedged;
        }
    }

    /// Writes the access log and frees the exchange.
    pub(super) fn finish(&mut self, x: u32, out: &mut Out) {
        self.release_retry_slot(x, out);
        self.uncount_fault(x, out);
        self.drop_attempts(x, false, out);
        let exchange = &mut self.exchanges[x as usize];
        assert!(exchange.live, "an exchange ends once");
        exchange.live = false;
        self.timers.stop(&mut exchange.timeout);
        self.timers.stop(&mut exchange.pause);
        self.timers.stop(&mut exchange.idle);
        self.timers.stop(&mut exchange.duration);
        self.report_to_mixer(x, out);
        let exchange = &mut self.exchanges[x as usize];
        out.logs.push(AccessLog {
            exchange: exchange.id,
            downstream: exchange.downstream,
            key: exchange.key,
            started_at: exchange.started_at,
            duration: self.now - exchange.started_at,
            status: exchange.status,
            flags: exchange.flags,
            details: exchange.details.clone(),
            decision: exchange.decision.take(),
            weighted_choice: exchange.weighted_choice,
            cluster: exchange.cluster,
            endpoint: exchange.endpoint,
            // A try that found no host counts, though it was none for a pool.
            attempts: exchange.attempts + u32::from(exchange.details == Details::NoHealthyUpstream),
        });
        let downstream = exchange.downstream;
        if let Some(downstream) = self.downstream_mut(downstream) {
            downstream.exchanges -= 1;
        }
    }
}

/// The gRPC status that an HTTP status stands for.
fn grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
