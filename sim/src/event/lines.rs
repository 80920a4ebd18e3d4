//! The connections of clients to proxies.

use super::World;
use super::clients::CallFor;
use super::connections::ephemeral_port;
use super::proxies::LineEnd;
use super::schedule::{Destination, Requester};
use proxy_core::contract::{Direction, DownstreamTls, Opened, Protocol};
use proxy_core::head::RequestHead;
use proxy_core::ids::DownstreamId;
use std::net::SocketAddr;

/// Connections of one client to one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) client: PoolClient,
    pub(super) proxy: u32,
    /// Where the client was connecting to.
    pub(super) address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PoolClient {
    Source(u32),
    Pod(u32),
}

/// Idle connections, most recently used last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) idle: Vec<u32>,
    /// Ever opened.
    opened: u32,
}

/// A connection of an application without a proxy to a pod of a Service. kube-proxy chose the pod when
/// it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub(super) service: u32,
    port: u16,
    /// The pod that answers, and its life: the connection does not outlast it.
    pub(super) pod: u32,
    life: u32,
}

/// A client's connection to a proxy.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) pool: u32,
    proxy: u32,
    worker: u16,
    pub(super) open: bool,
    /// Once accepted.
    downstream: Option<DownstreamId>,
    /// Until then.
    pub(super) opening: Option<Box<Opening>>,
}

/// What a client says when it connects.
#[derive(Debug)]
pub(super) struct Opening {
    peer: SocketAddr,
    original_dst: SocketAddr,
    direction: Direction,
    pub(super) tls: Option<DownstreamTls>,
}

impl World<'_, '_> {
    /// An idle connection to a Service, or a new one to one of its ready pods. Those of sources are new:
    /// a source is many clients.
    pub(super) fn direct(
        &mut self,
        client: Option<u32>,
        service: u32,
        port: u16,
        key: u64,
    ) -> Option<Direct> {
        let idle = client.and_then(|client| self.idle_direct.get_mut(&(client, service, port)));
        let pods = &self.pods;
        let lives = |direct: &Direct| {
            let pod = &pods[direct.pod as usize];
            pod.up && pod.life == direct.life
        };
        if let Some(idle) = idle {
            idle.retain(lives);
            if let Some(kept) = idle.pop() {
                return Some(kept);
            }
        }
        let pod = self.ready_pod(service, key)?;
        Some(Direct {
            service,
            port,
            pod,
            life: self.pods[pod as usize].life,
        })
    }

    /// A connection is free again.
    pub(super) fn keep_direct(&mut self, client: u32, direct: Direct) {
        let to = (client, direct.service, direct.port);
        self.idle_direct.entry(to).or_default().push(direct);
    }

    /// The connections of a source to a gateway's pod, without a search where it can be helped.
    #[inline]
    pub(super) fn gateway_pool(
        &mut self,
        source: u32,
        pod: u32,
        proxy: u32,
        address: SocketAddr,
    ) -> u32 {
        let known = self.sources[source as usize]
            .gateway_pools
            .get(pod as usize);
        if let Some(Some((of, pool))) = known
            && *of == proxy
        {
            return *pool;
        }
        let client = PoolClient::Source(source);
        let pool = self.pool(PoolKey {
            client,
            proxy,
            address,
        });
        let pools = &mut self.sources[source as usize].gateway_pools;
        if pools.len() <= pod as usize {
            pools.resize(pod as usize + 1, None);
        }
        pools[pod as usize] = Some((proxy, pool));
        pool
    }

    #[inline]
    pub(super) fn pool(&mut self, key: PoolKey) -> u32 {
        match self.pools.get_index_of(&key) {
            Some(at) => at as u32,
            None => self.pools.insert_full(key, Pool::default()).0 as u32,
        }
    }

    /// An idle connection, or a new one.
    #[inline]
    pub(super) fn idle_line(
        &mut self,
        pool: u32,
        proxy: u32,
        original_dst: SocketAddr,
        direction: Direction,
        call: u32,
    ) -> u32 {
        while let Some(line) = self.pools[pool as usize].idle.pop() {
            if self.lines[line].open {
                return line;
            }
            self.drop_line(line);
        }
        let made_for = self.calls[call].made_for;
        let (ip, tls) = match (self.calls[call].pod, made_for) {
            (Some(pod), _) => (self.plan.pods[pod as usize].pod.ip, None),
            (None, CallFor::Source { source } | CallFor::User { source, .. }) => {
                let source = &self.sources[source as usize];
                let tls = source.plan.tls.then(|| DownstreamTls {
                    sni: Some(host_of(&self.calls[call].head)),
                    mutual: false,
                    principal: None,
                });
                (source.ip, tls)
            }
            (None, CallFor::Job { .. }) => (original_dst.ip(), None),
        };
        let opened = &mut self.pools[pool as usize].opened;
        let peer = SocketAddr::new(ip, ephemeral_port(*opened));
        *opened += 1;
        let line = Line {
            pool,
            proxy,
            worker: self.worker_for(proxy, peer),
            open: true,
            downstream: None,
            opening: Some(Box::new(Opening {
                peer,
                original_dst,
                direction,
                tls,
            })),
        };
        self.lines.insert(line).0
    }

    /// Sends the request; on a new connection from another place, after a handshake.
    #[inline]
    pub(super) fn send_on_line(
        &mut self,
        call: u32,
        from: Requester,
        line: u32,
        to_pod: Option<u32>,
        key: u64,
    ) {
        self.calls[call].line = Some(line);
        let generation = self.lines.generation(line);
        self.send_to(
            call,
            from,
            Destination::Line { line, generation },
            to_pod,
            key,
        );
    }

    /// The proxy's end of a connection, accepted now if it is new; `None` if it is closed.
    #[inline]
    pub(super) fn open_line(
        &mut self,
        line: u32,
        generation: u32,
    ) -> Option<(u32, u16, DownstreamId)> {
        if !self.lines.holds(line, generation) {
            return None;
        }
        let state = &self.lines[line];
        let (proxy, worker) = (state.proxy, state.worker);
        // A proxy that drains a connection still takes what is on its way.
        if let Some(downstream) = state.downstream {
            self.core(proxy)?;
            return Some((proxy, worker, downstream));
        }
        let opening = self.lines[line].opening.take()?;
        let Opening {
            peer,
            original_dst,
            direction,
            tls,
        } = *opening;
        let opened = |downstream| Opened {
            downstream,
            peer,
            original_dst,
            direction,
            tls,
            protocol: Protocol::Http1,
        };
        let accepted = self.accept(proxy, worker, LineEnd::Line { line }, opened);
        self.lines[line].downstream = accepted;
        self.lines[line].open = accepted.is_some();
        Some((proxy, worker, accepted?))
    }

    /// The client's end of a connection is gone, and the proxy hears of it.
    pub(super) fn drop_line(&mut self, line: u32) {
        let state = &self.lines[line];
        let (proxy, worker, downstream) = (state.proxy, state.worker, state.downstream);
        if let Some(downstream) = downstream {
            self.downstream_closed(proxy, worker, downstream);
        }
        self.lines.remove(line);
    }

    /// A proxy ended: clients' connections to it break.
    pub(super) fn drop_lines_to(&mut self, proxy: u32) {
        let gone: Vec<u32> = self
            .lines
            .taken()
            .filter(|&line| self.lines[line].open && self.lines[line].proxy == proxy)
            .collect();
        for line in gone {
            self.lines[line].open = false;
        }
        let waiting: Vec<u32> = self
            .calls
            .taken()
            .filter(|&call| {
                let line = self.calls[call].line;
                line.is_some_and(|line| self.lines[line].proxy == proxy)
            })
            .collect();
        for call in waiting {
            let (generation, tried) = (self.calls.generation(call), self.calls[call].tried);
            let key = self.calls[call].key;
            self.answer(
                Requester::Call {
                    call,
                    generation,
                    tried,
                },
                None,
                key,
            );
        }
    }
}

/// The host name of a request, without a port.
fn host_of(head: &RequestHead) -> proxy_core::xds::Name {
    head.authority.split(':').next().unwrap_or_default().into()
}
