//! What Pilot of 2017 told Envoy.

use super::{checked, clusters, get, resources, valid, version};
use control_plane::{Action, DataPlane, explain};
use proxy_core::time::Nanos;
use proxy_core::xds::{Discovery, LbPolicy, RetryOn, RouteAction, Transport};

/// A RouteRule of 0.2 for reviews.
fn rule(name: &str, precedence: i32, rest: &str) -> String {
    format!(
        "apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec:\n  destination: {{name: reviews}}\n  precedence: {precedence}\n{rest}\n---\n"
    )
}

fn to(version: &str) -> String {
    format!("  route: [{{labels: {{version: {version}}}}}]")
}

#[test]
fn higher_precedence_comes_first_then_the_earlier_name() {
    let jason =
        "  match: {request: {headers: {cookie: {regex: \"^(.*?;)?(user=jason)(;.*)?$\"}}}}\n";
    let cases = [
        // Each with what jason and others get.
        (
            vec![
                rule("a", 1, &to("v1")),
                rule("b", 2, &(jason.to_owned() + &to("v2"))),
            ],
            "v2",
            "v1",
        ),
        (
            vec![
                rule("a", 2, &to("v1")),
                rule("b", 1, &(jason.to_owned() + &to("v2"))),
            ],
            "v1",
            "v1",
        ),
        (
            vec![rule("b", 1, &to("v3")), rule("a", 1, &to("v1"))],
            "v1",
            "v1",
        ),
        (
            vec![
                rule("a", -1, &to("v3")),
                rule("b", 0, &(jason.to_owned() + &to("v1"))),
            ],
            "v1",
            "v3",
        ),
        (
            vec![rule("a", 0, &(jason.to_owned() + &to("v2")))],
            "v2",
            "",
        ),
    ];
    for (rules, for_jason, for_others) in cases {
        let objects = valid(&rules.concat());
        let told = resources(&objects, "productpage-v1");
        let label = |version: &str| match version {
            "" => " reviews.default.svc.cluster.local".to_owned(),
            version => format!("version={version} reviews.default.svc.cluster.local"),
        };
        let cookie = [("cookie", "a=b;user=jason;c=d")];
        let of_jason = version(&told, &get("reviews:9080", "/", &cookie));
        assert_eq!(of_jason, label(for_jason), "{rules:?}");
        let of_others = version(
            &told,
            &get("reviews:9080", "/", &[("cookie", "user=jasper")]),
        );
        assert_eq!(of_others, label(for_others), "{rules:?}");
    }
}

#[test]
fn sources_are_told_by_service_and_labels() {
    let text = [
        rule(
            "a",
            3,
            &format!("  match: {{source: {{name: productpage}}}}\n{}", to("v1")),
        ),
        rule(
            "b",
            2,
            &format!(
                "  match: {{source: {{name: ratings, labels: {{version: v2}}}}}}\n{}",
                to("v2")
            ),
        ),
        rule("c", 1, &to("v3")),
    ];
    let objects = valid(&text.concat());
    for (caller, want) in [
        ("productpage-v1", "v1"),
        ("ratings-v2", "v2"),
        ("ratings-v1", "v3"),
        ("details-v1", "v3"),
    ] {
        let told = resources(&objects, caller);
        let found = version(&told, &get("reviews:9080", "/", &[]));
        assert_eq!(
            found,
            format!("version={want} reviews.default.svc.cluster.local"),
            "{caller}"
        );
    }
}

#[test]
fn weights_defaults_and_what_a_rule_says() {
    let text = rule(
        "a",
        1,
        "  match: {request: {headers: {uri: {prefix: /api}, x-a: {exact: \"\"}}}}\n  route:\n  - {labels: {version: v1}, weight: 75}\n  - {labels: {version: v3}, weight: 25}\n  rewrite: {uri: /v2, authority: other}\n  httpReqTimeout: {simpleTimeout: {timeout: 2.5s}}\n  httpReqRetries: {simpleRetry: {attempts: 3, perTryTimeout: 1s}}\n  httpFault: {delay: {percent: 10.9, fixedDelay: 7s}, abort: {percent: 5, httpStatus: 555}}",
    );
    let told = resources(&valid(&text), "productpage-v1");
    let request = get("reviews.default:9080", "/api/x?q", &[("x-a", "anything")]);
    let host = "reviews.default.svc.cluster.local";
    let want = [
        (format!("outbound|9080|version=v1|{host}"), 75),
        (format!("outbound|9080|version=v3|{host}"), 25),
    ];
    assert_eq!(clusters(&told, &request), want);
    let answer = explain(&told, &request);
    let upstream = answer.upstream.unwrap();
    assert_eq!(
        (&*upstream.authority, &*upstream.path),
        ("other", "/v2/x?q")
    );
    let route = answer.matched.unwrap();
    assert_eq!(&*route.name, "a");
    let RouteAction::Forward(forward) = &route.action else {
        panic!("it is sent on");
    };
    assert_eq!(forward.timeout, Some(Nanos::from_millis(2500)));
    let retry = forward.retry.as_ref().unwrap();
    let on = RetryOn::FIVE_XX | RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM;
    assert_eq!((retry.num_retries, retry.retry_on), (3, on));
    assert_eq!(retry.per_try_timeout, Some(Nanos::from_secs(1)));
    let fault = route.fault.as_ref().unwrap();
    assert_eq!(fault.delay.as_ref().unwrap().fraction_ppm, 100_000);
    assert_eq!(fault.abort.as_ref().unwrap().status, 555);
    // The default at the end.
    let answer = explain(&told, &get("reviews:9080", "/api", &[]));
    assert_eq!(&*answer.clusters[0].name, format!("outbound|9080||{host}"));
    let route = answer.matched.unwrap();
    let RouteAction::Forward(forward) = &route.action else {
        panic!("it is sent on");
    };
    assert_eq!(
        (forward.timeout, &forward.retry),
        (Some(Nanos::from_secs(15)), &None)
    );
}

#[test]
fn a_redirect() {
    let text = rule("a", 1, "  redirect: {uri: /new, authority: elsewhere}");
    let told = resources(&valid(&text), "productpage-v1");
    let answer = explain(&told, &get("reviews:9080", "/old", &[]));
    assert_eq!(
        (answer.action, answer.status),
        (Action::Redirect, Some(301))
    );
    let location = answer
        .response_headers
        .iter()
        .find(|(name, _)| &**name == "location");
    assert_eq!(location.unwrap().1, "http://elsewhere/new");
}

#[test]
fn a_policy_is_for_exactly_the_labels_that_are_routed_to() {
    let text = rule("a", 1, "  route: [{labels: {version: v1}, weight: 50}, {labels: {version: v2}, weight: 50}]")
        + "apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: one}
spec:
  destination: {name: reviews, labels: {version: v1}}
  loadBalancing: {name: RANDOM}
  circuitBreaker:
    simpleCb: {maxConnections: 100, httpMaxPendingRequests: 7, httpMaxRequestsPerConnection: 9, httpConsecutiveErrors: 3, sleepWindow: 15m, httpDetectionInterval: 5s}
";
    let objects = valid(&text);
    let told = resources(&objects, "productpage-v1");
    let cluster = |labels: &str| {
        let name = format!("outbound|9080|{labels}|reviews.default.svc.cluster.local");
        told.clusters
            .iter()
            .find(|cluster| *cluster.name == *name)
            .unwrap()
    };
    let one = cluster("version=v1");
    assert_eq!(one.lb_policy, LbPolicy::Random);
    let limits = &one.circuit_breakers;
    let all = (
        limits.max_connections,
        limits.max_pending_requests,
        limits.max_requests,
        limits.max_retries,
    );
    assert_eq!(all, (100, 7, 1024, 3));
    assert_eq!(one.max_requests_per_connection, 9);
    let outliers = one.outlier_detection.as_ref().unwrap();
    assert_eq!(
        (outliers.consecutive_5xx, outliers.max_ejection_percent),
        (3, 10)
    );
    assert_eq!(outliers.base_ejection_time, Nanos::from_secs(900));
    for labels in ["version=v2", ""] {
        let other = cluster(labels);
        assert_eq!(other.lb_policy, LbPolicy::RoundRobin, "{labels}");
        assert_eq!(other.circuit_breakers.max_connections, 1024, "{labels}");
        assert_eq!(other.outlier_detection, None, "{labels}");
    }
}

#[test]
fn hosts_outside_the_mesh_need_a_rule() {
    let text = "apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: httpbin}
spec:
  destination: {service: \"*.example.com\"}
  ports: [{port: 80, protocol: http}, {port: 443, protocol: https}]
";
    let mut objects = valid(text);
    objects.set_data_plane(DataPlane::Envoy2017);
    let told = resources(&objects, "productpage-v1");
    for (request, want) in [
        (
            get("a.example.com", "/", &[]),
            Some("outbound|80||*.example.com"),
        ),
        (
            get("a.example.com:443", "/", &[]),
            Some("outbound|443||*.example.com"),
        ),
        (get("example.org", "/", &[]), None),
    ] {
        let answer = explain(&told, &request);
        let found = answer.clusters.first().map(|share| share.name.to_string());
        assert_eq!(found.as_deref(), want, "{}", request.authority);
        assert_eq!(answer.status, want.is_none().then_some(404));
    }
    let cluster = |name: &str| {
        told.clusters
            .iter()
            .find(|cluster| &*cluster.name == name)
            .unwrap()
    };
    let plain = cluster("outbound|80||*.example.com");
    assert_eq!(plain.transport, Transport::Plaintext);
    assert!(matches!(plain.discovery, Discovery::OriginalDst { .. }));
    let encrypted = cluster("outbound|443||*.example.com");
    assert_eq!(encrypted.transport, Transport::Tls { sni: None });
}

#[test]
fn a_mesh_of_2017_has_its_defaults_for_hosts_without_rules() {
    let mut objects = valid("");
    let request = get("details:9080", "/", &[]);
    let timeout = |told| {
        let answer = explain(&told, &request);
        match &answer.matched.unwrap().action {
            RouteAction::Forward(forward) => (forward.timeout, forward.retry.is_some()),
            _ => panic!("it is sent on"),
        }
    };
    assert_eq!(timeout(resources(&objects, "productpage-v1")), (None, true));
    objects.set_data_plane(DataPlane::Envoy2017);
    let told = resources(&objects, "productpage-v1");
    assert_eq!(timeout(told), (Some(Nanos::from_secs(15)), false));
    objects.set_data_plane(DataPlane::Linkerd111);
    assert_eq!(
        timeout(resources(&objects, "productpage-v1")),
        (None, false)
    );
}

#[test]
fn at_the_ingress_the_rules_of_the_service_hold() {
    let text = rule(
        "a",
        2,
        &format!(
            "  match: {{request: {{headers: {{cookie: {{exact: jason}}}}}}}}\n{}",
            to("v2")
        ),
    ) + &rule("b", 1, &to("v1"))
        + "apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: gateway, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - http:
      paths:
      - {path: /reviews.*, backend: {serviceName: reviews, servicePort: 9080}}
      - {path: /details, backend: {serviceName: details, servicePort: http}}
";
    for (data_plane, proxy) in [
        (None, "istio-system/ingressgateway"),
        (Some(DataPlane::Envoy2017), "istio-system/ingress"),
    ] {
        let mut objects = valid(&text);
        if let Some(data_plane) = data_plane {
            objects.set_data_plane(data_plane);
        }
        let told = resources(&objects, proxy);
        let ask = |path: &str, cookie: &str| {
            version(&told, &get("any.example", path, &[("cookie", cookie)]))
        };
        assert_eq!(
            ask("/reviews/0", "jason"),
            "version=v2 reviews.default.svc.cluster.local"
        );
        assert_eq!(
            ask("/reviews/0", "x"),
            "version=v1 reviews.default.svc.cluster.local"
        );
        assert_eq!(
            ask("/details", "jason"),
            " details.default.svc.cluster.local"
        );
        let answer = explain(&told, &get("any.example", "/other", &[]));
        assert_eq!(answer.status, Some(404));
    }
}

#[test]
fn what_comes_to_nothing_is_said() {
    let text = rule("a", 2, &to("v1"))
        + &rule(
            "b",
            1,
            &format!(
                "  match: {{request: {{headers: {{method: {{exact: GET}}}}}}}}\n{}",
                to("v2")
            ),
        )
        + "apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: reviews}
spec:
  destination: {name: reviews, labels: {version: v7}}
  loadBalancing: {name: RANDOM}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
---
type: route-rule
name: nobody
spec: {destination: revews.default.svc.cluster.local}
";
    insta::assert_snapshot!(checked(&text, None));
}

#[test]
fn a_host_of_two_egress_rules_is_one_however_it_is_written() {
    let rule = |name: &str, host: &str| {
        format!(
            "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {{name: {name}}}\nspec: {{destination: {{service: {host}}}, ports: [{{port: 80, protocol: http}}]}}\n---\n"
        )
    };
    let text = rule("a", "A.example.com") + &rule("b", "a.example.com");
    let said = checked(&text, Some(DataPlane::Envoy2017));
    assert!(
        said.contains("EgressRule default/a is for the same host"),
        "{said}"
    );
}
