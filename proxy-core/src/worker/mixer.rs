//! The Mixer filter: a request waits for the verdict on it, a response is reported.

use super::Worker;
use super::reply::LocalReply;
use super::state::Expiry;
use crate::contract::{Action, Out, Verdict};
use crate::ids::ExchangeId;
use crate::router::Decision;
use crate::telemetry::Details;
use crate::timers::TimerId;
use crate::xds::{Mixer, Name};
use std::net::SocketAddr;
use std::sync::Arc;

/// `google.rpc.Code` of a check that got no answer.
const INTERNAL: u32 = 13;

impl Worker {
    /// Asks about the request if its filter is to, which then waits for [`Worker::on_answered`].
    #[inline]
    pub(super) fn asked(&mut self, x: u32, decision: &Decision, out: &mut Out) -> bool {
        match &decision.mixer {
            Some(mixer) if mixer.check => self.ask(x, decision, mixer, out),
            _ => false,
        }
    }

    fn ask(&mut self, x: u32, decision: &Decision, mixer: &Arc<Mixer>, out: &mut Out) -> bool {
        let Some((peer, principal)) = self.client_of(x) else {
            return false;
        };
        let expiry = Expiry::Check(x);
        let exchange = &mut self.exchanges[x as usize];
        exchange.pause = self.timers.start(self.now, mixer.timeout, expiry);
        exchange.asking = true;
        out.actions.push(Action::Ask {
            exchange: exchange.id,
            mixer: Arc::clone(mixer),
            head: Arc::clone(&decision.head),
            peer,
            principal,
            cluster: exchange.cluster,
        });
        true
    }

    /// The client's address, and who it is by its certificate.
    fn client_of(&self, x: u32) -> Option<(SocketAddr, Option<Name>)> {
        let opened = &self
            .downstream(self.exchanges[x as usize].downstream)?
            .opened;
        let tls = opened.tls.as_ref();
        Some((opened.peer, tls.and_then(|tls| tls.principal.clone())))
    }

    pub(super) fn on_answered(&mut self, id: ExchangeId, verdict: Verdict, out: &mut Out) {
        let Some(x) = self.exchange(id) else { return };
        let exchange = &mut self.exchanges[x as usize];
        if !std::mem::take(&mut exchange.asking) {
            return;
        }
        self.timers.stop(&mut exchange.pause);
        let Some(decision) = exchange.decision.clone() else {
            return;
        };
        match verdict {
            Verdict::Allowed => self.run_filters_after_check(x, &decision, out),
            Verdict::Denied { code, message } => self.deny(x, code, message, out),
            Verdict::Failed => self.check_failed(x, &decision, out),
        }
    }

    pub(super) fn check_timed_out(&mut self, x: u32, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        (exchange.pause, exchange.asking) = (TimerId::NONE, false);
        if let Some(decision) = exchange.decision.clone() {
            self.check_failed(x, &decision, out);
        }
    }

    /// Mixer gave no verdict.
    fn check_failed(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if decision.mixer.as_ref().is_none_or(|mixer| mixer.fail_open) {
            return self.run_filters_after_check(x, decision, out);
        }
        let message = self.local_texts.of("INTERNAL:");
        self.deny(x, INTERNAL, message, out);
    }

    fn deny(&mut self, x: u32, code: u32, message: Name, out: &mut Out) {
        let reply = LocalReply {
            status: http_status(code),
            grpc_status: Some(code),
            header: None,
            first: None,
            body: message,
            details: Details::MixerDenied(code),
        };
        self.answer(x, reply, out);
    }

    /// The exchange has ended, whatever its end was: Mixer is told of it.
    #[inline]
    pub(super) fn report_to_mixer(&mut self, x: u32, out: &mut Out) {
        let decision = &self.exchanges[x as usize].decision;
        let mixer = decision
            .as_ref()
            .and_then(|decision| decision.mixer.as_ref());
        if mixer.is_some_and(|mixer| mixer.report) {
            self.report_response(x, out);
        }
    }

    fn report_response(&mut self, x: u32, out: &mut Out) {
        let exchange = &self.exchanges[x as usize];
        let (Some(decision), Some((peer, _))) = (&exchange.decision, self.client_of(x)) else {
            return;
        };
        let Some(mixer) = &decision.mixer else { return };
        out.actions.push(Action::Report {
            exchange: exchange.id,
            mixer: Arc::clone(mixer),
            head: Arc::clone(&decision.head),
            peer,
            cluster: exchange.cluster,
            status: match exchange.status {
                0 => 500,
                status => status,
            },
            duration: self.now - exchange.started_at,
        });
    }
}

/// The HTTP status that stands for a `google.rpc.Code` (istio/proxy, `HttpCode`).
fn http_status(code: u32) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
