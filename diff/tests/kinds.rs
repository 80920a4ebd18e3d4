//! Changes of many kinds, each told as what it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, check_witnesses, mesh, objects};
use diff::{Report, diff, text};

fn between(mesh: &str, old: &str, new: &str) -> Report {
    let before = objects(&[("mesh.yaml", mesh), ("old.yaml", old)]);
    let after = objects(&[("mesh.yaml", mesh), ("new.yaml", new)]);
    let report = diff(&before, &after);
    check_witnesses(&report, &mut Asked::new(&before), &mut Asked::new(&after));
    report
}

/// What changes, setting by setting.
fn settings(report: &Report) -> Vec<String> {
    let settings = report.changes.iter().flat_map(|change| &change.settings);
    let told = settings.map(|one| format!("{}: {} -> {}", one.setting, one.old, one.new));
    told.collect()
}

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: \
         default}}\nspec: {{hosts: [a], {spec}}}\n"
    )
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: \
         default}}\nspec: {{host: a, {spec}}}\n"
    )
}

#[test]
fn a_rule_may_ask_for_a_host_in_upper_case() {
    let mesh = mesh(&[("a", &["v1"])]);
    let asking = |timeout: &str| {
        let to_a = "route: [{destination: {host: a}}]";
        let asked = "match: [{authority: {regex: 'A:.*'}}]";
        rule(&format!(
            "http: [{{{asked}, {timeout}, {to_a}}}, {{{to_a}}}]"
        ))
    };
    let report = between(&mesh, &asking("timeout: 1s"), &asking("timeout: 2s"));
    assert_eq!(settings(&report), ["timeout: 1s -> 2s"]);
}

#[test]
fn what_a_route_does_is_told_setting_by_setting() {
    let mesh = mesh(&[("a", &["v1"])]);
    let to_a = "route: [{destination: {host: a}}]";
    for (old, new, told) in [
        ("", "timeout: 3s", "timeout: none -> 3s"),
        (
            "retries: {attempts: 2}",
            "retries: {attempts: 4}",
            "retries.attempts: 2 -> 4",
        ),
        ("", "rewrite: {uri: /new}", "path: none -> / -> /new"),
        (
            "",
            "rewrite: {authority: b}",
            "rewrite.authority: none -> b",
        ),
        (
            "",
            "headers: {request: {set: {x-a: b}}}",
            "request headers: none -> x-a: b",
        ),
        (
            "",
            "mirror: {host: a}",
            "mirrors: none -> a.default:9080 100 %",
        ),
        (
            "",
            "fault: {delay: {fixedDelay: 2s, percentage: {value: 0.5}}}",
            "fault.delay: none -> 2s for 0.5 %",
        ),
        (
            "corsPolicy: {allowOrigins: [{exact: a}]}",
            "corsPolicy: {allowOrigins: [{exact: b}]}",
            "cors.allowOrigins: a -> b",
        ),
    ] {
        let with = |extra: &str| match extra {
            "" => rule(&format!("http: [{{{to_a}}}]")),
            extra => rule(&format!("http: [{{{to_a}, {extra}}}]")),
        };
        let report = between(&mesh, &with(old), &with(new));
        assert_eq!(settings(&report), [told], "{}", text(&report));
        assert_eq!(report.changes.len(), 1);
        assert_eq!(report.changes[0].new.rules[0].file, "new.yaml".into());
    }
}

#[test]
fn policies_are_told_of_where_requests_get_to_them() {
    let mesh = mesh(&[("a", &["v1", "v2"])]);
    for (old, new, told) in [
        (
            "trafficPolicy: {loadBalancer: {simple: RANDOM}}",
            "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}",
            "loadBalancer: RANDOM -> ROUND_ROBIN",
        ),
        (
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 10}}}",
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 20}}}",
            "connectionPool.tcp.maxConnections: 10 -> 20",
        ),
        (
            "trafficPolicy: {tls: {mode: DISABLE}}",
            "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
            "tls: DISABLE -> ISTIO_MUTUAL",
        ),
    ] {
        let report = between(&mesh, &policy(old), &policy(new));
        assert_eq!(settings(&report), [told], "{}", text(&report));
    }
    // Nobody goes to the subset.
    let unused = policy("subsets: [{name: v1, labels: {version: v1}}]");
    assert!(between(&mesh, &policy("subsets: []"), &unused).is_empty());
}

#[test]
fn labels_of_a_subset_count_by_the_pods_that_they_find() {
    let subset = |labels: &str| {
        let to_v1 = "http: [{route: [{destination: {host: a, subset: v1}}]}]";
        let subset = policy(&format!("subsets: [{{name: v1, labels: {{{labels}}}}}]"));
        format!("{}---\n{subset}", rule(to_v1))
    };
    let (v1, both, v2) = (
        subset("version: v1"),
        subset("app: a, version: v1"),
        subset("version: v2"),
    );
    let with_pods = mesh(&[("a", &["v1", "v2"])]);
    assert!(between(&with_pods, &v1, &both).is_empty());
    let report = between(&with_pods, &v1, &v2);
    assert!(
        settings(&report)[0].starts_with("endpoints: default/a-v1"),
        "{}",
        text(&report)
    );
    let without = mesh(&[("a", &[])]);
    let report = between(&without, &v1, &v2);
    assert_eq!(
        settings(&report),
        ["labels of pods: app=a,version=v1 -> app=a,version=v2"]
    );
}

#[test]
fn how_many_pods_there_are_is_no_change() {
    let mesh = mesh(&[("a", &["v1"])]);
    let scaled = mesh.replace(
        "spec: {selector: {matchLabels",
        "spec: {replicas: 3, selector: {matchLabels",
    );
    assert_ne!(mesh, scaled);
    let report = diff(
        &objects(&[("mesh.yaml", &mesh)]),
        &objects(&[("mesh.yaml", &scaled)]),
    );
    assert!(report.is_empty(), "{}", text(&report));
}

#[test]
fn connections_and_server_names() {
    let mesh = mesh(&[("a", &["v1"]), ("b", &["v1"])])
        .replace("name: http, port: 9080", "name: tcp, port: 9080");
    let to = |host: &str| {
        rule(&format!(
            "tcp: [{{route: [{{destination: {{host: {host}}}}}]}}]"
        ))
    };
    let report = between(&mesh, &to("a"), &to("b"));
    assert_eq!(
        settings(&report),
        [
            "destination: the bytes are passed on to a.default:9080 -> the bytes are passed on to b.default:9080"
        ],
        "{}",
        text(&report)
    );

    let gateway = |to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: default}}\n\
             spec: {{selector: {{istio: edge}}, servers: [{{port: {{number: 443, name: tls, protocol: TLS}}, \
             tls: {{mode: PASSTHROUGH}}, hosts: [\"*.example.com\"]}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: g, namespace: \
             default}}\nspec: {{hosts: [\"*.example.com\"], gateways: [g], tls: [{{match: [{{port: 443, sniHosts: \
             [one.example.com]}}], route: [{{destination: {{host: a}}}}]}}, {{match: [{{port: 443, sniHosts: \
             [two.example.com]}}], route: [{{destination: {{host: {to}}}}}]}}]}}\n"
        )
    };
    let report = between(&mesh, &gateway("a"), &gateway("b"));
    assert_eq!(report.changes.len(), 1, "{}", text(&report));
    let witness = &report.changes[0].witness;
    assert_eq!(witness.request.sni.as_deref(), Some("two.example.com"));
    assert_eq!(
        witness.proxy,
        "kind=gateway,namespace=istio-system,labels=istio=edge"
    );
}

#[test]
fn the_gateway_api_says_the_same_in_other_words() {
    let mesh = mesh(&[("a", &["v1"]), ("b", &["v1"])]);
    let with_rule = rule(
        "http: [{match: [{uri: {exact: /x}}], route: [{destination: {host: b}}]}, {route: [{destination: {host: a}}]}]",
    );
    let with_route = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: default}
spec:
  parentRefs: [{group: \"\", kind: Service, name: a}]
  rules:
  - matches: [{path: {type: Exact, value: /x}}]
    backendRefs: [{name: b, port: 9080}]
  - backendRefs: [{name: a, port: 9080}]
";
    let report = between(&mesh, &with_rule, with_route);
    // Only what is said of a cluster that is not there.
    let told = settings(&report);
    assert!(
        told.iter()
            .all(|one| one == "status without cluster: none -> 500"),
        "{}",
        text(&report)
    );
}

/// Two Services of port 80, at addresses of their own.
fn at_addresses(port_name: &str) -> String {
    let service = |name: &str, address: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: \
             {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: {port_name}, port: \
             80}}]}}}}\n"
        )
    };
    service("a", "10.96.0.1") + &service("b", "10.96.0.2")
}

#[test]
fn each_service_whose_protocol_changes_is_told_of() {
    let report = between("", &at_addresses("http"), &at_addresses("tcp"));
    let mut told: Vec<String> = Vec::new();
    for change in &report.changes {
        told.extend(
            change
                .settings
                .iter()
                .map(|one| format!("{} -> {}", one.old, one.new)),
        );
    }
    for name in ["a", "b"] {
        let wanted = format!("{name}.default:80 -> the bytes are passed on to {name}.default:80");
        assert!(told.contains(&wanted), "{wanted}: {told:#?}");
    } // The host leads to its own address only.
    let elsewhere = "GET http://a/ to 240.240.1.7:80 changes ";
    assert!(text(&report).contains(elsewhere), "{}", text(&report));
    assert!(text(&report).contains("GET http://a/ changes "));
}
