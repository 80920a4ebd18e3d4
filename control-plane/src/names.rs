//! Host names: short names, wildcards, references to gateways.

use proxy_core::xds::Name;
use std::cmp::Ordering;
use std::net::IpAddr;

/// The cluster's domain.
pub(crate) const DOMAIN: &str = "svc.cluster.local";

/// The host of a Kubernetes Service.
pub(crate) fn service_host(name: &str, namespace: &str) -> Name {
    format!("{name}.{namespace}.{DOMAIN}").into()
}

/// Name and namespace of the Kubernetes Service with that host.
pub(crate) fn service_of_host(host: &str) -> Option<(&str, &str)> {
    let service = host.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    service.split_once('.')
}

/// The full name of `host` as a rule of `namespace` means it: names without a dot are services of
/// that namespace, the rest is literal.
pub fn full_name(host: &str, namespace: &str) -> Name {
    let literal = host.contains('.') || host == "*" || host.parse::<IpAddr>().is_ok();
    match literal {
        true => host.to_ascii_lowercase().into(),
        false => service_host(&host.to_ascii_lowercase(), namespace),
    }
}

/// Whether `host` is a wildcard.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether every name of `host` is one of `pattern`.
pub(crate) fn is_within(host: &str, pattern: &str) -> bool {
    match (host.strip_prefix('*'), pattern.strip_prefix('*')) {
        (_, Some("")) => true,
        (None, None) => host == pattern,
        (None, Some(suffix)) => host.len() > suffix.len() && host.ends_with(suffix),
        (Some(host), Some(suffix)) => host.ends_with(suffix),
        (Some(_), None) => false,
    }
}

/// Whether some name is one of both.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

/// Most specific first: exact before wildcard, longer before shorter, then by the alphabet.
pub(crate) fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a)
        .cmp(&is_wildcard(b))
        .then(b.len().cmp(&a.len()))
        .then(a.cmp(b))
}

/// `NAMESPACE/NAME` of a gateway that a rule of `namespace` refers to; `mesh` stays.
pub(crate) fn gateway_name(text: &str, namespace: &str) -> Name {
    if text == "mesh" {
        return text.into();
    }
    match text.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}").into(),
        Some(_) => text.into(),
        None => match text.split('.').collect::<Vec<_>>()[..] {
            [name, in_namespace, "svc", ..] => format!("{in_namespace}/{name}").into(),
            _ => format!("{namespace}/{text}").into(),
        },
    }
}

/// Text as an expression.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_belong_to_the_rule() {
        assert_eq!(&*full_name("reviews", "a"), "reviews.a.svc.cluster.local");
        assert_eq!(&*full_name("reviews.b", "a"), "reviews.b");
        assert_eq!(&*full_name("*", "a"), "*");
        assert_eq!(&*full_name("10.0.0.1", "a"), "10.0.0.1");
    }

    #[test]
    fn wildcards_match_any_depth_but_not_nothing() {
        assert!(is_within("a.b.foo.com", "*.foo.com"));
        assert!(!is_within("foo.com", "*.foo.com"));
        assert!(is_within("*.a.foo.com", "*.foo.com"));
        assert!(!is_within("*.foo.com", "a.foo.com"));
        assert!(overlap("*.foo.com", "a.foo.com"));
        assert!(is_within("*", "*"));
        let mut hosts = ["*", "a.com", "*.foo.com", "b.a.com", "*.a.foo.com"];
        hosts.sort_by(|a, b| by_specificity(a, b));
        assert_eq!(hosts, ["b.a.com", "a.com", "*.a.foo.com", "*.foo.com", "*"]);
    }

    #[test]
    fn gateways_by_name() {
        for (text, want) in [
            ("mesh", "mesh"),
            ("g", "ns/g"),
            ("./g", "ns/g"),
            ("other/g", "other/g"),
            ("g.other.svc.cluster.local", "other/g"),
        ] {
            assert_eq!(&*gateway_name(text, "ns"), want);
        }
    }
}
