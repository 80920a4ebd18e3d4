//! Gateways that get in each other's way: the same pods, port and host (IST0145), or the same
//! certificate (IST0138).

use super::input::{Input, Report};
use super::pod_index::PodIndex;
use crate::codes::{IST0101, IST0138, IST0145};
use crate::documents::{Document, GATEWAY};
use crate::read::{entries, items, number, present, text, texts};
use crate::selector::Selector;
use source::{Diagnostic, Node};
use std::collections::{BTreeMap, BTreeSet};

/// The pods that a Gateway is for.
pub(super) fn selector(gateway: &Document) -> Selector<'_> {
    Selector::of(entries(&gateway.node, &["spec", "selector"]))
}

/// Says that no pod is selected, if the objects tell.
pub(super) fn say_no_pods(
    input: &Input<'_>,
    gateway: &Document,
    selector: &Selector<'_>,
    report: &mut Report<'_>,
) {
    if input.knows_pods() {
        report.say(gateway, no_pods(gateway, selector));
    }
}

fn no_pods(gateway: &Document, selector: &Selector<'_>) -> Diagnostic {
    let place = gateway.node.at(&["spec", "selector"]);
    let place = place.map_or(gateway.place(), |place| &place.span);
    IST0101
        .says(format!("selector `{selector}` selects nothing"))
        .at(place, "no pod has these labels")
}

/// What one Gateway serves on one port. Of several servers on it the last, as Istio has it.
struct Served<'n> {
    hosts: Vec<&'n str>,
    bind: &'n str,
}

/// By selector and port, then by Gateway.
type Servers<'n> = BTreeMap<(String, i64), BTreeMap<String, Served<'n>>>;

pub(super) fn analyze_conflicts(input: &Input<'_>, report: &mut Report<'_>) {
    let mut servers = Servers::new();
    let mut selectors: BTreeMap<String, Selector<'_>> = BTreeMap::new();
    for gateway in input.of(GATEWAY) {
        let selector = selector(gateway);
        for server in items(&gateway.node, &["spec", "servers"]) {
            let port = number(server, &["port", "number"]);
            let of_port = servers.entry((selector.to_string(), port)).or_default();
            of_port.insert(gateway.full_name(), served(server));
            selectors.insert(selector.to_string(), selector.clone());
        }
    }
    let index = PodIndex::new(input);
    let mut overlapping: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for gateway in input.of(GATEWAY) {
        let selector = selector(gateway);
        let same_pods = overlapping.entry(selector.to_string()).or_insert_with(|| {
            let all = selectors.iter();
            let fit = all.filter(|(_, other)| select_same_pod(&index, &selector, other));
            fit.map(|(text, _)| text.as_str()).collect()
        });
        if same_pods.is_empty() && !selector.is_empty() {
            say_no_pods(input, gateway, &selector, report);
            continue;
        }
        for server in items(&gateway.node, &["spec", "servers"]) {
            check_server(gateway, server, &servers, same_pods, report);
        }
    }
}

fn served(server: &Node) -> Served<'_> {
    Served {
        hosts: texts(server, &["hosts"]),
        bind: text(server, &["bind"]),
    }
}

/// Whether both select one pod: they are the same, or one is part of the other and there is such a pod.
fn select_same_pod(index: &PodIndex<'_>, one: &Selector<'_>, other: &Selector<'_>) -> bool {
    let (text, others) = (one.to_string(), other.to_string());
    if text == others {
        return true;
    }
    let part = text.contains(&others) || others.contains(&text);
    let mut selected = index.selected(one);
    part && selected.any(|pods| other.matches(pods.labels))
}

fn check_server(
    gateway: &Document,
    server: &Node,
    servers: &Servers<'_>,
    same_pods: &[&str],
    report: &mut Report<'_>,
) {
    let own = served(server);
    let name = gateway.full_name();
    let port = number(server, &["port", "number"]);
    let (mut others, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for selector in same_pods {
        let of_port = servers.get(&((*selector).to_owned(), port));
        for (other, served) in of_port.into_iter().flatten() {
            if *other == name || own.bind != served.bind {
                continue;
            }
            for host in own.hosts.iter().filter(|host| served.hosts.contains(host)) {
                shared.insert(*host);
                others.insert(other.as_str());
            }
        }
    }
    if others.is_empty() {
        return;
    }
    let listed = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let place = server.at(&["hosts"]).unwrap_or(server);
    let diagnostic = IST0145
        .says(format!(
            "{} on port {port} is served for the same pods by {} too",
            listed(shared),
            listed(others)
        ))
        .at(&place.span, "which of the Gateways answers is not sure")
        .help("let one Gateway serve a host, or give them different ports, binds or selectors");
    report.say(gateway, diagnostic);
}

/// A certificate as a server names it: a Secret, or files.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Certificate<'n> {
    Credential(&'n str),
    Files(&'n str, &'n str),
}

fn certificate(server: &Node) -> Option<(Certificate<'_>, &Node)> {
    let tls = present(server, &["tls"])?;
    let credential = text(tls, &["credentialName"]);
    let files = (
        text(tls, &["serverCertificate"]),
        text(tls, &["privateKey"]),
    );
    match (credential, files) {
        ("", ("", _) | (_, "")) => None,
        ("", (certificate, key)) => Some((Certificate::Files(certificate, key), tls)),
        (credential, _) => Some((Certificate::Credential(credential), tls)),
    }
}

pub(super) fn analyze_certificates(input: &Input<'_>, report: &mut Report<'_>) {
    let mut users: BTreeMap<Certificate<'_>, Vec<&Document>> = BTreeMap::new();
    for gateway in input.of(GATEWAY) {
        for server in items(&gateway.node, &["spec", "servers"]) {
            if let Some((certificate, _)) = certificate(server) {
                users.entry(certificate).or_default().push(gateway);
            }
        }
    }
    for gateway in input.of(GATEWAY) {
        let selector = selector(gateway);
        for server in items(&gateway.node, &["spec", "servers"]) {
            let Some((certificate, place)) = certificate(server) else {
                continue;
            };
            for other in users.get(&certificate).into_iter().flatten() {
                let same = other.full_name() == gateway.full_name();
                if same || !selector.is_within(&self::selector(other)) {
                    continue;
                }
                let diagnostic = IST0138
                    .says(format!(
                        "Gateways {} and {} serve the same certificate",
                        gateway.full_name(),
                        other.full_name()
                    ))
                    .at(
                        &place.span,
                        "a client may reuse its connection for the other's hosts",
                    )
                    .help(
                        "a request for a host of the other Gateway then ends in 404: serve the \
                         certificate in one Gateway, or use one for each host",
                    );
                report.say_once(gateway, diagnostic);
            }
        }
    }
}
