//! Same scenario, same seed: same bytes, whatever else is the case.

mod support;

use proxy_core::time::Nanos;
use sim::{Observers, Plan, event, run_seeds};
use std::path::Path;
use support::{library, plan_of};

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

/// A small mesh in which everything happens: calls, retries, ejections, a crash, a rule change.
const MESH: &str = r#"
name: mesh
duration: 12s
control_plane: {push_cost: 0s}
topology:
  services:
    gateway: {port: 80, proxy: gateway}
    front: {port: 8080, replicas: 2}
    back: {port: 8080, versions: {v1: 3, v2: 1}}
EXTRA_SERVICE
config:
  - apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: gateway, namespace: default}
    spec:
      selector: {istio: gateway}
      servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: front, namespace: default}
    spec:
      hosts: ["*"]
      gateways: [gateway]
      http: [{route: [{destination: {host: front, port: {number: 8080}}}]}]
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: back, namespace: default}
    spec:
      host: back
      subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
      trafficPolicy:
        outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 100}
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: back, namespace: default}
    spec:
      hosts: [back]
      http:
        - retries: {attempts: 2, retryOn: 5xx}
          route:
            - {destination: {host: back, subset: v1}, weight: 80}
            - {destination: {host: back, subset: v2}, weight: 20}
behavior:
  default: {workers: 8, service_time: {exponential: 2ms}}
  front: {calls: [{get: "back:8080/", on_error: degrade}]}
EXTRA_BEHAVIOR
traffic:
  web: {get: "http://shop.example/", via: gateway, rate: 200/s}
EXTRA_TRAFFIC
timeline:
  sick: {at: 2s, workload: back-v1, pods: 1, respond: {500: 90%}, for: 4s}
  crash: {at: 7s, crash: back-v1, pods: 1, noticed_after: 1s, restart_after: 3s}
  shift:
    at: 9s
    patch:
      kind: VirtualService
      name: back
      merge: {spec: {http: [{route: [{destination: {host: back, subset: v2}}]}]}}
"#;

fn mesh(with_more: bool) -> Plan {
    let (service, behavior, traffic) = match with_more {
        false => ("", "", ""),
        true => (
            "    other: {port: 9000, replicas: 3}",
            "  other: {service_time: 5ms, calls: []}",
            "  more: {get: \"http://other:9000/\", from: other, rate: 50/s}",
        ),
    };
    let text = MESH
        .replace("EXTRA_SERVICE", service)
        .replace("EXTRA_BEHAVIOR", behavior)
        .replace("EXTRA_TRAFFIC", traffic);
    plan_of("mesh.yaml", &text, Path::new("."), &[])
}

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
    let alone = access_log(&mesh(false), 7);
    let with_more = access_log(&mesh(true), 7);
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
    assert!(
        alone.iter().any(|line| line.contains(" UF ")),
        "the crash shows"
    );
    assert_eq!(alone.len(), of_first.len());
    for (a, b) in alone.iter().zip(of_first) {
        assert_eq!(a, b);
    }
}

/// Every exchange leaves one line, and the record agrees with the log.
#[test]
fn the_record_counts_what_the_log_shows() {
    let plan = mesh(false);
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

/// The digest is no mere count: what changes one decision changes it.
#[test]
fn one_changed_decision_changes_the_digest() {
    let before = digest(&mesh(false), 7);
    let changed = |sets: &[(&str, &str)]| {
        let text = ["EXTRA_SERVICE", "EXTRA_BEHAVIOR", "EXTRA_TRAFFIC"]
            .iter()
            .fold(MESH.to_owned(), |text, part| text.replace(part, ""));
        let sets: Vec<_> = sets.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        digest(&plan_of("mesh.yaml", &text, Path::new("."), &sets), 7)
    };
    assert_eq!(changed(&[]), before);
    // Ejections a sweep later; answers that are another status a millisecond later.
    assert_ne!(
        changed(&[(
            "config.2.spec.trafficPolicy.outlierDetection.interval",
            "1001ms"
        )]),
        before
    );
    assert_ne!(changed(&[("timeline.sick.at", "2001ms")]), before);
}
