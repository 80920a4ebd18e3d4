//! Services whose target port is the name of a container port: that of the proxy's own pod.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, Pod, PushSettings};
use proxy_core::time::Nanos;
use source::SourceFile;

fn read(text: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("world.yaml", text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

fn pod(objects: &Objects, name: &str) -> Pod {
    let pods = objects.pods();
    pods.into_iter().find(|pod| &*pod.name == name).unwrap()
}

/// The clusters towards the application of a pod.
fn inbound(plane: &mut ControlPlane, pod: &Pod) -> Vec<String> {
    let clusters = plane.resources(&pod.identity()).clusters.into_iter();
    let own = clusters.filter(|cluster| cluster.name.starts_with("inbound|"));
    own.map(|cluster| cluster.name.to_string()).collect()
}

#[test]
fn a_named_port_is_that_of_the_proxys_own_pod() {
    let deployment = |name: &str, port: u16| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{labels: {{app: a}}}}
    spec: {{containers: [{{name: app, ports: [{{name: web, containerPort: {port}}}]}}]}}
"
        )
    };
    let service = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80, name: http, targetPort: web}], selector: {app: a}}
";
    let text = [service, &deployment("old", 8080), &deployment("new", 9090)].concat();
    let objects = read(&text);
    let (old, new) = (pod(&objects, "old-0"), pod(&objects, "new-0"));
    let mut plane = ControlPlane::new(PushSettings::default(), objects, vec![old.clone()]);
    assert_eq!(inbound(&mut plane, &old), ["inbound|8080||"]);
    let nothing: [&str; 0] = [];
    assert_eq!(inbound(&mut plane, &new), nothing, "its pod is not known");
    plane.set_pod(Nanos::ZERO, new.clone());
    plane.tick(Nanos::from_secs(1));
    assert_eq!(inbound(&mut plane, &new), ["inbound|9090||"]);
    assert_eq!(inbound(&mut plane, &old), ["inbound|8080||"]);
}

#[test]
fn gateways_listen_where_their_pod_has_a_named_port() {
    let pods = "
apiVersion: v1
kind: Service
metadata: {name: edge}
spec: {ports: [{port: 80, name: http, targetPort: web}], selector: {app: edge}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge}
spec:
  template:
    metadata: {labels: {app: edge}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, ports: [{name: web, containerPort: 8080}]}]}
";
    let host = "edge.default.svc.cluster.local";
    let bound = format!("annotations: {{internal.istio.io/gateway-service: {host}}}");
    for (metadata, spec) in [("", "selector: {app: edge}, "), (&*bound, "")] {
        let gateway = format!(
            "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, {metadata}}}
spec: {{{spec}servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}
"
        );
        let objects = read(&format!("{pods}{gateway}"));
        let edge = pod(&objects, "edge-0");
        let mut plane = ControlPlane::new(PushSettings::default(), objects, vec![edge.clone()]);
        let listeners = plane.resources(&edge.identity()).listeners;
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
        assert_eq!(ports, [8080], "{gateway}");
    }
}
