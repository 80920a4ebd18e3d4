//! Clusters and their endpoints.

use super::{ConfigRef, Name};
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Envoy `config.cluster.v3.Cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: Name,
    pub discovery: Discovery,
    pub connect_timeout: Nanos,
    pub lb_policy: LbPolicy,
    pub circuit_breakers: CircuitBreakers,
    pub outlier_detection: Option<OutlierDetection>,
    pub http_protocol: HttpProtocol,
    /// 0: unlimited.
    pub max_requests_per_connection: u32,
    /// Of a connection without requests; `None`: never closed.
    pub idle_timeout: Option<Nanos>,
    /// Percent of healthy hosts below which all are used; Istio sends 0.
    pub healthy_panic_threshold_percent: u32,
    pub transport: Transport,
    /// The object whose policy shaped the cluster.
    pub origin: Option<ConfigRef>,
}

impl Cluster {
    /// A cluster with Istio's constants and no policy of its own.
    pub fn new(name: Name, discovery: Discovery) -> Cluster {
        Cluster {
            name,
            discovery,
            connect_timeout: Nanos::from_secs(10),
            lb_policy: LbPolicy::LeastRequest {
                choice_count: 2,
                active_request_bias: 1.0,
            },
            circuit_breakers: CircuitBreakers::UNLIMITED,
            outlier_detection: None,
            http_protocol: HttpProtocol::Http1,
            max_requests_per_connection: 0,
            idle_timeout: Some(Nanos::from_secs(3600)),
            healthy_panic_threshold_percent: 0,
            transport: Transport::Plaintext,
            origin: None,
        }
    }
}

/// Envoy `Cluster.DiscoveryType`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Discovery {
    /// Endpoints arrive on their own; the cluster warms until they do.
    Eds,
    Static(LoadAssignment),
    /// All addresses of the name.
    StrictDns {
        host: Name,
        port: u16,
    },
    /// The first address of the name, looked up for each new connection.
    LogicalDns {
        host: Name,
        port: u16,
    },
    /// Wherever the connection was going; `port` overrides the original one.
    OriginalDst {
        port: Option<u16>,
    },
}

/// Envoy `Cluster.LbPolicy`, and Linkerd's peak EWMA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LbPolicy {
    RoundRobin,
    LeastRequest {
        choice_count: u32,
        active_request_bias: f64,
    },
    Random,
    RingHash {
        minimum_ring_size: u64,
        maximum_ring_size: u64,
    },
    Maglev {
        table_size: u64,
    },
    /// Two random choices by exponentially weighted latency (Finagle, tower, Linkerd).
    PeakEwma {
        decay: Nanos,
        default_rtt: Nanos,
    },
    /// The discovery type names the endpoint (`ORIGINAL_DST`).
    ClusterProvided,
}

/// Envoy `CircuitBreakers.Thresholds` of the default routing priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreakers {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
}

impl CircuitBreakers {
    /// What Istio sends where nothing is configured.
    pub const UNLIMITED: CircuitBreakers = CircuitBreakers {
        max_connections: u32::MAX,
        max_pending_requests: u32::MAX,
        max_requests: u32::MAX,
        max_retries: u32::MAX,
    };
}

/// Envoy `OutlierDetection`; percentages are whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    pub interval: Nanos,
    pub base_ejection_time: Nanos,
    pub max_ejection_time: Nanos,
    pub max_ejection_percent: u32,
    pub consecutive_5xx: u32,
    pub enforcing_consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
}

impl Default for OutlierDetection {
    /// Envoy's defaults, with success-rate ejection off as Istio sends it.
    fn default() -> OutlierDetection {
        OutlierDetection {
            interval: Nanos::from_secs(10),
            base_ejection_time: Nanos::from_secs(30),
            max_ejection_time: Nanos::from_secs(300),
            max_ejection_percent: 10,
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: 100,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: 100,
        }
    }
}

/// The protocol spoken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpProtocol {
    Http1,
    Http2,
    UseDownstream,
}

/// How connections to the endpoints are secured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Transport {
    Plaintext,
    /// Mutual TLS to the endpoints that say they speak it.
    AutoMutualTls,
    /// Istio's own certificates, to every endpoint.
    IstioMutualTls,
    /// One-way or mutual TLS originated towards an outside service.
    Tls {
        sni: Option<Name>,
    },
}

/// Envoy `ClusterLoadAssignment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadAssignment {
    pub cluster: Name,
    pub localities: Vec<LocalityEndpoints>,
    /// Percent; Envoy's default is 140.
    pub overprovisioning_factor_percent: u32,
}

impl LoadAssignment {
    /// An assignment with Envoy's overprovisioning factor.
    pub fn new(cluster: Name, localities: Vec<LocalityEndpoints>) -> LoadAssignment {
        LoadAssignment {
            cluster,
            localities,
            overprovisioning_factor_percent: 140,
        }
    }
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalityEndpoints {
    /// `region/zone/subzone`, trailing parts left out; empty if unknown.
    pub locality: Name,
    /// 0 is the most preferred.
    pub priority: u32,
    pub weight: u32,
    pub endpoints: Vec<Endpoint>,
}

/// Envoy `LbEndpoint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub health: EndpointHealth,
    /// At least 1.
    pub weight: u32,
    /// Speaks Istio's mutual TLS (metadata `tlsMode: istio`).
    pub mutual_tls: bool,
}

impl Endpoint {
    /// A healthy endpoint of weight 1.
    pub fn new(address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            health: EndpointHealth::Healthy,
            weight: 1,
            mutual_tls: false,
        }
    }
}

/// Health as endpoint discovery states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointHealth {
    Healthy,
    Unhealthy,
    Draining,
    Degraded,
}
