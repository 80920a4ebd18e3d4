//! Cases of single requests, and of many alike, one after the other through one proxy.

use crate::case::Case;
use crate::client::{Answer, Ask, Hit, World};
use crate::golden::Answers;
use proxy_core::contract::StateChange;
use proxy_core::head::{Headers, RequestHead};
use proxy_core::telemetry::{Details, Flag};
use proxy_core::time::Nanos;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What an item of a case came to.
pub enum Line {
    /// In the shape of the recorded ones.
    Single(Value),
    Many(Answers),
    /// Over the whole case, by Envoy's names.
    Statistics(Value),
}

/// One line for each item of the case, unless the proxy refuses its configuration.
pub fn lines(case: &Case) -> Result<Vec<Line>, String> {
    let mut world = World::new(case, &case.resources(), 1);
    if let Some(reason) = world.refused {
        return Err(reason);
    }
    let items = case.spec["requests"].as_array().unwrap();
    let mut lines = Vec::new();
    for item in items {
        if item["set"].is_object() {
            world.script(case, &item["set"]);
            world.wait(Nanos::from_millis(30));
        }
        world.wait(Nanos::from_millis(item["wait_ms"].as_u64().unwrap_or(0)));
        let number = |key: &str| item[key].as_u64().unwrap_or(1) as usize;
        let asks = vec![ask(case, item); number("repeat")];
        let answers = world.run(&asks, number("concurrency"));
        lines.push(match item["repeat"].is_u64() {
            true => Line::Many(count(case, &answers)),
            false => Line::Single(line(case, item, &answers[0])),
        });
    }
    if case.spec["stats"].is_string() {
        lines.push(Line::Statistics(statistics(&world)));
    }
    Ok(lines)
}

fn statistics(world: &World) -> Value {
    let count =
        |such: fn(&StateChange) -> bool| world.changes.iter().filter(|change| such(change)).count();
    let ejected = count(|change| matches!(change, StateChange::Ejected { .. }));
    json!({
        "ejections_active": ejected - count(|change| matches!(change, StateChange::Unejected { .. })),
        "ejections_enforced_total": ejected,
        "ejections_overflow": count(|change| matches!(change, StateChange::EjectionOverflow { .. })),
        "upstream_cx_total": world.connects,
        "upstream_rq_pending_overflow": count(|change| matches!(change, StateChange::Overflow { .. })),
    })
}

pub fn ask(case: &Case, item: &Value) -> Ask {
    let mut headers = Headers::default();
    let mut add = |name: &str, value: &Value| {
        let value = value.as_str().unwrap().trim();
        headers.append(name.to_ascii_lowercase().into(), value.as_bytes());
    };
    match &item["headers"] {
        Value::Object(map) => map.iter().for_each(|(name, value)| add(name, value)),
        Value::Array(list) => list
            .iter()
            .for_each(|pair| add(pair[0].as_str().unwrap(), &pair[1])),
        _ => {}
    }
    let body = item["body"].as_str().map_or(0, str::len) as u64;
    let body = body + item["body_bytes"].as_u64().unwrap_or(0);
    if body > 0 {
        headers.append("content-length".into(), body.to_string().as_bytes());
    }
    let head = RequestHead {
        method: item["method"].as_str().unwrap_or("GET").into(),
        scheme: "http".into(),
        authority: case.authority(item).into(),
        path: item["path"].as_str().unwrap_or("/").into(),
        headers,
        id: None,
    };
    Ask {
        head: Arc::new(head),
        body,
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Header lines without those that are not recorded.
fn headers(headers: &Headers, dropped: &[&str]) -> Value {
    let lines = headers
        .0
        .iter()
        .filter(|(name, _)| !dropped.contains(&&**name));
    lines
        .map(|(name, value)| json!([&**name, text(value.as_bytes())]))
        .collect()
}

fn received(hit: &Hit) -> Map<String, Value> {
    let dropped = [
        "host",
        "x-request-id",
        "x-forwarded-proto",
        "content-length",
        "transfer-encoding",
    ];
    let mut map = Map::new();
    map.insert("method".into(), json!(&*hit.head.method));
    map.insert("path".into(), json!(&*hit.head.path));
    map.insert("authority".into(), json!(&*hit.head.authority));
    map.insert("headers".into(), headers(&hit.head.headers, &dropped));
    map
}

fn cluster(answer: &Answer) -> Option<&str> {
    let log = answer.log.as_ref()?;
    let known = !log.flags.has(Flag::NC);
    answer.cluster.as_deref().filter(|_| known)
}

fn line(case: &Case, item: &Value, answer: &Answer) -> Value {
    let log = answer.log.as_ref().unwrap();
    let dropped = [
        "date",
        "server",
        "x-envoy-upstream-service-time",
        "content-length",
        "connection",
        "transfer-encoding",
    ];
    let route = log
        .decision
        .as_ref()
        .and_then(|d| d.route())
        .map(|route| &route.name);
    let primary: Vec<&Hit> = answer.hits.iter().filter(|hit| !hit.mirrored).collect();
    let id = |hit: &Hit| case.endpoints[hit.endpoint].id.clone();
    let mut line = json!({
        "status": answer.status,
        "response_headers": answer.head.as_ref().map(|head| headers(&head.headers, &dropped)),
        "flags": log.flags.to_string(),
        "details": log.details.to_string(),
        "route": route,
        "cluster": cluster(answer),
        "endpoint": answer.endpoint.map(|address| case.endpoint(address)),
        "attempts": log.attempts,
        "tried": primary.iter().map(|hit| id(hit)).collect::<Vec<_>>(),
    });
    if let (Some(body), true) = (&answer.body, log.details != Details::ViaUpstream) {
        line["body"] = json!(body);
    }
    if let Some(last) = primary.last() {
        line["received"] = Value::Object(received(last));
    }
    let mut shadows: Vec<Value> = Vec::new();
    for hit in answer.hits.iter().filter(|hit| hit.mirrored) {
        let mut shadow = received(hit);
        shadow.insert("endpoint".into(), json!(id(hit)));
        shadows.push(Value::Object(shadow));
    }
    shadows.sort_by_key(|shadow| shadow["endpoint"].to_string());
    if !shadows.is_empty() {
        line["shadows"] = json!(shadows);
    }
    if let Some(step) = item["measure_ms"].as_u64() {
        let steps = answer.took.as_millis_f64() / step as f64;
        line["ms_about"] = json!(steps.round_ties_even() as u64 * step);
    }
    line
}

/// Answers alike, counted.
pub fn count(case: &Case, answers: &[Answer]) -> Answers {
    let mut counted = Answers::default();
    let or_none = |text: Option<&str>| text.unwrap_or("None").to_owned();
    for answer in answers {
        let log = answer.log.as_ref().unwrap();
        counted.add("status", answer.status.to_string());
        counted.add("flags", log.flags.to_string());
        counted.add("cluster", or_none(cluster(answer)));
        counted.add("attempts", log.attempts.to_string());
        counted.add(
            "endpoint",
            or_none(answer.endpoint.map(|address| case.endpoint(address))),
        );
        for hit in &answer.hits {
            counted.add("hits", case.endpoints[hit.endpoint].id.clone());
        }
    }
    counted
}
