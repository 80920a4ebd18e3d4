//! Outlier detection that can never eject an endpoint, or can eject all of them; by the rules of the
//! core (Envoy `outlier_detection_impl.cc`).

use super::blocks::{Block, Rules, policies};
use super::read::count;
use super::views::{Outbound, View};
use crate::codes::{MSH0010, MSH0011, MSH0012};
use crate::documents::{DESTINATION_RULE, Documents};
use proxy_core::xds::{Cluster, OutlierDetection};
use source::{Diagnostic, Node, Span};

/// Istio's defaults.
const MAX_EJECTION_PERCENT: u32 = 10;
const CONSECUTIVE_5XX: u32 = 5;

pub(super) fn check(
    documents: &Documents,
    rules: &Rules<'_>,
    views: &[View],
    found: &mut Vec<Diagnostic>,
) {
    for rule in documents.of(DESTINATION_RULE) {
        for block in policies(rule).filter_map(|policy| policy.at(&["outlierDetection"])) {
            let before = found.len();
            found.extend(detects_nothing(block).or_else(|| gateway_errors(block)));
            for diagnostic in &mut found[before..] {
                diagnostic.resource = Some(rule.resource());
            }
        }
    }
    for view in views {
        for cluster in view.used() {
            let Some(detection) = &cluster.outlier_detection else {
                continue;
            };
            let Some(block) = rules.block(cluster, "outlierDetection") else {
                continue;
            };
            if detects_nothing(block.node).is_none() {
                check_cluster(view, cluster, detection, block, found);
            }
        }
    }
}

/// No detector is on.
fn detects_nothing(block: &Node) -> Option<Diagnostic> {
    let split = block
        .at(&["splitExternalLocalOriginErrors"])
        .and_then(Node::as_bool);
    let off = |key, default| count(block, &[key]).unwrap_or(default) == 0;
    let local = split == Some(true) && !off("consecutiveLocalOriginFailures", CONSECUTIVE_5XX);
    if !off("consecutive5xxErrors", CONSECUTIVE_5XX) || !off("consecutiveGatewayErrors", 0) || local
    {
        return None;
    }
    let stated = block.at(&["consecutive5xxErrors"]).unwrap_or(block);
    Some(
        MSH0010
            .says("outlier detection never ejects an endpoint: no detector is on")
            .at(&stated.span, "0 turns this detector off, and no other one is stated")
            .help("`consecutive5xxErrors: 5`, or `consecutiveGatewayErrors` for 502, 503 and 504 alone"),
    )
}

/// Gateway errors are 5xx errors too, so the lower threshold of these is reached first.
fn gateway_errors(block: &Node) -> Option<Diagnostic> {
    let node = block.at(&["consecutiveGatewayErrors"])?;
    let gateway = count(node, &[]).filter(|count| *count > 0)?;
    let stated = count(block, &["consecutive5xxErrors"]);
    let all = stated.unwrap_or(CONSECUTIVE_5XX);
    if all == 0 || gateway < all {
        return None;
    }
    let label = match stated {
        Some(_) => format!("502, 503 and 504 are 5xx errors too, and {all} of these eject"),
        None => format!("502, 503 and 504 are 5xx errors too, and by default {all} of these eject"),
    };
    let message = format!("`consecutiveGatewayErrors: {gateway}` changes nothing");
    let help = "`consecutive5xxErrors: 0` if no other error shall eject, or a lower number";
    Some(MSH0012.says(message).at(&node.span, label).help(help))
}

fn check_cluster(
    view: &View,
    cluster: &Cluster,
    detection: &OutlierDetection,
    block: Block<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let panic = cluster.healthy_panic_threshold_percent;
    let most = detection.max_ejection_percent.min(100);
    let hosts = view.endpoints(cluster).filter(|hosts| *hosts > 0);
    // With a single one there is nothing to choose from.
    let several = hosts.filter(|hosts| *hosts > 1);
    let diagnostic = match several {
        _ if most >= 100 && panic == 0 => Some(ejects_all(cluster, block.node)),
        Some(hosts) if 100.0 / hosts as f64 > f64::from(most) => {
            Some(ejects_none(cluster, hosts, most, block.node))
        }
        _ => None,
    };
    if let Some(mut diagnostic) = diagnostic {
        diagnostic.resource = Some(block.rule.resource());
        found.push(diagnostic);
    }
}

fn ejects_none(cluster: &Cluster, hosts: usize, most: u32, block: &Node) -> Diagnostic {
    let share = 100 / hosts;
    let stated = count(block, &["maxEjectionPercent"]).filter(|percent| *percent > 0);
    let label = match stated {
        Some(_) => format!("one of {hosts} would be {share} %"),
        None => format!(
            "`maxEjectionPercent` is {MAX_EJECTION_PERCENT} by default; one of {hosts} would be {share} %"
        ),
    };
    let message = format!(
        "no endpoint of {} is ever ejected: at most {most} % of {hosts} may be",
        called(cluster)
    );
    MSH0010
        .says(message)
        .at(place(block, "maxEjectionPercent"), label)
        .help(format!(
            "`maxEjectionPercent: {}` lets one of {hosts} be ejected",
            100_usize.div_ceil(hosts)
        ))
}

fn ejects_all(cluster: &Cluster, block: &Node) -> Diagnostic {
    let message = format!(
        "all endpoints of {} can be ejected at once",
        called(cluster)
    );
    MSH0011
        .says(message)
        .at(
            place(block, "maxEjectionPercent"),
            "then every request is answered 503: `minHealthPercent` is 0",
        )
        .help("a lower `maxEjectionPercent`; or `minHealthPercent: 1`, under which all are used again")
}

/// Of the setting, or of its block if it is not stated.
fn place<'n>(block: &'n Node, key: &str) -> &'n Span {
    &block.at(&[key]).unwrap_or(block).span
}

/// `reviews.default.svc.cluster.local`, with the subset.
fn called(cluster: &Cluster) -> String {
    match Outbound::of(&cluster.name) {
        Some(Outbound {
            host, subset: "", ..
        }) => host.to_owned(),
        Some(Outbound { host, subset, .. }) => format!("subset `{subset}` of {host}"),
        None => cluster.name.to_string(),
    }
}
