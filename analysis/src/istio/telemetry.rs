//! Telemetries that select the same pods as others, or none, or name no provider (IST0002, IST0101,
//! IST0157, IST0159, IST0160).

use super::input::{Input, Report};
use super::sidecars::{names, selecting};
use crate::codes::{IST0002, IST0157, IST0159, IST0160};
use crate::documents::{Document, TELEMETRY};
use crate::read::{is_true, items, present, text};
use std::collections::{BTreeMap, BTreeSet};

const LABELS: [&str; 3] = ["spec", "selector", "matchLabels"];

pub(super) fn analyze_providers(input: &Input<'_>, report: &mut Report<'_>) {
    if !input
        .mesh_items(&["defaultProviders", "accessLogging"])
        .is_empty()
    {
        return;
    }
    for document in input.of(TELEMETRY) {
        for logging in items(&document.node, &["spec", "accessLogging"]) {
            let named = items(logging, &["providers"]);
            if is_true(logging, &["disabled"]) || !named.is_empty() {
                continue;
            }
            let diagnostic = IST0157
                .says("access logging names no provider, and the mesh has no default")
                .at(&logging.span, "has no effect")
                .help(
                    "add `providers: [{name: envoy}]`, or `defaultProviders.accessLogging` to the \
                     MeshConfig",
                );
            report.say_once(document, diagnostic);
        }
    }
}

pub(super) fn analyze_selectors(input: &Input<'_>, report: &mut Report<'_>) {
    let selected = selecting(input, TELEMETRY, &LABELS, report).into_iter();
    for (pod, telemetries) in selected.filter(|(_, all)| all.len() > 1) {
        for telemetry in &telemetries {
            let diagnostic = IST0159
                .says(format!(
                    "Telemetries {} of {} select the same pod {}",
                    names(&telemetries),
                    pod.namespace,
                    pod.name
                ))
                .at(telemetry.place(), "which of them counts is not sure")
                .help("let one Telemetry select a pod");
            report.say(telemetry, diagnostic);
        }
    }
}

pub(super) fn analyze_defaults(input: &Input<'_>, report: &mut Report<'_>) {
    let mut of_namespaces: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
    for telemetry in input.of(TELEMETRY) {
        if present(&telemetry.node, &["spec", "selector"]).is_none() {
            let of_namespace = of_namespaces.entry(&telemetry.namespace).or_default();
            of_namespace.push(telemetry);
        }
    }
    for (namespace, telemetries) in of_namespaces.iter().filter(|(_, all)| all.len() > 1) {
        for telemetry in telemetries {
            let diagnostic = IST0160
                .says(format!(
                    "Telemetries {} of {namespace} have no selector",
                    names(telemetries)
                ))
                .at(telemetry.place(), "which of them counts is not sure")
                .help("one of them at most is for all pods of a namespace");
            report.say_once(telemetry, diagnostic);
        }
    }
}

pub(super) fn analyze_lightstep(input: &Input<'_>, report: &mut Report<'_>) {
    let providers = input.mesh_items(&["extensionProviders"]).iter();
    let lightstep: BTreeSet<&str> = providers
        .filter(|provider| present(provider, &["lightstep"]).is_some())
        .map(|provider| text(provider, &["name"]))
        .collect();
    for document in input.of(TELEMETRY) {
        let tracing = items(&document.node, &["spec", "tracing"]).iter();
        for provider in tracing.flat_map(|tracing| items(tracing, &["providers"])) {
            let name = text(provider, &["name"]);
            if lightstep.contains(name) {
                let diagnostic = IST0002
                    .says(format!(
                        "provider {name} is for Lightstep, which is deprecated"
                    ))
                    .at(&provider.span, "may stop working in a later Istio")
                    .help("use an `opentelemetry` provider");
                report.say_once(document, diagnostic);
            }
        }
    }
}
