//! The texts of one place, sorted into classes that no condition tells apart.

use crate::alphabet::{self, Alphabet, Standing};
use crate::atom::Atom;
use crate::expressions::{Expressions, TooLarge};
use crate::literals::{At, Literals};
use regex_automata::hybrid::LazyStateID;
use rustc_hash::FxHashMap;

/// So many states are looked at before the answer is that it cannot be decided.
const STATES_MAX: usize = 100_000;
const CLASSES_MAX: usize = 20_000;

/// A class of texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    /// The numbers of the atoms that every text of it has, ascending; it has none of the others.
    pub(crate) atoms: Vec<u32>,
    /// A short text of it.
    pub(crate) example: Vec<u8>,
}

/// Which texts there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) alphabet: Alphabet,
    /// An atom, by number, that all of them have.
    pub(crate) required: Option<u32>,
    /// Examples that are better than short ones, the best first.
    pub(crate) preferred: &'a [&'a str],
}

/// The classes of finitely many texts.
pub(crate) fn of_list<'a>(texts: impl IntoIterator<Item = &'a str>, atoms: &[Atom]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for text in texts {
        let found = atoms_of(text.as_bytes(), atoms);
        if classes.iter().all(|class| class.atoms != found) {
            classes.push(Class {
                atoms: found,
                example: text.into(),
            });
        }
    }
    classes
}

fn atoms_of(text: &[u8], atoms: &[Atom]) -> Vec<u32> {
    let all = (0..).zip(atoms);
    let found = all.filter(|(_, atom)| atom.matches(text));
    found.map(|(number, _)| number).collect()
}

/// The classes of all `texts`, those of preferred examples first, then those of short ones.
pub(crate) fn of(texts: Texts<'_>, atoms: &[Atom]) -> Result<Vec<Class>, TooLarge> {
    let mut walk = Walk::new(texts, atoms)?;
    walk.through()?;
    let mut classes = walk.classes();
    for text in texts.preferred.iter().rev() {
        let found = atoms_of(text.as_bytes(), atoms);
        let at = classes.iter().position(|class| class.atoms == found);
        if let Some(at) = at {
            let mut class = classes.remove(at);
            class.example = text.as_bytes().to_vec();
            classes.insert(0, class);
        }
    }
    Ok(classes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    standing: Standing,
    literal: At,
    caseless: At,
    expression: Option<LazyStateID>,
}

/// Goes through all texts, the shortest first, as far as they can be told apart.
struct Walk<'a> {
    texts: Texts<'a>,
    literals: Literals,
    caseless: Literals,
    expressions: Option<Expressions>,
    /// Bytes that neither the alphabet nor the expressions tell apart, the most readable first.
    alike: Vec<Vec<u8>>,
    numbers: FxHashMap<State, u32>,
    /// In the order found; each with the state before it and the byte between.
    states: Vec<(State, u32, u8)>,
    /// The state that is the example of each class; in the order found.
    found: Vec<(Vec<u32>, u32)>,
    known: FxHashMap<Vec<u32>, usize>,
}

/// How readable a byte is in an example.
fn rank(byte: u8) -> u32 {
    let order: u32 = match byte {
        b'x' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        b'A'..=b'Z' => 3,
        b'-' => 4,
        b'/' => 5,
        b'.' | b'_' => 6,
        b'!'..=b'~' => 7,
        b' ' => 8,
        _ => 9,
    };
    order << 8 | u32::from(byte)
}

impl<'a> Walk<'a> {
    fn new(texts: Texts<'a>, atoms: &[Atom]) -> Result<Walk<'a>, TooLarge> {
        let expressions = Expressions::new(atoms)?;
        let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
        bytes.sort_by_key(|&byte| rank(byte));
        let classes = texts.alphabet.classes();
        let mut numbers: FxHashMap<(u8, u16), usize> = FxHashMap::default();
        let mut alike: Vec<Vec<u8>> = Vec::new();
        for byte in bytes {
            let expression = expressions.as_ref().map_or(0, |all| all.class_of(byte));
            let key = (expression, classes[usize::from(byte)]);
            let number = *numbers.entry(key).or_insert_with(|| {
                alike.push(Vec::new());
                alike.len() - 1
            });
            alike[number].push(byte);
        }
        Ok(Walk {
            texts,
            literals: Literals::new(atoms, false),
            caseless: Literals::new(atoms, true),
            expressions,
            alike,
            numbers: FxHashMap::default(),
            states: Vec::new(),
            found: Vec::new(),
            known: FxHashMap::default(),
        })
    }

    fn through(&mut self) -> Result<(), TooLarge> {
        let expression = match &mut self.expressions {
            Some(all) => Some(all.start()?),
            None => None,
        };
        let start = State {
            standing: alphabet::START,
            literal: At::START,
            caseless: At::START,
            expression,
        };
        self.numbers.insert(start, 0);
        self.states.push((start, 0, 0));
        let mut at = 0;
        while let Some(&(state, ..)) = self.states.get(at) {
            if self.states.len() > STATES_MAX || self.found.len() > CLASSES_MAX {
                return Err(TooLarge);
            }
            self.visit(state, at as u32)?;
            at += 1;
        }
        Ok(())
    }

    fn visit(&mut self, state: State, number: u32) -> Result<(), TooLarge> {
        let ends = self.texts.alphabet.may_end(state.standing);
        if ends {
            self.note(state, number)?;
        }
        let settled = match (&mut self.expressions, state.expression) {
            (Some(all), Some(at)) => all.is_settled(at)?,
            _ => true,
        };
        if ends && settled && state.literal.left && state.caseless.left {
            return Ok(());
        }
        for byte in self.onward(state) {
            let Some(standing) = self.texts.alphabet.step(state.standing, byte) else {
                continue;
            };
            let next = State {
                standing,
                literal: self.literals.step(state.literal, byte),
                caseless: self.caseless.step(state.caseless, byte),
                expression: match (&mut self.expressions, state.expression) {
                    (Some(all), Some(at)) => Some(all.step(at, byte)?),
                    _ => None,
                },
            };
            let new = self.states.len() as u32;
            if let std::collections::hash_map::Entry::Vacant(entry) = self.numbers.entry(next) {
                entry.insert(new);
                self.states.push((next, number, byte));
            }
        }
        Ok(())
    }

    /// One of all bytes that lead to the same, in order of readability.
    fn onward(&self, state: State) -> Vec<u8> {
        let within = self.literals.onward(state.literal);
        let mut bytes: Vec<u8> = within.chain(self.caseless.onward(state.caseless)).collect();
        let named = bytes.len();
        for alike in &self.alike {
            let other = alike.iter().find(|byte| !bytes[..named].contains(byte));
            bytes.extend(other);
        }
        bytes.sort_by_key(|&byte| rank(byte));
        bytes.dedup();
        bytes
    }

    /// The text that leads to `state`, which has the number `number`, is one.
    fn note(&mut self, state: State, number: u32) -> Result<(), TooLarge> {
        let mut atoms = Vec::new();
        self.literals.collect(state.literal, &mut atoms);
        self.caseless.collect(state.caseless, &mut atoms);
        if let (Some(all), Some(at)) = (&mut self.expressions, state.expression) {
            all.collect(at, &mut atoms)?;
        }
        atoms.sort_unstable();
        atoms.dedup();
        if let Some(required) = self.texts.required
            && atoms.binary_search(&required).is_err()
        {
            return Ok(());
        }
        match self.known.get(&atoms) {
            None => {
                self.known.insert(atoms.clone(), self.found.len());
                self.found.push((atoms, number));
            }
            // The empty text is no good example.
            Some(&at) if self.found[at].1 == 0 => self.found[at].1 = number,
            Some(_) => {}
        }
        Ok(())
    }

    fn classes(self) -> Vec<Class> {
        let example = |mut at: u32| {
            let mut text = Vec::new();
            while at != 0 {
                let (_, before, byte) = self.states[at as usize];
                text.push(byte);
                at = before;
            }
            text.reverse();
            text
        };
        let found = self.found.into_iter();
        found
            .map(|(atoms, at)| Class {
                atoms,
                example: example(at),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::atom::How;
    use crate::domain::Paths;
    use proptest::prelude::*;
    use proxy_core::xds::{Regex, StringMatch};

    /// Few pieces, so that texts meet.
    fn text() -> impl Strategy<Value = String> {
        let pieces = vec!["/", "a", "A", "b", "1", ".", "-", " ", "%4", "é"];
        prop::collection::vec(prop::sample::select(pieces), 0..6).prop_map(|all| all.concat())
    }

    fn atom() -> impl Strategy<Value = Atom> {
        let regexes = vec![
            ".*",
            "/.*",
            "/a.*",
            "(?i)/A.?",
            "[ab]+",
            ".*b",
            r"/a\b.*",
            "/(a|ab)",
            "a{2,3}",
            "/[^/]+/1?",
            ".+é",
            "",
        ];
        let regex = prop::sample::select(regexes).prop_map(|one| Regex::new(one).unwrap());
        let how = prop_oneof![
            text().prop_map(|text| How::Text(StringMatch::Exact(text.into()))),
            text().prop_map(|text| How::Text(StringMatch::Prefix(text.into()))),
            text().prop_map(|text| How::Text(StringMatch::Suffix(text.into()))),
            text().prop_map(|text| How::Text(StringMatch::Contains(text.into()))),
            text().prop_map(|text| How::SeparatedPrefix(text.into())),
            regex.prop_map(|regex| How::Text(StringMatch::Regex(regex))),
        ];
        (how, any::<bool>()).prop_map(|(how, ignore_case)| Atom {
            ignore_case: ignore_case && !matches!(how, How::Text(StringMatch::Regex(_))),
            how,
        })
    }

    fn is_legal(alphabet: Alphabet, text: &[u8]) -> bool {
        let mut bytes = text.iter();
        let end = bytes.try_fold(alphabet::START, |at, &byte| alphabet.step(at, byte));
        end.is_some_and(|end| alphabet.may_end(end))
    }

    proptest! {
        /// A class is told by its atoms, so that its texts are never told apart.
        #[test]
        fn every_text_is_in_one_class_and_every_class_has_a_text(
            atoms in prop::collection::vec(atom(), 0..6),
            texts in prop::collection::vec(text(), 1..60),
            alphabet in prop::sample::select(vec![
                Alphabet::Path(Paths::default()),
                Alphabet::Path(Paths { merged: true, ..Paths::default() }),
                Alphabet::Method,
                Alphabet::Value,
                Alphabet::QueryValue,
            ]),
        ) {
            let all = Texts { alphabet, required: None, preferred: &[] };
            let classes = of(all, &atoms).map_err(|_| "too large").unwrap();
            for (at, class) in classes.iter().enumerate() {
                prop_assert!(is_legal(alphabet, &class.example), "{class:?}");
                prop_assert_eq!(&atoms_of(&class.example, &atoms), &class.atoms);
                prop_assert!(classes[..at].iter().all(|other| other.atoms != class.atoms));
            }
            // Also texts near to the examples.
            let examples = classes.iter().flat_map(|class| {
                let more = |end: &[u8]| [&class.example[..], end].concat();
                [more(b"a"), more(b"/"), more(b"A/b"), more("é".as_bytes())]
            });
            for text in texts.into_iter().map(String::into_bytes).chain(examples) {
                if is_legal(alphabet, &text) {
                    let found = atoms_of(&text, &atoms);
                    prop_assert!(classes.iter().any(|class| class.atoms == found), "{text:?}");
                }
            }
        }
    }
}
