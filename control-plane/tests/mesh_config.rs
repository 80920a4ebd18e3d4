//! What the mesh configuration decides for all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, Objects, PushSettings, Resources};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, EscapedSlashes, HttpConnectionManager, HttpProtocol, NetworkFilter, Transport,
};
use source::SourceFile;

/// Services and pods `web` and `db`, and what Istio is told.
fn world(mesh: &str, more: &str) -> Objects {
    let mut text = format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: '{mesh}'}}
"
    );
    for name in ["web", "db"] {
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {name}}}
spec: {{ports: [{{port: 80, name: http}}, {{port: 90, name: tcp}}], selector: {{app: {name}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {name}, labels: {{app: {name}, security.istio.io/tlsMode: istio}}}}
spec: {{containers: [{{name: app}}, {{name: istio-proxy}}]}}
"
        ));
    }
    text.push_str(more);
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("world.yaml", &text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

/// What the sidecar of the pod is told.
fn resources(objects: &Objects, name: &str) -> Resources {
    let pods = objects.pods();
    let pod = pods.iter().find(|pod| &*pod.name == name).unwrap();
    let identity = pod.identity();
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods);
    plane.resources(&identity)
}

fn cluster(resources: &Resources, name: &str) -> Cluster {
    let mut clusters = resources.clusters.iter();
    let found = clusters.find(|cluster| &*cluster.name == name);
    Cluster::clone(found.unwrap_or_else(|| panic!("no {name}")))
}

fn managers(resources: &Resources) -> Vec<&HttpConnectionManager> {
    let listeners = resources.listeners.iter();
    let chains = listeners.flat_map(|listener| &listener.filter_chains);
    let managers = chains.filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(manager) => Some(manager),
        NetworkFilter::Tcp(_) => None,
    });
    managers.collect()
}

const DB: &str = "outbound|80||db.db.svc.cluster.local";
const DB_TCP: &str = "outbound|90||db.db.svc.cluster.local";

#[test]
fn services_are_exported_as_the_mesh_says_unless_they_say_so_themselves() {
    let knows = |objects: &Objects| {
        let resources = resources(objects, "web");
        resources
            .clusters
            .iter()
            .any(|cluster| &*cluster.name == DB)
    };
    assert!(knows(&world("", "")));
    assert!(!knows(&world("defaultServiceExportTo: [.]", "")));
    assert!(!knows(&world("defaultServiceExportTo: [\"~\"]", "")));
    assert!(knows(&world("defaultServiceExportTo: [web]", "")));
    let stated = "---
apiVersion: v1
kind: Service
metadata: {name: own, namespace: db, annotations: {networking.istio.io/exportTo: '*'}}
spec: {ports: [{port: 80, name: http}]}
";
    let resources = resources(&world("defaultServiceExportTo: [.]", stated), "web");
    cluster(&resources, "outbound|80||own.db.svc.cluster.local");
}

#[test]
fn rules_are_exported_as_the_mesh_says_unless_they_say_so_themselves() {
    let rules = |export: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: db, namespace: db}}
spec: {{host: db, {export}subsets: [{{name: v1}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db, namespace: db}}
spec: {{hosts: [db.db.svc.cluster.local], {export}
  http: [{{name: mine, route: [{{destination: {{host: db.db.svc.cluster.local}}}}]}}]}}
"
        )
    };
    let seen = |mesh: &str, export: &str| {
        let told = resources(&world(mesh, &rules(export)), "web");
        let mut clusters = told.clusters.iter();
        let subset = clusters.any(|c| &*c.name == "outbound|80|v1|db.db.svc.cluster.local");
        let tables = told.routes.iter();
        let mut routes = tables
            .flat_map(|t| &t.virtual_hosts)
            .flat_map(|h| &h.routes);
        (subset, routes.any(|route| &*route.name == "mine"))
    };
    assert_eq!(seen("", ""), (true, true));
    let private = "defaultDestinationRuleExportTo: [.]";
    assert_eq!(seen(private, ""), (false, true));
    let private = "defaultVirtualServiceExportTo: [.]";
    assert_eq!(seen(private, ""), (true, false));
    assert!(seen(private, "exportTo: ['*'],").1);
    let named = "defaultVirtualServiceExportTo: [web]";
    assert_eq!(seen(named, ""), (true, true));
}

#[test]
fn rules_for_everybody_live_in_the_root_namespace() {
    let rule = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: mesh-root}
spec: {mtls: {mode: DISABLE}}
";
    let transport = |mesh: &str| cluster(&resources(&world(mesh, rule), "web"), DB).transport;
    assert_eq!(transport(""), Transport::AutoMutualTls);
    assert_eq!(transport("rootNamespace: mesh-root"), Transport::Plaintext);
}

#[test]
fn mutual_tls_is_not_inferred_where_that_is_turned_off() {
    let resources = resources(&world("enableAutoMtls: false", ""), "web");
    assert_eq!(cluster(&resources, DB).transport, Transport::Plaintext);
}

#[test]
fn every_cluster_has_the_connect_timeout_of_the_mesh() {
    let told = resources(&world("connectTimeout: 3s", ""), "web");
    for cluster in &told.clusters {
        assert_eq!(
            cluster.connect_timeout,
            Nanos::from_secs(3),
            "{}",
            cluster.name
        );
    }
}

#[test]
fn clients_speak_http2_where_the_mesh_upgrades() {
    let rule = |policy: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: db, namespace: db}}
spec: {{host: db, trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: {policy}}}}}}}}}
"
        )
    };
    let mesh = "h2UpgradePolicy: UPGRADE";
    let told = resources(&world(mesh, ""), "web");
    assert_eq!(cluster(&told, DB).http_protocol, HttpProtocol::Http2);
    assert_eq!(cluster(&told, DB_TCP).http_protocol, HttpProtocol::Http1);
    for (policy, want) in [
        ("DEFAULT", HttpProtocol::Http2),
        ("DO_NOT_UPGRADE", HttpProtocol::Http1),
    ] {
        let told = resources(&world(mesh, &rule(policy)), "web");
        assert_eq!(cluster(&told, DB).http_protocol, want, "{policy}");
    }
}

#[test]
fn paths_are_normalized_as_the_mesh_says() {
    for (normalization, want) in [
        ("NONE", (false, false, EscapedSlashes::Keep)),
        ("BASE", (true, false, EscapedSlashes::Keep)),
        ("MERGE_SLASHES", (true, true, EscapedSlashes::Keep)),
        (
            "DECODE_AND_MERGE_SLASHES",
            (true, true, EscapedSlashes::UnescapeAndForward),
        ),
    ] {
        let mesh = format!("pathNormalization: {{normalization: {normalization}}}");
        let told = resources(&world(&mesh, ""), "web");
        let managers = managers(&told);
        assert!(managers.len() > 1);
        for manager in managers {
            let found = (
                manager.normalize_path,
                manager.merge_slashes,
                manager.escaped_slashes,
            );
            assert_eq!(found, want, "{normalization}");
        }
    }
}

#[test]
fn identities_and_policies_are_of_the_trust_domain_and_its_aliases() {
    let policy = |principal: &str| {
        format!(
            "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: db, namespace: db}}
spec: {{rules: [{{from: [{{source: {{principals: ['{principal}']}}}}]}}]}}
"
        )
    };
    let mesh = "{trustDomain: td1, trustDomainAliases: [td2]}";
    let objects = world(mesh, "");
    let pods = objects.pods();
    let web = pods.iter().find(|pod| &*pod.name == "web").unwrap();
    assert_eq!(&*web.principal(), "spiffe://td1/ns/web/sa/default");
    let both: &[&str] = &["td1/ns/web/sa/a", "td2/ns/web/sa/a"];
    for (principal, alternatives, want) in [
        ("cluster.local/ns/web/sa/a", 2, both),
        ("td2/ns/web/sa/a", 2, both),
        ("*1/ns/web/sa/a", 2, &both[1..]),
        ("other/ns/web/sa/a", 1, &["other/ns/web/sa/a"]),
        ("*/ns/web/sa/a", 1, &[]),
    ] {
        let told = resources(&world(mesh, &policy(principal)), "db");
        let managers = managers(&told);
        let rbac = managers.iter().find_map(|manager| manager.rbac.first());
        let text = format!("{:?}", rbac.unwrap());
        let found = text.matches("Authenticated(").count();
        assert_eq!(found, alternatives, "{principal}: {text}");
        for one in want {
            assert!(
                text.contains(&format!("Exact(\"spiffe://{one}\")")),
                "{one}: {text}"
            );
        }
    }
}

#[test]
fn namespaces_that_are_not_discovered_are_not_there() {
    let more = "---
apiVersion: v1
kind: Namespace
metadata: {name: db, labels: {mesh: \"no\"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {mesh: \"yes\"}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: theirs, namespace: db}
spec: {hosts: [web.web.svc.cluster.local], http: [{name: theirs, directResponse: {status: 418}}]}
";
    let seen = |mesh: &str| {
        let told = resources(&world(mesh, more), "web");
        let hosts = told.routes.iter().flat_map(|table| &table.virtual_hosts);
        let theirs = hosts
            .flat_map(|host| &host.routes)
            .any(|route| &*route.name == "theirs");
        (
            told.clusters.iter().any(|cluster| &*cluster.name == DB),
            theirs,
        )
    };
    assert_eq!(seen(""), (true, true));
    for selector in [
        "{matchLabels: {mesh: \"yes\"}}",
        "{matchExpressions: [{key: mesh, operator: NotIn, values: [\"no\"]}]}",
        "{matchLabels: {kubernetes.io/metadata.name: web}}",
    ] {
        let mesh = format!("discoverySelectors: [{selector}]");
        assert_eq!(seen(&mesh), (false, false), "{selector}");
    }
    let either =
        "discoverySelectors: [{matchLabels: {mesh: \"yes\"}}, {matchLabels: {mesh: \"no\"}}]";
    assert_eq!(seen(either), (true, true));
}
