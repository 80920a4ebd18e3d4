//! The worker machine: downstream connections, exchanges, balancers and pools.
//!
//! The life of a request: [`request`] routes it, [`filters`] may hold it back or answer it, [`attempt`] picks a host and
//! hands the try to [`pool`], which asks [`connection`] for what it needs, [`response`] takes what comes back and decides on retries, [`reply`]
//! answers the client and writes the access log. [`config`] takes over what the main machine sends,
//! [`expiry`] is the clock.

mod attempt;
mod config;
mod connection;
mod expiry;
mod filters;
mod limits;
mod mixer;
mod pool;
mod reply;
mod request;
mod response;
mod slot;
mod state;
mod statistics;

use crate::balancer::locality::LocalHosts;
use crate::cluster::ClusterState;
use crate::contract::{Input, Opened, Out, Protocol};
use crate::ids::{AttemptId, ClusterId, ConnId, DownstreamId, EndpointId, ExchangeId};
use crate::messages::ToWorker;
use crate::random::Draws;
use crate::resilience::rate_limit::{Bucket, BucketId};
use crate::router::{ChainChoice, Decision, Subject, find_chain};
use crate::slab::Slab;
use crate::time::Nanos;
use crate::timers::Timers;
use crate::xds::{Listener, Name, NetworkFilter, Rbac, RouteTable};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use slot::Slot;
use state::{Attempt, Conn, ConnStage, Downstream, Exchange, Expiry, LocalHeads, LocalTexts};
use std::net::SocketAddr;
use std::sync::Arc;

/// Who a machine is: everything it knows before its first input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Seed of the run.
    pub seed: u64,
    /// Name of the proxy (its pod), unique in the run.
    pub proxy: Name,
    /// Workers of the proxy (Envoy's `concurrency`).
    pub workers: u32,
    /// `region/zone/subzone` of the proxy, if known (Envoy `node.locality`).
    #[serde(default)]
    pub locality: Option<Name>,
    /// The cluster that the proxy itself is a member of, which zone-aware routing needs to know
    /// (Envoy `cluster_manager.local_cluster_name`).
    #[serde(default)]
    pub local_cluster: Option<Name>,
}

impl Identity {
    /// A proxy that does not know where it is.
    pub fn new(seed: u64, proxy: Name, workers: u32) -> Identity {
        Identity {
            seed,
            proxy,
            workers,
            locality: None,
            local_cluster: None,
        }
    }
}

/// What routing depends on besides the head and the tables: one chain of one version of a listener, and
/// the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    listener: Name,
    chain: Option<usize>,
    protocol: Protocol,
    epoch: u64,
}

/// A decision remembered for an interned head.
#[derive(Clone, Debug)]
struct Remembered {
    scope: u32,
    epoch: u64,
    decision: Arc<Decision>,
}

/// One worker of a proxy.
#[derive(Debug)]
pub struct Worker {
    number: u32,
    draws: Draws,
    locality: Name,
    local_cluster: Option<Name>,
    /// The members of the proxy's own cluster, once delivered.
    local_hosts: Option<Arc<LocalHosts>>,
    /// Has siblings to share counts with.
    shares: bool,
    now: Nanos,
    listeners: Vec<Arc<Listener>>,
    tables: IndexMap<Name, Arc<RouteTable>, FxBuildHasher>,
    cluster_ids: IndexMap<Name, ClusterId, FxBuildHasher>,
    /// By cluster id.
    clusters: Vec<Slot>,
    endpoints: IndexSet<SocketAddr, FxBuildHasher>,
    scopes: IndexSet<Scope, FxBuildHasher>,
    downstreams: Vec<Option<Downstream>>,
    exchanges: Vec<Exchange>,
    attempts: Slab<Attempt>,
    conns: Slab<Conn>,
    timers: Timers<Expiry>,
    local_heads: LocalHeads,
    local_texts: LocalTexts,
    /// Of local rate limits, shared with the siblings.
    buckets: IndexMap<BucketId, Bucket, FxBuildHasher>,
    /// Requests held back by the fault filter, over all workers.
    active_faults: u32,
    /// Counts changes of routes and of the set of clusters.
    epoch: u64,
    remembered: Vec<Option<Remembered>>,
}

impl Worker {
    /// Worker number `number` (from 0) of a proxy; it has been told nothing yet.
    pub fn new(identity: &Identity, number: u32) -> Worker {
        Worker {
            number,
            draws: Draws::new(identity.seed, &identity.proxy),
            locality: identity.locality.clone().unwrap_or_default(),
            local_cluster: identity.local_cluster.clone(),
            local_hosts: None,
            shares: identity.workers > 1,
            now: Nanos::ZERO,
            listeners: Vec::new(),
            tables: IndexMap::default(),
            cluster_ids: IndexMap::default(),
            clusters: Vec::new(),
            endpoints: IndexSet::default(),
            scopes: IndexSet::default(),
            downstreams: Vec::new(),
            exchanges: Vec::new(),
            attempts: Slab::new(),
            conns: Slab::new(),
            timers: Timers::new(),
            local_heads: LocalHeads::default(),
            local_texts: LocalTexts::default(),
            buckets: IndexMap::default(),
            active_faults: 0,
            epoch: 0,
            remembered: Vec::new(),
        }
    }

    /// Takes in one input. `now` never decreases; actions and logs are appended to `out`.
    #[inline]
    pub fn handle(&mut self, now: Nanos, input: Input, out: &mut Out) {
        assert!(now >= self.now, "time never runs backwards");
        self.now = now;
        match input {
            Input::Request {
                exchange,
                downstream,
                key,
                head,
                ends,
            } => {
                self.on_request(exchange, downstream, key, head, ends, out);
            }
            Input::ResponseHead {
                attempt,
                head,
                ends,
            } => self.on_response_head(attempt, head, ends, out),
            Input::ResponseEnd { attempt } => self.on_response_end(attempt, out),
            Input::Tick => self.on_tick(out),
            Input::RequestEnd { exchange } => self.on_request_end(exchange),
            Input::BufferFull { exchange } => self.on_buffer_full(exchange, out),
            Input::Cancelled { exchange } => {
                if let Some(x) = self.exchange(exchange) {
                    self.client_left(x, out);
                }
            }
            Input::Connected { conn } => self.on_connected(conn, out),
            Input::ConnectFailed { conn, reason } => self.on_connect_failed(conn, reason, out),
            Input::ConnClosed { conn } => self.on_conn_closed(conn, out),
            Input::GoAway { conn } => self.on_go_away(conn, out),
            Input::Settings {
                conn,
                max_concurrent_streams,
            } => self.on_settings(conn, max_concurrent_streams, out),
            Input::Reset { attempt, reason } => self.on_reset(attempt, reason, out),
            Input::Opened(opened) => self.on_opened(opened, out),
            Input::DownstreamClosed { downstream } => self.on_downstream_closed(downstream, out),
            Input::Answered { exchange, verdict } => self.on_answered(exchange, verdict, out),
            Input::Message(message) => self.on_message(message, out),
        }
    }

    /// When [`Input::Tick`] is next needed: may be early, never late.
    #[inline]
    pub fn deadline(&self) -> Option<Nanos> {
        self.timers.deadline()
    }

    /// The address behind an endpoint id.
    pub fn endpoint_address(&self, endpoint: EndpointId) -> Option<SocketAddr> {
        self.endpoints.get_index(endpoint.0 as usize).copied()
    }

    /// Whether a connection is up and carries no request.
    pub fn is_idle(&self, conn: ConnId) -> bool {
        self.conns.holds(conn.index, conn.generation)
            && self.conns[conn.index].stage == ConnStage::Ready
            && self.conns[conn.index].active == 0
    }

    /// What the connection of an attempt speaks; `None` once the attempt is over.
    pub fn protocol_of(&self, attempt: AttemptId) -> Option<Protocol> {
        let there = self.attempts.holds(attempt.index, attempt.generation);
        there.then(|| self.attempts[attempt.index].protocol)
    }

    /// The name behind a cluster id.
    pub fn cluster_name(&self, cluster: ClusterId) -> Option<&Name> {
        self.clusters.get(cluster.0 as usize)?.name()
    }

    /// The id behind a cluster name, if the cluster was ever delivered.
    pub fn cluster_id(&self, name: &str) -> Option<ClusterId> {
        self.cluster_ids.get(name).copied()
    }

    /// Slots taken that only live exchanges may hold: attempts, pending, requests, retries. All
    /// zero when no exchange is in progress.
    pub fn slots_taken(&self) -> [u64; 4] {
        let sum = |count: fn(&crate::cluster::BreakerCounts) -> u32| {
            self.clusters
                .iter()
                .filter_map(Slot::awake)
                .map(|c| u64::from(count(&c.counts)))
                .sum()
        };
        [
            self.attempts.len() as u64,
            sum(|c| c.pending),
            sum(|c| c.requests),
            sum(|c| c.retries),
        ]
    }

    /// Whether a connection would be taken, which is known once its handshake is over.
    pub fn takes(&self, opened: &Opened) -> bool {
        self.chain_for(opened).is_some()
    }

    fn chain_for(&self, opened: &Opened) -> Option<ChainChoice> {
        let found = find_chain(&self.listeners, opened, true)?;
        let chain = found.chain()?;
        let subject = Subject {
            opened,
            request: None,
        };
        let denied = |rbac: &Rbac| rbac.denial(subject).is_some();
        // TLS that does not end here is no HTTP, and plain text no handshake.
        let taken = matches!(chain.filter, NetworkFilter::Http(_))
            && chain.terminates_tls == opened.tls.is_some()
            && !chain.rbac.iter().any(denied);
        taken.then_some(found)
    }

    fn on_opened(&mut self, opened: Opened, out: &mut Out) {
        let id = opened.downstream;
        let Some(chain) = self.chain_for(&opened) else {
            out.actions
                .push(crate::contract::Action::CloseDownstream { downstream: id });
            return;
        };
        let scope = Scope {
            listener: Arc::clone(&chain.listener.name),
            chain: chain.index(),
            protocol: opened.protocol,
            epoch: self.epoch,
        };
        let scope = self.scopes.insert_full(scope).0 as u32;
        let at = id.index as usize;
        if self.downstreams.len() <= at {
            self.downstreams.resize_with(at + 1, || None);
        }
        self.downstreams[at] = Some(Downstream {
            id,
            opened,
            chain,
            scope,
            open: true,
            exchanges: 0,
            buckets: Vec::new(),
        });
    }

    fn on_downstream_closed(&mut self, id: DownstreamId, out: &mut Out) {
        let Some(downstream) = self.downstream_mut(id) else {
            return;
        };
        downstream.open = false;
        if downstream.exchanges == 0 {
            return;
        }
        for x in 0..self.exchanges.len() as u32 {
            let exchange = &self.exchanges[x as usize];
            if exchange.live && exchange.downstream == id {
                self.client_left(x, out);
            }
        }
    }

    fn downstream_mut(&mut self, id: DownstreamId) -> Option<&mut Downstream> {
        self.downstreams
            .get_mut(id.index as usize)?
            .as_mut()
            .filter(|downstream| downstream.id == id)
    }

    fn downstream(&self, id: DownstreamId) -> Option<&Downstream> {
        self.downstreams
            .get(id.index as usize)?
            .as_ref()
            .filter(|downstream| downstream.id == id)
    }

    /// The slot of a live exchange.
    #[inline]
    fn exchange(&self, id: ExchangeId) -> Option<u32> {
        let exchange = self.exchanges.get(id.index as usize)?;
        (exchange.live && exchange.id == id).then_some(id.index)
    }

    #[inline]
    fn cluster(&self, id: ClusterId) -> &ClusterState {
        self.clusters[id.0 as usize]
            .awake()
            .unwrap_or_else(|| unknown_cluster(id))
    }

    #[inline]
    fn cluster_mut(&mut self, id: ClusterId) -> &mut ClusterState {
        self.clusters[id.0 as usize]
            .awake_mut()
            .unwrap_or_else(|| unknown_cluster(id))
    }

    /// Tells the siblings of a change to a count that all workers share.
    #[inline]
    fn share(
        &self,
        counter: impl FnOnce(&Worker) -> crate::messages::SharedCounter,
        change: i32,
        out: &mut Out,
    ) {
        if self.shares {
            let message = ToWorker::Shared {
                counter: counter(self),
                change,
            };
            out.to_workers
                .push((crate::contract::WorkerSet::Others, message));
        }
    }
}

/// Clusters are woken before they are used, and never sleep again.
#[cold]
#[allow(clippy::panic)]
fn unknown_cluster(id: ClusterId) -> ! {
    panic!("cluster {} has no state", id.0)
}
