//! Resources as Envoy reads them, as far as rehearsals go; what they do not is said.

use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, Discovery, EndpointHealth, Forward, HashInput, HeaderMatch, LbPolicy, LoadAssignment,
    LocalityLb, OutlierDetection, PathMatch, PathRewrite, RetryOn, RetryPolicy, Route,
    RouteAction, RouteTable, StringMatch, ValueMatch, VirtualHost,
};
use serde_json::{Map, Value, json};

const TYPE: &str = "type.googleapis.com/";

pub(super) fn duration(time: Nanos) -> String {
    format!("{}.{:09}s", time.0 / 1_000_000_000, time.0 % 1_000_000_000)
}

fn any(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("{TYPE}{kind}"));
    value
}

pub(super) fn cluster(cluster: &Cluster) -> Result<Value, String> {
    let breakers = &cluster.circuit_breakers;
    let mut limits = json!({
        "max_connections": breakers.max_connections,
        "max_pending_requests": breakers.max_pending_requests,
        "max_requests": breakers.max_requests,
        "max_retries": breakers.max_retries,
        "track_remaining": true,
    });
    if let Some(budget) = breakers.retry_budget {
        limits["retry_budget"] = json!({
            "budget_percent": {"value": budget.budget_percent},
            "min_retry_concurrency": budget.min_retry_concurrency,
        });
    }
    let mut common = json!({
        "update_merge_window": duration(cluster.update_merge_window),
        "healthy_panic_threshold": {"value": cluster.healthy_panic_threshold_percent},
    });
    match cluster.locality_lb {
        LocalityLb::None => {}
        LocalityLb::Weighted => common["locality_weighted_lb_config"] = json!({}),
        LocalityLb::ZoneAware(_) => return Err("zone-aware balancing".into()),
    }
    let mut out = json!({
        "name": &*cluster.name,
        "connect_timeout": duration(cluster.connect_timeout),
        "circuit_breakers": {"thresholds": [limits]},
        "common_lb_config": common,
    });
    match &cluster.discovery {
        Discovery::Eds => out["type"] = json!("EDS"),
        Discovery::Static(assignment) => {
            out["type"] = json!("STATIC");
            out["load_assignment"] = load_assignment(assignment);
        }
        Discovery::StrictDns { .. } | Discovery::LogicalDns { .. } => return Err("DNS".into()),
        Discovery::OriginalDst { .. } => return Err("original destinations".into()),
    }
    let slow_start = cluster.slow_start.map(|slow| {
        json!({
            "slow_start_window": duration(slow.window),
            "aggression": {"default_value": slow.aggression, "runtime_key": "unset"},
            "min_weight_percent": {"value": slow.min_weight_percent},
        })
    });
    match &cluster.lb_policy {
        LbPolicy::RoundRobin => {
            out["lb_policy"] = json!("ROUND_ROBIN");
            if let Some(slow) = slow_start {
                out["round_robin_lb_config"] = json!({"slow_start_config": slow});
            }
        }
        LbPolicy::LeastRequest { choice_count, .. } => {
            out["lb_policy"] = json!("LEAST_REQUEST");
            out["least_request_lb_config"] = json!({"choice_count": choice_count});
            if let Some(slow) = slow_start {
                out["least_request_lb_config"]["slow_start_config"] = slow;
            }
        }
        LbPolicy::Random => out["lb_policy"] = json!("RANDOM"),
        LbPolicy::RingHash { minimum_ring_size, .. } => {
            out["lb_policy"] = json!("RING_HASH");
            out["ring_hash_lb_config"] = json!({"minimum_ring_size": minimum_ring_size});
        }
        LbPolicy::Maglev { table_size, .. } => {
            out["lb_policy"] = json!("MAGLEV");
            out["maglev_lb_config"] = json!({"table_size": table_size});
        }
        LbPolicy::PeakEwma { .. } | LbPolicy::ClusterProvided => return Err("its balancer".into()),
    }
    if let Some(outlier) = &cluster.outlier_detection {
        out["outlier_detection"] = outlier_detection(outlier);
    }
    let mut options = json!({"explicit_http_config": {"http_protocol_options": {}}});
    if cluster.max_requests_per_connection > 0 {
        options["common_http_protocol_options"] =
            json!({"max_requests_per_connection": cluster.max_requests_per_connection});
    }
    out["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
            any("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", options)
    });
    Ok(any("envoy.config.cluster.v3.Cluster", out))
}

fn outlier_detection(outlier: &OutlierDetection) -> Value {
    json!({
        "interval": duration(outlier.interval),
        "base_ejection_time": duration(outlier.base_ejection_time),
        "max_ejection_time": duration(outlier.max_ejection_time),
        "max_ejection_time_jitter": duration(outlier.max_ejection_time_jitter),
        "max_ejection_percent": outlier.max_ejection_percent,
        "always_eject_one_host": outlier.always_eject_one_host,
        "consecutive_5xx": outlier.consecutive_5xx,
        "enforcing_consecutive_5xx": outlier.enforcing_consecutive_5xx,
        "consecutive_gateway_failure": outlier.consecutive_gateway_failure,
        "enforcing_consecutive_gateway_failure": outlier.enforcing_consecutive_gateway_failure,
        "split_external_local_origin_errors": outlier.split_external_local_origin_errors,
        "consecutive_local_origin_failure": outlier.consecutive_local_origin_failure,
        "enforcing_consecutive_local_origin_failure": outlier.enforcing_consecutive_local_origin_failure,
        "enforcing_success_rate": outlier.success_rate.enforcing,
        "success_rate_minimum_hosts": outlier.success_rate.minimum_hosts,
        "success_rate_request_volume": outlier.success_rate.request_volume,
        "success_rate_stdev_factor": outlier.success_rate.stdev_factor,
        "enforcing_failure_percentage": outlier.failure_percentage.enforcing,
        "failure_percentage_threshold": outlier.failure_percentage.threshold,
        "failure_percentage_minimum_hosts": outlier.failure_percentage.minimum_hosts,
        "failure_percentage_request_volume": outlier.failure_percentage.request_volume,
    })
}

pub(super) fn load_assignment(assignment: &LoadAssignment) -> Value {
    let localities = assignment.localities.iter().map(|locality| {
        let endpoints = locality.endpoints.iter().map(|endpoint| {
            let health = match endpoint.health {
                EndpointHealth::Healthy => "HEALTHY",
                EndpointHealth::Unhealthy => "UNHEALTHY",
                EndpointHealth::Draining => "DRAINING",
                EndpointHealth::Degraded => "DEGRADED",
            };
            let metadata: Map<String, Value> = endpoint
                .lb_metadata
                .iter()
                .map(|(key, value)| (key.to_string(), json!(&**value)))
                .collect();
            json!({
                "endpoint": {"address": {"socket_address": {
                    "address": endpoint.address.ip().to_string(),
                    "port_value": endpoint.address.port(),
                }}},
                "health_status": health,
                "load_balancing_weight": endpoint.weight,
                "metadata": {"filter_metadata": {"envoy.lb": metadata}},
            })
        });
        let endpoints: Vec<Value> = endpoints.collect();
        let mut parts = locality.locality.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let mut out = json!({
            "locality": {"region": part(), "zone": part(), "sub_zone": part()},
            "priority": locality.priority,
            "lb_endpoints": endpoints,
        });
        if locality.weight > 0 {
            out["load_balancing_weight"] = json!(locality.weight);
        }
        out
    });
    let localities: Vec<Value> = localities.collect();
    any(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        json!({
            "cluster_name": &*assignment.cluster,
            "endpoints": localities,
            "policy": {
                "overprovisioning_factor": assignment.overprovisioning_factor_percent,
                "weighted_priority_health": assignment.weighted_priority_health,
            },
        }),
    )
}

pub(super) fn route_table(table: &RouteTable) -> Result<Value, String> {
    let hosts: Result<Vec<Value>, String> = table.virtual_hosts.iter().map(virtual_host).collect();
    Ok(any(
        "envoy.config.route.v3.RouteConfiguration",
        json!({
            "name": &*table.name,
            "virtual_hosts": hosts?,
            "ignore_port_in_host_matching": table.ignore_port_in_host,
            "validate_clusters": false,
        }),
    ))
}

fn virtual_host(host: &VirtualHost) -> Result<Value, String> {
    let routes: Result<Vec<Value>, String> = host.routes.iter().map(|r| route(r)).collect();
    let domains: Vec<&str> = host.domains.iter().map(|d| &**d).collect();
    Ok(json!({
        "name": &*host.name,
        "domains": domains,
        "routes": routes?,
        "include_request_attempt_count": host.include_attempt_count,
    }))
}

fn route(route: &Route) -> Result<Value, String> {
    let matches = &route.matches;
    let mut out = json!({"name": &*route.name});
    out["match"] = match &matches.path {
        PathMatch::Exact(path) => json!({"path": &**path}),
        PathMatch::Prefix(path) => json!({"prefix": &**path}),
        PathMatch::SeparatedPrefix(path) => json!({"path_separated_prefix": &**path}),
        PathMatch::Regex(regex) => json!({"safe_regex": {"regex": regex.source()}}),
    };
    out["match"]["case_sensitive"] = json!(matches.case_sensitive);
    let headers: Result<Vec<Value>, String> = matches.headers.iter().map(header_match).collect();
    out["match"]["headers"] = json!(headers?);
    if !matches.query.is_empty() || matches.fraction.is_some() {
        return Err("its match".into());
    }
    match &route.action {
        RouteAction::Forward(action) => out["route"] = forward(action)?,
        RouteAction::DirectResponse { status, body } => {
            out["direct_response"] = json!({"status": status, "body": {"inline_string": &**body}});
        }
        RouteAction::Redirect(_) => return Err("redirects".into()),
    }
    if let Some(fault) = &route.fault {
        let percent = |ppm: u32| json!({"numerator": ppm, "denominator": "MILLION"});
        let mut own = json!({});
        if let Some(abort) = &fault.abort {
            own["abort"] =
                json!({"http_status": abort.status, "percentage": percent(abort.fraction_ppm)});
        }
        if let Some(delay) = &fault.delay {
            own["delay"] = json!({"fixed_delay": duration(delay.fixed), "percentage": percent(delay.fraction_ppm)});
        }
        out["typed_per_filter_config"] = json!({
            "envoy.filters.http.fault": any("envoy.extensions.filters.http.fault.v3.HTTPFault", own)
        });
    }
    Ok(out)
}

fn header_match(header: &HeaderMatch) -> Result<Value, String> {
    let mut out = json!({"name": &*header.name, "invert_match": header.invert});
    match &header.value {
        ValueMatch::Present(present) => out["present_match"] = json!(present),
        ValueMatch::String(StringMatch::Exact(text)) => {
            out["string_match"] = json!({"exact": &**text});
        }
        ValueMatch::String(StringMatch::Prefix(text)) => {
            out["string_match"] = json!({"prefix": &**text});
        }
        ValueMatch::String(_) => return Err("its header match".into()),
    }
    Ok(out)
}

fn forward(action: &Forward) -> Result<Value, String> {
    let weighted: Vec<Value> = action
        .clusters
        .iter()
        .map(|c| json!({"name": &*c.cluster, "weight": c.weight}))
        .collect();
    let mut out = json!({"timeout": duration(action.timeout.unwrap_or(Nanos::ZERO))});
    match &action.clusters[..] {
        [one] => out["cluster"] = json!(&*one.cluster),
        _ => out["weighted_clusters"] = json!({"clusters": weighted}),
    }
    if action.path_rewrite != PathRewrite::None {
        return Err("rewrites".into());
    }
    if let Some(policy) = &action.retry {
        out["retry_policy"] = retry(policy);
    }
    let hashes = action.hash_policies.iter().map(|policy| match &policy.input {
        HashInput::Header(name) => Ok(json!({"header": {"header_name": &**name}, "terminal": policy.terminal})),
        _ => Err("its hash policy".to_owned()),
    });
    out["hash_policy"] = json!(hashes.collect::<Result<Vec<Value>, String>>()?);
    if !action.mirrors.is_empty() {
        return Err("mirrors".into());
    }
    Ok(out)
}

fn retry(policy: &RetryPolicy) -> Value {
    let tokens = [
        "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream",
        "retriable-4xx", "retriable-status-codes", "retriable-headers", "envoy-ratelimited",
        "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
    ];
    let on: Vec<&str> = tokens
        .into_iter()
        .filter(|token| RetryOn::from_token(token).is_some_and(|flag| policy.retry_on.any(flag)))
        .collect();
    let mut out = json!({
        "retry_on": on.join(","),
        "num_retries": policy.num_retries,
        "retriable_status_codes": policy.retriable_status_codes,
        "host_selection_retry_max_attempts": policy.host_selection_retry_max_attempts,
        "retry_back_off": {
            "base_interval": duration(policy.back_off_base),
            "max_interval": duration(policy.back_off_max),
        },
    });
    if let Some(timeout) = policy.per_try_timeout {
        out["per_try_timeout"] = json!(duration(timeout));
    }
    if policy.avoid_previous_hosts {
        let name = "envoy.retry_host_predicates.previous_hosts";
        let kind = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
        out["retry_host_predicate"] = json!([{"name": name, "typed_config": any(kind, json!({}))}]);
    }
    out
}

/// A listener at `port` of loopback whose connection manager takes its routes from `routes`.
pub(super) fn listener(name: &str, port: u16, routes: Value, access_log: &str) -> Value {
    let filter = |name: &str, kind: &str| {
        json!({"name": name, "typed_config": any(kind, json!({}))})
    };
    let format = json!({
        "n": "%REQ(X-REHEARSAL)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "endpoint": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    });
    let log = any(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        json!({"path": access_log, "log_format": {"json_format": format}}),
    );
    let mut manager = json!({
        "stat_prefix": name,
        "normalize_path": true,
        "access_log": [{"name": "log", "typed_config": log}],
        "http_filters": [
            filter("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
            filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ],
    });
    if let (Value::Object(manager), Value::Object(routes)) = (&mut manager, routes) {
        manager.extend(routes);
    }
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    any(
        "envoy.config.listener.v3.Listener",
        json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": any(kind, manager)}]}],
        }),
    )
}

/// A response to discovery, as a file.
pub(super) fn response(resources: Vec<Value>) -> Value {
    json!({"resources": resources})
}

/// Where a kind of resource is read from.
pub(super) fn source(path: &str) -> Value {
    json!({"path_config_source": {"path": path}, "resource_api_version": "V3"})
}
