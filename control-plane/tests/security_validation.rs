//! Security policies that Istio's webhook takes and refuses, where its own cases are at hand.

#![allow(clippy::unwrap_used, clippy::panic)]

use control_plane::Objects;
use serde_json::{Value, json};
use source::{Level, SourceFile};
use std::path::Path;

const KINDS: [&str; 3] = [
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
];

fn cases() -> Option<Vec<Value>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/validation-cases.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: {} is not there", path.display());
        return None;
    };
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut cases = all["cases"].as_array().unwrap().clone();
    cases.retain(|case| KINDS.contains(&case["kind"].as_str().unwrap()));
    Some(cases)
}

#[test]
fn policies_are_taken_or_refused_as_istio_does() {
    let Some(cases) = cases() else { return };
    let mut wrong = Vec::new();
    for case in &cases {
        let mut metadata = json!({ "name": "some", "namespace": "default" });
        if case["annotations"].is_object() {
            metadata["annotations"] = case["annotations"].clone();
        }
        let object = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": case["kind"],
            "metadata": metadata,
            "spec": case["object"],
        });
        let mut diagnostics = Vec::new();
        Objects::read(
            &SourceFile::new("case.yaml", &object.to_string()),
            &mut diagnostics,
        );
        let has = |level| diagnostics.iter().any(|one| one.level == level);
        let warns = case["warning"] != json!(true) || has(Level::Warning);
        if case["valid"] == json!(has(Level::Error)) || !warns {
            let told = source::render(&diagnostics, false);
            wrong.push(format!("{} {}: {told}", case["kind"], case["name"]));
        }
    }
    assert!(cases.len() >= 64, "only {} cases", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
