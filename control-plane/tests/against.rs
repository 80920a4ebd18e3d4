//! Our resources beside those in istiod's own config dumps. `SHOW=1` prints every difference,
//! `CASE=NAME` narrows it to some cases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{
    ControlPlane, MeshConfig, Objects, ProxyIdentity, ProxyKind, PushSettings, Resources,
};
use export::{Comparison, against};
use serde_json::Value;
use source::{Dialect, Node, SourceFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn dumps(wanted: impl Fn(&str) -> bool) -> Option<Vec<PathBuf>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/istiod/cases");
    let Ok(entries) = std::fs::read_dir(&cases) else {
        eprintln!("skipped: {} is not there", cases.display());
        return None;
    };
    let folders = entries.map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| wanted(&path.file_name().unwrap().to_string_lossy()));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".config_dump.json"));
    files.sort();
    Some(files)
}

fn objects(folder: &Path, mesh: &str) -> Objects {
    let mut objects = Objects::default();
    for name in ["kubernetes.yaml", "istio.yaml"] {
        if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
            let file = SourceFile::new(name, &text);
            objects.apply(&Objects::read(&file, &mut Vec::new()));
        }
    }
    objects.set_mesh_config(MeshConfig::parse("mesh", mesh, &mut Vec::new()));
    objects
}

fn identity(proxy: &Value) -> ProxyIdentity {
    let text = |key: &str| proxy[key].as_str().unwrap();
    let labels = proxy["labels"].as_object().unwrap().iter();
    ProxyIdentity {
        name: text("name").into(),
        kind: match text("kind") {
            "gateway" => ProxyKind::Gateway,
            _ => ProxyKind::Sidecar,
        },
        namespace: text("namespace").into(),
        labels: labels
            .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap().into()))
            .collect(),
        ip: text("ip").parse().unwrap(),
        locality: text("locality").into(),
    }
}

fn resources(dump: &Path) -> (Resources, ProxyIdentity) {
    let folder = dump.parent().unwrap();
    let answers = std::fs::read_to_string(folder.join("answers.json")).unwrap();
    let answers: Value = serde_json::from_str(&answers).unwrap();
    let file = dump.file_name().unwrap().to_string_lossy();
    let name = file.strip_suffix(".config_dump.json").unwrap();
    // Of pods of one name in two namespaces the last one's dump was kept.
    let mut proxies = answers["proxies"].as_array().unwrap().iter();
    let proxy = proxies.rfind(|proxy| proxy["name"] == name).unwrap();
    let objects = objects(folder, answers["mesh"].as_str().unwrap());
    let pods = objects.pods();
    let proxy = identity(proxy);
    let resources = ControlPlane::new(PushSettings::default(), objects, pods).resources(&proxy);
    (resources, proxy)
}

fn compare(dumps: &[PathBuf]) -> Comparison {
    let mut all = Comparison::default();
    for dump in dumps {
        let (ours, proxy) = resources(dump);
        let ours = export::Resources {
            clusters: &ours.clusters,
            endpoints: &ours.endpoints,
            listeners: &ours.listeners,
            routes: &ours.routes,
        };
        let text = std::fs::read_to_string(dump).unwrap();
        let mut comparison = against(&ours, &serde_json::from_str(&text).unwrap());
        let later = later_kind(dump.parent().unwrap(), &proxy);
        for one in &mut comparison.differences {
            // Recorded without the EndpointSlices of the gateway's own Service.
            let unrecorded =
                one.kind == "endpoints" && one.resource.contains("istio-ingressgateway");
            let recorder = unrecorded.then_some("left out by the recording");
            one.class = one.class.or(recorder).or(later);
        }
        eprintln!("{} {:?}", dump.display(), comparison.classes());
        if std::env::var_os("SHOW").is_some() {
            for one in comparison.unexplained() {
                eprintln!(
                    "{}: {} {}{}\n  theirs {}\n  ours   {}",
                    dump.display(),
                    one.kind,
                    one.resource,
                    one.path,
                    one.theirs,
                    one.ours
                );
            }
        }
        all.add(comparison);
    }
    report(dumps.len(), &all);
    all
}

/// A kind whose translation is still to come and that changes what this proxy is told.
fn later_kind(case: &Path, proxy: &ProxyIdentity) -> Option<&'static str> {
    let documents = ["kubernetes.yaml", "istio.yaml"]
        .into_iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(case.join(name)).unwrap_or_default();
            source::parse(&SourceFile::new(name, &text), Dialect::Kubernetes).0
        });
    let documents: Vec<Node> = documents.collect();
    let text = |node: &Node, path: &[&str]| node.at(path)?.as_str().map(str::to_owned);
    let of_kind = |kind: &str| {
        let kind = kind.to_owned();
        documents
            .iter()
            .filter(move |node| text(node, &["kind"]) == Some(kind.clone()))
    };
    // Gateways have none.
    let mut sidecars = of_kind("Sidecar").filter(|_| proxy.kind == ProxyKind::Sidecar);
    let chosen = |node: &Node| {
        let namespace = text(node, &["metadata", "namespace"]).unwrap();
        let selector = node.at(&["spec", "workloadSelector", "labels"]);
        let selector = selector.and_then(Node::as_map);
        let wanted = selector.map_or(&[][..], |map| &map.entries);
        let has = |wanted: &source::node::Entry| {
            let value = wanted.value.as_str();
            proxy
                .labels
                .iter()
                .any(|(key, own)| **key == *wanted.key && Some(&**own) == value)
        };
        [&*proxy.namespace, "istio-system"].contains(&&*namespace) && wanted.iter().all(has)
    };
    if sidecars.any(chosen) {
        return Some("uses Sidecar");
    }
    let api = |node: &&Node| {
        text(node, &["apiVersion"])
            .is_some_and(|version| version.starts_with("gateway.networking.k8s.io"))
    };
    documents.iter().find(api).map(|_| "uses the Gateway API")
}

fn report(dumps: usize, all: &Comparison) {
    eprintln!("{dumps} dumps");
    for (kind, (seen, same)) in &all.resources {
        eprintln!("  {same:6} of {seen:6} {kind} the same");
    }
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    for one in &all.differences {
        let place: String = one.path.chars().filter(|c| !c.is_ascii_digit()).collect();
        let class = one.class.map_or_else(
            || format!("unexplained: {} {place}", one.kind),
            |class| format!("{class}: {}", one.kind),
        );
        *classes.entry(class).or_default() += 1;
    }
    for (class, count) in classes {
        eprintln!("  {count:6} {class}");
    }
}

#[test]
fn bookinfo_is_what_istiod_sends() {
    let Some(dumps) = dumps(|case| case.starts_with("bookinfo-") && !case.contains("gwapi")) else {
        return;
    };
    let all = compare(&dumps);
    assert!(dumps.len() >= 40, "only {} dumps", dumps.len());
    let unexplained = all.unexplained().filter(|one| one.kind != "listener");
    assert_eq!(unexplained.count(), 0);
}

#[test]
fn other_configurations_are_nearly_what_istiod_sends() {
    let only = std::env::var("CASE").unwrap_or_default();
    let Some(dumps) = dumps(|case| {
        case.contains(&only) && (!case.starts_with("bookinfo-") || case.contains("gwapi"))
    }) else {
        return;
    };
    compare(&dumps);
}
