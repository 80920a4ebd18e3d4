//! Nodes whose one proxy all their pods share, as Linkerd 1.x ran: who they are, and who is where.

use super::topology::PlanPod;
use control_plane::{Objects, ProxyKind, Workload};
use proxy_core::random::hash_text;
use scenarios::model::Scenario;
use source::{Diagnostic, SourceFile};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Nodes in each locality, where neither the scenario nor a manifest says.
const NODES: u32 = 3;

fn is_node_proxy(kind: ProxyKind) -> bool {
    matches!(kind, ProxyKind::NodeProxy(_))
}

/// Where pods use the proxies of nodes, adds the nodes and Linkerd's DaemonSet unless the manifests
/// have them.
pub(super) fn add(scenario: &Scenario, objects: &mut Objects, diagnostics: &mut Vec<Diagnostic>) {
    let workloads = objects.deployments();
    let users: Vec<&Workload> = workloads
        .iter()
        .filter(|workload| workload.proxy == ProxyKind::Node)
        .collect();
    let Some(first) = users.first() else {
        if let Some((_, span)) = &scenario.topology.nodes {
            diagnostics.push(Diagnostic::warning("`nodes` has no effect here").at(
                span,
                "no pod uses the proxy of its node (`proxy: node` of a service)",
            ));
        }
        return;
    };
    let mut text = String::new();
    if objects.nodes().is_empty() {
        let each = scenario.topology.nodes.as_ref().map_or(NODES, |(n, _)| *n);
        let localities: BTreeSet<&str> = users.iter().map(|w| &*w.locality).collect();
        let localities = localities
            .into_iter()
            .flat_map(|l| (0..each).map(move |_| l));
        for (number, locality) in localities.enumerate() {
            let (region, zone) = locality.split_once('/').unwrap_or((locality, ""));
            let mut labels = Vec::new();
            for (key, value) in [("region", region), ("zone", zone)] {
                if !value.is_empty() {
                    labels.push(format!("topology.kubernetes.io/{key}: {value:?}"));
                }
            }
            let labels = labels.join(", ");
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}, labels: {{{labels}}}}}\n"
            );
        }
    }
    if !workloads.iter().any(|w| is_node_proxy(w.proxy)) {
        let namespace = &first.namespace;
        let _ = write!(
            text,
            "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: l5d, namespace: {namespace:?}}}\n\
             spec:\n  selector: {{matchLabels: {{app: l5d}}}}\n  template:\n    metadata: {{labels: {{app: l5d}}}}\n    \
             spec: {{containers: [{{name: l5d, image: \"buoyantio/linkerd:1.1.1\"}}]}}\n"
        );
    }
    let name = format!("{} (nodes)", scenario.file.name);
    objects.apply(&Objects::read(&SourceFile::new(&name, &text), diagnostics));
    check_namespaces(scenario, objects, diagnostics);
}

/// What a short name means depends on the namespace, and a node's proxy does not know who asks.
fn check_namespaces(scenario: &Scenario, objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    let concerned = |w: &&Workload| w.proxy == ProxyKind::Node || is_node_proxy(w.proxy);
    let workloads = objects.deployments();
    let names: BTreeSet<&str> = workloads
        .iter()
        .filter(concerned)
        .map(|workload| &*workload.namespace)
        .collect();
    if names.len() > 1 {
        let names: Vec<&str> = names.into_iter().collect();
        let message = "proxies of nodes, and the pods that use them, are in one namespace";
        let place = scenario.file.span(0..0);
        diagnostics
            .push(Diagnostic::error(message).at(&place, format!("here: {}", names.join(", "))));
    }
}

/// Puts every pod on a node, if nodes have proxies: the pods of a workload on one node after another
/// of their locality.
pub(super) fn place(pods: &mut [PlanPod]) {
    let proxies: Vec<(u32, control_plane::Pod)> = (0u32..)
        .zip(pods.iter())
        .filter(|(_, pod)| is_node_proxy(pod.pod.proxy))
        .map(|(index, pod)| (index, pod.pod.clone()))
        .collect();
    if proxies.is_empty() {
        return;
    }
    for (index, pod) in (0u32..).zip(pods.iter_mut()) {
        let own = &mut pod.pod;
        let chosen = match proxies.iter().find(|(proxy, _)| *proxy == index) {
            Some(itself) => itself,
            None => {
                let near = proxies.iter().filter(|(_, p)| p.locality == own.locality);
                let near: Vec<_> = near.collect();
                let all = || proxies.iter().collect();
                let nodes = if near.is_empty() { all() } else { near };
                let first = hash_text(&format!("{}/{}", own.namespace, own.workload));
                nodes[(first.wrapping_add(u64::from(own.ordinal)) % nodes.len() as u64) as usize]
            }
        };
        (pod.node, own.node_proxy) = (Some(chosen.0), Some(chosen.1.ip));
    }
}
