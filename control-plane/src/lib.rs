//! Istio's control plane: configuration, service registry, translation to xDS, pushes.
//!
//! | module | holds |
//! |---|---|
//! | `config` | Istio's objects as typed values |
//! | `of_2017` | the rules of Istio 0.1 and 0.2, as their data planes took them |
//! | `kubernetes` | Kubernetes objects, as far as they matter to routing |
//! | `gateway_api` | the Gateway API: its objects, what they become in Istio's terms, their status |
//! | `ingress` | what Istio makes of an Ingress |
//! | [`injection`] | whether a pod gets a sidecar |
//! | `kinds`, `object`, `objects` | which kinds there are; reading, applying, deleting, patching |
//! | `registry`, `rules`, `authentication`, `authorization` | services and rules, indexed, in Istio's order |
//! | `translate` | from those to the resources of one proxy |
//! | `mixer` | Mixer of 2017: its configuration, verdicts and metrics |
//! | `push`, `delta` | the state machine that tells proxies what changed |
//! | `request`, `identify` | a request and a proxy that are asked about |
//! | `explain` | where a request goes, and why |
//! | `http_rules` | HTTP rules as proxies try them, for those who compare their conditions |
//! | `stated_rules` | HTTP rules as they were written, for those who count which are used |
//! | `rpc_code` | the statuses of gRPC |
//! | `references`, `codes` | rules that name things that are not there; Istio's message codes |

mod authentication;
mod authorization;
mod codes;
mod config;
mod delta;
mod explain;
mod gateway_api;
mod http_rules;
mod identify;
mod ingress;
pub mod injection;
mod kinds;
mod kubernetes;
mod mixer;
mod model;
mod names;
mod object;
mod objects;
mod of_2017;
mod policies;
mod protocol;
mod push;
mod references;
mod registry;
mod request;
mod rpc_code;
mod rules;
mod stated_rules;
mod store;
mod translate;

pub use codes::{allow_invalid, code_name};
pub use config::{DataPlane, MeshConfig, OutboundTrafficMode, parse_duration};
pub use explain::{
    Action, ClusterShare, Explainer, Explanation, PassedOver, Setting, Upstream, explain,
};
pub use gateway_api::{GatewayApiStatus, StatusCondition, StatusReference};
pub use http_rules::{HttpRuleMatch, HttpRules, http_rules};
pub use mixer::{MetricSample, MixerAttributes, MixerParty, MixerPolicy, Quotas};
pub use model::{
    Pod, ProxyIdentity, ProxyKind, Push, Resources, Router, ServiceInfo, ServicePortInfo, Workload,
};
pub use names::full_name;
pub use objects::{ObjectRef, Objects};
pub use of_2017::Converted;
pub use push::{ControlPlane, PushSettings};
pub use request::{Request, RequestDirection, RequestProtocol, RequestTls};
pub use stated_rules::StatedRule;
