//! The HTTP filters before the router: Mixer's check, access control, faults, CORS, and local rate
//! limits at their places among them.

use super::Worker;
use super::reply::LocalReply;
use super::state::Expiry;
use crate::contract::Out;
use crate::messages::SharedCounter;
use crate::random::Purpose;
use crate::router::{Decision, Outcome, RequestSubject, Subject, Token, TokenProblem};
use crate::telemetry::{Details, Flag};
use crate::xds::{Fault, FilterPlace, Fraction, Name, NetworkFilter};
use std::sync::Arc;

impl Worker {
    pub(super) fn run_filters(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if !self.asked(x, decision, out) {
            self.run_filters_after_check(x, decision, out);
        }
    }

    pub(super) fn run_filters_after_check(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if self.limited(x, decision, FilterPlace::First, out) {
            return;
        }
        if let Token::Refused(problem) = decision.token {
            return self.refuse_token(x, decision, problem, out);
        }
        if self.limited(x, decision, FilterPlace::BeforeRbac, out) {
            return;
        }
        if decision.guarded
            && let Some(policy) = self.denied(x, decision)
        {
            let (body, details) = ("RBAC: access denied", Details::RbacAccessDenied(policy));
            return self.local_reply(x, 403, body, details, None, out);
        }
        if self.limited(x, decision, FilterPlace::BeforeFault, out) {
            return;
        }
        match decision.route().and_then(|route| route.fault.as_ref()) {
            None => self.answer_preflight_or_go_on(x, decision, out),
            Some(fault) => self.inject(x, decision, fault, out),
        }
    }

    /// The JWT filter's refusal.
    fn refuse_token(&mut self, x: u32, decision: &Decision, problem: TokenProblem, out: &mut Out) {
        let head = &decision.head;
        // Of the path no more.
        let path: String = head.path.chars().take(256).collect();
        let (scheme, authority) = (&head.scheme, &head.authority);
        let challenge =
            format!("Bearer realm=\"{scheme}://{authority}{path}\", error=\"invalid_token\"");
        let reply = LocalReply {
            status: problem.status(),
            grpc_status: None,
            header: None,
            first: Some(("www-authenticate", challenge.into())),
            body: self.local_texts.of(problem.as_str()),
            details: Details::JwtAuthnAccessDenied(problem),
        };
        self.answer(x, reply, out);
    }

    /// Whether an RBAC filter denies the request, and by which policy, if any.
    fn denied(&self, x: u32, decision: &Decision) -> Option<Option<Name>> {
        let downstream = self.downstream(self.exchanges[x as usize].downstream)?;
        let NetworkFilter::Http(manager) = &downstream.chain.chain()?.filter else {
            return None;
        };
        let subject = Subject {
            opened: &downstream.opened,
            request: Some(RequestSubject {
                head: &decision.head,
                manager,
                claims: decision.token.claims(),
            }),
        };
        let policy = manager.rbac.iter().find_map(|rbac| rbac.denial(subject))?;
        Some(policy.map(|policy| policy.name.clone()))
    }

    /// The fault filter: a delay first, and after it perhaps an abort.
    fn inject(&mut self, x: u32, decision: &Decision, fault: &Fault, out: &mut Out) {
        let key = self.exchanges[x as usize].key;
        let room = fault
            .max_active_faults
            .is_none_or(|max| self.active_faults < max);
        if let Some(delay) = &fault.delay
            && room
            && Fraction::ppm(delay.fraction_ppm).holds(self.draws.draw(key, Purpose::FaultDelay, 0))
        {
            self.count_fault(x, out);
            let exchange = &mut self.exchanges[x as usize];
            exchange.flags.set(Flag::DI);
            exchange.pause = self
                .timers
                .start(self.now, delay.fixed, Expiry::FaultDelay(x));
            return;
        }
        self.abort_or_go_on(x, decision, fault, room, out);
    }

    /// The delay is over. An abort after it needs no room among the active faults.
    pub(super) fn after_fault_delay(&mut self, x: u32, out: &mut Out) {
        self.uncount_fault(x, out);
        let Some(decision) = self.exchanges[x as usize].decision.clone() else {
            return;
        };
        if let Some(fault) = decision.route().and_then(|route| route.fault.as_ref()) {
            self.abort_or_go_on(x, &decision, fault, true, out);
        }
    }

    fn abort_or_go_on(
        &mut self,
        x: u32,
        decision: &Decision,
        fault: &Fault,
        room: bool,
        out: &mut Out,
    ) {
        let key = self.exchanges[x as usize].key;
        let abort = fault.abort.as_ref().filter(|abort| {
            room && Fraction::ppm(abort.fraction_ppm).holds(self.draws.draw(
                key,
                Purpose::FaultAbort,
                0,
            ))
        });
        let Some(abort) = abort else {
            return self.answer_preflight_or_go_on(x, decision, out);
        };
        self.exchanges[x as usize].flags.set(Flag::FI);
        let reply = LocalReply {
            status: abort.grpc_status.map_or(abort.status, |_| 200),
            grpc_status: abort.grpc_status,
            header: None,
            first: None,
            body: self.local_texts.of("fault filter abort"),
            details: Details::FaultFilterAbort,
        };
        self.answer(x, reply, out);
    }

    fn count_fault(&mut self, x: u32, out: &mut Out) {
        self.exchanges[x as usize].delayed = true;
        self.active_faults += 1;
        self.share(|_| SharedCounter::ActiveFaults, 1, out);
    }

    /// The fault of an exchange is over, if it has one.
    pub(super) fn uncount_fault(&mut self, x: u32, out: &mut Out) {
        if std::mem::take(&mut self.exchanges[x as usize].delayed) {
            self.active_faults -= 1;
            self.share(|_| SharedCounter::ActiveFaults, -1, out);
        }
    }

    /// The CORS filter.
    fn answer_preflight_or_go_on(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if self.limited(x, decision, FilterPlace::BeforeCors, out) {
            return;
        }
        let cors = match &decision.outcome {
            Outcome::Matched(matched) => matched.cors.as_ref(),
            _ => None,
        };
        match cors.and_then(|cors| cors.preflight.as_ref()) {
            Some(head) => self.answer_preflight(x, Arc::clone(head), out),
            None => self.limit_or_route(x, decision, out),
        }
    }

    fn limit_or_route(&mut self, x: u32, decision: &Decision, out: &mut Out) {
        if self.limited(x, decision, FilterPlace::BeforeRouter, out) {
            return;
        }
        match &decision.outcome {
            Outcome::Matched(matched) => self.run_route(x, decision, matched, out),
            Outcome::TlsRequired { location, .. } => {
                self.redirect(x, 301, Arc::clone(location), Details::DirectResponse, out);
            }
            _ => self.local_reply(x, 404, "", Details::RouteNotFound, Some(Flag::NR), out),
        }
    }
}
