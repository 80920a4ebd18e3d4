//! Clusters whose endpoints clients address themselves (headless services, `PASSTHROUGH`), and
//! those of services that a namespace has only because a VirtualService sends to them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, Pod, ProxyIdentity, ProxyKind, PushSettings};
use proxy_core::time::Nanos;
use proxy_core::xds::{Cluster, Discovery, Transport, XdsDelta};
use source::SourceFile;
use std::sync::Arc;

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{port: 80, name: http, targetPort: 8080}], selector: {app: db}}
";
const WITH_ADDRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http, targetPort: 8080}], selector: {app: db}}
";
/// For the whole service, for a subset that says nothing and for one that says something else.
const PASSTHROUGH: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec:
  host: db
  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}
  subsets:
  - {name: silent, labels: {version: v1}}
  - {name: other, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
";
const OUTSIDE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.default.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
";
const REFUSED: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: DISABLE}}
";

fn plane(objects: &[&str], sidecars: &[bool]) -> (ControlPlane, Vec<Pod>) {
    let mut diagnostics = Vec::new();
    let mut text = objects.join("---");
    for (at, sidecar) in sidecars.iter().enumerate() {
        let mode = if *sidecar { "istio" } else { "disabled" };
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: db-{at}, labels: {{app: db, version: v1, \
             security.istio.io/tlsMode: {mode}}}}}\nspec: {{containers: []}}\nstatus: {{podIP: 10.0.0.{}}}\n",
            at + 1
        );
    }
    let objects = Objects::read(&SourceFile::new("objects.yaml", &text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    let pods = objects.pods();
    let plane = ControlPlane::new(PushSettings::default(), objects, pods.clone());
    (plane, pods)
}

fn client(kind: ProxyKind) -> ProxyIdentity {
    ProxyIdentity {
        name: "client.default".into(),
        kind,
        namespace: "default".into(),
        labels: Vec::new(),
        ip: [10, 0, 0, 99].into(),
        locality: "".into(),
    }
}

fn cluster_at(kind: ProxyKind, subset: &str, objects: &[&str], sidecars: &[bool]) -> Arc<Cluster> {
    let resources = plane(objects, sidecars).0.resources(&client(kind));
    let name = format!("outbound|80|{subset}|db.default.svc.cluster.local");
    let mut clusters = resources.clusters.into_iter();
    clusters.find(|cluster| *cluster.name == *name).unwrap()
}

const DIRECT: Discovery = Discovery::OriginalDst { port: None };

#[test]
fn all_endpoints_or_none_are_spoken_to_in_mutual_tls() {
    for (sidecars, of_sidecar, of_gateway) in [
        (
            &[true, true][..],
            Transport::IstioMutualTls,
            Transport::AutoMutualTls,
        ),
        (&[true, false], Transport::Plaintext, Transport::Plaintext),
        (&[], Transport::Plaintext, Transport::Plaintext),
    ] {
        let got = cluster_at(ProxyKind::Sidecar, "", &[HEADLESS], sidecars);
        assert_eq!(
            (&got.discovery, &got.transport),
            (&DIRECT, &of_sidecar),
            "{sidecars:?}"
        );
        let got = cluster_at(ProxyKind::Gateway, "", &[HEADLESS], sidecars);
        assert_eq!(
            (&got.discovery, &got.transport),
            (&Discovery::Eds, &of_gateway),
            "{sidecars:?}"
        );
    }
    let refused = cluster_at(ProxyKind::Sidecar, "", &[HEADLESS, REFUSED], &[true]);
    assert_eq!(refused.transport, Transport::Plaintext);
}

#[test]
fn a_service_that_is_passed_through_is_asked_at_the_level_that_says_so() {
    let objects = [WITH_ADDRESS, PASSTHROUGH];
    for kind in [ProxyKind::Sidecar, ProxyKind::Gateway] {
        for (subset, transport) in [
            ("", Transport::Plaintext),
            ("silent", Transport::IstioMutualTls),
            ("other", Transport::IstioMutualTls),
        ] {
            let got = cluster_at(kind, subset, &objects, &[true, false]);
            assert_eq!(
                (&got.discovery, &got.transport),
                (&DIRECT, &transport),
                "{subset}"
            );
        }
    }
}

#[test]
fn only_a_service_entry_replaces_the_port() {
    let got = cluster_at(ProxyKind::Sidecar, "", &[OUTSIDE], &[]);
    let replaced = Discovery::OriginalDst { port: Some(8080) };
    assert_eq!(
        (&got.discovery, &got.transport),
        (&replaced, &Transport::Plaintext)
    );
}

#[test]
fn a_pod_without_sidecar_changes_the_cluster() {
    let (mut plane, pods) = plane(&[HEADLESS], &[true, false]);
    plane.remove_pod(Nanos::ZERO, "default", "db-1");
    plane.tick(Nanos::from_secs(1));
    plane.connect(Nanos::from_secs(1), client(ProxyKind::Sidecar));
    plane.set_pod(Nanos::from_secs(2), pods[1].clone());
    let pushes = plane.tick(Nanos::from_secs(3));
    let XdsDelta::Clusters { upsert, remove } = &pushes[0].deltas[0] else {
        panic!("{:?}", pushes[0].deltas)
    };
    assert_eq!((upsert.len(), remove.len()), (1, 0));
    assert_eq!(upsert[0].transport, Transport::Plaintext);
}

#[test]
fn a_hidden_service_has_clusters_where_a_rule_sends_to_it() {
    let hidden = "
apiVersion: v1
kind: Service
metadata: {name: hidden, annotations: {networking.istio.io/exportTo: prod}}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, name: http}, {port: 81, name: http-b}], selector: {app: hidden}}
";
    let names = |source_namespace: &str, port: &str| -> Vec<String> {
        let rule = format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db}}
spec:
  hosts: [db]
  http:
  - match: [{{sourceNamespace: {source_namespace}}}]
    route: [{{destination: {{host: hidden{port}}}}}]
"
        );
        let (mut plane, _) = plane(&[WITH_ADDRESS, hidden, &rule], &[]);
        let got = plane.resources(&client(ProxyKind::Sidecar));
        let clusters = got.clusters.iter().map(|cluster| cluster.name.to_string());
        let names = clusters.filter(|name| name.contains("hidden")).collect();
        assert!(!got.listeners.iter().any(|listener| listener.port == 81));
        names
    };
    let host = "hidden.default.svc.cluster.local";
    let [one, two] = [80, 81].map(|port| format!("outbound|{port}||{host}"));
    assert_eq!(names("default", ""), [&*one, &*two]);
    assert_eq!(names("default", ", port: {number: 81}"), [two]);
    assert_eq!(names("prod", ""), [""; 0]);
    assert_eq!(names("default", ", port: {number: 99}"), [""; 0]);
}
