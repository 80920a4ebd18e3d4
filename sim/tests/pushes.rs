//! What clients see while proxies have other configuration than the control plane.

#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::telemetry::Flag;
use proxy_core::time::Nanos;
use sim::{Observers, Plan, event, turmoil};
use std::path::Path;
use support::plan_of;

/// `front` asks for back's subset v1 every 10 ms, clients without a proxy for back; a push takes
/// 20 ms to arrive.
fn plan(push_cost: &str, timeline: &str) -> Plan {
    let text = format!(
        r#"
name: pushes
duration: 20s
network: {{latency: 1ms}}
control_plane: {{push_cost: {push_cost}, push_throttle: 1, push_delay: 20ms}}
topology:
  services:
    front: {{port: 8080}}
    back: {{port: 8080, versions: {{v1: 2}}}}
config:
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {{name: back, namespace: default}}
    spec: {{host: back, subsets: [{{name: v1, labels: {{version: v1}}}}]}}
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {{name: back, namespace: default}}
    spec: {{hosts: [back], http: [{{route: [{{destination: {{host: back, subset: v1}}}}]}}]}}
traffic:
  web: {{get: "http://back:8080/", from: front, rate: 100/s, arrivals: constant}}
  plain: {{get: "http://back:8080/", rate: 100/s, arrivals: constant}}
timeline: {{{timeline}}}
"#
    );
    plan_of("pushes", &text, Path::new("."), &[])
}

/// A log line's time, proxy, and whether it says NC.
type Lines = Vec<(Nanos, String, bool)>;

fn lines(run: impl FnOnce(Observers<'_>)) -> Lines {
    let mut lines = Lines::new();
    let mut see = |line: &sim::LogLine<'_>| {
        let no_cluster = line.log.flags.has(Flag::NC);
        assert_eq!(line.log.status, if no_cluster { 503 } else { 200 });
        lines.push((line.at, line.proxy.to_owned(), no_cluster));
    };
    run(Observers {
        access_log: Some(&mut see),
        ..Observers::default()
    });
    lines
}

fn on_both(plan: &Plan) -> [Lines; 2] {
    let events = lines(|observers| drop(event::run(plan, 1, observers)));
    let bytes = lines(|observers| drop(turmoil::run(plan, 1, observers).unwrap()));
    [events, bytes]
}

/// The subset goes at 5 s, the VirtualService stops using it at 8 s.
const IN_THE_WRONG_ORDER: &str = "
  removed: {at: 5s, patch: {kind: DestinationRule, name: back, merge: {spec: {subsets: []}}}},
  unused: {at: 8s, patch: {kind: VirtualService, name: back, merge: {spec: {http: [{route: [{destination: {host: back}}]}]}}}}";

#[test]
fn a_subset_removed_too_early_is_missed_until_the_next_push_arrives() {
    // 100 ms of quiet and 20 ms on the way, unless somebody is away; two pods of back are before front.
    for (push_cost, more, from_ms, to_ms) in [
        ("0s", "", 5_120, 8_120),
        ("500ms", "", 6_620, 9_620),
        (
            "0s",
            "outage: {at: 6s, stop: control-plane, for: 10s}",
            5_120,
            16_020,
        ),
        (
            "0s",
            "down: {at: 7s, stop: control-plane}, up: {at: 13s, start: control-plane}",
            5_120,
            13_020,
        ),
        (
            "0s",
            "cut: {at: 6s, disconnect: front, for: 5s}",
            5_120,
            11_020,
        ),
        (
            "0s",
            "cut: {at: 4s, disconnect: front}, whole: {at: 7s, reconnect: front}",
            7_020,
            8_120,
        ),
        ("0s", "cut: {at: 4s, disconnect: front, for: 5s}", 0, 0),
        (
            "0s",
            "cut: {at: 6s, disconnect: back-v1, for: 5s}",
            5_120,
            8_120,
        ),
    ] {
        let plan = plan(push_cost, &format!("{IN_THE_WRONG_ORDER}, {more}"));
        for (lines, slack_ms) in on_both(&plan).into_iter().zip([0, 10]) {
            let missed: Vec<u64> = lines
                .iter()
                .filter(|l| l.2)
                .map(|l| l.0.0 / 1_000_000)
                .collect();
            let wanted = (to_ms - from_ms) / 10;
            let count = missed.len() as u64;
            assert!(
                count.abs_diff(wanted) <= slack_ms / 10,
                "{more}: {count} of {wanted}"
            );
            let within = |&at: &u64| (from_ms..to_ms + slack_ms).contains(&at);
            assert!(missed.iter().all(within), "{more}: {missed:?}");
        }
    }
}

#[test]
fn a_new_pod_is_not_ready_before_its_first_configuration() {
    let timeline = "outage: {at: 4s, stop: control-plane, for: 6s}, more: {at: 5s, scale: back-v1, replicas: 3}";
    for lines in on_both(&plan("0s", timeline)) {
        let at_new = lines.iter().filter(|line| line.1 == "back-v1-2.default");
        let times: Vec<u64> = at_new.map(|line| line.0.0 / 1_000_000).collect();
        // Configured at 10,020 ms; its endpoint is at front 120 ms later, at clients without a
        // proxy at once.
        let during = |from, to| times.iter().filter(|at| (from..to).contains(*at)).count();
        assert_eq!(during(0, 10_020), 0);
        assert!((1..12).contains(&during(10_020, 10_140)), "{times:?}");
        assert!(
            (300..900).contains(&during(10_200, 20_000)),
            "{}",
            times.len()
        );
    }
}

#[test]
fn a_stop_and_a_start_change_nothing_by_themselves() {
    let seen = |more: &str| {
        let timeline = format!("drained: {{at: 3s, drain: back-v1, pod: 0}}{more}");
        on_both(&plan("0s", &timeline))
    };
    let outage = ", outage: {at: 10s, stop: control-plane, for: 5s}";
    assert_eq!(seen(outage), seen(""));
}
