//! What Envoy 1.40 answered to the same tokens, signed.

use super::*;
use crate::head::HeaderText;

const A: &str = "https://a.example";
const B: &str = "https://b.example";

fn provider(issuer: &str) -> JwtProvider {
    JwtProvider {
        issuer: issuer.into(),
        audiences: Vec::new(),
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        forward: false,
        forward_payload_header: None,
        claim_to_headers: Vec::new(),
        space_delimited_claims: vec!["permission".into(), "scope".into()],
        origin: None,
    }
}

fn token(claims: &Value) -> String {
    let part = |value: &str| URL_SAFE_NO_PAD.encode(value);
    let header = part(r#"{"alg":"HS256"}"#);
    format!(
        "{header}.{}.{}",
        part(&claims.to_string()),
        part("signature")
    )
}

fn head(path: &str, headers: &[(&str, &str)]) -> Arc<RequestHead> {
    let lines = headers.iter();
    let lines = lines.map(|(name, value)| ((*name).into(), HeaderText::new(value.as_bytes())));
    Arc::new(RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "a".into(),
        path: path.into(),
        headers: Headers(lines.collect()),
        id: None,
    })
}

/// `none`, `ok`, or what is wrong; and the head as it goes on.
fn ask(providers: &[JwtProvider], head: &Arc<RequestHead>) -> (String, Arc<RequestHead>) {
    let jwt = JwtAuthentication {
        providers: providers.to_vec(),
        clear_route_cache: false,
    };
    let (token, head) = jwt.authenticate(head);
    let text = match token {
        Token::Absent => "none".to_owned(),
        Token::Accepted(_) => "ok".to_owned(),
        Token::Refused(problem) => format!("{problem:?}"),
    };
    (text, head)
}

fn bearer(value: &str) -> String {
    format!("Bearer {value}")
}

#[test]
fn one_provider() {
    let one = [JwtProvider {
        audiences: vec!["x".into(), "https://y/".into()],
        ..provider(A)
    }];
    let of_a = token(&json!({"iss": A, "aud": "x"}));
    let of_b = token(&json!({"iss": B, "aud": "x"}));
    let header = |text: &str| format!("{}.e30.eA", URL_SAFE_NO_PAD.encode(text));
    let payload = |text: &str| {
        let alg = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        format!("{alg}.{}.eA", URL_SAFE_NO_PAD.encode(text))
    };
    for (text, want) in [
        (of_a.clone(), "ok"),
        (token(&json!({"iss": A, "aud": ["q", "y"]})), "ok"),
        (token(&json!({"iss": A, "aud": "z"})), "Audience"),
        (token(&json!({"iss": A})), "Audience"),
        (of_b.clone(), "UnknownIssuer"),
        (token(&json!({"aud": "x"})), "UnknownIssuer"),
        ("abc".to_owned(), "Malformed"),
        (format!("{of_a},{of_a}"), "Malformed"),
        (format!("{of_a} foo"), "Signature"),
        ("a.b.c".to_owned(), "HeaderEncoding"),
        (header("foo"), "HeaderJson"),
        (header("{}"), "Algorithm"),
        ("eyJhbGciOiJIUzI1NiJ9.!!!.x".to_owned(), "PayloadEncoding"),
        (payload("foo"), "PayloadJson"),
        (payload("[]"), "PayloadJson"),
        (payload(r#"{"iss":3}"#), "IssuerType"),
        (payload(r#"{"aud":3}"#), "AudienceType"),
        // Only here: the claims themselves.
        (json!({"iss": A, "aud": "x"}).to_string(), "ok"),
        ("{nonsense".to_owned(), "PayloadJson"),
    ] {
        let asked = head("/", &[("authorization", &bearer(&text))]);
        assert_eq!(ask(&one, &asked).0, want, "{text}");
    }
    let said = |path: &str, headers: &[(&str, &str)]| ask(&one, &head(path, headers)).0;
    assert_eq!(said("/", &[]), "none");
    assert_eq!(said("/", &[("authorization", "Basic abc")]), "none");
    assert_eq!(said("/", &[("authorization", "Bearer")]), "none");
    let (good, bad) = (bearer(&of_a), bearer(&of_b));
    assert_eq!(
        said("/", &[("authorization", &format!("foo {good}"))]),
        "ok"
    );
    assert_eq!(said(&format!("/?access_token={of_a}"), &[]), "ok");
    let both = format!("/?access_token={of_b}");
    assert_eq!(said(&both, &[("authorization", &good)]), "UnknownIssuer");
    let both = format!("/?access_token={of_a}");
    assert_eq!(said(&both, &[("authorization", &bad)]), "UnknownIssuer");
    let twice = [("authorization", &*good), ("authorization", &*good)];
    assert_eq!(said("/", &twice), "Malformed");
}

#[test]
fn several_providers() {
    let of = |issuer: &str| token(&json!({ "iss": issuer }));
    let asked = |providers: &[JwtProvider], headers: &[(&str, String)]| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, &**v)).collect();
        ask(providers, &head("/", &headers)).0
    };
    let one = |text: &str| [("authorization", bearer(text))];
    let both = [provider(A), provider(B)];
    assert_eq!(asked(&both, &[]), "none");
    assert_eq!(asked(&both, &one(&of(A))), "ok");
    assert_eq!(asked(&both, &one(&of(B))), "ok");
    assert_eq!(asked(&both, &one(&of("c"))), "UnknownIssuer");
    assert_eq!(asked(&both, &one("abc")), "Malformed");
    let strict = JwtProvider {
        audiences: vec!["x".into()],
        ..provider(A)
    };
    assert_eq!(asked(&[strict, provider(B)], &one(&of(A))), "Audience");
    let elsewhere = JwtProvider {
        from_headers: vec![("x-a".into(), "".into())],
        ..provider(A)
    };
    let apart = [elsewhere, provider(B)];
    for (a, b, want) in [
        (Some(of(A)), None, "ok"),
        (Some(of(A)), Some(of("c")), "ok"),
        (Some(of("c")), Some(of(B)), "ok"),
        (Some(of("c")), None, "UnknownIssuer"),
        (None, Some(of("c")), "UnknownIssuer"),
    ] {
        let a = a.map(|token| ("x-a", token));
        let b = b.map(|token| ("authorization", bearer(&token)));
        let headers: Vec<(&str, String)> = a.into_iter().chain(b).collect();
        assert_eq!(asked(&apart, &headers), want, "{headers:?}");
    }
}

#[test]
fn requests_are_told_of_their_tokens() {
    let named = |header: &str, claim: &str| (Name::from(header), Name::from(claim));
    let telling = [JwtProvider {
        claim_to_headers: vec![
            named("x-sub", "sub"),
            named("x-n", "n"),
            named("x-l", "l"),
            named("x-d", "d.e"),
            named("x-f", "f"),
            named("x-t", "t"),
        ],
        forward_payload_header: Some("x-payload".into()),
        ..provider(A)
    }];
    let claims = json!({
        "iss": A, "sub": "s", "n": 3, "l": ["a", 1], "d": {"e": "f"}, "f": 1.5, "t": true,
    });
    let text = bearer(&token(&claims));
    let (said, after) = ask(
        &telling,
        &head("/", &[("x-sub", "spoof"), ("authorization", &text)]),
    );
    assert_eq!(said, "ok");
    let lines: Vec<(&str, &str)> = after
        .headers
        .0
        .iter()
        .map(|(name, value)| (&**name, std::str::from_utf8(value.as_bytes()).unwrap()))
        .collect();
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let want = [
        ("x-sub", "s"),
        ("x-n", "3"),
        ("x-l", "WyJhIiwxXQ=="),
        ("x-d", "f"),
        ("x-f", "1.500000"),
        ("x-t", "true"),
        ("x-payload", &*payload),
    ];
    assert_eq!(lines, want);
    let (said, after) = ask(
        &telling,
        &head("/", &[("x-sub", "spoof"), ("x-payload", "p")]),
    );
    assert_eq!((&*said, after.headers.0.len()), ("none", 0));
    let keeping = [JwtProvider {
        forward: true,
        ..provider(A)
    }];
    let asked = head("/", &[("authorization", &text)]);
    assert_eq!(ask(&keeping, &asked).1, asked);
}

#[test]
fn cookies_parameters_and_preflights() {
    let elsewhere = [JwtProvider {
        from_cookies: vec!["c".into()],
        from_params: vec!["p".into()],
        ..provider(A)
    }];
    let good = token(&json!({ "iss": A }));
    let said = |path: &str, headers: &[(&str, &str)]| ask(&elsewhere, &head(path, headers)).0;
    assert_eq!(said("/", &[("cookie", &format!("a=b; c={good}"))]), "ok");
    assert_eq!(said("/", &[("cookie", "c=x")]), "Malformed");
    assert_eq!(said(&format!("/?q&p={good}"), &[]), "ok");
    assert_eq!(said("/", &[("authorization", "Bearer abc")]), "none");
    let mut preflight = (*head(
        "/",
        &[
            ("authorization", "Bearer abc"),
            ("origin", "http://o"),
            ("access-control-request-method", "GET"),
        ],
    ))
    .clone();
    preflight.method = "OPTIONS".into();
    assert_eq!(ask(&[provider(A)], &Arc::new(preflight)).0, "none");
}
