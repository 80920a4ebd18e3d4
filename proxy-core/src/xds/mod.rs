//! The resources a proxy is configured with, in Envoy's nouns, and the deltas that deliver them.
//!
//! They are immutable: a change is a new resource. They are handed over as `Arc`s, so that
//! thousands of proxies with the same view share one copy.

mod cluster;
mod endpoint;
mod health;
mod jwt;
mod listener;
mod matching;
mod mixer;
mod rate_limit;
mod rbac;
mod retry_on;
mod route;

pub use cluster::*;
pub use endpoint::*;
pub use health::*;
pub use jwt::*;
pub use listener::*;
pub use matching::*;
pub use mixer::*;
pub use rate_limit::*;
pub use rbac::*;
pub use retry_on::*;
pub use route::*;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A shared, immutable piece of text: resource names, domains, header names.
pub type Name = Arc<str>;

/// Where in the user's configuration a resource came from (Istio: `metadata.filter_metadata.istio`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRef {
    /// `VirtualService`, `DestinationRule`, ...
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
    /// The file the object was read from, as the user named it.
    pub file: Name,
    /// Line of the object (for a route: of the rule) in `file`, from 1.
    pub line: u32,
}

/// One incremental update of one resource type.
///
/// Istio sends them in the order clusters, endpoints, listeners, routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum XdsDelta {
    Clusters {
        upsert: Vec<Arc<Cluster>>,
        remove: Vec<Name>,
    },
    /// Endpoints of EDS clusters; removal is implied by the cluster's.
    Endpoints { upsert: Vec<Arc<LoadAssignment>> },
    Listeners {
        upsert: Vec<Arc<Listener>>,
        remove: Vec<Name>,
    },
    Routes {
        upsert: Vec<Arc<RouteTable>>,
        remove: Vec<Name>,
    },
}
