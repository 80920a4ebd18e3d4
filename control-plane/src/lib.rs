//! Istio's control plane: configuration, service registry, translation to xDS, pushes.
//!
//! | module | holds |
//! |---|---|
//! | `config` | Istio's objects as typed values |
//! | `kubernetes` | Kubernetes objects, as far as they matter to routing |
//! | `kinds`, `object`, `objects` | which kinds there are; reading, applying, deleting, patching |
//! | `registry`, `rules`, `authentication` | services and rules, indexed, in Istio's order |
//! | `ingress` | what Istio makes of an Ingress |
//! | `translate` | from those to the resources of one proxy |
//! | `push`, `delta` | the state machine that tells proxies what changed |
//! | `request`, `identify` | a request and a proxy that are asked about |
//! | `explain` | where a request goes, and why |
//! | `references`, `codes` | rules that name things that are not there; Istio's message codes |

mod authentication;
mod codes;
mod config;
mod delta;
mod explain;
mod identify;
mod ingress;
mod kinds;
mod kubernetes;
mod model;
mod names;
mod object;
mod objects;
mod protocol;
mod push;
mod references;
mod registry;
mod request;
mod rules;
mod translate;

pub use codes::code_name;
pub use config::{MeshConfig, OutboundTrafficMode};
pub use explain::{Action, ClusterShare, Explanation, Upstream, explain};
pub use model::{
    Pod, ProxyIdentity, ProxyKind, Push, Resources, ServiceInfo, ServicePortInfo, Workload,
};
pub use objects::{ObjectRef, Objects};
pub use push::{ControlPlane, PushSettings};
pub use request::{Request, RequestDirection, RequestProtocol, RequestTls};
