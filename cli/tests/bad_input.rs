//! Configuration that is partly invalid, as the verbs take it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod binary;

use binary::{RULES, SCENARIO, folder, meshsim};
use std::path::Path;

/// Sends everything elsewhere, if it is taken for what it seems.
const INVALID: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: elsewhere}
spec:
  hosts: [shop]
  http: [{directResponse: {status: 418}, timout: 3s}]
";

fn mistaken(folder: &Path) {
    std::fs::write(folder.join("mistaken.yaml"), format!("{RULES}{INVALID}")).unwrap();
}

#[test]
fn run_refuses_invalid_objects_unless_they_may_be_left_out() {
    let folder = folder("invalid-run");
    mistaken(&folder);
    let run = |args: &[&str]| {
        let args = [&["run", "scenario.yaml", "--format", "json"], args].concat();
        meshsim(&folder, &args, "")
    };
    let refused = run(&["--config", "mistaken.yaml"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    insta::assert_snapshot!(
        "run_refuses",
        refused.err.replace(folder.to_str().unwrap(), "")
    );
    let allowed = run(&["--config", "mistaken.yaml", "--allow-invalid"]);
    assert_eq!(allowed.code, 0);
    insta::assert_snapshot!(
        "run_leaves_out",
        allowed.err.replace(folder.to_str().unwrap(), "")
    );
    assert_eq!(allowed.out, run(&[]).out, "as if it were not there");
    let text = meshsim(
        &folder,
        &[
            "run",
            "scenario.yaml",
            "--config",
            "mistaken.yaml",
            "--allow-invalid",
        ],
        "",
    );
    assert!(
        text.out.contains("--config mistaken.yaml --allow-invalid"),
        "{}",
        text.out
    );
}

#[test]
fn an_invalid_change_leaves_what_was_there() {
    let folder = folder("invalid-change");
    let change = INVALID
        .replace("elsewhere", "shop")
        .replace("[shop]", "[shop.example]");
    std::fs::write(folder.join("change.yaml"), change).unwrap();
    let patch = "kind: VirtualService, name: shop, merge: {spec: {http: 5}}";
    let timeline = format!(
        "timeline:\n  wrong: {{at: 1500ms, apply: change.yaml}}\n  worse: {{at: 2s, patch: {{{patch}}}}}\n"
    );
    std::fs::write(
        folder.join("scenario.yaml"),
        format!("{SCENARIO}{timeline}"),
    )
    .unwrap();
    let args = [
        "run",
        "scenario.yaml",
        "--format",
        "json",
        "--allow-invalid",
    ];
    let refused = meshsim(&folder, &args[..4], "");
    assert_eq!(refused.code, 2);
    for mistake in ["unknown key `timout`", "`http` is a list"] {
        assert!(refused.err.contains(&format!("error[IST0106]: {mistake}")));
    }
    let allowed = meshsim(&folder, &args, "");
    assert_eq!(allowed.code, 0, "{}", allowed.err);
    let record = &allowed.lines()[0];
    assert_eq!(record["traffic"]["web"]["success_rate"], 1.0);
}

#[test]
fn broken_yaml_is_refused_all_the_same() {
    let folder = folder("invalid-yaml");
    std::fs::write(folder.join("broken.yaml"), format!("{RULES}---\nkind: [\n")).unwrap();
    let args = [
        "run",
        "scenario.yaml",
        "--config",
        "broken.yaml",
        "--allow-invalid",
    ];
    let ended = meshsim(&folder, &args, "");
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    assert!(ended.err.contains("error: not YAML"), "{}", ended.err);
    assert!(!ended.err.contains("with --allow-invalid"), "{}", ended.err);
}

#[test]
fn explain_and_export_leave_them_out_too() {
    let folder = folder("invalid-explain");
    mistaken(&folder);
    let config = ["--config", "-", "--as", "kind=sidecar,namespace=default"];
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 8080, name: http}], clusterIP: 10.0.0.9, selector: {app: shop}}
";
    let rules = |invalid: &str| format!("{RULES}{service}{invalid}");
    for verb in [
        &["explain", "http://shop:8080/"][..],
        &["export", "envoy"][..],
    ] {
        let args = [verb, &config].concat();
        let refused = meshsim(&folder, &args, &rules(INVALID));
        assert_eq!((refused.code, refused.out.as_str()), (2, ""));
        assert!(
            refused.err.ends_with(
                "with --allow-invalid, invalid objects are left out, as Istio leaves them out\n"
            ),
            "{}",
            refused.err
        );
        let allowed = meshsim(
            &folder,
            &[&args[..], &["--allow-invalid"]].concat(),
            &rules(INVALID),
        );
        assert_eq!(allowed.code, 0, "{}", allowed.err);
        assert_eq!(allowed.out, meshsim(&folder, &args, &rules("")).out);
    }
}

#[test]
fn a_service_may_be_called_what_yaml_1_1_takes_for_a_boolean() {
    let folder = folder("named-no");
    std::fs::write(
        folder.join("scenario.yaml"),
        SCENARIO.replace(" shop", " no"),
    )
    .unwrap();
    std::fs::write(folder.join("rules.yaml"), RULES.replace(": shop", ": 'no'")).unwrap();
    let ended = meshsim(&folder, &["run", "scenario.yaml"], "");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
