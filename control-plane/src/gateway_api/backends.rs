//! Where rules send what they match.

use super::known::{Known, Problem};
use super::route::{Backend, RouteKind};
use crate::config::{Destination, Named};
use crate::names::service_host;
use proxy_core::xds::Name;

/// Where a backend is.
pub(crate) enum Found {
    /// A problem that leaves the rest of the rule as it is; the destination may be nobody.
    There(Destination, Option<Problem>),
    /// A problem that leaves nothing of the route.
    Refused(Problem),
}

/// The destination of a backend. `granting`: references across namespaces need a grant, as those of
/// routes of gateways do.
pub(crate) fn find(
    known: &Known<'_>,
    backend: &Backend,
    kind: RouteKind,
    own: &Name,
    granting: bool,
) -> Found {
    let name = &backend.to.name.text;
    let of = backend.group_kind();
    let namespace = backend.to.namespace_or(own);
    let nobody = |reason, message: String| {
        let problem = Problem::new(reason, message);
        Found::There(destination(backend, "".into(), None), Some(problem))
    };
    let refused = |message: &str| Found::Refused(Problem::new("InvalidDestination", message));
    if granting && !known.granted(kind.name(), own, of, namespace, name) {
        let kind = kind.name();
        return nobody(
            "RefNotPermitted",
            format!(
                "backendRef {name}/{namespace} not accessible to a {kind} in namespace \"{own}\" \
                 (missing a ReferenceGrant?)"
            ),
        );
    }
    let (host, there) = match of {
        ("", "Service") if name.contains('.') => {
            return refused(
                "service name invalid; the name of the Service must be used, not the hostname.",
            );
        }
        // Without the hosts of other clusters, an import is the Service of that name.
        ("", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
            let there = known.find("Service", namespace, name).is_some();
            (service_host(name, namespace), there)
        }
        ("networking.istio.io", "Hostname") => {
            if backend.to.namespace.is_some() {
                return refused("namespace may not be set with Hostname type");
            }
            let host: Name = name.to_ascii_lowercase().into();
            let there = known.service(&host, own).is_some();
            (host, there)
        }
        ("inference.networking.k8s.io", "InferencePool") => {
            let message = "InferencePool is not enabled. To enable, set \
                           ENABLE_GATEWAY_API_INFERENCE_EXTENSION to true in istiod";
            return nobody("InvalidKind", message.to_owned());
        }
        ("gateway.networking.x-k8s.io", "XBackend") => {
            let message = "The Alpha Gateway API is not enabled, XBackend is invalid. To enable, \
                           set PILOT_ENABLE_ALPHA_GATEWAY_API to true in istiod.";
            return nobody("InvalidKind", message.to_owned());
        }
        (group, kind) => {
            let message =
                format!("referencing unsupported backendRef: group \"{group}\" kind \"{kind}\"");
            return nobody("InvalidKind", message);
        }
    };
    let Some(port) = backend.port else {
        return refused("port is required in backendRef");
    };
    let problem = (!there).then(|| {
        let message = format!("backend({host}) not found");
        Problem::new("BackendNotFound", message)
    });
    Found::There(destination(backend, host, Some(port)), problem)
}

/// An empty host is nobody.
fn destination(backend: &Backend, host: Name, port: Option<u16>) -> Destination {
    Destination {
        host: Named {
            text: host,
            span: backend.to.name.span.clone(),
        },
        subset: None,
        port,
        span: backend.span.clone(),
    }
}

/// Where connections end for which no backend has a weight: a cluster that is never there.
pub(crate) fn weightless(span: &source::Span) -> Destination {
    let named = |text: &str| Named {
        text: text.into(),
        span: span.clone(),
    };
    Destination {
        host: named("internal.cluster.local"),
        subset: Some(named("zero-weight")),
        port: Some(65535),
        span: span.clone(),
    }
}

/// The sum of the weights.
pub(crate) fn weight(backends: &[Backend]) -> u64 {
    backends.iter().map(|b| u64::from(b.weight)).sum()
}
