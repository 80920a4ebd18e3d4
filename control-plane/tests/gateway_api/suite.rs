//! The conformance suite of the Gateway API.

use super::judge::judge;
use super::{Tally, World, corpus, load, wanted};
use control_plane::{
    ObjectRef, Objects, Request, RequestDirection, RequestProtocol, RequestTls, Resources, explain,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Certificates as the suite makes them, as far as they matter: well-formed.
const SECRETS: [(&str, &str); 9] = [
    ("gateway-conformance-web-backend", "certificate"),
    (
        "gateway-conformance-infra",
        "tls-validity-checks-certificate",
    ),
    ("gateway-conformance-infra", "tls-checks-certificate"),
    (
        "gateway-conformance-infra",
        "tls-passthrough-checks-certificate",
    ),
    (
        "gateway-conformance-app-backend",
        "tls-passthrough-checks-certificate",
    ),
    (
        "gateway-conformance-infra",
        "tls-terminate-checks-certificate",
    ),
    ("gateway-conformance-infra", "tls-checks-client-certificate"),
    (
        "gateway-conformance-infra",
        "tls-validity-checks-client-certificate",
    ),
    (
        "gateway-conformance-infra",
        "tls-validity-checks-per-port-client-certificate",
    ),
];
const AUTHORITIES: [(&str, &str); 5] = [
    ("gateway-conformance-web-backend", "web-backend-cm"),
    ("gateway-conformance-infra", "tls-checks-ca-certificate"),
    (
        "gateway-conformance-infra",
        "tls-validity-checks-ca-certificate",
    ),
    (
        "gateway-conformance-infra",
        "tls-validity-checks-per-port-ca-certificate",
    ),
    ("gateway-conformance-infra", "mismatch-ca-certificate"),
];

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\\nAAAA\\n-----END {label}-----\\n")
}

fn generated() -> String {
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let object = |kind: &str, namespace: &str, name: &str, data: String| {
        format!(
            "---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{data}\n"
        )
    };
    let mut text = String::new();
    for (namespace, name) in SECRETS {
        let data = format!("stringData:\n  tls.crt: \"{certificate}\"\n  tls.key: \"{key}\"");
        text += &object("Secret", namespace, name, data);
    }
    for (namespace, name) in AUTHORITIES {
        let data = format!("data:\n  ca.crt: \"{certificate}\"");
        text += &object("ConfigMap", namespace, name, data);
    }
    text
}

/// The configuration of a case.
fn world(root: &Path, case: &Value) -> World {
    let mut objects = Objects::default();
    load(&mut objects, "generated", &generated());
    let later = case["applied_later"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for file in case["files"].as_array().unwrap().iter().chain(&later) {
        let file = file.as_str().unwrap();
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let text = text
            .replace("{GATEWAY_CLASS_NAME}", "istio")
            .replace("{GATEWAY_CONTROLLER_NAME}", "istio.io/gateway-controller");
        load(&mut objects, file, &text);
    }
    World::new(objects)
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

/// The request with the resources of the proxy that it arrives at.
fn asked(world: &mut World, case: &Value, request: &Value) -> Result<(Request, Resources), String> {
    let mesh = case["kind"] == "mesh";
    let protocol = text(request, "protocol");
    let secure = matches!(protocol, "https" | "h2" | "tls");
    let mut asked = Request {
        method: request["method"].as_str().unwrap_or("GET").to_owned(),
        scheme: if secure { "https" } else { "http" }.to_owned(),
        path: match request["path"].as_str() {
            Some("") | None => "/".to_owned(),
            Some(path) => path.to_owned(),
        },
        protocol: match protocol {
            "tcp" | "tls" => RequestProtocol::Tcp,
            _ => RequestProtocol::Http,
        },
        tls: if secure {
            RequestTls::Tls
        } else {
            RequestTls::None
        },
        sni: request["sni"].as_str().map(str::to_owned),
        ..Request::default()
    };
    if protocol == "grpc" {
        let headers = &mut asked.headers;
        headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
    }
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default().to_owned();
        asked.headers.push((name.clone(), value));
    }
    if !mesh {
        let (namespace, name) = text(request, "gateway").split_once('/').unwrap();
        let label = ("gateway.networking.k8s.io/gateway-name", name);
        let pod = world
            .pod(namespace, &[label])
            .ok_or("no pod of the gateway")?;
        let port = request["port"].as_u64().unwrap() as u16;
        asked.address = Some(SocketAddr::new(pod.ip, port));
        asked.direction = Some(RequestDirection::Gateway);
        let usual = if secure { 443 } else { 80 };
        asked.authority = match request["host"].as_str() {
            Some(host) => host.to_owned(),
            None if port == usual => "192.0.2.1".to_owned(),
            None => format!("192.0.2.1:{port}"),
        };
        return Ok((asked, world.resources(&pod)));
    }
    let client = &request["client"];
    let labels: Vec<(&str, &str)> = client["labels"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect();
    let namespace = text(client, "namespace");
    let pod = world.pod(namespace, &labels).ok_or("no such client")?;
    asked.authority = text(request, "host").to_owned();
    let target = &request["target"];
    if let Some(of) = target["pod_of"].as_str() {
        let (namespace, name) = of.split_once('/').unwrap();
        let found = world.pods.iter();
        let mut found = found.filter(|pod| *pod.namespace == *namespace);
        let called = found
            .find(|pod| *pod.workload == *name)
            .ok_or("no such pod")?;
        let port = target["port"].as_u64().unwrap() as u16;
        asked.authority = format!("{}:{port}", called.ip);
        asked.address = Some(SocketAddr::new(called.ip, port));
    } else {
        let frontend = &request["frontend"];
        let (namespace, name) = text(frontend, "service").split_once('/').unwrap();
        let service = world
            .objects
            .service(&format!("{name}.{namespace}"), "none");
        let service = service.ok_or("no such service")?;
        let port = frontend["port"].as_u64().unwrap() as u16;
        let ip = service.address.ok_or("the service has no address")?;
        asked.address = Some(SocketAddr::new(ip, port));
    }
    asked.direction = Some(RequestDirection::Outbound);
    Ok((asked, world.resources(&pod)))
}

fn cases(root: &Path, key: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root.join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[key].as_array().unwrap().clone()
}

/// UDP is not routed at all.
const CLASSES: [&str; 5] = ["http", "grpc", "mesh", "tls", "tcp"];

#[test]
fn requests_go_where_the_suite_expects_them() {
    let Some(root) = corpus("gateway-api-conformance") else {
        return;
    };
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for case in cases(&root, "cases") {
        let (name, kind) = (text(&case, "test"), text(&case, "kind"));
        if !wanted(name) {
            continue;
        }
        let tally = tallies.entry(kind.to_owned()).or_default();
        let mut world = world(&root, &case);
        for request in case["requests"].as_array().unwrap() {
            let result = match kind {
                "udp" => Err("UDP is not routed".to_owned()),
                _ => asked(&mut world, &case, request).and_then(|(asked, resources)| {
                    let answer = explain(&resources, &asked);
                    let mut request = request.clone();
                    request["expect"]["mesh"] = json!(kind == "mesh");
                    judge(&world, &resources, &request, &answer)
                }),
            };
            tally.count(&format!("{name}: {}", text(request, "name")), result);
        }
    }
    for (kind, tally) in &tallies {
        tally.report(kind);
    }
    if std::env::var_os("CASE").is_some() {
        return;
    }
    let share = |kinds: &[&str]| {
        let of = |f: &dyn Fn(&Tally) -> usize| kinds.iter().map(|k| f(&tallies[*k])).sum::<usize>();
        100.0 * of(&|t| t.passed) as f64 / of(&|t| t.all) as f64
    };
    assert!(CLASSES.iter().all(|class| tallies[*class].all > 0));
    assert!(share(&["http", "grpc", "mesh"]) >= 90.0);
    assert!(share(&["tls", "tcp"]) >= 80.0);
}

/// The status of an object, `KIND NAMESPACE/NAME`.
fn status(world: &World, object: &str) -> Option<Value> {
    let (kind, name) = object.split_once(' ')?;
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let all = world.objects.gateway_api_statuses().iter();
    let mut found = all.filter(|status| *status.kind == *kind);
    let found = found.find(|s| *s.metadata.name == *name && *s.metadata.namespace == *namespace);
    Some(serde_json::to_value(&found?.status).unwrap())
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Whether each condition is there, with its status and, if stated, its reason.
fn has_conditions(got: &Value, want: &Value) -> Result<(), String> {
    for condition in list(want, "conditions") {
        let mut of_type = list(got, "conditions").iter();
        let found = of_type.find(|c| c["type"] == condition["type"]);
        let fits = found.is_some_and(|found| {
            found["status"] == condition["status"]
                && (condition["reason"].as_str().unwrap_or("").is_empty()
                    || found["reason"] == condition["reason"])
        });
        if !fits {
            return Err(format!(
                "want {condition}, got {}",
                found.unwrap_or(&json!(null))
            ));
        }
    }
    Ok(())
}

/// Whether two references to parents mean the same, by what the suite compares.
fn same_parent(own: &str, want: &Value, got: &Value) -> bool {
    let field = |value: &Value, key: &str, default: &str| match &value[key] {
        Value::String(text) => text.clone(),
        _ => default.to_owned(),
    };
    let defaults = [
        ("group", "gateway.networking.k8s.io"),
        ("kind", "Gateway"),
        ("namespace", own),
        ("name", ""),
    ];
    let mut keys = defaults.iter();
    keys.all(|(key, default)| field(want, key, default) == field(got, key, default))
}

fn check(world: &World, want: &Value) -> Result<(), String> {
    let object = text(want, "object");
    if let Some(after) = want["after"].as_str() {
        let Some((kind, name)) = after
            .strip_prefix("deleted ")
            .and_then(|a| a.split_once(' '))
        else {
            return Err(format!("{after}: not done"));
        };
        let (namespace, name) = name.split_once('/').unwrap();
        let mut objects = world.objects.clone();
        let deleted = objects.delete(&ObjectRef {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        });
        assert!(deleted, "{after}");
        let mut want = want.clone();
        want["after"] = Value::Null;
        return check(&World::new(objects), &want);
    }
    if want["no_accepted_parents"] == true {
        let got = status(world, object).unwrap_or_default();
        let accepted = json!({"conditions": [{"type": "Accepted", "status": "True"}]});
        let mut parents = list(&got, "parents").iter();
        return match parents.any(|parent| has_conditions(parent, &accepted).is_ok()) {
            true => Err(format!("accepted: {got}")),
            false => Ok(()),
        };
    }
    let got = status(world, object).ok_or_else(|| format!("no status of {object}"))?;
    if let Some(parent) = want["parent"].as_str() {
        // The suite looks at the name only.
        let name = parent.rsplit_once('/').map_or(parent, |(_, name)| name);
        let (key, reference) = match got["parents"].is_array() {
            true => ("parents", "parentRef"),
            false => ("ancestors", "ancestorRef"),
        };
        let mut all = list(&got, key).iter();
        let found = all.find(|status| status[reference]["name"] == name);
        let found = found.ok_or_else(|| format!("no status towards {parent}: {got}"))?;
        return has_conditions(found, want);
    }
    if want["parents"].is_array() {
        let own = object
            .split_once(' ')
            .and_then(|(_, name)| name.split_once('/'));
        let own = own.map_or("", |(namespace, _)| namespace);
        let wanted = list(want, "parents");
        if wanted.len() != list(&got, "parents").len() {
            return Err(format!("want {} parents, got {got}", wanted.len()));
        }
        for parent in wanted {
            let reference = match parent["parentRef"].is_object() {
                true => &parent["parentRef"],
                false => parent,
            };
            let mut all = list(&got, "parents").iter();
            let found = all.find(|p| same_parent(own, reference, &p["parentRef"]));
            has_conditions(
                found.ok_or_else(|| format!("want {parent}, got {got}"))?,
                parent,
            )?;
        }
        return Ok(());
    }
    if want["attachedListenerSets"].is_number() {
        let sets = got["attachedListenerSets"].as_u64().unwrap_or(0);
        return match want["attachedListenerSets"].as_u64() == Some(sets) {
            true => Ok(()),
            false => Err(format!("{sets} ListenerSets")),
        };
    }
    if let Some(total) = want["attachedRoutes_total"].as_u64() {
        let routes = list(&got, "listeners")
            .iter()
            .map(|l| l["attachedRoutes"].as_u64());
        let routes: u64 = routes.flatten().sum();
        return match routes == total {
            true => Ok(()),
            false => Err(format!("{routes} routes")),
        };
    }
    if want["listener_names"].is_array() {
        for name in list(want, "listener_names") {
            let mut all = list(&got, "listeners").iter();
            let found = all.find(|listener| listener["name"] == *name);
            has_conditions(found.ok_or_else(|| format!("no listener {name}"))?, want)?;
        }
        return Ok(());
    }
    if want["listeners"].is_array() {
        for listener in list(want, "listeners") {
            let mut all = list(&got, "listeners").iter();
            let found = all.find(|l| l["name"] == listener["name"]);
            let found = found.ok_or_else(|| format!("no listener {}", listener["name"]))?;
            has_conditions(found, listener)?;
            let routes = &listener["attachedRoutes"];
            if !routes.is_null() && *routes != found["attachedRoutes"] {
                return Err(format!(
                    "{}: want {routes} routes, got {}",
                    listener["name"], found["attachedRoutes"]
                ));
            }
            let kinds = |value: &Value| {
                let mut kinds: Vec<String> = list(value, "supportedKinds")
                    .iter()
                    .map(|kind| text(kind, "kind").to_owned())
                    .collect();
                kinds.sort();
                kinds
            };
            let wanted = kinds(listener);
            let got = kinds(found);
            // More kinds than the suite names may be supported.
            let fits = match wanted.is_empty() {
                true => !listener["supportedKinds"].is_array() || got.is_empty(),
                false => wanted.iter().all(|kind| got.contains(kind)),
            };
            if !fits {
                return Err(format!("want kinds {wanted:?}, got {got:?}"));
            }
        }
        return Ok(());
    }
    has_conditions(&got, want)
}

#[test]
fn objects_have_the_conditions_that_the_suite_expects() {
    let Some(root) = corpus("gateway-api-conformance") else {
        return;
    };
    let mut tally = Tally::default();
    for case in [cases(&root, "cases"), cases(&root, "status_only_cases")].concat() {
        let name = text(&case, "test");
        if !wanted(name) {
            continue;
        }
        // Istio supports what these are about.
        if case["only_if_unsupported"].is_array() {
            continue;
        }
        let world = world(&root, &case);
        for want in list(&case, "conditions") {
            tally.count(
                &format!("{name}: {}", text(want, "object")),
                check(&world, want),
            );
        }
        for accepted in list(&case, "accepted") {
            let kind = text(accepted, "kind");
            for route in list(accepted, "routes") {
                let want = json!({
                    "object": format!("{kind} {}", route.as_str().unwrap()),
                    "parent": accepted["parent"],
                    "conditions": [{"type": "Accepted", "status": "True"}],
                });
                let title = format!("{name}: accepted {}", text(&want, "object"));
                tally.count(&title, check(&world, &want));
            }
        }
    }
    tally.report("conditions");
    if std::env::var_os("CASE").is_none() {
        assert!(tally.all > 200);
        assert!(tally.percent() >= 90.0);
    }
}
