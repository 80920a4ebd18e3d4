//! Pods, Services and EndpointSlices as clusters have them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, ProxyKind, PushSettings, Resources};
use proxy_core::xds::{EndpointHealth, LoadAssignment};
use source::SourceFile;

fn read_with(text: &str) -> (Objects, String) {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("world.yaml", text), &mut diagnostics);
    (objects, source::render(&diagnostics, false))
}

fn read(text: &str) -> Objects {
    let (objects, said) = read_with(text);
    assert_eq!(said, "");
    objects
}

fn pod(name: &str, status: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: db, version: {name}, security.istio.io/tlsMode: istio}}}}
spec: {{nodeName: node-{name}, containers: [{{name: app}}, {{name: istio-proxy}}]}}
status: {{{status}}}
---"
    )
}

fn told(objects: &Objects, name: &str) -> Resources {
    let pods = objects.pods();
    let identity = pods
        .iter()
        .find(|pod| &*pod.name == name)
        .unwrap()
        .identity();
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods);
    plane.resources(&identity)
}

const DB: &str = "outbound|80||db.default.svc.cluster.local";

fn assignment<'a>(told: &'a Resources, cluster: &str) -> &'a LoadAssignment {
    let mut all = told.endpoints.iter();
    all.find(|of| &*of.cluster == cluster).unwrap()
}

/// Address, whether it is healthy, whether it takes mutual TLS, priority.
fn endpoints(told: &Resources, cluster: &str) -> Vec<(String, bool, bool, u32)> {
    let localities = assignment(told, cluster).localities.iter();
    let mut found: Vec<_> = localities
        .flat_map(|locality| {
            locality.endpoints.iter().map(|endpoint| {
                (
                    endpoint.address.to_string(),
                    endpoint.health == EndpointHealth::Healthy,
                    endpoint.mutual_tls,
                    locality.priority,
                )
            })
        })
        .collect();
    found.sort();
    found
}

fn one(address: &str, healthy: bool, mutual_tls: bool, priority: u32) -> (String, bool, bool, u32) {
    (address.to_owned(), healthy, mutual_tls, priority)
}

fn service(spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: 10.0.1.1, ports: [{{port: 80, name: http}}]{spec}}}
---"
    )
}

const UNREADY: &str = "podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]";

#[test]
fn pods_that_have_ended_are_no_endpoints() {
    let objects = read(
        &[
            service(", selector: {app: db}"),
            pod("a", "podIP: 10.0.0.1"),
            pod("b", "podIP: 10.0.0.2, phase: Succeeded"),
            pod("c", "podIP: 10.0.0.3, phase: Failed"),
        ]
        .concat(),
    );
    assert_eq!(
        endpoints(&told(&objects, "a"), DB),
        [one("10.0.0.1:80", true, true, 0)]
    );
}

#[test]
fn a_service_may_publish_pods_that_are_not_ready() {
    for (publishes, healthy) in [("", false), (", publishNotReadyAddresses: true", true)] {
        let spec = format!(", selector: {{app: db}}{publishes}");
        let objects = read(&[service(&spec), pod("b", UNREADY)].concat());
        assert_eq!(
            endpoints(&told(&objects, "b"), DB),
            [one("10.0.0.2:80", healthy, true, 0)]
        );
    }
}

#[test]
fn pods_in_the_nodes_network_and_namespaces_of_kubernetes_have_no_sidecar() {
    let deployment = |namespace: &str, spec: &str| {
        format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app, namespace: {namespace}}}
spec: {{template: {{spec: {{{spec}containers: [{{name: app}}]}}}}}}
"
        )
    };
    for (namespace, spec, want) in [
        ("default", "", ProxyKind::Sidecar),
        ("default", "hostNetwork: true, ", ProxyKind::None),
        ("kube-system", "", ProxyKind::None),
    ] {
        let pods = read(&deployment(namespace, spec)).pods();
        assert_eq!(pods[0].proxy, want, "{namespace} {spec}");
    }
}

fn slice(name: &str, endpoints: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: db}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: {endpoints}
---"
    )
}

#[test]
fn addresses_that_are_listed_are_those_of_pods_where_there_are_some() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db, subsets: [{name: a, labels: {version: a}}]}
";
    let named = "{addresses: [10.0.0.9], targetRef: {kind: Pod, name: a, namespace: default}}";
    let objects = read(
        &[
            service(""),
            pod("a", "podIP: 10.0.0.1"),
            pod("b", "podIP: 10.0.0.2"),
            slice(
                "one",
                &format!("[{named}, {{addresses: [10.0.0.2, 10.0.0.3]}}]"),
            ),
            rule.to_owned(),
        ]
        .concat(),
    );
    let told = told(&objects, "a");
    assert_eq!(
        endpoints(&told, DB),
        [
            one("10.0.0.2:8080", true, true, 0),
            one("10.0.0.3:8080", true, false, 0),
            one("10.0.0.9:8080", true, true, 0),
        ]
    );
    assert_eq!(
        endpoints(&told, "outbound|80|a|db.default.svc.cluster.local"),
        [one("10.0.0.9:8080", true, true, 0)]
    );
}

#[test]
fn slices_come_before_endpoints_and_count_each_address_once() {
    let old = "
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 10.0.2.1}, {ip: 10.0.2.2}], ports: [{name: http, port: 8080}]}]
---";
    let slices = [
        slice("one", "[{addresses: [10.0.2.1]}]"),
        slice("two", "[{addresses: [10.0.2.1, 10.0.2.3]}]"),
    ]
    .concat();
    let world = |listed: &str| {
        let text = [&service(""), &pod("a", "podIP: 10.0.0.1"), listed].concat();
        let addresses = endpoints(&told(&read(&text), "a"), DB).into_iter();
        addresses.map(|(address, ..)| address).collect::<Vec<_>>()
    };
    assert_eq!(world(old), ["10.0.2.1:8080", "10.0.2.2:8080"]);
    let both = [old, &slices].concat();
    assert_eq!(world(&both), ["10.0.2.1:8080", "10.0.2.3:8080"]);
}

#[test]
fn conditions_of_a_slice() {
    let listed = slice(
        "one",
        "
- {addresses: [10.0.2.1]}
- {addresses: [10.0.2.2], conditions: {ready: no, terminating: off}}
- {addresses: [10.0.2.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.2.4], conditions: {ready: false}}
- {addresses: [10.0.2.5], conditions: {ready: true, terminating: true}}",
    );
    let objects = read(&[service(""), pod("a", "podIP: 10.0.0.1"), listed].concat());
    assert_eq!(
        endpoints(&told(&objects, "a"), DB),
        [
            one("10.0.2.1:8080", true, false, 0),
            one("10.0.2.2:8080", false, false, 0),
            one("10.0.2.5:8080", true, false, 0),
        ]
    );
}

#[test]
fn slices_of_names_are_left_out() {
    let listed = slice("one", "[{addresses: [db.example.com]}]").replace("IPv4", "FQDN");
    let (objects, said) = read_with(&[service(""), pod("a", "podIP: 10.0.0.1"), listed].concat());
    assert!(said.contains("warning: Istio does not use EndpointSlices of type FQDN"));
    assert!(!said.contains("error"), "{said}");
    assert_eq!(endpoints(&told(&objects, "a"), DB), []);
}

/// Three pods, `a` and `b` in one region.
fn zones(service: &str, namespace: &str) -> Objects {
    let mut text = service.to_owned();
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        text.push_str(&pod(name, &format!("podIP: 10.0.0.{}", at + 1)));
        let region = if name == "c" { "far" } else { "near" };
        text.push_str(&format!(
            "
apiVersion: v1
kind: Node
metadata: {{name: node-{name}, labels: {{topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {name}}}}}
---"
        ));
    }
    text.push_str(namespace);
    read(&text)
}

#[test]
fn traffic_stays_near_where_a_service_or_its_namespace_says_so() {
    let spec = |more: &str| service(&format!(", selector: {{app: db}}{more}"));
    let namespace = |value: &str| {
        format!(
            "
apiVersion: v1
kind: Namespace
metadata: {{name: default, annotations: {{networking.istio.io/traffic-distribution: {value}}}}}
"
        )
    };
    let annotated = spec("").replace(
        "{name: db}",
        "{name: db, annotations: {networking.istio.io/traffic-distribution: Any}}",
    );
    let near = [0, 1, 2];
    let anywhere = [0, 0, 0];
    for (service, namespace, want) in [
        (spec(""), String::new(), anywhere),
        (
            spec(", trafficDistribution: PreferClose"),
            String::new(),
            near,
        ),
        (
            spec(", trafficDistribution: PreferSameZone"),
            String::new(),
            near,
        ),
        (spec(""), namespace("PreferClose"), near),
        (annotated, namespace("PreferClose"), anywhere),
    ] {
        let told = told(&zones(&service, &namespace), "a");
        let found = endpoints(&told, DB);
        let priorities: Vec<u32> = found.iter().map(|(.., priority)| *priority).collect();
        assert_eq!(priorities, want, "{service}{namespace}");
    }
}

#[test]
fn labels_in_the_metadata_of_a_workload_entry_count_first() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, labels: {app: db}}
spec: {address: 10.0.2.9, labels: {app: other}, serviceAccount: vm}
";
    let text = [
        &service(", selector: {app: db}"),
        &pod("a", "podIP: 10.0.0.1"),
        entry,
    ]
    .concat();
    assert_eq!(
        endpoints(&told(&read(&text), "a"), DB),
        [
            one("10.0.0.1:80", true, true, 0),
            one("10.0.2.9:80", true, true, 0)
        ]
    );
}

#[test]
fn a_service_entry_that_selects_nothing_has_no_cluster() {
    let entry = |selector: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api}}
spec: {{hosts: [api.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS{selector}}}
"
        )
    };
    for (selector, there) in [
        ("", true),
        (", workloadSelector: {labels: {app: api}}", false),
    ] {
        let text = [pod("a", "podIP: 10.0.0.1"), entry(selector)].concat();
        let told = told(&read(&text), "a");
        let mut clusters = told.clusters.iter();
        let found = clusters.any(|cluster| &*cluster.name == "outbound|80||api.example.com");
        assert_eq!(found, there, "{selector}");
    }
}

#[test]
fn no_ingress_is_served_where_that_is_turned_off() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: istio}
spec: {controller: istio.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: edge}
spec:
  ingressClassName: istio
  rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: db, port: {number: 80}}}}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: gw, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'ingressControllerMode: MODE'}
";
    for (mode, listeners) in [("STRICT", 1), ("OFF", 0)] {
        let told = told(&read(&text.replace("MODE", mode)), "gw");
        assert_eq!(told.listeners.len(), listeners, "{mode}");
    }
}

#[test]
fn containers_that_start_first_and_go_on_are_containers() {
    let deployment = |policy: &str| {
        let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    metadata: {labels: {app: app, sidecar.istio.io/inject: 'false'}}
    spec:
      containers: [{name: app}]
      initContainers:
      - {name: istio-proxy, POLICYports: [{name: stats, containerPort: 15090}]}
";
        read(&text.replace("POLICY", policy)).pods().remove(0)
    };
    let native = deployment("restartPolicy: Always, ");
    assert_eq!(native.proxy, ProxyKind::Sidecar);
    assert_eq!(native.container_ports, [("stats".into(), 15090)]);
    let other = deployment("");
    assert_eq!(other.proxy, ProxyKind::None);
    assert_eq!(other.container_ports, []);
}
