//! Access control and mutual TLS, on both engines.

#![allow(clippy::unwrap_used)]

mod support;

use record::RunRecord;
use sim::{Observers, event, turmoil};
use std::path::Path;
use support::plan_of;

/// A client that asks a server, under some policies.
fn runs(config: &str) -> [RunRecord; 2] {
    let text = format!(
        r#"
name: access
duration: 2s
network: {{latency: 1ms}}
topology:
  services:
    client: {{port: 80}}
    shop: {{port: 8080}}
config:
{config}
behavior:
  default: {{service_time: 1ms}}
traffic:
  read: {{get: "http://shop:8080/", from: client, rate: 20/s}}
  write: {{post: "http://shop:8080/", from: client, rate: 20/s}}
"#
    );
    let plan = plan_of("access", &text, Path::new("."), &[]);
    let events = event::run(&plan, 1, Observers::default()).record;
    let bytes = turmoil::run(&plan, 1, Observers::default());
    [events, bytes.unwrap().record]
}

/// The one status and flag of a source's requests.
fn outcome(run: &RunRecord, traffic: &str) -> (String, String) {
    let traffic = &run.traffic[traffic];
    let codes: Vec<&String> = traffic.codes.keys().collect();
    let flags: Vec<&str> = traffic.flags.keys().map(String::as_str).collect();
    assert_eq!(codes.len(), 1, "{codes:?}");
    (codes[0].clone(), flags.join(","))
}

fn policy(kind: &str, spec: &str) -> String {
    format!(
        "  - apiVersion: security.istio.io/v1\n    kind: {kind}\n    \
         metadata: {{name: some, namespace: default}}\n    spec: {spec}\n"
    )
}

#[test]
fn the_server_knows_who_asks() {
    let who = |principal: &str| {
        let from = format!("from: [{{source: {{principals: [{principal}]}}}}]");
        let to = "to: [{operation: {methods: [GET]}}]";
        let select = "selector: {matchLabels: {app: shop}}";
        policy(
            "AuthorizationPolicy",
            &format!("{{{select}, rules: [{{{from}, {to}}}]}}"),
        )
    };
    for run in runs(&who("cluster.local/ns/default/sa/default")) {
        assert_eq!(outcome(&run, "read").0, "200");
        assert_eq!(outcome(&run, "write").0, "403");
    }
    for run in runs(&who("cluster.local/ns/other/sa/default")) {
        assert_eq!(outcome(&run, "read").0, "403");
    }
}

/// What clients are to do, and what the server takes.
fn mismatch(tls: &str, mode: &str) -> [RunRecord; 2] {
    let rule = format!(
        "  - apiVersion: networking.istio.io/v1\n    kind: DestinationRule\n    \
         metadata: {{name: shop, namespace: default}}\n    \
         spec: {{host: shop, trafficPolicy: {{tls: {{mode: {tls}}}}}}}\n"
    );
    let mode = policy("PeerAuthentication", &format!("{{mtls: {{mode: {mode}}}}}"));
    runs(&format!("{rule}{mode}"))
}

#[test]
fn a_mode_that_does_not_fit_fails_as_in_a_mesh() {
    let unavailable = |flags: &str| ("503".to_owned(), flags.to_owned());
    // The server hangs up when it has read what it does not take.
    for run in mismatch("DISABLE", "STRICT") {
        assert_eq!(outcome(&run, "read"), unavailable("UC"));
    }
    // The handshake fails, so that there is no connection: that is tried again.
    for (tls, mode) in [("ISTIO_MUTUAL", "DISABLE"), ("SIMPLE", "PERMISSIVE")] {
        for run in mismatch(tls, mode) {
            assert_eq!(outcome(&run, "read"), unavailable("UF,URX"), "{tls} {mode}");
        }
    }
    for (tls, mode) in [("DISABLE", "PERMISSIVE"), ("ISTIO_MUTUAL", "STRICT")] {
        for run in mismatch(tls, mode) {
            assert_eq!(outcome(&run, "read").0, "200");
        }
    }
}
