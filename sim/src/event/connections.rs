//! Connections between proxies, and to applications.

use super::World;
use super::proxies::{Conn, Downstream, LineEnd};
use super::schedule::{Destination, Requester};
use crate::plan::Place;
use control_plane::ProxyKind;
use proxy_core::contract::{
    ConnTransport, ConnectFailure, Direction, DownstreamTls, Input, Opened, Protocol,
};
use proxy_core::ids::{ConnId, DownstreamId, ExchangeId};
use proxy_core::random::mix;
use std::net::SocketAddr;

const FIRST_EPHEMERAL_PORT: u32 = 32_768;
const EPHEMERAL_PORTS: u32 = 28_232;

/// A port that a client's connection number `n` comes from.
pub(super) fn ephemeral_port(n: u32) -> u16 {
    (FIRST_EPHEMERAL_PORT + n % EPHEMERAL_PORTS) as u16
}

impl World<'_, '_> {
    /// A client's connection reaches a proxy. `None`: the proxy will not have it.
    pub(super) fn accept(
        &mut self,
        proxy: u32,
        worker: u16,
        client: LineEnd,
        opened: impl FnOnce(DownstreamId) -> Opened,
    ) -> Option<DownstreamId> {
        self.core(proxy)?;
        let protocol = match client {
            LineEnd::Conn {
                proxy,
                worker,
                conn,
            } => self.open_conn(proxy, worker, conn)?.protocol,
            LineEnd::Line { .. } => Protocol::Http1,
        };
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let downstream = Downstream {
            client,
            active: 0,
            draining: false,
            protocol,
        };
        let (index, generation) = state.downstreams.insert(downstream);
        let id = DownstreamId { index, generation };
        let opened = Opened {
            protocol,
            ..opened(id)
        };
        self.feed(proxy, worker, Input::Opened(opened));
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let refused = state.downstreams[index].draining;
        if refused {
            state.downstreams.remove(index);
        }
        (!refused).then_some(id)
    }

    /// Which worker of a proxy takes a connection, by its client's address.
    pub(super) fn worker_for(&self, proxy: u32, peer: SocketAddr) -> u16 {
        let workers = self.proxies[proxy as usize].workers.len() as u64;
        if workers == 1 {
            return 0;
        }
        (mix(crate::tally::address_hash(peer)) % workers) as u16
    }

    /// A connection that a proxy asked for: is somebody there?
    pub(super) fn dialed(&mut self, proxy: u32, worker: u16, id: ConnId) {
        if self.open_conn(proxy, worker, id).is_none() {
            return;
        }
        let state = &self.proxies[proxy as usize].workers[worker as usize];
        let (address, transport) = state.dialed[id.index as usize].clone();
        let own_pod = self.proxies[proxy as usize].pod;
        let refused = Input::ConnectFailed {
            conn: id,
            reason: ConnectFailure::Refused,
        };
        let Some(place) = self.behind(address, id) else {
            return self.feed(proxy, worker, refused);
        };
        let to = match place {
            Place::External(number) => Destination::Station {
                station: self.pods.len() as u32 + number,
            },
            Place::Pod(pod) => {
                let state = &self.pods[pod as usize];
                if !state.up {
                    return self.feed(proxy, worker, refused);
                }
                match self.server_of(pod, proxy) {
                    Some(server) => {
                        let client = LineEnd::Conn {
                            proxy,
                            worker,
                            conn: id,
                        };
                        match self.accept_from_proxy(server, own_pod, client, address, &transport) {
                            Some(to) => to,
                            // It has to read something first.
                            None if transport == ConnTransport::Plaintext
                                && self.core(server).is_some() =>
                            {
                                Destination::Closing { pod }
                            }
                            None => return self.feed(proxy, worker, refused),
                        }
                    }
                    _ => Destination::Station { station: pod },
                }
            }
            Place::Service(_) => return self.feed(proxy, worker, refused),
        };
        if let Some(conn) = self.open_conn(proxy, worker, id) {
            conn.to = Some(to);
            self.feed(proxy, worker, Input::Connected { conn: id });
        }
    }

    /// The proxy that takes connections of another proxy to a pod.
    fn server_of(&self, pod: u32, client: u32) -> Option<u32> {
        let state = &self.pods[pod as usize];
        let beside = self.proxies[client as usize].pod == pod;
        state.incoming.or(state.proxy.filter(|_| !beside))
    }

    fn accept_from_proxy(
        &mut self,
        server: u32,
        client_pod: u32,
        client: LineEnd,
        address: SocketAddr,
        transport: &ConnTransport,
    ) -> Option<Destination> {
        let LineEnd::Conn { conn, .. } = client else {
            return None;
        };
        let client_pod = &self.plan.pods[client_pod as usize].pod;
        let peer = SocketAddr::new(client_pod.ip, ephemeral_port(conn.index));
        let server_pod = self.proxies[server as usize].pod;
        let gateway = self.plan.pods[server_pod as usize].pod.proxy == ProxyKind::Gateway;
        let direction = if gateway {
            Direction::Gateway
        } else {
            Direction::Inbound
        };
        let worker = self.worker_for(server, peer);
        let tls = match transport {
            ConnTransport::Plaintext => None,
            ConnTransport::MutualTls => Some(DownstreamTls {
                sni: None,
                mutual: true,
                principal: Some(client_pod.principal()),
            }),
            ConnTransport::Tls { sni } => Some(DownstreamTls {
                sni: sni.clone(),
                mutual: false,
                principal: None,
            }),
        };
        let id = self.accept(server, worker, client, |downstream| Opened {
            downstream,
            peer,
            original_dst: address,
            direction,
            tls,
            protocol: Protocol::default(),
        })?;
        Some(Destination::Proxy {
            proxy: server,
            worker,
            downstream: id,
        })
    }

    /// What answers at an address; a Service's own address leads to one of its ready pods.
    fn behind(&self, address: SocketAddr, conn: ConnId) -> Option<Place> {
        match self.places.get(&address.ip()) {
            Some(Place::Service(service)) => {
                let n = u64::from(conn.index) << 32 | u64::from(conn.generation);
                self.ready_pod(*service, mix(n)).map(Place::Pod)
            }
            place => place.copied(),
        }
    }

    /// The state of an upstream connection, unless it is closed.
    pub(super) fn open_conn(&mut self, proxy: u32, worker: u16, id: ConnId) -> Option<&mut Conn> {
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let conn = state.conns.get_mut(id.index as usize)?;
        (conn.open && conn.generation == id.generation).then_some(conn)
    }

    pub(super) fn conn_closed(&mut self, proxy: u32, worker: u16, id: ConnId) {
        if let Some(conn) = self.open_conn(proxy, worker, id) {
            conn.open = false;
            self.feed(proxy, worker, Input::ConnClosed { conn: id });
        }
    }

    /// The peer drains an upstream connection: it ends unless a request is on its way there. On
    /// HTTP/2 those in progress finish first.
    pub(super) fn hung_up(&mut self, proxy: u32, worker: u16, id: ConnId) {
        let Some(conn) = self.open_conn(proxy, worker, id) else {
            return;
        };
        let (to, protocol) = (conn.to, conn.protocol);
        let idle = self
            .core(proxy)
            .is_some_and(|core| core.worker(u32::from(worker)).is_idle(id));
        if !idle {
            if protocol == Protocol::Http2 {
                self.feed(proxy, worker, Input::GoAway { conn: id });
            }
            return;
        }
        self.conn_closed(proxy, worker, id);
        if let Some(Destination::Proxy {
            proxy,
            worker,
            downstream,
        }) = to
        {
            self.downstream_closed(proxy, worker, downstream);
        }
    }

    /// A client resets one stream of an HTTP/2 connection.
    pub(super) fn stream_reset(&mut self, proxy: u32, worker: u16, from: Requester) {
        let state = &self.proxies[proxy as usize].workers[worker as usize];
        let exchanges = &state.exchanges;
        let index = exchanges.taken().find(|&at| exchanges[at].from == from);
        if let Some(index) = index {
            let generation = exchanges.generation(index);
            let exchange = ExchangeId { index, generation };
            self.feed(proxy, worker, Input::Cancelled { exchange });
        }
    }

    pub(super) fn downstream_closed(&mut self, proxy: u32, worker: u16, id: DownstreamId) {
        if self.core(proxy).is_none() {
            return;
        }
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if state.downstreams.holds(id.index, id.generation) {
            self.feed(proxy, worker, Input::DownstreamClosed { downstream: id });
            let state = &mut self.proxies[proxy as usize].workers[worker as usize];
            if state.downstreams.holds(id.index, id.generation) {
                state.downstreams.remove(id.index);
            }
        }
    }
}
