//! Host to virtual host, in Envoy's order: exact, longest `*suffix`, longest `prefix*`, `*`.

use crate::xds::RouteTable;
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

type Lookup = IndexMap<Box<str>, u32, FxBuildHasher>;

/// The domains of a route table, indexed. The first virtual host to claim a domain keeps it.
#[derive(Clone, Debug, Default)]
pub struct TableIndex {
    exact: Lookup,
    /// By the text after `*`; lengths present, longest first.
    suffix: Lookup,
    suffix_lengths: Vec<usize>,
    prefix: Lookup,
    prefix_lengths: Vec<usize>,
    any: Option<u32>,
}

impl TableIndex {
    pub(crate) fn build(table: &RouteTable) -> TableIndex {
        let mut index = TableIndex::default();
        for (number, host) in table.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                index.add(&domain.to_ascii_lowercase(), number as u32);
            }
        }
        index.suffix_lengths = lengths(&index.suffix);
        index.prefix_lengths = lengths(&index.prefix);
        index
    }

    fn add(&mut self, domain: &str, host: u32) {
        if domain == "*" {
            self.any.get_or_insert(host);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffix.entry(suffix.into()).or_insert(host);
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefix.entry(prefix.into()).or_insert(host);
        } else {
            self.exact.entry(domain.into()).or_insert(host);
        }
    }

    /// The virtual host for `authority`, which loses its port first if `ignore_port`.
    pub(crate) fn find(&self, authority: &str, ignore_port: bool) -> Option<u32> {
        let host = if ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let lower;
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        if let Some(&found) = self.exact.get(host) {
            return Some(found);
        }
        // A wildcard stands for at least one character.
        let by_suffix = self
            .suffix_lengths
            .iter()
            .filter(|&&n| n < host.len())
            .find_map(|&n| {
                let at = host.len() - n;
                host.is_char_boundary(at)
                    .then(|| self.suffix.get(&host[at..]))
                    .flatten()
            });
        let by_prefix = || {
            self.prefix_lengths
                .iter()
                .filter(|&&n| n < host.len())
                .find_map(|&n| {
                    host.is_char_boundary(n)
                        .then(|| self.prefix.get(&host[..n]))
                        .flatten()
                })
        };
        by_suffix.or_else(by_prefix).copied().or(self.any)
    }
}

fn lengths(lookup: &Lookup) -> Vec<usize> {
    let mut lengths: Vec<usize> = lookup.keys().map(|key| key.len()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    lengths
}

/// `host` without a trailing `:port`; IPv6 literals keep their brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::VirtualHost;

    fn table(domains: &[&[&str]]) -> RouteTable {
        let hosts = domains
            .iter()
            .map(|names| VirtualHost {
                domains: names.iter().map(|&n| n.into()).collect(),
                ..VirtualHost::default()
            })
            .collect();
        RouteTable::new("t".into(), hosts, true)
    }

    #[test]
    fn most_specific_domain_wins() {
        let table = table(&[
            &["*"],
            &["*.foo.com"],
            &["*-bar.foo.com"],
            &["a.foo.com"],
            &["www.*"],
            &["www.b*"],
        ]);
        let index = TableIndex::build(&table);
        for (host, want) in [
            ("a.foo.com", 3),
            ("A.FOO.com:8080", 3),
            ("x.foo.com", 1),
            ("x-bar.foo.com", 2),
            ("-bar.foo.com", 1), // the wildcard stands for at least one character
            (".foo.com", 0),
            ("foo.com", 0),
            ("www.a.org", 4),
            ("www.bc.org", 5),
            ("www.foo.com", 1), // suffix before prefix
        ] {
            assert_eq!(index.find(host, true), Some(want), "{host}");
        }
    }

    #[test]
    fn port_counts_unless_ignored() {
        let index = TableIndex::build(&table(&[&["a:80"], &["a"], &["[::1]"]]));
        assert_eq!(index.find("a:80", false), Some(0));
        assert_eq!(index.find("a:80", true), Some(1));
        assert_eq!(index.find("[::1]:80", true), Some(2));
        assert_eq!(index.find("[::1]", true), Some(2));
        assert_eq!(index.find("b", true), None);
    }
}
