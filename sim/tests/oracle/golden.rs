//! What was recorded, and how it is compared.

use crate::stats::{Counts, largest_gap, same_distribution};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The recorded lines of a routing case.
pub fn lines(folder: &Path, case: &str) -> Vec<Value> {
    let path = folder.join("golden").join(format!("{case}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What was recorded of a load case.
pub fn load(folder: &Path, case: &str) -> Value {
    let path = folder.join("golden/lb").join(format!("{case}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The recorded phases of a load case.
pub fn phases(load: &Value) -> &[Value] {
    load["phases"].as_array().map_or(&[], Vec::as_slice)
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

/// After back-offs, which are drawn, what is left of a timeout is chance.
fn without_time_left(mut value: Value) -> Value {
    let lines = value.get_mut("headers").and_then(Value::as_array_mut);
    for line in lines.into_iter().flatten() {
        if line[0] == "x-envoy-expected-rq-timeout-ms" {
            line[1] = Value::Null;
        }
    }
    value
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
            Some(seen) => {
                let got = without_time_left(got);
                let mut seen = seen.iter().map(|one| normal(key, one));
                seen.any(|one| without_time_left(one) == got)
            }
            None => normal(key, &want[key]) == got,
        }
    };
    keys.into_iter()
        .filter(|key| !same(key))
        .map(str::to_owned)
        .collect()
}

fn counts(value: &Value) -> Counts {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, n)| (key.clone(), n.as_u64().unwrap()))
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// Many answers, counted by what is recorded of them.
#[derive(Default)]
pub struct Answers(pub BTreeMap<&'static str, Counts>);

impl Answers {
    pub fn add(&mut self, kind: &'static str, value: String) {
        *self.0.entry(kind).or_default().entry(value).or_default() += 1;
    }

    /// Of a recorded line or phase; what differed between runs is left out.
    pub fn recorded(line: &Value) -> Answers {
        let mut answers = Answers::default();
        for kind in ["status", "flags", "cluster", "attempts", "endpoint", "hits"] {
            // Phases name endpoints in the plural.
            let plural = &line["endpoints"];
            let found = match kind {
                "endpoint" if plural.is_object() => plural,
                _ if line["aggregate"].is_object() => &line["aggregate"][kind],
                _ => &line[kind],
            };
            match found {
                Value::Object(map) if map.contains_key("varies") => {}
                Value::Object(_) => {
                    answers.0.insert(kind, counts(found));
                }
                // Hits are of many only, and phases have no more than endpoints and statuses.
                Value::Null if line.get(kind).is_none() => {}
                Value::Null => answers.add(kind, "None".into()),
                Value::String(text) => answers.add(kind, text.clone()),
                other => answers.add(kind, other.to_string()),
            }
        }
        answers
    }

    /// What both have counted; endpoints that are `alike` by rank.
    pub fn compare(&self, got: &Answers, alike: bool) -> Vec<Compared> {
        let kinds = self
            .0
            .iter()
            .filter_map(|(kind, want)| Some((kind, want, got.0.get(kind)?)));
        kinds
            .map(|(kind, want, got)| {
                let shown = format!("want {want:?}\n    got  {got:?}");
                let by_rank = alike && ["endpoint", "hits"].contains(kind);
                let (want, got) = match by_rank {
                    true => (&ranked(want), &ranked(got)),
                    false => (want, got),
                };
                // Of a single answer there is no distribution.
                let single = want.values().sum::<u64>() == 1;
                let p = match single {
                    true => f64::from(u8::from(want == got)),
                    false => same_distribution(want, got),
                };
                Compared {
                    what: kind,
                    p,
                    gap: largest_gap(want, got),
                    shown,
                }
            })
            .collect()
    }
}

/// Counts by their order instead of their names.
fn ranked(counts: &Counts) -> Counts {
    let mut sorted: Vec<u64> = counts.values().copied().collect();
    sorted.sort_by(|a, b| b.cmp(a));
    (0..)
        .map(|rank: u32| rank.to_string())
        .zip(sorted)
        .collect()
}

/// What is known of some statistics of Envoy's, over all clusters.
pub fn statistics(line: &Value) -> Vec<Value> {
    let sums = |stats: &Value| {
        let mut sums = Counts::new();
        for (name, n) in counts(stats) {
            let name = name.rsplit('.').next().unwrap();
            if [
                "ejections_active",
                "ejections_enforced_total",
                "ejections_overflow",
                "upstream_cx_total",
                "upstream_rq_pending_overflow",
            ]
            .contains(&name)
            {
                *sums.entry(name.to_owned()).or_default() += n;
            }
        }
        serde_json::to_value(sums).unwrap()
    };
    match line["stats"]["varies"].as_array() {
        Some(seen) => seen.iter().map(sums).collect(),
        None => vec![sums(&line["stats"])],
    }
}

/// One kind of count that was compared.
pub struct Compared {
    pub what: &'static str,
    pub p: f64,
    /// Percentage points.
    pub gap: f64,
    pub shown: String,
}
