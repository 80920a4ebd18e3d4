//! Mistakes that only planning finds, and what people are told about them. Each is a few values set
//! in `mistakes/scenario.yaml`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sim::{Overrides, Plan};
use source::{Diagnostic, Level, SourceFile, render};
use std::path::Path;

const SCENARIO: &str = include_str!("mistakes/scenario.yaml");

type Sets<'a> = &'a [(&'a str, &'a str)];

fn plan(sets: Sets<'_>) -> (Option<Plan>, Vec<Diagnostic>) {
    let sets: Vec<_> = sets
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let file = SourceFile::new("scenario.yaml", SCENARIO);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(&file, &folder, &sets, &mut diagnostics);
    let scenario = scenario.unwrap_or_else(|| panic!("{}", render(&diagnostics, false)));
    let plan = Plan::new(&scenario, Overrides::default(), &mut diagnostics);
    (plan, diagnostics)
}

fn written(sets: Sets<'_>) -> String {
    let sets = sets.iter().map(|(key, value)| format!("{key}={value}\n"));
    sets.collect()
}

/// What is said to each of the mistakes.
fn told(mistakes: &[Sets<'_>]) -> String {
    let mut text = String::new();
    for sets in mistakes {
        let (plan, diagnostics) = plan(sets);
        let refused = diagnostics.iter().any(|d| d.level == Level::Error);
        assert_eq!(plan.is_none(), refused, "{}", written(sets));
        assert!(!diagnostics.is_empty(), "{} is no mistake", written(sets));
        let lines: Vec<String> = diagnostics.iter().map(line).collect();
        text += &format!("{}{}\n", written(sets), lines.join("\n"));
    }
    text
}

fn line(diagnostic: &Diagnostic) -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    let place = diagnostic
        .span
        .as_ref()
        .map_or("nowhere".to_owned(), |span| {
            let file = &span.file.name;
            let text = span.text().lines().next().unwrap_or_default();
            format!("{file}:{}:{} `{text}`", span.line(), span.column())
        });
    let help = diagnostic.help.iter().map(|help| format!("; help: {help}"));
    let code = diagnostic
        .code
        .map_or(String::new(), |code| format!(" {code}"));
    let line = format!(
        "    {}{code}: {}\n        {place}: {}{}",
        diagnostic.level,
        diagnostic.message,
        diagnostic.label,
        help.collect::<String>()
    );
    line.replace(here, "sim")
}

#[test]
fn nothing_is_wrong_with_the_scenario_itself() {
    let (plan, diagnostics) = plan(&[]);
    assert!(plan.is_some() && diagnostics.is_empty(), "{diagnostics:?}");
}

#[test]
fn in_files() {
    insta::assert_snapshot!(told(&[
        &[("config", "[ruls.yaml]")],
        &[("config", "[rules.yaml, ../support]")],
        &[("config", "[rules.yaml, broken.yaml]")],
        &[("topology", "[broken.yaml]")],
        &[("topology", "[missing.yaml]")],
        &[("topology", "[rules.yaml]")],
        &[("timeline.change", "{at: 10s, apply: wieghts.yaml}")],
    ]));
}

#[test]
fn in_calls() {
    insta::assert_snapshot!(told(&[
        &[("behavior.front.calls", "[{get: bakc:8080/}]")],
        &[("behavior.front.calls", "[{get: back:9090/}]")],
        &[("behavior.front.calls", "[{get: back.prod:8080/}]")],
        &[("behavior.front.calls", "[{get: maps.example/}]")],
        &[
            ("config", "[rules.yaml, abroad.yaml]"),
            ("behavior.front.calls", "[{get: maps.example/}]"),
        ],
        &[
            ("config", "[rules.yaml, abroad.yaml]"),
            ("behavior.front.calls", "[{get: pay.example:443/}]"),
        ],
        &[("behavior.back", "{workers: 1}")],
        &[("behavior.back-v3", "{workers: 1}")],
    ]));
}

#[test]
fn in_calls_that_never_end() {
    insta::assert_snapshot!(told(&[
        &[("behavior.front.calls", "[{get: front:8080/}]")],
        &[("behavior.back-v2", "{calls: [{get: front:8080/}]}")],
        &[
            ("behavior.back-v2", "{calls: [{get: store:5432/}]}"),
            ("behavior.store", "{calls: [{get: front:8080/}]}"),
        ],
        &[(
            "behavior.front",
            "{handlers: {/a: {calls: [{get: front:8080/ab}]}}}",
        )],
        &[
            ("external", "{pay.example: {calls: [{get: front:8080/}]}}"),
            ("behavior.front.calls", "[{get: pay.example/}]"),
        ],
    ]));
}

#[test]
fn calls_that_may_end_are_none() {
    let fine: [Sets<'_>; 2] = [
        &[(
            "behavior.back-v2",
            "{calls: [{get: front:8080/, probability: 99%}]}",
        )],
        &[
            ("behavior.back-v2", "{calls: [{get: front:8080/leaf}]}"),
            (
                "behavior.front",
                "{calls: [{get: back:8080/}], handlers: {/leaf: {calls: []}}}",
            ),
        ],
    ];
    for sets in fine {
        let (plan, diagnostics) = plan(sets);
        assert!(plan.is_some(), "{}", render(&diagnostics, false));
    }
}

#[test]
fn in_traffic() {
    insta::assert_snapshot!(told(&[
        &[("traffic.web.via", "gatewya")],
        &[("traffic.web.via", "front")],
        &[("traffic.web.get", "http://shop.example:81/")],
        &[("traffic.people.from", "stroe")],
        &[("traffic.people.get", "http://fornt:8080/")],
        &[("traffic.people.get", "http://front/")],
        &[("traffic.people.get", "http://nowhere.example/")],
    ]));
}

#[test]
fn in_rules() {
    insta::assert_snapshot!(told(&[
        &[("config", "[rules.yaml, weights.yaml]")],
        &[("config", "[rules.yaml, nowhere.yaml]")],
        &[("timeline.change", "{at: 10s, apply: weights.yaml}")],
        &[("timeline.change", "{at: 10s, apply: nowhere.yaml}")],
    ]));
}

#[test]
fn in_the_timeline() {
    insta::assert_snapshot!(told(&[
        &[(
            "timeline.change",
            "{at: 10s, patch: {kind: VirtualService, name: frnt, merge: {spec: {}}}}"
        )],
        &[(
            "timeline.change",
            "{at: 10s, patch: {kind: VirtualService, name: front, merge: {spec: {htp: []}}}}"
        )],
        &[(
            "timeline.change",
            "{at: 10s, patch: {kind: VirtualService, name: front, merge: {metadata: {name: other}}}}"
        )],
        &[(
            "timeline.change",
            "{at: 10s, delete: {kind: DestinationRule, name: front}}"
        )],
        &[(
            "timeline.change",
            "{at: 10s, delete: {kind: DestinationRule, namespace: prod, name: back}}"
        )],
        &[("timeline.change", "{at: 10s, delete: abroad.yaml}")],
        &[("timeline.change", "{at: 10s, scale: fornt, replicas: 3}")],
        &[("timeline.change", "{at: 10s, crash: back, pod: 0}")],
        &[("timeline.change", "{at: 10s, crash: back-v1, pod: 2}")],
        &[("timeline.change", "{at: 10s, drain: back-v1, pods: 3}")],
        &[(
            "timeline.change",
            "{at: 10s, workload: back-v3, slower_by: 10x}"
        )],
        &[("timeline.change", "{at: 10s, start: control-plane}")],
        &[
            ("timeline.change", "{at: 10s, stop: control-plane, for: 9s}"),
            ("timeline.again", "{at: 12s, stop: control-plane}"),
        ],
        &[
            ("timeline.change", "{at: 10s, stop: control-plane, for: 9s}"),
            ("timeline.again", "{at: 12s, start: control-plane}"),
        ],
        &[("timeline.change", "{at: 10s, reconnect: front, pod: 1}")],
        &[
            ("timeline.change", "{at: 10s, disconnect: front, pod: 1}"),
            ("timeline.again", "{at: 12s, disconnect: front, pods: 2}"),
        ],
        &[("timeline.change", "{at: 10s, disconnect: fornt}")],
    ]));
}

#[test]
fn in_expectations() {
    insta::assert_snapshot!(told(&[
        &[("expect.1.to", "bakc")],
        &[("expect.1.from", "fornt")],
        &[("expect.1.share_of", "v3")],
        &[("expect.1.share_of", "front")],
        &[("expect.1", "{to: back, requests_of: store, at_most: 0}")],
    ]));
}

#[test]
fn several_as_people_see_them() {
    let (plan, diagnostics) = plan(&[
        ("config", "[rules.yaml, weights.yaml]"),
        ("behavior.front.calls", "[{get: bakc:8080/a}]"),
        ("traffic.people.from", "stroe"),
        ("timeline.change", "{at: 10s, traffic: people, users: 9}"),
        (
            "expect.0",
            "{traffic: people, success_rate: {at_least: 99%}}",
        ),
        ("expect.1.share_of", "v3"),
    ]);
    assert!(plan.is_none());
    let text = render(&diagnostics, false);
    insta::assert_snapshot!(text.replace(env!("CARGO_MANIFEST_DIR"), "sim"));
}
