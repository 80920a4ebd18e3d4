//! Route tables, virtual hosts and routes.

use crate::endpoint::lb_metadata;
use crate::matching::{header, query, string};
use crate::rate_limit::{LOCAL_RATE_LIMIT, local_rate_limit, rate_limits};
use crate::rbac::claim;
use crate::{Message, duration, fractional_percent, typed};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CorsPolicy, Fault, Forward, Fraction, HashInput, HashPolicy, HeaderMutations, HeaderValue,
    Mirror, Name, PathMatch, PathRewrite, RateLimitedBackOff, Redirect, RedirectPath, RetryPolicy,
    Route, RouteAction, RouteMatch, RouteTable, VirtualHost, WeightedCluster,
};
use serde_json::{Map, Value, json};

/// `envoy.config.route.v3.RouteConfiguration`.
pub fn route_table(table: &RouteTable) -> Value {
    let mut message = Message::default();
    message.set("name", &*table.name);
    message.set_list(
        "virtual_hosts",
        table.virtual_hosts.iter().map(|host| virtual_host(host)),
    );
    message.set_flag("ignore_port_in_host_matching", table.ignore_port_in_host);
    // Routes may name clusters that are not there (yet).
    message.set("validate_clusters", false);
    // Istio's; Envoy's own would be 4 KiB.
    message.set("max_direct_response_body_size_bytes", 1_048_576);
    message.into()
}

fn virtual_host(host: &VirtualHost) -> Value {
    let mut message = Message::default();
    message.set("name", &*host.name);
    message.set_list("domains", host.domains.iter().map(|domain| json!(**domain)));
    message.set_list("routes", host.routes.iter().map(|one| route(one)));
    if host.require_tls {
        message.set("require_tls", "ALL");
    }
    mutations("request", &host.request_headers, &mut message);
    mutations("response", &host.response_headers, &mut message);
    message.set_flag("include_request_attempt_count", host.include_attempt_count);
    message.set_list("rate_limits", rate_limits(&host.rate_limits));
    if let Some(config) = &host.local_rate_limit {
        let filters = json!({ LOCAL_RATE_LIMIT: local_rate_limit(config) });
        message.set("typed_per_filter_config", filters);
    }
    message.into()
}

/// `envoy.config.route.v3.Route`.
pub fn route(route: &Route) -> Value {
    let mut message = Message::default();
    if !route.name.is_empty() {
        message.set("name", &*route.name);
    }
    message.set("match", route_match(&route.matches));
    match &route.action {
        RouteAction::Forward(to) => {
            message.set("route", forward(to));
        }
        RouteAction::Redirect(to) => message.set("redirect", redirect(to)),
        RouteAction::DirectResponse { status, body } => {
            let mut response = Message::default();
            response.set("status", *status);
            if !body.is_empty() {
                response.set("body", json!({ "inline_string": **body }));
            }
            message.set("direct_response", response);
        }
    }
    mutations("request", &route.request_headers, &mut message);
    mutations("response", &route.response_headers, &mut message);
    let mut filters = Map::new();
    if let Some(config) = &route.fault {
        filters.insert("envoy.filters.http.fault".to_owned(), fault(config));
    }
    if let Some(policy) = &route.cors {
        filters.insert("envoy.filters.http.cors".to_owned(), cors(policy));
    }
    if let Some(config) = &route.local_rate_limit {
        filters.insert(LOCAL_RATE_LIMIT.to_owned(), local_rate_limit(config));
    }
    if !filters.is_empty() {
        message.set("typed_per_filter_config", filters);
    }
    message.into()
}

fn cors(policy: &CorsPolicy) -> Value {
    let mut message = Message::default();
    message.set_list(
        "allow_origin_string_match",
        policy.allow_origins.iter().map(string),
    );
    for (key, text) in [
        ("allow_methods", &policy.allow_methods),
        ("allow_headers", &policy.allow_headers),
        ("expose_headers", &policy.expose_headers),
        ("max_age", &policy.max_age),
    ] {
        if !text.is_empty() {
            message.set(key, &**text);
        }
    }
    message.set_flag("allow_credentials", policy.allow_credentials);
    let always = fractional_percent(Fraction::ppm(1_000_000));
    message.set("filter_enabled", json!({ "default_value": always }));
    let forward = policy.forward_not_matching_preflights;
    message.set("forward_not_matching_preflights", forward);
    typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        message.into(),
    )
}

fn route_match(matches: &RouteMatch) -> Value {
    let mut message = Message::default();
    match &matches.path {
        PathMatch::Exact(path) => message.set("path", &**path),
        PathMatch::Prefix(prefix) => message.set("prefix", &**prefix),
        PathMatch::SeparatedPrefix(prefix) => message.set("path_separated_prefix", &**prefix),
        PathMatch::Regex(regex) => message.set("safe_regex", json!({ "regex": regex.source() })),
    }
    message.set("case_sensitive", matches.case_sensitive);
    message.set_list("headers", matches.headers.iter().map(header));
    message.set_list("query_parameters", matches.query.iter().map(query));
    message.set_list("dynamic_metadata", matches.claims.iter().map(claim));
    let fraction = matches.fraction;
    let fraction = fraction.map(|share| json!({ "default_value": fractional_percent(share) }));
    message.set_some("runtime_fraction", fraction);
    message.into()
}

fn forward(forward: &Forward) -> Value {
    let mut message = Message::default();
    match &forward.clusters[..] {
        [only] if is_plain(only) => message.set("cluster", &*only.cluster),
        several => {
            let clusters: Vec<Value> = several.iter().map(weighted).collect();
            message.set("weighted_clusters", json!({ "clusters": clusters }));
        }
    }
    match &forward.path_rewrite {
        PathRewrite::None => {}
        PathRewrite::Prefix(prefix) => message.set("prefix_rewrite", &**prefix),
        PathRewrite::Regex {
            pattern,
            substitution,
        } => {
            let pattern = json!({ "regex": pattern.source() });
            let rewrite = json!({ "pattern": pattern, "substitution": **substitution });
            message.set("regex_rewrite", rewrite);
        }
    }
    message.set_some("host_rewrite_literal", forward.host_rewrite.as_deref());
    message.set("timeout", duration(forward.timeout.unwrap_or_default()));
    message.set_some("idle_timeout", forward.idle_timeout.map(duration));
    message.set_some("max_grpc_timeout", forward.max_grpc_timeout.map(duration));
    if let Some(limit) = forward.max_stream_duration {
        let limit = json!({ "max_stream_duration": duration(limit) });
        message.set("max_stream_duration", limit);
    }
    message.set_some("retry_policy", forward.retry.as_ref().map(retry_policy));
    if forward.hedge_on_per_try_timeout {
        message.set("hedge_policy", json!({ "hedge_on_per_try_timeout": true }));
    }
    message.set_list("hash_policy", forward.hash_policies.iter().map(hash_policy));
    message.set_list(
        "request_mirror_policies",
        forward.mirrors.iter().map(mirror),
    );
    message.set_list("rate_limits", rate_limits(&forward.rate_limits));
    if !forward.subset.is_empty() {
        message.set("metadata_match", subset(&forward.subset));
    }
    let not_found = match forward.cluster_not_found_status {
        404 => Some("NOT_FOUND"),
        500 => Some("INTERNAL_SERVER_ERROR"),
        _ => None,
    };
    message.set_some("cluster_not_found_response_code", not_found);
    message.into()
}

/// Nothing that only an entry of a weighted set can say.
fn is_plain(entry: &WeightedCluster) -> bool {
    *entry == WeightedCluster::new(entry.cluster.clone(), entry.weight)
}

fn weighted(entry: &WeightedCluster) -> Value {
    let mut message = Message::default();
    message.set("name", &*entry.cluster);
    message.set("weight", entry.weight);
    mutations("request", &entry.request_headers, &mut message);
    mutations("response", &entry.response_headers, &mut message);
    message.set_some("host_rewrite_literal", entry.host_rewrite.as_deref());
    if !entry.subset.is_empty() {
        message.set("metadata_match", subset(&entry.subset));
    }
    message.into()
}

fn subset(pairs: &[(Name, Name)]) -> Value {
    json!({ "filter_metadata": { "envoy.lb": lb_metadata(pairs) } })
}

fn mutations(side: &str, changes: &HeaderMutations, message: &mut Message) {
    message.set_list(
        &format!("{side}_headers_to_add"),
        changes.add.iter().map(header_value),
    );
    message.set_list(
        &format!("{side}_headers_to_remove"),
        changes.remove.iter().map(|name| json!(**name)),
    );
}

/// `envoy.config.core.v3.HeaderValueOption`.
pub(crate) fn header_value(add: &HeaderValue) -> Value {
    let action = match add.append {
        true => "APPEND_IF_EXISTS_OR_ADD",
        false => "OVERWRITE_IF_EXISTS_OR_ADD",
    };
    let header = json!({ "key": *add.name, "value": *add.value });
    json!({ "header": header, "append_action": action })
}

fn redirect(redirect: &Redirect) -> Value {
    let mut message = Message::default();
    message.set_some("scheme_redirect", redirect.scheme.as_deref());
    message.set_some("host_redirect", redirect.host.as_deref());
    message.set_some("port_redirect", redirect.port);
    match &redirect.path {
        RedirectPath::Keep => {}
        RedirectPath::Replace(path) => message.set("path_redirect", &**path),
        RedirectPath::Prefix(prefix) => message.set("prefix_rewrite", &**prefix),
    }
    let code = match redirect.status {
        302 => Some("FOUND"),
        303 => Some("SEE_OTHER"),
        307 => Some("TEMPORARY_REDIRECT"),
        308 => Some("PERMANENT_REDIRECT"),
        _ => None,
    };
    message.set_some("response_code", code);
    message.into()
}

fn retry_policy(retry: &RetryPolicy) -> Value {
    let mut message = Message::default();
    message.set("retry_on", retry.retry_on.to_string());
    message.set("num_retries", retry.num_retries);
    message.set_list(
        "retriable_status_codes",
        retry.retriable_status_codes.iter().map(|code| json!(code)),
    );
    message.set_list(
        "retriable_headers",
        retry.retriable_headers.iter().map(header),
    );
    message.set_list(
        "retriable_request_headers",
        retry.retriable_request_headers.iter().map(header),
    );
    message.set_some("per_try_timeout", retry.per_try_timeout.map(duration));
    message.set_some(
        "per_try_idle_timeout",
        retry.per_try_idle_timeout.map(duration),
    );
    if retry.avoid_previous_hosts {
        let config = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
        let name = "envoy.retry_host_predicates.previous_hosts";
        let predicate = json!({ "name": name, "typed_config": typed(config, json!({})) });
        message.set("retry_host_predicate", vec![predicate]);
    }
    message.set(
        "host_selection_retry_max_attempts",
        retry.host_selection_retry_max_attempts,
    );
    if let Some(frequency) = retry.previous_priorities_update_frequency {
        let config =
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
        let fields = json!({ "update_frequency": frequency });
        let name = "envoy.retry_priorities.previous_priorities";
        let priority = json!({ "name": name, "typed_config": typed(config, fields) });
        message.set("retry_priority", priority);
    }
    let default = (Nanos::from_millis(25), Nanos::from_millis(250));
    if (retry.back_off_base, retry.back_off_max) != default {
        let intervals = json!({
            "base_interval": duration(retry.back_off_base),
            "max_interval": duration(retry.back_off_max),
        });
        message.set("retry_back_off", intervals);
    }
    let limited = retry.rate_limited_back_off.as_ref();
    message.set_some("rate_limited_retry_back_off", limited.map(rate_limited));
    message.into()
}

fn rate_limited(config: &RateLimitedBackOff) -> Value {
    let headers = config.reset_headers.iter().map(|header| {
        let format = match header.unix_timestamp {
            true => "UNIX_TIMESTAMP",
            false => "SECONDS",
        };
        json!({ "name": *header.name, "format": format })
    });
    json!({
        "reset_headers": headers.collect::<Vec<_>>(),
        "max_interval": duration(config.max_interval),
    })
}

fn hash_policy(policy: &HashPolicy) -> Value {
    let mut message = Message::default();
    match &policy.input {
        HashInput::Header(name) => message.set("header", json!({ "header_name": **name })),
        HashInput::Cookie { name, path, ttl } => {
            let mut cookie = Message::default();
            cookie.set("name", &**name);
            if !path.is_empty() {
                cookie.set("path", &**path);
            }
            cookie.set_some("ttl", ttl.map(duration));
            message.set("cookie", cookie);
        }
        HashInput::SourceIp => message.set("connection_properties", json!({ "source_ip": true })),
        HashInput::Query(name) => message.set("query_parameter", json!({ "name": **name })),
    }
    message.set_flag("terminal", policy.terminal);
    message.into()
}

fn mirror(mirror: &Mirror) -> Value {
    let share = fractional_percent(mirror.fraction);
    let mut message = Message::default();
    message.set("cluster", &*mirror.cluster);
    message.set("runtime_fraction", json!({ "default_value": share }));
    message.set("trace_sampled", false);
    message.set_flag("disable_shadow_host_suffix_append", !mirror.shadow_suffix);
    message.into()
}

/// `envoy.extensions.filters.http.fault.v3.HTTPFault`.
fn fault(fault: &Fault) -> Value {
    let share = |ppm| fractional_percent(Fraction::ppm(ppm));
    let mut message = Message::default();
    if let Some(delay) = &fault.delay {
        let percentage = share(delay.fraction_ppm);
        let delay = json!({ "fixed_delay": duration(delay.fixed), "percentage": percentage });
        message.set("delay", delay);
    }
    if let Some(abort) = &fault.abort {
        let percentage = share(abort.fraction_ppm);
        let abort = match abort.grpc_status {
            Some(status) => json!({ "grpc_status": status, "percentage": percentage }),
            None => json!({ "http_status": abort.status, "percentage": percentage }),
        };
        message.set("abort", abort);
    }
    message.set_some("max_active_faults", fault.max_active_faults);
    typed(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        message.into(),
    )
}
