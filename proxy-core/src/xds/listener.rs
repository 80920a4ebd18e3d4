//! Listeners and filter chains.

use super::{JwtAuthentication, LocalRateLimitFilter, Mixer, Name, Rbac, RouteTable};
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// Envoy `config.listener.v3.Listener`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub name: Name,
    /// `None` is the wildcard address (`0.0.0.0`).
    pub address: Option<IpAddr>,
    pub port: u16,
    /// In Envoy order of definition; the most specific match wins, not the first.
    pub filter_chains: Vec<FilterChain>,
    /// Takes what no other chain matches.
    pub default_filter_chain: Option<FilterChain>,
    /// Hands a redirected connection to the listener of its original destination, if there is one.
    pub use_original_dst: bool,
    #[serde(default)]
    pub tls_inspector: TlsInspector,
}

impl Listener {
    /// Every chain, the default one last.
    pub fn chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.filter_chains.iter().chain(&self.default_filter_chain)
    }

    /// Every chain, the default one last.
    pub fn chains_mut(&mut self) -> impl Iterator<Item = &mut FilterChain> {
        let chains = self.filter_chains.iter_mut();
        chains.chain(&mut self.default_filter_chain)
    }
}

/// The original destination ports whose connections Envoy's TLS inspector looks at
/// (`filter_disabled` of the listener filter). To a listener that does not look, TLS is bytes like
/// any others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum TlsInspector {
    #[default]
    AllPorts,
    AllPortsBut(Vec<u16>),
    Only(Vec<u16>),
}

impl TlsInspector {
    /// Whether connections to `port` are looked at.
    pub fn sees(&self, port: u16) -> bool {
        match self {
            TlsInspector::AllPorts => true,
            TlsInspector::AllPortsBut(ports) => !ports.contains(&port),
            TlsInspector::Only(ports) => ports.contains(&port),
        }
    }
}

/// Envoy `config.listener.v3.FilterChain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterChain {
    /// Empty where Istio leaves it out.
    pub name: Name,
    pub matches: FilterChainMatch,
    /// The chain terminates TLS itself.
    pub terminates_tls: bool,
    /// Network RBAC filters, in order, before the terminal one: a connection that one of them denies
    /// is closed.
    #[serde(default)]
    pub rbac: Vec<Rbac>,
    pub filter: NetworkFilter,
}

/// Envoy `config.listener.v3.FilterChainMatch`; an empty condition holds always.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterChainMatch {
    pub destination_port: Option<u16>,
    /// Address and prefix length.
    pub prefix_ranges: Vec<(IpAddr, u8)>,
    /// SNI: exact, or `*.suffix`.
    pub server_names: Vec<Name>,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: Option<Name>,
    pub application_protocols: Vec<Name>,
}

/// The terminal network filter of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NetworkFilter {
    Http(HttpConnectionManager),
    Tcp(TcpProxy),
}

/// Envoy `HttpConnectionManager`: what the router needs of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpConnectionManager {
    pub routes: RouteSource,
    /// Istio's `pathNormalization` (default BASE: Envoy's `normalize_path`).
    pub normalize_path: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
    /// Of a stream without any progress; `None`: no limit.
    pub stream_idle_timeout: Option<Nanos>,
    /// By their places.
    #[serde(default)]
    pub local_rate_limits: Vec<LocalRateLimitFilter>,
    /// Clients are at the edge of the mesh: what they say of the protocol they came by is not
    /// believed. Istio sets it at gateways.
    pub use_remote_address: bool,
    /// Before all other filters.
    #[serde(default)]
    pub mixer: Option<Arc<Mixer>>,
    /// Before RBAC.
    #[serde(default)]
    pub jwt: Option<JwtAuthentication>,
    /// RBAC filters, in order, after that and before faults.
    #[serde(default)]
    pub rbac: Vec<Rbac>,
}

impl HttpConnectionManager {
    /// With what Istio sends where nothing is configured.
    pub fn new(routes: RouteSource) -> HttpConnectionManager {
        HttpConnectionManager {
            routes,
            normalize_path: true,
            merge_slashes: false,
            escaped_slashes: EscapedSlashes::Keep,
            stream_idle_timeout: None,
            local_rate_limits: Vec::new(),
            use_remote_address: false,
            mixer: None,
            jwt: None,
            rbac: Vec::new(),
        }
    }
}

/// Envoy `path_with_escaped_slashes_action`: what becomes of `%2F` and `%5C`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EscapedSlashes {
    #[default]
    Keep,
    /// 400.
    Reject,
    /// A redirect to the unescaped path.
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// Where a connection manager takes its routes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RouteSource {
    /// A route table by name, delivered on its own.
    Rds(Name),
    Inline(Arc<RouteTable>),
}

/// Envoy `TcpProxy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProxy {
    /// Cluster and weight; a single cluster has its weight ignored.
    pub clusters: Vec<(Name, u32)>,
}
