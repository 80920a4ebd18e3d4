//! Timers that went off.

use super::Worker;
use super::reply::LocalReply;
use super::response::{Cause, Report, Retry};
use super::state::{ConnStage, Expiry, Owner};
use crate::contract::{Action, Out};
use crate::telemetry::{Details, Flag, UpstreamReset};
use crate::time::Nanos;
use crate::timers::TimerId;

const GRPC_DEADLINE_EXCEEDED: u32 = 4;

impl Worker {
    pub(super) fn on_tick(&mut self, out: &mut Out) {
        while let Some(expiry) = self.timers.pop(self.now) {
            match expiry {
                Expiry::Route(x) => {
                    self.exchanges[x as usize].timeout = TimerId::NONE;
                    self.route_timed_out(x, out);
                }
                Expiry::StreamIdle(x) => {
                    self.exchanges[x as usize].idle = TimerId::NONE;
                    self.stream_idled(x, out);
                }
                Expiry::StreamDuration(x) => {
                    self.exchanges[x as usize].duration = TimerId::NONE;
                    self.stream_lasted(x, out);
                }
                Expiry::Check(x) => self.check_timed_out(x, out),
                Expiry::FaultDelay(x) => {
                    self.exchanges[x as usize].pause = TimerId::NONE;
                    self.after_fault_delay(x, out);
                }
                Expiry::BackOff(x) => {
                    self.exchanges[x as usize].pause = TimerId::NONE;
                    self.try_host(x, out);
                }
                Expiry::Attempt(a) => {
                    self.attempts[a].timer = TimerId::NONE;
                    self.attempt_timed_out(a, Details::UpstreamPerTryTimeout, out);
                }
                Expiry::AttemptIdle(a) => {
                    self.attempts[a].idle = TimerId::NONE;
                    self.attempt_timed_out(a, Details::UpstreamPerTryIdleTimeout, out);
                }
                Expiry::AttemptDuration(a) => {
                    self.attempts[a].duration = TimerId::NONE;
                    self.attempt_lasted(a, out);
                }
                Expiry::Conn(conn) => {
                    self.conns[conn].timer = TimerId::NONE;
                    self.conn_timed_out(conn, out);
                }
            }
        }
    }

    fn stream_idled(&mut self, x: u32, out: &mut Out) {
        self.exchanges[x as usize].flags.set(Flag::SI);
        let status = self.timeout_status(x);
        self.cut_off(x, status, "stream timeout", Details::StreamIdleTimeout, out);
    }

    fn stream_lasted(&mut self, x: u32, out: &mut Out) {
        if self.exchanges[x as usize].responded {
            return self.cut_off(x, 0, "", Details::MaxDurationTimeout, out);
        }
        let reply = LocalReply {
            status: self.timeout_status(x),
            grpc_status: Some(GRPC_DEADLINE_EXCEEDED),
            header: None,
            first: None,
            body: self.local_texts.of("downstream duration timeout"),
            details: Details::MaxDurationTimeout,
        };
        self.answer(x, reply, out);
    }

    /// A per-try timeout: a local reset of the attempt, which may be tried again. With hedging the
    /// attempt goes on beside its retry.
    fn attempt_timed_out(&mut self, a: u32, details: Details, out: &mut Out) {
        let Owner::Exchange(x) = self.attempts[a].owner else {
            self.drop_attempt(a, true, out);
            return;
        };
        let decision = &self.exchanges[x as usize].decision;
        let forward = decision.as_ref().and_then(|decision| decision.forward());
        if forward.is_some_and(|(_, forward)| forward.hedge_on_per_try_timeout) {
            return self.hedge(x, a, out);
        }
        self.forget_in_exchange(x, a);
        self.drop_attempt(a, true, out);
        let cause = Cause::Reset(UpstreamReset::LocalReset);
        if self.schedule_retry(x, cause, out) != Retry::Scheduled {
            let body = "upstream request timeout";
            self.local_reply(x, 504, body, details, Some(Flag::UT), out);
        }
    }

    fn hedge(&mut self, x: u32, a: u32, out: &mut Out) {
        let state = &mut self.attempts[a];
        if std::mem::replace(&mut state.timed_out, true) {
            return;
        }
        let (cluster, host) = (state.cluster, state.host);
        self.report(cluster, host, Report::LocalOrigin(504), out);
        if self.schedule_retry(x, Cause::TimedOut, out) == Retry::Scheduled {
            let first = std::mem::replace(&mut self.exchanges[x as usize].hedged, a);
            self.attempts[a].next_hedged = first;
        }
    }

    /// `max_stream_duration` of the cluster.
    fn attempt_lasted(&mut self, a: u32, out: &mut Out) {
        let Owner::Exchange(x) = self.attempts[a].owner else {
            self.drop_attempt(a, false, out);
            return;
        };
        let main = self.exchanges[x as usize].attempt == Some(a);
        self.forget_in_exchange(x, a);
        self.drop_attempt(a, false, out);
        let cause = Cause::Reset(UpstreamReset::LocalReset);
        if main && self.schedule_retry(x, cause, out) == Retry::Scheduled {
            return;
        }
        self.exchanges[x as usize].flags.set(Flag::UMSDR);
        let status = self.timeout_status(x);
        let (body, details) = (
            "upstream max stream duration reached",
            Details::UpstreamMaxStreamDurationReached,
        );
        self.cut_off(x, status, body, details, out);
    }

    fn conn_timed_out(&mut self, conn: u32, out: &mut Out) {
        match self.conns[conn].stage {
            ConnStage::Connecting => {
                let generation = self.conns.generation(conn);
                out.actions.push(Action::CloseConn {
                    conn: super::state::conn_id(conn, generation),
                });
                self.fail_connecting(conn, UpstreamReset::ConnectionTimeout, out);
            }
            ConnStage::Ready if self.conns[conn].active == 0 => self.idle_timed_out(conn, out),
            // Starts again when the connection is next idle.
            ConnStage::Ready | ConnStage::Busy | ConnStage::Closed => {}
        }
    }

    /// An idle connection's timer is not started anew each time the connection is used, which would
    /// cost more than all else about it. It runs from some time at which the connection was idle,
    /// and where that was not the last time, goes on for the largest binary fraction of the timeout
    /// that fits into the rest: so the spans are few, and the end is exact.
    fn idle_timed_out(&mut self, conn: u32, out: &mut Out) {
        let cluster = self.cluster(self.conns[conn].cluster);
        let Some(timeout) = cluster.config.idle_timeout else {
            return;
        };
        let left = (self.conns[conn].idle_since + timeout) - self.now;
        if left == Nanos::ZERO {
            return self.close_conn(conn, out);
        }
        let mut span = timeout;
        while span > left {
            span = Nanos(span.0 / 2);
        }
        let span = span.max(Nanos(1));
        self.conns[conn].timer = self.timers.start(self.now, span, Expiry::Conn(conn));
    }
}
