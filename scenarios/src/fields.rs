//! The steps that all readers share. A reader takes a node and what it is called in messages, says
//! what is wrong with it, and returns a value only if it has one.

use crate::model::Named;
use source::fields::expected;
use source::node::Entry;
use source::{Diagnostic, Fields, Node};

/// The value of `key`, if there.
pub(crate) fn read<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    reader: impl FnOnce(&Node, &str, &mut Vec<Diagnostic>) -> Option<T>,
) -> Option<T> {
    let node = fields.optional(key)?;
    reader(node, key, fields.diagnostics)
}

/// The value of `key`; its absence is reported.
pub(crate) fn require<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    reader: impl FnOnce(&Node, &str, &mut Vec<Diagnostic>) -> Option<T>,
) -> Option<T> {
    let node = fields.required(key)?;
    reader(node, key, fields.diagnostics)
}

/// A whole number within `range`, if there.
pub(crate) fn count(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u32>,
) -> Option<u32> {
    let range = i64::from(*range.start())..=i64::from(*range.end());
    let value = fields.integer(key, range)?;
    u32::try_from(value).ok()
}

/// The entries of a map whose keys are names.
pub(crate) fn entries<'n>(
    node: &'n Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> &'n [Entry] {
    match node.as_map() {
        Some(map) => &map.entries,
        None => {
            diagnostics.push(expected(node, &format!("`{what}` is a map")));
            &[]
        }
    }
}

/// The items of a list.
pub(crate) fn items<'n>(
    node: &'n Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> &'n [Node] {
    match node.as_seq() {
        Some(items) => items,
        None => {
            diagnostics.push(expected(node, &format!("`{what}` is a list")));
            &[]
        }
    }
}

/// A name or path, with its place.
pub(crate) fn named(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Named> {
    match node.as_scalar() {
        Some(text) if !text.trim().is_empty() => Some(Named {
            text: text.to_owned(),
            span: node.span.clone(),
        }),
        _ => {
            diagnostics.push(expected(node, &format!("`{what}` is a name or path")));
            None
        }
    }
}

/// The key of an entry, with its place.
pub(crate) fn key(entry: &Entry) -> Named {
    Named {
        text: entry.key.clone(),
        span: entry.key_span.clone(),
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(
    node: &Node,
    what: &str,
    choices: &[(&str, T)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let written = node.as_scalar().unwrap_or_default();
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == written) {
        return Some(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let want = format!("`{what}` is one of {}", words.join(", "));
    diagnostics.push(
        Diagnostic::error(want)
            .at(&node.span, "not one of them")
            .nearest(written, words),
    );
    None
}

/// Reports that exactly one of `keys` must be there, unless exactly one is.
pub(crate) fn exactly_one(
    fields: &mut Fields<'_, '_>,
    what: &str,
    keys: &[&'static str],
) -> Option<&'static str> {
    let present: Vec<&'static str> = keys
        .iter()
        .copied()
        .filter(|key| fields.optional(key).is_some())
        .collect();
    if let [one] = present[..] {
        return Some(one);
    }
    let label = match present[..] {
        [] => "none of them is here".to_owned(),
        _ => format!("here are {}", present.join(" and ")),
    };
    let message = format!("{what} needs exactly one of {}", keys.join(", "));
    let diagnostic = Diagnostic::error(message).at(fields.span(), label);
    fields.diagnostics.push(diagnostic);
    None
}
