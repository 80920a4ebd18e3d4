//! What is said about configuration that is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::Objects;
use source::SourceFile;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{port: 9080, name: http}], selector: {app: reviews}}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: prod}
spec: {ports: [{port: 9080, name: http}], selector: {app: ratings}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo-gateway}
spec:
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
";

/// All that reading `text`, and checking it beside the services above, has to say.
fn said(text: &str) -> String {
    let mut diagnostics = Vec::new();
    let services = SourceFile::new("services.yaml", SERVICES);
    let mut objects = Objects::read(&services, &mut diagnostics);
    assert_eq!(diagnostics, []);
    let file = SourceFile::new("rules.yaml", text);
    objects.apply(&Objects::read(&file, &mut diagnostics));
    objects.check_references(&mut diagnostics);
    source::render(&diagnostics, false)
}

fn virtual_service(spec: &str) -> String {
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n";
    format!("{head}metadata:\n  name: reviews\nspec:\n  hosts: [reviews]\n{spec}")
}

#[test]
fn misspelt_fields_and_wrong_types() {
    insta::assert_snapshot!(said(&virtual_service(
        "  http:
  - timout: 3s
    retries: {attempts: many, retryOn: '5xx,conect-failure'}
    fault: {delay: {fixedDelay: 7, percentage: {value: 110}}}
    match:
    - uri: {prefx: /api}
    - headers: {end-user: {regex: '('}}
    route:
    - destination: {host: reviews, port: {number: http}}
"
    )));
}

#[test]
fn weights_that_do_not_fit() {
    insta::assert_snapshot!(said(&virtual_service(
        "  http:
  - match: [{uri: {exact: /}}]
    route:
    - {destination: {host: reviews, subset: v1}, weight: 0}
    - {destination: {host: reviews, subset: v2}, weight: 0}
  - route:
    - {destination: {host: reviews, subset: v1}, weight: -10}
    - {destination: {host: reviews, subset: v2}, weight: 110}
"
    )));
}

#[test]
fn names_of_things_that_are_not_there() {
    insta::assert_snapshot!(said(&virtual_service(
        "  gateways: [bokinfo-gateway, mesh]
  http:
  - match: [{uri: {exact: /a}}]
    route:
    - destination: {host: reviws, subset: v1}
  - match: [{uri: {exact: /b}}]
    route:
    - destination: {host: reviews, subset: v3, port: {number: 9081}}
    mirror: {host: ratings}
  - route:
    - destination: {host: ratings.prod.svc.cluster.local, subset: v1}
"
    )));
}

#[test]
fn what_is_not_supported_is_said() {
    insta::assert_snapshot!(said(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec: {action: CUSTOM, provider: {name: opa}, rules: [{}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBN}
    tunnel: {}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: silent}
"
    ));
}
