//! Istio's own samples load.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::Objects;
use source::{Dialect, Level, Node, SourceFile, parse};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The kinds that are to be read in full.
const KINDS: [&str; 29] = [
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "WorkloadEntry",
    "WorkloadGroup",
    "Sidecar",
    "PeerAuthentication",
    "RequestAuthentication",
    "AuthorizationPolicy",
    "Telemetry",
    "ProxyConfig",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Pod",
    "Node",
    "Ingress",
    "Namespace",
    // Of the Gateway API, as is another Gateway.
    "GatewayClass",
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "ReferenceGrant",
    "BackendTLSPolicy",
];

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            found.push(path);
        }
    }
    found.sort();
}

/// The objects of a document.
fn objects(document: &Node) -> Vec<&Node> {
    match document.at(&["items"]).and_then(Node::as_seq) {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

#[test]
fn the_samples_load_with_no_field_unsupported() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/samples");
    if !root.is_dir() {
        eprintln!("SKIPPED: no {}", root.display());
        return;
    }
    let mut files = Vec::new();
    yaml_files(&root, &mut files);
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut unread = 0;
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        let (documents, problems) = parse(&SourceFile::new(&name, &text), Dialect::Kubernetes);
        if !problems.is_empty() {
            println!("{}", source::render(&problems, false));
            unread += 1;
        }
        for object in documents.iter().flat_map(objects) {
            let text = |key: &str| object.at(&[key]).and_then(Node::as_scalar).unwrap_or("");
            let (version, kind) = (text("apiVersion"), text("kind"));
            if !KINDS.contains(&kind) {
                *others.entry(format!("{kind} {version}")).or_default() += 1;
                continue;
            }
            let (good, all) = kinds.entry(kind.to_owned()).or_default();
            *all += 1;
            let mut said = Vec::new();
            Objects::read_node(object, &mut said);
            // What Istio itself warns of has a code.
            said.retain(|d| {
                d.level == Level::Error || (d.level == Level::Warning && d.code.is_none())
            });
            match said.is_empty() {
                true => *good += 1,
                false => println!("{}", source::render(&said, false)),
            }
        }
    }
    let (good, all) = kinds
        .values()
        .fold((0, 0), |(good, all), (g, a)| (good + g, all + a));
    for (kind, (good, all)) in &kinds {
        println!("{kind:24} {good:4} of {all:4}");
    }
    println!("{:24} {good:4} of {all:4}", "together");
    for (kind, count) in &others {
        println!("not counted: {kind} {count}");
    }
    println!("files that are not YAML for us: {unread}");
    assert!(good * 100 >= all * 95, "below 95 %");
}
