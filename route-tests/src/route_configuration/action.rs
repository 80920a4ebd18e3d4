//! What a route of Envoy's does with a request.

use super::matching::regex;
use super::proto::{duration, number, refuse};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Forward, HeaderMutations, HeaderValue, Name, PathRewrite, Redirect, RedirectPath, RouteAction,
    WeightedCluster,
};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Where none is stated.
const TIMEOUT_DEFAULT: Nanos = Nanos::from_secs(15);

/// Fields of a `RouteAction` that do not decide where a request goes or how its head leaves.
const WITHOUT_SAY: [&str; 22] = [
    "cluster_not_found_response_code",
    "metadata_match",
    "auto_host_rewrite",
    "idle_timeout",
    "flush_timeout",
    "early_data_policy",
    "retry_policy",
    "retry_policy_typed_config",
    "request_mirror_policies",
    "priority",
    "rate_limits",
    "include_vh_rate_limits",
    "hash_policy",
    "cors",
    "max_grpc_timeout",
    "grpc_timeout_offset",
    "upgrade_configs",
    "internal_redirect_policy",
    "internal_redirect_action",
    "max_internal_redirects",
    "hedge_policy",
    "max_stream_duration",
];

/// Envoy `RouteAction`.
pub(super) fn forward(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RouteAction> {
    let mut fields = Fields::of(node, "a route action", diagnostics)?;
    fields.ignore(&WITHOUT_SAY);
    refuse(
        &mut fields,
        &[
            "cluster_header",
            "cluster_specifier_plugin",
            "inline_cluster_specifier_plugin",
            "path_rewrite_policy",
            "path_rewrite",
            "host_rewrite",
            "host_rewrite_header",
            "host_rewrite_path_regex",
            "append_x_forwarded_host",
        ],
    );
    let single = fields.text("cluster");
    let clusters = match (single, fields.optional("weighted_clusters")) {
        (Some(cluster), None) => vec![WeightedCluster::new(cluster.into(), 1)],
        (None, Some(node)) => weighted_clusters(node, fields.diagnostics)?,
        // Which has been refused.
        (None, None) if fields.optional("cluster_header").is_some() => Vec::new(),
        _ => {
            let message = "a route action has either `cluster` or `weighted_clusters`";
            let problem = Diagnostic::error(message).at(fields.span(), "leads nowhere, or twice");
            fields.diagnostics.push(problem);
            Vec::new()
        }
    };
    let path_rewrite = path_rewrite(&mut fields);
    let host_rewrite = fields.text("host_rewrite_literal");
    let timeout = duration(&mut fields, "timeout");
    fields.finish();
    if clusters.is_empty() {
        return None;
    }
    Some(RouteAction::Forward(Forward {
        clusters,
        path_rewrite,
        host_rewrite: host_rewrite.filter(|host| !host.is_empty()).map(Name::from),
        timeout: Some(timeout.unwrap_or(TIMEOUT_DEFAULT)),
        ..Forward::to("".into())
    }))
}

fn path_rewrite(fields: &mut Fields<'_, '_>) -> PathRewrite {
    let prefix = fields
        .text("prefix_rewrite")
        .filter(|prefix| !prefix.is_empty());
    let expression = fields.optional("regex_rewrite");
    if let Some(prefix) = prefix {
        return PathRewrite::Prefix(prefix.into());
    }
    let rewrite = expression.and_then(|node| {
        let mut inner = Fields::of(node, "a regex rewrite", fields.diagnostics)?;
        let pattern = inner.required("pattern");
        let pattern = pattern.and_then(|node| regex(node, inner.diagnostics));
        let substitution = inner.text("substitution").unwrap_or_default();
        inner.finish();
        Some(PathRewrite::Regex {
            pattern: pattern?,
            substitution: substitution.into(),
        })
    });
    rewrite.unwrap_or(PathRewrite::None)
}

fn weighted_clusters(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<WeightedCluster>> {
    let mut fields = Fields::of(node, "weighted clusters", diagnostics)?;
    fields.ignore(&["total_weight", "runtime_key_prefix"]);
    refuse(&mut fields, &["header_name", "use_hash_policy"]);
    let clusters = fields.list("clusters").iter();
    let clusters: Vec<WeightedCluster> = clusters
        .filter_map(|node| weighted_cluster(node, fields.diagnostics))
        .collect();
    if clusters.iter().all(|entry| entry.weight == 0) {
        let problem = Diagnostic::error("weighted clusters need a weight above 0");
        fields
            .diagnostics
            .push(problem.at(&node.span, "none can be picked"));
    }
    fields.finish();
    Some(clusters)
}

fn weighted_cluster(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<WeightedCluster> {
    let mut fields = Fields::of(node, "a weighted cluster", diagnostics)?;
    fields.ignore(&["metadata_match", "typed_per_filter_config"]);
    refuse(&mut fields, &["cluster_header"]);
    let name = fields.required_text("name");
    let weight = number(&mut fields, "weight", u64::from(u32::MAX)).unwrap_or(0);
    let host_rewrite = fields.text("host_rewrite_literal");
    let (request_headers, response_headers) = header_mutations(&mut fields);
    fields.finish();
    Some(WeightedCluster {
        request_headers,
        response_headers,
        host_rewrite: host_rewrite.map(Name::from),
        ..WeightedCluster::new(name?.into(), weight as u32)
    })
}

/// Of requests and of responses.
pub(super) fn header_mutations(fields: &mut Fields<'_, '_>) -> (HeaderMutations, HeaderMutations) {
    let mut of = |add: &'static str, remove: &'static str| {
        let names = fields.texts(remove);
        let add = fields.list(add).iter();
        let add = add.filter_map(|node| header_value(node, fields.diagnostics));
        HeaderMutations {
            add: add.collect(),
            remove: names
                .iter()
                .map(|name| name.to_ascii_lowercase().into())
                .collect(),
        }
    };
    (
        of("request_headers_to_add", "request_headers_to_remove"),
        of("response_headers_to_add", "response_headers_to_remove"),
    )
}

fn header_value(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HeaderValue> {
    let mut fields = Fields::of(node, "a header to add", diagnostics)?;
    refuse(&mut fields, &["keep_empty_value"]);
    let old = fields.boolean("append").unwrap_or(true);
    let action = fields.optional("append_action");
    let append = match action.map(|node| (node, node.as_str())) {
        None => old,
        Some((_, Some("APPEND_IF_EXISTS_OR_ADD"))) => true,
        Some((_, Some("OVERWRITE_IF_EXISTS_OR_ADD"))) => false,
        Some((node, _)) => {
            let want = "only APPEND_IF_EXISTS_OR_ADD and OVERWRITE_IF_EXISTS_OR_ADD are done here";
            fields.diagnostics.push(expected(node, want));
            old
        }
    };
    let header = fields.required("header");
    fields.finish();
    let mut fields = Fields::of(header?, "a header", diagnostics)?;
    refuse(&mut fields, &["raw_value"]);
    let name = fields.required_text("key");
    let value = fields.text("value").unwrap_or_default();
    fields.finish();
    Some(HeaderValue {
        name: name?.to_ascii_lowercase().into(),
        value: value.into(),
        append,
    })
}

/// Envoy `RedirectAction`, and whether the query is left out.
pub(super) fn redirect(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(RouteAction, bool)> {
    let mut fields = Fields::of(node, "a redirect", diagnostics)?;
    refuse(&mut fields, &["regex_rewrite"]);
    let https = fields.boolean("https_redirect").unwrap_or(false);
    let text = |fields: &mut Fields<'_, '_>, key| {
        let text = fields.text(key).filter(|text| !text.is_empty());
        text.map(Name::from)
    };
    let scheme = text(&mut fields, "scheme_redirect");
    let host = text(&mut fields, "host_redirect");
    let port = number(&mut fields, "port_redirect", 65_535);
    let whole = text(&mut fields, "path_redirect");
    let prefix = text(&mut fields, "prefix_rewrite");
    let strip_query = fields.boolean("strip_query").unwrap_or(false);
    let code = fields.optional("response_code");
    let status = match code.map(|node| (node, node.as_str())) {
        None | Some((_, Some("MOVED_PERMANENTLY"))) => 301,
        Some((_, Some("FOUND"))) => 302,
        Some((_, Some("SEE_OTHER"))) => 303,
        Some((_, Some("TEMPORARY_REDIRECT"))) => 307,
        Some((_, Some("PERMANENT_REDIRECT"))) => 308,
        Some((node, _)) => {
            let want = "`response_code` is MOVED_PERMANENTLY, FOUND, SEE_OTHER, \
                        TEMPORARY_REDIRECT or PERMANENT_REDIRECT";
            fields.diagnostics.push(expected(node, want));
            301
        }
    };
    fields.finish();
    let action = RouteAction::Redirect(Redirect {
        status,
        scheme: scheme.or_else(|| https.then(|| "https".into())),
        host,
        port: port.filter(|&port| port > 0).map(|port| port as u16),
        path: match (whole, prefix) {
            (Some(path), _) => RedirectPath::Replace(path),
            (None, Some(prefix)) => RedirectPath::Prefix(prefix),
            (None, None) => RedirectPath::Keep,
        },
    });
    Some((action, strip_query))
}

/// Envoy `DirectResponseAction`.
pub(super) fn direct_response(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RouteAction> {
    let mut fields = Fields::of(node, "a direct response", diagnostics)?;
    refuse(&mut fields, &["body_format"]);
    fields.required("status");
    let status = number(&mut fields, "status", 599);
    let mut body = None;
    if let Some(node) = fields.optional("body") {
        let mut source = Fields::of(node, "a body", fields.diagnostics)?;
        refuse(
            &mut source,
            &["filename", "inline_bytes", "environment_variable"],
        );
        body = source.text("inline_string");
        source.finish();
    }
    fields.finish();
    Some(RouteAction::DirectResponse {
        status: status? as u16,
        body: body.unwrap_or_default().into(),
    })
}
