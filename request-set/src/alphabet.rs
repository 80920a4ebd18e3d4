//! Which texts a request may have in a place: a few small automata over bytes.

use crate::domain::Paths;
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

/// What kind of text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Alphabet {
    /// As it is when it is routed, without query.
    Path(Paths),
    Method,
    Authority,
    /// A header's, and a claim's.
    Value,
    QueryValue,
}

/// Where an automaton stands.
pub(crate) type Standing = u16;

pub(crate) const START: Standing = 0;

/// How far the current segment of a path looks like a dot segment.
const SEGMENT: u16 = 32;
const EMPTY: u16 = SEGMENT;
const ONE_DOT: u16 = 2 * SEGMENT;
const TWO_DOTS: u16 = 3 * SEGMENT;
const PLAIN: u16 = 4 * SEGMENT;
/// Within a segment: after `%`, and after `%` and a digit (which is added).
const PERCENT: u16 = 1;
const DIGIT: u16 = 2;

impl Alphabet {
    /// `None`: no such text goes on with `byte`.
    pub(crate) fn step(self, at: Standing, byte: u8) -> Option<Standing> {
        match self {
            Alphabet::Path(paths) => path_step(paths, at, byte),
            Alphabet::Method => is_token(byte).then_some(1),
            Alphabet::Authority => {
                let legal = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte);
                legal.then_some(1)
            }
            // No blank at either end.
            Alphabet::Value => match byte {
                b' ' | b'\t' => (at != START).then_some(2),
                0x21..=0x7e | 0x80.. => Some(1),
                _ => None,
            },
            Alphabet::QueryValue => {
                (byte.is_ascii_graphic() && !b"&#".contains(&byte)).then_some(0)
            }
        }
    }

    /// Whether a text may end here.
    pub(crate) fn may_end(self, at: Standing) -> bool {
        match self {
            Alphabet::Path(_) => at != START && !is_dot_segment(at),
            Alphabet::Method | Alphabet::Authority => at != START,
            Alphabet::Value => at != 2,
            Alphabet::QueryValue => true,
        }
    }
}

/// Worked out once: [`Alphabet::classes`] of each alphabet.
static CLASSES: [OnceLock<Vec<u16>>; 12] = [const { OnceLock::new() }; 12];

impl Alphabet {
    /// A number for each byte, which those share that are never told apart.
    pub(crate) fn classes(self) -> &'static [u16] {
        let number = match self {
            Alphabet::Path(paths) => {
                let flags = [paths.normalized, paths.merged, paths.unescaped_slashes];
                flags
                    .iter()
                    .fold(0, |number, &flag| 2 * number + usize::from(flag))
            }
            Alphabet::Method => 8,
            Alphabet::Authority => 9,
            Alphabet::Value => 10,
            Alphabet::QueryValue => 11,
        };
        CLASSES[number].get_or_init(|| self.told_apart())
    }

    fn told_apart(self) -> Vec<u16> {
        let mut reached = vec![START];
        let mut columns: Vec<Vec<Option<Standing>>> = vec![Vec::new(); 256];
        let mut at = 0;
        while let Some(&standing) = reached.get(at) {
            for byte in 0..=u8::MAX {
                let next = self.step(standing, byte);
                columns[usize::from(byte)].push(next);
                reached.extend(next.filter(|next| !reached.contains(next)));
            }
            at += 1;
        }
        let mut numbers: FxHashMap<&[Option<Standing>], u16> = FxHashMap::default();
        let numbered = columns.iter().map(|column| {
            let new = numbers.len() as u16;
            *numbers.entry(column).or_insert(new)
        });
        numbered.collect()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_dot_segment(at: Standing) -> bool {
    matches!(at / SEGMENT * SEGMENT, ONE_DOT | TWO_DOTS)
}

/// A path that the connection manager leaves as it is.
fn path_step(paths: Paths, at: Standing, byte: u8) -> Option<Standing> {
    if !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#') {
        return None;
    }
    if at == START {
        return (byte == b'/').then_some(EMPTY);
    }
    let (segment, escape) = (at / SEGMENT * SEGMENT, at % SEGMENT);
    let digit = char::from(byte).to_digit(16);
    if escape >= DIGIT
        && let Some(low) = digit
        && is_unescaped(paths, (escape - DIGIT) * 16 + low as u16)
    {
        return None;
    }
    let next = match byte {
        b'/' if paths.merged && segment == EMPTY => return None,
        b'/' if paths.normalized && is_dot_segment(at) => return None,
        b'/' => EMPTY,
        b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' if paths.normalized => {
            return None;
        }
        b';' if paths.normalized && is_dot_segment(at) => return None,
        b'.' if paths.normalized && segment == EMPTY => ONE_DOT,
        b'.' if paths.normalized && segment == ONE_DOT => TWO_DOTS,
        _ => PLAIN,
    };
    let escape = match (escape, byte, digit) {
        (_, b'%', _) => PERCENT,
        (PERCENT, _, Some(high)) => DIGIT + high as u16,
        _ => 0,
    };
    Some(next + escape)
}

/// Whether the manager writes out or refuses `%XX` of this code.
fn is_unescaped(paths: Paths, code: u16) -> bool {
    let Ok(code) = u8::try_from(code) else {
        return false;
    };
    let unreserved = code.is_ascii_alphanumeric() || b"-._~".contains(&code);
    (paths.normalized && (unreserved || code == 0))
        || (paths.unescaped_slashes && matches!(code, b'/' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_core::contract::{Direction, Opened, Protocol};
    use proxy_core::head::{Headers, RequestHead};
    use proxy_core::ids::DownstreamId;
    use proxy_core::router::{Outcome, Stream, route};
    use proxy_core::xds::{EscapedSlashes, HttpConnectionManager, RouteSource, RouteTable};
    use std::sync::Arc;

    /// Whether the core routes `path` as it is.
    fn is_kept(paths: Paths, path: &str) -> bool {
        let manager = HttpConnectionManager {
            normalize_path: paths.normalized,
            merge_slashes: paths.merged,
            escaped_slashes: match paths.unescaped_slashes {
                true => EscapedSlashes::UnescapeAndForward,
                false => EscapedSlashes::Keep,
            },
            ..HttpConnectionManager::new(RouteSource::Rds("t".into()))
        };
        let opened = Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: ([127, 0, 0, 1], 1).into(),
            original_dst: ([127, 0, 0, 1], 80).into(),
            direction: Direction::Outbound,
            tls: None,
            protocol: Protocol::Http1,
        };
        let head = Arc::new(RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "a".into(),
            path: path.into(),
            headers: Headers::default(),
            id: None,
        });
        let table = RouteTable::new("t".into(), Vec::new(), true);
        let stream = Stream {
            opened: &opened,
            secure: false,
            value: 0,
        };
        let decision = route(&table, &manager, &head, stream);
        decision.outcome == Outcome::NoVirtualHost && *decision.head.path == *path
    }

    fn path() -> impl Strategy<Value = String> {
        let pieces = vec![
            "/", "/", ".", "..", "a", ";", "%2e", "%2F", "%5c", "%41", "%7E", "%00", "%", "%4",
            "%%41", "\\", "|", "\"", "{", "~", "%C3%a9",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..8)
            .prop_map(|all| format!("/{}", all.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_path_is_one_that_the_manager_leaves_as_it_is(
            path in path(),
            normalized in any::<bool>(),
            merged in any::<bool>(),
            unescaped_slashes in any::<bool>(),
        ) {
            let paths = Paths { normalized, merged, unescaped_slashes };
            let alphabet = Alphabet::Path(paths);
            let end = path.bytes().try_fold(START, |at, byte| alphabet.step(at, byte));
            let legal = end.is_some_and(|end| alphabet.may_end(end));
            prop_assert_eq!(legal, is_kept(paths, &path), "{}", path);
        }
    }
}
