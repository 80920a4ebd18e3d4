//! Who is there, and where configuration comes from.

use crate::fields::{count, entries, items, key, named, one_of, read};
use crate::model::{ConfigSource, Named, ProxyKind, Service, Topology};
use crate::network::locality;
use source::fields::expected;
use source::node::{Entry, Map};
use source::{Diagnostic, Fields, Node, Value};

const REPLICAS_MAX: u32 = 10_000;
const NODES_MAX: u32 = 1_000;

const PROTOCOLS: [(&str, &str); 4] = [
    ("http", "http"),
    ("http2", "http2"),
    ("grpc", "grpc"),
    ("tcp", "tcp"),
];

const PROXIES: [(&str, ProxyKind); 4] = [
    ("sidecar", ProxyKind::Sidecar),
    ("gateway", ProxyKind::Gateway),
    ("node", ProxyKind::Node),
    ("none", ProxyKind::None),
];

/// A list of manifests, or a map of manifests and terse services.
pub(crate) fn topology(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Topology> {
    if node.as_seq().is_some() {
        let manifests = paths(node, what, diagnostics)?;
        return Some(Topology {
            manifests,
            ..Topology::default()
        });
    }
    if node.as_map().is_none() {
        let want = format!("`{what}` is a list of manifests, or a map");
        diagnostics.push(expected(node, &want).help("like `[kubernetes/app.yaml]`"));
        return None;
    }
    let mut fields = Fields::of(node, "the topology", diagnostics)?;
    let manifests = read(&mut fields, "kubernetes", paths).unwrap_or_default();
    let services = read(&mut fields, "services", services).unwrap_or_default();
    let span = fields.optional("nodes").map(|node| node.span.clone());
    let nodes = count(&mut fields, "nodes", 1..=NODES_MAX).zip(span);
    fields.finish();
    Some(Topology {
        manifests,
        services,
        nodes,
    })
}

fn paths(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Named>> {
    let items = items(node, what, diagnostics);
    Some(
        items
            .iter()
            .filter_map(|item| named(item, what, diagnostics))
            .collect(),
    )
}

fn services(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Service>> {
    let entries = entries(node, what, diagnostics);
    Some(
        entries
            .iter()
            .filter_map(|entry| service(entry, diagnostics))
            .collect(),
    )
}

fn service(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) -> Option<Service> {
    let mut fields = Fields::of(&entry.value, "a service", diagnostics)?;
    fields.required("port");
    let port = count(&mut fields, "port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let replicas = count(&mut fields, "replicas", 0..=REPLICAS_MAX);
    let versions = read(&mut fields, "versions", versions);
    let service = Service {
        name: key(entry),
        namespace: read(&mut fields, "namespace", named)
            .map_or_else(|| "default".to_owned(), |named| named.text),
        port: port.unwrap_or_default(),
        protocol: read(&mut fields, "protocol", |node, what, diagnostics| {
            one_of(node, what, &PROTOCOLS, diagnostics)
        })
        .unwrap_or("http")
        .to_owned(),
        proxy: read(&mut fields, "proxy", |node, what, diagnostics| {
            one_of(node, what, &PROXIES, diagnostics)
        })
        .unwrap_or(ProxyKind::Sidecar),
        locality: read(&mut fields, "locality", locality).map(|named| named.text),
        labels: read(&mut fields, "labels", labels).unwrap_or_default(),
        versions: replicas_of(&mut fields, versions, replicas),
    };
    fields.finish();
    Some(service)
}

/// Versions with their replicas, where they are written.
fn versions(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(String, Option<u32>)>> {
    let mut versions = Vec::new();
    for entry in entries(node, what, diagnostics) {
        let replicas = match entry.value.value {
            Value::Null => None,
            Value::Int(n) if (0..=i64::from(REPLICAS_MAX)).contains(&n) => u32::try_from(n).ok(),
            _ => {
                let want = format!(
                    "`{}` is a number of replicas up to {REPLICAS_MAX}",
                    entry.key
                );
                diagnostics.push(expected(&entry.value, &want));
                None
            }
        };
        versions.push((entry.key.clone(), replicas));
    }
    if versions.is_empty() && node.as_map().is_some() {
        let message = format!("`{what}` has at least one version");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "none is here"));
    }
    Some(versions)
}

/// `replicas` is for the versions that do not say; without versions, for the one Deployment.
fn replicas_of(
    fields: &mut Fields<'_, '_>,
    versions: Option<Vec<(String, Option<u32>)>>,
    replicas: Option<u32>,
) -> Vec<(String, u32)> {
    let Some(versions) = versions else {
        return vec![(String::new(), replicas.unwrap_or(1))];
    };
    if let Some(node) = fields.optional("replicas")
        && versions.iter().all(|(_, own)| own.is_some())
    {
        fields.diagnostics.push(
            Diagnostic::warning("`replicas` has no effect here")
                .at(&node.span, "every version says how many it has"),
        );
    }
    let default = replicas.unwrap_or(1);
    versions
        .into_iter()
        .map(|(version, own)| (version, own.unwrap_or(default)))
        .collect()
}

/// A list of paths and objects.
pub(crate) fn config(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<ConfigSource>> {
    let items = items(node, what, diagnostics);
    Some(
        items
            .iter()
            .filter_map(|item| config_source(item, what, diagnostics))
            .collect(),
    )
}

/// A path, an object, or a list of objects.
pub(crate) fn config_source(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ConfigSource> {
    match &node.value {
        Value::Map(_) => object(node, diagnostics).map(ConfigSource::Inline),
        Value::Seq(objects) => {
            if objects.is_empty() {
                let message = format!("`{what}` is a path or at least one object");
                diagnostics.push(Diagnostic::error(message).at(&node.span, "none is here"));
            }
            let all: Vec<Node> = objects
                .iter()
                .filter_map(|node| object(node, diagnostics))
                .collect();
            (!all.is_empty() && all.len() == objects.len())
                .then(|| ConfigSource::Inline(list_of(node, all)))
        }
        _ => named(node, what, diagnostics).map(ConfigSource::Path),
    }
}

/// Values as written: `version: 2` is the text `2`.
fn labels(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(String, String)>> {
    let entries = entries(node, what, diagnostics).iter();
    let labels = entries.filter_map(|entry| match entry.value.as_scalar() {
        Some(text) => Some((entry.key.clone(), text.to_owned())),
        None => {
            let want = format!("`{}` is text", entry.key);
            diagnostics.push(expected(&entry.value, &want));
            None
        }
    });
    Some(labels.collect())
}

fn object(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let Some(map) = node.as_map() else {
        diagnostics.push(
            expected(node, "an object is a map with `apiVersion` and `kind`")
                .help("several files are a folder, or an event each"),
        );
        return None;
    };
    let missing = ["apiVersion", "kind"]
        .into_iter()
        .find(|key| map.get(key).and_then(Node::as_str).is_none());
    if let Some(missing) = missing {
        let keys = map.entries.iter().map(|entry| entry.key.as_str());
        let near = source::nearest(missing, keys);
        let mut diagnostic = Diagnostic::error(format!("an object needs `{missing}`"))
            .at(&node.span, format!("`{missing}` is missing"));
        if let Some(near) = near {
            diagnostic = diagnostic.help(format!("write `{missing}` instead of `{near}`"));
        }
        diagnostics.push(diagnostic);
        return None;
    }
    Some(node.clone())
}

/// Objects as Kubernetes lists them.
fn list_of(place: &Node, objects: Vec<Node>) -> Node {
    let node = |value| Node {
        value,
        span: place.span.clone(),
    };
    let entry = |key: &str, value| Entry {
        key: key.to_owned(),
        key_span: place.span.clone(),
        value: node(value),
    };
    let entries = vec![
        entry("apiVersion", Value::String("v1".to_owned())),
        entry("kind", Value::String("List".to_owned())),
        entry("items", Value::Seq(objects)),
    ];
    node(Value::Map(Map { entries }))
}
