//! Applications without a sidecar: straight to a pod, plaintext, on both engines.

#![allow(clippy::unwrap_used)]

mod support;

use record::RunRecord;
use sim::{Observers, Plan, event, turmoil};
use std::path::Path;
use support::plan_of;

/// `front` has no sidecar and asks for `back`, which has.
fn plan(mode: &str, rate: &str, work: &str) -> Plan {
    let text = format!(
        r#"
name: without
duration: 10005ms
network: {{latency: 1ms}}
topology:
  services:
    front: {{port: 8080, proxy: none}}
    back: {{port: 8080, replicas: 4}}
config:
  - apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {{name: default, namespace: default}}
    spec: {{mtls: {{mode: {mode}}}}}
behavior: {{back: {{service_time: {work}}}}}
traffic:
  web: {{get: "http://back:8080/", from: front, rate: {rate}, arrivals: constant}}
"#
    );
    plan_of("without", &text, Path::new("."), &[])
}

/// On both engines: the record, and the proxies that wrote a line with their clusters.
fn run(plan: &Plan) -> [(RunRecord, Vec<String>); 2] {
    let seen = |on: &dyn Fn(Observers<'_>) -> RunRecord| {
        let mut lines = Vec::new();
        let mut see = |line: &sim::LogLine<'_>| {
            let pod = line.proxy.split('-').next().unwrap();
            lines.push(format!("{pod} {}", line.cluster.unwrap_or("-")));
        };
        let record = on(Observers {
            access_log: Some(&mut see),
            ..Observers::default()
        });
        lines.dedup();
        (record, lines)
    };
    [
        seen(&|observers| event::run(plan, 1, observers).record),
        seen(&|observers| turmoil::run(plan, 1, observers).unwrap().record),
    ]
}

#[test]
fn a_permissive_sidecar_takes_plaintext() {
    for (record, lines) in run(&plan("PERMISSIVE", "100/s", "1ms")) {
        assert_eq!(
            record.traffic["web"].codes.get("200"),
            Some(&1_000),
            "{}: {:?}",
            record.engine,
            record.traffic["web"]
        );
        // No proxy but the server's.
        assert_eq!(lines, ["back inbound|8080||"], "{}", record.engine);
        let calls = &record.calls[0];
        assert_eq!((&*calls.from, &*calls.to), ("front", "back"));
        assert_eq!(calls.served_by["back"], 1_000);
    }
}

#[test]
fn a_strict_one_closes_the_connection() {
    for (record, lines) in run(&plan("STRICT", "100/s", "1ms")) {
        let web = &record.traffic["web"];
        assert_eq!(web.codes["0"], 1_000, "{}", record.engine);
        assert!(
            web.flags.is_empty() && lines.is_empty(),
            "{}",
            record.engine
        );
        assert_eq!(record.workloads["back.default"].requests, 0);
    }
}

fn by_pod(record: &RunRecord) -> Vec<u64> {
    let pods = record.workloads["back.default"].endpoints.values();
    pods.map(|pod| pod.requests).collect()
}

#[test]
fn the_pod_is_chosen_by_connection() {
    // One connection is enough: each answer is there before the next request.
    for (record, _) in run(&plan("PERMISSIVE", "100/s", "1ms")) {
        let mut pods = by_pod(&record);
        pods.sort_unstable();
        assert_eq!(pods, [0, 0, 0, 1_000], "{}", record.engine);
    }
    // A hundred connections or so are open at a time, to all pods alike, and used again at once.
    for (record, _) in run(&plan("PERMISSIVE", "500/s", "200ms")) {
        let pods = by_pod(&record);
        assert!(
            pods.iter().all(|pod| (600..2_000).contains(pod)),
            "{pods:?}"
        );
    }
}
