//! Who is let in: policies and requests, and what `explain` says of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use control_plane::{
    ControlPlane, Explanation, Objects, PushSettings, Request, RequestProtocol, RequestTls, explain,
};
use source::SourceFile;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.8.0.1
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 3306}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web, containers: [{name: app}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: front-0, namespace: shop, labels: {security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: front, containers: [{name: app}]}
status: {podIP: 10.9.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: job-0, namespace: batch}
spec: {serviceAccountName: job, containers: [{name: app}]}
status: {podIP: 10.9.0.3}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, namespace: istio-system, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.9.0.9}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  gateways: [istio-system/edge]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
";

/// A policy of the kind with that spec, in the namespace.
fn policy(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}"
    )
}

fn allow(spec: &str) -> String {
    policy("AuthorizationPolicy", "shop", "allow", spec)
}

fn deny(spec: &str) -> String {
    let spec = spec.replacen('{', "{action: DENY, ", 1);
    policy("AuthorizationPolicy", "shop", "deny", &spec)
}

/// What the proxy of `to` makes of a request from the pod called `from`.
fn ask(policies: &[String], to: &str, from: &str, request: &Request) -> Explanation {
    let text = format!("{MESH}\n---\n{}", policies.join("\n---\n"));
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("mesh.yaml", &text), &mut diagnostics);
    let errors = diagnostics
        .iter()
        .filter(|d| d.level == source::Level::Error);
    assert_eq!(errors.count(), 0, "{}", source::render(&diagnostics, false));
    let proxy = objects.proxy(to).unwrap();
    let mut request = request.clone();
    request.come_from(&objects.pod(from).unwrap(), &proxy);
    request.resolve(&objects, &proxy);
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods);
    explain(&plane.resources(&proxy), &request)
}

fn get(url: &str) -> Request {
    Request::to_url(url).unwrap()
}

fn with(request: &Request, header: &str) -> Request {
    let mut request = request.clone();
    request.add_header(header).unwrap();
    request
}

/// 200 if it is forwarded.
fn status(policies: &[String], from: &str, request: &Request) -> u16 {
    let answer = ask(policies, "shop/web-0", from, request);
    match answer.status {
        Some(status) => status,
        None if answer.clusters.is_empty() => 0,
        None => 200,
    }
}

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
    let ask = |url| ask(&policies, "istio-system/edge-0", "job-0", &get(url)).status;
    assert_eq!(ask("http://web.example/admin"), Some(403));
    assert_eq!(ask("http://web.example/"), None);
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

#[test]
fn tokens_are_taken_at_their_word() {
    let rule = "{jwtRules: [{issuer: https://issuer.test, audiences: [shop]}]}";
    let tokens = policy("RequestAuthentication", "shop", "tokens", rule);
    let request = get("http://web.shop:8080/");
    let of = |claims: &str| with(&request, &format!("authorization: Bearer {claims}"));
    let good = of(
        r#"{"iss": "https://issuer.test", "sub": "ann", "aud": "shop", "scope": "read write", "org": {"team": ["a", "b"]}}"#,
    );
    let only_tokens = [tokens.clone()];
    assert_eq!(status(&only_tokens, "job-0", &request), 200);
    assert_eq!(status(&only_tokens, "job-0", &good), 200);
    assert_eq!(
        status(
            &only_tokens,
            "job-0",
            &of(r#"{"iss": "https://other.test"}"#)
        ),
        401
    );
    assert_eq!(
        status(
            &only_tokens,
            "job-0",
            &of(r#"{"iss": "https://issuer.test"}"#)
        ),
        403
    );
    assert_eq!(status(&only_tokens, "job-0", &of("abc")), 401);
    let source = |source: &str| {
        allow(&format!(
            "{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}"
        ))
    };
    let when = |when: &str| allow(&format!("{{rules: [{{when: [{{{when}}}]}}]}}"));
    for (policy, want) in [
        (source("requestPrincipals: ['*']"), 200),
        (
            source("requestPrincipals: ['https://issuer.test/ann']"),
            200,
        ),
        (source("requestPrincipals: ['https://issuer.test/*']"), 200),
        (source("requestPrincipals: ['*/ann']"), 200),
        (source("requestPrincipals: ['*/bob']"), 403),
        (source("requestPrincipals: ['https://*']"), 403),
        (source("notRequestPrincipals: ['*']"), 403),
        (
            when("key: request.auth.principal, values: ['https://issuer.test/a*']"),
            200,
        ),
        (when("key: request.auth.audiences, values: [shop]"), 200),
        (
            when("key: 'request.auth.claims[scope]', values: [read]"),
            200,
        ),
        (
            when("key: 'request.auth.claims[scope]', values: ['read write']"),
            403,
        ),
        (
            when("key: 'request.auth.claims[org][team]', values: [b]"),
            200,
        ),
        (
            when("key: 'request.auth.claims[org][team]', notValues: [b]"),
            403,
        ),
        (when("key: request.auth.presenter, values: ['*']"), 403),
    ] {
        let policies = [tokens.clone(), policy];
        assert_eq!(status(&policies, "job-0", &good), want, "{policies:?}");
    }
    let nobody = [tokens, source("requestPrincipals: ['*']")];
    assert_eq!(status(&nobody, "job-0", &request), 403);
    let upstream = ask(&only_tokens, "shop/web-0", "job-0", &good)
        .upstream
        .unwrap();
    assert!(upstream.headers.get("authorization").is_none());
}

#[test]
fn what_secures_a_connection_has_to_fit() {
    let request = get("http://web.shop:8080/");
    let mode = |mode: &str| {
        policy(
            "PeerAuthentication",
            "shop",
            "mode",
            &format!("{{mtls: {{mode: {mode}}}}}"),
        )
    };
    let asked = |mode_of: &str, tls: RequestTls, protocol: RequestProtocol| {
        let port = if protocol == RequestProtocol::Tcp {
            3306
        } else {
            8080
        };
        let request = Request {
            tls,
            protocol,
            ..get(&format!("http://web.shop:{port}/"))
        };
        let answer = ask(&[mode(mode_of)], "shop/web-0", "job-0", &request);
        let ended = match (&answer.details, answer.clusters.is_empty()) {
            (None, false) => "forwarded".to_owned(),
            (details, _) => details.as_deref().unwrap_or("closed").to_owned(),
        };
        (ended, answer.trail)
    };
    use RequestProtocol::{Http, Tcp};
    use RequestTls::{Mtls, None as Plain, Tls};
    for (mode, tls, protocol, want) in [
        ("PERMISSIVE", Plain, Http, "forwarded"),
        ("PERMISSIVE", Mtls, Http, "forwarded"),
        ("PERMISSIVE", Tls, Http, "filter_chain_not_found"),
        ("PERMISSIVE", Tls, Tcp, "forwarded"),
        ("STRICT", Plain, Http, "filter_chain_not_found"),
        ("STRICT", Plain, Tcp, "filter_chain_not_found"),
        ("STRICT", Mtls, Http, "forwarded"),
        ("STRICT", Mtls, Tcp, "forwarded"),
        ("DISABLE", Plain, Http, "forwarded"),
        ("DISABLE", Mtls, Http, "http1.codec_error"),
        ("DISABLE", Mtls, Tcp, "forwarded"),
    ] {
        let (ended, trail) = asked(mode, tls, protocol);
        assert_eq!(ended, want, "{mode} {tls:?} {protocol:?}: {trail:?}");
    }
    let said = asked("STRICT", Plain, Http).1.join("; ");
    assert!(
        said.contains("plain text comes where mutual TLS is all that is taken"),
        "{said}"
    );
    let said = asked("PERMISSIVE", Tls, Http).1.join("; ");
    assert!(
        said.contains("TLS that is not Istio's comes where plain text and mutual TLS are taken"),
        "{said}"
    );
    let said = asked("DISABLE", Mtls, Http).1.join("; ");
    assert!(
        said.contains("mutual TLS, which does not end here"),
        "{said}"
    );
    assert_eq!(status(&[], "front-0", &request), 200);
}

#[test]
fn the_narrowest_mode_holds() {
    let of = |namespace: &str, name: &str, spec: &str| {
        policy("PeerAuthentication", namespace, name, spec)
    };
    let whole = |namespace: &str, mode: &str| {
        of(namespace, "whole", &format!("{{mtls: {{mode: {mode}}}}}"))
    };
    let own = |rest: &str| {
        of(
            "shop",
            "own",
            &format!("{{selector: {{matchLabels: {{app: web}}}}, {rest}}}"),
        )
    };
    let plain = get("http://web.shop:8080/");
    for (policies, want) in [
        (vec![whole("istio-system", "STRICT")], 0),
        (
            vec![whole("istio-system", "STRICT"), whole("shop", "PERMISSIVE")],
            200,
        ),
        (
            vec![whole("istio-system", "STRICT"), whole("shop", "UNSET")],
            0,
        ),
        (
            vec![whole("shop", "STRICT"), own("mtls: {mode: DISABLE}")],
            200,
        ),
        (vec![whole("shop", "STRICT"), own("mtls: {mode: UNSET}")], 0),
        (
            vec![
                whole("shop", "PERMISSIVE"),
                own("portLevelMtls: {8080: {mode: STRICT}}"),
            ],
            0,
        ),
        // Ports are those of the workload, not of its Services.
        (
            vec![
                whole("shop", "PERMISSIVE"),
                own("portLevelMtls: {80: {mode: STRICT}}"),
            ],
            200,
        ),
        (
            vec![
                whole("shop", "STRICT"),
                own("portLevelMtls: {8080: {mode: UNSET}}"),
            ],
            0,
        ),
        (
            vec![own(
                "mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}",
            )],
            200,
        ),
        (
            vec![of(
                "istio-system",
                "own",
                "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}",
            )],
            200,
        ),
        (vec![of("batch", "whole", "{mtls: {mode: STRICT}}")], 200),
    ] {
        assert_eq!(status(&policies, "job-0", &plain), want, "{policies:?}");
    }
}

#[test]
fn gateways_route_by_claims() {
    let tokens = policy(
        "RequestAuthentication",
        "istio-system",
        "tokens",
        "{jwtRules: [{issuer: issuer.test}]}",
    );
    let routes = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: by-claim, namespace: shop}
spec:
  hosts: [claims.example]
  gateways: [istio-system/edge]
  http:
  - match: [{headers: {'@request.auth.claims.team': {exact: blue}}}]
    directResponse: {status: 201}
  - match: [{withoutHeaders: {'@request.auth.claims[org][role]': {prefix: adm}}}]
    directResponse: {status: 202}
  - directResponse: {status: 203}";
    let policies = [tokens, routes.to_owned()];
    for (claims, want) in [
        (r#"{"iss": "issuer.test", "team": "blue"}"#, 201),
        (r#"{"iss": "issuer.test", "team": ["red", "blue"]}"#, 201),
        (r#"{"iss": "issuer.test", "org": {"role": "user"}}"#, 202),
        (r#"{"iss": "issuer.test", "org": {"role": "admin"}}"#, 203),
        ("", 202),
        (r#"{"iss": "other.test", "team": "blue"}"#, 401),
    ] {
        let mut request = get("http://claims.example/");
        if !claims.is_empty() {
            request = with(&request, &format!("authorization: Bearer {claims}"));
        }
        let answer = ask(&policies, "istio-system/edge-0", "job-0", &request);
        assert_eq!(answer.status, Some(want), "{claims}");
    }
}
