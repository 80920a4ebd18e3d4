//! From random objects to such as Istio's validation accepts: what it refuses is taken out.

use serde_json::{Map, Value, json};

/// Mends an object, from the inside out.
pub fn accepted(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(accepted),
        Value::Object(map) => {
            map.values_mut().for_each(accepted);
            policy(map);
            route(map);
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// The blocks of a DestinationRule.
fn policy(map: &mut Map<String, Value>) {
    if let Some(Value::Array(ports)) = map.get_mut("portLevelSettings") {
        ports.retain(|settings| settings.as_object().is_some_and(|blocks| blocks.len() > 1));
    }
    let blocks = [
        "connectionPool",
        "portLevelSettings",
        "trafficPolicy",
        "fault",
    ];
    for key in blocks {
        if map.get(key).is_some_and(is_empty) {
            map.remove(key);
        }
    }
    if map.get("maglev").is_some_and(is_empty) {
        map.insert("maglev".into(), json!({"tableSize": 65_537}));
    }
    if map.get("mode") == Some(&json!("MUTUAL")) {
        map.insert("credentialName".into(), json!("client"));
    }
    if map.get("splitExternalLocalOriginErrors") != Some(&json!(true)) {
        map.remove("consecutiveLocalOriginFailures");
    }
    if map.get("h2UpgradePolicy") == Some(&json!("UPGRADE")) {
        map.remove("useClientProtocol");
    }
    if map.contains_key("workloadSelector") {
        map.remove("exportTo");
    }
}

/// The rules of a VirtualService.
fn route(map: &mut Map<String, Value>) {
    let replaces = map
        .get("redirect")
        .is_some_and(|to| to.get("prefixRewrite").is_some());
    if let (true, Some(Value::Array(matches))) = (replaces, map.get_mut("match")) {
        for uri in matches.iter_mut().filter_map(|one| one.get_mut("uri")) {
            let exact = uri.get("exact").and_then(Value::as_str).map(str::to_owned);
            if uri.get("prefix").is_none() {
                *uri = json!({"prefix": exact.unwrap_or_else(|| "/".into())});
            }
        }
    }
    if let Some(Value::Object(redirect)) = map.get_mut("redirect") {
        let leads = [
            "uri",
            "prefixRewrite",
            "authority",
            "scheme",
            "port",
            "derivePort",
        ];
        if !leads.iter().any(|key| redirect.contains_key(*key)) {
            redirect.insert("authority".into(), json!("moved.example"));
        }
    }
    let rewrites = map
        .get("rewrite")
        .is_some_and(|rewrite| rewrite.get("authority").is_some());
    let set = map
        .get_mut("headers")
        .and_then(|headers| headers.pointer_mut("/request/set"));
    if let Some(Value::Object(set)) = set {
        if rewrites || set.contains_key("host") {
            set.remove(":authority");
        }
        if rewrites {
            set.remove("host");
        }
    }
}
