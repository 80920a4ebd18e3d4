//! String, header and query matchers.

use super::Name;
use regex_syntax::hir::literal::{Extractor, Seq};
use regex_syntax::hir::{Hir, HirKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A full-match regular expression with RE2's syntax over Latin-1 bytes, as Envoy 1.40 matches.
#[derive(Clone, Debug)]
pub struct Regex {
    source: Box<str>,
    whole: regex::bytes::Regex,
    part: regex::bytes::Regex,
}

/// RE2's (and Go's) limit, counted through nested repetitions.
const REPEATS_MAX: u32 = 1000;
/// In bytes: no less than RE2 takes for 32768 instructions, Istio's limit for proxies.
const COMPILED_MAX: usize = 4 << 20;

impl Regex {
    /// Compiles `source`; the error is the engine's own explanation, or the limit that it exceeds.
    pub fn new(source: &str) -> Result<Regex, String> {
        let parsed = parser().parse(source).map_err(|error| error.to_string())?;
        if !repeats_within(&parsed, REPEATS_MAX) {
            return Err(format!(
                "repeats more than {REPEATS_MAX} times, nested repetitions multiplied"
            ));
        }
        let build = |pattern: &str| {
            regex::bytes::RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(COMPILED_MAX)
                .build()
                .map_err(|error| match error {
                    regex::Error::CompiledTooBig(limit) => {
                        format!("takes more than {} MB when compiled", limit >> 20)
                    }
                    error => error.to_string(),
                })
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
        let parsed = parser().parse(&self.source);
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

/// Of bytes, as the engine's own.
fn parser() -> regex_syntax::Parser {
    regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
}

/// Whether nothing in `pattern` is repeated more than `most` times.
fn repeats_within(pattern: &Hir, most: u32) -> bool {
    let most = match pattern.kind() {
        HirKind::Repetition(repeat) => {
            let times = repeat.max.unwrap_or(repeat.min).max(1);
            match most / times {
                0 => return false,
                rest => rest,
            }
        }
        _ => most,
    };
    pattern
        .kind()
        .subs()
        .iter()
        .all(|sub| repeats_within(sub, most))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_of_exponential_size_are_refused() {
        for pattern in [
            "a{1000}",
            "(a{10}){100}",
            "(?:[a-z]{2,}b?){500}",
            "(a*)*",
            ".{1000}",
        ] {
            assert_eq!(Regex::new(pattern).unwrap().source(), pattern);
        }
        for pattern in [
            "a{1001}",
            "(a{10}){101}",
            "((a{2,}){20}){26}",
            "(((a{99}){99}){99}){99}",
        ] {
            let why = Regex::new(pattern).unwrap_err();
            assert!(why.starts_with("repeats more than 1000 times"), "{why}");
        }
        let why = Regex::new(&"[^a-c]{1000}".repeat(80)).unwrap_err();
        assert_eq!(why, "takes more than 4 MB when compiled");
    }
}
