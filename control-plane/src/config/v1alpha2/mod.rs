//! The rules of 2017: Istio 0.1 (`type: route-rule`) and 0.2 (`config.istio.io/v1alpha2`), one file
//! for each kind. Both are read into the same values; names are resolved as Pilot resolved them, and
//! what its validation refused is an error.
//!
//! | module | holds |
//! |---|---|
//! | `data_plane` | who carries them out |
//! | `envelope` | what is around a rule, in both dialects |
//! | `service` | how rules name services |
//! | `condition` | which callers and requests a rule is for |
//! | `route_rule` | RouteRule |
//! | `resilience` | its timeouts, retries and faults |
//! | `destination_policy`, `egress_rule`, `ingress_rule` | the other kinds |

mod condition;
mod data_plane;
mod destination_policy;
mod egress_rule;
mod envelope;
mod ingress_rule;
mod resilience;
mod route_rule;
mod service;

pub(crate) use condition::Condition;
pub use data_plane::DataPlane;
pub(crate) use destination_policy::{DestinationPolicy, SimpleBreaker, VersionPolicy};
pub(crate) use egress_rule::{EgressProtocol, EgressRule};
pub(crate) use envelope::{Envelope, Spelling};
pub(crate) use ingress_rule::{IngressRule, RulePort};
use resilience::{Fault2017, SimpleRetry};
pub(crate) use route_rule::{RouteRule, Share};
pub(crate) use service::ServiceReference;
