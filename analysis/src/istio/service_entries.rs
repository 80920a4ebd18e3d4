//! ServiceEntries that share their addresses with others (IST0134), or disagree about a port (IST0177).

use super::input::{Input, Report};
use crate::codes::{IST0134, IST0177};
use crate::documents::{Document, SERVICE_ENTRY};
use crate::hosts::{Scope, scopes};
use crate::read::{items, number, text, texts, value_of};
use source::Node;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn analyze_addresses(input: &Input<'_>, report: &mut Report<'_>) {
    let metadata = input.mesh_entries(&["defaultConfig", "proxyMetadata"]);
    let is_set = |key| value_of(metadata, key) == Some("true");
    let allocates =
        is_set("ISTIO_META_DNS_AUTO_ALLOCATE") || is_set("PILOT_ENABLE_IP_AUTOALLOCATE");
    if is_set("ISTIO_META_DNS_CAPTURE") && allocates {
        return;
    }
    for document in input.of(SERVICE_ENTRY) {
        let own = items(&document.node, &["spec", "addresses"]);
        let allocated = items(&document.node, &["status", "addresses"]);
        if !own.is_empty() || !allocated.is_empty() {
            continue;
        }
        for port in items(&document.node, &["spec", "ports"]) {
            let protocol = text(port, &["protocol"]);
            if !protocol.is_empty() && !protocol.eq_ignore_ascii_case("TCP") {
                continue;
            }
            let diagnostic = IST0134.says("a port for TCP needs `addresses`").help(
                "list the addresses of the hosts in `addresses`, or have proxies allocate them \
                     (ISTIO_META_DNS_CAPTURE and PILOT_ENABLE_IP_AUTOALLOCATE in proxyMetadata)",
            );
            let label = "takes connections to every address on this port";
            match port.at(&["name"]) {
                Some(name) => report.say(document, diagnostic.at(&name.span, label)),
                None => report.say_once(document, diagnostic.at(&port.span, label)),
            }
        }
    }
}

/// A ServiceEntry and its port.
type Entry<'n> = (&'n Document, &'n Node);

pub(super) fn analyze_protocols(input: &Input<'_>, report: &mut Report<'_>) {
    let mut ports: BTreeMap<(Scope<'_>, &str, i64), Vec<Entry<'_>>> = BTreeMap::new();
    for document in input.of(SERVICE_ENTRY) {
        let export_to = texts(&document.node, &["spec", "exportTo"]);
        for scope in scopes(&export_to, &document.namespace) {
            for host in texts(&document.node, &["spec", "hosts"]) {
                for port in items(&document.node, &["spec", "ports"]) {
                    let key = (scope.clone(), host, number(port, &["number"]));
                    ports.entry(key).or_default().push((document, port));
                }
            }
        }
    }
    let mut reported = BTreeSet::new();
    for ((scope, host, number), own) in &ports {
        let everywhere = ports.get(&(Scope::Everywhere, *host, *number));
        let everywhere = everywhere.filter(|_| *scope != Scope::Everywhere);
        let all: Vec<Entry<'_>> = own
            .iter()
            .chain(everywhere.into_iter().flatten())
            .copied()
            .collect();
        let protocol = |(_, port): &Entry<'_>| text(port, &["protocol"]).to_uppercase();
        let protocols: BTreeSet<String> = all.iter().map(protocol).collect();
        if protocols.len() < 2 {
            continue;
        }
        let names: BTreeSet<String> = all.iter().map(|(of, _)| of.full_name()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let protocols: Vec<String> = protocols.into_iter().collect();
        for (document, port) in all {
            if !reported.insert((&document.namespace, &document.name)) {
                continue;
            }
            let diagnostic = IST0177
                .says(format!(
                    "ServiceEntries {} give port {number} of `{host}` different protocols: {}",
                    names.join(", "),
                    protocols.join(", ")
                ))
                .at(&port.span, "which of them counts is not sure")
                .help("give the port one protocol");
            report.say_once(document, diagnostic);
        }
    }
}
