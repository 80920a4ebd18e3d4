//! Destinations of VirtualServices: hosts, ports and subsets that are not there (IST0101, IST0112), and
//! rules that a gateway does not see (IST0140).

use super::input::{Input, Report};
use super::service_hosts::{Hosts, place};
use crate::codes::{IST0101, IST0112, IST0140};
use crate::documents::{DESTINATION_RULE, Document, SERVICE, VIRTUAL_SERVICE};
use crate::hosts::{DOMAIN, service_of};
use crate::read::{items, number, present, text, texts};
use source::{Diagnostic, Node};
use std::collections::{BTreeMap, BTreeSet};

/// Where requests go, or are copied to.
struct Destination<'n> {
    node: &'n Node,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Route,
    Mirror,
    /// One of `mirrors`: of an object, the same is said once of all of them.
    Mirrors,
}

impl<'n> Destination<'n> {
    fn host(&self) -> &'n str {
        text(self.node, &["host"])
    }

    fn subset(&self) -> &'n str {
        text(self.node, &["subset"])
    }

    fn say(&self, document: &Document, diagnostic: Diagnostic, report: &mut Report<'_>) {
        match self.role {
            Role::Mirrors => report.say_once(document, diagnostic),
            Role::Route | Role::Mirror => report.say(document, diagnostic),
        }
    }
}

/// Those of TCP, TLS and HTTP rules, then the mirrors.
fn destinations(document: &Document) -> Vec<Destination<'_>> {
    let spec = |key| items(&document.node, &["spec", key]);
    let rules = [spec("tcp"), spec("tls"), spec("http")];
    let mut found = Vec::new();
    for route in rules
        .into_iter()
        .flatten()
        .flat_map(|rule| items(rule, &["route"]))
    {
        found.push(Destination {
            node: inside(route),
            role: Role::Route,
        });
    }
    for rule in spec("http") {
        found.extend(present(rule, &["mirror"]).map(|node| Destination {
            node,
            role: Role::Mirror,
        }));
        let mirrors = items(rule, &["mirrors"]).iter();
        found.extend(mirrors.map(|mirror| Destination {
            node: inside(mirror),
            role: Role::Mirrors,
        }));
    }
    found
}

/// The destination of a weighted route or mirror.
fn inside(route: &Node) -> &Node {
    present(route, &["destination"]).unwrap_or(route)
}

/// Hosts and ports.
pub(super) fn analyze_hosts(input: &Input<'_>, report: &mut Report<'_>) {
    let hosts = Hosts::new(input);
    let split = hosts_with_subsets(input);
    for document in input.of(VIRTUAL_SERVICE) {
        let export_to = texts(&document.node, &["spec", "exportTo"]);
        for destination in destinations(document) {
            let host = destination.host();
            let found = hosts.find(&document.namespace, &export_to, host);
            let diagnostic = match found {
                None if !input.knows(SERVICE) => None,
                None => Some(unknown_host(&hosts, document, &destination)),
                Some(found) => {
                    let ports: Vec<i64> = found.ports().collect();
                    check_port(&destination, &ports)
                }
            };
            if let Some(diagnostic) = diagnostic {
                destination.say(document, diagnostic, report);
            }
        }
        check_gateway_routes(document, &split, report);
    }
}

fn unknown_host(hosts: &Hosts<'_>, document: &Document, to: &Destination<'_>) -> Diagnostic {
    let host = to.host();
    let what = match to.role {
        Role::Route => "host",
        Role::Mirror | Role::Mirrors => "mirror host",
    };
    let diagnostic = IST0101
        .says(format!("{what} `{host}` not found"))
        .at(place(to.node, "host"), "no Service or ServiceEntry has it");
    let full = format!("{host}.{DOMAIN}");
    if host.contains('.') && hosts.find(&document.namespace, &[], &full).is_some() {
        let help = format!("a host with a dot in it is taken as it is: write `{full}`");
        return diagnostic.help(help);
    }
    let names = hosts.names(&document.namespace);
    diagnostic.nearest(host, names.iter().map(String::as_str))
}

fn check_port(to: &Destination<'_>, ports: &[i64]) -> Option<Diagnostic> {
    let host = to.host();
    let listed: Vec<String> = ports.iter().map(i64::to_string).collect();
    let listed = listed.join(", ");
    if present(to.node, &["port"]).is_none() {
        let several = ports.len() > 1;
        return several.then(|| {
            IST0112
                .says(format!(
                    "`{host}` has several ports ({listed}) and the destination names none"
                ))
                .at(place(to.node, "host"), "which port?")
                .help("add `port: {number: N}`")
        });
    }
    let port = number(to.node, &["port", "number"]);
    (!ports.contains(&port)).then(|| {
        IST0101
            .says(format!("port {port} of host `{host}` not found"))
            .at(place(to.node, "host"), format!("no port {port}"))
            .help(format!("its ports are {listed}"))
    })
}

/// The VirtualServices that send requests for their own host to a subset of it, by that host.
fn hosts_with_subsets<'n>(input: &'n Input<'_>) -> BTreeMap<&'n str, BTreeSet<String>> {
    let mut split: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for document in input.of(VIRTUAL_SERVICE) {
        let hosts = texts(&document.node, &["spec", "hosts"]);
        for (destination, _) in http_destinations(document) {
            let host = text(destination, &["host"]);
            if !text(destination, &["subset"]).is_empty() && hosts.contains(&host) {
                split.entry(host).or_default().insert(document.full_name());
            }
        }
    }
    split
}

/// Each destination of an HTTP rule, and what names its host.
fn http_destinations(document: &Document) -> impl Iterator<Item = (&Node, &source::Span)> {
    let rules = items(&document.node, &["spec", "http"]).iter();
    let routes = rules.flat_map(|rule| items(rule, &["route"]));
    routes.map(|route| {
        let destination = inside(route);
        (destination, place(destination, "host"))
    })
}

/// A gateway follows the rules of its own VirtualServices only: subsets that another one, for sidecars,
/// chooses for the host have no effect on what comes through it.
fn check_gateway_routes(
    document: &Document,
    split: &BTreeMap<&str, BTreeSet<String>>,
    report: &mut Report<'_>,
) {
    if items(&document.node, &["spec", "gateways"]).is_empty() {
        return;
    }
    for (destination, place) in http_destinations(document) {
        let host = text(destination, &["host"]);
        if !text(destination, &["subset"]).is_empty() {
            continue;
        }
        for other in split.get(host).into_iter().flatten() {
            let diagnostic = IST0140
                .says(format!(
                    "the subsets that VirtualService {other} chooses for `{host}` have no effect \
                     on requests through the gateways of {}",
                    document.full_name()
                ))
                .at(place, "goes to all of the host")
                .help("name the `subset` here too");
            report.say_once(document, diagnostic);
        }
    }
}

/// Subsets.
pub(super) fn analyze_subsets(input: &Input<'_>, report: &mut Report<'_>) {
    let mut defined: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for document in input.of(DESTINATION_RULE) {
        let host = text(&document.node, &["spec", "host"]);
        let names = items(&document.node, &["spec", "subsets"]).iter();
        let names = names.map(|subset| text(subset, &["name"]));
        let of_host = defined.entry(service_of(host, &document.namespace));
        of_host.or_default().extend(names);
    }
    for document in input.of(VIRTUAL_SERVICE) {
        for destination in destinations(document) {
            let (host, subset) = (destination.host(), destination.subset());
            let known = defined.get(&service_of(host, &document.namespace));
            if subset.is_empty() || known.is_some_and(|known| known.contains(subset)) {
                continue;
            }
            let what = match destination.role {
                Role::Route => "host",
                Role::Mirror | Role::Mirrors => "mirror host",
            };
            let diagnostic = IST0101
                .says(format!("subset `{subset}` of {what} `{host}` not found"))
                .at(
                    place(destination.node, "subset"),
                    "no DestinationRule defines it",
                );
            let names = known.into_iter().flatten().copied();
            let diagnostic = diagnostic.nearest(subset, names);
            destination.say(document, diagnostic, report);
        }
    }
}
