//! Timelines played on a real Envoy and through the core, side by side; and, without an Envoy, beside
//! what it did when that was recorded, and whether a core that decides otherwise would be noticed.

#![allow(clippy::panic, clippy::expect_used)]

mod recording;

use proxy_core::time::Nanos;
use recording::Recording;
use sim::{Overrides, Plan};
use std::path::{Path, PathBuf};
use verify::rehearse::runs::run_core;
use verify::rehearse::script::Script;
use verify::rehearse::{judge, rehearse};

/// Every timeline, a test each: those are run beside one another.
macro_rules! rehearsals {
    ($($test:ident $name:literal)*) => {
        const NAMES: &[&str] = &[$($name),*];
        $(#[test] fn $test() { on_envoy($name) })*
    };
}

rehearsals! {
    breaker_overflow "breaker-overflow"
    cascade_ejection "cascade-ejection"
    control_plane_outage "control-plane-outage"
    drain "drain"
    ejected_leaves "ejected-leaves"
    ejection_backoff "ejection-backoff"
    ejections_at_limit "ejections-at-limit"
    endpoint_crash "endpoint-crash"
    endpoint_weights "endpoint-weights"
    leaves "leaves"
    local_failures "local-failures"
    locality_failover "locality-failover"
    merge_window "merge-window"
    outlier_max_percent "outlier-max-percent"
    panic "panic"
    policy_change "policy-change"
    refused_and_black_hole "refused-and-black-hole"
    request_limit "request-limit"
    retry_budget "retry-budget"
    retry_limit "retry-limit"
    ring_hash_membership "ring-hash-membership"
    scale_out "scale-out"
    slow_start "slow-start"
    slow_start_eager "slow-start-eager"
    slow_start_panic "slow-start-panic"
    subset_removed_after_route "subset-removed-after-route"
    subset_removed_before_route "subset-removed-before-route"
    timeouts_and_faults "timeouts-and-faults"
    two_changes "two-changes"
    weights_shift "weights-shift"
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rehearsals")
}

fn plan(name: &str, sets: &[(&str, &str)]) -> Plan {
    let mut diagnostics = Vec::new();
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let sets: Vec<(String, String)> = sets.iter().map(owned).collect();
    let scenario = sim::plan::read_scenario(&folder().join(name), &sets, &mut diagnostics);
    let overrides = Overrides {
        on_loopback: true,
        ..Overrides::default()
    };
    let plan = scenario.and_then(|scenario| Plan::new(&scenario, overrides, &mut diagnostics));
    plan.unwrap_or_else(|| panic!("{}", source::render(&diagnostics, false)))
}

/// A busy machine may disturb a rehearsal; then it is played again. `MESHSIM_RECORD` has what Envoy did
/// kept for those who have none.
fn on_envoy(name: &str) {
    let Some(envoy) = verify::find_envoy() else {
        eprintln!("SKIPPED {name}: there is no Envoy in MESHSIM_ENVOY or PATH");
        return;
    };
    let plan = plan(name, &[]);
    let mut report = String::new();
    for _ in 0..3 {
        let rehearsal = rehearse(&plan, None, plan.seed, &envoy).unwrap_or_else(|e| panic!("{e}"));
        report = rehearsal.to_string();
        if rehearsal.agreement.is_full() {
            println!("{report}");
            if std::env::var_os("MESHSIM_RECORD").is_some() {
                Recording::of(&rehearsal).write(&recorded(name));
            }
            return;
        }
        assert!(rehearsal.was_disturbed(), "{report}");
    }
    panic!("disturbed three times\n{report}");
}

#[test]
fn every_timeline_is_played() {
    let mut there: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of this test")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("plain text")
        })
        .collect();
    there.sort();
    assert_eq!(there, NAMES);
}

fn recorded(name: &str) -> PathBuf {
    folder().join(name).join("envoy.json")
}

#[test]
fn recordings_agree() {
    for name in NAMES {
        let plan = plan(name, &[]);
        let script = Script::of(&plan, "client-0.default", plan.seed)
            .unwrap_or_else(|e| panic!("{name}: {}", e.0));
        let recording = Recording::read(&recorded(name));
        let agreement = judge(
            &plan,
            &script,
            plan.seed,
            &recording.run(),
            recording.slowest,
        );
        let differing: Vec<_> = agreement.differing().collect();
        assert!(differing.is_empty(), "{name}: {differing:#?}");
    }
}

/// What a proxy with other draws makes of the script, in the place of Envoy.
fn agrees_with(plan: &Plan, other: &Plan) -> bool {
    let script =
        Script::of(plan, "client-0.default", plan.seed).unwrap_or_else(|e| panic!("{}", e.0));
    let theirs = run_core(other, &script.proxy, plan.seed, 1_000_000, Nanos::ZERO);
    judge(plan, &script, plan.seed, &theirs, Nanos::from_millis(1)).is_full()
}

#[test]
fn the_core_agrees_with_itself() {
    for name in NAMES {
        let plan = plan(name, &[]);
        assert!(agrees_with(&plan, &plan), "{name}");
    }
}

#[test]
fn a_core_that_decides_otherwise_is_noticed() {
    let policy = "config.0.spec.trafficPolicy";
    let route = "config.1.spec.http.0";
    let changes = [
        (
            "breaker-overflow",
            format!("{policy}.connectionPool.tcp.maxConnections"),
            "5",
        ),
        (
            "cascade-ejection",
            format!("{policy}.outlierDetection.consecutive5xxErrors"),
            "20",
        ),
        (
            "cascade-ejection",
            format!("{policy}.outlierDetection.baseEjectionTime"),
            "4s",
        ),
        (
            "outlier-max-percent",
            format!("{policy}.outlierDetection.maxEjectionPercent"),
            "50",
        ),
        (
            "panic",
            format!("{policy}.outlierDetection.minHealthPercent"),
            "20",
        ),
        (
            "retry-budget",
            format!("{policy}.retryBudget.percent"),
            "60",
        ),
        (
            "retry-limit",
            format!("{policy}.connectionPool.http.maxRetries"),
            "2",
        ),
        (
            "scale-out",
            format!("{policy}.loadBalancer.simple"),
            "RANDOM",
        ),
        (
            "slow-start",
            format!("{policy}.loadBalancer.warmup.aggression"),
            "2",
        ),
        (
            "timeouts-and-faults",
            format!("{route}.retries.perTryTimeout"),
            "250ms",
        ),
        ("weights-shift", format!("{route}.route.1.weight"), "25"),
    ];
    for (name, key, value) in changes {
        let changed = plan(name, &[(&key, value)]);
        assert!(
            !agrees_with(&plan(name, &[]), &changed),
            "{name}: {key}={value}"
        );
    }
}
