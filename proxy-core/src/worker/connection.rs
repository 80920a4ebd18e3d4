//! Upstream connections: made, lost, drained, and ready for requests.

use super::Worker;
use super::state::{Conn, ConnStage, Expiry, NONE, conn_id};
use crate::cluster::HostList;
use crate::contract::{Action, ConnTransport, ConnectFailure, Out, Protocol};
use crate::ids::{ClusterId, ConnId};
use crate::messages::{SharedCounter, ToMain};
use crate::telemetry::UpstreamReset;
use crate::timers::TimerId;

/// Connections opened at most for one new stream.
const CONNECTS_PER_CALL: u32 = 3;

impl Worker {
    /// Opens connections while those on their way cannot take all that wait. A pool without any
    /// opens one even over the limits.
    pub(super) fn connect_as_needed(
        &mut self,
        id: ClusterId,
        host: u32,
        protocol: Protocol,
        out: &mut Out,
    ) {
        for _ in 0..CONNECTS_PER_CALL {
            let pool = self.pool(id, host, protocol);
            if u64::from(pool.pending.len) <= pool.coming {
                return;
            }
            if pool.connections > 0 && !self.may_connect(id, host) {
                return;
            }
            self.connect(id, host, protocol, out);
        }
    }

    fn may_connect(&self, id: ClusterId, host: u32) -> bool {
        let cluster = self.cluster(id);
        let limits = &cluster.config.circuit_breakers;
        let of_host = || {
            let state = &cluster.hosts[host as usize];
            state.connections() + state.connections_elsewhere
        };
        cluster.counts.connections < limits.max_connections
            && limits
                .max_connections_per_host
                .is_none_or(|limit| of_host() < limit)
    }

    fn connect(&mut self, id: ClusterId, host: u32, protocol: Protocol, out: &mut Out) {
        let cluster = self.cluster(id);
        let (config, state) = (&cluster.config, &cluster.hosts[host as usize]);
        let (endpoint, address) = (state.endpoint, state.address);
        let transport = ConnTransport::of(&config.transport, state.mutual_tls);
        let timeout = config.connect_timeout;
        let conn = Conn {
            cluster: id,
            host,
            protocol,
            stage: ConnStage::Connecting,
            streams: NONE,
            active: 0,
            max_streams: match protocol {
                Protocol::Http1 => 1,
                Protocol::Http2 => config.max_concurrent_streams.max(1),
            },
            requests_left: match config.max_requests_per_connection {
                0 => u32::MAX,
                limit => limit,
            },
            draining: false,
            idle_since: self.now,
            timer: TimerId::NONE,
            previous: NONE,
            next: NONE,
        };
        let capacity = conn.capacity();
        let first = !cluster.used && !config.health_checks.is_empty();
        let (index, generation) = self.conns.insert(conn);
        self.conns[index].timer = self.timers.start(self.now, timeout, Expiry::Conn(index));
        let pool = self.pool_mut(id, host, protocol);
        pool.coming += u64::from(capacity);
        pool.connections += 1;
        self.count_connection(id, host, 1, out);
        if first {
            self.cluster_mut(id).used = true;
            out.to_main.push(ToMain::Used { id });
        }
        out.actions.push(Action::Connect {
            conn: conn_id(index, generation),
            endpoint,
            address,
            transport,
            protocol,
        });
    }

    fn count_connection(&mut self, id: ClusterId, host: u32, change: i32, out: &mut Out) {
        let cluster = self.cluster_mut(id);
        cluster.counts.connections = cluster.counts.connections.saturating_add_signed(change);
        let limited = cluster
            .config
            .circuit_breakers
            .max_connections_per_host
            .is_some();
        let (listed, address) = {
            let state = &cluster.hosts[host as usize];
            (state.listed, state.address)
        };
        self.share(|_| SharedCounter::Connections(id), change, out);
        if limited && listed {
            self.share(|_| SharedCounter::HostConnections(id, address), change, out);
        }
    }

    pub(super) fn on_connected(&mut self, id: ConnId, out: &mut Out) {
        if !self.is_connecting(id) {
            return;
        }
        let conn = &mut self.conns[id.index];
        let (cluster, host, protocol) = (conn.cluster, conn.host, conn.protocol);
        let capacity = conn.capacity();
        conn.stage = ConnStage::Busy;
        self.timers.stop(&mut conn.timer);
        self.pool_mut(cluster, host, protocol).coming -= u64::from(capacity);
        if capacity > 0 {
            self.serve(id.index, out);
        }
    }

    fn is_connecting(&self, id: ConnId) -> bool {
        self.conns.holds(id.index, id.generation)
            && self.conns[id.index].stage == ConnStage::Connecting
    }

    /// Closes a connection that carries no attempt.
    pub(super) fn close_conn(&mut self, conn: u32, out: &mut Out) {
        out.actions.push(Action::CloseConn {
            conn: conn_id(conn, self.conns.generation(conn)),
        });
        self.forget_conn(conn, out);
    }

    fn forget_conn(&mut self, conn: u32, out: &mut Out) {
        if self.conns[conn].stage == ConnStage::Ready {
            self.unlink_ready(conn);
        }
        let state = &mut self.conns[conn];
        self.timers.stop(&mut state.timer);
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        let coming = match state.stage {
            ConnStage::Connecting => state.capacity(),
            _ => 0,
        };
        self.conns.remove(conn);
        let pool = self.pool_mut(id, host, protocol);
        pool.connections -= 1;
        pool.coming -= u64::from(coming);
        self.count_connection(id, host, -1, out);
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
        let state = &self.conns[conn];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        self.forget_conn(conn, out);
        let queue = &mut self.pool_mut(id, host, protocol).pending;
        let mut waiting = std::mem::replace(queue, HostList::EMPTY);
        let count = i64::from(waiting.len);
        self.cluster_mut(id).counts.pending -= waiting.len;
        self.share(|_| SharedCounter::Pending(id), -count as i32, out);
        while waiting.first != NONE {
            let attempt = waiting.first;
            waiting.first = self.attempts[attempt].next;
            self.attempt_failed(attempt, reset, out);
        }
    }

    /// A connection is gone: all its streams are reset, newest first.
    pub(super) fn on_conn_closed(&mut self, id: ConnId, out: &mut Out) {
        if !self.conns.holds(id.index, id.generation) {
            return;
        }
        if self.is_connecting(id) {
            self.fail_connecting(id.index, UpstreamReset::RemoteConnectionFailure, out);
            return;
        }
        if self.conns[id.index].stage == ConnStage::Ready {
            self.unlink_ready(id.index);
        }
        let conn = &mut self.conns[id.index];
        conn.stage = ConnStage::Closed;
        let (cluster, host, protocol) = (conn.cluster, conn.host, conn.protocol);
        while self.conns[id.index].streams != NONE {
            let attempt = self.conns[id.index].streams;
            self.detach(attempt, false, out);
            self.attempt_failed(attempt, UpstreamReset::ConnectionTermination, out);
        }
        self.forget_conn(id.index, out);
        self.connect_as_needed(cluster, host, protocol, out);
    }

    pub(super) fn on_go_away(&mut self, id: ConnId, out: &mut Out) {
        if self.conns.holds(id.index, id.generation) {
            self.drain_conn(id.index, out);
        }
    }

    /// A connection takes no further requests; one without any is closed at once.
    fn drain_conn(&mut self, conn: u32, out: &mut Out) {
        match self.conns[conn].stage {
            ConnStage::Ready if self.conns[conn].active == 0 => self.close_conn(conn, out),
            ConnStage::Ready => {
                self.unlink_ready(conn);
                self.conns[conn].draining = true;
            }
            ConnStage::Busy if self.conns[conn].active == 0 => self.close_conn(conn, out),
            ConnStage::Busy => self.conns[conn].draining = true,
            ConnStage::Connecting | ConnStage::Closed => {}
        }
    }

    pub(super) fn on_settings(&mut self, id: ConnId, max_concurrent_streams: u32, out: &mut Out) {
        if !self.conns.holds(id.index, id.generation)
            || self.conns[id.index].protocol == Protocol::Http1
        {
            return;
        }
        let conn = &self.conns[id.index];
        let (cluster, host, stage) = (conn.cluster, conn.host, conn.stage);
        let before = conn.capacity();
        let configured = self.cluster(cluster).config.max_concurrent_streams.max(1);
        let conn = &mut self.conns[id.index];
        conn.max_streams = configured.min(max_concurrent_streams);
        let after = conn.capacity();
        match stage {
            ConnStage::Connecting => {
                let pool = self.pool_mut(cluster, host, Protocol::Http2);
                pool.coming = pool.coming - u64::from(before) + u64::from(after);
                self.connect_as_needed(cluster, host, Protocol::Http2, out);
            }
            ConnStage::Ready if after == 0 => self.unlink_ready(id.index),
            ConnStage::Busy if after > 0 => self.serve(id.index, out),
            ConnStage::Ready | ConnStage::Busy | ConnStage::Closed => {}
        }
    }

    /// The host turned unhealthy: its connections take no further requests. Those on their way stay
    /// if somebody waits for them.
    pub(super) fn drain_host(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        if self.cluster(id).hosts[host as usize].connections() == 0 {
            return;
        }
        self.close_unused(id, host, out);
        for conn in self.conns_of(id, host) {
            self.drain_conn(conn, out);
        }
    }

    /// The host left the cluster: what waits is still served, on the connections that there are.
    pub(super) fn host_left(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        if self.cluster(id).hosts[host as usize].connections() > 0 {
            self.close_unused(id, host, out);
        }
    }

    /// Closes the host's connections without requests, and those on their way that nobody waits for.
    fn close_unused(&mut self, id: ClusterId, host: u32, out: &mut Out) {
        for conn in self.conns_of(id, host) {
            let state = &self.conns[conn];
            let unused = match state.stage {
                ConnStage::Ready | ConnStage::Busy => state.active == 0,
                ConnStage::Connecting => self.pool(id, host, state.protocol).pending.len == 0,
                ConnStage::Closed => false,
            };
            if unused {
                self.close_conn(conn, out);
            }
        }
    }

    /// Every connection of a host, most recently freed first where they are ready; rare, so by
    /// search.
    fn conns_of(&self, id: ClusterId, host: u32) -> Vec<u32> {
        let mut found = Vec::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut conn = self.pool(id, host, protocol).ready.last;
            while conn != NONE {
                found.push(conn);
                conn = self.conns[conn].previous;
            }
        }
        let others = self.conns.taken().filter(|&conn| {
            let state = &self.conns[conn];
            state.cluster == id && state.host == host && state.stage != ConnStage::Ready
        });
        found.extend(others);
        found
    }

    pub(super) fn push_ready(&mut self, conn: u32) {
        let state = &self.conns[conn];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        let ready = &mut self.pool_mut(id, host, protocol).ready;
        let last = std::mem::replace(&mut ready.last, conn);
        ready.len += 1;
        if last == NONE {
            ready.first = conn;
        } else {
            self.conns[last].next = conn;
        }
        let state = &mut self.conns[conn];
        state.stage = ConnStage::Ready;
        state.previous = last;
        state.next = NONE;
        if state.active == 0 {
            self.start_idling(conn);
        }
    }

    pub(super) fn unlink_ready(&mut self, conn: u32) {
        let state = &mut self.conns[conn];
        let (id, host, protocol) = (state.cluster, state.host, state.protocol);
        let (previous, next) = (state.previous, state.next);
        state.stage = ConnStage::Busy;
        if previous != NONE {
            self.conns[previous].next = next;
        }
        if next != NONE {
            self.conns[next].previous = previous;
        }
        let ready = &mut self.pool_mut(id, host, protocol).ready;
        ready.len -= 1;
        if previous == NONE {
            ready.first = next;
        }
        if next == NONE {
            ready.last = previous;
        }
    }

    /// A connection carries no request from now on.
    pub(super) fn start_idling(&mut self, conn: u32) {
        let idle_timeout = self.cluster(self.conns[conn].cluster).config.idle_timeout;
        let state = &mut self.conns[conn];
        state.idle_since = self.now;
        if let Some(timeout) = idle_timeout
            && state.timer == TimerId::NONE
        {
            state.timer = self.timers.start(self.now, timeout, Expiry::Conn(conn));
        }
    }
}
