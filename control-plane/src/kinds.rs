//! What becomes of an object, by its kind.

use crate::{gateway_api, mixer};
use source::nearest;

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Read,
    /// Without any influence on routing.
    Dropped,
    /// Not used; said once for the kind.
    PassedOver(&'static str),
    /// Istio has it, and it is not run yet.
    Unsupported,
    /// Nobody has it.
    Unknown {
        help: String,
    },
}

const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// Group, kind and versions of Istio's kinds.
const ISTIO: [(&str, &str, &[&str]); 19] = [
    ("networking", "VirtualService", NETWORKING),
    ("networking", "DestinationRule", NETWORKING),
    ("networking", "Gateway", NETWORKING),
    ("networking", "ServiceEntry", NETWORKING),
    ("networking", "Sidecar", NETWORKING),
    ("networking", "WorkloadEntry", NETWORKING),
    ("networking", "WorkloadGroup", NETWORKING),
    ("networking", "EnvoyFilter", &["v1alpha3"]),
    ("networking", "ProxyConfig", &["v1beta1"]),
    ("security", "AuthorizationPolicy", &["v1", "v1beta1"]),
    ("security", "PeerAuthentication", &["v1", "v1beta1"]),
    ("security", "RequestAuthentication", &["v1", "v1beta1"]),
    ("telemetry", "Telemetry", &["v1", "v1alpha1"]),
    ("extensions", "WasmPlugin", &["v1alpha1"]),
    ("extensions", "TrafficExtension", &["v1alpha1"]),
    // Of 2017.
    ("config", "RouteRule", &["v1alpha2"]),
    // A sample of 0.2 says `v1beta1`.
    ("config", "DestinationPolicy", &["v1alpha2", "v1beta1"]),
    ("config", "EgressRule", &["v1alpha2"]),
    ("config", "IngressRule", &["v1alpha2"]),
];

/// Whether Istio's validation looks at objects of this kind and version.
pub(crate) fn is_istio(version: &str, kind: &str) -> bool {
    if is_mixer(version, kind) {
        return true;
    }
    let group = version.split_once(".istio.io/").map(|(group, _)| group);
    ISTIO
        .iter()
        .any(|(of, name, _)| Some(*of) == group && *name == kind)
}

/// Whether it is a kind of Mixer's configuration in Istio 0.2.
pub(crate) fn is_mixer(version: &str, kind: &str) -> bool {
    version == "config.istio.io/v1alpha2" && mixer::KINDS.contains(&kind)
}

/// What becomes of an object of this `apiVersion` and kind.
pub(crate) fn fate(full: &str, kind: &str) -> Fate {
    if is_mixer(full, kind) {
        return Fate::Read;
    }
    let (group, version) = full.rsplit_once('/').unwrap_or(("", full));
    if let Some(own) = group.strip_suffix(".istio.io")
        && ISTIO.iter().any(|(of, _, _)| *of == own)
    {
        return of_istio(own, version, kind);
    }
    match (group, kind, version) {
        _ if gateway_api::is_known(kind, full) => Fate::Read,
        (
            "",
            "Service" | "Pod" | "Endpoints" | "Namespace" | "Node" | "ConfigMap" | "Secret",
            "v1",
        )
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet", "v1")
        | ("discovery.k8s.io", "EndpointSlice", "v1")
        | ("networking.k8s.io", "Ingress" | "IngressClass", "v1") => Fate::Read,
        // Read as what became of them: what matters of them is spelled alike.
        ("extensions", "Deployment" | "DaemonSet" | "Ingress", "v1beta1")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet", "v1beta1" | "v1beta2")
        | ("networking.k8s.io", "Ingress", "v1beta1") => Fate::Read,
        ("", "Service" | "Pod" | "Endpoints" | "Namespace" | "Node", _)
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet", _)
        | ("discovery.k8s.io", "EndpointSlice", _)
        | ("networking.k8s.io", "Ingress", _)
        | ("gateway.networking.k8s.io", _, _) => Fate::Unsupported,
        ("apps", "ReplicaSet", _) | ("", "ReplicationController", _) => {
            Fate::PassedOver("its pods count where a Deployment or a Pod is there")
        }
        ("batch", _, _) => Fate::PassedOver("its pods come and go"),
        ("autoscaling", _, _) => Fate::PassedOver("workloads keep their replicas"),
        ("networking.k8s.io", "NetworkPolicy", _) => Fate::PassedOver("nothing is filtered by it"),
        _ if is_kubernetes(group) => Fate::Dropped,
        _ if group.ends_with("istio.io") => {
            Fate::PassedOver("of another Istio, or for its operator")
        }
        _ => Fate::PassedOver("of another project"),
    }
}

/// Groups of Kubernetes the rest of which does not matter to routing.
fn is_kubernetes(group: &str) -> bool {
    let own = [
        "",
        "apps",
        "policy",
        "extensions",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
        "authorization.k8s.io",
        "authentication.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "admissionregistration.k8s.io",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "metrics.k8s.io",
        "node.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    ];
    own.contains(&group)
}

fn of_istio(group: &str, version: &str, kind: &str) -> Fate {
    // Mixer's kinds are in lower case, one for each adapter and template.
    if group == "config" && kind.starts_with(|c: char| c.is_ascii_lowercase()) {
        return match nearest(kind, mixer::KINDS) {
            None => Fate::PassedOver("a part of Mixer that is not modelled"),
            Some(near) => Fate::Unknown {
                help: format!("did you mean `{near}`?"),
            },
        };
    }
    let kinds = ISTIO.iter().filter(|(of, _, _)| *of == group);
    let Some((_, _, versions)) = kinds.clone().find(|(_, name, _)| *name == kind) else {
        let names = kinds.map(|(_, name, _)| *name);
        let help = match nearest(kind, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its kinds are {}", names.collect::<Vec<_>>().join(", ")),
        };
        return Fate::Unknown { help };
    };
    if !versions.contains(&version) {
        let versions: Vec<String> = versions
            .iter()
            .map(|version| format!("{group}.istio.io/{version}"))
            .collect();
        let help = format!("{kind} is there in {}", versions.join(", "));
        return Fate::Unknown { help };
    }
    Fate::Read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_group_kind_and_version() {
        assert_eq!(fate("networking.istio.io/v1", "Gateway"), Fate::Read);
        assert_eq!(fate("apps/v1", "StatefulSet"), Fate::Read);
        assert_eq!(fate("v1", "ConfigMap"), Fate::Read);
        assert_eq!(fate("v1", "ServiceAccount"), Fate::Dropped);
        assert_eq!(fate("gateway.networking.k8s.io/v1", "Gateway"), Fate::Read);
        assert_eq!(fate("rbac.authorization.k8s.io/v1", "Role"), Fate::Dropped);
        assert_eq!(fate("apps/v1beta1", "Deployment"), Fate::Read);
        assert_eq!(fate("extensions/v1beta1", "Ingress"), Fate::Read);
        assert_eq!(fate("extensions/v1beta1", "Role"), Fate::Dropped);
        assert_eq!(fate("apps/v2", "Deployment"), Fate::Unsupported);
        assert_eq!(fate("config.istio.io/v1alpha2", "RouteRule"), Fate::Read);
        assert_eq!(fate("config.istio.io/v1alpha2", "denier"), Fate::Read);
        assert!(matches!(
            fate("cert-manager.io/v1", "Certificate"),
            Fate::PassedOver(_)
        ));
        let Fate::Unknown { help } = fate("networking.istio.io/v1", "VirtualServce") else {
            panic!("no such kind");
        };
        assert_eq!(help, "did you mean `VirtualService`?");
        let Fate::Unknown { help } = fate("networking.istio.io/v1", "EnvoyFilter") else {
            panic!("no such version");
        };
        assert_eq!(help, "EnvoyFilter is there in networking.istio.io/v1alpha3");
    }
}
