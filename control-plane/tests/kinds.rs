//! Kinds beside the rules of the mesh: workloads outside the cluster, further controllers of pods,
//! Ingress, and what is passed over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use client::client;
use control_plane::{ControlPlane, Objects, ProxyKind, PushSettings, Request, Resources, explain};
use proxy_core::xds::LocalityEndpoints;
use source::{Diagnostic, Dialect, Level, Node, SourceFile, parse};
use std::path::PathBuf;

fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Objects {
    Objects::read(&SourceFile::new("objects.yaml", text), diagnostics)
}

/// What a proxy is told; `text` may be warned of.
fn told(text: &str, kind: ProxyKind, namespace: &str, labels: &[(&str, &str)]) -> Resources {
    let mut diagnostics = Vec::new();
    let objects = read(text, &mut diagnostics);
    diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    let pods = objects.pods();
    let identity = client(kind, namespace, labels, "");
    ControlPlane::new(PushSettings::default(), objects, pods).resources(&identity)
}

fn localities<'r>(resources: &'r Resources, cluster: &str) -> &'r [LocalityEndpoints] {
    let assignment = resources.endpoints.iter().find(|e| &*e.cluster == cluster);
    &assignment.unwrap().localities
}

/// Address, weight and whether it is spoken to in mutual TLS.
fn endpoints(resources: &Resources, cluster: &str) -> Vec<(String, u32, bool)> {
    let mut found: Vec<_> = localities(resources, cluster)
        .iter()
        .flat_map(|locality| &locality.endpoints)
        .map(|e| (e.address.to_string(), e.weight, e.mutual_tls))
        .collect();
    found.sort();
    found
}

const MACHINES: &str = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one, namespace: shop}
spec: {address: 192.168.0.1, labels: {app: legacy, version: v1}, ports: {http: 8081}, weight: 2, serviceAccount: legacy}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: two, namespace: shop}
spec: {address: 192.168.0.2, labels: {app: legacy, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: elsewhere, namespace: other}
spec: {address: 192.168.0.3, labels: {app: legacy}}
---
apiVersion: v1
kind: Pod
metadata: {name: legacy-0, namespace: shop, labels: {app: legacy, version: v3}}
spec: {containers: []}
status: {podIP: 10.0.0.7}
---
";

#[test]
fn a_service_entry_selects_machines_and_pods_of_its_namespace() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec:
  hosts: [legacy.shop.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: legacy}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: legacy, namespace: shop}
spec: {host: legacy.shop.test, subsets: [{name: v2, labels: {version: v2}}]}
";
    let text = format!("{MACHINES}{entry}");
    let told = told(&text, ProxyKind::Sidecar, "shop", &[]);
    let at = |ip: &str, weight, tls| (ip.to_owned(), weight, tls);
    assert_eq!(
        endpoints(&told, "outbound|80||legacy.shop.test"),
        [
            at("10.0.0.7:8080", 1, false),
            at("192.168.0.1:8081", 2, true),
            at("192.168.0.2:8080", 1, false),
        ]
    );
    assert_eq!(
        endpoints(&told, "outbound|80|v2|legacy.shop.test"),
        [at("192.168.0.2:8080", 1, false)]
    );
}

#[test]
fn labels_of_a_machine_say_where_it_is_unless_it_says_so_itself() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec:
  hosts: [legacy.shop.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 192.168.0.1, labels: {istio-locality: north.z}}
  - {address: 192.168.0.2, labels: {istio-locality: north.z}, locality: south}
";
    let told = told(entry, ProxyKind::Sidecar, "shop", &[]);
    let localities = localities(&told, "outbound|80||legacy.shop.test");
    let found: Vec<&str> = localities.iter().map(|l| &*l.locality).collect();
    assert_eq!(found, ["north/z", "south"]);
}

#[test]
fn a_service_selects_machines_too() {
    let service = "
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http, targetPort: 9000}, {port: 81, name: http-named, targetPort: http}], selector: {app: legacy}}
";
    let text = format!("{MACHINES}{service}");
    let told = told(&text, ProxyKind::Sidecar, "shop", &[]);
    let addresses = |cluster: &str| -> Vec<String> {
        let found = endpoints(&told, cluster);
        found.into_iter().map(|(address, ..)| address).collect()
    };
    let host = "legacy.shop.svc.cluster.local";
    assert_eq!(
        addresses(&format!("outbound|80||{host}")),
        ["10.0.0.7:9000", "192.168.0.1:8081", "192.168.0.2:9000"]
    );
    // Who does not name the port has none.
    assert_eq!(
        addresses(&format!("outbound|81||{host}")),
        ["192.168.0.1:8081"]
    );
}

#[test]
fn stateful_and_daemon_sets_have_pods() {
    let text = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent}]}
";
    let nodes = "
---
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/region: east}}
---
apiVersion: v1
kind: Node
metadata: {name: b, labels: {topology.kubernetes.io/region: west}}
";
    let pods = |text: &str| -> Vec<(String, String)> {
        let pods = read(text, &mut Vec::new()).pods();
        pods.iter()
            .map(|pod| (pod.name.to_string(), pod.locality.to_string()))
            .collect()
    };
    let pod = |name: &str, locality: &str| (name.to_owned(), locality.to_owned());
    let stateful = [pod("db-0", ""), pod("db-1", ""), pod("db-2", "")];
    let alone = [&[pod("agent-0", "")][..], &stateful].concat();
    assert_eq!(pods(text), alone);
    let on_nodes = [
        &[pod("agent-0", "east"), pod("agent-1", "west")][..],
        &stateful,
    ];
    assert_eq!(pods(&format!("{text}{nodes}")), on_nodes.concat());
}

#[test]
fn labels_of_a_pod_say_where_it_is_before_its_node_does() {
    let text = "
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/region: east}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {topology.istio.io/locality: north.z.1, istio-locality: south}}
spec: {nodeName: a, containers: []}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent, istio-locality: south}}
    spec: {containers: [{name: agent}]}
";
    let pods = read(text, &mut Vec::new()).pods();
    let localities: Vec<&str> = pods.iter().map(|pod| &*pod.locality).collect();
    assert_eq!(localities, ["south", "north/z/1"]);
}

#[test]
fn pods_of_a_deployment_that_are_listed_are_all_it_has() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-v1}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-v1-5d8c7b9f-x2x9z
  labels: {app: web, security.istio.io/tlsMode: istio}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-v1-5d8c7b9f}]
spec: {containers: [{name: web}]}
status: {podIP: 10.0.0.1}
";
    let objects = read(text, &mut Vec::new());
    let pods = objects.pods();
    let names: Vec<(&str, &str)> = pods.iter().map(|p| (&*p.name, &*p.workload)).collect();
    assert_eq!(names, [("web-v1-5d8c7b9f-x2x9z", "web-v1")]);
    assert!(objects.proxy("web-v1").is_ok());
}

#[test]
fn what_is_passed_over_is_said_once_for_a_kind() {
    let object = |version: &str, kind: &str, name: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{}}\n---\n"
        )
    };
    let text = [
        object("cert-manager.io/v1", "Certificate", "a"),
        object("cert-manager.io/v1", "Certificate", "b"),
        object("v1", "ServiceAccount", "silent"),
        object("rbac.authorization.k8s.io/v1", "Role", "silent"),
        object("batch/v1", "CronJob", "nightly"),
        object("networking.istio.io/v1", "VirtualServce", "misspelt"),
        object("networking.istio.io/v1alpha1", "Gateway", "old"),
    ]
    .concat();
    let mut diagnostics = Vec::new();
    let objects = read(&text, &mut diagnostics);
    assert_eq!(objects.refs(), []);
    insta::assert_snapshot!(source::render(&diagnostics, false));
}

const INGRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: istio-system}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, targetPort: 8080, name: http}, {port: 443, targetPort: 8443, name: https}], selector: {istio: ingressgateway}}
---
apiVersion: v1
kind: Pod
metadata: {name: ingress, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.0.0.99}
---
";

/// Where a request at the gateway's port 80 goes: a cluster's host and port, or a status.
fn at_gateway(told: &Resources, authority: &str, path: &str) -> String {
    let request = Request {
        authority: authority.into(),
        path: path.into(),
        address: Some("10.0.0.99:8080".parse().unwrap()),
        ..Request::default()
    };
    let answer = explain(told, &request);
    match answer.clusters.first() {
        Some(share) => share.name.to_string(),
        None => answer.status.unwrap_or_default().to_string(),
    }
}

#[test]
fn an_ingress_needs_a_class_of_istios() {
    let rules = "
spec:
  CLASS
  rules:
  - host: web.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: own}
spec: {controller: istio.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: other}
spec: {controller: k8s.io/ingress-nginx}
";
    let goes = |metadata: &str, class: &str| {
        let head = "apiVersion: networking.k8s.io/v1\nkind: Ingress\n";
        let rules = rules.replace("CLASS", class);
        let text =
            format!("{INGRESS}{head}metadata: {{name: web, namespace: ns{metadata}}}{rules}");
        let told = told(
            &text,
            ProxyKind::Gateway,
            "istio-system",
            &[("istio", "ingressgateway")],
        );
        let heard = told.listeners.iter().any(|l| l.port == 8080);
        let said = {
            let mut diagnostics = Vec::new();
            read(&text, &mut diagnostics).check_references(&mut diagnostics);
            diagnostics.len()
        };
        assert_eq!(heard, said == 0);
        heard && at_gateway(&told, "web.test", "/x") == "outbound|80||web.ns.svc.cluster.local"
    };
    assert!(goes("", "ingressClassName: own"));
    assert!(!goes("", "ingressClassName: other"));
    assert!(!goes("", "ingressClassName: missing"));
    assert!(!goes("", ""));
    let annotated = ", annotations: {kubernetes.io/ingress.class: istio}";
    assert!(goes(annotated, ""));
    assert!(!goes(
        &annotated.replace("istio}", "nginx}"),
        "ingressClassName: own"
    ));
}

/// The port of the service that Istio's own VirtualServices send a path to, which tells the rule.
fn expected(golden: &[Node], authority: &str, path: &str) -> Option<String> {
    let text = |node: &Node, at: &[&str]| node.at(at).and_then(Node::as_scalar).map(str::to_owned);
    let service = golden.iter().find(|object| {
        let hosts = object.at(&["spec", "hosts"]).and_then(Node::as_seq);
        hosts.is_some_and(|hosts| hosts.iter().any(|host| host.as_scalar() == Some(authority)))
    })?;
    let rules = service.at(&["spec", "http"])?.as_seq()?;
    let rule = rules.iter().find(|rule| {
        let matches = rule
            .at(&["match"])
            .and_then(Node::as_seq)
            .unwrap_or_default();
        let Some(one) = matches.first() else {
            return true;
        };
        match (text(one, &["uri", "exact"]), text(one, &["uri", "prefix"])) {
            (Some(exact), _) => exact == path,
            // Of an Ingress: whole parts of the path.
            (_, Some(prefix)) => {
                let prefix = prefix.trim_end_matches('/');
                let rest = path.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            _ => true,
        }
    })?;
    let to = rule
        .at(&["route"])?
        .as_seq()?
        .first()?
        .at(&["destination"])?;
    let host = text(to, &["host"])?.replace("svc.mydomain", "svc.cluster.local");
    Some(format!(
        "outbound|{}||{host}",
        text(to, &["port", "number"])?
    ))
}

#[test]
fn an_ingress_goes_where_istio_sends_it() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../../shared/corpus/pilot/pkg/config/kube/ingress/testdata");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no {}", folder.display());
        return;
    }
    let mut services = String::new();
    for (namespace, name) in [("ns", "service1"), ("ns", "service2"), ("bar", "httpbin")] {
        let ports: Vec<String> = [
            80, 4200, 4201, 4202, 4203, 4204, 4205, 4206, 4207, 4208, 4209,
        ]
        .iter()
        .map(|port| format!("{{port: {port}, name: http-{port}}}"))
        .collect();
        services += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{clusterIP: 10.97.0.{}, ports: [{}], selector: {{app: {name}}}}}\n---\n",
            services.len() % 250 + 1,
            ports.join(", ")
        );
    }
    for case in ["simple", "overlay", "tls", "tls-no-secret"] {
        let input = std::fs::read_to_string(folder.join(format!("{case}.yaml"))).unwrap();
        let input = input.replace(
            "\nspec:",
            "\n  annotations: {kubernetes.io/ingress.class: istio}\nspec:",
        );
        let golden = std::fs::read_to_string(folder.join(format!("{case}.yaml.golden"))).unwrap();
        let (golden, _) = parse(&SourceFile::new("golden", &golden), Dialect::Kubernetes);
        let told = told(
            &format!("{INGRESS}{services}{input}"),
            ProxyKind::Gateway,
            "istio-system",
            &[("istio", "ingressgateway")],
        );
        let secure = told.listeners.iter().any(|l| l.port == 8443);
        assert_eq!(secure, case == "tls", "{case}");
        let paths = [
            "/",
            "/path",
            "/path/x",
            "/sub/path",
            "/sub/path/",
            "/sub/path/x",
            "/sub/pathx",
            "/regex1",
            "/regex1/x",
            "/regex1x",
            "/regex2*",
            "/regex2",
            "/regex3",
            "/regex3/x",
            "/second",
        ];
        for host in ["foohost.bar.com", "foo.org", "nobody.test"] {
            for path in paths {
                let want = expected(&golden, host, path).unwrap_or_else(|| "404".to_owned());
                assert_eq!(at_gateway(&told, host, path), want, "{case} {host}{path}");
            }
        }
    }
}
