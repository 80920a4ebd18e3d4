//! A case file: what is asked, by whom, of which endpoints, under which configuration.

use super::json::json_of;
use control_plane::{
    ControlPlane, MeshConfig, Objects, ProxyIdentity, ProxyKind, PushSettings, Resources,
};
use serde_json::Value;
use source::{Dialect, Level, Node, SourceFile};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// An endpoint, in the order recorded.
pub struct Endpoint {
    pub id: String,
    pub address: SocketAddr,
    pub behavior: Value,
    /// The whole entry.
    pub entry: Value,
}

pub struct Case {
    pub name: String,
    /// The document that is not an Istio object.
    pub spec: Value,
    pub endpoints: Vec<Endpoint>,
    /// The Istio objects.
    pub objects: Vec<Node>,
    pub port: u16,
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// `host.namespace` of a possibly short host.
fn split(host: &str) -> (&str, &str) {
    let mut parts = host.split('.');
    let name = parts.next().unwrap();
    (name, parts.next().unwrap_or("default"))
}

impl Case {
    pub fn read(path: &Path, first_port: u16) -> Case {
        let text = std::fs::read_to_string(path).unwrap();
        let file = SourceFile::new(&path.display().to_string(), &text);
        let (documents, problems) = source::parse(&file, Dialect::Yaml12);
        assert!(problems.is_empty(), "{}", source::render(&problems, false));
        let (specs, objects): (Vec<Node>, Vec<Node>) = documents.into_iter().partition(|node| {
            let kind = node.at(&["kind"]).and_then(Node::as_str);
            kind.is_some_and(|kind| kind.starts_with("Oracle"))
        });
        let spec = json_of(&specs[0]);
        let endpoints = list(&spec, "endpoints").iter().zip(first_port..);
        let endpoints = endpoints
            .map(|(entry, port)| Endpoint {
                id: entry["id"].as_str().unwrap().to_owned(),
                address: SocketAddr::from(([127, 0, 0, 1], port)),
                behavior: entry["behavior"].clone(),
                entry: entry.clone(),
            })
            .collect();
        Case {
            name: spec["name"].as_str().unwrap().to_owned(),
            port: match spec["listenPort"].as_u64() {
                Some(port) => port as u16,
                None => spec["services"][0]["ports"][0].as_u64().unwrap_or(80) as u16,
            },
            spec,
            endpoints,
            objects,
        }
    }

    pub fn endpoint(&self, address: SocketAddr) -> &str {
        let mut endpoints = self.endpoints.iter();
        &endpoints.find(|e| e.address == address).unwrap().id
    }

    pub fn authority(&self, item: &Value) -> String {
        let own = item["authority"].as_str();
        own.or(self.spec["authority"].as_str())
            .unwrap_or_default()
            .to_owned()
    }

    /// What the control plane makes of it for the client's sidecar.
    pub fn resources(&self) -> Resources {
        let mut diagnostics = Vec::new();
        let text = self.services();
        let file = SourceFile::new("services", &text);
        let mut objects = Objects::read(&file, &mut diagnostics);
        for node in &self.objects {
            objects.apply(&Objects::read_node(node, &mut diagnostics));
        }
        let mesh = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
        objects.set_mesh_config(MeshConfig::parse("mesh", mesh, &mut diagnostics));
        // What Istio warns of has a code, and an effect.
        diagnostics.retain(|d| d.level == Level::Error || d.code.is_none());
        let said = source::render(&diagnostics, false);
        assert_eq!(said, "", "{}", self.name);
        let proxy = &self.spec["proxy"];
        let labels = proxy["labels"].as_object().cloned().unwrap_or_default();
        let identity = ProxyIdentity {
            name: "client.default".into(),
            kind: ProxyKind::Sidecar,
            namespace: proxy["namespace"].as_str().unwrap_or("default").into(),
            labels: labels
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap().into()))
                .collect(),
            ip: [10, 0, 0, 1].into(),
            locality: proxy["locality"].as_str().unwrap_or("").into(),
        };
        let mut plane = ControlPlane::new(PushSettings::default(), objects, Vec::new());
        plane.resources(&identity)
    }

    /// Services and their endpoints: ServiceEntries, whose endpoints have labels, localities and
    /// weights; or, where endpoints are of single ports, Services with Endpoints.
    fn services(&self) -> String {
        let mut text = String::new();
        let first = list(&self.spec, "services")[0]["host"].as_str().unwrap();
        for (number, service) in (1..).zip(list(&self.spec, "services")) {
            let host = service["host"].as_str().unwrap();
            let (name, namespace) = split(host);
            let mine = |endpoint: &&Endpoint| {
                let of = endpoint.entry["host"].as_str().unwrap_or(first);
                split(of).0 == name
            };
            let mine: Vec<&Endpoint> = self.endpoints.iter().filter(mine).collect();
            let metadata = format!("metadata: {{name: {name}, namespace: {namespace}}}");
            let ports = list(service, "ports");
            if mine.iter().any(|e| e.entry["servicePort"].is_u64()) {
                let ports = joined(ports, |port| format!("{{port: {port}, name: http-{port}}}"));
                let subsets = joined(&mine, |e| {
                    let (ip, port) = (e.address.ip(), e.address.port());
                    let name = &e.entry["servicePort"];
                    format!(
                        "{{addresses: [{{ip: {ip}}}], ports: [{{name: http-{name}, port: {port}}}]}}"
                    )
                });
                let _ = write!(
                    text,
                    "apiVersion: v1\nkind: Service\n{metadata}\n\
                     spec: {{clusterIP: 10.96.0.{number}, ports: [{ports}]}}\n---\n\
                     apiVersion: v1\nkind: Endpoints\n{metadata}\nsubsets: [{subsets}]\n---\n"
                );
                continue;
            }
            let endpoints = joined(&mine, |e| {
                let port = e.address.port();
                let own = joined(ports, |number| format!("http-{number}: {port}"));
                let labels = match &e.entry["labels"] {
                    Value::Null => "{}".to_owned(),
                    labels => labels.to_string(),
                };
                let weight = e.entry["weight"].as_u64().unwrap_or(1);
                let locality = e.entry["locality"].as_str().unwrap_or("");
                format!(
                    "{{address: {}, ports: {{{own}}}, labels: {labels}, weight: {weight}, locality: '{locality}'}}",
                    e.address.ip()
                )
            });
            let ports = joined(ports, |port| {
                format!("{{number: {port}, name: http-{port}, protocol: HTTP}}")
            });
            let _ = write!(
                text,
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n{metadata}\n\
                 spec: {{hosts: [{host}], location: MESH_INTERNAL, resolution: STATIC, ports: [{ports}], \
                 endpoints: [{endpoints}]}}\n---\n"
            );
        }
        text
    }
}

fn joined<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(one).collect();
    items.join(", ")
}
