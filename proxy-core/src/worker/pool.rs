//! Connection pools, one for each host and protocol: new streams, the queue, and who gets a
//! connection next (Envoy `conn_pool_base.cc`).

use super::Worker;
use super::state::{ConnStage, NONE, Owner, Stage, attempt_id, conn_id};
use crate::cluster::Pool;
use crate::contract::{Action, BodySource, Out, Protocol};
use crate::ids::ClusterId;
use crate::messages::SharedCounter;
use crate::telemetry::UpstreamReset;
use crate::xds::HttpProtocol;

impl Worker {
    /// A new stream: the most recently freed connection, or the queue.
    pub(super) fn queue_or_send(&mut self, attempt: u32, out: &mut Out) {
        let (id, host) = (self.attempts[attempt].cluster, self.attempts[attempt].host);
        let protocol = self.protocol_for(attempt);
        self.attempts[attempt].protocol = protocol;
        let conn = self.pool(id, host, protocol).ready.last;
        if conn != NONE {
            if self.admit(attempt, out) {
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
        self.connect_as_needed(id, host, protocol, out);
    }

    fn protocol_for(&self, attempt: u32) -> Protocol {
        let state = &self.attempts[attempt];
        match self.cluster(state.cluster).config.http_protocol {
            HttpProtocol::Http1 => Protocol::Http1,
            HttpProtocol::Http2 => Protocol::Http2,
            HttpProtocol::UseDownstream => {
                let exchange = match state.owner {
                    Owner::Exchange(x) => Some(x),
                    Owner::Mirror(of) => self.exchange(of),
                };
                exchange
                    .and_then(|x| self.downstream(self.exchanges[x as usize].downstream))
                    .map_or(Protocol::Http1, |downstream| downstream.opened.protocol)
            }
        }
    }

    #[inline]
    pub(super) fn pool(&self, id: ClusterId, host: u32, protocol: Protocol) -> &Pool {
        self.cluster(id).hosts[host as usize].pool(protocol)
    }

    #[inline]
    pub(super) fn pool_mut(&mut self, id: ClusterId, host: u32, protocol: Protocol) -> &mut Pool {
        self.cluster_mut(id).hosts[host as usize].pool_mut(protocol)
    }

    fn enqueue(&mut self, attempt: u32, out: &mut Out) {
        let state = &self.attempts[attempt];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        self.cluster_mut(id).counts.pending += 1;
        let queue = &mut self.pool_mut(id, host, protocol).pending;
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

    /// Takes an attempt out of its pool's queue.
    pub(super) fn dequeue(&mut self, attempt: u32, out: &mut Out) {
        let state = &self.attempts[attempt];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        let (previous, next) = (state.previous, state.next);
        if previous != NONE {
            self.attempts[previous].next = next;
        }
        if next != NONE {
            self.attempts[next].previous = previous;
        }
        self.cluster_mut(id).counts.pending -= 1;
        let queue = &mut self.pool_mut(id, host, protocol).pending;
        queue.len -= 1;
        if previous == NONE {
            queue.first = next;
        }
        if next == NONE {
            queue.last = previous;
        }
        self.share(|_| SharedCounter::Pending(id), -1, out);
    }

    /// A connection that is in no list can take requests: the oldest that wait, then it is ready for
    /// new ones.
    pub(super) fn serve(&mut self, conn: u32, out: &mut Out) {
        let state = &self.conns[conn];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        loop {
            let first = self.pool(id, host, protocol).pending.first;
            if first == NONE {
                let listed = self.cluster(id).hosts[host as usize].listed;
                if !listed && self.conns[conn].active == 0 {
                    // Nobody will come for a host that left the cluster.
                    return self.close_conn(conn, out);
                }
                return self.push_ready(conn);
            }
            self.dequeue(first, out);
            if self.admit(first, out) {
                self.attach(first, conn, out);
                if self.conns[conn].capacity() == 0 {
                    return self.connect_as_needed(id, host, protocol, out);
                }
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
        state.active += 1;
        if state.requests_left != u32::MAX {
            state.requests_left -= 1;
            state.draining |= state.requests_left == 0;
        }
        let newest = std::mem::replace(&mut state.streams, attempt);
        if state.stage == ConnStage::Ready && state.capacity() == 0 {
            self.unlink_ready(conn);
        }
        if newest != NONE {
            self.attempts[newest].previous = attempt;
        }
        let state = &mut self.attempts[attempt];
        state.stage = Stage::Sent;
        state.conn = conn;
        state.previous = NONE;
        state.next = newest;
        state.sent_at = self.now;
        self.send(attempt, conn, out);
    }

    fn send(&mut self, attempt: u32, conn: u32, out: &mut Out) {
        let Some(head) = self.attempts[attempt].head.take() else {
            return;
        };
        let (source, ordinal) = match self.attempts[attempt].owner {
            Owner::Exchange(x) => {
                let exchange = &mut self.exchanges[x as usize];
                exchange.request_sent = true;
                (BodySource::Exchange(exchange.id), exchange.attempts)
            }
            Owner::Mirror(of) => (BodySource::Mirror(of), 1),
        };
        let state = &self.attempts[attempt];
        out.actions.push(Action::Send {
            attempt: attempt_id(attempt, self.attempts.generation(attempt)),
            conn: conn_id(conn, self.conns.generation(conn)),
            source,
            head,
            ordinal,
            announce_ordinal: state.include_attempt_count,
            expected_timeout_ms: state.expected_timeout_ms,
            grpc_timeout_ms: state.grpc_timeout_ms,
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

    /// An attempt is off its connection, which is used again if it has more streams than this one,
    /// or if this one ended `clean`.
    pub(super) fn detach(&mut self, attempt: u32, clean: bool, out: &mut Out) {
        let state = &mut self.attempts[attempt];
        let (id, host) = (state.cluster, state.host);
        let (previous, next) = (state.previous, state.next);
        let conn = std::mem::replace(&mut state.conn, NONE);
        self.observe_latency(attempt);
        self.count_request(id, host, -1, out);
        if conn == NONE {
            return;
        }
        if previous == NONE {
            self.conns[conn].streams = next;
        } else {
            self.attempts[previous].next = next;
        }
        if next != NONE {
            self.attempts[next].previous = previous;
        }
        let state = &mut self.conns[conn];
        state.active -= 1;
        if state.protocol == Protocol::Http1 && !clean {
            state.draining = true;
        }
        self.stream_closed(conn, out);
    }

    fn stream_closed(&mut self, conn: u32, out: &mut Out) {
        let state = &self.conns[conn];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        let (stage, active, capacity) = (state.stage, state.active, state.capacity());
        match stage {
            ConnStage::Closed => {}
            _ if state.draining && active == 0 => {
                self.close_conn(conn, out);
                self.connect_as_needed(id, host, protocol, out);
            }
            ConnStage::Busy if capacity > 0 => self.serve(conn, out),
            ConnStage::Ready if active == 0 => {
                let waiting = self.pool(id, host, protocol).pending.len;
                if waiting == 0 && !self.cluster(id).hosts[host as usize].listed {
                    self.close_conn(conn, out);
                } else {
                    self.start_idling(conn);
                }
            }
            _ => {}
        }
    }
}
