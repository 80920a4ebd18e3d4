//! Services of type ExternalName: other names of other services.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, PushSettings, Resources};
use proxy_core::xds::{FilterChain, Name, RouteAction};
use source::SourceFile;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: b}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}], selector: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: b}
spec: {hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: a}
spec: {type: ExternalName, externalName: db.b.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: old-store, namespace: a}
spec: {type: ExternalName, externalName: store.a.svc.cluster.local, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: a}
spec: {type: ExternalName, externalName: api.example.com, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: round, namespace: a}
spec: {type: ExternalName, externalName: trip.a.svc.cluster.local, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: trip, namespace: a}
spec: {type: ExternalName, externalName: round.a.svc.cluster.local, ports: [{port: 80, name: http}]}
";

fn read(more: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let text = format!("{WORLD}---{more}");
    let objects = Objects::read(&SourceFile::new("world.yaml", &text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

fn told(objects: &Objects) -> Resources {
    let pods = objects.pods();
    let web = pods.iter().find(|pod| &*pod.name == "web").unwrap();
    let identity = web.identity();
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods);
    plane.resources(&identity)
}

/// The virtual host that takes `domain` at port 80, and the cluster of its first route.
fn taken(told: &Resources, domain: &str) -> Option<(Name, Name)> {
    let table = told
        .routes
        .iter()
        .find(|table| &*table.name == "80")
        .unwrap();
    let takes = |domains: &[Name]| domains.iter().any(|one| &**one == domain);
    let mut hosts = table.virtual_hosts.iter();
    let host = hosts.find(|host| takes(&host.domains))?;
    let cluster = match &host.routes[0].action {
        RouteAction::Forward(forward) => forward.clusters[0].cluster.clone(),
        other => panic!("{other:?}"),
    };
    Some((host.name.clone(), cluster))
}

#[test]
fn requests_for_an_alias_go_where_it_points() {
    let told = told(&read(""));
    let db = Some((
        "db.b.svc.cluster.local:80".into(),
        "outbound|80||db.b.svc.cluster.local".into(),
    ));
    let api = Some((
        "api.example.com:80".into(),
        "outbound|80||api.example.com".into(),
    ));
    for (domain, want) in [
        ("db.b", &db),
        ("store", &db),
        ("store.a", &db),
        ("store.a.svc.cluster.local", &db),
        ("old-store", &db),
        ("old-store.a.svc", &db),
        ("api", &api),
        ("api.a.svc.cluster.local.", &api),
        ("round", &None),
    ] {
        assert_eq!(taken(&told, domain), *want, "{domain}");
    }
    for cluster in &told.clusters {
        assert!(!cluster.name.contains(".a.svc"), "{}", cluster.name);
    }
}

#[test]
fn server_names_of_an_alias_are_those_of_what_it_means() {
    let told = told(&read(""));
    let listener = told.listeners.iter().find(|l| &*l.name == "0.0.0.0_443");
    let named = |chain: &&FilterChain| !chain.matches.server_names.is_empty();
    let chain = listener.unwrap().filter_chains.iter().find(named).unwrap();
    let names: Vec<&str> = chain.matches.server_names.iter().map(|n| &**n).collect();
    assert_eq!(
        names,
        [
            "api.example.com",
            "api.a.svc.cluster.local",
            "api.a.svc.cluster.local.",
            "api",
            "api.a.svc",
            "api.a"
        ]
    );
}

#[test]
fn a_rule_for_an_alias_has_its_requests_and_one_that_sends_to_it_means_the_other() {
    let rule = |host: &str, to: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rule, namespace: a}}
spec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: {to}}}}}]}}]}}
"
        )
    };
    let of_alias = told(&read(&rule("api", "db.b.svc.cluster.local")));
    let (_, cluster) = taken(&of_alias, "api").unwrap();
    assert_eq!(&*cluster, "outbound|80||db.b.svc.cluster.local");
    let (_, cluster) = taken(&of_alias, "api.example.com").unwrap();
    assert_eq!(&*cluster, "outbound|80||api.example.com");
    let to_alias = told(&read(&rule("db.b.svc.cluster.local", "api")));
    let (_, cluster) = taken(&to_alias, "db.b").unwrap();
    assert_eq!(&*cluster, "outbound|80||api.example.com");
    // An alias that does not have the port of the listener is not known there.
    let without_ports = told(&read(&rule("db.b.svc.cluster.local", "store")));
    let (_, cluster) = taken(&without_ports, "db.b").unwrap();
    assert_eq!(&*cluster, "outbound|80||store.a.svc.cluster.local");
}

#[test]
fn a_sidecar_imports_aliases_by_name() {
    let sidecar = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: a}
spec: {egress: [{hosts: [b/db.b.svc.cluster.local, 'b/store.a.svc.cluster.local']}]}
";
    let told = told(&read(sidecar));
    assert!(taken(&told, "store").is_some());
    assert_eq!(taken(&told, "old-store"), None);
}

#[test]
fn clients_connect_to_what_an_alias_means() {
    let objects = read("");
    for name in ["store", "old-store", "db.b"] {
        let found = objects.service(name, "a").unwrap();
        assert_eq!(found.address, Some([10, 0, 0, 1].into()), "{name}");
    }
    assert!(objects.service("round", "a").is_none());
}
