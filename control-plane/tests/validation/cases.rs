//! From a case, which may be a fragment, to the smallest object that holds it.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

/// The object of a case.
pub(crate) fn whole_object(case: &Value) -> Value {
    let kind = case["kind"].as_str().unwrap();
    let fragment = &case["object"];
    let (kind, spec) = match kind {
        "exportTo" => exported(case),
        _ => match spec_around(kind, fragment) {
            Some((kind, spec)) => (kind, spec),
            None => (kind, fragment.clone()),
        },
    };
    let written = case["wrongType"].as_str().unwrap_or(kind);
    let mut metadata = json!({"name": case["configName"].as_str().unwrap_or("case")});
    if kind == "Sidecar" {
        // Where Istio's own test has them.
        metadata["namespace"] = json!("bar");
    }
    for key in ["namespace", "labels", "annotations"] {
        if !case[key].is_null() {
            metadata[key] = case[key].clone();
        }
    }
    json!({
        "apiVersion": api_version(kind),
        "kind": written,
        "metadata": metadata,
        "spec": spec,
    })
}

fn api_version(kind: &str) -> &'static str {
    match kind {
        "AuthorizationPolicy" | "RequestAuthentication" | "PeerAuthentication" => {
            "security.istio.io/v1"
        }
        "Telemetry" => "telemetry.istio.io/v1",
        _ => "networking.istio.io/v1",
    }
}

fn exported(case: &Value) -> (&'static str, Value) {
    let is = |key: &str| case[key].as_bool() == Some(true);
    let to = &case["object"];
    if is("isServiceEntry") {
        let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
        let spec = json!({"hosts": ["a.com"], "ports": ports, "exportTo": to});
        ("ServiceEntry", spec)
    } else if is("isDestinationRuleWithSelector") {
        let selector = json!({"matchLabels": {"app": "a"}});
        let spec = json!({"host": "a", "workloadSelector": selector, "exportTo": to});
        ("DestinationRule", spec)
    } else {
        ("DestinationRule", json!({"host": "a", "exportTo": to}))
    }
}

/// Kind and spec around a fragment; `None` for a whole object.
fn spec_around(kind: &str, fragment: &Value) -> Option<(&'static str, Value)> {
    let routes = json!([{"destination": {"host": "a.b"}}]);
    let root = |rule: Value| ("VirtualService", json!({"hosts": ["a.b"], "http": [rule]}));
    let routed = |key: &str| {
        let mut rule = json!({"route": routes.clone()});
        rule[key] = fragment.clone();
        root(rule)
    };
    // Instead of a route, where there is a fragment at all.
    let acting = |key: &str| match fragment {
        Value::Null => root(json!({"route": routes.clone()})),
        _ => root(json!({key: fragment.clone()})),
    };
    let policy = |policy: Value| {
        let spec = json!({"host": "a", "trafficPolicy": policy});
        ("DestinationRule", spec)
    };
    Some(match kind {
        "HTTPRoute" | "HTTPRoute(root)" => root(fragment.clone()),
        "HTTPRoute(delegate)" => ("VirtualService", json!({"http": [fragment]})),
        "RouteDestination[]" => {
            let spec = json!({"hosts": ["a.b"], "tcp": [{"route": fragment}]});
            ("VirtualService", spec)
        }
        "Destination" => root(json!({"route": [{"destination": fragment}]})),
        "CorsPolicy" => routed("corsPolicy"),
        "HTTPRetry" => routed("retries"),
        "HTTPRewrite" => routed("rewrite"),
        "RegexRewrite" => root(json!({
            "route": routes.clone(),
            "rewrite": {"uriRegexRewrite": fragment},
        })),
        "HTTPFaultInjection.Abort" => root(json!({
            "route": routes.clone(),
            "fault": {"abort": fragment, "delay": {"fixedDelay": "1s"}},
        })),
        "HTTPFaultInjection.Delay" => root(json!({
            "route": routes.clone(),
            "fault": {"delay": fragment, "abort": {"httpStatus": 500}},
        })),
        "HTTPRedirect" => acting("redirect"),
        "HTTPDirectResponse" => acting("directResponse"),
        "TrafficPolicy" => policy(fragment.clone()),
        "ConnectionPoolSettings" => policy(json!({"connectionPool": fragment})),
        "LoadBalancerSettings" => policy(json!({"loadBalancer": fragment})),
        "OutlierDetection" => policy(json!({"outlierDetection": fragment})),
        "Server" => ("Gateway", json!({"servers": [fragment]})),
        _ => return None,
    })
}
