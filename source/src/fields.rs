//! Strict reading of maps. A reader asks for every key it knows; what is left over is an error that
//! names the nearest known key.
//!
//! ```
//! use source::{Dialect, Fields, SourceFile, parse};
//! let file = SourceFile::new("a.yaml", "name: web\nprot: 80\n");
//! let (documents, _) = parse(&file, Dialect::Yaml12);
//! let mut diagnostics = Vec::new();
//! let mut fields = Fields::of(&documents[0], "a port", &mut diagnostics).expect("it is a map");
//! assert_eq!(fields.text("name").as_deref(), Some("web"));
//! assert_eq!(fields.optional("port"), None);
//! fields.finish();
//! assert_eq!(diagnostics[0].help.as_deref(), Some("did you mean `port`?"));
//! ```

use crate::diagnostic::Diagnostic;
use crate::node::{Map, Node, Value};
use crate::scalar::surprise;
use crate::text::Span;

/// A map being read.
pub struct Fields<'n, 'd> {
    map: &'n Map,
    /// What the map is, for messages: "a destination".
    what: &'static str,
    span: &'n Span,
    known: Vec<&'static str>,
    pub diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'n, 'd> Fields<'n, 'd> {
    /// Reads `node` as `what`; anything but a map is reported.
    pub fn of(
        node: &'n Node,
        what: &'static str,
        diagnostics: &'d mut Vec<Diagnostic>,
    ) -> Option<Fields<'n, 'd>> {
        match &node.value {
            Value::Map(map) => Some(Fields {
                map,
                what,
                span: &node.span,
                known: Vec::new(),
                diagnostics,
            }),
            _ => {
                diagnostics.push(expected(node, &format!("{what} is a map")));
                None
            }
        }
    }

    /// Where the map stands.
    pub fn span(&self) -> &'n Span {
        self.span
    }

    /// The value of `key`, if there; an explicit null counts as absent.
    pub fn optional(&mut self, key: &'static str) -> Option<&'n Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.map.get(key).filter(|node| node.value != Value::Null)
    }

    /// The value of `key`; its absence is reported.
    pub fn required(&mut self, key: &'static str) -> Option<&'n Node> {
        let found = self.optional(key);
        if found.is_none() {
            let message = format!("{} needs `{key}`", self.what);
            self.diagnostics
                .push(Diagnostic::error(message).at(self.span, format!("`{key}` is missing")));
        }
        found
    }

    /// Text, if there.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.optional(key)?;
        self.as_text(key, node)
    }

    /// Text that must be there.
    pub fn required_text(&mut self, key: &'static str) -> Option<String> {
        let node = self.required(key)?;
        self.as_text(key, node)
    }

    fn as_text(&mut self, key: &str, node: &Node) -> Option<String> {
        let text = node.as_str().map(str::to_owned);
        if text.is_none() {
            let want = format!("`{key}` is text");
            self.diagnostics.push(expected_text(node, &want));
        }
        text
    }

    /// `true` or `false`, if there.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.optional(key)?;
        match node.value {
            Value::Bool(value) => {
                self.diagnostics.extend(surprised(node));
                Some(value)
            }
            _ => {
                self.diagnostics
                    .push(expected(node, &format!("`{key}` is true or false")));
                None
            }
        }
    }

    /// A whole number within `range`, if there.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let node = self.optional(key)?;
        match node.value {
            Value::Int(value) if range.contains(&value) => {
                self.diagnostics.extend(surprised(node));
                Some(value)
            }
            _ => {
                let want = format!(
                    "`{key}` is a whole number from {} to {}",
                    range.start(),
                    range.end()
                );
                self.diagnostics.push(expected(node, &want));
                None
            }
        }
    }

    /// A list, if there.
    pub fn list(&mut self, key: &'static str) -> &'n [Node] {
        let Some(node) = self.optional(key) else {
            return &[];
        };
        match &node.value {
            Value::Seq(items) => items,
            _ => {
                self.diagnostics
                    .push(expected(node, &format!("`{key}` is a list")));
                &[]
            }
        }
    }

    /// A list of texts, if there.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.list(key)
            .iter()
            .filter_map(|node| self.as_text(key, node))
            .collect()
    }

    /// A map from text to text, in the order written.
    pub fn text_map(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(node) = self.optional(key) else {
            return Vec::new();
        };
        let Some(map) = node.as_map() else {
            self.diagnostics
                .push(expected(node, &format!("`{key}` is a map")));
            return Vec::new();
        };
        map.entries
            .iter()
            .filter_map(|e| Some((e.key.clone(), self.as_text(&e.key, &e.value)?)))
            .collect()
    }

    /// Keys that have no influence here: read and dropped on purpose.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Keys that the format knows and this program does not do yet: a warning where they stand.
    pub fn unsupported(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.known.push(key);
            if let Some(entry) = self.map.entries.iter().find(|entry| entry.key == *key) {
                let message = format!("`{key}` of {} is not supported yet", self.what);
                self.diagnostics
                    .push(Diagnostic::warning(message).at(&entry.key_span, "has no effect here"));
            }
        }
    }

    /// The keys present that nobody asked for.
    pub fn rest(&mut self) -> impl Iterator<Item = &'n crate::node::Entry> + use<'n> {
        let known = std::mem::take(&mut self.known);
        self.map
            .entries
            .iter()
            .filter(move |entry| !known.contains(&entry.key.as_str()))
    }

    /// Reports every key never asked for.
    pub fn finish(self) {
        for entry in &self.map.entries {
            if !self.known.contains(&entry.key.as_str()) {
                let diagnostic = Diagnostic::error(format!("unknown key `{}`", entry.key))
                    .at(&entry.key_span, format!("not a key of {}", self.what))
                    .nearest(&entry.key, self.known.iter().copied());
                let listed = match diagnostic.help {
                    Some(_) => diagnostic,
                    None => diagnostic.help(format!("known keys: {}", self.known.join(", "))),
                };
                self.diagnostics.push(listed);
            }
        }
    }
}

/// A warning about a value that is not what it looks like.
fn surprised(node: &Node) -> Option<Diagnostic> {
    let message = surprise(node)?;
    Some(Diagnostic::warning(message).at(&node.span, "as Kubernetes does"))
}

/// "expected this, found that", at the value.
pub fn expected(node: &Node, want: &str) -> Diagnostic {
    Diagnostic::error(want.to_owned()).at(&node.span, format!("found {}", node.kind()))
}

/// The same where text is expected: how to make text of a number, `true` or `no`.
pub fn expected_text(node: &Node, want: &str) -> Diagnostic {
    let diagnostic = expected(node, want);
    if node.as_scalar().is_none() {
        return diagnostic;
    }
    let quoted = format!("quote it to make it text: \"{}\"", node.span.text());
    match surprise(node) {
        Some(message) => diagnostic.help(format!("{message}; {quoted}")),
        None => diagnostic.help(quoted),
    }
}
