//! The consecutive pairs of Bookinfo's rules, and changes of text alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, check_witnesses, effect, is_told, objects, shared};
use control_plane::{Objects, Request};
use diff::{Report, diff};
use std::path::Path;

const INJECTED: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio-injection: enabled}}}";

fn rule_files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("networking"))
        .unwrap()
        .collect();
    files.sort_by_key(|file| file.as_ref().unwrap().path());
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let files = files.into_iter().map(|file| file.unwrap().path());
    files
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                text(&path),
            )
        })
        .collect()
}

fn over(folder: &Path, name: &str, rules: &str) -> Objects {
    let platform = std::fs::read_to_string(folder.join("platform/kube/bookinfo.yaml")).unwrap();
    let subsets =
        std::fs::read_to_string(folder.join("networking/destination-rule-all.yaml")).unwrap();
    objects(&[
        ("namespace.yaml", INJECTED),
        ("bookinfo.yaml", &platform),
        ("destination-rule-all.yaml", &subsets),
        (name, rules),
    ])
}

#[test]
fn each_of_bookinfos_rule_files_beside_the_next() {
    let Some(folder) = shared("corpus/samples/bookinfo") else {
        return;
    };
    let files = rule_files(&folder);
    let mut summary = String::new();
    for pair in files.windows(2) {
        let [(old_name, old_text), (new_name, new_text)] = pair else {
            continue;
        };
        let (before, after) = (
            over(&folder, old_name, old_text),
            over(&folder, new_name, new_text),
        );
        let report = diff(&before, &after);
        let (mut was, mut is) = (Asked::new(&before), Asked::new(&after));
        check_witnesses(&report, &mut was, &mut is);
        assert_eq!(report.undecided, [], "{old_name} {new_name}");
        unreported(&report, &mut was, &mut is);
        let kinds = report
            .changes
            .iter()
            .map(|change| format!("{:?}", change.kinds));
        let kinds: Vec<String> = kinds.collect();
        if std::env::var_os("SHOW").is_some() {
            eprintln!("== {old_name} -> {new_name}\n{}", diff::text(&report));
        }
        summary += &format!("{old_name} -> {new_name}: {}\n", kinds.join(" "));
    }
    insta::assert_snapshot!(summary);
}

/// Requests that change are told of.
fn unreported(report: &Report, was: &mut Asked, is: &mut Asked) {
    for host in [
        "reviews:9080",
        "ratings:9080",
        "details:9080",
        "productpage:9080",
        "www.googleapis.com",
    ] {
        for user in [None, Some("jason"), Some("ann")] {
            for proxy in [
                "default/productpage-v1",
                "default/reviews-v2",
                "default/ratings-v1",
            ] {
                let mut request = Request::to_url(&format!("http://{host}/reviews/0")).unwrap();
                let user = user.map(|user| ("end-user".to_owned(), user.to_owned()));
                request.headers.extend(user);
                let (old, new) = (was.answer(proxy, &request), is.answer(proxy, &request));
                if effect(&old) == effect(&new) {
                    continue;
                }
                let known = is_told(report, proxy, &old, &new);
                assert!(
                    known,
                    "{request:?} at {proxy}\n{old:#?}\n{new:#?}\n{report:#?}"
                );
            }
        }
    }
}

#[test]
fn what_is_only_written_otherwise_is_no_change() {
    let written = "
# All of it to v1.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: test
    match:
    - headers: {end-user: {exact: jason}}
    route:
    - destination: {host: reviews, subset: v2}
      weight: 50
    - destination: {host: reviews, subset: v1}
      weight: 50
    headers: {request: {set: {a: one, b: two}}}
  - route:
    - destination: {host: reviews, subset: v1}
";
    let otherwise = "
spec:
  http:
  - headers:
      request:
        set:
          b: two
          a: one
    route:
    - {weight: 1, destination: {subset: v1, host: reviews.default.svc.cluster.local}}
    - {weight: 1, destination: {subset: v2, host: reviews}}
    match:
    - headers:
        end-user:
          exact: \"jason\"
  - name: the rest
    match: [{uri: {prefix: /}}]
    route:
    - destination: {subset: v1, host: reviews}
      weight: 100
  hosts:
  - reviews.default.svc.cluster.local
metadata:
  namespace: default
  name: reviews-by-user
kind: VirtualService
apiVersion: networking.istio.io/v1beta1
";
    let mesh = common::mesh(&[("reviews", &["v1", "v2"]), ("web", &["v1"])]);
    let subsets = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";
    let before = objects(&[
        ("mesh.yaml", &mesh),
        ("a.yaml", subsets),
        ("b.yaml", written),
    ]);
    let joined = format!("{otherwise}---\n{subsets}");
    let after = objects(&[("moved/all.yaml", &joined), ("moved/mesh.yaml", &mesh)]);
    let report = diff(&before, &after);
    assert!(report.is_empty(), "{}", diff::text(&report));
    assert!(report.proxies > 2);
}
