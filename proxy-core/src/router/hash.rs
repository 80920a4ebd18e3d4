//! The request hash of consistent-hashing policies (Envoy `hash_policy.cc`).

use super::matching::query_value;
use crate::head::RequestHead;
use crate::xds::{HashInput, HashPolicy};
use std::net::SocketAddr;
use xxhash_rust::xxh64::xxh64;

/// A cookie that a hash policy makes for clients that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewCookie {
    pub(crate) line: String,
}

/// The combined hash, absent if no policy found its input, and the cookies to set.
pub(crate) fn request_hash(
    policies: &[HashPolicy],
    head: &RequestHead,
    remote: SocketAddr,
    local: SocketAddr,
) -> (Option<u64>, Vec<NewCookie>) {
    let mut hash: Option<u64> = None;
    let mut cookies = Vec::new();
    for policy in policies {
        let one = match &policy.input {
            HashInput::Header(name) => header_hash(head, name),
            HashInput::SourceIp => Some(xxh64(remote.ip().to_string().as_bytes(), 0)),
            HashInput::Query(name) => {
                query_value(&head.path, name).map(|value| xxh64(value.as_bytes(), 0))
            }
            HashInput::Cookie { name, path, ttl } => {
                let sent = cookie_value(head, name).filter(|value| !value.is_empty());
                match (sent, ttl) {
                    (Some(value), _) => Some(xxh64(value, 0)),
                    (None, None) => None,
                    (None, Some(ttl)) => {
                        let value =
                            format!("{:016x}", xxh64(format!("{remote}{local}").as_bytes(), 0));
                        cookies.push(new_cookie(name, &value, path, ttl.as_secs_f64() as u64));
                        Some(xxh64(value.as_bytes(), 0))
                    }
                }
            }
        };
        if let Some(one) = one {
            hash = Some(hash.unwrap_or(0).rotate_left(1) ^ one);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    (hash, cookies)
}

/// The lines sorted bytewise and chained.
fn header_hash(head: &RequestHead, name: &str) -> Option<u64> {
    let mut lines: Vec<&[u8]> = match name {
        ":authority" => vec![head.authority.as_bytes()],
        ":path" => vec![head.path.as_bytes()],
        ":scheme" => vec![head.scheme.as_bytes()],
        ":method" => vec![head.method.as_bytes()],
        _ => head.headers.all(name).collect(),
    };
    lines.sort_unstable();
    (!lines.is_empty()).then(|| lines.iter().fold(0, |seed, line| xxh64(line, seed)))
}

fn cookie_value<'a>(head: &'a RequestHead, name: &'a str) -> Option<&'a [u8]> {
    head.headers
        .all("cookie")
        .flat_map(|line| line.split(|&b| b == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|&b| b == b'=')?;
            (&pair[..at] == name.as_bytes()).then(|| {
                let value = &pair[at + 1..];
                value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""))
                    .unwrap_or(value)
            })
        })
}

fn new_cookie(name: &str, value: &str, path: &str, ttl_secs: u64) -> NewCookie {
    let mut line = format!("{name}=\"{value}\"");
    if ttl_secs > 0 {
        line += &format!("; Max-Age={ttl_secs}");
    }
    if !path.is_empty() {
        line += &format!("; Path={path}");
    }
    line += "; HttpOnly";
    NewCookie { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Headers;
    use crate::time::Nanos;

    fn head(path: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut lines = Headers::default();
        for (name, value) in headers {
            lines.append((*name).into(), value.as_bytes());
        }
        RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "a".into(),
            path: path.into(),
            headers: lines,
            id: None,
        }
    }

    fn hash(policies: &[HashInput], head: &RequestHead) -> (Option<u64>, Vec<NewCookie>) {
        let policies: Vec<HashPolicy> = policies
            .iter()
            .map(|input| HashPolicy {
                input: input.clone(),
                terminal: false,
            })
            .collect();
        let remote = "127.0.0.1:35690".parse().unwrap();
        let local = "127.0.0.1:28000".parse().unwrap();
        request_hash(&policies, head, remote, local)
    }

    #[test]
    fn known_hashes() {
        // envoy hash_test.cc
        let foo = 3728699739546630719;
        let bar = 5234164152756840025;
        let name = || HashInput::Header("x".into());
        assert_eq!(hash(&[name()], &head("/", &[("x", "foo")])).0, Some(foo));
        assert_eq!(
            hash(&[HashInput::Query("q".into())], &head("/?q=bar", &[])).0,
            Some(bar)
        );
        assert_eq!(hash(&[name()], &head("/", &[])).0, None);
        let both = hash(
            &[name(), HashInput::Query("q".into())],
            &head("/?q=bar", &[("x", "foo")]),
        )
        .0;
        assert_eq!(both, Some(foo.rotate_left(1) ^ bar));
        // lines are sorted, then chained
        let lines = head("/", &[("x", "foo"), ("x", "bar")]);
        assert_eq!(hash(&[name()], &lines).0, Some(xxh64(b"foo", bar)));
    }

    #[test]
    fn a_missing_cookie_is_made_from_both_addresses() {
        let cookie = HashInput::Cookie {
            name: "s".into(),
            path: "/".into(),
            ttl: Some(Nanos::from_secs(60)),
        };
        let (made, set) = hash(std::slice::from_ref(&cookie), &head("/", &[]));
        assert_eq!(
            set[0].line,
            "s=\"fd1d1939dc0b248c\"; Max-Age=60; Path=/; HttpOnly"
        );
        let sent = head("/", &[("cookie", "a=b; s=fd1d1939dc0b248c")]);
        assert_eq!(hash(&[cookie], &sent), (made, vec![]));
    }
}
