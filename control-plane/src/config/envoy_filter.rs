//! EnvoyFilter: patches of what Istio makes for Envoy. Those that are about local rate limits are run;
//! of every other it is said that it is not.

use super::envoy_filter_check::check_patch;
use super::envoy_filter_match::{
    ListenerMatch, PatchContext, TableMatch, read_listener, read_match, read_table, skip,
};
use super::local_rate_limit::{
    self, LOCAL_RATE_LIMIT, extension, in_snake_case, is_local_rate_limit, leave_out,
};
use super::rate_limit_actions::read_rate_limits;
use super::selection::{read_references, selector};
use super::{Target, refuse, written};
use proxy_core::xds::{LocalRateLimit, RateLimitActions};
use source::{Diagnostic, Fields, Level, Node};
use std::sync::Arc;

/// Istio `EnvoyFilter`, as far as it is run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnvoyFilter {
    pub(crate) target: Target,
    /// Lower ones are applied first.
    pub(crate) priority: i64,
    pub(crate) patches: Vec<Patch>,
}

/// A patch about local rate limits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    pub(crate) context: PatchContext,
    pub(crate) change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A filter comes into connection managers.
    Filter {
        matches: ListenerMatch,
        at: Insertion,
        config: Arc<LocalRateLimit>,
    },
    /// Configuration comes to virtual hosts or to routes.
    Table {
        matches: TableMatch,
        routes: bool,
        merged: Merged,
    },
}

/// Where among the HTTP filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    First,
    Before(HttpFilter),
    After(HttpFilter),
}

/// A filter that Istio puts into connection managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpFilter {
    MetadataExchange,
    Jwt,
    Rbac,
    /// gRPC statistics and ALPN, between access control and faults.
    BeforeFault,
    Fault,
    Cors,
    /// Telemetry, after CORS.
    AfterCors,
    Router,
    LocalRateLimit,
}

const HTTP_FILTERS: [(&str, HttpFilter); 13] = [
    ("istio.metadata_exchange", HttpFilter::MetadataExchange),
    ("envoy.filters.http.jwt_authn", HttpFilter::Jwt),
    ("envoy.filters.http.rbac", HttpFilter::Rbac),
    ("envoy.filters.http.grpc_stats", HttpFilter::BeforeFault),
    ("istio.alpn", HttpFilter::BeforeFault),
    ("envoy.filters.http.fault", HttpFilter::Fault),
    ("envoy.filters.http.cors", HttpFilter::Cors),
    ("istio.stats", HttpFilter::AfterCors),
    ("envoy.filters.http.router", HttpFilter::Router),
    (LOCAL_RATE_LIMIT, HttpFilter::LocalRateLimit),
    // By their former names.
    ("envoy.fault", HttpFilter::Fault),
    ("envoy.cors", HttpFilter::Cors),
    ("envoy.router", HttpFilter::Router),
];

/// What is merged into a virtual host or route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merged {
    pub(crate) limit: Option<Arc<LocalRateLimit>>,
    pub(crate) rate_limits: Vec<RateLimitActions>,
}

impl EnvoyFilter {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<EnvoyFilter> {
        let mut fields = Fields::of(node, "an EnvoyFilter", diagnostics)?;
        let selected = selector(&mut fields, "workloadSelector", "labels");
        let stated = (
            fields.optional("workloadSelector"),
            fields.optional("targetRefs"),
        );
        if let (Some(_), Some(node)) = stated {
            let message = "`workloadSelector` and `targetRefs` exclude each other";
            let label = "beside `workloadSelector`";
            refuse(fields.diagnostics, &node.span, message, label);
        }
        let references = read_references(&mut fields);
        let target = Target::of(selected, references, fields.diagnostics);
        let priority = fields.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX));
        let mut patches = Vec::new();
        for node in fields.list("configPatches") {
            let before = fields.diagnostics.len();
            check_patch(node, fields.diagnostics);
            let mut said = fields.diagnostics[before..].iter();
            if !said.any(|said| said.level == Level::Error) {
                patches.extend(read_patch(node, fields.diagnostics));
            }
        }
        fields.finish();
        Some(EnvoyFilter {
            target,
            priority: priority.unwrap_or(0),
            patches,
        })
    }
}

/// `None` if the patch is not run, which is said, or has an error.
fn read_patch(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Patch> {
    let apply_to = node.at(&["applyTo"]).map_or("", written);
    let operation = node.at(&["patch", "operation"]).map_or("", written);
    let value = node.at(&["patch", "value"]).map(in_snake_case);
    match (apply_to, &value) {
        ("HTTP_FILTER", Some(value)) if adds_limit(value) && operation.starts_with("INSERT") => {
            read_filter(node, value, operation, diagnostics)
        }
        ("VIRTUAL_HOST" | "HTTP_ROUTE", Some(value))
            if operation == "MERGE" && is_of_limits(value, apply_to == "HTTP_ROUTE") =>
        {
            read_merge(node, value, apply_to == "HTTP_ROUTE", diagnostics)
        }
        _ => {
            let what = what_is_patched(node, value.as_ref());
            let message =
                format!("a patch of an EnvoyFilter is not run: {operation} of {apply_to}{what}");
            let label = "requests are treated as if it were not there";
            diagnostics.push(Diagnostic::warning(message).at(&node.span, label));
            None
        }
    }
}

/// The name and type of what a patch brings, else of what it is about.
fn what_is_patched(node: &Node, value: Option<&Node>) -> String {
    let matched: [&[&str]; 4] = [
        &[
            "match",
            "listener",
            "filterChain",
            "filter",
            "subFilter",
            "name",
        ],
        &["match", "listener", "filterChain", "filter", "name"],
        &["match", "listener", "name"],
        &["match", "routeConfiguration", "vhost", "name"],
    ];
    let of_value = value.and_then(|value| value.at(&["name"]));
    let of_match = || matched.iter().find_map(|path| node.at(path));
    let name = of_value.or_else(of_match).map(written);
    let name = name.map_or(String::new(), |name| format!(" `{name}`"));
    let config = value.and_then(|value| value.at(&["typed_config"]));
    match config.map_or("", |config| extension(config).0) {
        "" => name,
        of_type => format!("{name} ({of_type})"),
    }
}

fn adds_limit(value: &Node) -> bool {
    value.at(&["typed_config"]).is_some_and(is_local_rate_limit)
}

/// Whether all that is merged is about local rate limits.
fn is_of_limits(value: &Node, of_route: bool) -> bool {
    let keys = |node: Option<&Node>| -> Vec<String> {
        let map = node.and_then(Node::as_map);
        let entries = map.map_or(&[][..], |map| &map.entries);
        entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let filters = keys(value.at(&["typed_per_filter_config"]));
    let known = |key: &String| match key.as_str() {
        "typed_per_filter_config" => filters == [LOCAL_RATE_LIMIT],
        "route" if of_route => keys(value.at(&["route"])) == ["rate_limits"],
        "rate_limits" => !of_route,
        _ => false,
    };
    let own = keys(Some(value));
    !own.is_empty() && own.iter().all(known)
}

fn read_filter(
    node: &Node,
    value: &Node,
    operation: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Patch> {
    let (context, listener) = read_match(node, "listener", diagnostics)?;
    let (matches, sub_filter) = match listener {
        Some(listener) => read_listener(listener, diagnostics)?,
        None => (ListenerMatch::default(), None),
    };
    if value.at(&["name"]).map(written) != Some(LOCAL_RATE_LIMIT) {
        let what = format!("a local rate limit that is not called `{LOCAL_RATE_LIMIT}`");
        leave_out(value, &what, diagnostics);
        return None;
    }
    let known = ["name", "typed_config", "is_optional"];
    for entry in value.as_map().map_or(&[][..], |map| &map.entries) {
        if !known.contains(&entry.key.as_str()) {
            leave_out(
                &entry.value,
                &format!("`{}` of a filter", entry.key),
                diagnostics,
            );
            return None;
        }
    }
    let at = read_insertion(node, operation, sub_filter, diagnostics)?;
    let (_, config) = extension(value.at(&["typed_config"])?);
    let config = local_rate_limit::read(config?, false, diagnostics)?;
    let change = Change::Filter {
        matches,
        at,
        config,
    };
    Some(Patch { context, change })
}

fn read_insertion(
    patch: &Node,
    operation: &str,
    sub_filter: Option<&Node>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Insertion> {
    let known = |name: &Node| {
        HTTP_FILTERS
            .iter()
            .find(|(known, _)| *known == written(name))
    };
    let at = match (operation, sub_filter.map(|name| (name, known(name)))) {
        ("INSERT_FIRST", _) | ("INSERT_BEFORE", None) => Some(Insertion::First),
        (_, Some((name, None))) => {
            let why = format!(
                "no filter `{}` stands among the HTTP filters",
                written(name)
            );
            return skip(name, &why, diagnostics);
        }
        ("INSERT_BEFORE", Some((_, Some((_, filter))))) => Some(Insertion::Before(*filter)),
        (_, Some((_, Some((_, HttpFilter::Router))))) | (_, None) => None,
        (_, Some((_, Some((_, filter))))) => Some(Insertion::After(*filter)),
    };
    if at.is_none() {
        let message = "a filter comes after the router, which Envoy refuses";
        let label = "the patch is left out: INSERT_BEFORE puts it before a filter";
        diagnostics.push(Diagnostic::warning(message).at(&patch.span, label));
    }
    at
}

fn read_merge(
    node: &Node,
    value: &Node,
    routes: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Patch> {
    let (context, table) = read_match(node, "routeConfiguration", diagnostics)?;
    let matches = match table {
        Some(table) => read_table(table, diagnostics)?,
        None => TableMatch::default(),
    };
    let mut merged = Merged::default();
    if let Some(node) = value.at(&["typed_per_filter_config", LOCAL_RATE_LIMIT]) {
        let (of_type, config) = extension(node);
        if !is_local_rate_limit(node) {
            leave_out(
                node,
                &format!("`{of_type}` for a local rate limit"),
                diagnostics,
            );
            return None;
        }
        merged.limit = Some(local_rate_limit::read(config?, true, diagnostics)?);
    }
    let of = if routes {
        value.at(&["route"])
    } else {
        Some(value)
    };
    if let Some(of) = of {
        let mut fields = Fields::of(of, "what is merged", diagnostics)?;
        merged.rate_limits = read_rate_limits(&mut fields)?;
    }
    let change = Change::Table {
        matches,
        routes,
        merged,
    };
    Some(Patch { context, change })
}
