//! Timers that went off.

use super::Worker;
use super::response::Report;
use super::state::{ConnStage, Expiry, Owner, Stage};
use crate::contract::{Action, Out};
use crate::telemetry::{Details, Flag, UpstreamReset};
use crate::time::Nanos;
use crate::timers::TimerId;

impl Worker {
    pub(super) fn on_tick(&mut self, out: &mut Out) {
        while let Some(expiry) = self.timers.pop(self.now) {
            match expiry {
                Expiry::Route(x) => {
                    self.exchanges[x as usize].timeout = TimerId::NONE;
                    self.route_timed_out(x, out);
                }
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
                    self.attempt_timed_out(a, out);
                }
                Expiry::Conn(conn) => {
                    self.conns[conn].timer = TimerId::NONE;
                    self.conn_timed_out(conn, out);
                }
            }
        }
    }

    /// A per-try timeout: a local reset of the attempt, which may be tried again.
    fn attempt_timed_out(&mut self, a: u32, out: &mut Out) {
        let Owner::Exchange(x) = self.attempts[a].owner else {
            self.drop_mirror(a, out);
            return;
        };
        self.drop_attempt(x, true, out);
        self.release_retry_slot(x, out);
        let sent = self.exchanges[x as usize].request_sent;
        let reset = UpstreamReset::LocalReset;
        let wants = |policy: &crate::xds::RetryPolicy| {
            crate::resilience::retry::retries_reset(policy, reset, sent)
        };
        if !self.retry_scheduled(x, wants, out) {
            let (body, details) = ("upstream request timeout", Details::UpstreamPerTryTimeout);
            self.local_reply(x, 504, body, details, Some(Flag::UT), out);
        }
    }

    fn drop_mirror(&mut self, a: u32, out: &mut Out) {
        if self.attempts[a].stage == Stage::Pending {
            self.dequeue(a, out);
            self.forget_attempt(a);
            return;
        }
        if self.attempts[a].stage == Stage::Sent {
            let (cluster, host) = (self.attempts[a].cluster, self.attempts[a].host);
            self.report(cluster, host, Report::LocalOrigin(504), out);
        }
        self.end_attempt(a, false, out);
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
