//! A configuration whose istiod answers are recorded, as the tests of several files load it.

use control_plane::{MeshConfig, Objects, ProxyIdentity, ProxyKind};
use serde_json::Value;
use source::SourceFile;
use std::path::Path;

/// Its objects, and what was recorded of its proxies.
pub(crate) fn load(case: &Path) -> (Objects, Value) {
    let mut objects = Objects::default();
    for name in ["kubernetes.yaml", "istio.yaml"] {
        if let Ok(text) = std::fs::read_to_string(case.join(name)) {
            let file = SourceFile::new(name, &text);
            objects.apply(&Objects::read(&file, &mut Vec::new()));
        }
    }
    let answers = std::fs::read_to_string(case.join("answers.json")).unwrap();
    let answers: Value = serde_json::from_str(&answers).unwrap();
    let mesh = answers["mesh"].as_str().unwrap_or_default();
    objects.set_mesh_config(MeshConfig::parse("mesh", mesh, &mut Vec::new()));
    (objects, answers)
}

pub(crate) fn identity(proxy: &Value) -> ProxyIdentity {
    let text = |key: &str| proxy[key].as_str().unwrap();
    let labels = proxy["labels"].as_object().unwrap().iter();
    ProxyIdentity {
        name: format!("{}.{}", text("name"), text("namespace")).into(),
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
