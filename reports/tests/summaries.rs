//! What a terminal shows. Read the snapshots: they are the test.

use indexmap::IndexMap;
use record::latency::LatencySummary;
use record::{CallRecord, HappeningRecord, RunRecord, TrafficRecord, Verdict};

const REPEAT: &str = "meshsim run scenarios/library/bookinfo-canary/scenario.yaml --seed 1";

fn map(pairs: &[(&str, u64)]) -> IndexMap<String, u64> {
    pairs.iter().map(|(key, n)| (key.to_string(), *n)).collect()
}

fn source(requests: u64, codes: &[(&str, u64)], flags: &[(&str, u64)], p50: f64) -> TrafficRecord {
    let failed: u64 = codes
        .iter()
        .filter(|(code, _)| *code != "200")
        .map(|(_, n)| n)
        .sum();
    TrafficRecord {
        requests,
        succeeded: requests - failed,
        success_rate: (requests > 0).then(|| (requests - failed) as f64 / requests as f64),
        codes: map(codes),
        flags: map(flags),
        latency_ms: LatencySummary {
            mean: Some(p50),
            p50: Some(p50),
            p90: Some(p50 * 2.0),
            p95: Some(p50 * 3.0),
            p99: Some(p50 * 5.0),
            p99_9: Some(p50 * 9.0),
            max: Some(p50 * 20.0),
        },
    }
}

fn call(
    from: &str,
    to: &str,
    requests: u64,
    succeeded: u64,
    served_by: &[(&str, u64)],
) -> CallRecord {
    CallRecord {
        from: from.into(),
        to: to.into(),
        requests,
        succeeded,
        served_by: map(served_by),
    }
}

fn happening(at_s: f64, name: &str, what: &str) -> HappeningRecord {
    HappeningRecord {
        at_s,
        name: name.into(),
        what: what.into(),
    }
}

fn verdict(passed: bool, name: &str, observed: &str, bound: &str, line: u32) -> Verdict {
    let file = "scenarios/library/bookinfo-canary/scenario.yaml".to_owned();
    Verdict {
        name: name.into(),
        passed,
        observed: observed.into(),
        bound: bound.into(),
        file,
        line,
    }
}

fn canary(seed: u64, failing: bool) -> RunRecord {
    let timeline = [
        happening(60.0, "canary", "apply istio/reviews-v1-90-v3-10.yaml"),
        happening(90.0, "breaks", "reviews-v3 answers 500 to 40 %"),
        happening(120.0, "rollback", "apply istio/reviews-v1.yaml"),
    ];
    let expectations = vec![
        verdict(
            true,
            "traffic: web, success_rate: {at_least: 99.9%}",
            "99.995 %",
            "at least 99.9 %",
            54,
        ),
        verdict(
            !failing,
            "to: reviews, from: productpage, requests_of: v3, at_most: 0, during: rollback+5s..end",
            if failing { "12" } else { "0" },
            "at most 0",
            60,
        ),
        verdict(
            true,
            "traffic: web, p99: {at_most: 150ms}",
            "71.2 ms",
            "at most 150 ms",
            55,
        ),
    ];
    RunRecord {
        schema: record::SCHEMA,
        version: "0.1.0",
        scenario: "bookinfo-canary".into(),
        seed,
        engine: "event",
        digest: "00c0ffee00c0ffee".into(),
        simulated_s: 180.0,
        warmup_s: 10.0,
        traffic: [(
            "web".to_owned(),
            source(
                68_012 + seed,
                &[("200", 68_009 + seed), ("503", 2), ("0", 1)],
                &[("UF", 2)],
                14.24 + seed as f64 / 50.0,
            ),
        )]
        .into_iter()
        .collect(),
        workloads: IndexMap::default(),
        clusters: IndexMap::default(),
        mixer: None,
        calls: vec![
            call(
                "web",
                "productpage",
                68_012,
                68_009,
                &[("productpage-v1", 68_010)],
            ),
            call(
                "productpage-v1",
                "details",
                68_010,
                68_010,
                &[("details-v1", 68_010)],
            ),
            call(
                "productpage-v1",
                "reviews",
                68_010,
                67_411,
                &[("reviews-v1", 65_610), ("reviews-v3", 2_400)],
            ),
            call("reviews-v3", "ratings", 0, 0, &[]),
        ],
        timeline: timeline.into_iter().collect(),
        passed: !failing,
        expectations,
    }
}

#[test]
fn a_run_that_holds() {
    let text = reports::summary(&[canary(1, false)], false, REPEAT);
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_that_does_not_hold() {
    let text = reports::summary(&[canary(1, true)], false, REPEAT);
    insta::assert_snapshot!(text);
}

#[test]
fn colours_mark_what_matters() {
    let text = reports::summary(&[canary(1, true)], true, REPEAT);
    let text = text.replace('\u{1b}', "ESC");
    insta::assert_snapshot!(text);
}

#[test]
fn no_requests_and_many_consequences() {
    let mut record = canary(1, false);
    record.warmup_s = 0.0;
    record.traffic = [
        ("idle".to_owned(), TrafficRecord::default()),
        (
            "busy".to_owned(),
            source(1_234_567, &[("200", 1_234_567)], &[], 0.31),
        ),
    ]
    .into_iter()
    .collect();
    record.calls.clear();
    record.expectations.clear();
    let ejections = (0..37).map(|n| {
        happening(
            91.0 + n as f64 / 3.0,
            "",
            "productpage-v1-0 ejects reviews-v3-0 from outbound|9080|v3|reviews",
        )
    });
    record.timeline.splice(2..2, ejections);
    let text = reports::summary(&[record], false, REPEAT);
    insta::assert_snapshot!(text);
}

#[test]
fn several_seeds() {
    let records: Vec<RunRecord> = (1..=20).map(|seed| canary(seed, seed % 7 == 3)).collect();
    let text = reports::summary(
        &records,
        false,
        "meshsim run scenarios/library/bookinfo-canary/scenario.yaml --seeds 1..20",
    );
    insta::assert_snapshot!(text);
}

#[test]
fn several_seeds_of_which_none_holds_or_all_are_alike() {
    let mut records: Vec<RunRecord> = (1..=12).map(|seed| canary(seed, true)).collect();
    let none = reports::summary(&records, false, REPEAT);
    for record in &mut records {
        *record = RunRecord {
            seed: record.seed,
            ..canary(1, false)
        };
        record.traffic["web"] = source(1_000, &[("200", 1_000)], &[], 14.0);
    }
    let alike = reports::summary(&records, false, REPEAT);
    let text = none + "\n" + &alike;
    insta::assert_snapshot!(text);
}

#[test]
fn json_is_one_object_a_line_and_says_what_the_record_says() {
    let records = [canary(1, false), canary(2, true)];
    let text = reports::json_lines(&records);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[1]["seed"], &lines[1]["passed"]),
        (&2.into(), &false.into())
    );
    assert_eq!(lines[0]["traffic"]["web"]["codes"]["503"], 2);
    assert_eq!(lines[0]["traffic"]["web"]["latency_ms"]["p99.9"], 128.34);
    assert_eq!(reports::summary(&[], false, ""), "");
}
