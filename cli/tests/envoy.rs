//! `export` and `verify --against` as people and programs meet them. Neither needs an Envoy.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn meshsim(args: &[&str]) -> Output {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/library");
    let canary = library.join("bookinfo-canary");
    let command = &mut Command::new(env!("CARGO_BIN_EXE_meshsim"));
    command.args(args);
    for folder in ["kubernetes", "istio"] {
        command.arg("--config").arg(canary.join(folder));
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const GATEWAY: [&str; 2] = [
    "--as",
    "kind=gateway,namespace=istio-system,labels=istio=ingressgateway",
];

fn exported() -> Value {
    let done = meshsim(&[&["export", "envoy"], &GATEWAY[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_bootstrap_holds_endpoints_and_routes() {
    let bootstrap = exported();
    let resources = &bootstrap["static_resources"];
    let clusters = resources["clusters"].as_array().unwrap();
    let v1 = clusters
        .iter()
        .find(|one| one["name"] == "outbound|9080|v1|reviews.default.svc.cluster.local");
    let endpoints = &v1.unwrap()["load_assignment"]["endpoints"];
    assert!(endpoints[0]["lb_endpoints"].is_array(), "{endpoints}");
    let listener = &resources["listeners"][0];
    let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(
        manager["route_config"]["virtual_hosts"][0]["domains"],
        json!(["bookinfo.example"])
    );
}

#[test]
fn a_folder_holds_a_file_for_each_resource_that_changes_alone() {
    let folder = scratch("xds");
    let at = folder.display().to_string();
    let done = meshsim(&[&["export", "envoy", "--xds", &at], &GATEWAY[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(done.stdout.is_empty());
    for file in [
        "bootstrap.json",
        "cds.json",
        "lds.json",
        "rds/http.8080.json",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{file}");
    }
    assert!(std::fs::read_dir(folder.join("eds")).unwrap().count() > 4);
}

/// A dump of what is exported is what is exported; one changed number is found.
#[test]
fn against_finds_what_differs() {
    let bootstrap = exported();
    let resources = &bootstrap["static_resources"];
    let listed = |list: &str, inner: &[&str]| -> Vec<Value> {
        let items = resources[list].as_array().unwrap().iter();
        let wrap = |item: &Value| {
            inner
                .iter()
                .rev()
                .fold(item.clone(), |v, key| json!({ *key: v }))
        };
        items.map(wrap).collect()
    };
    let mut clusters = listed("clusters", &["cluster"]);
    clusters[1]["cluster"]["connect_timeout"] = json!("3s");
    let dump = json!({ "configs": [
        { "dynamic_active_clusters": clusters },
        { "dynamic_listeners": listed("listeners", &["active_state", "listener"]) },
    ] });
    let folder = scratch("against");
    let file = folder.join("config_dump.json");
    std::fs::write(&file, dump.to_string()).unwrap();
    let path = file.display().to_string();
    let done = meshsim(&[&["verify", "--against", &path], &GATEWAY[..]].concat());
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let name = clusters[1]["cluster"]["name"].as_str().unwrap();
    let found = format!("cluster {name} .connect_timeout\n  the dump: \"3000000000 ns\"\n");
    assert!(
        text(&done.stdout).contains(&found),
        "{}",
        text(&done.stdout)
    );
}

#[test]
fn what_is_no_dump_is_said_to_be_none() {
    let folder = scratch("no-dump");
    let file = folder.join("config_dump.json");
    std::fs::write(&file, "{}").unwrap();
    let path = file.display().to_string();
    let done = meshsim(&[&["verify", "--against", &path], &GATEWAY[..]].concat());
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("no config dump: it has no list `configs`"));
}

#[test]
fn requests_that_speak_tls_are_not_asked_in_plain_text() {
    let file = scratch("tls").join("requests.jsonl");
    let request = r#"{"authority": "details:9080", "path": "/", "tls": "tls", "sni": "details"}"#;
    std::fs::write(&file, request).unwrap();
    let path = file.display().to_string();
    let done = meshsim(&[&["verify", "--requests", &path], &GATEWAY[..]].concat());
    assert_eq!(done.status.code(), Some(2));
    let said = text(&done.stderr);
    assert!(
        said.contains("the request to `details:9080` speaks TLS"),
        "{said}"
    );
}
