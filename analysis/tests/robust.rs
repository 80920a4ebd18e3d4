//! Objects of any shape are looked at without harm, and only what the objects can tell is said.

#![allow(clippy::expect_used)]

use analysis::{Documents, Selection, Settings, analyze};
use source::{Dialect, Node, SourceFile, Value, parse};
use std::path::Path;

fn told(text: &str, analyzers: Selection<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let documents = Documents::read(&SourceFile::new("a.yaml", text), &mut found);
    let settings = Settings {
        analyzers,
        ..Settings::default()
    };
    analyze(&documents, &settings, &mut found);
    let mut told: Vec<String> = found
        .iter()
        .map(|one| {
            format!(
                "{} {}",
                one.code.unwrap_or("?"),
                one.resource.as_deref().unwrap_or("?")
            )
        })
        .collect();
    told.sort();
    told
}

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web}
spec: {workloadSelector: {labels: {app: web}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers: [{port: {number: 443}, hosts: [a.example.com], tls: {credentialName: own}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, rules: [{from: [{source: {namespaces: [other]}}]}]}
";

const SERVICE: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
";

const DEPLOYMENT: &str = "\
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web, version: v1, sidecar.istio.io/inject: 'true'}}}}
";

const POD: &str = "\
---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
";

#[test]
fn rules_alone_miss_nothing() {
    assert_eq!(told(RULES, Selection::Automatic), [""; 0]);
    let all = [
        "IST0101 AuthorizationPolicy default/web",
        "IST0101 Gateway default/edge",
        "IST0101 Sidecar default/web",
        "IST0101 VirtualService default/web",
        "IST0127 AuthorizationPolicy default/web",
        "IST0174 DestinationRule default/web",
    ];
    assert_eq!(told(RULES, Selection::All), all);
}

#[test]
fn pods_of_workloads_count() {
    let with_workload = format!("{RULES}{SERVICE}{DEPLOYMENT}");
    let of_gateway = ["IST0101 Gateway default/edge"];
    assert_eq!(told(&with_workload, Selection::Automatic), of_gateway);
    let without = format!("{RULES}{SERVICE}{POD}");
    let missing = [
        "IST0101 Gateway default/edge",
        "IST0101 Sidecar default/web",
        "IST0127 AuthorizationPolicy default/web",
        "IST0173 DestinationRule default/web",
    ];
    assert_eq!(told(&without, Selection::Automatic), missing);
}

#[test]
fn what_runs_is_judged_as_files_are() {
    let running = format!("{RULES}{SERVICE}{POD}status: {{podIP: 10.0.0.1}}\n");
    assert_eq!(told(&running, Selection::Automatic), [""; 0]);
    assert_eq!(told(&running, Selection::OfFiles), [""; 0]);
}

/// How many values there are in it.
fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Seq(items) => items.iter().map(count).sum(),
        Value::Map(map) => map.entries.iter().map(|entry| count(&entry.value)).sum(),
        _ => 0,
    }
}

/// Puts another value in the place of one of them.
fn replace(node: &mut Node, left: &mut usize, by: &Value) {
    if *left == 0 {
        node.value = by.clone();
        *left = usize::MAX;
        return;
    }
    *left -= 1;
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(|item| replace(item, left, by)),
        Value::Map(map) => {
            let entries = map.entries.iter_mut();
            entries.for_each(|entry| replace(&mut entry.value, left, by));
        }
        _ => {}
    }
}

#[test]
fn any_value_may_be_of_another_type() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    let others = [
        Value::Null,
        Value::Int(-1),
        Value::String("é*".to_owned()),
        Value::Seq(Vec::new()),
        Value::Map(source::Map::default()),
    ];
    let step = if std::env::var("MESHSIM_SLOW").is_ok() {
        1
    } else {
        7
    };
    for entry in std::fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let (documents, _) = parse(&SourceFile::new("a.yaml", &text), Dialect::Kubernetes);
        let all: usize = documents.iter().map(count).sum();
        for at in (0..all).step_by(step) {
            let mut left = at;
            let mut changed = Documents::default();
            for document in &documents {
                let mut document = document.clone();
                replace(&mut document, &mut left, &others[at % others.len()]);
                changed.add(&document);
            }
            let settings = Settings {
                analyzers: Selection::All,
                ..Settings::default()
            };
            let mut found = Vec::new();
            analyze(&changed, &settings, &mut found);
            assert!(found.iter().all(|one| one.resource.is_some()));
        }
    }
}
