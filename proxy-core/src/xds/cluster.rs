//! Clusters.

use super::{ConfigRef, HealthCheck, LoadAssignment, Name, OutlierDetection};
use crate::time::Nanos;
use serde::{Deserialize, Serialize};

/// Envoy `config.cluster.v3.Cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: Name,
    pub discovery: Discovery,
    pub connect_timeout: Nanos,
    pub lb_policy: LbPolicy,
    /// Round robin and least request only.
    pub slow_start: Option<SlowStart>,
    pub locality_lb: LocalityLb,
    pub subsets: Option<Subsets>,
    pub circuit_breakers: CircuitBreakers,
    pub outlier_detection: Option<OutlierDetection>,
    pub health_checks: Vec<HealthCheck>,
    /// Hosts that no check has judged yet count neither as healthy nor in the percentages.
    pub ignore_new_hosts_until_first_health_check: bool,
    /// Hosts that discovery drops leave at once; otherwise a passing active check keeps them.
    pub ignore_health_on_host_removal: bool,
    /// TCP connections through a host that turns unhealthy are closed; those of HTTP pools are only
    /// drained either way, as in Envoy.
    pub close_connections_on_host_health_failure: bool,
    /// Changes of health or weight this soon after another are delivered together; zero: at once.
    pub update_merge_window: Nanos,
    pub http_protocol: HttpProtocol,
    /// Of an HTTP/2 connection, unless the peer allows fewer.
    pub max_concurrent_streams: u32,
    /// 0: unlimited.
    pub max_requests_per_connection: u32,
    /// Of a whole upstream stream; `None`: no limit.
    pub max_stream_duration: Option<Nanos>,
    /// Of a connection without requests; `None`: never closed.
    pub idle_timeout: Option<Nanos>,
    /// Percent of healthy hosts below which all are used; Istio sends 0.
    pub healthy_panic_threshold_percent: u32,
    /// No host at all instead of any host.
    pub fail_traffic_on_panic: bool,
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
                full_scan: false,
            },
            slow_start: None,
            locality_lb: LocalityLb::None,
            subsets: None,
            circuit_breakers: CircuitBreakers::UNLIMITED,
            outlier_detection: None,
            health_checks: Vec::new(),
            ignore_new_hosts_until_first_health_check: false,
            ignore_health_on_host_removal: false,
            close_connections_on_host_health_failure: false,
            update_merge_window: Nanos::from_secs(1),
            http_protocol: HttpProtocol::Http1,
            max_concurrent_streams: 1024,
            max_stream_duration: None,
            max_requests_per_connection: 0,
            idle_timeout: Some(Nanos::from_secs(3600)),
            healthy_panic_threshold_percent: 0,
            fail_traffic_on_panic: false,
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
        /// Every host is looked at instead of `choice_count` random ones.
        full_scan: bool,
    },
    Random,
    RingHash {
        minimum_ring_size: u64,
        maximum_ring_size: u64,
        function: RingHashFunction,
        hashing: ConsistentHashing,
    },
    Maglev {
        table_size: u64,
        hashing: ConsistentHashing,
    },
    /// Two random choices by exponentially weighted latency (Finagle, tower, Linkerd).
    PeakEwma {
        decay: Nanos,
        default_rtt: Nanos,
    },
    /// The discovery type names the endpoint (`ORIGINAL_DST`).
    ClusterProvided,
}

impl LbPolicy {
    /// Goes by the hash of a request.
    pub fn hashes(&self) -> bool {
        matches!(self, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. })
    }
}

/// Envoy `RingHashLbConfig.HashFunction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingHashFunction {
    #[default]
    XxHash,
    Murmur2,
}

/// Envoy `ConsistentHashingLbConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistentHashing {
    /// Hosts are keyed by their hostname instead of their address.
    pub use_hostname: bool,
    /// Bounded load: percent of the average load that a host may have, at least 100.
    pub hash_balance_factor_percent: Option<u32>,
}

/// Envoy `SlowStartConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowStart {
    pub window: Nanos,
    pub aggression: f64,
    /// Of the full weight, at the start of the window.
    pub min_weight_percent: f64,
}

/// How the localities of one priority share its load (Envoy `CommonLbConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalityLb {
    /// By their hosts alone; where the proxy knows its local cluster, zone-aware with Envoy's
    /// defaults.
    #[default]
    None,
    /// `locality_weighted_lb_config`.
    Weighted,
    /// `zone_aware_lb_config`; takes effect where the proxy knows its local cluster.
    ZoneAware(ZoneAware),
}

/// Envoy `CommonLbConfig.ZoneAwareLbConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneAware {
    pub routing_enabled_percent: u32,
    pub min_cluster_size: u64,
    /// All load stays in the own zone while it has this many healthy hosts.
    pub force_local_zone_min_size: Option<u32>,
}

/// Envoy `LbSubsetConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subsets {
    pub selectors: Vec<SubsetSelector>,
    pub fallback: SubsetFallback,
    pub panic_mode_any: bool,
    pub allow_redundant_keys: bool,
}

/// Envoy `LbSubsetSelector`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubsetSelector {
    pub keys: Vec<Name>,
    /// `None`: the cluster's own fallback.
    pub fallback: Option<SubsetFallback>,
}

/// What is used when no subset has a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum SubsetFallback {
    #[default]
    NoFallback,
    AnyEndpoint,
    /// The hosts with this metadata.
    DefaultSubset(Vec<(Name, Name)>),
    /// The same criteria with these keys alone; selectors only.
    Keys(Vec<Name>),
}

/// Envoy `CircuitBreakers.Thresholds` of the default routing priority.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreakers {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// Replaces `max_retries`.
    pub retry_budget: Option<RetryBudget>,
    /// `per_host_thresholds.max_connections`.
    pub max_connections_per_host: Option<u32>,
}

/// Envoy `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Of the requests in progress.
    pub budget_percent: f64,
    pub min_retry_concurrency: u32,
}

impl CircuitBreakers {
    /// What Istio sends where nothing is configured.
    pub const UNLIMITED: CircuitBreakers = CircuitBreakers {
        max_connections: u32::MAX,
        max_pending_requests: u32::MAX,
        max_requests: u32::MAX,
        max_retries: u32::MAX,
        retry_budget: None,
        max_connections_per_host: None,
    };
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
