//! Hosts as Istio's analyzers read them.

/// What Services are called in full.
pub(crate) const DOMAIN: &str = "svc.cluster.local";

/// The host in full, if it is a short name.
pub(crate) fn full_host(host: &str, namespace: &str) -> String {
    match host.starts_with('*') || host.contains('.') {
        true => host.to_owned(),
        false => format!("{host}.{namespace}.{DOMAIN}"),
    }
}

/// Namespace and name that a host stands for: of a full host its own, else the host as written, in
/// `namespace`.
pub(crate) fn service_of<'h>(host: &'h str, namespace: &'h str) -> (&'h str, &'h str) {
    let parts = host
        .strip_suffix(".svc.cluster.local")
        .and_then(|rest| rest.rsplit_once('.'));
    match parts {
        Some((name, namespace)) if !name.is_empty() && !namespace.is_empty() => (namespace, name),
        _ => (namespace, host),
    }
}

/// Whether any host is meant by both; a leading `*` stands for any text.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) if one.len() < other.len() => other.ends_with(one),
        (Some(one), Some(other)) => one.ends_with(other),
        (Some(one), None) => other.ends_with(one),
        (None, Some(other)) => one.ends_with(other),
        (None, None) => one == other,
    }
}

/// Namespaces that something is visible in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope<'n> {
    Everywhere,
    Namespace(&'n str),
}

/// What an `exportTo` says for an object of `namespace`. Without one it is visible everywhere.
pub(crate) fn scopes<'n>(export_to: &[&'n str], namespace: &'n str) -> Vec<Scope<'n>> {
    if export_to.is_empty() || export_to.contains(&"*") {
        return vec![Scope::Everywhere];
    }
    let mut scopes: Vec<Scope<'n>> = export_to
        .iter()
        .map(|to| match *to {
            "." => Scope::Namespace(namespace),
            other => Scope::Namespace(other),
        })
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

/// `namespace/name`, or a name in `namespace`.
pub(crate) fn named<'n>(name: &'n str, namespace: &'n str) -> (&'n str, &'n str) {
    name.split_once('/').unwrap_or((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_full() {
        assert_eq!(full_host("web", "prod"), "web.prod.svc.cluster.local");
        assert_eq!(full_host("web.prod", "prod"), "web.prod");
        assert_eq!(full_host("*", "prod"), "*");
        assert_eq!(
            service_of("web.prod.svc.cluster.local", "x"),
            ("prod", "web")
        );
        assert_eq!(service_of("web.prod", "x"), ("x", "web.prod"));
        assert_eq!(service_of("web", "x"), ("x", "web"));
        assert_eq!(
            service_of(".svc.cluster.local", "x"),
            ("x", ".svc.cluster.local")
        );
    }

    #[test]
    fn hosts_that_overlap() {
        for (one, other, want) in [
            ("*", "a.com", true),
            ("*.com", "a.com", true),
            ("a.com", "*.com", true),
            ("*.a.com", "*.com", true),
            ("*.com", "*.a.com", true),
            ("*.org", "*.com", false),
            ("a.com", "b.com", false),
        ] {
            assert_eq!(overlap(one, other), want, "{one} {other}");
        }
    }

    #[test]
    fn scopes_of_export_to() {
        assert_eq!(scopes(&[], "x"), [Scope::Everywhere]);
        assert_eq!(scopes(&["a", "*"], "x"), [Scope::Everywhere]);
        let both = [Scope::Namespace("a"), Scope::Namespace("x")];
        assert_eq!(scopes(&[".", "a", "."], "x"), both);
    }
}
