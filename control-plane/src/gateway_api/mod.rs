//! The Gateway API as Istio's controller carries it out (`pilot/pkg/config/kube/gateway`): Gateways
//! and routes become the Gateways and VirtualServices of Istio that say the same, and each object
//! has a status.
//!
//! | module | holds |
//! |---|---|
//! | `gateway`, `route`, `matches`, `filters`, `policy`, `reference`, `certificates` | the objects as typed values |
//! | `deployment` | the Service and pods that the controller makes for a Gateway |
//! | `known` | what there is to refer to |
//! | `listeners`, `listener_tls`, `addresses`, `of_gateway` | what a Gateway listens on, and where |
//! | `attach` | which routes bind to which listeners |
//! | `backends`, `http`, `merge`, `connections` | from routes to VirtualServices |
//! | `policies` | from BackendTLSPolicies to DestinationRules |
//! | `check` | routes that name things that are not there |
//! | `status` | the conditions that the controller writes |
//! | `translate` | all of it together |

mod addresses;
mod attach;
mod backends;
mod certificates;
mod check;
mod connections;
mod deployment;
mod filters;
mod gateway;
mod http;
mod known;
mod listener_tls;
mod listeners;
mod matches;
mod merge;
mod of_gateway;
mod policies;
mod policy;
mod reference;
mod route;
mod status;
mod translate;

pub(crate) use check::check_route;
pub(crate) use deployment::deployed;
pub(crate) use known::Known;
pub use status::{GatewayApiStatus, StatusCondition, StatusReference};
pub(crate) use translate::{Translated, translated};

pub(crate) use certificates::Certificates;
use gateway::{Gateway, ListenerSet};
use policy::BackendTlsPolicy;
use proxy_core::xds::Name;
use reference::{GROUP, ReferenceGrant};
use route::{Route, RouteKind};
use source::{Diagnostic, Node};

/// One object of the Gateway API, or one that such objects refer to.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    /// Its controller.
    GatewayClass(Name),
    Gateway(Box<Gateway>),
    ListenerSet(ListenerSet),
    Route(Route),
    ReferenceGrant(ReferenceGrant),
    BackendTlsPolicy(BackendTlsPolicy),
}

/// How a Gateway of the Gateway API is called beside Istio's own of the same name.
pub(crate) const GATEWAY: &str = "Gateway.gateway.networking.k8s.io";

const KINDS: [&str; 9] = [
    "GatewayClass",
    "Gateway",
    "ListenerSet",
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "ReferenceGrant",
    "BackendTLSPolicy",
];
const VERSIONS: [&str; 4] = ["v1", "v1beta1", "v1alpha3", "v1alpha2"];

/// Whether `kind` of `version` is of the Gateway API, and read here.
pub(crate) fn is_known(kind: &str, version: &str) -> bool {
    let of_group = version
        .strip_prefix(GROUP)
        .and_then(|rest| rest.strip_prefix('/'));
    KINDS.contains(&kind) && of_group.is_some_and(|version| VERSIONS.contains(&version))
}

/// Reads the `spec` of an object of the Gateway API.
pub(crate) fn read(
    kind: &str,
    spec: &Node,
    annotations: &[(Name, Name)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spec> {
    Some(match kind {
        "GatewayClass" => Spec::GatewayClass(gateway::read_class(spec, diagnostics)?),
        "Gateway" => Spec::Gateway(Box::new(Gateway::read(spec, annotations, diagnostics)?)),
        "ListenerSet" => Spec::ListenerSet(ListenerSet::read(spec, diagnostics)?),
        "ReferenceGrant" => Spec::ReferenceGrant(ReferenceGrant::read(spec, diagnostics)?),
        "BackendTLSPolicy" => {
            Spec::BackendTlsPolicy(BackendTlsPolicy::read(spec, annotations, diagnostics)?)
        }
        _ => {
            let kind = RouteKind::ALL.into_iter().find(|k| k.name() == kind)?;
            Spec::Route(Route::read(kind, spec, diagnostics)?)
        }
    })
}

/// The certificates in a Secret or ConfigMap.
pub(crate) fn certificates(kind: &str, document: &Node) -> Certificates {
    match kind {
        "Secret" => Certificates::of_secret(document),
        _ => Certificates::of_config_map(document),
    }
}
