//! The run on bytes: as the event engine says, the same every time, and with the same core.

#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::journal::{Coverage, replay};
use record::RunRecord;
use sim::{Observers, Plan, event, turmoil};
use std::collections::BTreeMap;
use std::path::Path;
use support::{plan_of, root};

/// Another engine's network fits neither.
const NETWORK: &str = "network: {latency: 1ms}\n";

/// A small mesh in which everything happens, on a network that both engines can have.
fn everything() -> Plan {
    let folder = root().join("sim/tests/scenarios/everything");
    let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
    plan_of("everything", &format!("{text}{NETWORK}"), &folder, &[])
}

fn plan(text: &str) -> Plan {
    plan_of("bytes", text, Path::new("."), &[])
}

fn on_bytes(plan: &Plan, seed: u64) -> RunRecord {
    let outcome = turmoil::run(plan, seed, Observers::default());
    outcome.unwrap().record
}

fn as_events(plan: &Plan, seed: u64) -> RunRecord {
    event::run(plan, seed, Observers::default()).record
}

/// What the proxies of a run logged: by proxy and key, cluster and status.
type Decisions = BTreeMap<(String, u64), (Option<String>, u16)>;

fn decisions(run: impl FnOnce(Observers<'_>)) -> Decisions {
    let mut all = Decisions::new();
    let mut see = |line: &sim::LogLine<'_>| {
        let of = (line.proxy.to_owned(), line.log.key);
        let decided = (line.cluster.map(str::to_owned), line.log.status);
        all.insert(of, decided);
    };
    run(Observers {
        access_log: Some(&mut see),
        ..Observers::default()
    });
    all
}

fn journals(plan: &Plan, seed: u64) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut keep = |proxy: &str, bytes: Vec<u8>| {
        all.entry(proxy.to_owned()).or_default().extend(bytes);
    };
    let observers = Observers {
        journal: Some(&mut keep),
        ..Observers::default()
    };
    turmoil::run(plan, seed, observers).unwrap();
    all
}

/// What both engines must agree on: success within 0.2 points, quantiles within 3 % or 0.2 ms and
/// the millisecond that turmoil rounds to.
fn assert_agree(a: &RunRecord, b: &RunRecord) {
    assert_eq!(a.traffic.len(), b.traffic.len());
    for (name, a) in &a.traffic {
        let b = &b.traffic[name];
        let near = (a.requests as f64 / b.requests as f64 - 1.0).abs();
        assert!(near < 0.02, "{name}: {} and {}", a.requests, b.requests);
        let (a_rate, b_rate) = (a.success_rate.unwrap(), b.success_rate.unwrap());
        assert!(
            (a_rate - b_rate).abs() <= 0.002,
            "{name}: {a_rate} and {b_rate}"
        );
        let (a, b) = (&a.latency_ms, &b.latency_ms);
        for (a, b) in [(a.p50, b.p50), (a.p99, b.p99)] {
            let (a, b) = (a.unwrap(), b.unwrap());
            let tolerance = (0.03 * a).max(0.2) + 1.0;
            assert!((a - b).abs() <= tolerance, "{name}: {a} ms and {b} ms");
        }
    }
}

/// A gateway, a split by weight, headers that route, calls that are passed on.
const ROUTES: &str = r#"
name: routes
duration: 20s
network: {latency: 2ms}
topology:
  services:
    gateway: {port: 80, proxy: gateway}
    front: {port: 8080}
    back: {port: 8080, versions: {v1: 1, v2: 1, v3: 1}}
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
      subsets:
        - {name: v1, labels: {version: v1}}
        - {name: v2, labels: {version: v2}}
        - {name: v3, labels: {version: v3}}
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: back, namespace: default}
    spec:
      hosts: [back]
      http:
        - match: [{headers: {end-user: {exact: jason}}}]
          route: [{destination: {host: back, subset: v3}}]
        - fault: {abort: {percentage: {value: 10}, httpStatus: 418}}
          route:
            - {destination: {host: back, subset: v1}, weight: 70}
            - {destination: {host: back, subset: v2}, weight: 30}
behavior:
  default: {service_time: {p50: 3ms, p99: 9ms}, propagate: [end-user]}
  front: {calls: [{get: "back:8080/items"}, {get: "back:8080/more", on_error: degrade}]}
  back-v2: {respond: {500: 5%}}
traffic:
  web:
    get: "http://shop.example/"
    via: gateway
    rate: 100/s
    mix:
      - 80%: {}
      - 20%: {headers: {end-user: jason}}
"#;

#[test]
fn both_engines_decide_alike() {
    let plan = plan(ROUTES);
    let bytes = decisions(|observers| {
        turmoil::run(&plan, 5, observers).unwrap();
    });
    let events = decisions(|observers| {
        event::run(&plan, 5, observers);
    });
    assert!(bytes.len() > 10_000, "{}", bytes.len());
    let differ = |of: &&(String, u64)| bytes[*of] != events[*of];
    let both = bytes.keys().filter(|of| events.contains_key(*of));
    assert_eq!(both.clone().filter(differ).count(), 0);
    // All but the last requests, at most, are in both.
    assert!(both.count() + 20 > bytes.len().max(events.len()));
    assert_agree(&as_events(&plan, 5), &on_bytes(&plan, 5));
}

#[test]
fn a_crash_ejections_and_retries_come_out_alike() {
    let plan = everything();
    let (events, bytes) = (as_events(&plan, 2), on_bytes(&plan, 2));
    assert_agree(&events, &bytes);
    let sum = |record: &RunRecord| {
        let clusters = record.clusters.values();
        clusters.fold((0, 0), |(retries, ejections), cluster| {
            (retries + cluster.retries, ejections + cluster.ejections)
        })
    };
    let ((retries_e, ejections_e), (retries_b, ejections_b)) = (sum(&events), sum(&bytes));
    assert_eq!(ejections_e, ejections_b);
    assert!(ejections_b >= 4 && retries_b > 20);
    assert!(
        retries_e.abs_diff(retries_b) < 15,
        "{retries_e} and {retries_b}"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let plan = everything();
    let first = on_bytes(&plan, 1);
    assert_eq!(first, on_bytes(&plan, 1));
    let elsewhere = std::thread::scope(|scope| {
        let run = scope.spawn(|| on_bytes(&plan, 1).digest);
        run.join().unwrap()
    });
    assert_eq!(first.digest, elsewhere);
    assert_ne!(first.digest, on_bytes(&plan, 2).digest);
    assert!(journals(&plan, 1) == journals(&plan, 1));
}

#[test]
fn the_journals_of_all_proxies_replay() {
    let mut coverage = Coverage::default();
    let journals = journals(&everything(), 1);
    for (proxy, journal) in &journals {
        let text = std::str::from_utf8(journal).unwrap();
        let found = replay(text).unwrap_or_else(|error| panic!("{proxy}: {error}"));
        coverage.merge(found);
    }
    assert!(journals.contains_key("back-v1-1.default-restart-1"));
    assert_eq!(journals.len(), 8);
    assert!(coverage.entries > 10_000);
    for input in [
        "ConnectFailed",
        "ConnClosed",
        "DownstreamClosed",
        "Xds",
        "main Tick",
    ] {
        assert!(coverage.inputs.contains(input), "{input}");
    }
}

/// Every way into the mesh and out of it, and everything that can be changed on the way.
const WAYS: &str = r#"
name: ways
duration: 20s
network: {latency: 1ms}
topology:
  services:
    shop: {port: 8080, replicas: 2}
    bare: {port: 8080, proxy: none}
    stock: {port: 8080}
config:
  - apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: bank, namespace: default}
    spec:
      hosts: [bank.example]
      ports: [{number: 80, name: http, protocol: HTTP}]
      resolution: DNS
behavior:
  default: {service_time: 2ms}
  shop: {calls: [{parallel: [{get: "stock:8080/"}, {get: "http://bank.example/"}]}]}
  bare: {calls: [{get: "stock:8080/"}]}
  stock: {workers: 16, queue: 20}
external: {bank.example: {service_time: 5ms}}
traffic:
  people: {get: "http://shop:8080/", users: 20, think: 500ms}
  insiders: {get: "http://stock:8080/", from: shop, rate: 30/s, timeout: 100ms, retries: 1}
  plain: {get: "http://bare:8080/", rate: 20/s}
timeline:
  more: {at: 4s, scale: shop, replicas: 3}
  crowd: {at: 6s, traffic: people, users: 40}
  rush: {at: 8s, traffic: plain, rate: 60/s}
  slow: {at: 10s, workload: stock, slower_by: 3x, for: 2s}
  fewer: {at: 14s, scale: shop, replicas: 1}
"#;

#[test]
fn every_way_in_and_out() {
    let plan = plan(WAYS);
    let (events, bytes) = (as_events(&plan, 3), on_bytes(&plan, 3));
    assert_agree(&events, &bytes);
    assert!(bytes.traffic.values().all(|t| t.success_rate == Some(1.0)));
    let pods = &bytes.workloads["shop.default"].endpoints;
    assert!(pods["shop-2"].requests > 50, "{pods:?}");
    let calls = |record: &RunRecord| -> Vec<(String, String)> {
        let calls = record.calls.iter();
        calls.map(|c| (c.from.clone(), c.to.clone())).collect()
    };
    assert_eq!(calls(&events), calls(&bytes));
}

#[test]
fn a_client_gives_up_and_tries_again() {
    let text = r#"
name: impatient
duration: 10s
network: {latency: 1ms}
topology:
  services: {slow: {port: 8080}}
behavior: {slow: {service_time: {quantiles: {0%: 10ms, 50%: 20ms, 100%: 200ms}}}}
traffic: {web: {get: "http://slow:8080/", rate: 50/s, timeout: 100ms, retries: 1}}
"#;
    let plan = plan(text);
    let (events, bytes) = (as_events(&plan, 1), on_bytes(&plan, 1));
    let (e, b) = (&events.traffic["web"], &bytes.traffic["web"]);
    assert_eq!(e.requests, b.requests);
    assert!(b.codes["0"] > 20, "{:?}", b.codes);
    assert!(
        e.codes["0"].abs_diff(b.codes["0"]) < 5,
        "{:?} {:?}",
        e.codes,
        b.codes
    );
}

#[test]
fn what_it_cannot_run_is_said() {
    let small = |network: &str, more: &str| {
        format!(
            "name: small\nduration: 1s\n{network}topology: {{services: {{a: {{port: 80{more}}}}}}}\ntraffic: {{web: {{get: \"http://a/\", rate: 1/s}}}}\n"
        )
    };
    let refusal = |text: &str| {
        let refused = turmoil::run(&plan(text), 1, Observers::default());
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&small(NETWORK, ", replicas: 30")),
        "--engine turmoil cannot run this scenario: it takes at most 30 hosts, and this scenario has 30 pods, 0 outside services and one host of clients"
    );
    for network in [
        "network: {latency: 1.5ms}\n",
        "network: {latency: {exponential: 1ms}}\n",
    ] {
        assert_eq!(
            refusal(&small(network, "")),
            "--engine turmoil cannot run this scenario: its clock has whole milliseconds, so every network latency must be a constant one, 1ms or more (network: {latency: 1ms})"
        );
    }
    let overhead = format!("{}proxies: {{overhead: 50us}}\n", small(NETWORK, ""));
    assert!(refusal(&overhead).contains("proxies have no overhead there"));
    let sharing = format!(
        "{}behavior: {{a: {{discipline: processor-sharing}}}}\n",
        small(NETWORK, "")
    );
    assert!(refusal(&sharing).contains("processor sharing is not there"));
}
