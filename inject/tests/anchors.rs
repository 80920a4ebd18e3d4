//! Anchors, aliases and `<<`: an addition changes the pod that it is meant for, or nothing.

#![allow(clippy::unwrap_used)]

use inject::{Injection, LinkerdInject, Manifests, manifest};
use source::{SourceFile, render};

/// The manifest made of `text`, and what is said.
fn injected(text: &str, injection: &Injection) -> (String, String) {
    let mut diagnostics = Vec::new();
    let file = SourceFile::new("pods.yaml", text);
    let manifests = Manifests::read(&[file], "default", false, &mut diagnostics);
    let mut made = manifest(&manifests, injection, &mut diagnostics);
    (made.texts.remove(0).1, render(&diagnostics, false))
}

const ISTIO: Injection = Injection::Istio { cni: false };

/// A Deployment of `metadata` and `spec`.
fn deployment(metadata: &str, spec: &str) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {metadata}\nspec:\n{spec}\n")
}

#[test]
fn what_is_not_the_pods_alone_is_not_changed() {
    let linkerd = Injection::Linkerd(LinkerdInject::default());
    let selector = deployment(
        "{name: web, labels: &l {app: web}}",
        "  selector: {matchLabels: *l}\n  template: {metadata: {labels: *l}, spec: {containers: [{name: a}]}}",
    );
    let of_template = deployment(
        "{name: web}",
        "  template: {metadata: {labels: &l {app: web}}, spec: {containers: [{name: a}]}}\n  selector: {matchLabels: *l}",
    );
    let merged = deployment(
        "\n  name: web\n  labels: &l\n    app: web",
        "  template:\n    metadata:\n      labels:\n        <<: *l\n    spec: {containers: [{name: a}]}",
    );
    let value = deployment(
        "{name: web, annotations: {port: &p \"9102\"}}",
        "  template: {metadata: {annotations: {prometheus.io/port: *p}}, spec: {containers: [{name: a}]}}",
    );
    let two = |kind: &str| {
        let annotations = "{alpha.istio.io/linkerd: a, prometheus.io/port: \"9102\"}";
        format!(
            "kind: List\nitems:\n- kind: {kind}\n  metadata: {{name: a}}\n  spec:\n    template: &t\n      metadata: {{annotations: {annotations}}}\n      spec: {{containers: [{{name: a}}]}}\n- kind: {kind}\n  metadata: {{name: b}}\n  spec: {{template: *t}}\n"
        )
    };
    let last = deployment(
        "{name: web, annotations: {a: &a quoted}}",
        "  template:\n    metadata:\n      annotations: {sidecar.istio.io/nativeSidecar: \"false\"}\n    spec:\n      containers:\n      - name: a\n        args:\n        - *a",
    );
    for (text, injection, line) in [
        (&selector, &ISTIO, 6),
        (&of_template, &ISTIO, 5),
        (&merged, &ISTIO, 11),
        (&value, &ISTIO, 5),
        (&last, &ISTIO, 10),
        (&two("Deployment"), &ISTIO, 7),
        (&two("Deployment"), &linkerd, 7),
    ] {
        let (made, said) = injected(text, injection);
        assert_eq!(&made, text);
        assert!(
            said.contains("nothing can be added to this manifest: an anchor, an alias or `<<`"),
            "{text}\n{said}"
        );
        assert!(
            said.contains(&format!("pods.yaml:{line}:")),
            "{text}\n{said}"
        );
    }
}

/// A Deployment whose init containers and labels are written so.
fn with(first: &str, labels: &str) -> String {
    let spec = [
        "  selector: {matchLabels: &l {app: *app}}",
        "  template: &only-here",
        "    metadata: &of-pod",
        "      annotations:",
        &format!("      labels: {labels}"),
        "    spec: &spec",
        &format!("      initContainers:{first}"),
        "      volumes: &v [&own {name: own, emptyDir: {}}]",
        "      containers:",
        "      - name: web",
        "        env:",
        "        - name: *app",
    ];
    deployment("{name: web, labels: {app: &app web}}", &spec.join("\n"))
}

#[test]
fn an_alias_elsewhere_is_no_hindrance() {
    let firsts = [
        " &first-ones\n      - name: first",
        " &first-ones\n        - name: first",
        "\n      - &first-one\n        name: first",
        "\n        - &first-one\n          name: first",
        " &first-ones [&first-one {name: first}]",
        " !!seq [name: first]",
    ];
    let labels = [
        "\n        app: *app",
        "&m {app: *app}",
        "&m\n        app: *app",
    ];
    for (first, labels) in firsts.iter().flat_map(|f| labels.map(|l| (f, l))) {
        let text = with(first, labels);
        let (made, said) = injected(&text, &ISTIO);
        assert_eq!(said, "", "{text}");
        let file = SourceFile::new("made.yaml", &made);
        let (documents, problems) = source::parse(&file, source::Dialect::Kubernetes);
        assert_eq!(render(&problems, false), "");
        let entries = |path: &[&str]| {
            let node = documents[0].at(path).unwrap();
            node.as_map().unwrap().entries.len()
        };
        assert_eq!(entries(&["metadata", "labels"]), 1);
        assert_eq!(entries(&["spec", "selector", "matchLabels"]), 1);
        assert_eq!(entries(&["spec", "template", "metadata", "labels"]), 4);
        let names = |key: &str| {
            let items = documents[0].at(&["spec", "template", "spec", key]);
            let items = items.unwrap().as_seq().unwrap().iter();
            let names = items.map(|item| item.at(&["name"]).unwrap().as_str().unwrap());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let initial = ["istio-init", "istio-proxy", "first"];
        assert_eq!(names("initContainers"), initial, "{text}");
        assert_eq!(names("containers"), ["web"]);
        assert_eq!(names("volumes").last().unwrap(), "own");
        // A second injection finds nothing to do.
        assert_eq!(injected(&made, &ISTIO), (made, String::new()));
    }
}
