//! Same scenario, same seed: same bytes, whatever else is the case.
#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::time::Nanos;
use sim::{Observers, Plan, event, run_seeds};
use support::{library, plan_of, root};

fn digest(plan: &Plan, seed: u64) -> String {
    event::run(plan, seed, Observers::default()).record.digest
}

#[test]
fn shipped_scenarios_have_one_digest() {
    for (name, mut plan) in library() {
        plan.duration = plan.duration.min(Nanos::from_secs(10));
        let first = digest(&plan, 1);
        for run in 1..20 {
            assert_eq!(digest(&plan, 1), first, "{name}, run {run}");
        }
        let digests = |threads| -> Vec<String> {
            let outcomes = run_seeds(&plan, &[1, 2, 3, 4], threads, &|_| {});
            outcomes
                .into_iter()
                .map(|outcome| outcome.record.digest)
                .collect()
        };
        assert_eq!(digests(1), digests(2), "{name}, one and two threads");
        assert_eq!(digests(2)[0], first, "{name}, alone and among others");
        assert_ne!(digests(1)[0], digests(1)[1], "{name}, seeds 1 and 2");
    }
}

/// A small mesh in which everything happens, with `sets` written over it.
fn mesh(sets: &[(&str, &str)]) -> Plan {
    let folder = root().join("sim/tests/scenarios/everything");
    let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
    let sets: Vec<_> = sets
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    plan_of("everything", &text, &folder, &sets)
}

/// A workload that has nothing to do with the others, and its own traffic.
const UNRELATED: [(&str, &str); 3] = [
    ("topology.services.other", "{port: 9000, replicas: 3}"),
    ("behavior.other", "{service_time: 5ms, calls: []}"),
    (
        "traffic.more",
        "{get: 'http://other:9000/', from: other, rate: 50/s}",
    ),
];

fn access_log(plan: &Plan, seed: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut keep = |line: &sim::LogLine<'_>| lines.push(line.to_string());
    let observers = Observers {
        access_log: Some(&mut keep),
        ..Observers::default()
    };
    event::run(plan, seed, observers);
    lines
}

#[test]
fn an_unrelated_workload_changes_no_line() {
    let alone = access_log(&mesh(&[]), 7);
    let with_more = access_log(&mesh(&UNRELATED), 7);
    let of_first: Vec<&String> = with_more
        .iter()
        .filter(|line| !line.contains("] other-"))
        .collect();
    assert!(
        with_more.len() > of_first.len() + 500,
        "the other workload was busy too"
    );
    assert!(
        alone
            .iter()
            .any(|line| line.contains("/200") || line.contains(" 200 "))
    );
    let retried = |line: &&String| line.rsplit(' ').nth(2) != Some("1");
    assert!(alone.iter().filter(retried).count() > 10, "the crash shows");
    assert_eq!(alone.len(), of_first.len());
    for (a, b) in alone.iter().zip(of_first) {
        assert_eq!(a, b);
    }
}

/// Every exchange leaves one line, and the record agrees with the log.
#[test]
fn the_record_counts_what_the_log_shows() {
    let plan = mesh(&[]);
    let mut at_gateway = 0u64;
    let mut count = |line: &sim::LogLine<'_>| {
        at_gateway += u64::from(line.proxy.starts_with("gateway"));
    };
    let observers = Observers {
        access_log: Some(&mut count),
        ..Observers::default()
    };
    let outcome = event::run(&plan, 3, observers);
    let web = &outcome.record.traffic["web"];
    assert_eq!(web.requests, at_gateway);
    assert_eq!(web.codes.values().sum::<u64>(), web.requests);
    assert!(
        outcome
            .record
            .clusters
            .values()
            .any(|cluster| cluster.ejections > 0)
    );
    assert!(
        outcome
            .record
            .clusters
            .values()
            .any(|cluster| cluster.retries > 0)
    );
}

/// The digest is no mere count: one kind of decision changed changes it.
#[test]
fn one_changed_decision_changes_the_digest() {
    let before = digest(&mesh(&[]), 7);
    assert_eq!(digest(&mesh(&[]), 7), before);
    let policy = "config.2.spec.trafficPolicy";
    for (what, key, value) in [
        (
            "picks",
            &*format!("{policy}.loadBalancer"),
            "{simple: RANDOM}",
        ),
        (
            "ejection times",
            &format!("{policy}.outlierDetection.interval"),
            "1001ms",
        ),
        ("a status", "timeline.sick.respond", "{502: 90%}"),
        ("when", "timeline.sick.at", "2001ms"),
    ] {
        assert_ne!(digest(&mesh(&[(key, value)]), 7), before, "{what}");
    }
    assert_ne!(digest(&mesh(&[]), 8), before, "draws");
}
