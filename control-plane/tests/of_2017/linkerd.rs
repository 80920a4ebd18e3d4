//! What Linkerd 1.1.1 did with the rules of Istio 0.1.

use super::{checked, clusters, get, resources, valid, version};
use control_plane::{DataPlane, Objects, Resources, explain};
use proxy_core::xds::{CircuitBreakers, RouteAction};

const HOST: &str = "reviews.default.svc.cluster.local";

fn rule(name: &str, precedence: i32, rest: &str) -> String {
    format!(
        "type: route-rule\nname: {name}\nspec:\n  destination: {HOST}\n  precedence: {precedence}\n{rest}\n---\n"
    )
}

fn of_linkerd(text: &str) -> Objects {
    let mut objects = valid(text);
    objects.set_data_plane(DataPlane::Linkerd111);
    objects
}

fn told(text: &str) -> Resources {
    resources(&of_linkerd(text), "productpage-v1")
}

#[test]
fn who_calls_is_not_looked_at() {
    let text = rule(
        "a",
        1,
        "  match: {source: ratings.default.svc.cluster.local}\n  route: [{tags: {version: v2}}]",
    );
    let found = version(&told(&text), &get("reviews:9080", "/", &[]));
    assert_eq!(found, format!("version=v2 {HOST}"));
}

#[test]
fn parts_of_the_head_are_matched_as_such() {
    let text = rule(
        "a",
        4,
        "  match: {httpHeaders: {method: {exact: POST}}}\n  route: [{tags: {version: v3}}]",
    ) + &rule(
        "b",
        3,
        "  match: {httpHeaders: {authority: {prefix: \"reviews:\"}, uri: {regex: \"/a/[0-9]+\"}}}\n  route: [{tags: {version: v2}}]",
    ) + &rule(
        "c",
        2,
        "  match: {httpHeaders: {scheme: {exact: http}}}\n  route: [{tags: {version: v3}}]",
    ) + &rule("d", 1, "  route: [{tags: {version: v1}}]");
    let told = told(&text);
    for (method, host, path, want) in [
        ("POST", "reviews:9080", "/", "v3"),
        ("GET", "reviews:9080", "/a/12?x", "v2"),
        ("GET", "reviews:9080", "/a/12/b", "v1"),
        ("GET", "reviews.default:9080", "/a/12", "v1"),
    ] {
        let request = control_plane::Request {
            method: method.into(),
            ..get(host, path, &[])
        };
        assert_eq!(
            version(&told, &request),
            format!("version={want} {HOST}"),
            "{method} {host} {path}"
        );
    }
}

#[test]
fn timeouts_retries_faults_redirects_and_policies_are_not_read() {
    let text = rule(
        "a",
        1,
        "  httpReqTimeout: {simpleTimeout: {timeout: 1s}}\n  httpReqRetries: {simpleRetry: {attempts: 3, perTryTimeout: 1s}}\n  httpFault: {abort: {percent: 100, httpStatus: 500}}",
    ) + &rule(
        "b",
        2,
        "  match: {httpHeaders: {uri: {exact: /old}}}\n  redirect: {uri: /new}",
    ) + &format!(
        "type: destination-policy\nname: p\nspec:\n  destination: {HOST}\n  policy: [{{circuitBreaker: {{simpleCb: {{maxConnections: 1, sleepWindow: 1s, httpDetectionInterval: 1s}}}}}}]\n"
    );
    let told = told(&text);
    let answer = explain(&told, &get("reviews:9080", "/", &[]));
    let route = answer.matched.unwrap();
    let RouteAction::Forward(forward) = &route.action else {
        panic!("it is sent on");
    };
    assert_eq!(
        (forward.timeout, &forward.retry, &route.fault),
        (None, &None, &None)
    );
    assert_eq!(
        version(&told, &get("reviews:9080", "/old", &[])),
        format!(" {HOST}")
    );
    let whole = told
        .clusters
        .iter()
        .find(|c| *c.name == *format!("outbound|9080||{HOST}"))
        .unwrap();
    assert_eq!(whole.circuit_breakers, CircuitBreakers::UNLIMITED);
    insta::assert_snapshot!(checked(&text, Some(DataPlane::Linkerd111)));
}

#[test]
fn a_share_without_endpoints_drops_out() {
    let text = rule(
        "a",
        1,
        "  route: [{tags: {version: v1}, weight: 50}, {tags: {version: v3}, weight: 30}, {tags: {version: v9}, weight: 20}]",
    );
    let request = get("reviews:9080", "/", &[]);
    let v1 = (format!("outbound|9080|version=v1|{HOST}"), 50);
    let v3 = (format!("outbound|9080|version=v3|{HOST}"), 30);
    assert_eq!(clusters(&told(&text), &request), [v1.clone(), v3.clone()]);
    let envoy = resources(&valid(&text), "productpage-v1");
    assert_eq!(clusters(&envoy, &request).len(), 3);
    // As pods go.
    let objects = of_linkerd(&text);
    let identity = objects.proxy("productpage-v1").unwrap();
    let pods = objects.pods();
    let settings = control_plane::PushSettings::default();
    let mut control = control_plane::ControlPlane::new(settings, objects, pods.clone());
    assert_eq!(clusters(&control.resources(&identity), &request).len(), 2);
    for pod in pods.iter().filter(|pod| &*pod.workload == "reviews-v3") {
        control.remove_pod(proxy_core::time::Nanos::ZERO, &pod.namespace, &pod.name);
    }
    let pushes = control.tick(proxy_core::time::Nanos::from_secs(60));
    drop(pushes);
    assert_eq!(
        clusters(&control.resources(&identity), &request),
        [(v1.0, 100)]
    );
}

#[test]
fn unknown_hosts_go_to_egress() {
    let text = "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {name: e}\nspec: {destination: {service: a.example.com}, ports: [{port: 9080, protocol: http}]}\n";
    let told = told(text);
    for host in ["a.example.com:9080", "b.example.com:9080"] {
        assert_eq!(
            clusters(&told, &get(host, "/", &[])),
            [("PassthroughCluster".to_owned(), 100)]
        );
    }
}

#[test]
fn at_the_ingress_precedence_decides_and_expressions_count() {
    let ingress = |path: &str| {
        format!(
            "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {{name: gateway, annotations: {{kubernetes.io/ingress.class: istio}}}}\nspec:\n  rules:\n  - http:\n      paths:\n      - {{path: {path}, backend: {{serviceName: reviews, servicePort: 9080}}}}\n"
        )
    };
    let rules = rule(
        "a",
        3,
        "  match: {httpHeaders: {uri: {prefix: /a}, cookie: {exact: jason}}}\n  route: [{tags: {version: v3}}]",
    ) + &rule(
        "b",
        2,
        "  match: {httpHeaders: {uri: {exact: /a/1}}}\n  route: [{tags: {version: v2}}]",
    ) + &rule(
        "c",
        1,
        "  match: {httpHeaders: {uri: {regex: \"/(a|b)/[0-9]+\"}}}\n  route: [{tags: {version: v1}}]",
    );
    for (of_ingress, path, cookie, want) in [
        ("/.*", "/a/1", "jason", Some("version=v3")),
        ("/.*", "/a/1", "x", Some("version=v2")),
        ("/.*", "/b/2?x", "x", Some("version=v1")),
        ("/.*", "/b/c", "x", Some("")),
        ("/a.*", "/a/2", "x", Some("version=v1")),
        ("/a.*", "/b/2", "x", None),
        ("/b/2", "/b/2", "x", Some("version=v1")),
        ("/b/c", "/b/c", "x", Some("")),
    ] {
        let objects = of_linkerd(&(rules.clone() + &ingress(of_ingress)));
        let told = resources(&objects, "istio-system/ingress");
        let request = get("any.example", path, &[("cookie", cookie)]);
        let what = format!("{of_ingress} {path} {cookie}");
        match want {
            Some(want) => assert_eq!(version(&told, &request), format!("{want} {HOST}"), "{what}"),
            None => assert_eq!(explain(&told, &request).status, Some(404), "{what}"),
        }
    }
}

#[test]
fn a_rule_for_every_path_covers_the_rest() {
    let text = rule(
        "a",
        2,
        "  match: {source: ratings.default.svc.cluster.local, httpHeaders: {uri: {prefix: /}}}",
    ) + &rule("b", 1, "");
    let unreached = "no request reaches this RouteRule: RouteRule default/a comes first";
    assert!(checked(&text, Some(DataPlane::Linkerd111)).contains(unreached));
    let of_envoy = checked(&text, Some(DataPlane::Envoy2017));
    assert!(!of_envoy.contains(unreached), "{of_envoy}");
}
