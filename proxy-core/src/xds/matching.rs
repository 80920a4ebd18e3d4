//! String, header and query matchers.

use super::Name;
use regex_syntax::hir::literal::{Extractor, Seq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A full-match regular expression with RE2's syntax over Latin-1 bytes, as Envoy 1.40 matches.
#[derive(Clone, Debug)]
pub struct Regex {
    source: Box<str>,
    whole: regex::bytes::Regex,
    part: regex::bytes::Regex,
}

impl Regex {
    /// Compiles `source`; the error is the engine's own explanation.
    pub fn new(source: &str) -> Result<Regex, String> {
        let build = |pattern: &str| {
            regex::bytes::RegexBuilder::new(pattern)
                .unicode(false)
                .build()
                .map_err(|e| e.to_string())
        };
        let part = build(source)?;
        let whole = build(&format!("^(?:{source})$"))?;
        Ok(Regex {
            source: source.into(),
            whole,
            part,
        })
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `text` matches.
    pub fn is_full_match(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// Whether some part of `text` matches.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.part.is_match(text)
    }

    /// What every full match begins with, as far as that is easily told.
    pub(crate) fn literal_prefix(&self) -> Box<[u8]> {
        let mut parser = regex_syntax::ParserBuilder::new();
        let parsed = parser
            .unicode(false)
            .utf8(false)
            .build()
            .parse(&self.source);
        let literals = parsed.map(|pattern| Extractor::new().extract(&pattern));
        let prefix = literals.as_ref().ok().and_then(Seq::longest_common_prefix);
        prefix.unwrap_or_default().into()
    }

    /// Every match in `text` replaced; `substitution` holds RE2 groups (`\1`).
    pub fn replace_all(&self, text: &str, substitution: &str) -> String {
        let replaced = self
            .part
            .replace_all(text.as_bytes(), |groups: &regex::bytes::Captures<'_>| {
                expand_re2(substitution, groups)
            });
        String::from_utf8_lossy(&replaced).into_owned()
    }
}

fn expand_re2(substitution: &str, groups: &regex::bytes::Captures<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, false) => out.push(byte),
            (_, true) => match bytes.next() {
                Some(digit @ b'0'..=b'9') => {
                    if let Some(group) = groups.get(usize::from(digit - b'0')) {
                        out.extend_from_slice(group.as_bytes());
                    }
                }
                Some(other) => out.push(other),
                None => out.push(b'\\'),
            },
        }
    }
    out
}

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.source == other.source
    }
}

impl Serialize for Regex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Regex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
        let source = String::deserialize(deserializer)?;
        Regex::new(&source).map_err(serde::de::Error::custom)
    }
}

/// Envoy `type.v3.FractionalPercent`: a share of random values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000: values that share a divisor are correlated.
    pub denominator: u32,
}

impl Fraction {
    pub const ALWAYS: Fraction = Fraction {
        numerator: 100,
        denominator: 100,
    };

    /// In millionths.
    pub const fn ppm(numerator: u32) -> Fraction {
        Fraction {
            numerator,
            denominator: 1_000_000,
        }
    }

    /// Whether the random `value` falls in the share.
    pub fn holds(self, value: u64) -> bool {
        value % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

/// Envoy `type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StringMatch {
    Exact(Name),
    Prefix(Name),
    Suffix(Name),
    Contains(Name),
    Regex(Regex),
}

impl StringMatch {
    /// Whether `text` matches, byte for byte.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            StringMatch::Exact(want) => text == want.as_bytes(),
            StringMatch::Prefix(want) => text.starts_with(want.as_bytes()),
            StringMatch::Suffix(want) => text.ends_with(want.as_bytes()),
            StringMatch::Contains(want) => {
                want.is_empty() || text.windows(want.len()).any(|w| w == want.as_bytes())
            }
            StringMatch::Regex(regex) => regex.is_full_match(text),
        }
    }

    /// The same with Envoy's `ignore_case`, which regular expressions do not know.
    pub fn matches_ignoring_case(&self, text: &[u8]) -> bool {
        let same = |at: &[u8], want: &Name| at.eq_ignore_ascii_case(want.as_bytes());
        let part = |range: Option<&[u8]>, want: &Name| range.is_some_and(|at| same(at, want));
        match self {
            StringMatch::Exact(want) => same(text, want),
            StringMatch::Prefix(want) => part(text.get(..want.len()), want),
            StringMatch::Suffix(want) => {
                let start = text.len().checked_sub(want.len());
                part(start.and_then(|start| text.get(start..)), want)
            }
            StringMatch::Contains(want) => {
                want.is_empty() || text.windows(want.len()).any(|at| same(at, want))
            }
            StringMatch::Regex(regex) => regex.is_full_match(text),
        }
    }
}

/// What a header or query parameter must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValueMatch {
    /// Present (`true`) or absent (`false`), whatever the value.
    Present(bool),
    String(StringMatch),
}

/// Envoy `config.route.v3.HeaderMatcher`. Pseudo-headers are `:method`, `:authority`, `:scheme`, `:path`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: Name,
    pub value: ValueMatch,
    pub invert: bool,
    /// A missing header counts as the empty string; otherwise it never matches, inverted or not.
    pub treat_missing_as_empty: bool,
}

/// Envoy `config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryMatch {
    pub name: Name,
    pub value: ValueMatch,
}
