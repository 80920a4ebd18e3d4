//! Proto JSON in one form: defaults left out, spans and counts as numbers, sets in order.

use serde_json::{Map, Value, json};

/// Fields whose value is Envoy's default, by the end of their path.
const DEFAULTS: &[(&str, &str)] = &[
    ("cluster.type", "\"STATIC\""),
    ("cluster.lb_policy", "\"ROUND_ROBIN\""),
    ("least_request_lb_config.choice_count", "2"),
    ("least_request_lb_config.active_request_bias", "1.0"),
    ("slow_start_config.aggression", "1.0"),
    ("slow_start_config.min_weight_percent", "10.0"),
    ("ring_hash_lb_config.minimum_ring_size", "1024"),
    ("ring_hash_lb_config.maximum_ring_size", "8388608"),
    ("ring_hash_lb_config.hash_function", "\"XX_HASH\""),
    ("maglev_lb_config.table_size", "65537"),
    ("common_lb_config.update_merge_window", "\"1s\""),
    ("common_http_protocol_options.idle_timeout", "\"3600s\""),
    ("http2_protocol_options.max_concurrent_streams", "1024"),
    ("outlier_detection.interval", "\"10s\""),
    ("outlier_detection.base_ejection_time", "\"30s\""),
    ("outlier_detection.max_ejection_time", "\"300s\""),
    ("outlier_detection.max_ejection_time_jitter", "\"0s\""),
    ("outlier_detection.max_ejection_percent", "10"),
    ("outlier_detection.consecutive_5xx", "5"),
    ("outlier_detection.enforcing_consecutive_5xx", "100"),
    ("outlier_detection.consecutive_gateway_failure", "5"),
    (
        "outlier_detection.enforcing_consecutive_gateway_failure",
        "0",
    ),
    ("outlier_detection.consecutive_local_origin_failure", "5"),
    (
        "outlier_detection.enforcing_consecutive_local_origin_failure",
        "100",
    ),
    ("outlier_detection.success_rate_minimum_hosts", "5"),
    ("outlier_detection.success_rate_request_volume", "100"),
    ("outlier_detection.success_rate_stdev_factor", "1900"),
    ("outlier_detection.enforcing_success_rate", "100"),
    (
        "outlier_detection.enforcing_local_origin_success_rate",
        "100",
    ),
    ("outlier_detection.failure_percentage_threshold", "85"),
    ("outlier_detection.failure_percentage_minimum_hosts", "5"),
    ("outlier_detection.failure_percentage_request_volume", "50"),
    ("outlier_detection.enforcing_failure_percentage", "0"),
    (
        "outlier_detection.enforcing_failure_percentage_local_origin",
        "0",
    ),
    (
        "outlier_detection.successful_active_health_check_uneject_host",
        "true",
    ),
    ("outlier_detection.always_eject_one_host", "false"),
    (
        "outlier_detection.split_external_local_origin_errors",
        "false",
    ),
    ("outlier_detection.detect_degraded_hosts", "false"),
    ("thresholds.max_connections", "1024"),
    ("thresholds.max_pending_requests", "1024"),
    ("thresholds.max_requests", "1024"),
    ("thresholds.max_retries", "3"),
    ("lb_endpoints.load_balancing_weight", "1"),
    ("lb_endpoints.health_status", "\"HEALTHY\""),
    (
        "headers_to_add.append_action",
        "\"APPEND_IF_EXISTS_OR_ADD\"",
    ),
    ("match.case_sensitive", "true"),
    ("redirect.response_code", "\"MOVED_PERMANENTLY\""),
    ("retry_policy.num_retries", "1"),
    ("retry_policy.host_selection_retry_max_attempts", "1"),
    ("connection_manager.normalize_path", "false"),
    ("connection_manager.use_remote_address", "false"),
    (
        "connection_manager.path_with_escaped_slashes_action",
        "\"KEEP_UNCHANGED\"",
    ),
];

/// Messages that say something by being there.
const MEANT_EMPTY: &[&str] = &[
    "http2_protocol_options",
    "use_downstream_protocol_config",
    "locality_weighted_lb_config",
    "source_ip",
];

/// Sets of text.
const SETS: &[&str] = &["retry_on"];

/// `value`, found at `path`, in the one form; `None` if it says nothing.
pub(crate) fn normal(path: &str, value: &Value) -> Option<Value> {
    let key = path.rsplit('.').next().unwrap_or_default();
    let whole = match value {
        Value::Null => return None,
        Value::Object(fields) => return object(path, key, fields),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| normal(path, item).unwrap_or(json!({})));
            let mut items: Vec<Value> = items.collect();
            match key {
                "lb_endpoints" | "endpoints" => items.sort_by_key(Value::to_string),
                "chains" => items.sort_by_key(|chain| chain["match"].to_string()),
                _ => {}
            }
            return (!items.is_empty()).then_some(Value::Array(items));
        }
        Value::String(text) if SETS.contains(&key) => {
            let mut tokens: Vec<&str> = text.split(',').filter(|token| !token.is_empty()).collect();
            tokens.sort_unstable();
            json!(tokens.join(","))
        }
        Value::String(text) => scalar(text),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float == (float as i64) as f64 => json!(float as i64),
            _ => value.clone(),
        },
        Value::Bool(_) => value.clone(),
    };
    let says_nothing = matches!(&whole, Value::String(text) if text.is_empty())
        || whole == json!(false) && !key.starts_with("present_match")
        || is_default(path, &whole);
    (!says_nothing).then_some(whole)
}

fn is_default(path: &str, value: &Value) -> bool {
    let defaults = DEFAULTS.iter().filter(|(end, _)| {
        path.strip_suffix(end)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(['.', '_']))
    });
    let mut defaults = defaults.filter_map(|(_, text)| serde_json::from_str(text).ok());
    defaults.any(|default: Value| {
        let default = match &default {
            Value::String(text) => scalar(text),
            Value::Number(number) if number.is_f64() => json!(number.as_f64().map(|f| f as i64)),
            other => other.clone(),
        };
        default == *value
    })
}

/// Spans in nanoseconds, 64-bit numbers (which proto JSON quotes) as numbers.
fn scalar(text: &str) -> Value {
    let nanos = |text: &str| -> Option<u64> {
        let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
        let rest = format!("{rest:0<9}");
        let seconds: u64 = seconds.parse().ok()?;
        seconds
            .checked_mul(1_000_000_000)?
            .checked_add(rest.parse().ok()?)
    };
    if let Some(span) = text.strip_suffix('s').and_then(nanos) {
        return json!(format!("{span} ns"));
    }
    match text.parse::<u64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    }
}

fn object(path: &str, key: &str, fields: &Map<String, Value>) -> Option<Value> {
    let only = |names: &[&str]| fields.keys().all(|name| names.contains(&name.as_str()));
    if fields.is_empty() && MEANT_EMPTY.contains(&key) {
        return Some(json!(true));
    }
    // Without it Envoy's threshold is 50.
    if key == "healthy_panic_threshold" {
        return Some(
            fields
                .get("value")
                .map_or(json!(0), |value| normal("value", value).unwrap_or(json!(0))),
        );
    }
    if only(&["numerator", "denominator"]) && (!fields.is_empty() || key == "percentage") {
        return share(fields);
    }
    // Wrapped numbers and runtime values whose key nobody sets.
    if let (Some(value), true) = (fields.get("value"), only(&["value"])) {
        return normal(path, value);
    }
    if let (Some(value), true) = (
        fields.get("default_value"),
        only(&["default_value", "runtime_key"]),
    ) {
        return normal(path, value);
    }
    let mut kept = Map::new();
    for (name, value) in fields {
        if let Some(value) = normal(&format!("{path}.{name}"), value) {
            kept.insert(name.clone(), value);
        }
    }
    match key {
        "retry_back_off" => drop_default_maximum(&mut kept),
        "route" => name_only_cluster(&mut kept),
        _ => {}
    }
    if kept.is_empty() && MEANT_EMPTY.contains(&key) {
        return Some(json!(true));
    }
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// Everything is everything, whatever it is counted in; other shares depend on the denominator.
fn share(fields: &Map<String, Value>) -> Option<Value> {
    let numerator = fields.get("numerator").and_then(Value::as_u64).unwrap_or(0);
    let denominator = match fields.get("denominator").and_then(Value::as_str) {
        Some("MILLION") => 1_000_000,
        Some("TEN_THOUSAND") => 10_000,
        _ => 100,
    };
    match numerator {
        0 => None,
        all if all >= denominator => Some(json!("all")),
        some => Some(json!(format!("{some}/{denominator}"))),
    }
}

/// A weighted set of one is that one.
fn name_only_cluster(route: &mut Map<String, Value>) {
    let entries = route.get("weighted_clusters");
    let entries = entries.and_then(|set| set["clusters"].as_array());
    if let Some([entry]) = entries.map(Vec::as_slice)
        && let Some(fields) = entry.as_object()
        && fields.keys().all(|key| key == "name" || key == "weight")
    {
        let name = entry["name"].clone();
        route.remove("weighted_clusters");
        route.insert("cluster".to_owned(), name);
    }
}

/// The longest back-off is ten times the base unless stated.
fn drop_default_maximum(fields: &mut Map<String, Value>) {
    let span = |name: &str| {
        let text = fields.get(name)?.as_str()?;
        text.strip_suffix(" ns")?.parse::<u64>().ok()
    };
    if let (Some(base), Some(max)) = (span("base_interval"), span("max_interval"))
        && max == base * 10
    {
        fields.remove("max_interval");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_looks_the_same() {
        for (path, one, other) in [
            ("route.timeout", json!("1s"), json!("1.000s")),
            ("cluster.lb_policy", json!("ROUND_ROBIN"), json!(null)),
            (
                "cluster.outlier_detection",
                json!({ "interval": "10s", "consecutive_5xx": 3 }),
                json!({ "consecutive_5xx": 3, "enforcing_consecutive_5xx": 100 }),
            ),
            (
                "runtime_fraction.default_value",
                json!({ "numerator": 100 }),
                json!({ "numerator": 1_000_000, "denominator": "MILLION" }),
            ),
            (
                "route.retry_policy",
                json!({ "retry_on": ",5xx,reset", "host_selection_retry_max_attempts": "5" }),
                json!({ "retry_on": "reset,5xx", "host_selection_retry_max_attempts": 5 }),
            ),
            (
                "common_lb_config",
                json!({ "healthy_panic_threshold": {} }),
                json!({ "healthy_panic_threshold": { "value": 0.0 } }),
            ),
        ] {
            assert_eq!(normal(path, &one), normal(path, &other), "{path}");
        }
    }

    #[test]
    fn what_means_something_else_does_not() {
        for (path, one, other) in [
            ("route.timeout", json!("1s"), json!("1.001s")),
            (
                "common_lb_config",
                json!({ "healthy_panic_threshold": {} }),
                json!({}),
            ),
            (
                "runtime_fraction.default_value",
                json!({ "numerator": 50 }),
                json!({ "numerator": 500_000, "denominator": "MILLION" }),
            ),
            ("headers.present_match", json!(false), json!(true)),
            (
                "explicit_http_config",
                json!({ "http2_protocol_options": {} }),
                json!({}),
            ),
        ] {
            assert_ne!(normal(path, &one), normal(path, &other), "{path}");
        }
    }
}
