//! From text to trees. Depth, size and the growth that aliases can cause are bounded.

use crate::diagnostic::Diagnostic;
use crate::mapping::Mapping;
use crate::node::{Entry, Node, Value};
use crate::scalar::resolve;
use crate::text::{SourceFile, Span};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ScanSpan, StrInput};
use std::collections::BTreeMap;
use std::sync::Arc;

const DEPTH_MAX: usize = 64;
/// That anchors and their aliases may add to one stream.
const COPIES_MAX: usize = 100_000;
/// What a node takes, about.
const NODE_BYTES: usize = 64;
/// Of one document.
const NODES_MAX: usize = 10_000_000;
/// In bytes: more than an API server would keep of a whole object.
const SCALAR_MAX: usize = 2 << 20;
/// In bytes.
const FILE_MAX: usize = 1 << 30;

/// How plain scalars are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Only `true` and `false` are booleans.
    Yaml12,
    /// As Kubernetes reads YAML 1.1: `y`, `yes`, `on`, `n`, `no`, `off` are booleans too, `017` is octal,
    /// and what `<<` merges into a map replaces what stands before it there.
    Kubernetes,
}

/// Every document of a stream that is not empty. Reading stops at the first malformed one; what
/// came before it is returned.
pub fn parse(file: &Arc<SourceFile>, dialect: Dialect) -> (Vec<Node>, Vec<Diagnostic>) {
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    each_document(file, dialect, &mut diagnostics, |node, _| {
        documents.push(node)
    });
    (documents, diagnostics)
}

/// The same, one document after the other, so that a large file need not be held as a whole.
pub fn each_document(
    file: &Arc<SourceFile>,
    dialect: Dialect,
    diagnostics: &mut Vec<Diagnostic>,
    take: impl FnMut(Node, &mut Vec<Diagnostic>),
) {
    if file.text.len() > FILE_MAX {
        let message = format!(
            "a file of more than {} MB is no configuration",
            FILE_MAX >> 20
        );
        diagnostics.push(Diagnostic::error(message).at(&file.span(0..0), "begins here"));
        return;
    }
    let mut builder = Builder {
        file,
        dialect,
        offsets: offsets_of(&file.text),
        parser: Parser::new_from_str(&file.text),
        anchors: BTreeMap::new(),
        copies: 0,
        nodes: 0,
        diagnostics,
    };
    if let Err(stop) = builder.stream(take) {
        diagnostics.push(*stop);
    }
}

/// Byte offset of every character; the parser counts characters.
fn offsets_of(text: &str) -> Vec<u32> {
    if text.is_ascii() {
        return Vec::new();
    }
    text.char_indices()
        .map(|(at, _)| at as u32)
        .chain([text.len() as u32])
        .collect()
}

struct Builder<'a> {
    file: &'a Arc<SourceFile>,
    dialect: Dialect,
    offsets: Vec<u32>,
    parser: Parser<'a, StrInput<'a>>,
    /// With the number of nodes in each.
    anchors: BTreeMap<usize, (Node, usize)>,
    /// Nodes that stand for anchors and aliases.
    copies: usize,
    /// Of this document so far.
    nodes: usize,
    diagnostics: &'a mut Vec<Diagnostic>,
}

type Stop = Box<Diagnostic>;

impl<'a> Builder<'a> {
    fn stream(&mut self, mut take: impl FnMut(Node, &mut Vec<Diagnostic>)) -> Result<(), Stop> {
        loop {
            match self.next()?.0 {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_) => {
                    self.nodes = 0;
                    let (event, span) = self.next()?;
                    let node = self.node(event, span, 0)?;
                    self.anchors.clear();
                    if node.value != Value::Null {
                        take(node, self.diagnostics);
                    }
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, ScanSpan), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.malformed(&error)),
            None => Ok((Event::StreamEnd, ScanSpan::default())),
        }
    }

    fn malformed(&self, error: &ScanError) -> Stop {
        // What is missing at the end is missing after the last word.
        let at = self
            .offset(error.marker().index())
            .min(self.file.text.trim_end().len());
        let span = self.file.span(at..at + 1);
        Box::new(Diagnostic::error(format!("not YAML: {}", error.info())).at(&span, "here"))
    }

    fn offset(&self, character: usize) -> usize {
        if self.offsets.is_empty() {
            return character;
        }
        self.offsets
            .get(character)
            .map_or(self.file.text.len(), |&at| at as usize)
    }

    fn span(&self, span: ScanSpan) -> Span {
        self.file
            .span(self.offset(span.start.index())..self.offset(span.end.index()))
    }

    fn node(&mut self, event: Event<'a>, at: ScanSpan, depth: usize) -> Result<Node, Stop> {
        let span = self.span(at);
        if depth > DEPTH_MAX {
            return Err(refused(&span, "nested too deep to be configuration"));
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(refused(&span, "too many values to be configuration"));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, ..) if text.len() > SCALAR_MAX => {
                return Err(refused(&span, "a text too long to be configuration"));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = match plain {
                    true => resolve(&text, self.dialect),
                    false => Value::String(text.into_owned()),
                };
                (Node { value, span }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(span, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(span, depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, &span),
            _ => (
                Node {
                    value: Value::Null,
                    span,
                },
                0,
            ),
        };
        if anchor > 0 {
            let size = size_of(&node);
            self.copy(size, &node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn copy(&mut self, size: usize, span: &Span) -> Result<(), Stop> {
        self.copies += size;
        match self.copies > COPIES_MAX {
            true => Err(refused(
                span,
                "anchors and aliases make it too large to be configuration",
            )),
            false => Ok(()),
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<Node, Stop> {
        let Some(&(_, size)) = self.anchors.get(&anchor) else {
            return Err(refused(span, "an alias inside its own anchor"));
        };
        self.copy(size, span)?;
        Ok(self.anchors[&anchor].0.clone())
    }

    fn sequence(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                let span = self.through(span, at, items.last());
                return Ok(Node {
                    value: Value::Seq(items),
                    span,
                });
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    fn mapping(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut map = Mapping::default();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                let map = map.finish();
                let span = self.through(span, at, map.entries.last().map(|entry| &entry.value));
                return Ok(Node {
                    value: Value::Map(map),
                    span,
                });
            }
            let key = self.node(event, at, depth + 1)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            match key.as_str() == Some("<<") && key.span.text() == "<<" {
                true => map.merge(&key.span, value, self.dialect, self.diagnostics),
                false => self.entry(&mut map, key, value),
            }
        }
    }

    fn entry(&mut self, map: &mut Mapping, key: Node, value: Node) {
        let Some(name) = self.key(&key) else {
            self.diagnostics
                .push(Diagnostic::error("a key must be text").at(&key.span, key.kind()));
            return;
        };
        let entry = Entry {
            key: name,
            key_span: key.span,
            value,
        };
        map.state(entry, self.diagnostics);
    }

    /// JSON's keys are texts; a number or boolean becomes one.
    fn key(&mut self, key: &Node) -> Option<String> {
        let written = key.span.text();
        let name = match &key.value {
            Value::String(text) => return Some(text.clone()),
            Value::Null | Value::Seq(_) | Value::Map(_) => return None,
            _ if self.dialect == Dialect::Yaml12 => written.to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
        };
        if name != written {
            let message = format!("YAML 1.1 reads the key `{written}` as `{name}`");
            let warning = Diagnostic::warning(message).at(&key.span, "quote it to keep it as text");
            self.diagnostics.push(warning);
        }
        Some(name)
    }

    /// A collection reaches to its end mark, or to its last value in block style.
    fn through(&self, start: Span, end: ScanSpan, last: Option<&Node>) -> Span {
        let flow = start.text().starts_with(['[', '{']);
        let end = match last {
            Some(last) if !flow => last.span.range().end,
            _ => self.span(end).range().end,
        };
        self.file.span(start.range().start..end)
    }
}

fn refused(span: &Span, why: &str) -> Stop {
    Box::new(Diagnostic::error(why).at(span, "here"))
}

/// How many nodes it is.
/// In nodes; a long text is as many as take its room.
fn size_of(node: &Node) -> usize {
    let of_text = |text: &str| text.len() / NODE_BYTES;
    1 + match &node.value {
        Value::String(text) => of_text(text),
        Value::Seq(items) => items.iter().map(size_of).sum(),
        Value::Map(map) => map
            .entries
            .iter()
            .map(|entry| 1 + of_text(&entry.key) + size_of(&entry.value))
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Node {
        let (mut documents, diagnostics) = parse(&SourceFile::new("t", text), Dialect::Yaml12);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        documents.remove(0)
    }

    #[test]
    fn values_know_their_place() {
        let node = one("a: 1\nbé:\n  - x: 2.5\n    y: 'two'\n");
        let y = node
            .at(&["bé"])
            .and_then(|n| n.as_seq())
            .and_then(|s| s[0].at(&["y"]))
            .unwrap();
        assert_eq!(
            (y.span.line(), y.span.column(), y.span.text()),
            (4, 8, "'two'")
        );
        assert_eq!(node.at(&["a"]).unwrap().value, Value::Int(1));
    }

    #[test]
    fn documents_before_a_malformed_one_are_kept() {
        let file = SourceFile::new("t", "a: 1\n---\n---\nb: 2\n---\nc: [1\nd: }\n");
        let (documents, diagnostics) = parse(&file, Dialect::Yaml12);
        assert_eq!((documents.len(), diagnostics.len()), (2, 1));
        assert!(
            diagnostics[0].message.starts_with("not YAML"),
            "{diagnostics:?}"
        );
    }

    #[test]
    fn kubernetes_reads_yaml_1_1_booleans() {
        let file = SourceFile::new("t", "n: yes\nv: 'no'");
        let (documents, _) = parse(&file, Dialect::Kubernetes);
        assert_eq!(
            documents[0].at(&["false"]).map(|n| &n.value),
            Some(&Value::Bool(true))
        );
        assert_eq!(documents[0].at(&["v"]).and_then(Node::as_str), Some("no"));
        assert_eq!(one("n: yes").at(&["n"]).and_then(Node::as_str), Some("yes"));
    }

    #[test]
    fn aliases_are_copies_and_cannot_explode() {
        let node = one("a: &x {k: 1}\nb: *x\nc: {<<: *x, z: 2}\n");
        assert_eq!(node.at(&["b", "k"]), node.at(&["a", "k"]));
        assert_eq!(node.at(&["c", "k"]), node.at(&["a", "k"]));
        let mut bomb = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
        for i in 1..12 {
            bomb += &format!(
                "a{i}: &a{i} [{}]\n",
                vec![format!("*a{}", i - 1); 10].join(",")
            );
        }
        let (_, diagnostics) = parse(&SourceFile::new("t", &bomb), Dialect::Yaml12);
        assert!(diagnostics[0].message.contains("too large"));
        let copies = format!(
            "a: &a [{}]\nb: [{}]\n",
            "1,".repeat(1000),
            "*a,".repeat(1000)
        );
        let (_, diagnostics) = parse(&SourceFile::new("t", &copies), Dialect::Yaml12);
        assert!(diagnostics[0].message.contains("too large"));
    }

    #[test]
    fn a_key_stands_once() {
        let (_, diagnostics) = parse(&SourceFile::new("t", "a: 1\na: 2\n"), Dialect::Yaml12);
        assert_eq!(diagnostics[0].message, "`a` stands here twice");
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text in "([a-z]{0,3}|<<|0x|on|[:\\-\\[\\]{}&*!|>'\" \n\t#%@,?é0-9._]{0,4}){0,40}",
            kubernetes: bool,
        ) {
            let dialect = if kubernetes { Dialect::Kubernetes } else { Dialect::Yaml12 };
            let (documents, diagnostics) = parse(&SourceFile::new("t", &text), dialect);
            for diagnostic in &diagnostics {
                let _ = crate::render(std::slice::from_ref(diagnostic), false);
            }
            drop(documents);
        }
    }
}
