//! RequestAuthentication.

use super::{allow, ask, get, policy, status, with};

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
