//! AuthorizationPolicy.

use super::{MESH, allow, ask, deny, get, policy, status};
use control_plane::{Request, RequestProtocol};

#[test]
fn who_may_ask_what() {
    let request = get("http://web.shop:8080/api/v1?q=1");
    let from_front = "from: [{source: {principals: [cluster.local/ns/shop/sa/front]}}]";
    for (policies, from, want) in [
        (vec![], "job-0", 200),
        (vec![allow("{}")], "front-0", 403),
        (vec![allow("{rules: [{}]}")], "job-0", 200),
        (vec![deny("{rules: [{}]}")], "front-0", 403),
        (
            vec![allow(&format!("{{rules: [{{{from_front}}}]}}"))],
            "front-0",
            200,
        ),
        (
            vec![allow(&format!("{{rules: [{{{from_front}}}]}}"))],
            "job-0",
            403,
        ),
        (
            vec![deny(&format!("{{rules: [{{{from_front}}}]}}"))],
            "front-0",
            403,
        ),
        (
            vec![deny(&format!("{{rules: [{{{from_front}}}]}}"))],
            "job-0",
            200,
        ),
        (
            vec![allow("{rules: [{from: [{source: {principals: ['*']}}]}]}")],
            "front-0",
            200,
        ),
        (
            vec![allow("{rules: [{from: [{source: {principals: ['*']}}]}]}")],
            "job-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {principals: ['*/sa/front']}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {principals: ['cluster.local/*']}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {notPrincipals: ['*']}}]}]}",
            )],
            "job-0",
            200,
        ),
        (
            vec![allow("{rules: [{from: [{source: {namespaces: [shop]}}]}]}")],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {namespaces: ['sh*']}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow("{rules: [{from: [{source: {namespaces: [sho]}}]}]}")],
            "front-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {serviceAccounts: [front]}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {serviceAccounts: [shop/front]}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {serviceAccounts: [batch/front]}}]}]}",
            )],
            "front-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {serviceAccounts: [fron]}}]}]}",
            )],
            "front-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {trustDomains: [cluster.local]}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {trustDomains: ['*.local']}}]}]}",
            )],
            "front-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {trustDomains: [cluster]}}]}]}",
            )],
            "front-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {ipBlocks: [10.9.0.3]}}]}]}",
            )],
            "job-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{from: [{source: {ipBlocks: [10.9.0.0/31]}}]}]}",
            )],
            "job-0",
            403,
        ),
        (
            vec![allow(
                "{rules: [{when: [{key: source.ip, notValues: [10.9.0.3]}]}]}",
            )],
            "job-0",
            403,
        ),
        (
            vec![allow("{rules: [{to: [{operation: {ports: ['8080']}}]}]}")],
            "job-0",
            200,
        ),
        (
            vec![allow("{rules: [{to: [{operation: {paths: [/api/v1]}}]}]}")],
            "job-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{to: [{operation: {paths: ['/{*}/v1']}}]}]}",
            )],
            "job-0",
            200,
        ),
        (
            vec![allow(
                "{rules: [{to: [{operation: {hosts: [WEB.shop:8080]}}]}]}",
            )],
            "job-0",
            200,
        ),
        (
            vec![allow("{rules: [{to: [{operation: {methods: [POST]}}]}]}")],
            "job-0",
            403,
        ),
        // Nothing is known of what other filters say.
        (
            vec![allow(
                "{rules: [{when: [{key: 'experimental.envoy.filters.x[y]', values: [z]}]}]}",
            )],
            "job-0",
            403,
        ),
        (
            vec![deny(
                "{rules: [{when: [{key: 'experimental.envoy.filters.x[y]', notValues: [z]}]}]}",
            )],
            "job-0",
            403,
        ),
        // One of `from`, one of `to`, and all of `when`.
        (
            vec![allow(
                "{rules: [{from: [{source: {namespaces: [x]}}, {source: {ipBlocks: [10.9.0.3]}}],\
                 to: [{operation: {methods: [POST]}}, {operation: {paths: ['/api*']}}],\
                 when: [{key: destination.port, values: ['8080']}]}]}",
            )],
            "job-0",
            200,
        ),
        // DENY goes before ALLOW.
        (
            vec![
                allow("{rules: [{}]}"),
                deny("{rules: [{to: [{operation: {paths: ['*v1']}}]}]}"),
            ],
            "front-0",
            403,
        ),
    ] {
        assert_eq!(
            status(&policies, from, &request),
            want,
            "{policies:?} {from}"
        );
    }
}

#[test]
fn for_whom_a_policy_is() {
    let request = get("http://web.shop:8080/");
    let of =
        |namespace: &str, spec: &str| vec![policy("AuthorizationPolicy", namespace, "some", spec)];
    let selector = |app: &str| format!("{{selector: {{matchLabels: {{app: {app}}}}}}}");
    for (policies, want) in [
        (of("shop", "{}"), 403),
        (of("batch", "{}"), 200),
        (of("istio-system", "{}"), 403),
        (of("shop", &selector("web")), 403),
        (of("shop", &selector("other")), 200),
        (of("istio-system", &selector("web")), 403),
        (of("istio-system", &selector("other")), 200),
        (
            of(
                "shop",
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}",
            ),
            200,
        ),
        (of("shop", "{action: AUDIT, rules: [{}]}"), 200),
    ] {
        assert_eq!(status(&policies, "front-0", &request), want, "{policies:?}");
    }
    let dry = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
               metadata: {name: dry, namespace: shop, annotations: {istio.io/dry-run: 'true'}}\n\
               spec: {}";
    assert_eq!(status(&[dry.to_owned()], "front-0", &request), 200);
}

#[test]
fn the_answer_names_policy_and_line() {
    let policies = [deny(
        "{rules: [{to: [{operation: {methods: [POST]}}]},\n{}]}",
    )];
    let answer = ask(
        &policies,
        "shop/web-0",
        "front-0",
        &get("http://web.shop:8080/"),
    );
    let details = "rbac_access_denied_matched_policy[ns[shop]-policy[deny]-rule[1]]";
    assert_eq!(
        (answer.status, answer.details.as_deref()),
        (Some(403), Some(details))
    );
    assert_eq!(answer.flags.len(), 0);
    let origin = &answer.config[0];
    let first = MESH.lines().count() as u32 + 3;
    assert_eq!((&*origin.name, origin.line), ("deny", first + 4));
    let said = answer.trail.last().unwrap();
    assert!(
        said.starts_with("denied by ns[shop]-policy[deny]-rule[1]"),
        "{said}"
    );
    let none = ask(
        &[allow("{}")],
        "shop/web-0",
        "front-0",
        &get("http://web.shop:8080/"),
    );
    assert_eq!(
        none.details.as_deref(),
        Some("rbac_access_denied_matched_policy[none]")
    );
    let said = none.trail.last().unwrap();
    assert!(
        said.contains("nothing allows it of AuthorizationPolicy shop/allow"),
        "{said}"
    );
}

#[test]
fn connections_have_no_method() {
    let tcp = Request {
        protocol: RequestProtocol::Tcp,
        ..get("http://web.shop:3306/")
    };
    for (policy, want) in [
        (allow("{rules: [{}]}"), 200),
        (
            allow("{rules: [{from: [{source: {namespaces: [shop]}}]}]}"),
            200,
        ),
        // A rule that asks for it allows nothing, and denies whatever else it says.
        (allow("{rules: [{to: [{operation: {methods: [GET]}}]}]}"), 0),
        (deny("{rules: [{to: [{operation: {methods: [GET]}}]}]}"), 0),
        (
            deny("{rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}"),
            200,
        ),
        (
            deny("{rules: [{from: [{source: {principals: ['*']}}]}]}"),
            0,
        ),
    ] {
        let policies = [policy];
        assert_eq!(status(&policies, "front-0", &tcp), want, "{policies:?}");
    }
    let answer = ask(&[deny("{rules: [{}]}")], "shop/web-0", "front-0", &tcp);
    let details = "rbac_access_denied_matched_policy[ns[shop]-policy[deny]-rule[0]]";
    assert_eq!(
        (answer.status, answer.details.as_deref()),
        (None, Some(details))
    );
}

#[test]
fn gateways_are_guarded_too() {
    let policies = [policy(
        "AuthorizationPolicy",
        "istio-system",
        "edge",
        "{selector: {matchLabels: {istio: edge}}, action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}",
    )];
    for from in ["job-0", "front-0"] {
        let ask = |url| ask(&policies, "istio-system/edge-0", from, &get(url)).status;
        assert_eq!(ask("http://web.example/admin"), Some(403));
        assert_eq!(ask("http://web.example/"), None);
    }
}

#[test]
fn nobody_answers_for_custom() {
    let spec =
        "{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/admin]}}]}]}";
    let policies = [policy("AuthorizationPolicy", "shop", "custom", spec)];
    let answer = ask(
        &policies,
        "shop/web-0",
        "front-0",
        &get("http://web.shop:8080/admin"),
    );
    let details = "rbac_access_denied_matched_policy[istio-ext-authz-opa-ns[shop]-policy[custom]-rule[0]-deny-due-to-bad-CUSTOM-action]";
    assert_eq!(answer.details.as_deref(), Some(details));
    assert_eq!(
        status(&policies, "front-0", &get("http://web.shop:8080/")),
        200
    );
}
