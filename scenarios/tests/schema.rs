//! The schema and the readers know the same keys and words, and agree on whole scenarios.

#![allow(clippy::unwrap_used)]

#[path = "../../source/tests/json/mod.rs"]
mod json;

use json::json_of;
use serde_json::Value;
use source::SourceFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const EVERYTHING: &str = include_str!("scenarios/everything.yaml");

/// A definition of the schema, and where the format has such a map: each place is set to the map
/// with a key that nobody knows, and the message lists those that are known.
#[rustfmt::skip]
const MAPS: &[(&str, &str, &str)] = &[
    ("", "", ""),
    ("topology", "topology", "kubernetes: []"),
    ("service", "topology.services.reviews", "port: 80"),
    ("network", "network", "latency: 1ms"),
    ("link", "network.links.0", "latency: 1ms"),
    ("control_plane", "control_plane", "debounce: 1ms"),
    ("proxies", "proxies", "concurrency: 1"),
    ("behavior", "behavior.default", "workers: 1"),
    ("handler", "behavior.default", "handlers: {/: {zzzzzzzzzzzz: 1}}"),
    ("call", "behavior.default", "calls: [{get: a, zzzzzzzzzzzz: 1}]"),
    ("parallel", "behavior.default", "calls: [{parallel: [], zzzzzzzzzzzz: 1}]"),
    ("spread", "network.latency", "p50: 1ms"),
    ("spread", "network.latency", "mean: 1ms"),
    ("traffic", "traffic.web", "get: a, rate: 1/s"),
    ("traffic", "traffic.web", "get: a, users: 1"),
    ("rate_point", "traffic.web.rate", "zzzzzzzzzzzz: 1, at: 1s, rate: 1/s"),
    ("variant", "traffic.web.mix", "zzzzzzzzzzzz: 1"),
    ("apply_event", "timeline.canary", "at: 1s, apply: a"),
    ("delete_event", "timeline.canary", "at: 1s, delete: a"),
    ("delete_object", "timeline.gone.delete", "kind: a"),
    ("patch_event", "timeline.canary", "at: 1s, patch: {}"),
    ("patch_object", "timeline.patched.patch", "kind: a"),
    ("scale_event", "timeline.canary", "at: 1s, scale: a"),
    ("crash_event", "timeline.canary", "at: 1s, crash: a"),
    ("restart_event", "timeline.canary", "at: 1s, restart: a"),
    ("drain_event", "timeline.canary", "at: 1s, drain: a"),
    ("stop_event", "timeline.canary", "at: 1s, stop: control-plane"),
    ("mixer", "mixer", "zzzzzzzzzzzz: 1"),
    ("mixer_event", "timeline.canary", "at: 1s, mixer: {}"),
    ("start_event", "timeline.canary", "at: 1s, start: control-plane"),
    ("disconnect_event", "timeline.canary", "at: 1s, disconnect: a"),
    ("reconnect_event", "timeline.canary", "at: 1s, reconnect: a"),
    ("workload_event", "timeline.canary", "at: 1s, workload: a"),
    ("traffic_event", "timeline.canary", "at: 1s, traffic: a"),
    ("expectation", "expect.0", "traffic: web, share_of: a"),
    ("metric_share", "expect.0.success_rate", "at_least: 1%"),
    ("metric_code", "expect.4.code_share", "code: 503"),
    ("metric_flag", "expect.5.flag_share", "flag: UO"),
    ("metric_share_of", "expect.7.share_of", "version: v1"),
    ("metric_requests_of", "expect.2.requests_of", "version: v1"),
    ("metric_count", "expect.9.requests", "at_least: 1"),
    ("metric_number", "expect.8.retries_per_request", "at_least: 1"),
    ("metric_latency", "expect.3.p99", "at_least: 1s"),
];

/// Where a word of a few is wanted, and where the schema lists them.
#[rustfmt::skip]
const WORDS: &[(&str, &str, &str)] = &[
    ("istio", "zzzzzzzzzzzz", "/properties/istio"),
    ("topology.services.reviews.protocol", "zzzzzzzzzzzz", "/$defs/service/properties/protocol"),
    ("topology.services.reviews.proxy", "zzzzzzzzzzzz", "/$defs/service/properties/proxy"),
    ("behavior.default.discipline", "zzzzzzzzzzzz", "/$defs/behavior/properties/discipline"),
    ("traffic.web.arrivals", "zzzzzzzzzzzz", "/$defs/traffic/properties/arrivals"),
    ("expect.5.flag_share.flag", "zzzzzzzzzzzz", "/$defs/flag"),
    ("behavior.default.calls", "[{get: a, on_error: zzzzzzzzzzzz}]", "/$defs/call/properties/on_error"),
    ("traffic.web.mix", "[{100%: {method: zzzzzzzzzzzz}}]", "/$defs/variant/properties/method"),
];

fn messages(path: &str, value: &str) -> String {
    let file = SourceFile::new("scenario.yaml", EVERYTHING);
    let sets = [(path.to_owned(), value.to_owned())];
    let mut diagnostics = Vec::new();
    scenarios::parse_with(&file, Path::new("."), &sets, &mut diagnostics);
    let help =
        |d: &source::Diagnostic| format!("{}\n{}", d.message, d.help.clone().unwrap_or_default());
    diagnostics.iter().map(help).collect::<Vec<_>>().join("\n")
}

fn list_after(text: &str, start: &str) -> BTreeSet<String> {
    let line = text
        .lines()
        .find_map(|line| line.split_once(start))
        .map(|(_, list)| list);
    line.unwrap_or_default()
        .split(", ")
        .map(str::to_owned)
        .collect()
}

/// The keys that readers know, by definition.
fn known() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for &(definition, path, keys) in MAPS {
        let text = match (definition, keys.contains("zzz")) {
            ("", _) => messages("zzzzzzzzzzzz", "1"),
            ("rate_point", _) => messages(path, &format!("[{{{keys}}}]")),
            ("variant", _) => messages(path, &format!("[{{100%: {{{keys}}}}}]")),
            (_, true) => messages(path, &format!("{{{keys}}}")),
            (_, false) => messages(path, &format!("{{{keys}, zzzzzzzzzzzz: 1}}")),
        };
        assert!(
            text.contains("unknown key `zzzzzzzzzzzz`"),
            "{definition}: {text}"
        );
        known
            .entry(definition)
            .or_default()
            .extend(list_after(&text, "known keys: "));
    }
    known
}

/// The keys of every closed map in the schema, by definition.
fn described(schema: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let keys = |value: &Value| {
        let properties = value["properties"].as_object()?;
        assert_eq!(value["additionalProperties"], false);
        Some(properties.keys().cloned().collect())
    };
    let definitions = schema["$defs"].as_object().unwrap();
    let named = definitions
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), keys(value)?)));
    named
        .chain([(String::new(), keys(schema).unwrap())])
        .collect()
}

#[test]
fn the_schema_and_the_readers_know_the_same_keys() {
    let schema = scenarios::json_schema();
    let known: BTreeMap<String, BTreeSet<String>> = known()
        .into_iter()
        .map(|(name, keys)| (name.to_owned(), keys))
        .collect();
    assert_eq!(described(&schema), known);
}

#[test]
fn the_schema_and_the_readers_know_the_same_words() {
    let schema = scenarios::json_schema();
    for (path, value, pointer) in WORDS {
        let text = messages(path, value);
        let starts = ["is one of ", "known versions: ", "known flags: "];
        let start = starts
            .into_iter()
            .find(|start| text.contains(start))
            .unwrap();
        let words = schema.pointer(pointer).unwrap()["enum"].as_array().unwrap();
        let words: BTreeSet<String> = words
            .iter()
            .map(|w| w.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(list_after(&text, start), words, "{path}");
    }
}

fn problems(text: &str) -> Vec<String> {
    let (documents, _) = source::parse(&SourceFile::new("a", text), source::Dialect::Yaml12);
    let validator = jsonschema::validator_for(&scenarios::json_schema()).unwrap();
    let value = json_of(&documents[0]);
    let problems = validator.iter_errors(&value);
    problems
        .map(|problem| format!("{}: {problem}", problem.instance_path()))
        .collect()
}

#[test]
fn the_schema_is_one_and_takes_what_readers_take() {
    assert!(jsonschema::meta::is_valid(&scenarios::json_schema()));
    assert_eq!(problems(EVERYTHING), Vec::<String>::new());
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    for folder in std::fs::read_dir(library).unwrap() {
        let path = folder.unwrap().path().join("scenario.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(problems(&text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_readers_refuse() {
    for (right, wrong) in [
        ("workers: 32", "wrokers: 32"),
        ("timeout: 1s", "timeout: 1"),
        ("rate: 400/s", "rate: 400"),
        ("rate: 400/s", "rate: 400/s\n    from: a"),
        ("probability: 50%", "probability: 0.5"),
        ("{p50: 8ms, p99: 40ms}", "{p50: 8ms}"),
        ("slower_by: 10x", "slower_by: 10"),
        ("drain: reviews-v1", "drain: reviews-v1, scale: b"),
        ("{at_most: 400ms}", "{}"),
        ("flag: UO", "flag: U0"),
        ("  gone:", "  end:"),
        ("istio: \"1.32\"", "istio: \"1.29\""),
    ] {
        assert!(EVERYTHING.contains(right), "{right}");
        assert_ne!(
            problems(&EVERYTHING.replacen(right, wrong, 1)),
            Vec::<String>::new(),
            "{wrong}"
        );
    }
}
