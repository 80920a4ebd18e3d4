//! Mistakes and what people are told about them. Each line below is one mistake: a value set in the
//! scenario that has every key.

use proptest::prelude::*;
use source::{Diagnostic, SourceFile, render};
use std::path::Path;

const EVERYTHING: &str = include_str!("scenarios/everything.yaml");

fn read(text: &str, sets: &[(String, String)]) -> (bool, Vec<Diagnostic>) {
    let file = SourceFile::new("scenario.yaml", text);
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(&file, Path::new("."), sets, &mut diagnostics);
    (scenario.is_some(), diagnostics)
}

fn told(mistakes: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (path, value) in mistakes {
        let (read, diagnostics) = read(EVERYTHING, &[(path.to_string(), value.to_string())]);
        assert!(!read, "{path}={value} is no mistake");
        let places: Vec<String> = diagnostics.iter().map(line).collect();
        text += &format!("{path}={value}\n{}\n", places.join("\n"));
    }
    text
}

/// One mistake on one line; `render` is shown by the tests that read whole files.
fn line(diagnostic: &Diagnostic) -> String {
    let place = diagnostic
        .span
        .as_ref()
        .map(|span| format!("`{}`", span.text()));
    let place = place.unwrap_or_else(|| "nowhere".to_owned());
    let help = diagnostic
        .help
        .as_ref()
        .map(|help| format!("; help: {help}"))
        .unwrap_or_default();
    format!(
        "    {} at {place}: {}{help}",
        diagnostic.message, diagnostic.label
    )
}

#[test]
fn in_the_frame() {
    let told = told(&[
        ("name", "[]"),
        ("istio", "1.29"),
        ("duration", "180"),
        ("duration", "0s"),
        ("duration", "three minutes"),
        ("duration", "[1s]"),
        ("warmup", "3m"),
        ("seed", "-1"),
        ("trafic", "{}"),
        ("topology", "kubernetes/bookinfo.yaml"),
        ("topology.services.reviews.port", "99999"),
        ("topology.services.reviews.protocol", "htp"),
        ("topology.services.reviews.proxy", "sidcar"),
        ("topology.services.reviews.versions", "{v1: many}"),
        ("topology.services.reviews.versions", "{}"),
        ("topology.services.reviews.locality", "a/b/c"),
        ("config", "[[], {kind: A}]"),
        ("network.latency", "{p50: 3ms, p99: 2ms}"),
        ("network.latency", "{p50: 3ms}"),
        ("network.latency", "{p99: 3ms, exponential: 3ms}"),
        (
            "network.links",
            "[{between: [a], latency: 1ms}, {between: [], latency: 1ms}]",
        ),
        ("control_plane.debounce", "20s"),
        ("control_plane.debounce_maxx", "20s"),
        ("proxies.concurrency", "0"),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn in_behavior_and_traffic() {
    let told = told(&[
        ("behavior.default.serivce_time", "3ms"),
        ("behavior.default.service_time", "3"),
        ("behavior.default.service_time", "{exponential: 0s}"),
        ("behavior.default.service_time", "{mean: 1ms, scv: 0}"),
        (
            "behavior.default.service_time",
            "{quantiles: {0%: 2ms, 50%: 1ms, 100%: 3ms}}",
        ),
        ("behavior.default.service_time", "{quantiles: {50%: 2ms}}"),
        ("behavior.default.service_time", "{samples: []}"),
        ("behavior.default.queue", "-3"),
        ("behavior.default.queue", "unlimitd"),
        ("behavior.default.discipline", "filo"),
        ("behavior.default.async", "maybe"),
        ("behavior.default.propagate", "[a b, host]"),
        ("behavior.default.respond", "{500: 60%, 503: 60%}"),
        ("behavior.default.respond", "{50: 60%}"),
        ("behavior.default.respond", "{500: 0.4}"),
        ("behavior.default.respond", "{500: 140%}"),
        ("behavior.default.handlers", "{health: {}}"),
        ("behavior.default.calls", "[{gte: a:80/x}]"),
        (
            "behavior.default.calls",
            "[{get: a, post: b}, {parallel: []}, {parallel: }]",
        ),
        (
            "behavior.default.calls",
            "[{get: 'a:b/x'}, {get: 'ftp://a'}, {get: https://a}]",
        ),
        (
            "behavior.default.calls",
            "[{get: a, on_error: degarde, probability: 2, timeout: 0s}]",
        ),
        ("traffic", "{}"),
        ("traffic.web.rate", "400"),
        ("traffic.web.rate", "400/d"),
        ("traffic.web.rate", "[{at: 0s, ramp_to: 1/s}]"),
        (
            "traffic.web.rate",
            "[{at: 1s, rate: 1/s}, {at: 1s, rate: 2/s}]",
        ),
        ("traffic.web.rate", "[]"),
        ("traffic.web.users", "3"),
        ("traffic.people.arrivals", "poisson"),
        ("traffic.web.from", "a"),
        ("traffic.web.until", "1s"),
        ("traffic.web.mix", "[{5%: {}}, {90%: {}}]"),
        (
            "traffic.web.mix",
            "[{5: {}}, {5%: {}, 95%: {}}, {1%: {path: x}}]",
        ),
        ("traffic.web.headers", "{host: a, 'a b': c, d: [e]}"),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn in_the_timeline() {
    let told = told(&[
        ("timeline.start", "{at: 1s, restart: a}"),
        ("timeline.canary", "{apply: a}"),
        ("timeline.canary", "{at: 60s}"),
        ("timeline.canary", "{at: 60s, aply: a}"),
        ("timeline.canary", "{at: 60s, apply: a, scale: b}"),
        ("timeline.canary", "{at: 60s, apply: [a]}"),
        ("timeline.canary", "{at: 60s, apply: []}"),
        (
            "timeline.canary",
            "{at: 60s, apply: {kind: A, apiversion: b}}",
        ),
        ("timeline.canary.at", "180s"),
        ("timeline.gone.delete", "{kind: A}"),
        ("timeline.patched.patch", "{kind: A, name: b, merge: 3}"),
        ("timeline.more", "{at: 1s, scale: a}"),
        ("timeline.crash.pod", "0"),
        ("timeline.crash.pods", "0"),
        ("timeline.breaks", "{at: 1s, workload: a}"),
        ("timeline.breaks.slower_by", "10"),
        ("timeline.breaks.slower_by", "0x"),
        ("timeline.outage.stop", "reviews-v1"),
        ("timeline.blip.for", "0s"),
        ("timeline.slow.mixer", "{}"),
        ("timeline.slow.mixer", "{latncy: 1s}"),
        ("timeline.slow.mixer.failure_rate", "0.1"),
        ("timeline.over.for", "1s"),
        ("timeline.surge.traffic", "wbe"),
        ("timeline.surge.users", "3"),
        ("timeline.surge", "{at: 1s, traffic: web, users: 3}"),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn in_expectations() {
    let told = told(&[
        ("expect.0", "{success_rate: {at_least: 99%}}"),
        ("expect.0.to", "reviews"),
        ("expect.0.traffic", "wbe"),
        ("expect.0.during", "start..braeks"),
        ("expect.0.during", "start"),
        ("expect.0.during", "rollback..canary"),
        ("expect.0.during", "5s..20s"),
        ("expect.0.during", "start..end+1s"),
        ("expect.0.during", "canary+2..end"),
        ("expect.0.success_rate", "99%"),
        ("expect.0.success_rate", "{at_least: 400ms}"),
        ("expect.0.success_rate", "{at_least: 0.99}"),
        ("expect.0.success_rate", "{at_least: 199%}"),
        ("expect.0.success_rate", "{}"),
        ("expect.0.at_least", "99%"),
        ("expect.0.p99", "{at_most: 1s}"),
        ("expect.0.p98", "{at_most: 1s}"),
        ("expect.0", "{traffic: web, reports: {at_least: 1}}"),
        ("expect.1", "{from: a, share_of: v1, at_least: 1%}"),
        ("expect.1.between", "11%..9%"),
        ("expect.1.between", "9..11"),
        ("expect.1.at_least", "1%"),
        ("expect.2.at_most", "0%"),
        ("expect.3.p99.at_most", "400"),
        ("expect.4.code_share.code", "99"),
        ("expect.5.flag_share.flag", "U0"),
        ("expect.8.retries_per_request.at_most", "10%"),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn of_whole_files_and_as_people_see_them() {
    let mut text = String::new();
    for file in [
        "",
        "- a\n",
        "a: [\n",
        "name: a\nname: b\n",
        "name: a\n---\nname: b\n",
    ] {
        let (read, diagnostics) = read(file, &[]);
        assert!(!read, "{file:?}");
        text += &format!("=== {file:?}\n{}", render(&diagnostics, false));
    }
    let several = EVERYTHING
        .replace("service_time: 3ms}", "serivce_time: 3}")
        .replace("at_least: 99.9%", "at_least: 3s");
    let (_, diagnostics) = read(&several, &[]);
    text += &format!("=== several\n{}", render(&diagnostics, false));
    insta::assert_snapshot!(text);
}

proptest! {
    #[test]
    fn no_text_panics(text in "([a-z]{0,3}[:\\-\\[\\]{}&*!|>'\" \n\t#%@,?é0-9.]{0,4}){0,40}") {
        let (_, diagnostics) = read(&text, &[]);
        render(&diagnostics, false);
    }

    /// One line of a valid scenario lost, doubled, or with a piece replaced.
    #[test]
    fn no_mutation_panics(at in 0..EVERYTHING.len(), length in 0usize..40, piece in "[a-z0-9%.:/{}\\[\\], +-]{0,12}") {
        let (at, end) = (at.min(EVERYTHING.len()), (at + length).min(EVERYTHING.len()));
        let text = format!("{}{piece}{}", &EVERYTHING[..at], &EVERYTHING[end..]);
        let (read, diagnostics) = read(&text, &[]);
        prop_assert_eq!(read, diagnostics.iter().all(|d| d.level != source::Level::Error));
        render(&diagnostics, false);
    }

    #[test]
    fn no_set_panics(path in "(traffic|web|expect|0|a|[.=é]){0,5}", value in "[a-z0-9%.:/{}\\[\\], +-]{0,12}") {
        read(EVERYTHING, &[(path, value)]);
    }
}
