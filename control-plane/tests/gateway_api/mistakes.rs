//! Objects of the Gateway API that are wrong, or name what is not there.

use super::World;
use super::rules::{BASE, read};
use proptest::prelude::*;

#[test]
fn mistakes_are_told_with_their_places() {
    let (_, diagnostics) = read(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRef: [{name: gw}]
  rules:
  - matches:
    - path: {type: Prefix, value: /}
    - path: {type: RegularExpression, value: '('}
    - path: {type: Exact, value: x}
    filters:
    - {type: ExternalAuth, externalAuth: {}}
    timeouts: {request: soon}
    backendRefs: [{name: a, port: 80000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: http, port: 81, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: u}
spec: {}
",
    );
    insta::assert_snapshot!(source::render(&diagnostics, false));
}

#[test]
fn what_is_not_there_or_not_taken_is_told_with_its_place() {
    let (objects, _) = read(&format!(
        "{BASE}apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  parentRefs:
  - {{name: gww}}
  - {{name: gw, port: 81}}
  - {{group: '', kind: Service, name: nobody}}
  rules:
  - backendRefs: [{{name: a, port: 80}}, {{name: bb, port: 80}}, {{name: c, namespace: other, port: 80}}]
"
    ));
    let mut diagnostics = Vec::new();
    objects.check_references(&mut diagnostics);
    insta::assert_snapshot!(source::render(&diagnostics, false));
}

/// Objects of every kind, each thing on a line of its own.
const EVERYTHING: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: all
spec:
  gatewayClassName: istio
  addresses:
  - type: IPAddress
    value: 10.0.0.1
  allowedListeners:
    namespaces:
      from: All
  listeners:
  - name: web
    port: 443
    protocol: HTTPS
    hostname: '*.example.com'
    tls:
      mode: Terminate
      certificateRefs:
      - name: cert
    allowedRoutes:
      namespaces:
        from: Selector
        selector:
          matchExpressions:
          - key: team
            operator: DoesNotExist
  - name: raw
    port: 9000
    protocol: TCP
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata:
  name: set
spec:
  parentRef:
    name: all
  listeners:
  - name: more
    port: 8080
    protocol: HTTP
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: http
spec:
  parentRefs:
  - name: all
    sectionName: web
  - group: ''
    kind: Service
    name: a
    port: 80
  hostnames:
  - shop.example.com
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /x/
      headers:
      - name: h
        value: v
      queryParams:
      - type: RegularExpression
        name: q
        value: v.*
    filters:
    - type: URLRewrite
      urlRewrite:
        path:
          type: ReplacePrefixMatch
          replacePrefixMatch: /
    - type: RequestMirror
      requestMirror:
        backendRef:
          name: b
          port: 80
        fraction:
          numerator: 1
          denominator: 3
    retry:
      codes:
      - 503
      attempts: 2
    timeouts:
      request: 1s
    backendRefs:
    - name: a
      port: 80
      weight: 1
    - name: b
      port: 80
      weight: 0
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata:
  name: tcp
spec:
  parentRefs:
  - name: all
    port: 9000
  rules:
  - backendRefs:
    - name: b
      port: 80
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata:
  name: policy
spec:
  targetRefs:
  - group: ''
    kind: Service
    name: b
    sectionName: http
  validation:
    hostname: b.example.com
    caCertificateRefs:
    - group: ''
      kind: ConfigMap
      name: ca
";

proptest! {
    /// Whatever is changed or left out, there is an answer.
    #[test]
    fn broken_objects_do_not_break_the_translation(
        changes in prop::collection::vec((0_usize..200, 0_usize..9), 1..6),
    ) {
        let values = ["", "0", "-1", "*", "'('", "[]", "{}", "99999999999", "Passthrough"];
        let mut lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
        for (at, value) in changes {
            let count = lines.len();
            let line = &mut lines[at % count];
            *line = match line.split_once(": ") {
                Some((key, _)) => format!("{key}: {}", values[value]),
                None => String::new(),
            };
        }
        let (objects, _) = read(&format!("{BASE}{}", lines.join("\n")));
        let mut diagnostics = Vec::new();
        objects.check_references(&mut diagnostics);
        objects.gateway_api_statuses();
        let mut world = World::new(objects);
        for pod in world.pods.clone() {
            world.resources(&pod);
        }
    }
}
