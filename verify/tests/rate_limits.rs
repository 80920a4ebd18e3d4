//! EnvoyFilters of local rate limits beside a real Envoy: before a workload, at its clients and at a
//! gateway. Needs one: MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud otherwise.

#![allow(clippy::unwrap_used)]

use control_plane::{
    ControlPlane, Objects, ProxyKind, PushSettings, Request, RequestDirection, RequestProtocol,
};
use source::SourceFile;
use std::net::{IpAddr, SocketAddr};
use verify::{Config, Settings};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {clusterIP: 10.8.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {clusterIP: 10.8.0.2, selector: {app: b}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-0, labels: {app: a}}
spec: {containers: [{name: app}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b-0, labels: {app: b}}
spec: {containers: [{name: app}]}
status: {podIP: 10.9.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.9.0.200}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [shop.example, other.example]
  gateways: [edge]
  http:
  - {match: [{uri: {prefix: /fault}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: a}}]}
  - {match: [{uri: {exact: /old}}], redirect: {uri: /new}}
  - {route: [{destination: {host: a}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec: {selector: {matchLabels: {app: a}}, action: DENY, rules: [{to: [{operation: {paths: ["/denied"], ports: ["8080"]}}]}]}
---
# Of the workload: descriptors by path and by a header, before access control.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: inbound}
spec:
  workloadSelector: {labels: {app: a}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value: {stat_prefix: some}
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_INBOUND, routeConfiguration: {vhost: {name: "inbound|http|80", route: {action: ANY}}}}
    patch:
      operation: MERGE
      value:
        route:
          rate_limits:
          - actions: [{header_value_match: {descriptor_value: page, headers: [{name: ":path", string_match: {prefix: /page, ignore_case: true}}]}}]
          - actions: [{request_headers: {header_name: x-user, descriptor_key: user}}, {generic_key: {descriptor_value: g}}]
        typed_per_filter_config:
          envoy.filters.http.local_ratelimit:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: some
            token_bucket: {max_tokens: 12, tokens_per_fill: 1, fill_interval: 3600s}
            filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
            filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            response_headers_to_add: [{append: false, header: {key: x-local-rate-limit, value: "%REQ(x-user)%!"}}]
            descriptors:
            - {entries: [{key: header_match, value: page}], token_bucket: {max_tokens: 3, tokens_per_fill: 3, fill_interval: 3600s}}
            - {entries: [{key: user, value: u}, {key: generic_key, value: g}], token_bucket: {max_tokens: 4, tokens_per_fill: 2, fill_interval: 3600s}}
---
# Of clients: for one service.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: outbound}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {portNumber: 80, filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: some
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "a.default.svc.cluster.local:80"}}}
    patch:
      operation: MERGE
      value:
        typed_per_filter_config:
          envoy.filters.http.local_ratelimit:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: some
            token_bucket: {max_tokens: 2, tokens_per_fill: 1, fill_interval: 3600s}
            filter_enabled: {default_value: {numerator: 100}}
            filter_enforced: {default_value: {numerator: 100}}
            rate_limited_as_resource_exhausted: true
---
# Of a gateway: two filters, between which the fault filter stands.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: edge}
spec:
  workloadSelector: {labels: {istio: edge}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.fault}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: some
          token_bucket: {max_tokens: 20, tokens_per_fill: 1, fill_interval: 3600s}
          filter_enabled: {default_value: {numerator: 100}}
          filter_enforced: {default_value: {numerator: 100}}
          enable_x_ratelimit_headers: DRAFT_VERSION_03
          status: {code: 503}
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: some
          token_bucket: {max_tokens: 5, tokens_per_fill: 1, fill_interval: 3600s}
          filter_enabled: {default_value: {numerator: 100}}
          filter_enforced: {default_value: {numerator: 100}}
          enable_x_ratelimit_headers: DRAFT_VERSION_03
"#;

fn request(host: &str, path: &str, address: SocketAddr, direction: RequestDirection) -> Request {
    Request {
        method: "GET".into(),
        path: path.into(),
        authority: host.into(),
        address: Some(address),
        protocol: RequestProtocol::Http,
        direction: Some(direction),
        ..Request::default()
    }
}

fn with(header: (&str, &str), request: Request) -> Request {
    let (name, value) = header;
    Request {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..request
    }
}

/// In an order that empties every bucket.
fn inbound(ip: IpAddr) -> Vec<Request> {
    let of = |path: &str| request("a", path, (ip, 8080).into(), RequestDirection::Inbound);
    let user = |path: &str, user: &str| with(("x-user", user), of(path));
    let mut requests = vec![of("/other"), of("/denied")];
    requests.extend((0..4).map(|n| of(if n % 2 == 0 { "/page" } else { "/PAGE/x" })));
    requests.extend((0..3).map(|_| user("/other", "u")));
    requests.extend([user("/other", "v"), user("/page", "u")]);
    requests.extend((0..3).map(|_| user("/other", "u")));
    requests.extend((0..6).map(|_| of("/other")));
    requests.push(of("/denied"));
    requests
}

fn outbound() -> Vec<Request> {
    let of = |host: &str, number: u8| {
        let address = ([10, 8, 0, number], 80).into();
        request(host, "/", address, RequestDirection::Outbound)
    };
    let mut requests: Vec<Request> = (0..4).map(|_| of("a", 1)).collect();
    requests.push(with(("content-type", "application/grpc"), of("a", 1)));
    requests.extend((0..3).map(|_| of("b", 2)));
    requests
}

fn at_the_edge(ip: IpAddr) -> Vec<Request> {
    let of = |host: &str, path: &str| {
        let address = (ip, 8080).into();
        request(host, path, address, RequestDirection::Gateway)
    };
    let mut requests = vec![of("shop.example", "/"), of("nobody.example", "/")];
    requests.extend((0..3).map(|_| of("shop.example", "/fault")));
    requests.extend((0..3).map(|_| of("other.example", "/old")));
    requests.extend((0..15).map(|n| of("shop.example", if n < 2 { "/fault" } else { "/" })));
    requests
}

#[test]
fn limits_refuse_as_in_a_real_envoy() {
    let Some(envoy) = verify::find_envoy() else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("limits.yaml", MESH), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods.clone());
    let configs = pods.iter().map(|pod| {
        let mut proxy = pod.identity();
        let (kind, requests) = match &*pod.name {
            "a-0" => (ProxyKind::Sidecar, inbound(pod.ip)),
            "b-0" => (ProxyKind::Sidecar, outbound()),
            _ => (ProxyKind::Gateway, at_the_edge(pod.ip)),
        };
        proxy.kind = kind;
        Config {
            name: pod.name.to_string(),
            resources: plane.resources(&proxy),
            requests,
            proxy,
        }
    });
    let configs: Vec<Config> = configs.collect();
    let settings = Settings {
        sample_size: 0,
        ..Settings::new(envoy)
    };
    let report = verify::configs(&configs, &settings).unwrap();
    println!("{report}");
    assert!(report.agrees());
}
