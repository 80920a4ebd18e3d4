//! Who may pass: Envoy's RBAC filters.

use super::{ConfigRef, HeaderMatch, Name, Regex, StringMatch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;

/// Envoy `config.rbac.v3.RBAC`: the rules of one filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rbac {
    pub action: RbacAction,
    /// Sorted by name, as Envoy asks them: the first that matches decides.
    pub policies: Vec<RbacPolicy>,
}

/// What a matching policy means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RbacAction {
    /// Passes; what no policy matches is denied.
    Allow,
    /// Is denied; what no policy matches passes.
    Deny,
}

/// Envoy `config.rbac.v3.Policy`: matches if one of its permissions and one of its principals do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RbacPolicy {
    pub name: Name,
    /// What is asked for.
    pub permissions: Vec<Condition>,
    /// Who asks.
    pub principals: Vec<Condition>,
    pub origin: Option<ConfigRef>,
}

/// Envoy `config.rbac.v3.Permission` and `Principal`, which differ in what they may ask and not in
/// how they are answered. What asks for HTTP never holds for a connection as such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    Any,
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Header(HeaderMatch),
    /// `header` of `:authority` with `ignore_case`.
    Authority(StringMatch),
    /// `url_path`: without query and fragment.
    Path(StringMatch),
    /// `uri_template`, of the same.
    PathTemplate(PathTemplate),
    DestinationIp(IpRange),
    DestinationPort(u16),
    /// `requested_server_name`.
    ServerName(StringMatch),
    /// `authenticated`: the URI SAN of the client's certificate.
    Authenticated(StringMatch),
    /// The other end of the connection.
    DirectRemoteIp(IpRange),
    /// The client, which `x-forwarded-for` may name.
    RemoteIp(IpRange),
    /// `metadata` of the JWT filter.
    Claim(ClaimMatch),
}

/// A condition on the claims of a request's token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimMatch {
    /// Keys, one below the other.
    pub path: Vec<Name>,
    /// One of them has to match.
    pub values: Vec<StringMatch>,
    /// A list counts too, if one of its texts matches.
    pub in_list: bool,
    pub invert: bool,
}

/// Envoy `config.core.v3.CidrRange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpRange {
    pub address: IpAddr,
    pub prefix_length: u8,
}

impl IpRange {
    /// Whether nothing else lies within.
    pub fn is_one_address(&self) -> bool {
        self.prefix_length == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `ip` lies within; addresses of the other family never do.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (net, len) = (self.address, u32::from(self.prefix_length));
        let same = |a: u128, b: u128, width: u32| {
            let shift = width.saturating_sub(len);
            a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
        };
        match (ip, net) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// Envoy's `uri_template` with `*` for one segment and `**` for any number of them.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    text: Name,
    regex: Regex,
}

impl PathTemplate {
    /// Compiles `text`; the error is the regex engine's.
    pub fn new(text: &str) -> Result<PathTemplate, String> {
        const SEGMENT: &str = "[a-zA-Z0-9-._~%!$&'()*+,;:@=]+";
        const SEGMENTS: &str = "[a-zA-Z0-9-._~%!$&'()*+,;:@=/]*";
        let segments = text.split('/').map(|segment| match segment {
            "*" => SEGMENT.to_owned(),
            "**" => SEGMENTS.to_owned(),
            literal => regex_syntax::escape(literal),
        });
        let segments: Vec<String> = segments.collect();
        Ok(PathTemplate {
            text: text.into(),
            regex: Regex::new(&segments.join("/"))?,
        })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `path`, without query, matches.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_full_match(path.as_bytes())
    }
}

impl PartialEq for PathTemplate {
    fn eq(&self, other: &PathTemplate) -> bool {
        self.text == other.text
    }
}

impl Serialize for PathTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PathTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathTemplate, D::Error> {
        let text = String::deserialize(deserializer)?;
        PathTemplate::new(&text).map_err(serde::de::Error::custom)
    }
}
