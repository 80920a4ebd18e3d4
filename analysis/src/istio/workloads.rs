//! Which pods are in the mesh.

use super::input::{Input, Pods};
use crate::documents::{Document, NAMESPACE};
use crate::read::{entries, items, text, value_of};
use source::Node;

pub(super) const PROXY: &str = "istio-proxy";
pub(super) const INJECTION: &str = "istio-injection";
pub(super) const REVISION: &str = "istio.io/rev";
pub(super) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
pub(super) const INJECT: &str = "sidecar.istio.io/inject";

/// The containers of a pod, then its init containers.
pub(super) fn all_containers<'n>(pod: &'n Node, spec: &[&str]) -> impl Iterator<Item = &'n Node> {
    let Some(spec) = pod.at(spec) else {
        return [].iter().chain(&[]);
    };
    items(spec, &["containers"])
        .iter()
        .chain(items(spec, &["initContainers"]))
}

/// The image of its proxy; empty if it has none.
pub(super) fn proxy_image<'n>(mut containers: impl Iterator<Item = &'n Node>) -> &'n str {
    let proxy = containers.find(|container| text(container, &["name"]) == PROXY);
    proxy.map_or("", |proxy| text(proxy, &["image"]))
}

/// Whether pods have a sidecar, or get one.
pub(super) fn in_mesh(input: &Input<'_>, pods: Pods<'_>) -> bool {
    let containers = all_containers(pods.node, &["spec"]);
    if !proxy_image(containers).is_empty() {
        return true;
    }
    let annotations = entries(pods.node, &["metadata", "annotations"]);
    let own = value_of(pods.labels, INJECT).or_else(|| value_of(annotations, INJECT));
    match own {
        Some(own) => own == "true",
        None => input
            .find(NAMESPACE, "", pods.namespace)
            .is_some_and(|namespace| namespace.label(INJECTION) == Some("enabled")),
    }
}

/// Whether the node's proxy takes the pod's traffic.
pub(super) fn is_ambient(pod: &Node) -> bool {
    text(
        pod,
        &["metadata", "annotations", "ambient.istio.io/redirection"],
    ) == "enabled"
}

/// Whether the pods of a namespace are to be in ambient mode.
pub(super) fn namespace_is_ambient(namespace: &Document) -> bool {
    let revision = namespace.label(REVISION).unwrap_or_default();
    namespace.label(INJECTION) != Some("enabled")
        && revision.is_empty()
        && namespace.label(DATAPLANE_MODE) == Some("ambient")
}

/// Whether an object is Istio's own.
pub(super) fn is_control_plane(document: &Document) -> bool {
    document.label("istio").is_some() || document.label("release") == Some("istio")
}
