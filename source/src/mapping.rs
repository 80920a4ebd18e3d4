//! A map while it is read: each key once, and what `<<` merges into it.

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Map, Node, Value};
use crate::parse::Dialect;
use crate::text::Span;
use std::collections::BTreeMap;

/// Up to so many keys, looking at each is fastest.
const FEW: usize = 16;

#[derive(Default)]
pub(crate) struct Mapping {
    map: Map,
    /// Whether the entry stands in the map itself: not merged into it.
    stated: Vec<bool>,
    /// Where the keys are, of all but the latest entries; empty while there are few.
    places: BTreeMap<String, usize>,
}

impl Mapping {
    fn find(&mut self, key: &str) -> Option<usize> {
        let entries = &self.map.entries;
        if entries.len() <= FEW {
            return entries.iter().position(|entry| entry.key == key);
        }
        for (at, entry) in entries.iter().enumerate().skip(self.places.len()) {
            self.places.insert(entry.key.clone(), at);
        }
        self.places.get(key).copied()
    }

    fn push(&mut self, entry: Entry, stated: bool) {
        self.map.entries.push(entry);
        self.stated.push(stated);
    }

    /// An entry as it stands; a second one of its key is reported and left out.
    pub(crate) fn state(&mut self, entry: Entry, diagnostics: &mut Vec<Diagnostic>) {
        match self.find(&entry.key) {
            None => self.push(entry, true),
            Some(at) if self.stated[at] => {
                let message = format!("`{}` stands here twice", entry.key);
                diagnostics.push(Diagnostic::error(message).at(&entry.key_span, "the second one"));
            }
            Some(at) => {
                self.map.entries[at] = entry;
                self.stated[at] = true;
            }
        }
    }

    /// `<<: value`, a map or a list of maps of which the earlier ones win. Kubernetes lets it replace
    /// what stands before it.
    pub(crate) fn merge(
        &mut self,
        key: &Span,
        value: Node,
        dialect: Dialect,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let place = value.span.clone();
        let mut sources = match value.value {
            Value::Seq(items) => items,
            _ => vec![value],
        };
        if dialect == Dialect::Kubernetes {
            sources.reverse();
        }
        for source in sources {
            let Value::Map(source) = source.value else {
                let message = "`<<` merges a map or a list of maps";
                diagnostics.push(Diagnostic::error(message).at(&place, "something else"));
                return;
            };
            for entry in source.entries {
                match self.find(&entry.key) {
                    None => self.push(entry, false),
                    Some(_) if dialect == Dialect::Yaml12 => {}
                    Some(at) => {
                        if self.stated[at] {
                            let message =
                                format!("`<<` replaces the `{}` that stands before it", entry.key);
                            let warning = Diagnostic::warning(message);
                            let help = "put `<<` first to keep the other";
                            diagnostics.push(warning.at(key, "as Kubernetes does").help(help));
                        }
                        self.map.entries[at] = entry;
                    }
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Map {
        self.map
    }
}
