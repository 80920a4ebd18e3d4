//! What is said, as people read it.

use analysis::{Documents, Settings, analyze};
use source::{SourceFile, render};
use std::path::Path;

fn said(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    let text = std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let mut found = Vec::new();
    let documents = Documents::read(&SourceFile::new(name, &text), &mut found);
    analyze(&documents, &Settings::default(), &mut found);
    render(&found, false)
}

#[test]
fn of_virtual_services() {
    insta::assert_snapshot!(said("virtual_services.yaml"));
}

#[test]
fn of_gateways() {
    insta::assert_snapshot!(said("gateways.yaml"));
}

#[test]
fn of_workloads() {
    insta::assert_snapshot!(said("workloads.yaml"));
}

#[test]
fn of_policies() {
    insta::assert_snapshot!(said("policies.yaml"));
}

#[test]
fn of_webhooks() {
    insta::assert_snapshot!(said("webhooks.yaml"));
}
