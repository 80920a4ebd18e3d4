//! Patches of EnvoyFilters that cannot work, or work only in the right order (IST0133,
//! IST0151 to IST0155).

use super::input::{Input, Report};
use crate::codes::{IST0133, IST0151, IST0152, IST0153, IST0154, IST0155};
use crate::documents::{Document, ENVOY_FILTER};
use crate::read::{entries, items, number, present, text};
use source::{Diagnostic, Node};

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    // The filters that earlier patches name, for some versions of the proxy.
    let mut versioned = Vec::new();
    for document in input.of(ENVOY_FILTER) {
        for patch in items(&document.node, &["spec", "configPatches"]) {
            let Some(what) = present(patch, &["patch"]) else {
                break;
            };
            let filter = filter(patch, what);
            if let Some(diagnostic) = check(document, patch, what, versioned.contains(&filter)) {
                report.say_once(document, diagnostic);
            }
            if !text(patch, &["match", "proxy", "proxyVersion"]).is_empty() {
                versioned.push(filter);
            }
        }
    }
}

/// Istio's validation warns of every EnvoyFilter.
pub(super) fn warn(input: &Input<'_>, report: &mut Report<'_>) {
    for document in input.of(ENVOY_FILTER) {
        let diagnostic = IST0133
            .says("an EnvoyFilter depends on what Istio makes for Envoy, which changes")
            .at(document.place(), "may stop working with any upgrade")
            .help("where another API does it, use that; else test it with each new version");
        report.say_once(document, diagnostic);
    }
}

/// The name of the filter that a patch is about; empty if it tells none.
fn filter<'n>(patch: &'n Node, what: &'n Node) -> &'n str {
    if entries(what, &["value"]).is_empty() {
        return "";
    }
    match what.at(&["value", "name"]) {
        Some(name) => name.as_scalar().unwrap_or_default(),
        None => text(
            patch,
            &["match", "listener", "filterChain", "filter", "name"],
        ),
    }
}

fn check(document: &Document, patch: &Node, what: &Node, versioned: bool) -> Option<Diagnostic> {
    let applies_to = text(patch, &["applyTo"]);
    let operation = what.at(&["operation"])?;
    let of_routes = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"].contains(&applies_to);
    let of_filters = ["NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"].contains(&applies_to);
    let relative = || {
        let priority = number(&document.node, &["spec", "priority"]);
        (priority == 0).then(|| relative(operation, versioned))
    };
    let place = &operation.span;
    match operation.as_scalar()? {
        "ADD" if of_routes => Some(
            IST0153
                .says("ADD is not for ROUTE_CONFIGURATION and HTTP_ROUTE")
                .at(place, format!("nothing is added to {applies_to}"))
                .help("add to a VIRTUAL_HOST, or MERGE"),
        ),
        "REMOVE" if of_routes => Some(
            IST0154
                .says("REMOVE is not for ROUTE_CONFIGURATION and HTTP_ROUTE")
                .at(place, format!("{applies_to} is not removed")),
        ),
        "REPLACE" if !of_filters => Some(
            IST0152
                .says("REPLACE is for HTTP_FILTER, NETWORK_FILTER and VIRTUAL_HOST")
                .at(place, format!("{applies_to} is not replaced")),
        ),
        "REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER" => relative(),
        _ => None,
    }
}

/// Of an operation that needs what another patch may add.
fn relative(operation: &Node, versioned: bool) -> Diagnostic {
    let diagnostic = match versioned {
        false => IST0151
            .says("a patch depends on the order of EnvoyFilters, and this one has no `priority`"),
        true => IST0155.says(
            "a patch depends on the order of EnvoyFilters; this one has no `priority`, and another \
             patch of the same filter is for some versions of the proxy only",
        ),
    };
    diagnostic
        .at(
            &operation.span,
            "has no effect if what it needs is added later",
        )
        .help("set `priority`, or use INSERT_FIRST or ADD")
}
