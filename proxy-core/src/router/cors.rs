//! The CORS filter: answers preflights and marks responses to requests of other origins.

use crate::head::{Headers, RequestHead, ResponseHead};
use crate::xds::CorsPolicy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the CORS filter does with a request that names its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cors {
    /// The answer to a preflight that is not forwarded.
    pub preflight: Option<Arc<ResponseHead>>,
    /// Set on the response, whoever makes it.
    pub response_headers: Headers,
}

/// `None`: nothing.
pub(super) fn cors(policy: &CorsPolicy, request: &RequestHead) -> Option<Cors> {
    let header = |name| {
        let value: &[u8] = request.headers.get(name).unwrap_or_default();
        (!value.is_empty()).then_some(value)
    };
    let origin = header("origin")?;
    let allowed = policy
        .allow_origins
        .iter()
        .any(|pattern| pattern.matches(b"*") || pattern.matches(origin));
    let mut response_headers = Headers::default();
    if allowed {
        response_headers.set("access-control-allow-origin".into(), origin);
        if policy.allow_credentials {
            response_headers.set("access-control-allow-credentials".into(), b"true");
        }
        if !policy.expose_headers.is_empty() {
            let exposed = policy.expose_headers.as_bytes();
            response_headers.set("access-control-expose-headers".into(), exposed);
        }
    }
    let asked = header("access-control-request-method").filter(|_| *request.method == *"OPTIONS");
    let answered = asked.filter(|_| allowed || !policy.forward_not_matching_preflights);
    let preflight = answered.map(|method| {
        let mut head = ResponseHead::of_status(200);
        let mut add = |name: &str, stated: &str, value: &[u8]| {
            if !stated.is_empty() {
                head.headers.set(name.into(), value);
            }
        };
        let credentials = if policy.allow_credentials { "true" } else { "" };
        let asked_headers = header("access-control-request-headers").unwrap_or_default();
        let methods = or_asked(&policy.allow_methods, method);
        let headers = or_asked(&policy.allow_headers, asked_headers);
        add("access-control-allow-credentials", credentials, b"true");
        add(
            "access-control-allow-methods",
            &policy.allow_methods,
            methods,
        );
        add(
            "access-control-allow-headers",
            &policy.allow_headers,
            headers,
        );
        add(
            "access-control-max-age",
            &policy.max_age,
            policy.max_age.as_bytes(),
        );
        // The filter sees its own answer pass, like any other.
        for (name, value) in &response_headers.0 {
            head.headers.set(Arc::clone(name), value.as_bytes());
        }
        Arc::new(head)
    });
    Some(Cors {
        preflight,
        response_headers,
    })
}

/// `*` grants what was asked for.
fn or_asked<'a>(allowed: &'a str, asked: &'a [u8]) -> &'a [u8] {
    match allowed {
        "*" => asked,
        stated => stated.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::StringMatch;

    fn request(method: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead {
            method: method.into(),
            scheme: "http".into(),
            authority: "shop".into(),
            path: "/".into(),
            headers: Headers::default(),
            id: None,
        };
        for (name, value) in headers {
            head.headers.append((*name).into(), value.as_bytes());
        }
        head
    }

    fn told(headers: &Headers) -> Vec<String> {
        let lines = headers.0.iter();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let lines = lines.map(|(name, value)| format!("{name}: {}", text(value.as_bytes())));
        lines.collect()
    }

    const ASKS: (&str, &str) = ("access-control-request-method", "PUT");
    const OWN: (&str, &str) = ("origin", "https://shop.example");
    const OTHER: (&str, &str) = ("origin", "https://elsewhere.example");

    fn policy() -> CorsPolicy {
        CorsPolicy {
            allow_origins: vec![StringMatch::Exact("https://shop.example".into())],
            allow_methods: "*".into(),
            allow_headers: "x-one,x-two".into(),
            expose_headers: "x-out".into(),
            max_age: "86400".into(),
            allow_credentials: true,
            forward_not_matching_preflights: true,
        }
    }

    #[test]
    fn preflights_of_allowed_origins_are_answered() {
        let answer = cors(&policy(), &request("OPTIONS", &[OWN, ASKS])).expect("has an origin");
        assert_eq!(
            told(&answer.preflight.expect("is a preflight").headers),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-methods: PUT",
                "access-control-allow-headers: x-one,x-two",
                "access-control-max-age: 86400",
                "access-control-allow-origin: https://shop.example",
                "access-control-expose-headers: x-out",
            ]
        );
    }

    #[test]
    fn other_requests_of_allowed_origins_have_marked_responses() {
        for (method, headers) in [("PUT", &[OWN, ASKS][..]), ("OPTIONS", &[OWN])] {
            let answer = cors(&policy(), &request(method, headers)).expect("has an origin");
            assert_eq!(answer.preflight, None);
            assert_eq!(
                told(&answer.response_headers),
                [
                    "access-control-allow-origin: https://shop.example",
                    "access-control-allow-credentials: true",
                    "access-control-expose-headers: x-out",
                ]
            );
        }
    }

    #[test]
    fn preflights_of_other_origins_are_forwarded_unless_told_otherwise() {
        let preflight = request("OPTIONS", &[OTHER, ASKS]);
        let answer = cors(&policy(), &preflight).expect("has an origin");
        assert_eq!(
            (answer.preflight, told(&answer.response_headers).len()),
            (None, 0)
        );
        let ignoring = CorsPolicy {
            forward_not_matching_preflights: false,
            ..policy()
        };
        let answer = cors(&ignoring, &preflight).expect("has an origin");
        let told = told(&answer.preflight.expect("is answered").headers);
        assert!(
            !told.iter().any(|line| line.contains("allow-origin")),
            "{told:?}"
        );
    }

    #[test]
    fn a_pattern_that_takes_a_star_takes_every_origin() {
        let any = CorsPolicy {
            allow_origins: vec![StringMatch::Exact("*".into())],
            ..policy()
        };
        let answer = cors(&any, &request("GET", &[OTHER])).expect("has an origin");
        assert_eq!(told(&answer.response_headers).len(), 3);
        assert_eq!(cors(&any, &request("GET", &[])), None);
        assert_eq!(cors(&any, &request("GET", &[("origin", "")])), None);
    }
}
