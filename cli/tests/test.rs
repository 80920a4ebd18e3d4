//! `meshsim test` as people and CI systems meet it: exit codes, streams, the flags of other tools.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod binary;

use binary::{Ended, folder, meshsim};
use std::path::{Path, PathBuf};

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example]
  http:
    - match: [{uri: {prefix: /beta}}]
      route: [{destination: {host: beta.example}}]
    - route: [{destination: {host: shop.example}}]
";

const CASES: &str = "\
testCases:
  - description: beta
    wantMatch: true
    request: {authority: [shop.example], method: [GET], uri: [/beta]}
    route: [{destination: {host: beta.example}}]
";

const TABLE: &str = "\
virtual_hosts:
  - name: shop
    domains: ['*']
    routes:
      - {match: {prefix: /beta}, route: {cluster: beta}}
      - {match: {prefix: /}, route: {cluster: shop}}
";

const CHECKS: &str = "\
tests:
  - test_name: beta
    input: {authority: a, path: /beta, method: GET}
    validate: {cluster_name: beta}
";

/// A folder with rules and cases of istio-config-validator in `mesh`, and a table with tests of
/// router_check_tool in `envoy`.
fn made(test: &str) -> PathBuf {
    let folder = folder(test);
    for (name, text) in [
        ("mesh/rules.yaml", RULES),
        ("mesh/cases.yaml", CASES),
        ("envoy/table.yaml", TABLE),
        ("envoy/checks.yaml", CHECKS),
    ] {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn test(folder: &Path, args: &[&str]) -> Ended {
    meshsim(folder, &[&["test"], args].concat(), "")
}

#[test]
fn a_folder_of_tests_ends_with_0_or_1() {
    let folder = made("test-codes");
    let held = test(&folder, &["mesh"]);
    assert_eq!((held.code, held.err.as_str()), (0, ""));
    assert!(
        held.out.starts_with("1 test passed (1 request)\n"),
        "{}",
        held.out
    );
    assert!(
        held.out.contains("coverage 60.0 %: rules 1 of 2"),
        "{}",
        held.out
    );
    assert!(held.out.contains("mesh/rules.yaml:9"), "{}", held.out);
    let wrong = CASES.replace("wantMatch: true", "wantMatch: false");
    std::fs::write(folder.join("mesh/cases.yaml"), wrong).unwrap();
    let not = test(&folder, &["mesh", "envoy"]);
    assert_eq!((not.code, not.err.as_str()), (1, ""));
    assert!(
        not.out.starts_with("FAIL  mesh/cases.yaml:2  beta\n"),
        "{}",
        not.out
    );
    assert!(
        not.out.contains("1 of 2 tests failed (2 requests)"),
        "{}",
        not.out
    );
}

#[test]
fn mistakes_end_with_2_and_hide_nothing() {
    let folder = made("test-mistakes");
    let wrong = CASES.replace("wantMatch", "wantmatch");
    std::fs::write(folder.join("mesh/cases.yaml"), wrong).unwrap();
    let ended = test(&folder, &["mesh", "envoy", "missing.yaml"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("did you mean `wantMatch`?"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("missing.yaml"), "{}", ended.err);
    assert!(ended.out.contains("1 test passed"), "{}", ended.out);
    assert_eq!(test(&folder, &[]).code, 2);
}

#[test]
fn the_flags_of_the_other_tools_do() {
    let folder = made("test-flags");
    let validator = ["-s", "--strict", "-t", "mesh/cases.yaml", "mesh/rules.yaml"];
    let ended = test(&folder, &validator);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "1 test passed (1 request)\n")
    );
    let check = [
        "-c",
        "envoy/table.yaml",
        "-t",
        "envoy/checks.yaml",
        "--details",
        "--disable-deprecation-check",
    ];
    let ended = test(&folder, &check);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.out.contains("PASS  envoy/checks.yaml:2  beta\n"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.ends_with("Current route coverage: 50%\n"),
        "{}",
        ended.out
    );
    let enough = test(&folder, &[&check[..], &["--fail-under", "50"]].concat());
    assert_eq!(enough.code, 0);
    let few = test(&folder, &[&check[..], &["-f", "20", "--covall"]].concat());
    assert_eq!(
        (few.code, few.err.as_str()),
        (1, "Failed to meet coverage requirement: 20%\n")
    );
    assert!(
        few.out.ends_with("Current route coverage: 10%\n"),
        "{}",
        few.out
    );
    let nothing = test(&folder, &["mesh", "--fail-under", "50"]);
    assert_eq!(nothing.code, 2, "{}", nothing.err);
}

#[test]
fn too_little_coverage_fails() {
    let folder = made("test-coverage");
    assert_eq!(test(&folder, &["mesh", "--min-coverage", "60"]).code, 0);
    let few = test(&folder, &["mesh", "--min-coverage", "60.5%"]);
    assert_eq!(
        (few.code, few.err.as_str()),
        (1, "coverage 60.0 % is below 60.5 %\n")
    );
    assert_eq!(test(&folder, &["mesh", "--min-coverage", "101"]).code, 2);
}

#[test]
fn programs_get_json_or_junit() {
    let folder = made("test-formats");
    let ended = test(&folder, &["envoy", "--format", "json"]);
    let told = &ended.lines()[0];
    for key in ["schema", "version"] {
        assert!(told[key].is_string(), "{key}");
    }
    assert_eq!(told["passed"], true);
    assert_eq!(told["tests"][0]["format"], "router-check-tool");
    assert_eq!(told["route_coverage"]["percent"], 50.0);
    assert_eq!(told["coverage"]["rules"][1]["requests"], 0);
    let ended = test(&folder, &["mesh", "envoy", "--format", "junit"]);
    assert!(
        ended
            .out
            .contains("<testsuites name=\"meshsim\" tests=\"2\" failures=\"0\">")
    );
}

#[test]
fn standard_input_is_a_file_of_tests() {
    let folder = made("test-stdin");
    let ended = meshsim(&folder, &["test", "-", "-c", "mesh/rules.yaml"], CASES);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
