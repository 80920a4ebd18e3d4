//! `meshsim import`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Shared with other tests, which use the rest of it.
#[allow(dead_code)]
mod binary;

use binary::{folder, meshsim};

const RULE: &str = "type: route-rule
name: reviews-default
spec:
  destination: reviews.default.svc.cluster.local
  match: {source: productpage.default.svc.cluster.local}
  route: [{tags: {version: v1}}]
";

#[test]
fn rules_of_2017_become_objects_of_today() {
    let folder = folder("import");
    let args = ["import", "istio-v1alpha2", "-"];
    let ended = meshsim(&folder, &args, RULE);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let kinds: Vec<&str> = ended
        .out
        .lines()
        .filter(|line| line.starts_with("kind:"))
        .collect();
    assert_eq!(kinds, ["kind: DestinationRule", "kind: VirtualService"]);
    assert!(
        ended.err.contains("does not tell callers by a service"),
        "{}",
        ended.err
    );
    // The same as files.
    let ended = meshsim(&folder, &[&args[..], &["-o", "istio"]].concat(), RULE);
    assert_eq!((ended.code, &*ended.out), (0, ""));
    let mut names: Vec<String> = std::fs::read_dir(folder.join("istio"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "destinationrule-default-reviews.yaml",
            "virtualservice-default-reviews.yaml"
        ]
    );
    let ended = meshsim(&folder, &["check", "istio"], "");
    assert_eq!(ended.code, 0, "{}", ended.out);
}

#[test]
fn mistakes_end_with_2() {
    let folder = folder("import-mistakes");
    let wrong = RULE.replace("tags", "labels");
    let ended = meshsim(&folder, &["import", "istio-v1alpha2", "-"], &wrong);
    assert_eq!((ended.code, &*ended.out), (2, ""));
    assert!(ended.err.contains("unknown key `labels`"), "{}", ended.err);
}

#[test]
fn a_data_plane_is_asked_for_by_name() {
    let folder = folder("data-plane");
    std::fs::write(folder.join("rule.yaml"), RULE).unwrap();
    let check = |name| meshsim(&folder, &["check", "rule.yaml", "--data-plane", name], "");
    assert!(!check("envoy-2017").out.contains("`source`"));
    assert!(
        check("linkerd-1.1.1")
            .out
            .contains("did not look at `source`")
    );
    let ended = check("envoy");
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("one of envoy-2017, linkerd-1.1.1"),
        "{}",
        ended.err
    );
}
