//! What names, hosts, addresses, labels and headers may look like (Istio `pkg/config/validation` and
//! `pkg/config/labels`). Every rule says why a text breaks it.

use super::Named;
use proxy_core::xds::Name;
use source::{Diagnostic, Span};
use std::net::IpAddr;

/// Why a text breaks a rule, if it does.
pub(crate) type Verdict = Result<(), String>;

/// Reports that the text at `span` is not `what`, and why.
pub(crate) fn demand(
    diagnostics: &mut Vec<Diagnostic>,
    (text, span): (&str, &Span),
    what: &str,
    verdict: Verdict,
) {
    if let Err(why) = verdict {
        diagnostics.push(Diagnostic::error(format!("`{text}` is not {what}")).at(span, why));
    }
}

/// The same of a name.
pub(crate) fn demand_of(
    diagnostics: &mut Vec<Diagnostic>,
    named: &Named,
    what: &str,
    verdict: Verdict,
) {
    demand(diagnostics, (&named.text, &named.span), what, verdict);
}

fn all(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(allowed)
}

/// Begins and ends with a letter or digit, and has only those and `inner` between.
fn is_edged(text: &str, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && all(text, |b| b.is_ascii_alphanumeric() || inner.contains(&b))
}

/// A label of DNS (RFC 1123), in any case.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_edged(text, b"-")
}

const DNS_LABEL: &str = "letters, digits and inner `-`, 63 at most";

/// A label of DNS, with the reason.
pub(crate) fn dns_label(text: &str) -> Verdict {
    match is_dns_label(text) {
        true => Ok(()),
        false => Err(DNS_LABEL.to_owned()),
    }
}

/// The first label of a host: `*`, `*x`, `*-x` or a plain one.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text.strip_prefix('*').map(|rest| {
        // `*-` may come before a label.
        rest.strip_prefix('-').unwrap_or(rest)
    });
    text.len() <= 63 && (text == "*" || is_dns_label(rest.unwrap_or(text)))
}

fn has_host_length(text: &str) -> Verdict {
    match text.len() {
        0 => Err("empty".to_owned()),
        1..=255 => Ok(()),
        length => Err(format!("{length} characters, 255 at most")),
    }
}

fn dns_labels(domain: &str) -> Verdict {
    let parts: Vec<&str> = domain.split('.').collect();
    let last = parts[parts.len() - 1];
    if last.parse::<i64>().is_ok() {
        return Err(format!("the last label, `{last}`, is a number"));
    }
    for (at, label) in parts.iter().enumerate() {
        let closing_dot = at + 1 == parts.len() && label.is_empty();
        if !closing_dot && !is_dns_label(label) {
            return Err(format!("`{label}` is no label: {DNS_LABEL}"));
        }
    }
    Ok(())
}

/// A host name without wildcard; short ones too.
pub(crate) fn host_name(text: &str) -> Verdict {
    has_host_length(text)?;
    dns_labels(text)
}

/// A host name, the first label of which may be a wildcard.
pub(crate) fn wildcard_host(text: &str) -> Verdict {
    has_host_length(text)?;
    let (first, rest) = match text.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    if !is_wildcard_label(first) {
        return Err(match first.contains('*') {
            true => format!("`*` stands at the beginning of a host only, not as in `{first}`"),
            false => format!("`{first}` is no label: {DNS_LABEL}"),
        });
    }
    match rest {
        Some(rest) if rest.contains('*') => Err("`*` stands for the first label only".to_owned()),
        Some(rest) => dns_labels(rest),
        None => Ok(()),
    }
}

/// The same where a name as `AUTO_PASSTHROUGH` makes it (`outbound_.PORT_._.HOST`) counts too.
pub(crate) fn gateway_bound_host(sni: bool, text: &str) -> Verdict {
    has_host_length(text)?;
    if !sni || !text.starts_with("outbound_") {
        return wildcard_host(text);
    }
    let parts: Vec<&str> = text.split('_').collect();
    let port = parts
        .get(1)
        .is_some_and(|p| p.contains(|c: char| c.is_ascii_digit()));
    let host = parts
        .get(3)
        .is_some_and(|h| h.contains(|c: char| c.is_ascii_alphabetic()));
    match port && host {
        true => Ok(()),
        false => Err("such names are `outbound_.PORT_._.HOST`".to_owned()),
    }
}

/// `*` as a part of the first label.
pub(crate) fn partial_wildcard(host: &str) -> Verdict {
    match host.contains('*') && host.len() != 1 && !host.starts_with("*.") {
        true => Err("`*` stands for a whole label".to_owned()),
        false => Ok(()),
    }
}

/// Where hosts are named as `NAMESPACE/HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostsOf {
    /// The namespace may be left out, and the host be an address.
    Gateway,
    /// The namespace may be excluded (`~NAMESPACE`).
    Sidecar,
}

/// A host of a Gateway's server or of a Sidecar's egress listener.
pub(crate) fn host_in_namespace(text: &str, of: HostsOf) -> Verdict {
    let (namespace, host) = match (text.split_once('/'), of) {
        (Some((namespace, host)), _) => (namespace, host),
        (None, HostsOf::Gateway) => ("*", text),
        (None, HostsOf::Sidecar) => return Err("such hosts are `NAMESPACE/HOST`".to_owned()),
    };
    if namespace.is_empty() || host.is_empty() {
        return Err("neither the namespace nor the host may be empty".to_owned());
    }
    let plain = match of {
        HostsOf::Gateway => namespace,
        HostsOf::Sidecar => namespace.strip_prefix('~').unwrap_or(namespace),
    };
    let excluding = of == HostsOf::Sidecar && plain.is_empty();
    if !excluding && !["*", "."].contains(&plain) && !is_dns_label(plain) {
        return Err(format!("`{namespace}` is no namespace"));
    }
    if host != "*" && !host.contains('.') {
        return Err("short names are not allowed: which namespace's?".to_owned());
    }
    if of == HostsOf::Sidecar || host.parse::<IpAddr>().is_err() {
        wildcard_host(host)?;
    }
    partial_wildcard(host)
}

/// An IP address.
pub(crate) fn ip_address(text: &str) -> Verdict {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err("not an IP address".to_owned()),
    }
}

/// Istio's names of protocols, in lower case.
pub(crate) const PROTOCOLS: [&str; 12] = [
    "http",
    "http2",
    "https",
    "http_proxy",
    "grpc",
    "grpc-web",
    "tls",
    "tcp",
    "udp",
    "mongo",
    "mysql",
    "redis",
];

/// A protocol, in any case.
pub(crate) fn is_protocol(text: &str) -> bool {
    PROTOCOLS.iter().any(|name| name.eq_ignore_ascii_case(text))
}

/// Whether requests of the protocol are routed one by one.
pub(crate) fn is_http_protocol(text: &str) -> bool {
    ["http", "http2", "http_proxy", "grpc", "grpc-web"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(text))
}

/// Whether connections of the protocol are encrypted.
pub(crate) fn is_tls_protocol(text: &str) -> bool {
    text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("tls")
}

/// A file or abstract name of a Unix domain socket: what follows `unix://`.
pub(crate) fn unix_socket(path: &str) -> Verdict {
    match path {
        "" => Err("the path is empty".to_owned()),
        _ if path.starts_with('@') => Ok(()),
        _ if path.starts_with('/') && !path.ends_with('/') => Ok(()),
        _ => Err("an absolute path to a file, or `@NAME`".to_owned()),
    }
}

/// The key of a Kubernetes label.
pub(crate) fn label_key(key: &str) -> Verdict {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.len() > 63 || !is_edged(name, b"-_.") {
        return Err(QUALIFIED.to_owned());
    }
    match prefix {
        Some(prefix) if prefix.len() > 253 || !prefix.split('.').all(|l| is_edged(l, b"-")) => {
            Err(format!("`{prefix}` is no DNS name"))
        }
        _ => Ok(()),
    }
}

const QUALIFIED: &str = "letters, digits and inner `-`, `_` and `.`, 63 at most";

/// The value of a Kubernetes label.
pub(crate) fn label_value(value: &str) -> Verdict {
    match value.is_empty() || is_edged(value, b"-_.") {
        true => Ok(()),
        false => Err(QUALIFIED.to_owned()),
    }
}

/// A character of a header's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_`|~".contains(&byte)
}

/// The name of a header.
pub(crate) fn header_name(name: &str) -> Verdict {
    match name.is_empty() || !all(name, is_token) {
        true => Err("letters, digits and `-`".to_owned()),
        false => Ok(()),
    }
}

/// What a rule matches by the name of a header: a claim of a token (`@request.auth.claims.NAME`) and
/// a pseudo header too.
pub(crate) fn matched_header(name: &str) -> Verdict {
    let pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
    match is_claim(name) || pseudo.contains(&name) {
        true => Ok(()),
        false => header_name(name),
    }
}

/// The claim that the name of a header stands for: `@request.auth.claims.a.b` or
/// `@request.auth.claims[a][b]`.
pub(crate) fn claim_path(name: &str) -> Option<Vec<Name>> {
    const CLAIMS: &str = "@request.auth.claims";
    let start = name.get(..CLAIMS.len())?;
    let rest = &name[CLAIMS.len()..];
    if !start.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let bracketed = rest
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let (keys, between) = match bracketed {
        Some(keys) => (keys, "]["),
        None => (rest.strip_prefix('.')?, "."),
    };
    let path = keys.split(between).map(Name::from).collect();
    (!keys.is_empty()).then_some(path)
}

/// Whether the name of a header stands for a claim.
pub(crate) fn is_claim(name: &str) -> bool {
    claim_path(name).is_some()
}

/// The authority, by either name.
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The name of a header that is set, added or removed; `authority`: that may be changed too.
pub(crate) fn changed_header(name: &str, authority: bool) -> Verdict {
    if name.is_empty() {
        return Err("a header has a name".to_owned());
    }
    match is_authority(name) {
        true if authority => Ok(()),
        true => Err("the authority can be set or added in requests only".to_owned()),
        false if name.starts_with(':') => Err("pseudo headers cannot be changed".to_owned()),
        false => Ok(()),
    }
}

/// The value of a header, with Envoy's `%VARIABLES%`.
pub(crate) fn header_value(value: &str) -> Verdict {
    if !all(value, |b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
        return Err("control characters".to_owned());
    }
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        if after.is_empty() {
            return Err("a `%` by itself is written `%%`".to_owned());
        }
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None => variable(after)?,
        };
    }
    Ok(())
}

/// What follows `NAME%`, `NAME(TEXT)%` or `NAME(["TEXT", ...])%`.
fn variable(text: &str) -> Result<&str, String> {
    let open = || format!("`%{text}` is not closed by a `%`; a `%` by itself is written `%%`");
    let at = text.find(['%', '(']).ok_or_else(open)?;
    let after = &text[at + 1..];
    if text.as_bytes()[at] == b'%' {
        return Ok(after);
    }
    let closed = arguments(after).ok_or_else(open)?.trim_start_matches(' ');
    closed.strip_prefix('%').ok_or_else(open)
}

/// What follows the arguments of a variable.
fn arguments(text: &str) -> Option<&str> {
    let inner = text.trim_start_matches(' ');
    let Some(mut rest) = inner.strip_prefix('[') else {
        // Escaped characters do not close it, and a quote ends a text as in a list.
        return match end_of_text(inner)? {
            (')', rest) => Some(rest),
            (_, rest) => after_text(rest),
        };
    };
    loop {
        rest = rest.trim_start_matches(' ').strip_prefix('"')?;
        match end_of_text(rest)? {
            (')', rest) => return Some(rest),
            (_, after) => rest = after.trim_start_matches(' '),
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after_text(rest),
        }
    }
}

/// `])`, with space between.
fn after_text(rest: &str) -> Option<&str> {
    let rest = rest.trim_start_matches(' ').strip_prefix(']')?;
    rest.trim_start_matches(' ').strip_prefix(')')
}

/// The `)` or `"` that ends a text, and what follows.
fn end_of_text(text: &str) -> Option<(char, &str)> {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()?),
            ')' | '"' => return Some((character, &text[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, good) in [
            ("reviews", true),
            ("foo.bar.", true),
            ("*", true),
            ("*.foo.com", true),
            ("*-a.foo.com", true),
            ("*a.foo.com", true),
            ("foo.*", false),
            ("f*o.com", false),
            ("foo_bar.com", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(wildcard_host(host).is_ok(), good, "{host}");
        }
        assert!(wildcard_host(&"a".repeat(256)).is_err());
        assert!(host_name("*.foo.com").is_err());
        let sidecar = |host| host_in_namespace(host, HostsOf::Sidecar).is_ok();
        assert!(sidecar("*/*") && sidecar("~/foo.com") && sidecar("~ns/*") && sidecar("./a.b"));
        assert!(!sidecar("a.b") && !sidecar("ns/a") && !sidecar("ns/*a.b") && !sidecar("/"));
        let gateway = |host| host_in_namespace(host, HostsOf::Gateway).is_ok();
        assert!(gateway("a.b") && gateway("10.0.0.1") && gateway("*") && gateway("ns/*.a.b"));
        assert!(!gateway("a") && !gateway("~/a.b"));
    }

    #[test]
    fn labels() {
        for (key, good) in [
            ("app", true),
            ("istio.io/rev", true),
            ("a_b.c-d", true),
            ("", false),
            ("a/b/c", false),
            ("-a", false),
            ("a.io/", false),
        ] {
            assert_eq!(label_key(key).is_ok(), good, "{key}");
        }
        assert!(label_value("").is_ok() && label_value("v1.2_3").is_ok());
        assert!(label_value("v1*").is_err() && label_value(".").is_err());
    }

    #[test]
    fn headers() {
        for (value, good) in [
            ("", true),
            ("100%% and more", true),
            ("%HOSTNAME%", true),
            ("a %REQ(X)% b %START_TIME%", true),
            ("%UPSTREAM_METADATA([\"ns\", \"key\"])%", true),
            ("%UPSTREAM_METADATA([\"ns\", \"key\"]%", false),
            ("%REQ(X%", false),
            ("abcd%oijasodifj", false),
            ("100%", false),
            ("a\u{1}", false),
        ] {
            assert_eq!(header_value(value).is_ok(), good, "{value}");
        }
        assert!(
            matched_header(":path").is_ok() && matched_header("@request.auth.claims.sub").is_ok()
        );
        assert!(matched_header("@request.auth.claims").is_err() && matched_header("a b").is_err());
        assert!(is_claim("@request.auth.claims[a][b]") && !is_claim("@request.auth.claims[]"));
        assert!(changed_header("Host", true).is_ok() && changed_header("host", false).is_err());
    }
}
