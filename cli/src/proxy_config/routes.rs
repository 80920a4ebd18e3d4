//! Route tables: those that are delivered on their own, and those within listeners.

use super::{lines, rule};
use export::Resources;
use proxy_core::xds::{
    Forward, Name, PathMatch, Route, RouteAction, RouteMatch, RouteTable, StringMatch, ValueMatch,
    VirtualHost,
};
use serde_json::Value;

/// Domains that a shortened list has.
const DOMAINS: usize = 2;

/// The kinds of objects that route requests.
const RULES: [&str; 3] = ["VirtualService", "HTTPRoute", "GRPCRoute"];

pub(super) fn table(resources: &Resources<'_>, name: Option<&str>, verbose: bool) -> String {
    let mut rows = Vec::new();
    for table in chosen(resources, name) {
        for host in &table.virtual_hosts {
            let row = |matches: String, rule: String| {
                let domains = domains(host, verbose);
                [
                    table.name.to_string(),
                    host.name.to_string(),
                    domains,
                    matches,
                    rule,
                ]
            };
            let shown = host
                .routes
                .iter()
                .filter(|one| verbose || !passes_through(one));
            rows.extend(shown.map(|route| {
                let matches = match verbose {
                    true => conditions(&route.matches),
                    false => path(&route.matches),
                };
                row(matches, rule(route.origin.as_ref(), &RULES))
            }));
            if host.routes.is_empty() {
                rows.push(row("/*".to_owned(), "404".to_owned()));
            }
        }
    }
    let headings = ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"];
    lines(headings, rows)
}

pub(super) fn json(resources: &Resources<'_>, name: Option<&str>) -> Value {
    let chosen = chosen(resources, name).into_iter();
    chosen.map(export::dump::route_table).collect()
}

/// Names that are ports come first, by number.
fn chosen<'r>(resources: &Resources<'r>, name: Option<&str>) -> Vec<&'r RouteTable> {
    let tables = resources.routes.iter().chain(resources.inline_routes());
    let mut chosen: Vec<&RouteTable> = tables
        .map(|table| &**table)
        .filter(|table| name.is_none_or(|name| *name == *table.name))
        .collect();
    chosen.sort_by_key(|table| {
        let port: Option<u16> = table.name.parse().ok();
        (port.is_none(), port, table.name.clone())
    });
    chosen
}

/// Whatever no rule is about, in a mesh that lets it pass.
fn passes_through(route: &Route) -> bool {
    match &route.action {
        RouteAction::Forward(Forward { clusters, .. }) => {
            matches!(&clusters[..], [only] if &*only.cluster == "PassthroughCluster")
        }
        RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => false,
    }
}

/// All domains, or the first few without those that say the same again: with a port, or a longer
/// name of the same service.
fn domains(host: &VirtualHost, verbose: bool) -> String {
    let all = &host.domains;
    let has_port = |domain: &Name| domain.contains(':') && !domain.ends_with(']');
    let is_longer = |domain: &Name| {
        let shorter = [".svc.cluster.local", ".svc"].map(|end| domain.strip_suffix(end));
        let mut shorter = shorter.into_iter().flatten();
        shorter.any(|shorter| all.iter().any(|other| **other == *shorter))
    };
    let mut shown: Vec<&str> = all
        .iter()
        .filter(|domain| verbose || !(has_port(domain) || is_longer(domain)))
        .map(|domain| &**domain)
        .collect();
    if shown.is_empty() {
        shown = all.iter().map(|domain| &**domain).collect();
    }
    match shown.len().checked_sub(DOMAINS) {
        Some(more @ 1..) if !verbose => {
            format!("{} + {more} more...", shown[..DOMAINS].join(", "))
        }
        _ => shown.join(", "),
    }
}

/// The condition on the path.
pub(super) fn path(matches: &RouteMatch) -> String {
    match &matches.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(prefix) => format!("{prefix}*"),
        PathMatch::SeparatedPrefix(prefix) => format!("PathPrefix:{prefix}"),
        PathMatch::Regex(regex) => format!("regex {}", regex.source()),
    }
}

/// Everything that has to hold.
fn conditions(matches: &RouteMatch) -> String {
    let mut parts = vec![path(matches)];
    if !matches.case_sensitive {
        parts.push("in any case".to_owned());
    }
    parts.extend(matches.headers.iter().map(|header| {
        let not = if header.invert { "not " } else { "" };
        format!("header {not}{}", value(&header.name, &header.value))
    }));
    parts.extend(
        matches
            .query
            .iter()
            .map(|query| format!("query {}", value(&query.name, &query.value))),
    );
    parts.extend(matches.claims.iter().map(|claim| {
        let not = if claim.invert { "not " } else { "" };
        let name = claim.path.join(".");
        let values = claim.values.iter().map(|one| text(&name, one));
        format!("claim {not}{}", values.collect::<Vec<_>>().join(" or "))
    }));
    if let Some(share) = matches.fraction {
        parts.push(format!(
            "{} of {} streams",
            share.numerator, share.denominator
        ));
    }
    parts.join("; ")
}

fn value(name: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present(true) => format!("{name} present"),
        ValueMatch::Present(false) => format!("{name} absent"),
        ValueMatch::String(matcher) => text(name, matcher),
    }
}

fn text(name: &str, matcher: &StringMatch) -> String {
    match matcher {
        StringMatch::Exact(text) => format!("{name}={text}"),
        StringMatch::Prefix(text) => format!("{name}={text}*"),
        StringMatch::Suffix(text) => format!("{name}=*{text}"),
        StringMatch::Contains(text) => format!("{name}=*{text}*"),
        StringMatch::Regex(regex) => format!("{name} regex {}", regex.source()),
    }
}
