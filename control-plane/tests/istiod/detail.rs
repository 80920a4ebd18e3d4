//! Routes, clusters and endpoints in the shape of Envoy's proto JSON, as far as they are modelled,
//! from both sides: what istiod sent, and what this translation makes.

use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, Discovery, EndpointHealth, Forward, HashInput, HeaderMatch, HeaderMutations,
    HttpProtocol, LbPolicy, LoadAssignment, LocalityLb, PathMatch, PathRewrite, RedirectPath,
    RetryOn, Route, RouteAction, StringMatch, ValueMatch,
};
use serde_json::{Map, Value, json};

fn seconds(time: Nanos) -> Value {
    json!(time.as_secs_f64())
}

/// `1.5s` as a number.
fn parsed_seconds(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => json!(text.trim_end_matches('s').parse::<f64>().unwrap()),
        None => Value::Null,
    }
}

fn string_match(wanted: &StringMatch) -> Value {
    match wanted {
        StringMatch::Exact(text) => json!({ "exact": &**text }),
        StringMatch::Prefix(text) => json!({ "prefix": &**text }),
        StringMatch::Regex(regex) => json!({ "regex": regex.source() }),
        other => json!(format!("{other:?}")),
    }
}

fn value_match(value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Present(present) => json!({ "present": present }),
        ValueMatch::String(wanted) => string_match(wanted),
    }
}

fn header(header: &HeaderMatch) -> Value {
    json!([
        &*header.name,
        value_match(&header.value),
        header.invert,
        header.treat_missing_as_empty
    ])
}

fn mutations(mutations: &HeaderMutations) -> Value {
    let add = mutations
        .add
        .iter()
        .map(|h| json!([&*h.name, &*h.value, h.append]));
    json!({ "remove": mutations.remove, "add": add.collect::<Vec<_>>() })
}

fn recorded_string(value: &Value) -> Value {
    match &value["safe_regex"]["regex"] {
        Value::Null => value.clone(),
        regex => json!({ "regex": regex }),
    }
}

fn recorded_mutations(value: &Value, kind: &str) -> Value {
    let list = |key: &str| {
        value[format!("{kind}_headers_to_{key}")]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let lower = |value: &Value| value.as_str().unwrap().to_ascii_lowercase();
    let add = list("add").into_iter().map(|h| {
        let append = h["append_action"].as_str().is_none();
        json!([lower(&h["header"]["key"]), h["header"]["value"], append])
    });
    let remove: Vec<String> = list("remove").iter().map(lower).collect();
    json!({ "remove": remove, "add": add.collect::<Vec<_>>() })
}

/// Our route.
pub fn ours(route: &Route) -> Value {
    let path = match &route.matches.path {
        PathMatch::Exact(text) => json!({ "path": &**text }),
        PathMatch::Prefix(text) => json!({ "prefix": &**text }),
        PathMatch::SeparatedPrefix(text) => json!({ "path_separated_prefix": &**text }),
        PathMatch::Regex(regex) => json!({ "regex": regex.source() }),
    };
    let query = route
        .matches
        .query
        .iter()
        .map(|q| json!([&*q.name, value_match(&q.value)]));
    let action = match &route.action {
        RouteAction::Forward(forward) => forwarded(forward),
        RouteAction::Redirect(redirect) => {
            let path = match &redirect.path {
                RedirectPath::Keep => Value::Null,
                RedirectPath::Replace(path) => json!({ "path": &**path }),
                RedirectPath::Prefix(prefix) => json!({ "prefix": &**prefix }),
            };
            json!([
                redirect.status,
                redirect.scheme,
                redirect.host,
                redirect.port,
                path
            ])
        }
        RouteAction::DirectResponse { status, body } => json!([status, &**body]),
    };
    let fault = route.fault.as_ref().map(|fault| {
        let delay = fault
            .delay
            .as_ref()
            .map(|d| json!([seconds(d.fixed), d.fraction_ppm]));
        let abort = fault.abort.as_ref().map(|a| match a.grpc_status {
            Some(code) => json!(["grpc", code, a.fraction_ppm]),
            None => json!(["http", a.status, a.fraction_ppm]),
        });
        json!([delay, abort])
    });
    json!({
        "path": path,
        "case_sensitive": route.matches.case_sensitive,
        "headers": route.matches.headers.iter().map(header).collect::<Vec<_>>(),
        "query": query.collect::<Vec<_>>(),
        "action": action,
        "request_headers": mutations(&route.request_headers),
        "response_headers": mutations(&route.response_headers),
        "fault": fault,
    })
}

fn forwarded(forward: &Forward) -> Value {
    let entries = forward.clusters.iter().map(|entry| {
        json!([
            &*entry.cluster,
            if forward.clusters.len() == 1 {
                1
            } else {
                entry.weight
            },
            mutations(&entry.request_headers),
            mutations(&entry.response_headers),
            entry.host_rewrite,
        ])
    });
    let rewrite = match &forward.path_rewrite {
        PathRewrite::None => Value::Null,
        PathRewrite::Prefix(prefix) => json!(&**prefix),
        PathRewrite::Regex {
            pattern,
            substitution,
        } => json!([pattern.source(), &**substitution]),
    };
    let retry = forward.retry.as_ref().map(|retry| {
        let back_off =
            (retry.back_off_base != Nanos::from_millis(25)).then(|| seconds(retry.back_off_base));
        json!([
            retry.num_retries,
            retry.retry_on.0,
            retry.retriable_status_codes,
            retry.per_try_timeout.map(seconds),
            retry.avoid_previous_hosts,
            retry.host_selection_retry_max_attempts,
            back_off,
            retry.previous_priorities_update_frequency,
        ])
    });
    let hash = forward
        .hash_policies
        .iter()
        .map(|policy| match &policy.input {
            HashInput::Header(name) => json!(["header", &**name]),
            HashInput::Cookie { name, ttl, .. } => json!(["cookie", &**name, ttl.map(seconds)]),
            HashInput::SourceIp => json!(["source_ip"]),
            HashInput::Query(name) => json!(["query", &**name]),
        });
    let mirrors = forward.mirrors.iter();
    json!({
        "clusters": entries.collect::<Vec<_>>(),
        "rewrite": rewrite,
        "host_rewrite": forward.host_rewrite,
        "timeout": forward.timeout.map_or(json!(0.0), seconds),
        "max_grpc_timeout": forward.max_grpc_timeout.map(seconds),
        "retry": retry,
        "hash": hash.collect::<Vec<_>>(),
        "mirrors": mirrors.map(|m| json!([&*m.cluster, m.fraction.numerator])).collect::<Vec<_>>(),
    })
}

/// istiod's route.
pub fn recorded(route: &Value) -> Value {
    let matches = &route["match"];
    let path = ["path", "prefix", "path_separated_prefix"]
        .iter()
        .find(|key| matches[**key].is_string())
        .map(|key| json!({ *key: matches[*key] }))
        .unwrap_or_else(|| json!({ "regex": matches["safe_regex"]["regex"] }));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let flag = |value: &Value| value.as_bool().unwrap_or(false);
    let matched = |m: &Value| match m["present_match"].as_bool() {
        Some(present) => json!({ "present": present }),
        None => recorded_string(&m["string_match"]),
    };
    let headers = list(&matches["headers"]).into_iter().map(|h| {
        let missing = flag(&h["treat_missing_header_as_empty"]);
        let name = h["name"].as_str().unwrap().to_ascii_lowercase();
        json!([name, matched(&h), flag(&h["invert_match"]), missing])
    });
    let query = list(&matches["query_parameters"]).into_iter();
    let fault = &route["typed_per_filter_config"]["envoy.filters.http.fault"];
    let ppm = |value: &Value| value["numerator"].as_u64().unwrap_or(0);
    let fault = fault.is_object().then(|| {
        let delay = &fault["delay"];
        let delay = delay.is_object().then(|| {
            json!([
                parsed_seconds(&delay["fixed_delay"]),
                ppm(&delay["percentage"])
            ])
        });
        let abort = &fault["abort"];
        let abort = abort.is_object().then(|| match &abort["http_status"] {
            Value::Null => json!(["grpc", abort["grpc_status"], ppm(&abort["percentage"])]),
            status => json!(["http", status, ppm(&abort["percentage"])]),
        });
        json!([delay, abort])
    });
    json!({
        "path": path,
        "case_sensitive": matches["case_sensitive"].as_bool().unwrap_or(true),
        "headers": headers.collect::<Vec<_>>(),
        "query": query.map(|q| json!([q["name"], matched(&q)])).collect::<Vec<_>>(),
        "action": recorded_action(route),
        "request_headers": recorded_mutations(route, "request"),
        "response_headers": recorded_mutations(route, "response"),
        "fault": fault,
    })
}

fn recorded_action(route: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if let Some(response) = route.get("direct_response") {
        let body = response["body"]["inline_string"].as_str().unwrap_or("");
        return json!([response["status"], body]);
    }
    if let Some(redirect) = route.get("redirect") {
        let status = match redirect["response_code"].as_str() {
            None => 301,
            Some("FOUND") => 302,
            Some("SEE_OTHER") => 303,
            Some("TEMPORARY_REDIRECT") => 307,
            Some("PERMANENT_REDIRECT") => 308,
            Some(other) => panic!("{other}"),
        };
        let stated = redirect["path_redirect"]
            .as_str()
            .filter(|path| !path.is_empty());
        let path = match (&json!(stated), &redirect["prefix_rewrite"]) {
            (Value::Null, Value::Null) => Value::Null,
            (Value::Null, prefix) => json!({ "prefix": prefix }),
            (path, _) => json!({ "path": path }),
        };
        return json!([
            status,
            redirect["scheme_redirect"],
            redirect["host_redirect"],
            redirect["port_redirect"],
            path
        ]);
    }
    let action = &route["route"];
    let none = || json!({ "remove": [], "add": [] });
    let clusters: Vec<Value> = match action["cluster"].as_str() {
        Some(name) => vec![json!([name, 1, none(), none(), null])],
        None => list(&action["weighted_clusters"]["clusters"])
            .iter()
            .map(|c| {
                json!([
                    c["name"],
                    c["weight"],
                    recorded_mutations(c, "request"),
                    recorded_mutations(c, "response"),
                    c["host_rewrite_literal"],
                ])
            })
            .collect(),
    };
    let mut clusters = clusters;
    if let [single] = &mut clusters[..] {
        single[1] = json!(1);
    }
    let regex = &action["regex_rewrite"];
    let rewrite = match regex {
        Value::Null => action["prefix_rewrite"].clone(),
        _ => json!([regex["pattern"]["regex"], regex["substitution"]]),
    };
    let retry = &action["retry_policy"];
    let retry = retry.is_object().then(|| {
        let tokens = retry["retry_on"]
            .as_str()
            .unwrap()
            .split(',')
            .filter_map(RetryOn::from_token);
        let codes = retry["retriable_status_codes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        json!([
            retry["num_retries"],
            tokens.fold(RetryOn::default(), |all, one| all | one).0,
            codes,
            parsed_seconds(&retry["per_try_timeout"]),
            retry["retry_host_predicate"].is_array(),
            number(&retry["host_selection_retry_max_attempts"], 1),
            parsed_seconds(&retry["retry_back_off"]["base_interval"]),
            retry["retry_priority"]["typed_config"]["update_frequency"],
        ])
    });
    let hash = list(&action["hash_policy"]).into_iter().map(|h| {
        if let Some(header) = h.get("header") {
            let name = header["header_name"].as_str().unwrap().to_ascii_lowercase();
            json!(["header", name])
        } else if let Some(cookie) = h.get("cookie") {
            json!(["cookie", cookie["name"], parsed_seconds(&cookie["ttl"])])
        } else if let Some(query) = h.get("query_parameter") {
            json!(["query", query["name"]])
        } else {
            json!(["source_ip"])
        }
    });
    let mirrors = list(&action["request_mirror_policies"])
        .into_iter()
        .map(|m| {
            let value = &m["runtime_fraction"]["default_value"];
            let scale = match value["denominator"].as_str() {
                Some("MILLION") => 1,
                Some("TEN_THOUSAND") => 100,
                _ => 10_000,
            };
            json!([
                m["cluster"],
                value["numerator"].as_u64().unwrap_or(0) * scale
            ])
        });
    json!({
        "clusters": clusters,
        "rewrite": rewrite,
        "host_rewrite": action["host_rewrite_literal"],
        "timeout": parsed_seconds(&action["timeout"]),
        "max_grpc_timeout": parsed_seconds(&action["max_grpc_timeout"]),
        "retry": retry,
        "hash": hash.collect::<Vec<_>>(),
        "mirrors": mirrors.collect::<Vec<_>>(),
    })
}

/// Our cluster.
pub fn our_cluster(cluster: &Cluster) -> Value {
    let kind = match &cluster.discovery {
        Discovery::Eds => "EDS",
        Discovery::Static(_) => "STATIC",
        Discovery::StrictDns { .. } => "STRICT_DNS",
        Discovery::LogicalDns { .. } => "LOGICAL_DNS",
        Discovery::OriginalDst { .. } => "ORIGINAL_DST",
    };
    let (policy, size) = match &cluster.lb_policy {
        LbPolicy::RoundRobin => ("ROUND_ROBIN", None),
        LbPolicy::LeastRequest { .. } => ("LEAST_REQUEST", None),
        LbPolicy::Random => ("RANDOM", None),
        LbPolicy::RingHash {
            minimum_ring_size, ..
        } => ("RING_HASH", Some(*minimum_ring_size)),
        LbPolicy::Maglev { table_size, .. } => ("MAGLEV", Some(*table_size)),
        LbPolicy::PeakEwma { .. } => ("PEAK_EWMA", None),
        LbPolicy::ClusterProvided => ("CLUSTER_PROVIDED", None),
    };
    let limits = &cluster.circuit_breakers;
    let outlier = cluster.outlier_detection.as_ref().map(|o| {
        json!([
            seconds(o.interval),
            seconds(o.base_ejection_time),
            o.max_ejection_percent,
            o.consecutive_5xx,
            o.enforcing_consecutive_5xx,
            o.consecutive_gateway_failure,
            o.enforcing_consecutive_gateway_failure,
            o.split_external_local_origin_errors,
            o.consecutive_local_origin_failure,
            o.enforcing_consecutive_local_origin_failure,
            o.success_rate.enforcing,
            o.enforcing_local_origin_success_rate,
        ])
    });
    let slow_start = cluster
        .slow_start
        .map(|s| json!([seconds(s.window), s.aggression, s.min_weight_percent]));
    let budget = limits
        .retry_budget
        .map(|b| json!([b.budget_percent, b.min_retry_concurrency]));
    json!({
        "type": kind,
        "lb": [policy, size],
        "connect_timeout": seconds(cluster.connect_timeout),
        "limits": [limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries],
        "outlier": outlier,
        "panic": cluster.healthy_panic_threshold_percent,
        "requests_per_connection": cluster.max_requests_per_connection,
        "concurrent_streams": cluster.max_concurrent_streams,
        "idle_timeout": cluster.idle_timeout.map(seconds),
        "slow_start": slow_start,
        "retry_budget": budget,
        "locality_lb": match cluster.locality_lb {
            LocalityLb::None => None,
            LocalityLb::Weighted => Some("locality_weighted_lb_config"),
            LocalityLb::ZoneAware(_) => Some("zone_aware_lb_config"),
        },
        "protocol": match cluster.http_protocol {
            HttpProtocol::Http1 => "http1",
            HttpProtocol::Http2 => "http2",
            HttpProtocol::UseDownstream => "downstream",
        },
    })
}

/// istiod's cluster.
pub fn recorded_cluster(cluster: &Value) -> Value {
    let policy = cluster["lb_policy"].as_str().unwrap_or("ROUND_ROBIN");
    let policy = if cluster["name"] == "BlackHoleCluster" {
        "LEAST_REQUEST"
    } else {
        policy
    };
    let size = match policy {
        "RING_HASH" => json!(number(
            &cluster["ring_hash_lb_config"]["minimum_ring_size"],
            1024
        )),
        "MAGLEV" => json!(number(&cluster["maglev_lb_config"]["table_size"], 65_537)),
        _ => Value::Null,
    };
    let limits = &cluster["circuit_breakers"]["thresholds"][0];
    let limit = |key: &str| number(&limits[key], u64::from(u32::MAX));
    let o = &cluster["outlier_detection"];
    let time = |key: &str, default: f64| match parsed_seconds(&o[key]) {
        Value::Null => json!(default),
        value => value,
    };
    let outlier = o.is_object().then(|| {
        json!([
            time("interval", 10.0),
            time("base_ejection_time", 30.0),
            number(&o["max_ejection_percent"], 10),
            number(&o["consecutive_5xx"], 5),
            number(&o["enforcing_consecutive_5xx"], 100),
            number(&o["consecutive_gateway_failure"], 5),
            number(&o["enforcing_consecutive_gateway_failure"], 0),
            o["split_external_local_origin_errors"]
                .as_bool()
                .unwrap_or(false),
            number(&o["consecutive_local_origin_failure"], 5),
            number(&o["enforcing_consecutive_local_origin_failure"], 100),
            number(&o["enforcing_success_rate"], 100),
            number(&o["enforcing_local_origin_success_rate"], 100),
        ])
    });
    let slow_start = ["least_request_lb_config", "round_robin_lb_config"]
        .iter()
        .map(|key| &cluster[*key]["slow_start_config"])
        .find(|config| config.is_object())
        .map(|config| {
            let least = config["min_weight_percent"]["value"].as_f64();
            json!([
                parsed_seconds(&config["slow_start_window"]),
                config["aggression"]["default_value"]
                    .as_f64()
                    .unwrap_or(1.0),
                least.unwrap_or(10.0),
            ])
        });
    let budget = &limits["retry_budget"];
    let budget = budget.is_object().then(|| {
        let percent = budget["budget_percent"]["value"].as_f64();
        json!([
            percent.unwrap_or(20.0),
            number(&budget["min_retry_concurrency"], 3)
        ])
    });
    let common = &cluster["common_lb_config"];
    let locality_lb = ["locality_weighted_lb_config", "zone_aware_lb_config"]
        .iter()
        .find(|key| common.get(**key).is_some());
    let empty = Value::Object(Map::new());
    let options = cluster["typed_extension_protocol_options"]
        .get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
        .unwrap_or(&empty);
    let protocol = if options.get("use_downstream_protocol_config").is_some() {
        "downstream"
    } else if options["explicit_http_config"]
        .get("http2_protocol_options")
        .is_some()
    {
        "http2"
    } else {
        "http1"
    };
    json!({
        "type": cluster["type"].as_str().unwrap_or("STATIC"),
        "lb": [policy, size],
        "connect_timeout": parsed_seconds(&cluster["connect_timeout"]),
        "limits": [limit("max_connections"), limit("max_pending_requests"), limit("max_requests"), limit("max_retries")],
        "outlier": outlier,
        "panic": cluster["common_lb_config"]["healthy_panic_threshold"]["value"].as_f64().unwrap_or(0.0) as u32,
        "requests_per_connection": number(&options["common_http_protocol_options"]["max_requests_per_connection"], 0),
        "concurrent_streams": number(&options["explicit_http_config"]["http2_protocol_options"]["max_concurrent_streams"], 1024),
        "idle_timeout": match parsed_seconds(&options["common_http_protocol_options"]["idle_timeout"]) {
            Value::Null => json!(3600.0),
            value => value,
        },
        "slow_start": slow_start,
        "retry_budget": budget,
        "locality_lb": locality_lb,
        "protocol": protocol,
    })
}

fn number(value: &Value, default: u64) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        value => value.as_u64().unwrap_or(default),
    }
}

/// Our endpoints: locality, priority, weight, and each address with its weight and health.
pub fn our_endpoints(assignment: &LoadAssignment) -> Value {
    let localities = assignment.localities.iter().map(|l| {
        let endpoints = l.endpoints.iter();
        let mut list: Vec<Value> = endpoints
            .map(|e| {
                let healthy = e.health == EndpointHealth::Healthy;
                json!([e.address.to_string(), e.weight, e.mutual_tls, healthy])
            })
            .collect();
        list.sort_by_key(Value::to_string);
        json!([&*l.locality, l.priority, l.weight, list])
    });
    sorted(localities.collect())
}

fn sorted(mut list: Vec<Value>) -> Value {
    list.sort_by_key(Value::to_string);
    json!(list)
}

/// istiod's endpoints.
pub fn recorded_endpoints(assignment: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let localities = list(&assignment["endpoints"]).into_iter().map(|l| {
        let part = |key: &str| l["locality"][key].as_str().map(str::to_owned);
        let parts: Vec<String> = ["region", "zone", "sub_zone"]
            .iter()
            .map_while(|key| part(key))
            .collect();
        let mut endpoints: Vec<Value> = list(&l["lb_endpoints"])
            .iter()
            .map(|e| {
                let socket = &e["endpoint"]["address"]["socket_address"];
                let address = socket["address"].as_str().unwrap_or("");
                let metadata = &e["metadata"]["filter_metadata"]["envoy.transport_socket_match"];
                let mutual = metadata["tlsMode"].as_str() == Some("istio");
                json!([
                    format!("{address}:{}", socket["port_value"]),
                    number(&e["load_balancing_weight"], 1),
                    mutual,
                    matches!(
                        e["health_status"].as_str(),
                        None | Some("HEALTHY" | "UNKNOWN")
                    )
                ])
            })
            .collect();
        endpoints.sort_by_key(Value::to_string);
        let weight = number(&l["load_balancing_weight"], 0);
        json!([
            parts.join("/"),
            number(&l["priority"], 0),
            weight,
            endpoints
        ])
    });
    sorted(localities.collect())
}
