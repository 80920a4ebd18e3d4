//! What Istio's own controller makes of the objects of its tests: the Gateways, VirtualServices and
//! DestinationRules recorded, loaded as objects, send every request where the objects of the Gateway
//! API send it; and the statuses recorded are those that are told.

use super::{Tally, World, corpus, load, wanted};
use control_plane::{
    Objects, Pod, ProxyKind, Request, RequestDirection, RequestProtocol, RequestTls, explain,
};
use serde_json::{Map, Value, json};
use source::{Dialect, Node, SourceFile};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

/// Services that are there, with the ports 80, 34000 and 34001.
const SERVICES: &str = "
httpbin.default httpbin-apple.apple httpbin-banana.banana httpbin-second.default
httpbin-wildcard.default foo-svc.default httpbin-other.default example.default echo.default
httpbin.cert my-svc.service a-example.allowed-1 a-example.allowed-2 b-example.allowed-1
svc2.allowed-1 svc2.allowed-2 svc1.allowed-1 svc3.allowed-2 svc4.default httpbin.group-namespace1
httpbin.group-namespace2 httpbin-zero.default httpbin.istio-system httpbin-mirror.default
httpbin-foo.default httpbin-alt.default istiod.istio-system echo.istio-system httpbin-bad.default
echo-1.default echo-2.default echo-port.default not-found.default
";
/// Hosts outside the cluster, with the namespace that knows them.
const HOSTS: [(&str, &str); 6] = [
    ("example.com", "istio-system"),
    ("google.com", "default"),
    ("secure.example.net", "default"),
    ("cross.example.net", "allowed-1"),
    ("plaintext.example.net", "default"),
    ("tcp.example.net", "default"),
];
const SECRETS: [(&str, &str); 9] = [
    ("istio-system", "my-cert-http"),
    ("ns2", "ns2-cert"),
    ("ns3", "ns3-cert"),
    ("ns4", "ns4-cert"),
    ("istio-system", "my-cert"),
    ("istio-system", "my-cert-http2"),
    ("cert", "cert"),
    ("bookinfo", "bookinfo-secret"),
    ("bookinfo", "another-secret"),
];
const PORTS: [(&str, u16); 3] = [("http", 80), ("tcp", 34000), ("tcp-other", 34001)];

/// The cluster's domain of the tests, and ours.
fn at_home(text: &str) -> String {
    text.replace("domain.suffix", "cluster.local")
        // Nobody.
        .replace("destination: {}", "destination: {host: ''}")
}

fn service(name: &str, namespace: &str, ports: &[(String, u16)], external: Option<&str>) -> String {
    let ports: Vec<String> = ports
        .iter()
        .map(|(name, port)| format!("{{name: {name}, port: {port}}}"))
        .collect();
    let status = external.map_or(String::new(), |ip| {
        format!("status: {{loadBalancer: {{ingress: [{{ip: {ip}}}]}}}}\n")
    });
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{app: {name}}}\n  ports: [{}]\n{status}",
        ports.join(", ")
    )
}

/// A pod with that label, a gateway or with a sidecar.
fn pod(name: &str, namespace: &str, gateway: bool) -> String {
    let containers = if gateway {
        "[{name: istio-proxy}]"
    } else {
        "[{name: app}, {name: istio-proxy}]"
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-0, namespace: {namespace}, \
         labels: {{app: {name}}}}}\nspec: {{containers: {containers}}}\n"
    )
}

/// What the tests of Istio's controller take to be there.
fn surroundings() -> String {
    let block = |label: &str| format!("-----BEGIN {label}-----\\nAAAA\\n-----END {label}-----\\n");
    let (certificate, key) = (block("CERTIFICATE"), block("RSA PRIVATE KEY"));
    let named = |ports: &[(&str, u16)]| -> Vec<(String, u16)> {
        ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect()
    };
    let mut text = String::new();
    for full in SERVICES.split_whitespace() {
        let (name, namespace) = full.split_once('.').unwrap();
        text += &service(name, namespace, &named(&PORTS), None);
        text += &pod(name, namespace, false);
    }
    let ports = [&[("https", 443)], &PORTS[..]].concat();
    text += &service(
        "istio-ingressgateway",
        "istio-system",
        &named(&ports),
        Some("1.2.3.4"),
    );
    text += &pod("istio-ingressgateway", "istio-system", true);
    for (host, namespace) in HOSTS {
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: known-{}, \
             namespace: {namespace}}}\nspec:\n  hosts: [{host}]\n  resolution: DNS\n  ports:\n  - \
             {{name: http, number: 80, protocol: HTTP}}\n  - {{name: tcp, number: 34000, protocol: \
             TCP}}\n  - {{name: tcp-other, number: 34001, protocol: TCP}}\n",
            host.replace('.', "-")
        );
    }
    for (namespace, name) in SECRETS {
        let authority = match name {
            "my-cert-http" => format!(", ca.crt: \"{certificate}\""),
            _ => String::new(),
        };
        text += &format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             stringData: {{tls.crt: \"{certificate}\", tls.key: \"{key}\"{authority}}}\n"
        );
    }
    text += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: malformed, namespace: istio-system}\n\
             stringData: {tls.crt: hello, tls.key: hello}\n";
    for (namespace, name, key, value) in [
        ("istio-system", "malformed", "not-ca.crt", "hello"),
        ("istio-system", "malformed-trustbundle", "ca.crt", "hello"),
        ("istio-system", "my-cert-http", "ca.crt", &*certificate),
        ("default", "malformed", "not-ca.crt", "hello"),
        ("default", "auth-cert", "ca.crt", &*certificate),
    ] {
        text += &format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\ndata: {{{key}: \"{value}\"}}\n"
        );
    }
    text
}

/// The namespaces of the objects, with a label by which tests select them.
fn namespaces(objects: &Objects) -> String {
    let names: BTreeSet<String> = objects
        .refs()
        .iter()
        .map(|object| object.namespace.to_string())
        .filter(|name| !name.is_empty())
        .collect();
    let mut text = String::new();
    for name in names {
        let part = name.split('-').next().unwrap_or_default();
        text += &format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: \
             {{istio.io/test-name-part: {part}}}}}\n"
        );
    }
    text
}

fn json_of(node: &Node) -> Value {
    match &node.value {
        source::Value::Null => Value::Null,
        source::Value::Bool(value) => json!(value),
        source::Value::Int(value) => json!(value),
        source::Value::Float(value) => json!(value),
        source::Value::String(text) => json!(text),
        source::Value::Seq(items) => items.iter().map(json_of).collect(),
        source::Value::Map(map) => {
            let entries = map.entries.iter();
            Value::Object(
                entries
                    .map(|e| (e.key.clone(), json_of(&e.value)))
                    .collect::<Map<_, _>>(),
            )
        }
    }
}

fn documents(name: &str, text: &str) -> Vec<Value> {
    let (nodes, _) = source::parse(&SourceFile::new(name, text), Dialect::Kubernetes);
    nodes
        .iter()
        .map(json_of)
        .filter(|value| !value.is_null())
        .collect()
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Services and pods of the Gateways that the controller deploys, which its tests leave out.
fn deployments(golden: &[Value]) -> String {
    let mut ports: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
    for gateway in golden.iter().filter(|object| object["kind"] == "Gateway") {
        let annotation = "/metadata/annotations/internal.istio.io~1gateway-service";
        for host in text(gateway, annotation).split(',') {
            let Some(full) = host.strip_suffix(".svc.cluster.local") else {
                continue;
            };
            let (name, namespace) = full.split_once('.').unwrap();
            let entry = ports
                .entry((name.to_owned(), namespace.to_owned()))
                .or_default();
            for server in list(gateway, "/spec/servers") {
                entry.extend(server["port"]["number"].as_u64().map(|port| port as u16));
            }
        }
    }
    ports.remove(&("istio-ingressgateway".to_owned(), "istio-system".to_owned()));
    let mut all = String::new();
    for ((name, namespace), ports) in ports {
        if SERVICES
            .split_whitespace()
            .any(|known| known == format!("{name}.{namespace}"))
        {
            continue;
        }
        let ports: Vec<(String, u16)> = ports
            .iter()
            .map(|port| (format!("port-{port}"), *port))
            .collect();
        all += &service(&name, &namespace, &ports, None);
        all += &pod(&name, &namespace, true);
    }
    all
}

/// Requests that the rules recorded tell apart, and some that none of them takes.
fn derived(golden: &[Value]) -> Vec<Request> {
    let mut requests: BTreeMap<String, Request> = BTreeMap::new();
    let concrete = |host: &str| match host.strip_prefix('*') {
        Some("") => "any.example".to_owned(),
        Some(suffix) => format!("some{suffix}"),
        None => host.to_owned(),
    };
    let mut hosts: BTreeSet<String> = BTreeSet::from(["nobody.example".to_owned()]);
    for object in golden {
        let servers = list(object, "/spec/servers")
            .iter()
            .flat_map(|s| list(s, "/hosts"));
        let own = list(object, "/spec/hosts").iter();
        for host in servers.chain(own).filter_map(Value::as_str) {
            let host = host.split_once('/').map_or(host, |(_, host)| host);
            hosts.insert(concrete(host));
        }
    }
    let mut heads: Vec<Request> = vec![Request {
        path: "/nothing/here".to_owned(),
        ..Request::default()
    }];
    for object in golden {
        for rule in list(object, "/spec/http") {
            let matches = list(rule, "/match");
            let every = [json!({})];
            for one in if matches.is_empty() { &every } else { matches } {
                let uri = &one["uri"];
                let paths = match (uri["exact"].as_str(), uri["prefix"].as_str()) {
                    (Some(path), _) => vec![path.to_owned(), format!("{path}/more")],
                    (_, Some(prefix)) => {
                        let prefix = prefix.trim_end_matches('/');
                        vec![
                            format!("{prefix}/"),
                            format!("{prefix}/a/b"),
                            format!("{prefix}more"),
                            prefix.to_owned(),
                        ]
                    }
                    _ => vec!["/foo".to_owned(), "/".to_owned()],
                };
                for path in paths {
                    let mut head = Request {
                        path: if path.is_empty() {
                            "/".to_owned()
                        } else {
                            path
                        },
                        method: one["method"]["exact"].as_str().unwrap_or("GET").to_owned(),
                        ..Request::default()
                    };
                    heads.push(head.clone());
                    for (name, value) in one["headers"].as_object().into_iter().flatten() {
                        let value = value["exact"].as_str().unwrap_or("value");
                        head.headers.push((name.clone(), value.to_owned()));
                    }
                    let query: Vec<String> = one["queryParams"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(name, value)| {
                            format!("{name}={}", value["exact"].as_str().unwrap_or("value"))
                        })
                        .collect();
                    if !query.is_empty() {
                        head.path = format!("{}?{}", head.path, query.join("&"));
                    }
                    heads.push(head);
                }
            }
        }
    }
    for host in &hosts {
        for head in &heads {
            let request = Request {
                authority: host.clone(),
                ..head.clone()
            };
            requests.insert(serde_json::to_string(&request).unwrap(), request);
        }
    }
    requests.into_values().collect()
}

/// The same request as plain text, over TLS and as bytes, to each port of a gateway; from a sidecar
/// to the ports of services.
fn ways(pod: &Pod, request: &Request, ports: &BTreeSet<u16>, objects: &Objects) -> Vec<Request> {
    let mut all = Vec::new();
    if pod.proxy != ProxyKind::Gateway {
        let service = objects.service(&request.authority, &pod.namespace);
        let Some(ip) = service.and_then(|service| service.address) else {
            return all;
        };
        for (_, port) in PORTS {
            for protocol in [RequestProtocol::Http, RequestProtocol::Tcp] {
                all.push(Request {
                    address: Some(SocketAddr::new(ip, port)),
                    direction: Some(RequestDirection::Outbound),
                    protocol,
                    ..request.clone()
                });
            }
        }
        return all;
    }
    for port in ports {
        for tls in [RequestTls::None, RequestTls::Tls] {
            for protocol in [RequestProtocol::Http, RequestProtocol::Tcp] {
                all.push(Request {
                    address: Some(SocketAddr::new(pod.ip, *port)),
                    direction: Some(RequestDirection::Gateway),
                    protocol,
                    tls,
                    sni: (tls != RequestTls::None).then(|| request.authority.clone()),
                    scheme: if tls == RequestTls::None {
                        "http"
                    } else {
                        "https"
                    }
                    .to_owned(),
                    ..request.clone()
                });
            }
        }
    }
    all
}

/// What a request comes to, without where it is configured.
fn outcome(world: &mut World, pod: &Pod, request: &Request) -> Value {
    let resources = world.resources(pod);
    let answer = explain(&resources, request);
    let mut shown = serde_json::to_value(&answer).unwrap();
    for key in ["config", "trail"] {
        shown[key] = Value::Null;
    }
    if let Some(route) = &answer.matched {
        let mut route = serde_json::to_value(&**route).unwrap();
        route["origin"] = Value::Null;
        // Which of several ways of matching everything is stated makes no difference.
        route["matches"] = Value::Null;
        // The API server fills in how long answers to preflights hold; the tests' reader does not.
        if route["cors"]["max_age"] == "5" {
            route["cors"]["max_age"] = json!("");
        }
        shown["matched"] = route;
    }
    let transports = answer.clusters.iter().map(|share| {
        let cluster = resources.clusters.iter().find(|c| c.name == share.name);
        json!(cluster.map(|cluster| &cluster.transport))
    });
    shown["transports"] = transports.collect();
    shown
}

/// The parts that are not the same.
fn differing(one: &Value, other: &Value) -> (Value, Value) {
    let (Some(a), Some(b)) = (one.as_object(), other.as_object()) else {
        return (one.clone(), other.clone());
    };
    let (mut only_a, mut only_b) = (Map::new(), Map::new());
    for key in a.keys().chain(b.keys()) {
        let null = Value::Null;
        let (x, y) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
        if x != y {
            let (x, y) = differing(x, y);
            only_a.insert(key.clone(), x);
            only_b.insert(key.clone(), y);
        }
    }
    (Value::Object(only_a), Value::Object(only_b))
}

/// Whether both worlds do the same with each derived request; how many there were.
fn same(one: &mut World, other: &mut World, golden: &[Value]) -> Result<usize, String> {
    let requests = derived(golden);
    let mut ports: BTreeSet<u16> = BTreeSet::from([80, 443]);
    for server in golden
        .iter()
        .flat_map(|object| list(object, "/spec/servers"))
    {
        ports.extend(server["port"]["number"].as_u64().map(|port| port as u16));
    }
    let gateways = one
        .pods
        .iter()
        .filter(|pod| pod.proxy == ProxyKind::Gateway);
    let mut pods: Vec<Pod> = gateways.cloned().collect();
    for namespace in ["default", "istio-system", "allowed-1", "apple"] {
        let mut sidecars = one.pods.iter();
        let found = sidecars.find(|p| *p.namespace == *namespace && p.proxy == ProxyKind::Sidecar);
        pods.extend(found.cloned());
    }
    let mut asked = 0;
    for pod in &pods {
        // Each pod is asked with the resources that it has.
        let listeners = |world: &mut World| {
            let resources = world.resources(pod);
            let names = resources.listeners.iter().map(|l| l.name.to_string());
            names.collect::<BTreeSet<String>>()
        };
        let (a, b) = (listeners(one), listeners(other));
        if a != b {
            return Err(format!("{}: listens on {a:?}, not {b:?}", pod.name));
        }
        for request in &requests {
            for request in ways(pod, request, &ports, &one.objects.clone()) {
                asked += 1;
                let (got, want) = (outcome(one, pod, &request), outcome(other, pod, &request));
                if got != want {
                    let request = serde_json::to_string(&request).unwrap();
                    let (got, want) = differing(&got, &want);
                    return Err(format!(
                        "{} {request}\n    got  {got}\n    want {want}",
                        pod.name
                    ));
                }
            }
        }
    }
    Ok(asked)
}

/// The objects as the API server would hold them, which the tests' own reader does not fill in.
fn worlds(root: &Path, name: &str) -> (World, World, Vec<Value>) {
    let read = |file: &str| at_home(&std::fs::read_to_string(root.join(file)).unwrap());
    let golden_text = read(&format!("{name}.yaml.golden"));
    let golden = documents("golden", &golden_text);
    let input = read(&format!("{name}.yaml"));
    let mut given = Objects::default();
    load(&mut given, name, &input);
    let around = namespaces(&given);
    let mut base = Objects::default();
    load(&mut base, "surroundings", &surroundings());
    load(&mut base, "namespaces", &around);
    load(&mut base, "deployments", &deployments(&golden));
    let mut ours = base.clone();
    load(&mut ours, name, &input);
    let mut theirs = base;
    // What is not of the Gateway API is there in both.
    for object in given.refs() {
        let other = [
            "Service",
            "ServiceEntry",
            "Namespace",
            "DestinationRule",
            "VirtualService",
        ];
        if !other.contains(&&*object.kind) {
            given.delete(&object);
        }
    }
    theirs.apply(&given);
    load(&mut theirs, "golden", &golden_text);
    (World::new(ours), World::new(theirs), golden)
}

fn names(root: &Path) -> Vec<String> {
    let files = std::fs::read_dir(root).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".yaml.golden").map(str::to_owned))
        .filter(|name| !name.ends_with(".status") && wanted(name))
        .collect();
    names.sort();
    names
}

#[test]
fn routes_do_what_istios_controller_makes_of_them() {
    let Some(root) = corpus("pilot/pkg/config/kube/gateway/testdata") else {
        return;
    };
    let mut tally = Tally::default();
    let mut requests = 0;
    for name in names(&root) {
        let (mut ours, mut theirs, golden) = worlds(&root, &name);
        let result = same(&mut ours, &mut theirs, &golden);
        requests += result.as_ref().map_or(0, |asked| *asked);
        tally.count(&name, result.map(|_| ()));
    }
    tally.report("goldens");
    eprintln!("  {requests} requests");
    if std::env::var_os("CASE").is_none() {
        assert!(tally.percent() >= 80.0);
        assert!(requests > 5_000);
    }
}

/// The conditions of a status, by what they are of; without times and generations.
fn conditions(status: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut add = |of: &str, list_of: &Value| {
        for condition in list(list_of, "/conditions") {
            let name = format!("{of} {}", text(condition, "/type"));
            let parts =
                ["status", "reason", "message"].map(|key| text(condition, &format!("/{key}")));
            found.insert(name, json!(parts));
        }
    };
    add("", status);
    for listener in list(status, "/listeners") {
        add(text(listener, "/name"), listener);
    }
    for (key, reference) in [("/parents", "parentRef"), ("/ancestors", "ancestorRef")] {
        for parent in list(status, key) {
            add(&parent[reference].to_string(), parent);
        }
    }
    for listener in list(status, "/listeners") {
        let name = text(listener, "/name");
        let kinds = list(listener, "/supportedKinds")
            .iter()
            .map(|kind| text(kind, "/kind"));
        let kinds: Vec<&str> = kinds.collect();
        found.insert(
            format!("{name} routes"),
            json!([listener["attachedRoutes"], kinds]),
        );
    }
    found
}

#[test]
fn statuses_are_those_of_istios_controller() {
    let Some(root) = corpus("pilot/pkg/config/kube/gateway/testdata") else {
        return;
    };
    let (mut tally, mut messages) = (Tally::default(), Tally::default());
    for name in names(&root) {
        let (ours, _, _) = worlds(&root, &name);
        let file = root.join(format!("{name}.status.yaml.golden"));
        let golden = at_home(&std::fs::read_to_string(file).unwrap());
        let all = serde_json::to_value(ours.objects.gateway_api_statuses()).unwrap();
        let key = |object: &Value| {
            let parts = ["/kind", "/metadata/namespace", "/metadata/name"];
            parts.map(|part| text(object, part).to_owned())
        };
        for object in documents("status", &golden) {
            let mut found = all.as_array().unwrap().iter();
            let found = found.find(|other| key(other) == key(&object));
            let got = found
                .map(|found| conditions(&found["status"]))
                .unwrap_or_default();
            for (condition, want) in conditions(&object["status"]) {
                let title = format!("{name}: {:?} {condition}", key(&object));
                let got = got.get(&condition);
                let why = || format!("want {want}, got {}", got.unwrap_or(&Value::Null));
                let fits = got.is_some_and(|got| got[0] == want[0] && got[1] == want[1]);
                tally.count(&title, if fits { Ok(()) } else { Err(why()) });
                messages.count(
                    &title,
                    if got == Some(&want) {
                        Ok(())
                    } else {
                        Err(why())
                    },
                );
            }
        }
    }
    tally.report("statuses");
    messages.report("statuses with their messages");
    if std::env::var_os("CASE").is_none() {
        assert!(tally.all > 500);
        assert!(tally.percent() >= 90.0);
    }
}
