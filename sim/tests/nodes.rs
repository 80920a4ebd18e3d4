//! Proxies of nodes, as Linkerd 1.x ran: two hops, and the rules applied at both.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use proxy_core::time::Nanos;
use record::RunRecord;
use sim::{Observers, Plan, event, turmoil};
use std::path::Path;
use support::plan_of;

const RULES: &str = "
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: back, namespace: default}
    spec: {host: back, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}";

/// `front` asks for `back` 100 times a second.
fn plan(nodes: u32, versions: &str, route: &str, more: &str) -> Plan {
    let text = format!(
        r#"
name: nodes
duration: 100010ms
network: {{latency: 1ms}}
topology:
  nodes: {nodes}
  services:
    front: {{port: 8080, proxy: node}}
    back: {{port: 8080, proxy: node, versions: {versions}}}
config:{RULES}
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {{name: back, namespace: default}}
    spec: {{hosts: [back], http: [{route}]}}
traffic:
  web: {{get: "http://back:8080/a", from: front, rate: 100/s, arrivals: constant}}
{more}"#
    );
    plan_of("nodes", &text, Path::new("."), &[])
}

fn split(v1: u32) -> String {
    let v2 = 100 - v1;
    format!(
        "{{route: [{{destination: {{host: back, subset: v1}}, weight: {v1}}}, {{destination: {{host: back, subset: v2}}, weight: {v2}}}]}}"
    )
}

fn run(plan: &Plan) -> RunRecord {
    let record = event::run(plan, 1, Observers::default()).record;
    assert_eq!(record.traffic["web"].requests, 10_000);
    record
}

/// The share of `front`'s calls that `back-v2` served.
fn share_of_v2(record: &RunRecord) -> f64 {
    let [calls] = &record.calls[..] else {
        panic!("{:?}", record.calls);
    };
    assert_eq!((&*calls.from, &*calls.to), ("front", "back"));
    calls.served_by.get("back-v2").copied().unwrap_or(0) as f64 / calls.requests as f64
}

/// Pods of `workload` on each node, by the name of its proxy.
fn nodes_of(plan: &Plan, workload: &str) -> Vec<String> {
    let pods = plan
        .pods
        .iter()
        .filter(|pod| *pod.pod.workload == *workload);
    pods.map(|pod| plan.pods[pod.node.unwrap() as usize].pod.name.to_string())
        .collect()
}

#[test]
fn a_call_passes_the_outgoing_and_the_incoming_router() {
    let plan = plan(2, "{v1: 2}", &split(100), "");
    let placed = nodes_of(&plan, "back-v1");
    assert_ne!(placed[0], placed[1], "replicas are spread");
    let own_node = nodes_of(&plan, "front").remove(0);
    let mut lines: Vec<(String, String, String, Nanos)> = Vec::new();
    let mut see = |line: &sim::LogLine<'_>| {
        assert_eq!(line.log.status, 200);
        let endpoint = line.endpoint.unwrap();
        let pod = plan.pods.iter().find(|pod| pod.pod.ip == endpoint.ip());
        let at = format!("{}:{}", pod.unwrap().pod.name, endpoint.port());
        let cluster = line.cluster.unwrap().to_owned();
        lines.push((line.proxy.to_owned(), cluster, at, line.log.duration));
    };
    let observers = Observers {
        access_log: Some(&mut see),
        ..Observers::default()
    };
    let outcome = event::run(&plan, 1, observers);
    assert_eq!(outcome.passes, 20_000);
    // The incoming router is done first. Two round trips are those of a first connection.
    for pair in lines.chunks(2) {
        let [incoming, outgoing] = pair else { panic!() };
        assert_eq!(outgoing.0, format!("{own_node}-outgoing.default"));
        assert_eq!(
            outgoing.1,
            "outbound|8080|v1|back.default.svc.cluster.local"
        );
        let node = outgoing.2.strip_suffix(":4141").unwrap();
        assert_eq!(incoming.0, format!("{node}-incoming.default"));
        assert_eq!(
            incoming.1,
            "incoming|8080|v1|back.default.svc.cluster.local"
        );
        let pod = incoming.2.strip_suffix(":8080").unwrap();
        let ordinal: usize = pod.strip_prefix("back-v1-").unwrap().parse().unwrap();
        assert_eq!(placed[ordinal], node);
        let network = if node == own_node { 0 } else { 2 };
        let took = outgoing.3.0 / 1_000_000 - incoming.3.0 / 1_000_000;
        assert!(took == network || took == 2 * network, "{pair:?}");
    }
    let busy = |name: &str| outcome.record.workloads["back-v1.default"].endpoints[name].requests;
    assert_eq!(busy("back-v1-0") + busy("back-v1-1"), 10_000);
    assert!((4_700..5_300).contains(&busy("back-v1-0")));
}

#[test]
fn weights_are_applied_twice() {
    // v1 is on both nodes, v2 on one of them. Of 80 % for v1 half go to that node, with the 20 % for
    // v2, and a fifth of these ends at v2. On the other node only v1 is left.
    let two = plan(2, "{v1: 2, v2: 1}", &split(80), "");
    let share = share_of_v2(&run(&two));
    assert!((share - 0.6 * 0.2).abs() < 0.01, "{share}");
    // One node draws a second time what it drew.
    let one = plan(1, "{v1: 2, v2: 1}", &split(80), "");
    let share = share_of_v2(&run(&one));
    assert!((share - 0.2).abs() < 0.01, "{share}");
}

#[test]
fn a_branch_without_endpoints_drops_out() {
    let gone = plan(2, "{v1: 2, v2: 0}", &split(50), "");
    let record = run(&gone);
    assert_eq!(record.traffic["web"].succeeded, 10_000);
    assert_eq!(share_of_v2(&record), 0.0);
}

#[test]
fn rewrites_are_applied_twice() {
    let rewrites =
        "{match: [{uri: {prefix: /a}}], rewrite: {uri: /b}, route: [{destination: {host: back}}]},
      {match: [{uri: {prefix: /b}}], rewrite: {uri: /c}, route: [{destination: {host: back}}]}";
    let behavior = "behavior: {back-v1: {handlers: {/b: {respond: {418: 100%}}, /c: {respond: {201: 100%}}}}}\n";
    let codes = |plan: &Plan| run(plan).traffic["web"].codes.clone();
    let nodes = plan(2, "{v1: 1}", rewrites, behavior);
    assert_eq!(codes(&nodes)["201"], 10_000);
}

#[test]
fn what_is_done_for_a_request_is_done_once() {
    let route = "{fault: {delay: {percentage: {value: 100}, fixedDelay: 100ms}}, timeout: 1s, route: [{destination: {host: back}}]}";
    let record = run(&plan(1, "{v1: 1}", route, ""));
    let latency = record.traffic["web"].latency_ms.p50.unwrap();
    assert!((100.0..101.0).contains(&latency), "{latency}");
}

#[test]
fn without_the_proxy_of_its_node_an_application_reaches_nobody() {
    let timeline = "timeline:\n  gone: {at: 50005ms, crash: l5d, noticed_after: 1s}\n";
    let plan = plan(2, "{v1: 2}", &split(100), timeline);
    let web = &run(&plan).traffic["web"];
    assert_eq!(web.succeeded, 5_000);
    assert_eq!(web.codes["0"], 5_000);
}

#[test]
fn a_node_whose_proxy_is_gone_is_passed_over_once_that_is_noticed() {
    // The proxy of the node that `front` is not on.
    let quiet = plan(2, "{v1: 2}", &split(100), "");
    let own = nodes_of(&quiet, "front").remove(0);
    let other = if own == "l5d-0" { 1 } else { 0 };
    let timeline =
        format!("timeline:\n  gone: {{at: 50s, crash: l5d, pod: {other}, noticed_after: 1s}}\n");
    let plan = plan(2, "{v1: 2}", &split(100), &timeline);
    let record = run(&plan);
    // Connections are refused until then, and tried again elsewhere.
    assert!(record.traffic["web"].succeeded >= 9_990);
    let served = &record.workloads["back-v1.default"].endpoints;
    let least = served.values().map(|pod| pod.requests).min().unwrap();
    assert!((2_300..2_700).contains(&least), "{served:?}");
}

#[test]
fn runs_with_nodes_repeat_themselves() {
    let plan = plan(3, "{v1: 4, v2: 2}", &split(70), "");
    assert_eq!(run(&plan).digest, run(&plan).digest);
}

#[test]
fn on_bytes_there_are_none() {
    let plan = plan(2, "{v1: 1}", &split(100), "");
    let why = turmoil::check(&plan).unwrap_err().to_string();
    assert!(
        why.ends_with("there are no proxies of nodes there (proxy: node)"),
        "{why}"
    );
}

/// What planning says of a topology.
fn told(topology: &str) -> Vec<String> {
    let text = format!(
        "name: told\nduration: 1s\ntopology: {topology}\ntraffic: {{web: {{get: \"http://a:80/\", rate: 1/s}}}}\n"
    );
    let file = source::SourceFile::new("told.yaml", &text);
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse(&file, Path::new("."), &mut diagnostics).unwrap();
    Plan::new(&scenario, sim::Overrides::default(), &mut diagnostics);
    let told = diagnostics.iter();
    told.map(|d| format!("{}: {} ({})", d.level, d.message, d.label))
        .collect()
}

#[test]
fn what_makes_no_sense_is_said() {
    let far =
        "{services: {a: {port: 80, proxy: node}, b: {port: 80, proxy: node, namespace: far}}}";
    assert_eq!(
        told(far),
        [
            "error: proxies of nodes, and the pods that use them, are in one namespace (here: default, far)"
        ]
    );
    assert_eq!(
        told("{nodes: 2, services: {a: {port: 80}}}"),
        [
            "warning: `nodes` has no effect here (no pod uses the proxy of its node (`proxy: node` of a service))"
        ]
    );
}
