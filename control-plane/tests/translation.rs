//! What rules become, and where requests go by them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use client::client;
use control_plane::{
    Action, ControlPlane, Explanation, Objects, ProxyKind, PushSettings, Request, RequestProtocol,
    RequestTls, Resources, explain,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{Discovery, HashInput, LbPolicy, RouteAction, Transport};
use source::SourceFile;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.0.1, ports: [{port: 9080, name: http}], selector: {app: reviews}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: 10.96.0.2, ports: [{port: 5432, name: tcp}], selector: {app: db}}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: istio-system}
spec: {ports: [{port: 80, targetPort: 8080, name: http}, {port: 443, targetPort: 8443, name: https}], selector: {istio: ingressgateway}}
---
apiVersion: v1
kind: Node
metadata: {name: east, labels: {topology.kubernetes.io/region: east, topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Node
metadata: {name: west, labels: {topology.kubernetes.io/region: west, topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-0, labels: {app: reviews, version: v1}}
spec: {nodeName: east, containers: []}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, labels: {app: reviews, version: v2, security.istio.io/tlsMode: istio}}
spec: {nodeName: west, containers: []}
status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]}
---
";

fn read(rules: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let file = SourceFile::new("rules.yaml", &format!("{SERVICES}{rules}"));
    let objects = Objects::read(&file, &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

fn resources(rules: &str, kind: ProxyKind, namespace: &str, labels: &[(&str, &str)]) -> Resources {
    let objects = read(rules);
    let pods = objects.pods();
    let identity = client(kind, namespace, labels, "east/a");
    ControlPlane::new(PushSettings::default(), objects, pods).resources(&identity)
}

fn sidecar(rules: &str) -> Resources {
    resources(rules, ProxyKind::Sidecar, "default", &[("app", "client")])
}

fn gateway(rules: &str) -> Resources {
    resources(
        rules,
        ProxyKind::Gateway,
        "istio-system",
        &[("istio", "ingressgateway")],
    )
}

fn get(resources: &Resources, authority: &str, path: &str) -> Explanation {
    let request = Request {
        authority: authority.into(),
        path: path.into(),
        ..Request::default()
    };
    explain(resources, &request)
}

fn shares(answer: &Explanation) -> Vec<(String, u32)> {
    let clusters = answer.clusters.iter();
    clusters
        .map(|share| (share.name.to_string(), share.weight))
        .collect()
}

fn cluster(subset: &str, weight: u32) -> (String, u32) {
    (
        format!("outbound|9080|{subset}|reviews.default.svc.cluster.local"),
        weight,
    )
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
    )
}

#[test]
fn rules_are_tried_in_order_and_name_their_origin() {
    let rules = virtual_service(
        "reviews",
        "
  hosts: [reviews]
  http:
  - name: test
    match: [{headers: {end-user: {exact: jason}}, name: jason}]
    timeout: 2s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: '5xx,503'}
    fault: {delay: {fixedDelay: 7s, percentage: {value: 0.1}}}
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: new.example}
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 75}
    - {destination: {host: reviews, subset: v3}, weight: 25}
    - {destination: {host: reviews, subset: v2}, weight: 0}",
    );
    let resources = sidecar(&rules);
    let all = get(&resources, "reviews:9080", "/");
    assert_eq!(shares(&all), [cluster("v1", 75), cluster("v3", 25)]);
    assert_eq!(all.listener.as_deref(), Some("0.0.0.0_9080"));
    let host = "reviews.default.svc.cluster.local:9080";
    assert_eq!(all.virtual_host.as_deref(), Some(host));

    let request = Request {
        authority: "reviews.default:9080".into(),
        headers: vec![("end-user".into(), "jason".into())],
        ..Request::default()
    };
    let jason = explain(&resources, &request);
    assert_eq!(jason.route.as_deref(), Some("test.jason"));
    assert_eq!(shares(&jason), [cluster("v2", 100)]);
    // No DestinationRule defines the subset.
    assert_eq!(
        (jason.status, jason.details.as_deref()),
        (Some(503), Some("cluster_not_found"))
    );
    let text = format!("{SERVICES}{rules}");
    let line = 1 + text[..text.find("- name: test").unwrap()]
        .matches('\n')
        .count();
    assert_eq!(
        (&*jason.config[0].file, jason.config[0].line as usize),
        ("rules.yaml", line)
    );
    let route = jason.matched.unwrap();
    let RouteAction::Forward(forward) = &route.action else {
        panic!("{route:?}")
    };
    let retry = forward.retry.as_ref().unwrap();
    assert_eq!(forward.timeout, Some(Nanos::from_secs(2)));
    assert_eq!(
        (retry.num_retries, &retry.retriable_status_codes[..]),
        (3, &[503][..])
    );
    assert_eq!(retry.per_try_timeout, Some(Nanos::from_millis(500)));
    assert_eq!(
        route
            .fault
            .as_ref()
            .unwrap()
            .delay
            .as_ref()
            .unwrap()
            .fraction_ppm,
        1000
    );

    let old = get(&resources, "reviews:9080", "/older");
    assert_eq!((old.action, old.status), (Action::Redirect, Some(301)));
    assert_eq!(old.response_headers[0].1, "http://new.example/new");
}

#[test]
fn a_subset_overrides_its_rule_block_by_block() {
    let resources = sidecar(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: X-User}}
    connectionPool: {http: {http1MaxPendingRequests: 5}, tcp: {maxConnections: 0}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 5s, maxEjectionPercent: 100}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      portLevelSettings: [{port: {number: 9080}, tls: {mode: ISTIO_MUTUAL}}]
",
    );
    let find = |subset: &str| {
        let name = cluster(subset, 0).0;
        let mut clusters = resources.clusters.iter();
        clusters.find(|c| *c.name == *name).unwrap()
    };
    let (all, v1, v2) = (find(""), find("v1"), find("v2"));
    assert!(matches!(
        all.lb_policy,
        LbPolicy::RingHash {
            minimum_ring_size: 1024,
            ..
        }
    ));
    assert_eq!(v1.lb_policy, LbPolicy::Random);
    assert!(matches!(v2.lb_policy, LbPolicy::LeastRequest { .. }));
    for cluster in [all, v1] {
        assert_eq!(cluster.circuit_breakers.max_pending_requests, 5);
        assert_eq!(cluster.circuit_breakers.max_connections, u32::MAX);
        assert_eq!(
            cluster.outlier_detection.as_ref().unwrap().consecutive_5xx,
            3
        );
        assert_eq!(cluster.transport, Transport::AutoMutualTls);
    }
    assert_eq!(
        (&v2.outlier_detection, &v2.transport),
        (&None, &Transport::IstioMutualTls)
    );
    let route = get(&resources, "reviews:9080", "/").matched.unwrap();
    let RouteAction::Forward(forward) = &route.action else {
        panic!("{route:?}")
    };
    assert_eq!(
        forward.hash_policies[0].input,
        HashInput::Header("x-user".into())
    );
    // Where outliers are detected the near endpoint comes first; the far one is not ready.
    let endpoints = resources
        .endpoints
        .iter()
        .find(|e| e.cluster == all.name)
        .unwrap();
    let seen = endpoints.localities.iter().map(|l| {
        let endpoint = &l.endpoints[0];
        (
            &*l.locality,
            l.priority,
            format!("{:?}", endpoint.health),
            endpoint.mutual_tls,
        )
    });
    let seen: Vec<_> = seen.collect();
    let want = [
        ("east/a", 0, "Healthy".to_owned(), false),
        ("west/a", 1, "Unhealthy".to_owned(), true),
    ];
    assert_eq!(seen, want);
}

#[test]
fn unknown_hosts_pass_through_unless_the_registry_is_all() {
    let open = get(&sidecar(""), "nowhere.test:9080", "/");
    assert_eq!(shares(&open), [("PassthroughCluster".to_owned(), 100)]);
    let closed = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}
";
    let resources = sidecar(closed);
    let blocked = get(&resources, "nowhere.test:9080", "/");
    assert_eq!(
        (blocked.action, blocked.status),
        (Action::DirectResponse, Some(502))
    );
    let tcp = Request {
        protocol: RequestProtocol::Tcp,
        address: Some("192.0.2.1:9999".parse().unwrap()),
        ..Request::default()
    };
    let reset = explain(&resources, &tcp);
    assert_eq!(shares(&reset), [("BlackHoleCluster".to_owned(), 100)]);
    assert_eq!(reset.flags, ["UH".into()]);
}

#[test]
fn tcp_connections_are_split_by_weight() {
    let rules = virtual_service(
        "db",
        "
  hosts: [db.prod.svc.cluster.local]
  tcp:
  - route:
    - {destination: {host: db.prod.svc.cluster.local, subset: a}, weight: 1}
    - {destination: {host: db.prod.svc.cluster.local, subset: b}, weight: 3}",
    );
    let tcp = Request {
        protocol: RequestProtocol::Tcp,
        address: Some("10.96.0.2:5432".parse().unwrap()),
        ..Request::default()
    };
    let answer = explain(&sidecar(&rules), &tcp);
    assert_eq!(answer.listener.as_deref(), Some("10.96.0.2_5432"));
    let name = |subset| format!("outbound|5432|{subset}|db.prod.svc.cluster.local");
    assert_eq!(shares(&answer), [(name("a"), 1), (name("b"), 3)]);
}

#[test]
fn a_gateway_serves_the_hosts_it_names() {
    let rules = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com'], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*.example.com'], tls: {mode: SIMPLE, credentialName: c}}
---
"
    .to_owned()
        + &virtual_service(
            "web",
            "
  hosts: [a.example.com]
  gateways: [web]
  http: [{match: [{uri: {prefix: /api}}], rewrite: {uri: /}, route: [{destination: {host: reviews}}]}]",
        );
    let resources = gateway(&rules);
    let names: Vec<&str> = resources.routes.iter().map(|table| &*table.name).collect();
    assert_eq!(names, ["http.8080", "https.443.https.web.default"]);
    let ask = |tls: RequestTls, port: u16, path: &str| {
        let request = Request {
            authority: "a.example.com".into(),
            path: path.into(),
            address: Some(([203, 0, 113, 1], port).into()),
            tls,
            sni: Some("a.example.com".into()),
            ..Request::default()
        };
        explain(&resources, &request)
    };
    let plain = ask(RequestTls::None, 8080, "/api/x");
    assert_eq!((plain.action, plain.status), (Action::Redirect, Some(301)));
    let secure = ask(RequestTls::Tls, 8443, "/api/x");
    assert_eq!(secure.virtual_host.as_deref(), Some("a.example.com:443"));
    assert_eq!(shares(&secure), [cluster("", 100)]);
    assert_eq!(secure.endpoint, Some("10.0.0.1:9080".parse().unwrap()));
    assert_eq!(&*secure.upstream.unwrap().path, "//x");
    let other = ask(RequestTls::Tls, 8443, "/");
    assert_eq!((other.status, other.flags), (Some(404), vec!["NR".into()]));
    let closed = ask(RequestTls::None, 9999, "/");
    assert_eq!((closed.action, closed.listener), (Action::None, None));
}

#[test]
fn delegated_rules_hold_under_both_conditions() {
    let rules = virtual_service(
        "reviews",
        "
  hosts: [reviews]
  http:
  - {name: root, match: [{uri: {prefix: /api}, name: m}], timeout: 3s, delegate: {name: team}}
  - {route: [{destination: {host: reviews, subset: rest}}]}",
    ) + &virtual_service(
        "team",
        "
  http:
  - {name: one, match: [{uri: {exact: /api/1}}], route: [{destination: {host: reviews, subset: one}}]}
  - {name: 'off', match: [{uri: {exact: /else}}], route: [{destination: {host: reviews, subset: 'off'}}]}
  - {name: all, route: [{destination: {host: reviews, subset: all}}]}",
    );
    let resources = sidecar(&rules);
    for (path, route, subset) in [
        ("/api/1", "root-one.m", "one"),
        ("/api/2", "root-all.m", "all"),
        ("/else", "", "rest"),
    ] {
        let answer = get(&resources, "reviews:9080", path);
        assert_eq!(answer.route.as_deref(), Some(route), "{path}");
        assert_eq!(shares(&answer), [cluster(subset, 100)], "{path}");
    }
}

#[test]
fn outside_services_are_found_by_name() {
    let resources = sidecar(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [api.outside.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
",
    );
    let answer = get(&resources, "api.outside.test", "/");
    assert_eq!(
        shares(&answer),
        [("outbound|80||api.outside.test".to_owned(), 100)]
    );
    let cluster = resources
        .clusters
        .iter()
        .find(|c| *c.name == *answer.clusters[0].name);
    let want = Discovery::StrictDns {
        host: "api.outside.test".into(),
        port: 8080,
    };
    assert_eq!(cluster.unwrap().discovery, want);
    assert_eq!(cluster.unwrap().transport, Transport::Plaintext);
    let by_sni = |name: &str| {
        let request = Request {
            protocol: RequestProtocol::Tcp,
            tls: RequestTls::Tls,
            sni: Some(name.into()),
            address: Some("192.0.2.1:443".parse().unwrap()),
            ..Request::default()
        };
        shares(&explain(&resources, &request))[0].0.clone()
    };
    assert_eq!(by_sni("api.outside.test"), "outbound|443||api.outside.test");
    assert_eq!(by_sni("other.test"), "PassthroughCluster");
}

#[test]
fn explanations_are_written_with_the_documented_fields() {
    let answer = get(&sidecar(""), "reviews:9080", "/");
    let value = serde_json::to_value(&answer).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let mut want = [
        "listener",
        "virtual_host",
        "route",
        "action",
        "clusters",
        "endpoint",
        "status",
        "flags",
        "details",
        "upstream",
        "response_headers",
        "config",
        "passed_over",
        "settings",
        "trail",
    ];
    want.sort();
    assert_eq!(keys, want);
    assert_eq!(value["action"], "forward");
    let line = r#"{"method":"POST","authority":"a","path":"/","headers":[["k","v"]],"address":"10.0.0.1:80","protocol":"tcp","tls":"mtls","direction":"inbound"}"#;
    let request: Request = serde_json::from_str(line).unwrap();
    assert_eq!((request.tls, &*request.method), (RequestTls::Mtls, "POST"));
}

#[test]
fn addresses_with_colons_are_hosts_in_brackets() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {clusterIP: '2001:DB8::1', ports: [{port: 80, name: http}], selector: {app: six}}
";
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("six.yaml", text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    let mut plane = ControlPlane::new(PushSettings::default(), objects, Vec::new());
    let resources = plane.resources(&client(ProxyKind::Sidecar, "default", &[], ""));
    let table = &resources.routes[0];
    let host = table.virtual_host("[2001:db8::1]:80").unwrap();
    assert_eq!(&*host.name, "six.default.svc.cluster.local:80");
}
