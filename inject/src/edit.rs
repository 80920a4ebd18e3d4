//! Additions to a manifest that leave everything else as it was written.

use crate::yaml;
use serde_json::Value;
use source::node::Entry;
use source::{Diagnostic, Dialect, Node, SourceFile, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands at a place: its range, and its type, as the first item of a list begins where the list does.
type Written = (usize, usize, &'static str);

/// Changes of one file.
#[derive(Debug)]
pub(crate) struct Edits<'f> {
    file: &'f Arc<SourceFile>,
    /// Where text is inserted, how much of what is there it replaces, and the text.
    changes: Vec<(usize, usize, String)>,
    /// How many values are read from one place: more than one where aliases repeat it.
    read: BTreeMap<Written, usize>,
    /// What should be changed, but is not only the pod's.
    refused: Vec<Span>,
}

impl<'f> Edits<'f> {
    pub(crate) fn new(file: &'f Arc<SourceFile>) -> Edits<'f> {
        let mut read = BTreeMap::new();
        for document in source::parse(file, Dialect::Kubernetes).0 {
            count(&document, &mut read);
        }
        Edits {
            file,
            changes: Vec::new(),
            read,
            refused: Vec::new(),
        }
    }

    /// Nothing is changed so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refused.is_empty()
    }

    /// The text with all changes; that of the file where one cannot be made, which is reported.
    pub(crate) fn finish(mut self, diagnostics: &mut Vec<Diagnostic>) -> String {
        let mut text = self.file.text.to_string();
        self.refused.sort_by_key(|span| span.range().start);
        self.refused.dedup_by_key(|span| span.range().start);
        for span in &self.refused {
            let message = "nothing can be added to this manifest: an anchor, an alias or `<<` makes \
                           what would change part of something else as well";
            let help = "write it out where it is used";
            diagnostics.push(Diagnostic::error(message).at(span, "here").help(help));
        }
        if !self.refused.is_empty() {
            return text;
        }
        // Those at one place stay in order.
        self.changes.reverse();
        self.changes.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let mut end = text.len();
        for (at, length, new) in self.changes {
            if at + length > end {
                let message = "nothing can be added to this manifest: two changes of one place";
                let span = self.file.span(at..at + length);
                diagnostics.push(Diagnostic::error(message).at(&span, "here"));
                return self.file.text.to_string();
            }
            text.replace_range(at..at + length, &new);
            end = at;
        }
        text
    }

    /// Whether a value is the pod's alone; refuses to change it otherwise.
    fn own(&mut self, node: &Node) -> bool {
        let own = self.read.get(&written(node)) == Some(&1);
        if !own {
            self.refused.push(node.span.clone());
        }
        own
    }

    /// The same of a value with its key.
    fn own_entry(&mut self, map: &Node, entry: &Entry) -> bool {
        // What an alias repeats or `<<` merges is written before.
        let (key, value) = (entry.key_span.range(), entry.value.span.range());
        let here = map.span.range().start <= key.start && key.end <= value.start;
        if !here {
            self.refused.push(entry.key_span.clone());
        }
        here && self.own(&entry.value)
    }

    /// Gives the map `parent` a map `key` with `entries`; where it has one, entries that are there are
    /// replaced.
    pub(crate) fn set_in(&mut self, parent: &Node, key: &str, entries: &[(String, Value)]) {
        let Some(found) = entry_of(parent, key) else {
            let all = Value::Object(entries.iter().cloned().collect());
            return self.add(parent, &[(key.to_owned(), all)]);
        };
        let map = &found.value;
        if map.value == source::Value::Null {
            if self.own_entry(parent, found) {
                let all = Value::Object(entries.iter().cloned().collect());
                self.fill(found, &all);
            }
            return;
        }
        let mut new = Vec::new();
        for (key, value) in entries {
            match entry_of(map, key) {
                None => new.push((key.clone(), value.clone())),
                Some(there) if there.value.as_scalar() == value.as_str() => {}
                Some(there) => {
                    if self.own_entry(parent, found) && self.own_entry(map, there) {
                        let range = there.value.span.range();
                        let change = (range.start, range.len(), value.to_string());
                        self.changes.push(change);
                    }
                }
            }
        }
        if !new.is_empty() && self.own_entry(parent, found) {
            self.add(map, &new);
        }
    }

    /// Puts `items` before or after those of the list `key` of the map `parent`.
    pub(crate) fn list_in(&mut self, parent: &Node, key: &str, first: bool, items: &[Value]) {
        if items.is_empty() {
            return;
        }
        let Some(entry) = entry_of(parent, key) else {
            let all = Value::Array(items.to_vec());
            return self.add(parent, &[(key.to_owned(), all)]);
        };
        if !self.own_entry(parent, entry) {
            return;
        }
        match entry.value.as_seq().unwrap_or_default() {
            [] => self.fill(entry, &Value::Array(items.to_vec())),
            [head, ..] if first => self.before(&entry.value, head, items),
            [.., last] => self.after(&entry.value, last, items),
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

    fn before(&mut self, list: &Node, head: &Node, items: &[Value]) {
        if !self.own(head) {
            return;
        }
        if self.flow(list) {
            // An anchor of the first item stays with it.
            let start = self.begin(list);
            let texts: Vec<String> = items.iter().map(Value::to_string).collect();
            let text = texts.join(", ");
            return self.changes.push((start + 1, 0, format!("{text}, ")));
        }
        let Some(dash) = self.dash(list) else {
            return self.refused.push(list.span.clone());
        };
        let indent = self.indent(dash);
        let lines = items.iter().flat_map(yaml::item);
        let text = lines.map(|line| format!("{line}\n{indent}")).collect();
        self.changes.push((dash, 0, text));
    }

    fn after(&mut self, list: &Node, last: &Node, items: &[Value]) {
        if !self.own(last) {
            return;
        }
        let Some(end) = end_of(last) else {
            return self.refused.push(last.span.clone());
        };
        if self.flow(list) {
            let texts: Vec<String> = items.iter().map(Value::to_string).collect();
            let text = texts.join(", ");
            return self.changes.push((end, 0, format!(", {text}")));
        }
        let Some(dash) = self.dash(list) else {
            return self.refused.push(list.span.clone());
        };
        let indent = self.indent(dash);
        let lines = items.iter().flat_map(yaml::item);
        let text = lines.map(|line| format!("\n{indent}{line}")).collect();
        self.changes.push((self.line_end(end), 0, text));
    }

    fn flow(&self, list: &Node) -> bool {
        self.file.text[self.begin(list)..].starts_with('[')
    }

    /// That of the first item of a list in block style. Where it is not indented, the list's place begins
    /// behind it.
    fn dash(&self, list: &Node) -> Option<usize> {
        let begin = self.begin(list);
        if self.file.text[begin..].starts_with('-') {
            return Some(begin);
        }
        let before = self.file.text[..list.span.range().start].trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }

    /// Where a value begins, behind an anchor or a tag.
    fn begin(&self, node: &Node) -> usize {
        let range = node.span.range();
        let mut rest = &self.file.text[range.start..];
        while rest.starts_with(['&', '!', '#']) {
            let comment = rest.starts_with('#');
            let end = |c: char| {
                if comment {
                    c == '\n'
                } else {
                    c.is_whitespace()
                }
            };
            rest = rest.find(end).map_or("", |at| rest[at..].trim_start());
        }
        self.file.text.len() - rest.len()
    }

    /// Puts `entries` before those of a map.
    fn add(&mut self, map: &Node, entries: &[(String, Value)]) {
        if !self.own(map) {
            return;
        }
        let start = self.begin(map);
        let first = map.as_map().and_then(|map| map.entries.first());
        if self.file.text[start..].starts_with('{') {
            let all = Value::Object(entries.iter().cloned().collect()).to_string();
            let inside = &all[1..all.len() - 1];
            let comma = if first.is_some() { ", " } else { "" };
            self.changes
                .push((start + 1, 0, format!("{inside}{comma}")));
            return;
        }
        let at = first.map_or(0, |first| first.key_span.range().start);
        if at < start {
            return self.refused.push(map.span.clone());
        }
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

fn entry_of<'n>(map: &'n Node, key: &str) -> Option<&'n Entry> {
    let entries = &map.as_map()?.entries;
    entries.iter().find(|entry| entry.key == key)
}

fn written(node: &Node) -> Written {
    let range = node.span.range();
    (range.start, range.end, node.kind())
}

fn count(node: &Node, read: &mut BTreeMap<Written, usize>) {
    *read.entry(written(node)).or_default() += 1;
    match &node.value {
        source::Value::Map(map) => map.entries.iter().for_each(|e| count(&e.value, read)),
        source::Value::Seq(items) => items.iter().for_each(|item| count(item, read)),
        _ => {}
    }
}

/// Where the last thing that is written in a node ends; `None`: it is written elsewhere.
fn end_of(node: &Node) -> Option<usize> {
    let range = node.span.range();
    let text = &node.span.file.text[range.clone()];
    let own = range.start + text.trim_end().len();
    if text.starts_with(['{', '[', '"', '\'']) {
        return Some(own);
    }
    let (after, last) = match &node.value {
        source::Value::Map(map) => {
            let last = map.entries.last();
            last.map(|entry| (entry.key_span.range(), &entry.value))?
        }
        source::Value::Seq(items) => (range.start..range.start, items.last()?),
        _ => return Some(own),
    };
    let here = range.start <= after.start && after.end <= last.span.range().start;
    if here { end_of(last) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_changes_of_one_place_are_an_error() {
        let file = SourceFile::new("a.yaml", "a: bcd\n");
        let finish = |changes: [(usize, usize, &str); 2]| {
            let mut edits = Edits::new(&file);
            let changes = changes.map(|(at, length, new)| (at, length, new.to_owned()));
            edits.changes = changes.to_vec();
            let mut diagnostics = Vec::new();
            (edits.finish(&mut diagnostics), diagnostics.len())
        };
        let unchanged = ("a: bcd\n".to_owned(), 1);
        assert_eq!(finish([(3, 3, "x"), (3, 3, "x")]), unchanged);
        assert_eq!(finish([(4, 3, ""), (3, 3, "x")]), unchanged);
        let made = ("a: xcdy\n".to_owned(), 0);
        assert_eq!(finish([(3, 1, "x"), (6, 0, "y")]), made);
    }
}
