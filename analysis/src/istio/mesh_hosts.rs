//! VirtualServices for sidecars that have the same host (IST0109).

use super::input::{Input, Report};
use crate::codes::IST0109;
use crate::documents::{Document, VIRTUAL_SERVICE};
use crate::hosts::{Scope, full_host, overlap, scopes};
use crate::read::{items, texts};
use source::Node;
use std::collections::{BTreeMap, BTreeSet};

/// A VirtualService and where it names the host.
type Owner<'n> = (&'n Document, &'n Node);
/// The owners of each host, by who sees them.
type Owners<'n> = BTreeMap<Scope<'n>, BTreeMap<String, Vec<Owner<'n>>>>;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let owners = owners(input);
    let mut reported = BTreeSet::new();
    let everywhere = owners.get(&Scope::Everywhere);
    for (scope, hosts) in &owners {
        for (host, own) in hosts {
            let mut all = own.clone();
            if *scope != Scope::Everywhere {
                all.extend(
                    everywhere
                        .into_iter()
                        .flat_map(|hosts| also_for(host, hosts)),
                );
            }
            if all.len() < 2 {
                continue;
            }
            let mut names: Vec<String> = all.iter().map(|(of, _)| of.full_name()).collect();
            names.sort();
            for (document, place) in all {
                if !reported.insert((&document.namespace, &document.name)) {
                    continue;
                }
                let diagnostic = IST0109
                    .says(format!(
                        "VirtualServices {} are for sidecars and have the same host `{host}`",
                        names.join(", ")
                    ))
                    .at(
                        &place.span,
                        "only the rules of one of them are sure to apply",
                    )
                    .help(
                        "put the rules into one VirtualService, in the order they should be tried",
                    );
                report.say(document, diagnostic);
            }
        }
    }
}

/// The owners of what overlaps with `host`.
fn also_for<'o, 'n>(
    host: &str,
    hosts: &'o BTreeMap<String, Vec<Owner<'n>>>,
) -> impl Iterator<Item = Owner<'n>> + use<'o, 'n> {
    let mut found = Vec::new();
    if host.starts_with('*') {
        let fits = hosts.iter().filter(|(other, _)| overlap(host, other));
        found.extend(fits.flat_map(|(_, owners)| owners).copied());
    } else {
        found.extend(hosts.get(host).into_iter().flatten().copied());
        // Wildcards sort before letters and digits.
        let wildcards = hosts
            .range("*".to_owned()..)
            .take_while(|(other, _)| other.starts_with('*'));
        let fits = wildcards.filter(|(other, _)| overlap(host, other));
        found.extend(fits.flat_map(|(_, owners)| owners).copied());
    }
    found.into_iter()
}

fn owners<'n>(input: &'n Input<'_>) -> Owners<'n> {
    let mut owners = Owners::new();
    for document in input.of(VIRTUAL_SERVICE) {
        let gateways = texts(&document.node, &["spec", "gateways"]);
        if !gateways.is_empty() && !gateways.contains(&"mesh") {
            continue;
        }
        let export_to = texts(&document.node, &["spec", "exportTo"]);
        for scope in scopes(&export_to, &document.namespace) {
            let of_scope = owners.entry(scope).or_default();
            for place in items(&document.node, &["spec", "hosts"]) {
                let host = full_host(place.as_scalar().unwrap_or_default(), &document.namespace);
                of_scope.entry(host).or_default().push((document, place));
            }
        }
    }
    owners
}
