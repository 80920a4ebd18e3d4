//! What AuthorizationPolicies ask of a request.

use proxy_core::xds::{IpRange, Name};

/// What an attribute of a request has to be, and must not be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attribute {
    pub(crate) key: AttributeKey,
    pub(crate) values: Vec<Name>,
    pub(crate) not_values: Vec<Name>,
}

/// Attributes by the names that conditions call them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeKey {
    Host,
    Method,
    Path,
    DestinationIp,
    DestinationPort,
    ServerName,
    SourceIp,
    RemoteIp,
    Namespace,
    ServiceAccount,
    TrustDomain,
    Principal,
    RequestPrincipal,
    Audiences,
    Presenter,
    /// Name of the header.
    Header(Name),
    /// Keys, one below the other.
    Claim(Vec<Name>),
    /// Metadata of an Envoy filter, which is not modelled.
    Metadata,
}

impl AttributeKey {
    /// Whether connections as such have no such attribute.
    pub(crate) fn is_http_only(&self) -> bool {
        use AttributeKey::{
            Audiences, Claim, Header, Host, Method, Path, Presenter, RequestPrincipal,
        };
        matches!(
            self,
            Host | Method | Path | RequestPrincipal | Audiences | Presenter | Header(_) | Claim(_)
        )
    }

    /// Whether it says who asks, rather than what for.
    pub(crate) fn is_of_source(&self) -> bool {
        use AttributeKey::{
            DestinationIp, DestinationPort, Host, Metadata, Method, Path, ServerName,
        };
        !matches!(
            self,
            Host | Method | Path | DestinationIp | DestinationPort | ServerName | Metadata
        )
    }

    /// The attribute that the key of a condition names; the error says what is wrong with it.
    pub(super) fn of_condition(key: &str) -> Result<AttributeKey, String> {
        let bracketed = |rest: &str| -> Result<Name, String> {
            let inner = rest
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            let inner = inner.filter(|inner| !inner.is_empty());
            inner
                .map(Name::from)
                .ok_or_else(|| format!("`{key}` has the form `a[b]`"))
        };
        Ok(match key {
            "source.ip" => AttributeKey::SourceIp,
            "remote.ip" => AttributeKey::RemoteIp,
            "source.namespace" => AttributeKey::Namespace,
            "source.serviceAccount" => AttributeKey::ServiceAccount,
            "source.trustDomain" => AttributeKey::TrustDomain,
            "source.principal" => AttributeKey::Principal,
            "request.auth.principal" => AttributeKey::RequestPrincipal,
            "request.auth.audiences" => AttributeKey::Audiences,
            "request.auth.presenter" => AttributeKey::Presenter,
            "destination.ip" => AttributeKey::DestinationIp,
            "destination.port" => AttributeKey::DestinationPort,
            "connection.sni" => AttributeKey::ServerName,
            _ => {
                if let Some(rest) = key.strip_prefix("request.headers") {
                    AttributeKey::Header(bracketed(rest)?.to_ascii_lowercase().into())
                } else if let Some(rest) = key.strip_prefix("request.auth.claims") {
                    let path = bracketed(rest)?;
                    AttributeKey::Claim(path.split("][").map(Name::from).collect())
                } else if key.starts_with("experimental.envoy.filters.") {
                    let at = key.find('[').unwrap_or(key.len());
                    bracketed(&key[at..])?;
                    AttributeKey::Metadata
                } else {
                    return Err(format!("`{key}` is not an attribute"));
                }
            }
        })
    }

    /// Why `value` is no value of it.
    pub(super) fn refuses(&self, value: &str) -> Option<String> {
        let wildcards = value.matches('*').count();
        let at_an_end = value.starts_with('*') || value.ends_with('*');
        match self {
            _ if value.is_empty() => Some("a value is not empty".to_owned()),
            AttributeKey::SourceIp | AttributeKey::RemoteIp | AttributeKey::DestinationIp => {
                parse_range(value)
                    .is_none()
                    .then(|| "an address, or a network such as `10.0.0.0/8`".to_owned())
            }
            AttributeKey::DestinationPort => value
                .parse::<u16>()
                .is_err()
                .then(|| "a port is a number from 0 to 65535".to_owned()),
            AttributeKey::ServiceAccount => service_account_problem(value),
            AttributeKey::TrustDomain if wildcards > 1 || (wildcards == 1 && !at_an_end) => {
                Some("one wildcard at most, at the start or the end".to_owned())
            }
            AttributeKey::TrustDomain if value.contains('/') => {
                Some("a trust domain has no `/`".to_owned())
            }
            AttributeKey::Path => path_problem(value).map(str::to_owned),
            _ => None,
        }
    }
}

/// An address is a network of its own. `None`: neither.
pub(crate) fn parse_range(text: &str) -> Option<IpRange> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix_length = match length {
        Some(length) => length.parse().ok().filter(|length| *length <= longest)?,
        None => longest,
    };
    Some(IpRange {
        address,
        prefix_length,
    })
}

fn service_account_problem(value: &str) -> Option<String> {
    let empty = value.split('/').any(str::is_empty);
    let wrong = value.contains('*') || value.matches('/').count() > 1 || value.len() > 320;
    (empty || wrong).then(|| {
        "`ACCOUNT` or `NAMESPACE/ACCOUNT`, no wildcards, 320 characters at most".to_owned()
    })
}

/// Istio's rules for `{*}` and `{**}`.
fn path_problem(path: &str) -> Option<&'static str> {
    let template = path.contains("{*}") || path.contains("{**}");
    let literal = |segment: &str| {
        let mut bytes = segment.bytes();
        !segment.is_empty()
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
    };
    let mut ended = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if ended => return Some("`{**}` is the last operator of a path"),
            "{*}" => {}
            "{**}" => ended = true,
            _ if segment.contains(['{', '}']) => {
                return Some("`{` and `}` stand only in `{*}` and `{**}`, each a segment");
            }
            _ if template && !literal(segment) => {
                return Some("a segment beside `{*}` or `{**}` is plain text");
            }
            _ => {}
        }
    }
    None
}
