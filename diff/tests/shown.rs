//! What people read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, check_witnesses, mesh, objects};
use diff::{diff, markdown, text};

/// Two sides over the same mesh.
fn shown(old: &str, new: &str) -> String {
    let mesh = mesh(&[
        ("productpage", &["v1"]),
        ("reviews", &["v1", "v2", "v3"]),
        ("ratings", &["v1"]),
    ]);
    let before = objects(&[("mesh.yaml", &mesh), ("old.yaml", old)]);
    let after = objects(&[("mesh.yaml", &mesh), ("new.yaml", new)]);
    let report = diff(&before, &after);
    check_witnesses(&report, &mut Asked::new(&before), &mut Asked::new(&after));
    format!("{}\n{}", text(&report), markdown(&report))
}

const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 5}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
";

const ALL_TO_V1: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v1}
";

const JASON_TO_V2: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
    route:
    - destination: {host: reviews, subset: v2}
    timeout: 2s
  - route:
    - destination: {host: reviews, subset: v1}
";

#[test]
fn a_user_of_a_new_version() {
    let old = format!("{SUBSETS}{ALL_TO_V1}");
    let new = format!("{SUBSETS}{JASON_TO_V2}");
    insta::assert_snapshot!(shown(&old, &new));
}

#[test]
fn a_shift_of_weights_and_a_stricter_policy() {
    let weights = |v1: u32| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {{host: reviews, subset: v1}}
      weight: {v1}
    - destination: {{host: reviews, subset: v3}}
      weight: {}
    retries: {{attempts: 3, perTryTimeout: 2s}}
",
            100 - v1
        )
    };
    let old = format!("{SUBSETS}{}", weights(90));
    let stricter = SUBSETS.replace("consecutive5xxErrors: 5", "consecutive5xxErrors: 3");
    let new = format!("{stricter}{}", weights(50));
    insta::assert_snapshot!(shown(&old, &new));
}

#[test]
fn who_may_call_and_how() {
    let old = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
  - from: [{source: {namespaces: [default]}}]
    to: [{operation: {methods: [GET, POST]}}]
";
    let new = format!(
        "{}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: default}}
spec: {{mtls: {{mode: STRICT}}}}
",
        old.replace("[GET, POST]", "[GET]")
    );
    insta::assert_snapshot!(shown(old, &new));
}
