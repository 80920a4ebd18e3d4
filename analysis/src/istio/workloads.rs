//! Which pods are in the mesh.

use super::input::Input;
use crate::documents::{Document, NAMESPACE};
use crate::read::{entries, items, text, value_of};
use source::Node;
use source::node::Entry;

pub(super) const PROXY: &str = "istio-proxy";
pub(super) const INJECTION: &str = "istio-injection";
pub(super) const REVISION: &str = "istio.io/rev";
pub(super) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
const INJECT: &str = "sidecar.istio.io/inject";

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

/// Whether a pod has a sidecar, or gets one.
pub(super) fn pod_in_mesh(input: &Input<'_>, pod: &Document) -> bool {
    let containers = all_containers(&pod.node, &["spec"]);
    let parts = (pod.labels(), pod.annotations());
    in_mesh(input, &pod.namespace, proxy_image(containers), parts)
}

/// The same of the pods of a Deployment.
pub(super) fn deployment_in_mesh(input: &Input<'_>, deployment: &Document) -> bool {
    let template = ["spec", "template"];
    let Some(template) = deployment.node.at(&template) else {
        return in_mesh(input, &deployment.namespace, "", (&[], &[]));
    };
    let image = proxy_image(items(template, &["spec", "containers"]).iter());
    let labels = entries(template, &["metadata", "labels"]);
    let annotations = entries(template, &["metadata", "annotations"]);
    in_mesh(input, &deployment.namespace, image, (labels, annotations))
}

fn in_mesh(
    input: &Input<'_>,
    namespace: &str,
    proxy_image: &str,
    (labels, annotations): (&[Entry], &[Entry]),
) -> bool {
    if !proxy_image.is_empty() {
        return true;
    }
    let own = value_of(labels, INJECT).or_else(|| value_of(annotations, INJECT));
    match own {
        Some(own) => own == "true",
        None => input
            .find(NAMESPACE, "", namespace)
            .is_some_and(|namespace| namespace.label(INJECTION) == Some("enabled")),
    }
}

/// Whether the node's proxy takes the pod's traffic.
pub(super) fn pod_is_ambient(pod: &Document) -> bool {
    pod.annotation("ambient.istio.io/redirection") == Some("enabled")
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
