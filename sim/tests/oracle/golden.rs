//! What was recorded, and how it is compared.

use crate::stats::{Counts, largest_gap, same_distribution};
use serde_json::Value;
use std::path::Path;

/// The recorded lines of a routing case.
pub fn lines(folder: &Path, case: &str) -> Vec<Value> {
    let path = folder.join("golden").join(format!("{case}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Header lines by name: their order beyond that tells nothing.
fn by_name(headers: &Value) -> Value {
    let mut lines = headers.as_array().cloned().unwrap_or_default();
    lines.sort_by_key(|line| line[0].to_string());
    Value::Array(lines)
}

fn normal(key: &str, value: &Value) -> Value {
    match key {
        "response_headers" => by_name(value),
        "received" if value.is_object() => {
            let mut value = value.clone();
            value["headers"] = by_name(&value["headers"]);
            value
        }
        "shadows" if value.is_array() => value
            .as_array()
            .unwrap()
            .iter()
            .map(|one| normal("received", one))
            .collect(),
        // What the operating system said of a connection is not modelled.
        "details" => match value.as_str().and_then(|text| text.split_once('|')) {
            Some((reason, _)) => format!("{reason}}}").into(),
            None => value.clone(),
        },
        _ => value.clone(),
    }
}

/// The fields of a single answer that differ.
pub fn differing(want: &Value, got: &Value) -> Vec<String> {
    let keys = [
        "status",
        "response_headers",
        "flags",
        "details",
        "route",
        "cluster",
        "endpoint",
        "attempts",
        "body",
        "tried",
        "received",
        "shadows",
        "ms_about",
    ];
    let same = |key: &str| {
        let got = normal(key, &got[key]);
        match want[key]["varies"].as_array() {
            Some(seen) => seen.iter().any(|one| normal(key, one) == got),
            None => normal(key, &want[key]) == got,
        }
    };
    keys.into_iter()
        .filter(|key| !same(key))
        .map(str::to_owned)
        .collect()
}

pub fn counts(value: &Value) -> Counts {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, n)| (key.clone(), n.as_u64().unwrap()))
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// One kind of count that was compared.
pub struct Compared {
    pub what: String,
    pub p: f64,
    /// Percentage points.
    pub gap: f64,
}

/// Each kind of count of many requests alike.
pub fn compare(want: &Value, got: &Value) -> Vec<Compared> {
    let kinds = ["status", "flags", "cluster", "attempts", "endpoint", "hits"];
    let compared = kinds.into_iter().map(|kind| {
        let (want, got) = (counts(&want[kind]), counts(&got[kind]));
        Compared {
            what: kind.to_owned(),
            p: same_distribution(&want, &got),
            gap: largest_gap(&want, &got),
        }
    });
    compared.collect()
}

/// Many requests, by where they went and how they were answered.
#[derive(Default)]
pub struct Phase {
    pub endpoints: Counts,
    pub status: Counts,
}

impl Phase {
    pub fn add(&mut self, endpoint: &str, status: u16) {
        *self.endpoints.entry(endpoint.to_owned()).or_default() += 1;
        *self.status.entry(status.to_string()).or_default() += 1;
    }

    pub fn compare(&self, other: &Phase) -> Vec<Compared> {
        [
            ("endpoints", &self.endpoints, &other.endpoints),
            ("status", &self.status, &other.status),
        ]
        .into_iter()
        .map(|(what, want, got)| Compared {
            what: what.to_owned(),
            p: same_distribution(want, got),
            gap: largest_gap(want, got),
        })
        .collect()
    }
}
