//! Where webhooks find a control plane outside of the cluster (IST0163, IST0164).

use super::input::{Input, Report};
use crate::codes::{IST0163, IST0164};
use crate::documents::{Document, MUTATING_WEBHOOK, VALIDATING_WEBHOOK};
use crate::read::{items, present, text};
use source::Node;
use std::net::IpAddr;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let of_istio = |document: &&Document| match document.kind {
        VALIDATING_WEBHOOK => {
            document.name == "istiod-default-validator"
                || document.name.starts_with("istio-validator")
        }
        _ => document.name.starts_with("istio-sidecar-injector"),
    };
    for kind in [VALIDATING_WEBHOOK, MUTATING_WEBHOOK] {
        for document in input.of(kind).filter(of_istio) {
            for hook in items(&document.node, &["webhooks"]) {
                check(document, hook, report);
            }
        }
    }
}

fn check(document: &Document, hook: &Node, report: &mut Report<'_>) {
    let name = text(hook, &["name"]);
    let Some(url) = present(hook, &["clientConfig", "url"]) else {
        if present(hook, &["clientConfig", "service"]).is_none() {
            let place = hook.at(&["name"]).unwrap_or(hook);
            let diagnostic = IST0163
                .says(format!("webhook {name} calls nothing"))
                .at(&place.span, "neither a `url` nor a `service`");
            report.say_once(document, diagnostic);
        }
        return;
    };
    let written = url.as_scalar().unwrap_or_default();
    match host(written) {
        None => {
            let diagnostic = IST0163
                .says(format!(
                    "`{written}`, which webhook {name} calls, is no URL"
                ))
                .at(&url.span, "expected https://HOST:PORT/PATH");
            report.say_once(document, diagnostic);
        }
        Some(host) if host.parse::<IpAddr>().is_ok() => {
            let diagnostic = IST0164
                .says(format!("webhook {name} calls `{written}`, an IP address"))
                .at(&url.span, "its certificate has to be for the address")
                .help("in production, use the name of a host");
            report.say_once(document, diagnostic);
        }
        Some(_) => {}
    }
}

/// The host of a URL, empty where it has none; `None` if it is malformed.
fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if !scheme.contains('/') => (scheme, rest),
        _ => ("x", url),
    };
    let mut scheme = scheme.chars();
    let is_scheme = scheme.next().is_some_and(|c| c.is_ascii_alphabetic())
        && scheme.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme || url.chars().any(char::is_control) || !escapes_are_whole(url) {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return Some("");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => literal.split_once(']')?,
        None => match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        },
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_port = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}', '[', ']']);
    (is_port && is_host).then_some(host)
}

fn escapes_are_whole(url: &str) -> bool {
    let mut parts = url.split('%').skip(1);
    parts.all(|part| {
        let code = part.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_of_urls() {
        for (url, want) in [
            (
                "https://istiod.example.com:15017/inject",
                Some("istiod.example.com"),
            ),
            ("https://10.0.0.1:15017/inject", Some("10.0.0.1")),
            ("https://[::1]:15017/inject", Some("::1")),
            ("thisisnotaurl", Some("")),
            ("", Some("")),
            ("https://host:port/", None),
            ("https:///inject", Some("")),
            (":x", None),
            ("https://a%zz/", None),
            ("https://a b/", None),
        ] {
            assert_eq!(host(url), want, "{url}");
        }
    }
}
