//! HTTP/1 connection pools: one per host, with a queue (Envoy `conn_pool_base.cc`).

use super::Worker;
use super::state::{Conn, ConnStage, Expiry, NONE, Owner, Stage, attempt_id, conn_id};
use crate::cluster::HostList;
use crate::contract::{Action, BodySource, ConnTransport, ConnectFailure, Out};
use crate::ids::{ClusterId, ConnId};
use crate::messages::SharedCounter;
use crate::telemetry::UpstreamReset;
use crate::timers::TimerId;
use crate::xds::Transport;

/// Connections opened at most for one new stream.
const CONNECTS_PER_CALL: u32 = 3;

impl Worker {
    /// A new stream: the most recently freed connection, or the queue.
    pub(super) fn queue_or_send(&mut self, attempt: u32, out: &mut Out) {
        let (id, host) = (self.attempts[attempt].cluster, self.attempts[attempt].host);
        if self.cluster(id).hosts[host as usize].idle.last != NONE {
            if self.admit(attempt, out)
                && let Some(conn) = self.pop_idle(id, host)
            {
                self.attach(attempt, conn, out);
            }
            return;
        }
        let cluster = self.cluster(id);
        if cluster.counts.pending >= cluster.config.circuit_breakers.max_pending_requests {
            out.overflow(id);
            if let Owner::Exchange(x) = self.attempts[attempt].owner {
                self.exchanges[x as usize].endpoint = None;
            }
            self.attempt_failed(attempt, UpstreamReset::Overflow, out);
            return;
        }
        self.enqueue(attempt, out);
        self.connect_as_needed(id, host, out);
    }

    fn enqueue(&mut self, attempt: u32, out: &mut Out) {
        let (id, host) = (self.attempts[attempt].cluster, self.attempts[attempt].host);
        let cluster = self.cluster_mut(id);
        cluster.counts.pending += 1;
        let queue = &mut cluster.hosts[host as usize].pending;
        let last = std::mem::replace(&mut queue.last, attempt);
        queue.len += 1;
        if last == NONE {
            queue.first = attempt;
        } else {
            self.attempts[last].next = attempt;
        }
        self.attempts[attempt].previous = last;
        self.attempts[attempt].next = NONE;
        self.share(|_| SharedCounter::Pending(id), 1, out);
    }

    /// Takes an attempt out of its host's queue.
    pub(super) fn dequeue(&mut self, attempt: u32, out: &mut Out) {
        let state = &self.attempts[attempt];
        let (id, host, previous, next) = (state.cluster, state.host, state.previous, state.next);
        if previous != NONE {
            self.attempts[previous].next = next;
        }
        if next != NONE {
            self.attempts[next].previous = previous;
        }
        let cluster = self.cluster_mut(id);
        cluster.counts.pending -= 1;
        let queue = &mut cluster.hosts[host as usize].pending;
        queue.len -= 1;
        if previous == NONE {
            queue.first = next;
        }
        if next == NONE {
            queue.last = previous;
        }
        self.share(|_| SharedCounter::Pending(id), -1, out);
    }

    /// Opens connections while fewer are on their way than attempts wait. A pool without any
    /// opens one even over the limit.
    fn connect_as_needed(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        for _ in 0..CONNECTS_PER_CALL {
            let cluster = self.cluster(id);
            let state = &cluster.hosts[host as usize];
            if state.pending.len <= state.connecting {
                return;
            }
            let room = cluster.counts.connections < cluster.config.circuit_breakers.max_connections;
            if !room && state.connections > 0 {
                return;
            }
            self.connect(id, host, out);
        }
    }

    fn connect(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        let cluster = self.cluster_mut(id);
        cluster.counts.connections += 1;
        let state = &mut cluster.hosts[host as usize];
        state.connecting += 1;
        state.connections += 1;
        let (endpoint, address) = (state.endpoint, state.address);
        let transport = match &cluster.config.transport {
            Transport::Plaintext => ConnTransport::Plaintext,
            Transport::AutoMutualTls if !state.mutual_tls => ConnTransport::Plaintext,
            Transport::AutoMutualTls | Transport::IstioMutualTls => ConnTransport::MutualTls,
            Transport::Tls { sni } => ConnTransport::Tls { sni: sni.clone() },
        };
        let timeout = cluster.config.connect_timeout;
        let requests_left = match cluster.config.max_requests_per_connection {
            0 => u32::MAX,
            limit => limit,
        };
        let conn = Conn {
            cluster: id,
            host,
            stage: ConnStage::Connecting,
            attempt: NONE,
            requests_left,
            draining: false,
            idle_since: self.now,
            timer: TimerId::NONE,
            previous: NONE,
            next: NONE,
        };
        let (index, generation) = self.conns.insert(conn);
        self.conns[index].timer = self.timers.start(self.now, timeout, Expiry::Conn(index));
        out.actions.push(Action::Connect {
            conn: conn_id(index, generation),
            endpoint,
            address,
            transport,
        });
        self.share(|_| SharedCounter::Connections(id), 1, out);
    }

    pub(super) fn on_connected(&mut self, id: ConnId, out: &mut Out) {
        if !self.is_connecting(id) {
            return;
        }
        let conn = &mut self.conns[id.index];
        let (cluster, host) = (conn.cluster, conn.host);
        conn.stage = ConnStage::Busy;
        self.timers.stop(&mut conn.timer);
        self.cluster_mut(cluster).hosts[host as usize].connecting -= 1;
        self.freed(id.index, out);
    }

    /// A connection can take a request: the oldest that waits, or none.
    fn freed(&mut self, conn: u32, out: &mut Out) {
        let (id, host) = (self.conns[conn].cluster, self.conns[conn].host);
        if self.conns[conn].draining || self.conns[conn].requests_left == 0 {
            self.close_conn(conn, out);
            self.connect_as_needed(id, host, out);
            return;
        }
        loop {
            let state = &self.cluster(id).hosts[host as usize];
            let (first, listed) = (state.pending.first, state.listed);
            if first == NONE && listed {
                return self.push_idle(conn);
            }
            if first == NONE {
                // Nobody will come for a host that left the cluster.
                return self.close_conn(conn, out);
            }
            self.dequeue(first, out);
            if self.admit(first, out) {
                return self.attach(first, conn, out);
            }
        }
    }

    /// Whether the request limit lets an attempt onto a connection; it has failed if not.
    fn admit(&mut self, attempt: u32, out: &mut Out) -> bool {
        let id = self.attempts[attempt].cluster;
        let cluster = self.cluster(id);
        let admitted = cluster.counts.requests < cluster.config.circuit_breakers.max_requests;
        if !admitted {
            out.overflow(id);
            self.attempt_failed(attempt, UpstreamReset::Overflow, out);
        }
        admitted
    }

    /// Puts an attempt on a connection.
    fn attach(&mut self, attempt: u32, conn: u32, out: &mut Out) {
        let (id, host) = (self.attempts[attempt].cluster, self.attempts[attempt].host);
        self.count_request(id, host, 1, out);
        self.connected_locally(id, host, out);
        let state = &mut self.conns[conn];
        state.stage = ConnStage::Busy;
        state.attempt = attempt;
        if state.requests_left != u32::MAX {
            state.requests_left -= 1;
        }
        let state = &mut self.attempts[attempt];
        state.stage = Stage::Sent;
        state.conn = conn;
        state.sent_at = self.now;
        self.send(attempt, conn, out);
    }

    fn send(&mut self, attempt: u32, conn: u32, out: &mut Out) {
        let Some(head) = self.attempts[attempt].head.take() else {
            return;
        };
        let (source, ordinal, announce_ordinal, announce_grpc_timeout) =
            match self.attempts[attempt].owner {
                Owner::Exchange(x) => {
                    let exchange = &mut self.exchanges[x as usize];
                    exchange.request_sent = true;
                    let forward = exchange.decision.as_ref().and_then(|d| d.forward());
                    (
                        BodySource::Exchange(exchange.id),
                        exchange.attempts,
                        forward.is_some_and(|(matched, _)| matched.include_attempt_count),
                        forward.is_some_and(|(matched, _)| matched.timeouts.tells_grpc),
                    )
                }
                Owner::Mirror(of) => (BodySource::Mirror(of), 1, false, false),
            };
        out.actions.push(Action::Send {
            attempt: attempt_id(attempt, self.attempts.generation(attempt)),
            conn: conn_id(conn, self.conns.generation(conn)),
            source,
            head,
            ordinal,
            announce_ordinal,
            expected_timeout_ms: self.attempts[attempt].expected_timeout_ms,
            announce_grpc_timeout,
        });
        if let Owner::Exchange(x) = self.attempts[attempt].owner {
            self.start_per_try(x);
        }
    }

    fn count_request(&mut self, id: ClusterId, host: u32, change: i32, out: &mut Out) {
        let cluster = self.cluster_mut(id);
        let (requests, active) = (
            &mut cluster.counts.requests,
            &mut cluster.active[host as usize],
        );
        *requests = requests.saturating_add_signed(change);
        *active = active.saturating_add_signed(change);
        self.share(|_| SharedCounter::Requests(id), change, out);
        // To the siblings the address of a host that left may mean its successor.
        let state = &self.cluster(id).hosts[host as usize];
        if state.listed {
            let address = state.address;
            self.share(|_| SharedCounter::HostActive(id, address), change, out);
        }
    }

    fn is_connecting(&self, id: ConnId) -> bool {
        self.conns.holds(id.index, id.generation)
            && self.conns[id.index].stage == ConnStage::Connecting
    }

    /// An attempt is off its connection; the connection is used again if `reusable`.
    pub(super) fn detach(&mut self, attempt: u32, reusable: bool, out: &mut Out) {
        let (id, host, conn) = {
            let state = &mut self.attempts[attempt];
            (
                state.cluster,
                state.host,
                std::mem::replace(&mut state.conn, NONE),
            )
        };
        self.observe_latency(attempt);
        self.count_request(id, host, -1, out);
        if conn == NONE {
            return;
        }
        self.conns[conn].attempt = NONE;
        if reusable {
            self.freed(conn, out);
        } else {
            self.close_conn(conn, out);
            self.connect_as_needed(id, host, out);
        }
    }

    /// Closes a connection that carries no attempt.
    pub(super) fn close_conn(&mut self, conn: u32, out: &mut Out) {
        out.actions.push(Action::CloseConn {
            conn: conn_id(conn, self.conns.generation(conn)),
        });
        self.forget_conn(conn, out);
    }

    fn forget_conn(&mut self, conn: u32, out: &mut Out) {
        if self.conns[conn].stage == ConnStage::Idle {
            self.unlink_idle(conn);
        }
        let state = &mut self.conns[conn];
        self.timers.stop(&mut state.timer);
        let (id, host, connecting) = (
            state.cluster,
            state.host,
            state.stage == ConnStage::Connecting,
        );
        self.conns.remove(conn);
        let cluster = self.cluster_mut(id);
        cluster.counts.connections -= 1;
        let state = &mut cluster.hosts[host as usize];
        state.connections -= 1;
        state.connecting -= u32::from(connecting);
        self.share(|_| SharedCounter::Connections(id), -1, out);
    }

    pub(super) fn on_connect_failed(&mut self, id: ConnId, reason: ConnectFailure, out: &mut Out) {
        if !self.is_connecting(id) {
            return;
        }
        let reset = match reason {
            ConnectFailure::Refused => UpstreamReset::RemoteConnectionFailure,
            ConnectFailure::Local => UpstreamReset::LocalConnectionFailure,
        };
        self.fail_connecting(id.index, reset, out);
    }

    /// A connection attempt came to nothing: every attempt waiting at the pool fails with it.
    pub(super) fn fail_connecting(&mut self, conn: u32, reset: UpstreamReset, out: &mut Out) {
        let (id, host) = (self.conns[conn].cluster, self.conns[conn].host);
        self.forget_conn(conn, out);
        let mut waiting = std::mem::replace(
            &mut self.cluster_mut(id).hosts[host as usize].pending,
            HostList::EMPTY,
        );
        let count = i64::from(waiting.len);
        self.cluster_mut(id).counts.pending -= waiting.len;
        self.share(|_| SharedCounter::Pending(id), -count as i32, out);
        while waiting.first != NONE {
            let attempt = waiting.first;
            waiting.first = self.attempts[attempt].next;
            self.attempt_failed(attempt, reset, out);
        }
    }

    pub(super) fn on_conn_closed(&mut self, id: ConnId, out: &mut Out) {
        if !self.conns.holds(id.index, id.generation) {
            return;
        }
        if self.is_connecting(id) {
            self.fail_connecting(id.index, UpstreamReset::RemoteConnectionFailure, out);
            return;
        }
        let (attempt, cluster, host) = (
            self.conns[id.index].attempt,
            self.conns[id.index].cluster,
            self.conns[id.index].host,
        );
        if attempt == NONE {
            self.forget_conn(id.index, out);
        } else {
            self.conns[id.index].attempt = NONE;
            self.attempts[attempt].conn = NONE;
            self.forget_conn(id.index, out);
            self.detach(attempt, false, out);
            self.attempt_failed(attempt, UpstreamReset::ConnectionTermination, out);
        }
        self.connect_as_needed(cluster, host, out);
    }

    pub(super) fn on_go_away(&mut self, id: ConnId, out: &mut Out) {
        if !self.conns.holds(id.index, id.generation) {
            return;
        }
        if self.conns[id.index].stage == ConnStage::Idle {
            self.close_conn(id.index, out);
        } else {
            self.conns[id.index].draining = true;
        }
    }

    /// The most recently freed connection of a host.
    pub(super) fn pop_idle(&mut self, id: ClusterId, host: u32) -> Option<u32> {
        let conn = self.cluster(id).hosts[host as usize].idle.last;
        if conn == NONE {
            return None;
        }
        self.unlink_idle(conn);
        Some(conn)
    }

    fn push_idle(&mut self, conn: u32) {
        let (id, host) = (self.conns[conn].cluster, self.conns[conn].host);
        let cluster = self.cluster_mut(id);
        let idle_timeout = cluster.config.idle_timeout;
        let idle = &mut cluster.hosts[host as usize].idle;
        let last = std::mem::replace(&mut idle.last, conn);
        idle.len += 1;
        if last == NONE {
            idle.first = conn;
        } else {
            self.conns[last].next = conn;
        }
        let state = &mut self.conns[conn];
        state.stage = ConnStage::Idle;
        state.attempt = NONE;
        state.previous = last;
        state.next = NONE;
        state.idle_since = self.now;
        if let Some(timeout) = idle_timeout
            && state.timer == TimerId::NONE
        {
            state.timer = self.timers.start(self.now, timeout, Expiry::Conn(conn));
        }
    }

    fn unlink_idle(&mut self, conn: u32) {
        let state = &mut self.conns[conn];
        let (id, host, previous, next) = (state.cluster, state.host, state.previous, state.next);
        state.stage = ConnStage::Busy;
        if previous != NONE {
            self.conns[previous].next = next;
        }
        if next != NONE {
            self.conns[next].previous = previous;
        }
        let idle = &mut self.cluster_mut(id).hosts[host as usize].idle;
        idle.len -= 1;
        if previous == NONE {
            idle.first = next;
        }
        if next == NONE {
            idle.last = previous;
        }
    }

    /// Every connection of a host; rare, so by search.
    pub(super) fn conns_of(&self, id: ClusterId, host: u32) -> Vec<u32> {
        self.conns
            .taken()
            .filter(|&c| self.conns[c].cluster == id && self.conns[c].host == host)
            .collect()
    }
}
