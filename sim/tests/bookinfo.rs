//! Istio's own Bookinfo files, unmodified, applied live to a mesh under load. They are looked for
//! beside the repository, under `shared/corpus`; without them the test says that it is skipped.

mod support;

use record::RunRecord;
use sim::{Observers, event};
use std::path::PathBuf;
use support::{plan_of, root};

fn samples() -> Option<PathBuf> {
    let folder = root().join("../shared/corpus/samples/bookinfo");
    let found = folder.is_dir();
    if !found {
        eprintln!("skipped: {} is not there", folder.display());
    }
    found.then_some(folder)
}

/// Ten seconds of load on all of Bookinfo with the named files of `networking/` applied at the
/// start, and `live` after two seconds.
fn run(folder: &std::path::Path, config: &[&str], live: &str) -> RunRecord {
    let config: Vec<String> = config
        .iter()
        .map(|file| format!("networking/{file}"))
        .collect();
    let text = format!(
        r#"
name: bookinfo
duration: 10s
warmup: 4s
topology:
  kubernetes: [platform/kube/bookinfo.yaml]
  services:
    istio-ingressgateway: {{port: 8080, proxy: gateway, namespace: default, labels: {{istio: ingressgateway}}}}
config: [{}]
control_plane: {{push_delay: 10ms}}
behavior:
  default: {{workers: 32, service_time: 1ms}}
  productpage-v1:
    propagate: [end-user]
    calls: [{{get: "details:9080/details/0", on_error: degrade}}, {{get: "reviews:9080/reviews/0", on_error: degrade}}]
  reviews-v2: {{propagate: [end-user], calls: [{{get: "ratings:9080/ratings/0", on_error: degrade}}]}}
  reviews-v3: {{propagate: [end-user], calls: [{{get: "ratings:9080/ratings/0", on_error: degrade}}]}}
traffic:
  web:
    get: http://bookinfo.example:8080/productpage
    via: istio-ingressgateway
    rate: 300/s
    mix: [{{50%: {{headers: {{end-user: jason}}}}}}, {{50%: {{}}}}]
timeline:
  live: {{at: 2s, apply: networking/{live}}}
"#,
        config.join(", ")
    );
    let plan = plan_of("bookinfo.yaml", &text, folder, &[]);
    event::run(&plan, 1, Observers::default()).record
}

fn share(record: &RunRecord, to: &str, workload: &str) -> f64 {
    let calls: Vec<_> = record.calls.iter().filter(|call| call.to == to).collect();
    let served: u64 = calls
        .iter()
        .filter_map(|call| call.served_by.get(workload))
        .sum();
    served as f64 / calls.iter().map(|call| call.requests).sum::<u64>() as f64
}

#[test]
fn every_virtual_service_routes_under_load() {
    let Some(folder) = samples() else { return };
    let base = [
        "bookinfo-gateway.yaml",
        "destination-rule-all.yaml",
        "virtual-service-all-v1.yaml",
    ];
    // File, and the shares of reviews that v1, v2 and v3 have with it. Half of the users are jason.
    let cases = [
        ("virtual-service-all-v1.yaml", [1.0, 0.0, 0.0]),
        ("virtual-service-reviews-50-v3.yaml", [0.5, 0.0, 0.5]),
        ("virtual-service-reviews-80-20.yaml", [0.8, 0.2, 0.0]),
        ("virtual-service-reviews-90-10.yaml", [0.9, 0.1, 0.0]),
        ("virtual-service-reviews-jason-v2-v3.yaml", [0.0, 0.5, 0.5]),
        ("virtual-service-reviews-test-v2.yaml", [0.5, 0.5, 0.0]),
        ("virtual-service-reviews-v2-v3.yaml", [0.0, 0.5, 0.5]),
        ("virtual-service-reviews-v3.yaml", [0.0, 0.0, 1.0]),
    ];
    for (file, wanted) in cases {
        let record = run(&folder, &base, file);
        assert!(record.traffic["web"].requests > 1_500);
        assert_eq!(record.traffic["web"].success_rate, Some(1.0), "{file}");
        for (version, wanted) in ["reviews-v1", "reviews-v2", "reviews-v3"]
            .iter()
            .zip(wanted)
        {
            let got = share(&record, "reviews", version);
            // Four standard deviations of 1,700 requests.
            assert!(
                (got - wanted).abs() < 0.05,
                "{file}: {version} has {got}, not {wanted}"
            );
        }
    }
}

#[test]
fn faults_and_missing_versions_show_under_load() {
    let Some(folder) = samples() else { return };
    let base = [
        "bookinfo-gateway.yaml",
        "destination-rule-all.yaml",
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-v3.yaml",
    ];
    let to_ratings = |file: &str| {
        let record = run(&folder, &base, file);
        let calls = record
            .calls
            .iter()
            .find(|call| call.to == "ratings")
            .unwrap()
            .clone();
        (calls.succeeded as f64 / calls.requests as f64, record)
    };
    let (succeeded, _) = to_ratings("virtual-service-ratings-test-abort.yaml");
    assert!(
        (succeeded - 0.5).abs() < 0.05,
        "half of the users are jason: {succeeded}"
    );
    let (succeeded, record) = to_ratings("virtual-service-ratings-test-delay.yaml");
    assert_eq!(succeeded, 1.0);
    let p95 = record.traffic["web"].latency_ms.p95.unwrap();
    assert!(p95 > 7_000.0, "jason waits seven seconds: {p95}");
    for file in [
        "virtual-service-ratings-db.yaml",
        "virtual-service-ratings-mysql.yaml",
        "virtual-service-ratings-mysql-vm.yaml",
        "virtual-service-details-v2.yaml",
    ] {
        // These versions are not deployed: their subsets are empty.
        let record = run(&folder, &base, file);
        let to = if file.contains("details") {
            "details"
        } else {
            "ratings"
        };
        let calls = record.calls.iter().find(|call| call.to == to);
        assert!(
            calls.is_none_or(|calls| calls.succeeded == 0),
            "{file}: {calls:?}"
        );
        assert_eq!(
            record.traffic["web"].success_rate,
            Some(1.0),
            "the page does without"
        );
    }
}

#[test]
fn destination_rules_balance_under_load() {
    let Some(folder) = samples() else { return };
    for file in [
        "destination-rule-all.yaml",
        "destination-rule-all-mtls.yaml",
        "destination-rule-reviews.yaml",
    ] {
        let record = run(&folder, &["bookinfo-gateway.yaml"], file);
        assert_eq!(record.traffic["web"].success_rate, Some(1.0), "{file}");
        for version in ["reviews-v1", "reviews-v2", "reviews-v3"] {
            let got = share(&record, "reviews", version);
            assert!(
                (got - 1.0 / 3.0).abs() < 0.06,
                "{file}: {version} has {got}"
            );
        }
    }
}
