//! Which pods get a sidecar, and what becomes of their manifests.

#![allow(clippy::unwrap_used)]

use inject::{Injection, LinkerdInject, Manifests, PodReport, manifest, survey};
use source::{SourceFile, render};
use std::path::{Path, PathBuf};

const PODS: &str = include_str!("pods.yaml");

fn read(text: &str, by_default: bool) -> Manifests {
    let file = SourceFile::new("pods.yaml", text);
    let mut diagnostics = Vec::new();
    let manifests = Manifests::read(&[file], "default", by_default, &mut diagnostics);
    assert_eq!(render(&diagnostics, false), "");
    manifests
}

fn reports(text: &str, by_default: bool) -> Vec<PodReport> {
    let mut diagnostics = Vec::new();
    let reports = survey(&read(text, by_default), &mut diagnostics);
    assert_eq!(render(&diagnostics, false), "");
    reports
}

fn injected(text: &str, injection: &Injection) -> String {
    let mut diagnostics = Vec::new();
    let mut made = manifest(&read(text, false), injection, &mut diagnostics);
    assert_eq!(render(&diagnostics, false), "");
    made.texts.remove(0).1
}

#[test]
fn each_pod_has_a_reason_with_its_place() {
    let lines: Vec<String> = reports(PODS, false)
        .iter()
        .map(|pod| {
            let line = pod.decided_by.as_ref().map_or(0, |place| place.line);
            let head = format!(
                "{}/{}: {} because {} (line {line})",
                pod.namespace, pod.name, pod.proxy, pod.why
            );
            let notes = pod.notes.iter().map(|note| format!("\n    {note}"));
            std::iter::once(head).chain(notes).collect()
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn installations_may_inject_namespaces_by_default() {
    let nightly = |by_default| {
        let reports = reports(PODS, by_default);
        reports
            .iter()
            .find(|pod| pod.name == "nightly")
            .unwrap()
            .proxy
    };
    assert_eq!((nightly(false), nightly(true)), ("none", "sidecar"));
}

#[test]
fn selectors_and_policy_of_the_injector_count() {
    let with = |config: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-sidecar-injector, namespace: istio-system}}\n\
             data:\n  config: |\n    {config}\n---\n{PODS}"
        );
        let reports = reports(&text, false);
        let why = |name: &str| {
            let pod = reports.iter().find(|pod| pod.name == name).unwrap();
            format!("{} {}", pod.proxy, pod.why)
        };
        [why("web"), why("asks"), why("db")]
    };
    let asks = "sidecar label sidecar.istio.io/inject: true";
    let db = "none label sidecar.istio.io/inject: false";
    let policy = "none policy: disabled";
    assert_eq!(with("policy: disabled"), [policy, asks, db]);
    let never = "neverInjectSelector: [{matchLabels: {app: none}}, {matchExpressions: [{key: app, operator: Exists}]}]";
    assert_eq!(with(never), ["none neverInjectSelector 1", asks, db]);
    let always = "{policy: disabled, alwaysInjectSelector: [{matchLabels: {app: web}}]}";
    assert_eq!(with(always), ["sidecar alwaysInjectSelector 0", asks, db]);
}

#[test]
fn annotations_that_the_injector_refuses_are_errors() {
    let text = PODS
        .replace("\"9102\"", "metrics")
        .replace("10.0.0.0/8,", "10.0.0.0,");
    let mut diagnostics = Vec::new();
    survey(&read(&text, false), &mut diagnostics);
    insta::assert_snapshot!(render(&diagnostics, false));
}

/// Those of `text` that are left out of `longer` in order.
fn lost_lines<'t>(text: &'t str, longer: &str) -> Vec<&'t str> {
    let mut rest = longer.lines();
    let mut lost = Vec::new();
    for line in text.lines() {
        let before = rest.clone();
        if !rest.any(|one| one == line) {
            rest = before;
            lost.push(line);
        }
    }
    lost
}

#[test]
fn the_manifest_gains_a_sidecar_and_keeps_the_rest() {
    for cni in [false, true] {
        let injection = Injection::Istio { cni };
        let text = injected(PODS, &injection);
        // Lines in flow style are written anew.
        let lost = lost_lines(PODS, &text);
        let written_anew =
            |line: &&str| line.contains('{') || (cni && line.contains("excludeInbound"));
        assert!(lost.iter().all(written_anew), "{lost:#?}");
        let there: Vec<PodReport> = reports(&text, false);
        for (before, after) in reports(PODS, false).iter().zip(&there) {
            let expected = match before.injected && before.proxy == "sidecar" {
                true => "it has an istio-proxy container",
                false => &before.why,
            };
            assert_eq!((&*after.why, &after.name), (expected, &before.name));
        }
        // A second injection finds nothing to do.
        assert_eq!(injected(&text, &injection), text);
    }
}

#[test]
fn the_sidecar_is_as_istio_writes_it() {
    let text = injected(PODS, &Injection::Istio { cni: false });
    let from = text
        .find("kind: Deployment\nmetadata:\n  name: web")
        .unwrap();
    let to = text[from..].find("\n---").unwrap();
    insta::assert_snapshot!(&text[from..from + to]);
}

#[test]
fn without_native_sidecars_it_comes_last() {
    let text = injected(PODS, &Injection::Istio { cni: false });
    let from = text.find("  name: asks").unwrap();
    let to = text[from..].find("\n---").unwrap();
    let names = text[from..from + to].lines().filter_map(|line| {
        let name = line
            .strip_prefix("  - name: ")
            .or_else(|| line.strip_prefix("    name: "));
        name.filter(|name| {
            !name.starts_with("istio-") || ["istio-init", "istio-proxy"].contains(name)
        })
    });
    let names: Vec<&str> = names
        .filter(|n| ["first", "asks", "istio-init", "istio-proxy"].contains(n))
        .collect();
    assert_eq!(names, ["first", "istio-init", "asks", "istio-proxy"]);
}

/// The repository's sibling, with samples.
fn shared(path: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = root.join(path);
    if !found.exists() {
        eprintln!("SKIPPED: no {path}");
        return None;
    }
    Some(found)
}

#[test]
fn linkerd_inject_of_2017_redirects_to_the_node() {
    let injection = Injection::Linkerd(LinkerdInject::default());
    let text = injected(PODS, &injection);
    // Workloads that the tool knows, whatever their labels say.
    let node = |text: &str| {
        let reports = reports(text, false);
        let of_node = reports.into_iter().filter(|pod| pod.proxy == "node");
        of_node.map(|pod| pod.name).collect::<Vec<_>>()
    };
    assert_eq!(node(&text), ["web", "agent", "wishes"]);
    assert_eq!(injected(&text, &injection), text);
    let from = text.find("  name: web").unwrap();
    let annotations: Vec<&str> = text[from..].lines().skip(4).take(6).collect();
    insta::assert_snapshot!(annotations.join("\n"));
    let vip = LinkerdInject {
        use_service_vip: true,
        ..LinkerdInject::default()
    };
    let text = injected(PODS, &Injection::Linkerd(vip));
    assert!(text.contains(r#"\"-m\",\"true\",\"-s\",\"L5D\""#));
}

#[test]
fn the_bookinfo_of_2017_is_injected_as_then() {
    let Some(path) = shared("corpus/samples-2017/0.1.6/apps/bookinfo/bookinfo.yaml") else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let made = injected(&text, &Injection::Linkerd(LinkerdInject::default()));
    assert!(lost_lines(&text, &made).is_empty());
    let node = |pod: &&PodReport| pod.proxy == "node";
    assert_eq!(reports(&made, false).iter().filter(node).count(), 6);
}
