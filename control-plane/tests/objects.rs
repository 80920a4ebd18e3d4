//! Objects and what follows from them alone: patches, injection, pods and their addresses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ObjectRef, Objects, ProxyKind};
use proptest::prelude::*;
use source::{Dialect, SourceFile, parse};

fn read(text: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("world.yaml", text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

#[test]
fn a_patch_with_an_error_changes_nothing() {
    let mut objects = read(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
",
    );
    let before = format!("{objects:?}");
    let patch = SourceFile::new("patch.yaml", "spec: {hots: [a]}");
    let (documents, _) = parse(&patch, Dialect::Kubernetes);
    let mut diagnostics = Vec::new();
    for name in ["reviews", "review"] {
        let rule = ObjectRef {
            kind: "VirtualService".into(),
            namespace: "default".into(),
            name: name.into(),
        };
        objects.patch(&rule, &documents[0], &mut diagnostics);
    }
    assert_eq!(format!("{objects:?}"), before);
    assert_eq!(
        diagnostics[0].help.as_deref(),
        Some("did you mean `hosts`?")
    );
    let help = diagnostics[1].help.as_deref();
    assert_eq!(help, Some("did you mean `VirtualService default/reviews`?"));
}

#[test]
fn injection_follows_labels() {
    let kinds = |namespace: &str, pod: &str| {
        let text = format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: default, labels: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: a}}
spec:
  template:
    metadata: {pod}
    spec: {{containers: [{{name: app}}]}}
"
        );
        read(&text).deployments()[0].proxy
    };
    let plain = "{labels: {app: a}}";
    let refuses = "{labels: {app: a, sidecar.istio.io/inject: 'false'}}";
    let wants = "{labels: {app: a, sidecar.istio.io/inject: 'true'}}";
    let gateway = "{labels: {app: a}, annotations: {inject.istio.io/templates: gateway}}";
    for (namespace, pod, want) in [
        ("{}", plain, ProxyKind::Sidecar),
        ("{}", refuses, ProxyKind::None),
        ("{istio-injection: enabled}", plain, ProxyKind::Sidecar),
        ("{istio-injection: disabled}", plain, ProxyKind::None),
        ("{istio-injection: enabled}", refuses, ProxyKind::None),
        ("{istio-injection: disabled}", wants, ProxyKind::None),
        ("{}", wants, ProxyKind::Sidecar),
        ("{}", gateway, ProxyKind::Gateway),
    ] {
        assert_eq!(kinds(namespace, pod), want, "{namespace} {pod}");
    }
}

proptest! {
    #[test]
    fn addresses_are_of_their_networks_and_distinct(replicas in 1u32..400, name in "[a-z]{1,8}") {
        let text = format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: '{name}', namespace: x}}
spec: {{replicas: {replicas}, template: {{metadata: {{labels: {{app: a}}}}, spec: {{containers: []}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: '{name}', namespace: x}}
spec: {{ports: [{{port: 80, name: http}}], selector: {{app: a}}}}
"
        );
        let mut diagnostics = Vec::new();
        let objects = Objects::read(&SourceFile::new("w.yaml", &text), &mut diagnostics);
        let pods = objects.pods();
        let addresses: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod.ip).collect();
        prop_assert_eq!(addresses.len(), replicas as usize);
        for pod in &pods {
            let std::net::IpAddr::V4(ip) = pod.ip else { panic!("{}", pod.ip) };
            prop_assert!(ip.octets()[0] == 10 && ip.octets()[1] < 128);
        }
        let service = &objects.services()[0];
        let Some(std::net::IpAddr::V4(ip)) = service.address else { panic!("{service:?}") };
        prop_assert!(ip.octets()[0] == 10 && ip.octets()[1] >= 128);
        prop_assert_eq!(objects.service(&service.address.unwrap().to_string(), "y"), Some(service.clone()));
        prop_assert_eq!(objects.service(&format!("{name}.x"), "y"), Some(service.clone()));
        prop_assert_eq!(objects.service(&name, "x"), Some(service.clone()));
        prop_assert_eq!(objects.service(&name, "y"), None);
    }
}

#[test]
fn a_service_is_found_by_its_address_as_urls_have_it() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: six, namespace: x}
spec: {clusterIP: 'fd00::1', ports: [{port: 80, name: http}]}
";
    let objects = Objects::read(&SourceFile::new("w.yaml", text), &mut Vec::new());
    let found = ["fd00::1", "[fd00::1]"].map(|host| objects.service(host, "y"));
    assert!(found[0].is_some());
    assert_eq!(found[0], found[1]);
}
