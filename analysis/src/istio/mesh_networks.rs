//! MeshNetworks that name registries that are not there (IST0126).

use super::input::{ISTIO_NAMESPACE, Input, Report};
use crate::codes::IST0126;
use crate::documents::SECRET;
use crate::read::{entries, items, present};
use std::collections::BTreeSet;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let Some(networks) = input.mesh_networks.as_ref().filter(|_| input.knows(SECRET)) else {
        return;
    };
    let mut registries = BTreeSet::from(["Mock", "Kubernetes", "External"]);
    for secret in input.of(SECRET) {
        // The credentials of another cluster, by the cluster's name.
        if secret.label("istio/multiCluster") == Some("true") {
            for key in ["data", "stringData"] {
                let clusters = entries(&secret.node, &[key]).iter();
                registries.extend(clusters.map(|entry| &*entry.key));
            }
        }
    }
    for network in entries(networks, &["networks"]) {
        for endpoint in items(&network.value, &["endpoints"]) {
            let Some(registry) = present(endpoint, &["fromRegistry"]) else {
                continue;
            };
            let name = registry.as_scalar().unwrap_or_default();
            if registries.contains(name) {
                continue;
            }
            let diagnostic = IST0126
                .says(format!(
                    "network {} names a registry `{name}` that is not there",
                    network.key
                ))
                .at(&registry.span, "neither a cluster's Secret nor Kubernetes")
                .nearest(name, registries.iter().copied());
            let resource = format!("MeshNetworks {ISTIO_NAMESPACE}/meshnetworks");
            report.say_once_of(resource, diagnostic);
        }
    }
}
