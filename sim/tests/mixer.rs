//! Mixer in the simulation: checks with a latency and failures of their own, quotas, reports.

#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::journal::replay;
use record::{MixerRecord, RunRecord};
use sim::{Observers, Plan, event, turmoil};
use std::collections::BTreeMap;
use std::path::Path;
use support::plan_of;

/// 20 requests a second for 10 s, the last just before its end, each by way of `web` to `shop`, whose
/// proxy asks Mixer about both.
const SCENARIO: &str = r#"
name: asked
duration: 10s
network: {latency: 1ms}
topology:
  services:
    client: {port: 80, proxy: none}
    shop: {port: 8080}
    stock: {port: 8080}
mixer: {latency: 10ms}
config:
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: istio, namespace: istio-system}
    data: {mesh: "mixerAddress: istio-mixer:9091"}
behavior:
  default: {service_time: 1ms}
  shop: {calls: [{get: "stock:8080/", on_error: degrade}]}
traffic:
  read: {get: "http://shop:8080/", from: client, rate: 20/s, arrivals: constant}
"#;

const DENY: &str = r#"
  - {apiVersion: config.istio.io/v1alpha2, kind: denier, metadata: {name: never, namespace: istio-system}, spec: {status: {code: 7, message: Not allowed}}}
  - {apiVersion: config.istio.io/v1alpha2, kind: checknothing, metadata: {name: all, namespace: istio-system}, spec: {}}
  - {apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: deny, namespace: istio-system}, spec: {match: 'destination.labels["app"] == "stock" && source.labels["app"] == "shop"', actions: [{handler: never.denier, instances: [all.checknothing]}]}}
"#;

const QUOTA: &str = r#"
  - {apiVersion: config.istio.io/v1alpha2, kind: memquota, metadata: {name: handler, namespace: istio-system}, spec: {quotas: [{name: count.quota.istio-system, maxAmount: 5, validDuration: 1s}]}}
  - {apiVersion: config.istio.io/v1alpha2, kind: quota, metadata: {name: count, namespace: istio-system}, spec: {dimensions: {to: destination.service | "unknown"}}}
  - {apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: quota, namespace: istio-system}, spec: {actions: [{handler: handler.memquota, instances: [count.quota]}]}}
"#;

fn plan(text: &str) -> Plan {
    plan_of("asked", text, Path::new("."), &[])
}

fn run(text: &str) -> RunRecord {
    event::run(&plan(text), 1, Observers::default()).record
}

fn with(more_config: &str, more: &str) -> String {
    let text = SCENARIO.replace("behavior:", &format!("{more_config}\nbehavior:"));
    format!("{text}\n{more}")
}

fn codes(run: &RunRecord) -> BTreeMap<&str, u64> {
    let codes = run.traffic["read"].codes.iter();
    codes.map(|(code, count)| (code.as_str(), *count)).collect()
}

/// Reports of `request_count`, by service and status.
fn reported(mixer: &MixerRecord) -> BTreeMap<(&str, &str), u64> {
    let counts = mixer.metrics.iter().filter(|m| m.name == "request_count");
    counts
        .map(|m| {
            let labels = (&*m.labels["service"], &*m.labels["response_code"]);
            (labels, m.count)
        })
        .collect()
}

#[test]
fn each_server_asks_and_reports() {
    let run = run(SCENARIO);
    assert_eq!(codes(&run), [("200", 199)].into());
    let mixer = run.mixer.unwrap();
    assert_eq!((mixer.checks, mixer.denied, mixer.failed), (398, 0, 0));
    assert_eq!((mixer.reports, mixer.reports_lost), (398, 0));
    let all = [(("shop", "200"), 199), (("stock", "200"), 199)];
    assert_eq!(reported(&mixer), all.into());
    // Two checks are waited for.
    let median = run.traffic["read"].latency_ms.p50.unwrap();
    assert!((26.0..30.0).contains(&median), "{median}");
    // Without a Mixer all is as it is without one.
    let without = SCENARIO.replace("mixerAddress: istio-mixer:9091", "");
    let record = self::run(&without);
    assert_eq!(record.mixer, None);
    assert!(record.traffic["read"].latency_ms.p50.unwrap() < 10.0);
}

#[test]
fn a_denial_is_the_servers_answer() {
    let run = run(&with(
        DENY,
        "expect: [{to: stock, code_share: {code: 403, at_least: 100%}}, {to: stock, from: shop, reports: {between: 199..199}}]",
    ));
    assert_eq!(codes(&run), [("200", 199)].into());
    assert!(run.passed, "{:?}", run.expectations);
    let mixer = run.mixer.unwrap();
    assert_eq!((mixer.checks, mixer.denied), (398, 199));
    let all = [(("shop", "200"), 199), (("stock", "403"), 199)];
    assert_eq!(reported(&mixer), all.into());
    assert_eq!(run.workloads["stock.default"].requests, 0);
}

/// 5 a second for each service, of 20: a window holds what the ten ticks before it took.
#[test]
fn a_quota_lets_so_many_pass_and_is_the_same_each_time() {
    let text = with(QUOTA, "");
    let first = run(&text);
    let codes = codes(&first);
    assert_eq!(codes["200"] + codes["429"], 199);
    assert!((45..=55).contains(&codes["200"]), "{codes:?}");
    let journal = |text: &str| {
        let mut written = BTreeMap::<String, Vec<u8>>::new();
        let mut write = |name: &str, bytes: Vec<u8>| {
            written.entry(name.to_owned()).or_default().extend(bytes);
        };
        let observers = Observers {
            journal: Some(&mut write),
            ..Observers::default()
        };
        let digest = event::run(&plan(text), 1, observers).record.digest;
        (digest, written)
    };
    let (digest, written) = journal(&text);
    assert_eq!(digest, first.digest);
    let coverage = replay(std::str::from_utf8(&written["shop-0.default"]).unwrap()).unwrap();
    assert!(coverage.inputs.contains("Answered"));
    assert!(coverage.actions.contains("Ask") && coverage.actions.contains("Report"));
}

#[test]
fn requests_go_on_without_a_mixer_that_fails() {
    let stopped = run(&with(
        DENY,
        "timeline: {gone: {at: 5s, stop: mixer}}\nexpect: [{to: stock, code_share: {code: 403, at_least: 100%}, during: start..gone}, {to: stock, success_rate: {at_least: 100%}, during: gone..end}, {to: stock, reports: {at_most: 0}, during: gone..end}]",
    ));
    assert!(stopped.passed, "{:?}", stopped.expectations);
    let mixer = stopped.mixer.unwrap();
    assert_eq!(mixer.checks, 398);
    assert_eq!(mixer.reports + mixer.reports_lost, 398);
    assert!((190..=200).contains(&mixer.failed), "{mixer:?}");

    let failing = run(&SCENARIO.replace("{latency: 10ms}", "{latency: 10ms, failure_rate: 20%}"));
    assert_eq!(codes(&failing), [("200", 199)].into());
    let mixer = failing.mixer.unwrap();
    assert!((50..=110).contains(&mixer.failed), "{mixer:?}");
    assert!((50..=110).contains(&mixer.reports_lost), "{mixer:?}");
}

/// Slower than the five seconds that a proxy waits; afterwards it is as it was.
#[test]
fn a_slow_mixer_is_waited_for_five_seconds() {
    let text = with(
        DENY,
        "timeline: {slow: {at: 3s, mixer: {latency: 20s}, for: 2s}}",
    );
    let slow = run(&text.replace("duration: 10s", "duration: 20s"));
    let latency = &slow.traffic["read"].latency_ms;
    assert_eq!(codes(&slow), [("200", 399)].into());
    // Both checks run into their time, the second after the end of the change does not.
    assert!(
        (5_000.0..5_100.0).contains(&latency.max.unwrap()),
        "{latency:?}"
    );
    assert!(latency.p50.unwrap() < 30.0);
    // What came too late was no answer.
    let mixer = slow.mixer.unwrap();
    assert!((35..=45).contains(&mixer.failed), "{mixer:?}");
}

#[test]
fn bytes_know_no_mixer_and_a_mixer_without_proxies_is_said() {
    let refused = turmoil::check(&plan(SCENARIO)).unwrap_err();
    assert!(refused.to_string().contains("asks Mixer"), "{refused}");

    let text = SCENARIO.replace("mixerAddress: istio-mixer:9091", "");
    let text = format!(
        "{text}timeline: {{gone: {{at: 1s, stop: mixer}}, slow: {{at: 2s, mixer: {{latency: 1s}}}}}}\nexpect: [{{to: stock, reports: {{at_most: 0}}}}]"
    );
    let file = source::SourceFile::new("asked", text.as_str());
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse(&file, Path::new("."), &mut diagnostics).unwrap();
    Plan::new(&scenario, sim::Overrides::default(), &mut diagnostics).unwrap();
    let said = source::render(&diagnostics, false);
    // The defaults, both events, and the expectation.
    assert_eq!(said.matches("no proxy asks Mixer").count(), 4, "{said}");
    assert_eq!(
        said.matches("nothing is reported here").count(),
        1,
        "{said}"
    );
}
