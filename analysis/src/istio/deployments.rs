//! Deployments: the Services that select their pods (IST0116, IST0137), and users that are the
//! sidecar's (IST0144).

use super::input::{Input, Pods, Report};
use super::workloads::{PROXY, in_mesh, is_control_plane};
use crate::codes::{IST0116, IST0137, IST0144};
use crate::documents::{DEPLOYMENT, Document, POD, SERVICE};
use crate::read::{entries, items, number, text};
use crate::selector::Selector;
use source::{Node, Value};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn analyze_services(input: &Input<'_>, report: &mut Report<'_>) {
    let mut services: BTreeMap<&str, Vec<(&Document, Selector<'_>)>> = BTreeMap::new();
    for service in input.of(SERVICE) {
        let selector = Selector::of(entries(&service.node, &["spec", "selector"]));
        if !selector.is_empty() {
            let of_namespace = services.entry(&service.namespace).or_default();
            of_namespace.push((service, selector));
        }
    }
    for deployment in input.of(DEPLOYMENT) {
        let managed = deployment.label("gateway.istio.io/managed");
        let Some(template) = deployment.node.at(&["spec", "template"]) else {
            continue;
        };
        let labels = entries(template, &["metadata", "labels"]);
        let pods = Pods {
            namespace: &deployment.namespace,
            labels,
            node: template,
        };
        if managed == Some("istio.io-mesh-controller") || !in_mesh(input, pods) {
            continue;
        }
        let all = services.get(&*deployment.namespace).into_iter().flatten();
        let selecting = all.filter(|(_, selector)| selector.matches(labels));
        let selecting: Vec<&Document> = selecting.map(|(service, _)| *service).collect();
        check_protocols(deployment, &selecting, report);
        check_target_ports(deployment, &selecting, report);
    }
}

fn ports<'n>(services: &[&'n Document]) -> impl Iterator<Item = (&'n Document, &'n Node)> {
    services.iter().flat_map(|service| {
        let ports = items(&service.node, &["spec", "ports"]).iter();
        ports.map(|port| (*service, port))
    })
}

/// One port, several protocols.
fn check_protocols(deployment: &Document, services: &[&Document], report: &mut Report<'_>) {
    let mut by_port: BTreeMap<i64, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for (service, port) in ports(services) {
        let protocol = match text(port, &["protocol"]) {
            "" => "TCP",
            protocol => protocol,
        };
        let of_port = by_port.entry(number(port, &["port"])).or_default();
        of_port
            .entry(protocol)
            .or_default()
            .push(service.full_name());
    }
    for (port, protocols) in by_port.iter().filter(|(_, protocols)| protocols.len() > 1) {
        let mut names: Vec<&str> = protocols.values().flatten().map(String::as_str).collect();
        names.sort_unstable();
        let diagnostic = IST0116
            .says(format!(
                "Services {} select the pods of {} and have port {port} with different protocols",
                names.join(", "),
                deployment.name
            ))
            .at(deployment.place(), "a pod's port speaks one protocol")
            .help("give the port one protocol in all of them, or the Services different ports");
        report.say(deployment, diagnostic);
    }
}

/// One target port, several ports.
fn check_target_ports(deployment: &Document, services: &[&Document], report: &mut Report<'_>) {
    let mut by_target: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
    for (service, port) in ports(services) {
        let own = number(port, &["port"]);
        let target = match text(port, &["targetPort"]) {
            "" | "0" => own.to_string(),
            target => target.to_owned(),
        };
        let of_target = by_target.entry(target).or_default();
        of_target.insert(own, service.full_name());
    }
    for (target, by_port) in by_target.iter().filter(|(_, by_port)| by_port.len() > 1) {
        let names: BTreeSet<&str> = by_port.values().map(String::as_str).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let numbers: Vec<String> = by_port.keys().map(i64::to_string).collect();
        let diagnostic = IST0137
            .says(format!(
                "Services {} reach target port {target} of {} by different ports: {}",
                names.join(", "),
                deployment.name,
                numbers.join(", ")
            ))
            .at(
                deployment.place(),
                "its sidecar knows one Service port for a target port",
            )
            .help("use one port number for one target port");
        report.say(deployment, diagnostic);
    }
}

pub(super) fn analyze_users(input: &Input<'_>, report: &mut Report<'_>) {
    for pod in input.of(POD) {
        check_user(pod, &["spec"], report);
    }
    for deployment in input.of(DEPLOYMENT) {
        check_user(deployment, &["spec", "template", "spec"], report);
    }
}

/// Says once that the pod, or one of its containers, runs as the sidecar's user.
fn check_user(document: &Document, spec: &[&str], report: &mut Report<'_>) {
    let Some(spec) = document
        .node
        .at(spec)
        .filter(|_| !is_control_plane(document))
    else {
        return;
    };
    let containers = items(spec, &["containers"]).iter();
    let applications = containers.filter(|container| {
        let name = text(container, &["name"]);
        name != PROXY && name != "istio-operator"
    });
    let mut users = std::iter::once(spec)
        .chain(applications)
        .filter_map(|part| part.at(&["securityContext", "runAsUser"]));
    if let Some(user) = users.find(|user| user.value == Value::Int(1337)) {
        let diagnostic = IST0144
            .says("user 1337 is the sidecar's")
            .at(&user.span, "its traffic would pass the sidecar by")
            .help("run as another user");
        report.say_once(document, diagnostic);
    }
}
