//! Configuration that is partly or wholly unfit: what loads, what is said, what is left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, PushSettings, Resources, allow_invalid};
use source::{Diagnostic, Level, SourceFile};

fn read(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("dump.yaml", text), &mut diagnostics);
    (objects, diagnostics)
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {{name: {name}, namespace: shop}}
  spec: {spec}
"
    )
}

/// A dump of `count` Services, each with a VirtualService; every seventh of these is invalid, and
/// there as comments only unless `with_invalid`.
fn dump(count: u32, with_invalid: bool) -> String {
    let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    for i in 0..count {
        text += &format!(
            "- apiVersion: v1
  kind: Service
  metadata: {{name: s{i}, namespace: shop}}
  spec: {{ports: [{{name: http, port: 80}}], selector: {{app: s{i}}}}}
"
        );
        let route = format!("route: [{{destination: {{host: s{i}}}}}]");
        let spec = match i % 7 {
            3 => format!("{{hosts: [s{i}], http: [{{{route}, timeout: -3s}}]}}"),
            _ => format!("{{hosts: [s{i}], http: [{{{route}, timeout: 3s}}]}}"),
        };
        let object = virtual_service(&format!("v{i}"), &spec);
        text += &match i % 7 == 3 && !with_invalid {
            true => "#\n".repeat(object.lines().count()),
            false => object,
        };
    }
    text + "- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: client, namespace: shop}
  spec:
    template:
      metadata: {labels: {app: client, sidecar.istio.io/inject: 'true'}}
      spec: {containers: [{name: app}]}
"
}

fn resources(objects: &Objects) -> Resources {
    let proxy = objects.proxy("shop/client").expect("it is in the dump");
    let pods = objects.pods();
    ControlPlane::new(PushSettings::default(), objects.clone(), pods).resources(&proxy)
}

#[test]
fn of_a_dump_the_valid_objects_load_and_each_invalid_one_is_reported() {
    let (objects, mut diagnostics) = read(&dump(2_000, true));
    let invalid: Vec<u32> = (0..2_000).filter(|i| i % 7 == 3).collect();
    let errors: Vec<&Diagnostic> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.level == Level::Error)
        .collect();
    assert_eq!(errors.len(), invalid.len());
    for (error, i) in errors.iter().zip(&invalid) {
        let resource = format!("VirtualService shop/v{i}");
        assert_eq!(error.resource.as_deref(), Some(&*resource));
        assert_eq!(error.code, Some("IST0106"));
        let span = error.span.as_ref().unwrap();
        assert_eq!((span.text(), span.line()), ("-3s", 3 + i * 8 + 8));
    }

    allow_invalid(&mut diagnostics);
    assert!(diagnostics.iter().all(|d| d.level == Level::Warning));
    assert!(
        diagnostics[0]
            .message
            .starts_with("VirtualService shop/v3 is left out: "),
        "{}",
        diagnostics[0].message
    );

    let (without, said) = read(&dump(2_000, false));
    assert_eq!(said, []);
    assert_eq!(objects.refs(), without.refs());
    assert_eq!(resources(&objects), resources(&without));
}

#[test]
fn what_is_no_object_is_not_left_out() {
    for text in [
        "kind: VirtualService\nmetadata: {name: [\n",
        "apiVersion: v1\nmetadata: {name: x}\nspec: {}\n",
        "just text\n",
        "kind: List\nitems: {a: b}\n",
        "kind: Service\nkind: Service\napiVersion: v1\nmetadata: {name: x}\nspec: {}\n",
    ] {
        let (_, mut diagnostics) = read(text);
        allow_invalid(&mut diagnostics);
        let errors = diagnostics.iter().filter(|d| d.level == Level::Error);
        assert!(errors.count() > 0, "{text}");
    }
}

#[test]
fn references_to_what_is_left_out_are_warnings_and_stay() {
    let text = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: s0, namespace: shop}
  spec: {ports: [{name: http, port: 80}], selector: {app: s0}}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: s0, namespace: shop}
  spec: {host: s0, subsets: [{name: v1, label: {version: v1}}]}
"
    .to_owned()
        + &virtual_service(
            "v0",
            "{hosts: [s0], http: [{route: [{destination: {host: s0, subset: v1}}]}]}",
        );
    let (objects, mut diagnostics) = read(&text);
    objects.check_references(&mut diagnostics);
    allow_invalid(&mut diagnostics);
    insta::assert_snapshot!(source::render(&diagnostics, false));
    assert_eq!(objects.refs().len(), 2);
}

fn said(text: &str) -> String {
    source::render(&read(text).1, false)
}

#[test]
fn yaml_1_1_as_kubernetes_reads_it() {
    insta::assert_snapshot!(said(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: flags, labels: {beta: on, version: 1.10, off: 'x'}}
spec:
  hosts: [a.example.com]
  http:
  - match:
    - headers: {x-beta: {exact: yes}, x-quoted: {exact: 'yes'}}
      ignoreUriCase: yes
    - withoutHeaders: {x-version: {prefix: 2}}
      port: 0120
    timeout: 3
    retries: {attempts: 0x3, retryOn: off}
    corsPolicy: {allowCredentials: no}
    route: [{destination: {host: a.example.com}}]
"
    ));
}

#[test]
fn expressions_of_exponential_size() {
    let long = "a".repeat(1025);
    let large = "[^a-c]{1000}".repeat(80);
    insta::assert_snapshot!(said(&format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: large}}
spec:
  hosts: [a.example.com]
  http:
  - match:
    - uri: {{regex: '((a{{100}}){{100}}){{100}}'}}
    - uri: {{regex: '{large}'}}
    - uri: {{regex: '{long}'}}
    - uri: {{regex: ''}}
    - uri: {{regex: '(a'}}
    route: [{{destination: {{host: a.example.com}}}}]
"
    )));
}
