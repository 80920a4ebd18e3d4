//! Host to virtual host, in Envoy's order: exact, longest `*suffix`, longest `prefix*`, `*`.

use crate::xds::VirtualHost;
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use std::cmp::Reverse;
use std::sync::Arc;

type Lookup = IndexMap<Box<[u8]>, u32, FxBuildHasher>;

/// The domains of a route table. The first virtual host to claim a domain keeps it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains {
    exact: Lookup,
    suffix: Wildcards,
    prefix: Wildcards,
    any: Option<u32>,
}

/// Domains that begin, or end, with a wildcard.
#[derive(Clone, Debug, Default)]
struct Wildcards {
    /// By the text beside the `*`.
    hosts: Lookup,
    /// The lengths of these texts, longest first, each with a set of the bytes next to the `*`:
    /// mostly dots, so that few lengths of a host are looked up.
    lengths: Vec<(usize, u128)>,
}

impl Domains {
    pub(crate) fn build(virtual_hosts: &[Arc<VirtualHost>]) -> Domains {
        let mut domains = Domains::default();
        for (number, host) in (0..).zip(virtual_hosts) {
            for domain in &host.domains {
                domains.add(domain.to_ascii_lowercase().as_bytes(), number);
            }
        }
        let longest_first = |&(length, _): &(usize, u128)| Reverse(length);
        domains.suffix.lengths.sort_by_key(longest_first);
        domains.prefix.lengths.sort_by_key(longest_first);
        domains
    }

    fn add(&mut self, domain: &[u8], host: u32) {
        match domain {
            b"*" => {
                self.any.get_or_insert(host);
            }
            [b'*', suffix @ ..] => self.suffix.add(suffix, suffix[0], host),
            [prefix @ .., b'*'] => self.prefix.add(prefix, prefix[prefix.len() - 1], host),
            exact => {
                self.exact.entry(exact.into()).or_insert(host);
            }
        }
    }

    /// The virtual host for `authority`, which loses its port first if `ignore_port`.
    pub(crate) fn find(&self, authority: &str, ignore_port: bool) -> Option<u32> {
        let host = if ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let host = host.as_bytes();
        if !host.iter().any(u8::is_ascii_uppercase) {
            return self.find_lower(host);
        }
        // DNS has no longer names.
        let mut buffer = [0; 256];
        match buffer.get_mut(..host.len()) {
            Some(lower) => {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                self.find_lower(lower)
            }
            None => self.find_lower(&host.to_ascii_lowercase()),
        }
    }

    fn find_lower(&self, host: &[u8]) -> Option<u32> {
        let suffix = |length| {
            let text = &host[host.len() - length..];
            (text, text[0])
        };
        let prefix = |length| (&host[..length], host[length - 1]);
        self.exact
            .get(host)
            .copied()
            .or_else(|| self.suffix.find(host.len(), suffix))
            .or_else(|| self.prefix.find(host.len(), prefix))
            .or(self.any)
    }
}

impl Wildcards {
    fn add(&mut self, text: &[u8], beside: u8, host: u32) {
        self.hosts.entry(text.into()).or_insert(host);
        let known = self.lengths.iter_mut().find(|(n, _)| *n == text.len());
        match known {
            Some((_, bytes)) => *bytes |= bit(beside),
            None => self.lengths.push((text.len(), bit(beside))),
        }
    }

    /// `part` gives the text of a length and its byte next to the wildcard, which stands for at
    /// least one character.
    fn find<'a>(&self, host: usize, part: impl Fn(usize) -> (&'a [u8], u8)) -> Option<u32> {
        self.lengths
            .iter()
            .filter(|(length, _)| *length < host)
            .find_map(|&(length, bytes)| {
                let (text, beside) = part(length);
                (bytes & bit(beside) != 0)
                    .then(|| self.hosts.get(text).copied())
                    .flatten()
            })
    }
}

/// Bytes that share a bit only cost a needless look.
fn bit(byte: u8) -> u128 {
    1 << (byte & 127)
}

/// `authority` up to its last colon outside brackets: Envoy minds neither whether digits follow nor
/// that the colon may be an unbracketed IPv6 address's.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn domains(names: &[&[&str]]) -> Domains {
        let hosts: Vec<Arc<VirtualHost>> = names
            .iter()
            .map(|names| VirtualHost {
                domains: names.iter().map(|&n| n.into()).collect(),
                ..VirtualHost::default()
            })
            .map(Arc::new)
            .collect();
        Domains::build(&hosts)
    }

    #[test]
    fn most_specific_domain_wins() {
        let domains = domains(&[
            &["*"],
            &["*.foo.com"],
            &["*-bar.foo.com"],
            &["a.foo.com"],
            &["www.*"],
            &["www.b*"],
        ]);
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
            assert_eq!(domains.find(host, true), Some(want), "{host}");
        }
    }

    /// The answers are Envoy's.
    #[test]
    fn port_counts_unless_ignored() {
        let table = domains(&[&["a:80"], &["a"], &["[::1]"], &["::1"], &[":"]]);
        assert_eq!(table.find("a:80", false), Some(0));
        for (host, want) in [
            ("a:80", Some(1)),
            ("a:xyz", Some(1)),
            ("a:", Some(1)),
            ("a:b:80", None),
            ("[::1]:80", Some(2)),
            ("[::1]:x", Some(2)),
            ("[::1]", Some(2)),
            ("::1:80", Some(3)),
            ("::1", Some(4)),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(table.find(host, true), want, "{host}");
        }
    }

    #[test]
    fn long_names_are_folded_too() {
        let long = "a".repeat(300);
        let table = domains(&[&[&long], &["*.b"]]);
        assert_eq!(table.find(&long.to_uppercase(), false), Some(0));
        assert_eq!(table.find(&(long + ".B"), false), Some(1));
    }
}
