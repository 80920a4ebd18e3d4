//! The binary as people and programs meet it: exit codes, what stands on which stream, shapes of
//! JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod binary;

use binary::{RULES, SCENARIO, folder, meshsim};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/library/bookinfo-canary")
}

#[test]
fn run_ends_with_0_when_all_held_and_1_when_not() {
    let folder = folder("run-codes");
    let held = meshsim(&folder, &["run", "scenario.yaml"], "");
    assert_eq!((held.code, held.err.as_str()), (0, ""));
    assert!(held.out.contains("meshsim run scenario.yaml --seed 1"));
    let set = "expect.1.at_most=1%";
    let not = meshsim(&folder, &["run", "scenario.yaml", "--set", set], "");
    assert_eq!((not.code, not.err.as_str()), (1, ""));
    assert!(not.out.contains("✗"), "{}", not.out);
    assert!(not.out.contains(&format!("--set '{set}'")), "{}", not.out);
    // A folder stands for its scenario.yaml.
    assert_eq!(meshsim(&folder, &["run", "."], "").code, 0);
}

#[test]
fn run_ends_with_2_when_the_input_cannot_be_used() {
    let folder = folder("run-bad");
    let bad: [&[&str]; 9] = [
        &["scenario.yml"],
        &["rules.yaml"],
        &["scenario.yaml", "missing.yaml"],
        &["scenario.yaml", "--set", "traffic.web.rate=fast"],
        &["scenario.yaml", "--set", "traffic.web.rate"],
        &["scenario.yaml", "--set", "traffic.web.via=shop"],
        &["scenario.yaml", "--config", "missing.yaml"],
        &["scenario.yaml", "--seeds", "3..1"],
        &["scenario.yaml", "--seeds", "1..18446744073709551615"],
    ];
    for args in bad {
        let args = [&["run", "--out", "out"], args].concat();
        let ended = meshsim(&folder, &args, "");
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{args:?}");
        assert!(ended.err.contains("error"), "{args:?}: {}", ended.err);
        assert!(!folder.join("out").exists(), "{args:?}");
    }
}

#[test]
fn run_writes_one_json_object_for_each_seed_in_order() {
    let folder = folder("run-json");
    let args = [
        "run",
        "scenario.yaml",
        "--format",
        "json",
        "--seeds",
        "3..6",
    ];
    let ended = meshsim(&folder, &[&args[..], &["--threads", "3"]].concat(), "");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let records = ended.lines();
    let seeds: Vec<u64> = records
        .iter()
        .map(|r| r["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [3, 4, 5, 6]);
    assert_eq!(ended.out, meshsim(&folder, &args, "").out);
    let record = &records[0];
    for key in ["schema", "version", "digest"] {
        assert!(record[key].is_string(), "{key}");
    }
    assert_eq!(
        (&record["scenario"], &record["engine"]),
        (&"small".into(), &"event".into())
    );
    assert_eq!(
        (record["simulated_s"].as_f64(), &record["passed"]),
        (Some(3.0), &Value::Bool(true))
    );
    let web = &record["traffic"]["web"];
    for key in ["requests", "succeeded", "success_rate"] {
        assert!(web[key].is_number(), "{key}");
    }
    assert_eq!(web["codes"]["200"], web["requests"]);
    assert!(web["flags"].is_object());
    for key in ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"] {
        assert!(web["latency_ms"][key].is_number(), "{key}");
    }
    let shop = &record["workloads"]["shop-v1.default"];
    assert!(shop["requests"].as_u64().unwrap() > 0);
    let pod = &shop["endpoints"]["shop-v1-0"];
    assert!(
        pod["requests"].is_u64() && pod["failures"].is_u64(),
        "{shop}"
    );
    let cluster = &record["clusters"]["outbound|8080||shop.default.svc.cluster.local"];
    for key in ["requests", "attempts", "retries", "ejections", "overflows"] {
        assert!(cluster[key].is_u64(), "{key}");
    }
    let expectation = &record["expectations"][0];
    for key in ["name", "observed", "bound", "file"] {
        assert!(expectation[key].is_string(), "{key}");
    }
    assert_eq!(
        (&expectation["passed"], &expectation["line"]),
        (&Value::Bool(true), &14.into())
    );
}

#[test]
fn the_engine_asked_for_is_the_one_that_runs() {
    let folder = folder("engines");
    let run = |args: &[&str]| {
        let latency = ["--set", "network={latency: 1ms}"];
        let args = [
            &["run", "scenario.yaml", "--format", "json"][..],
            &latency[..],
            args,
        ]
        .concat();
        meshsim(&folder, &args, "")
    };
    let bytes = run(&["--engine", "turmoil"]);
    assert_eq!((bytes.code, bytes.err.as_str()), (0, ""));
    assert_eq!(bytes.lines()[0]["engine"], "turmoil");
    assert_eq!(run(&["--engine", "turmoil"]).out, bytes.out);
    let several = run(&["--engine", "turmoil", "--seeds", "1..2"]).lines();
    assert_eq!(several[0], bytes.lines()[0]);
    assert_ne!(several[0]["digest"], several[1]["digest"]);
    assert_eq!(run(&[]).lines()[0]["engine"], "event");
    let refused = run(&["--engine", "turmoil", "--set", "network={latency: 1.5ms}"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(
        refused.err.contains("whole milliseconds"),
        "{}",
        refused.err
    );
}

#[test]
fn set_and_config_replace_what_the_scenario_says() {
    let folder = folder("run-overrides");
    let requests = |args: &[&str]| {
        let args = [&["run", "scenario.yaml", "--format", "json"], args].concat();
        meshsim(&folder, &args, "").lines()[0].clone()
    };
    let usual = requests(&[]);
    let few = requests(&["--set", "traffic.web.rate=10/s"]);
    let count = |record: &Value| record["traffic"]["web"]["requests"].as_u64().unwrap();
    assert!(count(&few) * 5 < count(&usual));
    let teapot = RULES.replace(
        "route: [{destination: {host: shop, port: {number: 8080}}}]",
        "directResponse: {status: 418}",
    );
    assert_ne!(teapot, RULES);
    std::fs::write(folder.join("teapot.yaml"), &teapot).unwrap();
    let other = requests(&["--config", "teapot.yaml"]);
    assert_eq!(other["traffic"]["web"]["codes"]["418"], count(&other));
    let args = ["run", "scenario.yaml", "--format", "json", "--config", "-"];
    assert_eq!(meshsim(&folder, &args, &teapot).lines()[0], other);
}

#[test]
fn out_holds_the_record_the_log_and_the_journals() {
    let folder = folder("run-out");
    let args = ["run", "scenario.yaml", "--format", "json", "--out", "out"];
    let ended = meshsim(&folder, &args, "");
    let out = folder.join("out/small-seed-1");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("run.json"), ended.out);
    assert!(read("access.log").lines().count() > 100);
    assert!(out.join("journal").read_dir().unwrap().count() > 0);
    assert_eq!(
        ended.out,
        meshsim(&folder, &args[..4], "").out,
        "being watched changes nothing"
    );
}

#[test]
fn check_tells_what_is_wrong_on_standard_output() {
    let folder = folder("check");
    let fine = meshsim(&folder, &["check", "scenario.yaml", "rules.yaml"], "");
    assert_eq!(
        (fine.code, fine.out.as_str(), fine.err.as_str()),
        (0, "no problem found\n", "")
    );
    let fine = meshsim(&folder, &["check", "--format", "json", "."], "");
    assert_eq!((fine.code, fine.out.as_str()), (0, "[]\n"));
    let missing = meshsim(&folder, &["check", "--format", "json", "missing.yaml"], "");
    assert_eq!((missing.code, missing.err.as_str()), (2, ""));
    let told: Value = serde_json::from_str(&missing.out).unwrap();
    assert_eq!(
        (&told[0]["level"], &told[0]["file"]),
        (&"error".into(), &Value::Null)
    );

    let wrong = RULES
        .replace("hosts: [\"*\"]\n", "hosts: [\"*\"]\n  exportto: [x]\n")
        .replace("[gateway]", "[gatewya]");
    let args = ["check", "-"];
    let text = meshsim(&folder, &args, &wrong);
    assert_eq!((text.code, text.err.as_str()), (1, ""));
    insta::assert_snapshot!("check_text", text.out);
    let json = meshsim(&folder, &["check", "-", "--format", "json"], &wrong);
    assert_eq!((json.code, json.err.as_str()), (1, ""));
    insta::assert_snapshot!("check_json", json.out);
    // A scenario may come that way too; its files are looked for where one stands.
    let scenario = SCENARIO.replace("via: gateway", "via: gatewya");
    let text = meshsim(&folder, &args, &scenario);
    assert_eq!(text.code, 1);
    insta::assert_snapshot!("check_scenario_text", text.out);
}

#[test]
fn check_tells_the_status_that_objects_of_the_gateway_api_get() {
    let folder = folder("status");
    let objects = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: shop}]
  rules: [{backendRefs: [{name: nobody, port: 80}]}]
";
    let text = meshsim(&folder, &["check", "--status", "-"], objects);
    assert_eq!((text.code, text.err.as_str()), (0, ""));
    insta::assert_snapshot!("check_status_text", text.out);
    let args = ["check", "--status", "--format", "json", "-"];
    let json = meshsim(&folder, &args, objects);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["diagnostics"], Value::Array(Vec::new()));
    let route = &told["statuses"][1];
    assert_eq!(
        (&route["kind"], &route["metadata"]["name"]),
        (&"HTTPRoute".into(), &"web".into())
    );
    let resolved = &route["status"]["parents"][0]["conditions"][1];
    assert_eq!(resolved["type"], "ResolvedRefs");
    assert_eq!(resolved["reason"], "BackendNotFound");
}

#[test]
fn explain_says_where_a_request_goes() {
    let page = [
        "explain",
        "--config",
        "kubernetes",
        "--config",
        "istio",
        "--as",
    ];
    let said = |args: &[&str]| {
        let ended = meshsim(&library(), &[&page[..], args].concat(), "");
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{args:?}");
        ended.out
    };
    insta::assert_snapshot!(
        "explain_sidecar",
        said(&["productpage-v1", "http://reviews:9080/reviews/0"])
    );
    let gateway = "istio-system/istio-ingressgateway";
    insta::assert_snapshot!(
        "explain_gateway",
        said(&[gateway, "http://bookinfo.example/productpage"])
    );
    insta::assert_snapshot!(
        "explain_gateway_404",
        said(&[
            gateway,
            "-H",
            "Host: other.example",
            "http://bookinfo.example/"
        ])
    );
    let json = said(&[
        "productpage-v1",
        "http://reviews:9080/reviews/0",
        "--format",
        "json",
    ]);
    insta::assert_snapshot!("explain_json", json);
    let described = "kind=sidecar,namespace=default,labels=app=productpage";
    let elsewhere = said(&[
        described,
        "http://details:9080/details/0",
        "--format",
        "json",
    ]);
    let answer: Value = serde_json::from_str(&elsewhere).unwrap();
    assert_eq!(
        answer["clusters"][0]["name"],
        "outbound|9080||details.default.svc.cluster.local"
    );
    let abroad = ["productpage-v1", "http://example.com/", "--format", "json"];
    let cluster =
        |out: &str| serde_json::from_str::<Value>(out).unwrap()["clusters"][0]["name"].clone();
    assert_eq!(cluster(&said(&abroad)), "PassthroughCluster");
    let folder = folder("explain-mesh");
    let mesh = folder.join("mesh.yaml");
    std::fs::write(&mesh, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n").unwrap();
    let mesh = mesh.to_str().unwrap();
    let refused = said(&[&abroad[..], &["--mesh-config", mesh]].concat());
    let answer: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(
        (&answer["action"], answer["status"].as_u64()),
        (&"direct_response".into(), Some(502))
    );
}

#[test]
fn explain_says_why_not_and_who_set_what() {
    let rules = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{sourceLabels: {app: mobile}, uri: {prefix: /m}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match:
    - uri: {regex: \"/v[0-9]+/.*\"}
    - method: {exact: POST}
    - queryParams: {debug: {exact: \"1\"}}
    - withoutHeaders: {end-user: {exact: jason}}
    - gateways: [istio-system/ingress]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{headers: {end-user: {prefix: ja}}}]
    timeout: 500ms
    retries: {attempts: 3, perTryTimeout: 100ms, retryOn: 5xx}
    route: [{destination: {host: reviews, subset: v1}}]
  - route: [{destination: {host: reviews, subset: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews-outside}
spec:
  hosts: [reviews.default.svc.cluster.local]
  gateways: [istio-system/ingress]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    connectionPool: {http: {http1MaxPendingRequests: 4}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      loadBalancer: {simple: RANDOM}
      outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 10s}
  - {name: v2, labels: {version: v2}}
";
    let args = [
        "explain",
        "--config",
        "kubernetes",
        "--config",
        "-",
        "--allow-invalid",
        "--as",
        "productpage-v1",
        "-H",
        "end-user: jason",
        "http://reviews:9080/reviews/0",
    ];
    let ended = meshsim(&library(), &args, rules);
    assert_eq!(ended.code, 0, "{}", ended.err);
    insta::assert_snapshot!("explain_why_not", ended.out);
}

#[test]
fn explain_answers_requests_of_a_file() {
    let folder = folder("explain-requests");
    let config = library();
    let config = config.to_str().unwrap();
    let (kubernetes, istio) = (format!("{config}/kubernetes"), format!("{config}/istio"));
    let explain = |requests: &str, more: &[&str]| {
        std::fs::write(folder.join("requests.jsonl"), requests).unwrap();
        let args = [
            "explain",
            "--config",
            &kubernetes,
            "--config",
            &istio,
            "--as",
            "productpage-v1",
            "--requests",
            "requests.jsonl",
        ];
        meshsim(&folder, &[&args[..], more].concat(), "")
    };
    let two =
        "{\"authority\": \"details:9080\", \"path\": \"/\"}\n\n{\"authority\": \"ratings:9080\"}\n";
    let ended = explain(two, &["--format", "json"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let hosts: Vec<Value> = ended
        .lines()
        .iter()
        .map(|answer| answer["virtual_host"].clone())
        .collect();
    assert_eq!(
        hosts,
        [
            "details.default.svc.cluster.local:9080",
            "ratings.default.svc.cluster.local:9080"
        ]
    );
    let wrong = explain(&format!("{two}{{\"metod\": \"GET\"}}\n"), &[]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    insta::assert_snapshot!("explain_wrong_request", wrong.err);
    assert_eq!(explain(two, &["-X", "POST"]).code, 2);
}

#[test]
fn explain_refuses_what_it_cannot_answer() {
    let args = ["explain", "--config", "kubernetes", "--as"];
    let wrong: [&[&str]; 7] = [
        &["productpage", "http://reviews/"],
        &["other/productpage-v1", "http://reviews/"],
        &["kind=side", "http://reviews/"],
        &["knd=sidecar", "http://reviews/"],
        &["ip=10.0", "http://reviews/"],
        &["productpage-v1", "ftp://reviews/"],
        &["productpage-v1", "http://reviews/", "-H", "end-user"],
    ];
    let mut told = String::new();
    for wrong in wrong {
        let ended = meshsim(&library(), &[&args[..], wrong].concat(), "");
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{wrong:?}");
        told += &format!("{}\n{}", wrong.join(" "), ended.err);
    }
    insta::assert_snapshot!(told);
}

#[test]
fn without_a_terminal_there_are_no_colours() {
    let folder = folder("colours");
    for args in [
        &["run", "scenario.yaml", "--seeds", "1..2"][..],
        &["run", "missing.yaml"],
        &["check", "missing.yaml"],
        &["run", "--sed", "1"],
    ] {
        let ended = meshsim(&folder, args, "");
        assert!(!(ended.out + &ended.err).contains('\x1b'), "{args:?}");
    }
}

#[test]
fn the_schema_is_json() {
    let ended = meshsim(Path::new("."), &["schema", "scenario"], "");
    let schema: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 0);
    assert!(schema["$schema"].is_string() && schema["properties"]["traffic"].is_object());
}
