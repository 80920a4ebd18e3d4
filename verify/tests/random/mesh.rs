//! A small mesh with rules: services `a` and `b`, `c` in another namespace, perhaps `d` outside, a
//! client with a sidecar, and a gateway.

use crate::json::{Json, just, of};
use crate::policies;
use crate::routes::{self, Bound};
use proptest::prelude::*;
use serde_json::{Value, json};

/// All objects of one mesh.
pub fn mesh() -> BoxedStrategy<Vec<Value>> {
    let rules = vec![
        proptest::option::weighted(0.95, virtual_service_a()).boxed(),
        proptest::option::weighted(0.6, virtual_service_b()).boxed(),
        proptest::option::weighted(0.7, virtual_service_c()).boxed(),
        proptest::option::weighted(0.9, virtual_service_edge()).boxed(),
        routes::service(("default", "child"), routes::child())
            .prop_map(Some)
            .boxed(),
        rule_a().prop_map(Some).boxed(),
        rule_b().prop_map(Some).boxed(),
        rule_c().prop_map(Some).boxed(),
    ];
    (pods(), rules, proptest::option::weighted(0.4, outside()))
        .prop_map(|(pods, rules, outside)| {
            let fixed = fixed();
            let all = fixed.into_iter().chain(pods);
            all.chain(rules.into_iter().flatten())
                .chain(outside.into_iter().flatten())
                .collect()
        })
        .boxed()
}

fn virtual_service_a() -> Json {
    let hosts = of([
        json!(["a"]),
        json!(["a", "a-alias.example"]),
        json!(["a.default.svc.cluster.local", "*.a.example"]),
    ]);
    routes::service(("default", "a"), routes::http(hosts, Bound::Mesh))
}

fn virtual_service_b() -> Json {
    let hosts = of([json!(["b"]), json!(["*.default.svc.cluster.local"])]);
    routes::service(("default", "b"), routes::http(hosts, Bound::Mesh))
}

fn virtual_service_c() -> Json {
    routes::service(("default", "c"), routes::connections())
}

fn virtual_service_edge() -> Json {
    let hosts = of([
        json!(["shop.example"]),
        json!(["*.shop.example", "shop.example"]),
    ]);
    routes::service(("default", "edge"), routes::http(hosts, Bound::Gateway))
}

fn rule_a() -> Json {
    let one = of([
        json!({"version": "v1"}),
        json!({"version": "v1", "app": "a"}),
    ]);
    let two = of([json!({"version": "v2"}), json!({})]);
    let none = just(json!({"version": "none"}));
    let subsets = vec![("v1", one), ("v2", two), ("none", none)];
    policies::rule(("default", "a"), "a", subsets, &[80, 8081])
}

fn rule_b() -> Json {
    let subsets = vec![("v1", just(json!({"version": "v1"})))];
    policies::rule(
        ("default", "b"),
        "b.default.svc.cluster.local",
        subsets,
        &[80, 9000],
    )
}

fn rule_c() -> Json {
    let subsets = vec![("v1", just(json!({"version": "v1"})))];
    policies::rule(
        ("far", "c"),
        "c.far.svc.cluster.local",
        subsets,
        &[80, 3306, 8443],
    )
}

/// Service `d`, which is no pods.
fn outside() -> BoxedStrategy<Vec<Value>> {
    let entry = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {
            "hosts": ["d.example"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "endpoints": [
                {"address": "192.0.2.1", "labels": {"version": "v1"}},
                {"address": "192.0.2.2", "locality": "r1/z2", "weight": 3},
            ],
        },
    });
    let subsets = vec![("v1", just(json!({"version": "v1"})))];
    let service = routes::http(just(json!(["d.example"])), Bound::Mesh);
    (
        routes::service(("default", "d"), service),
        policies::rule(("default", "d"), "d.example", subsets, &[80]),
    )
        .prop_map(move |(routes, policy)| vec![entry.clone(), routes, policy])
        .boxed()
}

fn pods() -> BoxedStrategy<Vec<Value>> {
    let named = [
        ("default", "a", "v1", 1, true),
        ("default", "a", "v1", 2, false),
        ("default", "a", "v2", 3, false),
        ("default", "a", "v2", 4, false),
        ("default", "b", "v1", 5, true),
        ("default", "b", "v2", 6, false),
        ("far", "c", "v1", 7, true),
        ("far", "c", "v2", 8, false),
    ];
    let mut pods = vec![
        pod(("default", "client", "v1"), 99, just(json!("True")))
            .prop_map(Some)
            .boxed(),
    ];
    for (namespace, app, version, number, always_there) in named {
        let one = pod(
            (namespace, app, version),
            number,
            of(["True", "True", "True", "False"]),
        );
        pods.push(match always_there {
            true => one.prop_map(Some).boxed(),
            false => proptest::option::weighted(0.75, one).boxed(),
        });
    }
    pods.prop_map(|pods| pods.into_iter().flatten().collect())
        .boxed()
}

fn pod(
    (namespace, app, version): (&'static str, &'static str, &'static str),
    number: u8,
    ready: Json,
) -> Json {
    let name = match app {
        "client" => app.to_owned(),
        _ => format!("{app}-{version}-{number}"),
    };
    let mesh = json!({"security.istio.io/tlsMode": "istio"});
    (
        of(["near", "beside", "abroad"]),
        ready,
        of([true, true, true, false]),
    )
        .prop_map(move |(node, ready, meshed)| {
            let mut labels = mesh.clone();
            if meshed == Value::Bool(false) && app != "client" {
                labels = json!({});
            }
            labels["app"] = json!(app);
            labels["version"] = json!(version);
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"nodeName": node, "containers": [{"name": "app"}]},
                "status": {
                    "podIP": format!("10.9.0.{number}"),
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            })
        })
        .boxed()
}

fn fixed() -> Vec<Value> {
    let namespace = |name| {
        let labels = json!({"istio-injection": "enabled"});
        let metadata = json!({"name": name, "labels": labels});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    };
    let node = |name, region, zone| {
        let labels = json!({
            "topology.kubernetes.io/region": region,
            "topology.kubernetes.io/zone": zone,
        });
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    };
    let service = |namespace: &str, name: &str, selector: Value, ip: &str, ports: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": selector, "clusterIP": ip, "ports": ports},
        })
    };
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": port});
    let gateway_pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "edge-0", "namespace": "istio-system", "labels": {"istio": "edge"}},
        "spec": {"nodeName": "near", "containers": [{"name": "istio-proxy"}]},
        "status": {
            "podIP": "10.9.0.200",
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "istio-system"},
        "spec": {
            "selector": {"istio": "edge"},
            "servers": [
                {"port": port_of(80), "hosts": ["*"]},
                {"port": port_of(8081), "hosts": ["shop.example", "default/*.shop.example"]},
            ],
        },
    });
    let edge_ports = json!([port("http", 80), port("http-more", 8081)]);
    vec![
        namespace("default"),
        namespace("far"),
        namespace("istio-system"),
        node("near", "r1", "z1"),
        node("beside", "r1", "z2"),
        node("abroad", "r2", "z3"),
        service(
            "default",
            "a",
            json!({"app": "a"}),
            "10.8.0.1",
            json!([port("http", 80), port("http-more", 8081)]),
        ),
        service(
            "default",
            "b",
            json!({"app": "b"}),
            "10.8.0.2",
            json!([port("http", 80), port("grpc", 9000)]),
        ),
        service(
            "far",
            "c",
            json!({"app": "c"}),
            "10.8.0.3",
            json!([port("http", 80), port("tcp", 3306), port("tls", 8443)]),
        ),
        service(
            "istio-system",
            "edge",
            json!({"istio": "edge"}),
            "10.8.0.4",
            edge_ports,
        ),
        gateway_pod,
        gateway,
    ]
}

fn port_of(number: u16) -> Value {
    json!({"number": number, "name": format!("http-{number}"), "protocol": "HTTP"})
}
