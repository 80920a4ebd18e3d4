//! Matches that are never reached, as they are told.

use analysis::{Documents, never_reached};
use control_plane::Objects;
use source::{SourceFile, render};

/// What is said of the VirtualServices of `yaml`.
fn said(yaml: &str) -> String {
    let file = SourceFile::new("rules.yaml", yaml);
    let mut found = Vec::new();
    let documents = Documents::read(&file, &mut found);
    let objects = Objects::read(&file, &mut found);
    assert!(found.is_empty(), "{}", render(&found, false));
    never_reached(&documents, &objects, &mut found);
    render(&found, false)
}

fn virtual_service(spec: &str) -> String {
    let head =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\n";
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("{head}spec:\n{spec}")
}

fn rules(http: &str) -> String {
    let http: String = http.lines().map(|line| format!("  {line}\n")).collect();
    virtual_service(&format!("hosts: [reviews]\nhttp:\n{http}"))
}

#[test]
fn a_rule_that_another_covers() {
    insta::assert_snapshot!(said(&rules(
        "- name: versions
  match: [{uri: {regex: '/v[0-9]+(/.*)?'}}]
  route: [{destination: {host: a}}]
- name: first
  match: [{uri: {exact: /v1/x}, headers: {end-user: {exact: jason}}}]
  route: [{destination: {host: b}}]
- route: [{destination: {host: c}}]"
    )));
}

#[test]
fn several_together() {
    insta::assert_snapshot!(said(&rules(
        "- match:
  - {headers: {end-user: {}}}
  - {withoutHeaders: {end-user: {}}, port: 80}
  route: [{destination: {host: a}}]
- match:
  - {uri: {exact: /v1/x}, port: 80}
  - {uri: {exact: /v2/x}}
  route: [{destination: {host: b}}]"
    )));
}

#[test]
fn what_no_request_has() {
    insta::assert_snapshot!(said(&rules(
        "- match:
  - {uri: {exact: '/x?a=b'}}
  - {uri: {prefix: reviews}}
  - {uri: {exact: /a/../b}}
  - {scheme: {exact: ftp}}
  - {headers: {user: {exact: a}}, withoutHeaders: {user: {}}}
  - {uri: {prefix: /x}}
  route: [{destination: {host: b}}]"
    )));
}

#[test]
fn near_misses() {
    for http in [
        // Another method, port, caller, letter.
        "- match: [{uri: {regex: '/a[0-9]*'}, method: {exact: GET}}]
  route: [{destination: {host: a}}]
- match: [{uri: {exact: /a1}}]
  route: [{destination: {host: b}}]",
        "- match: [{port: 80}]
  route: [{destination: {host: a}}]
- match: [{uri: {exact: /a1}}]
  route: [{destination: {host: b}}]",
        "- match: [{sourceLabels: {app: a}}]
  route: [{destination: {host: a}}]
- match: [{sourceLabels: {app: b}}]
  route: [{destination: {host: b}}]",
        "- match: [{uri: {prefix: /A}}]
  route: [{destination: {host: a}}]
- match: [{uri: {prefix: /a}, ignoreUriCase: true}]
  route: [{destination: {host: b}}]",
    ] {
        let found = said(&rules(http));
        assert!(!found.contains("MSH0001"), "{found}");
    }
}

#[test]
fn virtual_services_of_one_host_at_a_gateway() {
    let of = |name: &str, http: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [a.example.com]
  gateways: [edge]
  http:
  {http}
---
"
        )
    };
    let first = "- match: [{uri: {prefix: /api}}]\n    route: [{destination: {host: a}}]\n  - route: [{destination: {host: b}}]";
    let second = "- match: [{uri: {exact: /api/v2}}]\n    route: [{destination: {host: c}}]\n  - match: [{uri: {exact: /web}}]\n    route: [{destination: {host: c}}]";
    insta::assert_snapshot!(said(&(of("a", first) + &of("b", second))));
}

#[test]
fn delegates() {
    let yaml = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [a.example.com]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /api}}]
    delegate: {name: child}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: child}
spec:
  http:
  - match: [{uri: {prefix: /api}}]
    route: [{destination: {host: a}}]
  - match: [{uri: {exact: /api/x}}]
    route: [{destination: {host: b}}]
";
    insta::assert_snapshot!(said(yaml));
}
