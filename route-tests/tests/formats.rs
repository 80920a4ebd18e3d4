//! Files of each format: those that hold, those that do not and what is said of them, mistakes, coverage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use route_tests::report::{Shown, coverage, json, junit, summary};
use route_tests::{Options, Report, run};
use serde_json::json;
use source::Diagnostic;
use std::path::{Path, PathBuf};

fn fixtures(paths: &[&str]) -> Vec<PathBuf> {
    let folder = Path::new("tests/fixtures");
    paths.iter().map(|path| folder.join(path)).collect()
}

fn options(tests: &[&str], config: &[&str]) -> Options {
    Options {
        tests: fixtures(tests),
        config: fixtures(config),
        ..Options::default()
    }
}

fn outcome(options: &Options) -> (Report, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let report = run(options, &mut diagnostics);
    (report, diagnostics)
}

/// Without an error.
fn report(options: &Options) -> Report {
    let (report, diagnostics) = outcome(options);
    let said = source::render(&diagnostics, false);
    assert!(!said.contains("error"), "{said}");
    report
}

#[track_caller]
fn all_pass(report: &Report, tests: usize, requests: usize) {
    assert!(report.passed(), "{}", summary(report, Shown::Failed));
    let asked: usize = report.tests.iter().map(|test| test.requests).sum();
    assert_eq!((report.tests.len(), asked), (tests, requests));
}

/// What is said of files of those texts: the tests, and beside them the configuration of a fixture.
fn said(test: &str, text: &str, config: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("made_test.yaml");
    std::fs::write(&path, text).unwrap();
    let options = Options {
        tests: vec![path.clone()],
        config: fixtures(config),
        ..Options::default()
    };
    let (_, diagnostics) = outcome(&options);
    source::render(&diagnostics, false).replace(&folder.display().to_string(), "DIR")
}

#[test]
fn route_tests_that_hold() {
    all_pass(&report(&options(&["shop/held_test.yaml"], &[])), 6, 9);
}

#[test]
fn route_tests_that_fail() {
    let mut report = report(&options(&["shop/failing_test.yaml"], &[]));
    let because = &mut report.tests[0].failures[0].because;
    let rule = because
        .iter()
        .position(|step| step.contains("shop/rules.yaml:16"));
    assert!(rule.is_some(), "{because:?}");
    // How decisions are told is tested where it is done.
    for test in &mut report.tests {
        test.failures
            .iter_mut()
            .for_each(|failure| failure.because.truncate(2));
    }
    insta::assert_snapshot!(summary(&report, Shown::All));
}

/// Of the VirtualService: four rules, four entries of `match`, four destinations. The first request
/// reaches the first rule, its first match, and as the test says where all of it goes, its destination;
/// the second `images`, its match and its only destination; the third `rest`, but neither of its two
/// destinations, as nothing is said of them.
#[test]
fn coverage_counted_by_hand() {
    let report = report(&options(&["shop/partly_test.yaml"], &[]));
    all_pass(&report, 3, 3);
    let covered = &report.coverage;
    let share = |share: route_tests::coverage::Share| (share.reached, share.of);
    assert_eq!(share(covered.of_rules()), (3, 4));
    assert_eq!(share(covered.of_matches()), (2, 4));
    assert_eq!(share(covered.of_destinations()), (2, 4));
    assert_eq!(share(covered.total()), (7, 12));
    insta::assert_snapshot!(coverage(covered, false));
    let told = json(&report);
    assert_eq!(told["schema"], "meshsim.test/1");
    assert_eq!(told["coverage"]["total"], json!({ "reached": 7, "of": 12 }));
    let beta = &told["coverage"]["rules"][0];
    assert_eq!((&beta["name"], &beta["line"]), (&json!("beta"), &json!(16)));
    let reached: Vec<_> = beta["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["requests"])
        .collect();
    assert_eq!(reached, [&json!(1), &json!(0)]);
}

/// A configuration that two files name is one.
#[test]
fn coverage_of_several_files_is_one() {
    let report = report(&options(
        &["shop/partly_test.yaml", "shop/held_test.yaml"],
        &[],
    ));
    let total = report.coverage.total();
    assert_eq!((total.reached, total.of), (12, 12));
}

#[test]
fn validator_tests_that_hold() {
    let report = report(&options(
        &["validator/held_test.yaml"],
        &["validator/services.yaml"],
    ));
    all_pass(&report, 10, 24);
    insta::assert_snapshot!(coverage(&report.coverage, false));
}

#[test]
fn validator_tests_that_fail() {
    let report = report(&options(&["validator/failing_test.yaml"], &["validator"]));
    insta::assert_snapshot!(summary(&report, Shown::All));
}

#[test]
fn router_check_tests_that_hold() {
    let report = report(&options(
        &["router_check/held_test.yaml"],
        &["router_check/table.yaml"],
    ));
    all_pass(&report, 17, 17);
    let covered = report.route_coverage.unwrap();
    // Ten routes, one of them to two clusters. Of `state` only headers were verified, which do not
    // count.
    assert_eq!(
        (covered.routes, covered.covered, covered.percent),
        (11, 10, 100.0 * 10.0 / 11.0)
    );
    // Fields: users 4 of 5, canary 1, shop_a 2, shop_b 2, host 2, secure_v2 1, secure and beta 2 of 5
    // each; moved and health 2 of 2.
    let by_hand = 100.0 * ((4.0 + 1.0 + 2.0 + 2.0 + 2.0 + 1.0 + 2.0 + 2.0) / 5.0 + 2.0) / 11.0;
    assert!(
        (covered.comprehensive_percent - by_hand).abs() < 1e-9,
        "{covered:?}"
    );
    assert_eq!(
        coverage(&report.coverage, false).lines().last(),
        Some("coverage 100.0 %: rules 10 of 10, matches 0 of 0, destinations 2 of 2")
    );
}

#[test]
fn router_check_tests_that_fail() {
    let report = report(&options(
        &["router_check/failing_test.json"],
        &["router_check/table.yaml"],
    ));
    insta::assert_snapshot!(summary(&report, Shown::All));
    // The first test verified one field; what is of the second is right, counts too: none of it is.
    assert_eq!(report.route_coverage.unwrap().covered, 1);
}

/// The same format, of the route tables of an Istio proxy.
#[test]
fn router_check_tests_of_an_istio_proxy() {
    let mut options = options(&["istio/check_test.yaml"], &["shop"]);
    options.proxy = Some("web".to_owned());
    let report = report(&options);
    all_pass(&report, 4, 4);
    assert_eq!(report.route_coverage, None);
    let rest = &report.coverage.rules[3];
    let picked: Vec<u64> = rest.destinations.iter().map(|one| one.requests).collect();
    assert_eq!((rest.requests, picked), (2, vec![1, 1]));
}

/// istio-config-validator's format, decided as by a proxy.
#[test]
fn validator_tests_of_an_istio_proxy() {
    let mut options = options(&["istio/validator_test.yaml"], &["shop"]);
    options.proxy = Some("web".to_owned());
    all_pass(&report(&options), 2, 2);
}

/// All that a folder holds, with the configuration in it.
#[test]
fn a_folder_is_tests_and_configuration() {
    let (report, diagnostics) = outcome(&options(&["router_check"], &[]));
    assert_eq!(diagnostics, []);
    assert_eq!(report.tests.len(), 20);
    let passed = report.tests.iter().filter(|test| test.passed).count();
    assert_eq!(passed, 18);
    let (report, _) = outcome(&options(&["shop"], &[]));
    assert_eq!(report.tests.len(), 12);
}

#[test]
fn junit_is_xml_with_the_failures() {
    let report = report(&options(&["router_check"], &[]));
    insta::assert_snapshot!(junit(&report));
}

#[test]
fn scenarios_are_judged() {
    let report = report(&options(&["scenario"], &[]));
    insta::assert_snapshot!(summary(&report, Shown::All));
}

#[test]
fn mistakes_in_route_tests_are_told_together() {
    let text = r#"
config: [missing.yaml]
az: web
defaults: {header: {a: b}}
route_tests:
  - name: nothing asked
    expect: {}
  - request: {url: "ftp://x", metod: GET, tls: maybe}
    expect: {timeout: soon, to: [{hots: shop}], retries: {attempts: 1, on: "5xx,sometimes"}, stats: 1}
"#;
    insta::assert_snapshot!(said("own-mistakes", text, &[]));
}

#[test]
fn mistakes_in_validator_tests_are_told_together() {
    let text = r#"
testCases:
  - description: typo
    wantMatch: yes
    requests: {}
    request: {authority: [], methods: [GET], uri: [users]}
    route: [{destination: {hsot: a, port: 80}}]
  - description: nothing asserted
    request: {authority: [a], method: [GET], uri: [/]}
"#;
    insta::assert_snapshot!(said(
        "validator-mistakes",
        text,
        &["validator/services.yaml"]
    ));
}

#[test]
fn mistakes_in_router_check_tests_are_told_together() {
    let text = r#"
tests:
  - test_name: ""
    input: {authority: a, path: /, method: G, dynamic_metadata: [{metadata_namespac: a}]}
    validate: {cluster: a, code_redirect: "x"}
  - testName: camel case is fine
    input: {authority: a, path: /, method: GET, randomValue: "7"}
    validate: {request_header_matches: [{name: a, string_match: {safe_regex: {regex: "("}}}]}
"#;
    insta::assert_snapshot!(said("check-mistakes", text, &["router_check/table.yaml"]));
}

#[test]
fn what_a_table_says_that_is_not_done_is_told() {
    let text = r#"
name: t
virtual_hosts:
  - name: a
    domains: ["*"]
    routes:
      - match: {prefix: /, cookies: [{name: a}]}
        route: {cluster_header: x-cluster}
      - match: {path: /a, prefix: /b}
        route: {cluster: a, host_rewrite_header: x-host, timeout: 3s}
      - match: {prefix: /}
        redirect: {response_cod: FOUND}
      - match: {prefix: /}
        direct_response: {status: 200, body: {filename: /etc/passwd}}
      - match: {prefix: /, dynamic_metadata: [{filter: f, value: {bool_match: false}}]}
        route: {cluster: a}
      - match: {prefix: /, dynamic_metadata: [{filter: f, value: {}}]}
        route: {cluster: a}
---
tests: []
"#;
    let (table, tests) = text.split_once("---").unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("table-mistakes");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("table.yaml"), table).unwrap();
    let good = "tests: [{test_name: a, input: {authority: a, path: /, method: GET}, validate: {cluster_name: a}}]";
    std::fs::write(folder.join("tests.yaml"), good).unwrap();
    assert!(tests.contains("tests: []"));
    let options = Options {
        tests: vec![folder.clone()],
        ..Options::default()
    };
    let (_, diagnostics) = outcome(&options);
    let shown = source::render(&diagnostics, false);
    insta::assert_snapshot!(shown.replace(&folder.display().to_string(), "DIR"));
}

#[test]
fn what_is_missing_is_told() {
    for (tests, config, message) in [
        (
            &["router_check/held_test.yaml"][..],
            &["validator"][..],
            "no RouteConfiguration",
        ),
        (
            &["validator/held_test.yaml"],
            &["router_check"],
            "no Istio configuration",
        ),
        (&["shop/rules.yaml"], &[], "no test in what was named"),
        (&["shop/missing.yaml"], &[], "no such file or folder"),
    ] {
        let (_, diagnostics) = outcome(&options(tests, config));
        let shown = source::render(&diagnostics, false);
        assert!(shown.contains(message), "{tests:?}: {shown}");
    }
    let nobody = "config: [DIR/../../../x]\nroute_tests: [{request: a, expect: {status: 1}}]";
    assert!(said("nobody", nobody, &[]).contains("`status` is a whole number"));
    let no_proxy = "route_tests: [{request: a, expect: {status: 200}}]";
    assert!(said("no-proxy", no_proxy, &["shop"]).contains("a route test needs a proxy"));
    let unknown = "route_tests: [{as: wep, request: a, expect: {status: 200}}]";
    let shown = said("unknown-proxy", unknown, &["shop"]);
    assert!(
        shown.contains("no workload or pod is called `wep`"),
        "{shown}"
    );
    assert!(shown.contains("did you mean `web`?"), "{shown}");
}

/// Of the rules that delegate and are delegated to, and of those of the Gateway API.
#[test]
fn coverage_of_delegates_and_of_the_gateway_api() {
    let report = report(&options(&["reached/reach_test.yaml"], &[]));
    all_pass(&report, 3, 4);
    let reached = report.coverage.rules.iter().map(|rule| {
        let matches: Vec<u64> = rule.matches.iter().map(|one| one.requests).collect();
        let destinations: Vec<u64> = rule.destinations.iter().map(|one| one.requests).collect();
        (rule.line, rule.requests, matches, destinations)
    });
    let by_hand = [
        // HTTPRoute desk.
        (30, 2, vec![2, 0], vec![2, 2]),
        (36, 1, vec![], vec![1]),
        // VirtualService shop.
        (8, 1, vec![1], vec![]),
        (10, 0, vec![], vec![0]),
        // VirtualService team.
        (17, 1, vec![0, 1], vec![1]),
        (21, 0, vec![], vec![0]),
    ];
    assert_eq!(reached.collect::<Vec<_>>(), by_hand);
}
