//! What Istio's own controller makes of the objects of its tests: the Gateways, VirtualServices and
//! DestinationRules recorded, loaded as objects, send every request where the objects of the Gateway
//! API send it; and the statuses recorded are those that are told.

use super::json::json_of;
use super::surroundings::{PORTS, deployments, namespaces, surroundings};
use super::{Tally, World, corpus, load, wanted};
use control_plane::{
    Objects, Pod, ProxyKind, Request, RequestDirection, RequestProtocol, RequestTls, explain,
};
use serde_json::{Map, Value, json};
use source::{Dialect, SourceFile};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

/// The cluster's domain of the tests, and ours.
fn at_home(text: &str) -> String {
    text.replace("domain.suffix", "cluster.local")
        // Nobody.
        .replace("destination: {}", "destination: {host: ''}")
}

fn documents(name: &str, text: &str) -> Vec<Value> {
    let (nodes, _) = source::parse(&SourceFile::new(name, text), Dialect::Kubernetes);
    nodes
        .iter()
        .map(json_of)
        .filter(|value| !value.is_null())
        .collect()
}

pub(crate) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

pub(crate) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
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
    for key in ["config", "trail", "passed_over"] {
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

/// The objects of a test and what is recorded of them, with the same surroundings. `deployed`: with the
/// pods of all Gateways.
fn worlds(root: &Path, name: &str, deployed: bool) -> (World, World, Vec<Value>) {
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
    if deployed {
        load(&mut base, "deployments", &deployments(&golden));
    }
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
    // What Istio makes itself no user may apply.
    let mut golden_text = golden_text;
    for made_from in ["BackendTLSPolicy", "XBackend", "XBackendTrafficPolicy"] {
        let parent = format!("internal.istio.io/parents: {made_from}/");
        golden_text = golden_text.replace(&parent, "was/parents: ");
    }
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
        let (mut ours, mut theirs, golden) = worlds(&root, &name, true);
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
        let (ours, _, _) = worlds(&root, &name, false);
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
