//! Regular expressions, and parts of texts, all at once: one automaton, made as far as it is walked.

use crate::atom::{Atom, How};
use proxy_core::xds::StringMatch;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind, nfa::thompson};
use rustc_hash::FxHashMap;

/// In bytes.
const AUTOMATON_MAX: usize = 6 << 20;
const COMPILED_MAX: usize = 4 << 20;

/// The automaton of several patterns, each of which has to match the whole text.
pub(crate) struct Expressions {
    dfa: DFA,
    cache: Cache,
    /// The atom of each pattern.
    atoms: Vec<u32>,
    /// Whether nothing that follows matters, of the states asked about.
    settled: FxHashMap<LazyStateID, bool>,
    /// One byte of each class that the automaton does not tell apart.
    bytes: Vec<u8>,
}

/// It has become too large.
pub(crate) struct TooLarge;

impl Expressions {
    /// Of those `atoms` that are such; `None` if there are none.
    pub(crate) fn new(atoms: &[Atom]) -> Result<Option<Expressions>, TooLarge> {
        let patterns = (0..).zip(atoms);
        let patterns = patterns.filter_map(|(number, atom)| Some((number, pattern(atom)?)));
        let (atoms, patterns): (Vec<u32>, Vec<String>) = patterns.unzip();
        if atoms.is_empty() {
            return Ok(None);
        }
        let dfa = DFA::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(COMPILED_MAX)),
            )
            .configure(
                DFA::config()
                    .match_kind(MatchKind::All)
                    .cache_capacity(AUTOMATON_MAX)
                    // It is never thrown away, so that states keep their numbers.
                    .minimum_cache_clear_count(Some(0)),
            )
            .build_many(&patterns)
            .map_err(|_| TooLarge)?;
        let classes = dfa.byte_classes();
        let bytes = (0..=u8::MAX).filter(|&b| b == 0 || classes.get(b) != classes.get(b - 1));
        Ok(Some(Expressions {
            bytes: bytes.collect(),
            cache: dfa.create_cache(),
            dfa,
            atoms,
            settled: FxHashMap::default(),
        }))
    }

    pub(crate) fn start(&mut self) -> Result<LazyStateID, TooLarge> {
        let config = start::Config::new().anchored(Anchored::Yes);
        let start = self.dfa.start_state(&mut self.cache, &config);
        start.map_err(|_| TooLarge)
    }

    pub(crate) fn step(&mut self, at: LazyStateID, byte: u8) -> Result<LazyStateID, TooLarge> {
        let next = self.dfa.next_state(&mut self.cache, at, byte);
        next.map_err(|_| TooLarge)
    }

    /// A number that bytes share which are never told apart.
    pub(crate) fn class_of(&self, byte: u8) -> u8 {
        self.dfa.byte_classes().get(byte)
    }

    /// Adds the atoms that a text which ends here has.
    pub(crate) fn collect(
        &mut self,
        at: LazyStateID,
        atoms: &mut Vec<u32>,
    ) -> Result<(), TooLarge> {
        let end = self.dfa.next_eoi_state(&mut self.cache, at);
        let end = end.map_err(|_| TooLarge)?;
        if end.is_match() {
            let matched = 0..self.dfa.match_len(&self.cache, end);
            let pattern = |at| self.dfa.match_pattern(&self.cache, end, at).as_usize();
            atoms.extend(matched.map(|at| self.atoms[pattern(at)]));
        }
        Ok(())
    }

    /// Whether all that follows leaves it where it is.
    pub(crate) fn is_settled(&mut self, at: LazyStateID) -> Result<bool, TooLarge> {
        if at.is_dead() {
            return Ok(true);
        }
        if let Some(&known) = self.settled.get(&at) {
            return Ok(known);
        }
        let mut settled = true;
        for byte in 0..self.bytes.len() {
            if self.step(at, self.bytes[byte])? != at {
                settled = false;
                break;
            }
        }
        self.settled.insert(at, settled);
        Ok(settled)
    }
}

/// As an expression; `None` for texts and prefixes.
fn pattern(atom: &Atom) -> Option<String> {
    let How::Text(wanted) = &atom.how else {
        return None;
    };
    let literal = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| format!(r"\x{byte:02x}"));
        let flags = if atom.ignore_case { "(?i)" } else { "" };
        format!("{flags}{}", bytes.collect::<String>())
    };
    match wanted {
        StringMatch::Exact(_) | StringMatch::Prefix(_) => None,
        StringMatch::Suffix(text) => Some(format!("^(?s:.*)(?:{})$", literal(text))),
        StringMatch::Contains(text) => Some(format!("^(?s:.*)(?:{})(?s:.*)$", literal(text))),
        StringMatch::Regex(regex) => Some(format!("^(?:{})$", regex.source())),
    }
}
