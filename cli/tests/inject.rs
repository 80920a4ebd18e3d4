//! `meshsim inject`, as people and programs see it.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod binary;

use binary::{Ended, meshsim};
use serde_json::Value;
use std::path::Path;

/// In the folder of the manifests that the crate's own tests read.
fn inject(args: &[&str]) -> Ended {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inject/tests");
    meshsim(&folder, &[&["inject"], args].concat(), "")
}

#[test]
fn the_table_says_which_and_why() {
    let ended = inject(&["pods.yaml"]);
    assert_eq!((ended.code, &*ended.err), (0, ""));
    insta::assert_snapshot!(ended.out);
}

#[test]
fn the_json_has_the_places() {
    let ended = inject(&["pods.yaml", "--format", "json"]);
    let all: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(all["schema"], "meshsim.inject/1");
    insta::assert_snapshot!(format!("{:#}", all["pods"][0]));
}

#[test]
fn manifests_are_one_stream() {
    let ended = inject(&["pods.yaml", "pods.yaml", "-o", "manifest"]);
    assert_eq!(ended.code, 0);
    let injected = meshsim(
        Path::new("."),
        &["inject", "-", "--format", "json"],
        &ended.out,
    );
    let all: Value = serde_json::from_str(&injected.out).unwrap();
    assert_eq!(all["pods"].as_array().unwrap().len(), 20);
}

#[test]
fn beside_a_manifest_it_is_said_what_was_injected() {
    let ended = inject(&["pods.yaml", "-o", "manifest"]);
    insta::assert_snapshot!(ended.err);
    let ended = inject(&["pods.yaml", "-o", "manifest", "--dialect", "2017"]);
    insta::assert_snapshot!(ended.err);
}

#[test]
fn what_the_injector_would_refuse_is_an_error() {
    let bad = "kind: Pod\nmetadata: {name: a, labels: {sidecar.istio.io/inject: \"true\"}, annotations: {traffic.sidecar.istio.io/includeInboundPorts: web}}\nspec: {containers: []}\n";
    for what in ["table", "manifest"] {
        let ended = meshsim(Path::new("."), &["inject", "-", "-o", what], bad);
        assert_eq!(ended.code, 2, "{what}");
        assert!(
            ended.err.contains("is a list of ports"),
            "{what}: {}",
            ended.err
        );
    }
}
