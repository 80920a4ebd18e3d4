//! How typical mistakes read.

use super::said_of;

fn said(text: &str) -> String {
    source::render(&said_of(text), false)
}

fn object(kind: &str, spec: &str) -> String {
    let head = "apiVersion: networking.istio.io/v1\n";
    format!("{head}kind: {kind}\nmetadata: {{name: shop, namespace: prod}}\nspec:\n{spec}")
}

#[test]
fn hosts_gateways_and_exports() {
    insta::assert_snapshot!(said(&object(
        "VirtualService",
        "  hosts: [shop_front.prod, '*.shop.com', a.shop.com, 'shop.*']
  gateways: [prod/front_door, front.prod.svc.cluster.local]
  exportTo: [., prod, '~']
  http:
  - match:
    - headers: {'@request.auth.claims.group': {exact: admin}, 'bad name': {exact: x}, gone: null}
      method: {prefix: ''}
    route:
    - destination: {host: '*', subset: v_1}
"
    )));
}

#[test]
fn rules_that_nothing_reaches() {
    insta::assert_snapshot!(said(&object(
        "VirtualService",
        "  hosts: [shop]
  http:
  - name: pages
    match: [{uri: {prefix: /a}}, {uri: {prefix: /a/b}}]
    route: [{destination: {host: shop}}]
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: shop}}]
  - route: [{destination: {host: shop}}]
  - route: [{destination: {host: shop}}]
"
    )));
}

#[test]
fn redirects_rewrites_and_header_changes() {
    insta::assert_snapshot!(said(&object(
        "VirtualService",
        "  hosts: [shop]
  http:
  - match: [{uri: {exact: /old}}]
    redirect: {prefixRewrite: /new, scheme: ftp, redirectCode: 200}
    fault: {abort: {httpStatus: 500}}
  - match: [{uri: {prefix: /rewritten}}]
    rewrite: {authority: a.com}
    headers:
      request: {set: {Host: b.com, x-share: '50%'}, remove: [':path']}
      response: {add: {host: c.com}}
    retries: {attempts: 0, perTryTimeout: 1.5ms, retryOn: '5xx,600'}
    corsPolicy: {allowMethods: [get], allowOrigins: [{}], maxAge: 1.5s}
    route: [{destination: {host: shop}}]
"
    )));
}

#[test]
fn traffic_policies() {
    insta::assert_snapshot!(said(&object(
        "DestinationRule",
        "  host: shop
  trafficPolicy:
    connectionPool: {}
    outlierDetection: {consecutiveLocalOriginFailures: 3, maxEjectionPercent: 120}
    loadBalancer:
      consistentHash: {httpCookie: {name: ''}, useSourceIp: true, maglev: {tableSize: 1000}}
      localityLbSetting:
        distribute: [{from: east/*, to: {east: 60, west: 30}}]
        failover: [{from: east, to: east}]
    tls: {mode: MUTUAL, clientCertificate: /etc/cert.pem}
    portLevelSettings: [{port: {number: 0}}]
  subsets:
  - {name: v1, labels: {version: 'v*'}, trafficPolicy: {}}
  workloadSelector: {matchLabels: {app: '*'}}
  exportTo: ['*']
"
    )));
}

#[test]
fn servers_of_a_gateway() {
    insta::assert_snapshot!(said(&object(
        "Gateway",
        "  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: web, protocol: HTTPP}
    hosts: [shop]
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*shop.com']
    tls: {mode: SIMPLE, credentialName: shop}
  - port: {number: 443, name: http, protocol: HTTPS}
    hosts: [a.shop.com]
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [b.shop.com]
    tls: {mode: MUTUAL, cipherSuites: [AES128-SAH], minProtocolVersion: TLSV1_4}
"
    )));
}

#[test]
fn services_outside_the_cluster() {
    insta::assert_snapshot!(said(&object(
        "ServiceEntry",
        "  hosts: ['*.shop.com', 'shop.org']
  addresses: [10.0.0.0/33]
  resolution: DNS
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 80, name: tcp_port, protocol: TCP}
  endpoints:
  - {address: 10.0.0.1, ports: {htp: 8080}}
  - {address: 'unix:///var/run/shop'}
  workloadSelector: {labels: {app: shop}}
"
    )));
}

#[test]
fn listeners_of_a_sidecar() {
    insta::assert_snapshot!(said(&object(
        "Sidecar",
        "  egress:
  - hosts: [shop.com, ./*, prod/a.com]
  - port: {number: 80, protocol: HTTP}
    bind: localhost
    hosts: ['*/*']
  ingress:
  - port: {number: 9080, protocol: HTTP, name: web}
    defaultEndpoint: 10.0.0.1:80
    tls: {mode: ISTIO_MUTUAL}
"
    )));
}
