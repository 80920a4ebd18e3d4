//! Endpoints of clusters.

use super::Name;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Envoy `ClusterLoadAssignment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadAssignment {
    pub cluster: Name,
    pub localities: Vec<LocalityEndpoints>,
    /// Percent; Envoy's default is 140.
    pub overprovisioning_factor_percent: u32,
    /// Health of a priority by the weights of its hosts instead of their number.
    pub weighted_priority_health: bool,
    /// Parts per million of the requests that are dropped.
    pub drop_overload_ppm: u32,
}

impl LoadAssignment {
    /// An assignment with Envoy's overprovisioning factor.
    pub fn new(cluster: Name, localities: Vec<LocalityEndpoints>) -> LoadAssignment {
        LoadAssignment {
            cluster,
            localities,
            overprovisioning_factor_percent: 140,
            weighted_priority_health: false,
            drop_overload_ppm: 0,
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
    /// 0: none, the locality takes no load under locality-weighted balancing.
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
    pub hostname: Option<Name>,
    /// Metadata of `envoy.lb`: subset keys, and the `hash_key` of consistent hashing.
    pub lb_metadata: Vec<(Name, Name)>,
}

impl Endpoint {
    /// A healthy endpoint of weight 1.
    pub fn new(address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            health: EndpointHealth::Healthy,
            weight: 1,
            mutual_tls: false,
            hostname: None,
            lb_metadata: Vec::new(),
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
