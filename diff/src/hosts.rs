//! Classes of hosts that the domains of route tables tell apart, before and after.

use proxy_core::xds::{Name, Regex, RouteTable, VirtualHost};
use request_set::Authorities;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Hosts that the same virtual hosts take.
#[derive(Clone, Debug)]
pub(crate) struct Class<'t> {
    /// One of them, as a client writes it, without port.
    pub(crate) host: String,
    pub(crate) old: Option<&'t VirtualHost>,
    pub(crate) new: Option<&'t VirtualHost>,
    /// An expression for all of them, and some that others take.
    pub(crate) pattern: String,
}

impl Class<'_> {
    /// Whether its hosts have addresses, and none of them is `ip`.
    pub(crate) fn is_at_other_addresses(&self, ip: IpAddr) -> bool {
        let hosts = [self.old, self.new].into_iter().flatten();
        let domains = hosts.flat_map(|host| &host.domains);
        let mut addresses = domains.filter_map(|domain| of_address(domain)).peekable();
        addresses.peek().is_some() && addresses.all(|address| address != ip)
    }

    /// Every way in which clients may name its hosts, where that counts; `preferred` is one.
    pub(crate) fn authorities(&self, preferred: &Name) -> Authorities {
        // Virtual hosts ignore case, routes do not.
        match Regex::new(&format!("(?i:{})(?::[0-9]+)?", self.pattern)) {
            Ok(pattern) => Authorities::Matching(pattern, vec![preferred.clone()]),
            Err(_) => Authorities::OneOf(vec![preferred.clone()]),
        }
    }
}

/// So many pairs of a domain that begins with a wildcard and one that ends with one are looked at.
const PAIRS_MAX: usize = 1000;

/// Every class; `None`: a side that does not look at hosts.
pub(crate) fn classes<'t>(
    old: Option<&'t RouteTable>,
    new: Option<&'t RouteTable>,
) -> Vec<Class<'t>> {
    let mut found: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut classes: Vec<Class<'t>> = Vec::new();
    for class in each_host(old, new) {
        let key = (address(class.old), address(class.new));
        match found.get(&key) {
            None => {
                found.insert(key, classes.len());
                classes.push(class);
            }
            Some(&at) if readability(&class.host) < readability(&classes[at].host) => {
                classes[at] = class;
            }
            Some(_) => {}
        }
    }
    classes
}

/// The class of every single domain, where routes ask for more of a host than its virtual host.
pub(crate) fn each_host<'t>(
    old: Option<&'t RouteTable>,
    new: Option<&'t RouteTable>,
) -> Vec<Class<'t>> {
    let hosts = candidates(old, new).into_iter();
    hosts
        .map(|(host, pattern)| Class {
            old: taken(old, &host),
            new: taken(new, &host),
            host,
            pattern,
        })
        .collect()
}

fn taken<'t>(table: Option<&'t RouteTable>, host: &str) -> Option<&'t VirtualHost> {
    table?.virtual_host(host)
}

fn address(host: Option<&VirtualHost>) -> usize {
    host.map_or(0, |host| std::ptr::from_ref(host) as usize)
}

/// The address that a host is written as.
fn of_address(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

/// Names before addresses, what people would type before what only programs do.
fn readability(host: &str) -> (bool, bool, usize, String) {
    (
        of_address(host).is_some(),
        host.ends_with('.'),
        host.len(),
        host.to_owned(),
    )
}

/// A host for every domain, and one that no domain names, each with an expression for those it stands
/// for.
fn candidates(old: Option<&RouteTable>, new: Option<&RouteTable>) -> Vec<(String, String)> {
    let tables = [old, new].into_iter().flatten();
    let hosts = tables.flat_map(|table| &table.virtual_hosts);
    let mut domains: Vec<&Name> = hosts.flat_map(|host| &host.domains).collect();
    domains.sort();
    domains.dedup();
    let mut suffixes = Vec::new();
    let mut prefixes = Vec::new();
    let mut hosts = Vec::new();
    for domain in domains {
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(""), _) => {}
            (Some(suffix), _) => suffixes.push(suffix),
            (None, Some(prefix)) => prefixes.push(prefix),
            (None, None) => hosts.push((domain.to_string(), literal(domain))),
        }
    }
    let between = |prefix: &str, label: &str, suffix: &str| {
        let pattern = format!("{}.+{}", literal(prefix), literal(suffix));
        (format!("{prefix}{label}{suffix}"), pattern)
    };
    // Two, in case one of them is a domain's own.
    for label in ["any", "any-other"] {
        hosts.extend(suffixes.iter().map(|suffix| between("", label, suffix)));
        hosts.extend(prefixes.iter().map(|prefix| between(prefix, label, "")));
        hosts.push((format!("{label}.example"), ".+".to_owned()));
    }
    let pairs = prefixes
        .iter()
        .flat_map(|prefix| suffixes.iter().map(move |suffix| (prefix, suffix)));
    let pairs = pairs.map(|(prefix, suffix)| between(prefix, "any", suffix));
    hosts.extend(pairs.take(PAIRS_MAX));
    hosts
}

/// Text as an expression.
fn literal(text: &str) -> String {
    let mut expression = String::new();
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(hosts: &[(&str, &[&str])]) -> RouteTable {
        let host = |(name, domains): &(&str, &[&str])| VirtualHost {
            name: (*name).into(),
            domains: domains.iter().map(|domain| (*domain).into()).collect(),
            ..VirtualHost::default()
        };
        RouteTable::new("t".into(), hosts.iter().map(host).collect(), true)
    }

    #[test]
    fn one_class_for_each_pair_of_virtual_hosts() {
        let old = table(&[
            ("a", &["a.ns.svc.cluster.local", "a", "10.0.0.1"]),
            ("wild", &["*.com"]),
            ("all", &["*"]),
        ]);
        let new = table(&[("a", &["a", "b"]), ("x", &["www.x.com"]), ("all", &["*"])]);
        let classes = classes(Some(&old), Some(&new));
        let name = |host: Option<&VirtualHost>| host.map_or("", |host| &*host.name).to_owned();
        let mut told: Vec<(String, String, &str)> = classes
            .iter()
            .map(|class| (name(class.old), name(class.new), &*class.host))
            .collect();
        told.sort();
        let told: Vec<(&str, &str, &str)> = told
            .iter()
            .map(|(a, b, host)| (&**a, &**b, *host))
            .collect();
        assert_eq!(
            told,
            [
                ("a", "a", "a"),
                ("a", "all", "a.ns.svc.cluster.local"),
                ("all", "a", "b"),
                ("all", "all", "any.example"),
                ("wild", "all", "any.com"),
                ("wild", "x", "www.x.com"),
            ]
        );
    }
}
