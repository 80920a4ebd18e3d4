//! Answering the client, and the end of an exchange.

use super::Worker;
use super::response::reset_flag;
use super::state::Stage;
use crate::contract::{Action, Body, Out};
use crate::head::ResponseHead;
use crate::router::{Outcome, response_head};
use crate::telemetry::{AccessLog, Details, Flag, UpstreamReset};
use crate::xds::RouteAction;
use std::sync::Arc;

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
        let head = self.local_heads.of_status(status);
        let body = if body.is_empty() {
            Body::Empty
        } else {
            Body::Local(self.local_texts.of(body))
        };
        self.reply_with(x, head, body, details, out);
    }

    /// The answer to a reset that is not tried again.
    pub(super) fn reset_reply(&mut self, x: u32, reset: UpstreamReset, out: &mut Out) {
        self.exchanges[x as usize].flags.set(reset_flag(reset));
        let head = match reset {
            UpstreamReset::Overflow => self.local_heads.overloaded(),
            UpstreamReset::ProtocolError => self.local_heads.of_status(502),
            _ => self.local_heads.of_status(503),
        };
        let retried = self.exchanges[x as usize].retries > 0;
        let text = self.local_texts.of_reset(reset, retried);
        self.reply_with(
            x,
            head,
            Body::Local(text),
            Details::ResetBeforeResponse(reset),
            out,
        );
    }

    pub(super) fn reply_with(
        &mut self,
        x: u32,
        head: Arc<ResponseHead>,
        body: Body,
        details: Details,
        out: &mut Out,
    ) {
        let exchange = &mut self.exchanges[x as usize];
        exchange.responded = true;
        exchange.status = head.status;
        exchange.details = details;
        let head = self.mutated(x, head);
        out.actions.push(Action::Respond {
            exchange: self.exchanges[x as usize].id,
            head,
            body,
        });
        self.finish(x, out);
    }

    /// The response head after the route's changes and with the cookies of its hash policies.
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
            RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => None,
        };
        let mut head = response_head(&head, &matched.response_headers, &matched.route, entry);
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
        head
    }

    /// The overall timeout of an exchange.
    pub(super) fn route_timed_out(&mut self, x: u32, out: &mut Out) {
        self.drop_attempt(x, true, out);
        let exchange = &mut self.exchanges[x as usize];
        exchange.flags.set(Flag::UT);
        if exchange.responded {
            exchange.details = Details::ResponseTimeout;
            out.actions.push(Action::Abort {
                exchange: exchange.id,
            });
            self.finish(x, out);
        } else {
            self.local_reply(
                x,
                504,
                "upstream request timeout",
                Details::ResponseTimeout,
                None,
                out,
            );
        }
    }

    /// The client is gone.
    pub(super) fn client_left(&mut self, x: u32, out: &mut Out) {
        self.drop_attempt(x, false, out);
        let exchange = &mut self.exchanges[x as usize];
        exchange.flags.set(Flag::DC);
        exchange.details = Details::DownstreamRemoteDisconnect;
        self.finish(x, out);
    }

    /// Gives up the attempt in progress; a timeout is held against the host.
    pub(super) fn drop_attempt(&mut self, x: u32, timed_out: bool, out: &mut Out) {
        let Some(a) = self.exchanges[x as usize].attempt.take() else {
            return;
        };
        if timed_out && self.attempts[a].stage == Stage::Sent {
            let (cluster, host) = (self.attempts[a].cluster, self.attempts[a].host);
            self.report(
                cluster,
                host,
                super::response::Report::LocalOrigin(504),
                out,
            );
        }
        if self.attempts[a].stage == Stage::Pending {
            self.dequeue(a, out);
            self.forget_attempt(a);
        } else {
            self.end_attempt(a, false, out);
        }
    }

    /// Writes the access log and frees the exchange.
    pub(super) fn finish(&mut self, x: u32, out: &mut Out) {
        self.release_retry_slot(x, out);
        let exchange = &mut self.exchanges[x as usize];
        assert!(exchange.live, "an exchange ends once");
        exchange.live = false;
        exchange.attempt = None;
        self.timers.stop(&mut exchange.timeout);
        self.timers.stop(&mut exchange.pause);
        out.logs.push(AccessLog {
            exchange: exchange.id,
            downstream: exchange.downstream,
            key: exchange.key,
            started_at: exchange.started_at,
            duration: self.now - exchange.started_at,
            status: exchange.status,
            flags: exchange.flags,
            details: exchange.details,
            decision: exchange.decision.take(),
            weighted_choice: exchange.weighted_choice,
            cluster: exchange.cluster,
            endpoint: exchange.endpoint,
            attempts: exchange.attempts,
        });
        let downstream = exchange.downstream;
        if let Some(downstream) = self.downstream_mut(downstream) {
            downstream.exchanges -= 1;
        }
    }
}
