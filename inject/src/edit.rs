//! Additions to a manifest that leave everything else as it was written.

use crate::yaml;
use serde_json::Value;
use source::node::Entry;
use source::{Node, SourceFile};

/// Changes of one file.
#[derive(Debug)]
pub(crate) struct Edits<'f> {
    file: &'f SourceFile,
    /// Where text is inserted, how much of what is there it replaces, and the text.
    changes: Vec<(usize, usize, String)>,
}

impl<'f> Edits<'f> {
    pub(crate) fn new(file: &'f SourceFile) -> Edits<'f> {
        Edits {
            file,
            changes: Vec::new(),
        }
    }

    /// Nothing is changed so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The text with all changes.
    pub(crate) fn finish(mut self) -> String {
        let mut text = self.file.text.to_string();
        // Those at one place stay in order.
        self.changes.reverse();
        self.changes.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        for (at, length, new) in self.changes {
            text.replace_range(at..at + length, &new);
        }
        text
    }

    /// Replaces a scalar.
    pub(crate) fn replace(&mut self, node: &Node, value: &Value) {
        let range = node.span.range();
        self.changes
            .push((range.start, range.len(), value.to_string()));
    }

    /// Gives the map `parent` a map `key` with `entries`; where it has one, entries that are there are
    /// replaced.
    pub(crate) fn set_in(&mut self, parent: &Node, key: &str, entries: &[(String, Value)]) {
        let found = parent.as_map().and_then(|map| map.get(key));
        let Some(map) = found else {
            let all = Value::Object(entries.iter().cloned().collect());
            return self.add(parent, &[(key.to_owned(), all)]);
        };
        let known = |key: &str| found?.as_map()?.get(key);
        for (key, value) in entries {
            let same = |node: &&Node| node.as_scalar() == value.as_str();
            if let Some(node) = known(key).filter(|node| !same(node)) {
                self.replace(node, value);
            }
        }
        let new: Vec<_> = entries
            .iter()
            .filter(|(key, _)| known(key).is_none())
            .cloned()
            .collect();
        if !new.is_empty() {
            self.add(map, &new);
        }
    }

    /// Puts `items` before or after those of the list `key` of the map `parent`.
    pub(crate) fn list_in(&mut self, parent: &Node, key: &str, first: bool, items: &[Value]) {
        if items.is_empty() {
            return;
        }
        let entry = parent.as_map().and_then(|map| {
            let mut entries = map.entries.iter();
            entries.find(|entry| entry.key == key)
        });
        match entry.map(|entry| (entry, entry.value.as_seq().unwrap_or_default())) {
            None => {
                let all = Value::Array(items.to_vec());
                self.add(parent, &[(key.to_owned(), all)]);
            }
            Some((entry, [])) => self.fill(entry, &Value::Array(items.to_vec())),
            Some((entry, [head, .., last])) => self.join(entry, (head, last), first, items),
            Some((entry, [only])) => self.join(entry, (only, only), first, items),
        }
    }

    /// An empty list or map, or nothing at all, gives way.
    fn fill(&mut self, entry: &Entry, value: &Value) {
        let range = entry.value.span.range();
        let written = &self.file.text[range.clone()];
        match written.starts_with(['[', '{', '~', 'n', 'N']) {
            true => self
                .changes
                .push((range.start, range.len(), value.to_string())),
            false => {
                let after_key = entry.key_span.range().end;
                let colon = self.file.text[after_key..].find(':').unwrap_or(0);
                let at = after_key + colon + 1;
                self.changes.push((at, 0, format!(" {value}")));
            }
        }
    }

    fn join(&mut self, entry: &Entry, ends: (&Node, &Node), first: bool, items: &[Value]) {
        let list = entry.value.span.range().start;
        let flow = self.file.text[list..].starts_with('[');
        let (head, last) = (ends.0.span.range().start, end_of(ends.1));
        if flow {
            let texts: Vec<String> = items.iter().map(Value::to_string).collect();
            let text = texts.join(", ");
            return match first {
                true => self.changes.push((head, 0, format!("{text}, "))),
                false => self.changes.push((last, 0, format!(", {text}"))),
            };
        }
        // The dash of the first item is where the items begin.
        let dash = self.file.text[..head].rfind('-').unwrap_or(head);
        let indent = self.indent(dash);
        let lines: Vec<String> = items.iter().flat_map(yaml::item).collect();
        match first {
            true => {
                let text: String = lines.iter().map(|l| format!("{l}\n{indent}")).collect();
                self.changes.push((dash, 0, text));
            }
            false => {
                let text: String = lines.iter().map(|l| format!("\n{indent}{l}")).collect();
                self.changes.push((self.line_end(last), 0, text));
            }
        }
    }

    /// Puts `entries` before those of a map.
    fn add(&mut self, map: &Node, entries: &[(String, Value)]) {
        let start = map.span.range().start;
        let first = map.as_map().and_then(|map| map.entries.first());
        if self.file.text[start..].starts_with('{') {
            let all = Value::Object(entries.iter().cloned().collect()).to_string();
            let inside = &all[1..all.len() - 1];
            let comma = if first.is_some() { ", " } else { "" };
            self.changes
                .push((start + 1, 0, format!("{inside}{comma}")));
            return;
        }
        let Some(first) = first else {
            // Nothing is written: `labels:`.
            let all = Value::Object(entries.iter().cloned().collect());
            self.changes
                .push((map.span.range().end, 0, format!(" {all}")));
            return;
        };
        let at = first.key_span.range().start;
        let indent = self.indent(at);
        let lines = entries
            .iter()
            .flat_map(|(key, value)| yaml::entry(key, value));
        let text: String = lines.map(|line| format!("{line}\n{indent}")).collect();
        self.changes.push((at, 0, text));
    }

    /// Spaces up to the column of `at`.
    fn indent(&self, at: usize) -> String {
        let line = self.file.text[..at].rfind('\n').map_or(0, |end| end + 1);
        " ".repeat(self.file.text[line..at].chars().count())
    }

    fn line_end(&self, at: usize) -> usize {
        let rest = &self.file.text[at..];
        at + rest.find('\n').unwrap_or(rest.len())
    }
}

/// Where the last thing that is written in a node ends.
fn end_of(node: &Node) -> usize {
    let inner = match &node.value {
        source::Value::Map(map) => map
            .entries
            .last()
            .map(|entry| end_of(&entry.value).max(entry.key_span.range().end)),
        source::Value::Seq(items) => items.last().map(end_of),
        _ => None,
    };
    let range = node.span.range();
    let text = &node.span.file.text[range.clone()];
    let own = range.start + text.trim_end().len();
    let closed = text.starts_with(['{', '[', '"', '\'']) || inner.is_none();
    if closed { own } else { inner.unwrap_or(own) }
}
