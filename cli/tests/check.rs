//! What `meshsim check` says beyond validation: every code of our own on a small configuration where it
//! fires, and on one nearly the same where it must not; and the output formats.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Shared with other tests, which use the rest of it.
#[allow(dead_code)]
mod binary;

use binary::{Ended, folder, meshsim};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

fn check(args: &[&str]) -> Ended {
    let ended = meshsim(&examples(), &[&["check"], args].concat(), "");
    assert_eq!(ended.err, "", "{args:?}");
    ended
}

fn codes(file: &str) -> Vec<String> {
    let told = check(&["--format", "json", file]).out;
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    let codes = told.iter().filter_map(|one| one["code"].as_str());
    let mut own: Vec<String> = codes
        .filter(|c| c.starts_with("MSH"))
        .map(str::to_owned)
        .collect();
    own.dedup();
    own
}

#[test]
fn each_code_of_our_own_fires_on_its_example_and_not_beside_it() {
    let mut files: Vec<String> = std::fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut fired = Vec::new();
    for file in &files {
        let quiet = file.contains("-quiet");
        let want: &[String] = match quiet {
            true => &[],
            false => &[file[..7].to_owned()],
        };
        assert_eq!(codes(file), want, "{file}");
        if !quiet {
            fired.push(file[..7].to_owned());
            insta::assert_snapshot!(file.trim_end_matches(".yaml"), check(&[file]).out);
        }
    }
    let list = check(&["--list"]).out;
    let own = list.lines().filter(|line| line.starts_with("MSH"));
    for code in own.map(|line| &line[..7]) {
        let elsewhere = code == "MSH0001";
        assert!(
            elsewhere || fired.iter().any(|one| one == code),
            "{code} has no example"
        );
    }
}

#[test]
fn what_istio_says_of_a_subset_names_the_labels_that_there_are() {
    let text = std::fs::read_to_string(examples().join("MSH0017.yaml")).unwrap();
    // Without the pods of another namespace, with which Istio is content.
    let text = text.replace("namespace: elsewhere", "namespace: kube-system");
    let told = meshsim(&examples(), &["check", "-"], &text).out;
    assert!(
        told.contains("IST0173") && !told.contains("MSH0017"),
        "{told}"
    );
    assert!(told.contains("did you mean `version: v1`?"), "{told}");
}

#[test]
fn numbers_beyond_all_bounds_are_refused_and_nothing_else() {
    let text = std::fs::read_to_string(examples().join("MSH0004.yaml")).unwrap();
    let policies = [
        "{attempts: 4294967295, perTryTimeout: 200000000h, retryOn: 5xx}",
        "{attempts: 3, perTryTimeout: 0s, retryOn: 5xx}",
        "{attempts: [3], perTryTimeout: {}, retryOn: 5}",
    ];
    for policy in policies {
        let written = "{attempts: 3, perTryTimeout: 2s, retryOn: 5xx}";
        let text = text.replace(written, policy);
        let ended = meshsim(&examples(), &["check", "-"], &text);
        assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{policy}");
        assert!(ended.out.contains("IST0106"), "{policy}: {}", ended.out);
    }
}

#[test]
fn codes_are_listed() {
    let list = check(&["--list"]);
    assert_eq!(list.code, 0);
    insta::assert_snapshot!("list", list.out);
    let json: Vec<Value> =
        serde_json::from_str(&check(&["--list", "--format", "json"]).out).unwrap();
    assert_eq!(json.len(), list.out.lines().count() - 1);
    assert_eq!(json[0]["code"], "IST0002");
}

#[test]
fn formats() {
    let files = ["MSH0003.yaml", "MSH0010.yaml"];
    insta::assert_snapshot!(
        "json",
        check(&[&["--format", "json"], &files[..]].concat()).out
    );
    let sarif = check(&[&["--format", "sarif"], &files[..]].concat()).out;
    insta::assert_snapshot!("sarif", sarif.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    let refused = meshsim(&examples(), &["check", "--list", "--format", "sarif"], "");
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
}

#[test]
fn exit_code_by_threshold() {
    let code = |args: &[&str]| check(args).code;
    assert_eq!(code(&["MSH0003.yaml"]), 0);
    assert_eq!(code(&["--failure-threshold", "warning", "MSH0003.yaml"]), 1);
    assert_eq!(code(&["--failure-threshold", "Warning", "MSH0014.yaml"]), 0);
    assert_eq!(code(&["--failure-threshold", "info", "MSH0014.yaml"]), 1);
}

#[test]
fn what_is_suppressed_is_not_told() {
    let suppressed = |resource: &str| check(&["-S", resource, "MSH0003.yaml"]).out;
    assert_eq!(
        suppressed("MSH0003=VirtualService reviews.default"),
        "no problem found\n"
    );
    assert_eq!(
        suppressed("MSH0003=VirtualService default/*"),
        "no problem found\n"
    );
    assert!(suppressed("MSH0004=*").contains("MSH0003"));
    let wrong = meshsim(&examples(), &["check", "-S", "MSH0003", "MSH0003.yaml"], "");
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    let annotation = "metadata:\n  annotations: {galley.istio.io/analyze-suppress: \"MSH0003\"}\n ";
    let text = std::fs::read_to_string(examples().join("MSH0003.yaml")).unwrap();
    let text = text.replace(
        "metadata: {name: reviews}",
        &format!("{annotation} name: reviews"),
    );
    assert_eq!(
        meshsim(&examples(), &["check", "-"], &text).out,
        "no problem found\n"
    );
}

#[test]
fn an_unreadable_file_does_not_hide_what_the_others_say() {
    let folder = folder("check-unreadable");
    std::fs::write(folder.join("broken.yaml"), "a: [1\n").unwrap();
    let example = examples().join("MSH0003.yaml");
    let files = ["missing.yaml", "broken.yaml", example.to_str().unwrap()];
    let ended = meshsim(
        &folder,
        &[&["check", "--format", "json"], &files[..]].concat(),
        "",
    );
    assert_eq!(ended.code, 2);
    let told: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
    let levels: Vec<&str> = told
        .iter()
        .map(|one| one["level"].as_str().unwrap())
        .collect();
    assert_eq!(levels, ["error", "error", "warning"], "{}", ended.out);
}
