//! Files and places in them.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// As the user named it.
    pub name: Arc<str>,
    pub text: Arc<str>,
    /// Where each line begins, found when first asked for.
    line_starts: OnceLock<Vec<u32>>,
    /// Whether each character is a byte, found when first asked for.
    ascii: OnceLock<bool>,
}

impl SourceFile {
    /// A file of that name and content.
    pub fn new(name: &str, text: &str) -> Arc<SourceFile> {
        Arc::new(SourceFile {
            name: name.into(),
            text: text.into(),
            line_starts: OnceLock::new(),
            ascii: OnceLock::new(),
        })
    }

    /// The lines that begin at or before `offset`, and where the last of them begins.
    fn line_at(&self, offset: u32) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            let after = ends.map(|(at, _)| at as u32 + 1);
            std::iter::once(0).chain(after).collect()
        });
        let lines = starts.partition_point(|start| *start <= offset);
        (lines, starts[lines - 1] as usize)
    }

    /// The place of the bytes in `range`, cut to the text and to whole characters.
    pub fn span(self: &Arc<SourceFile>, range: Range<usize>) -> Span {
        let whole = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = whole(range.start);
        Span {
            file: Arc::clone(self),
            start: start as u32,
            end: whole(range.end).max(start) as u32,
        }
    }
}

/// A place in a file. Two spans are equal wherever they are, so that values read from different
/// places compare by content.
#[derive(Clone)]
pub struct Span {
    pub file: Arc<SourceFile>,
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes it covers.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The text it covers.
    pub fn text(&self) -> &str {
        &self.file.text[self.range()]
    }

    /// Line of its start, from 1.
    pub fn line(&self) -> u32 {
        self.file.line_at(self.start).0 as u32
    }

    /// Column of its start in characters, from 1.
    pub fn column(&self) -> u32 {
        let (_, line_start) = self.file.line_at(self.start);
        let text = &self.file.text;
        let before = &text[line_start..self.start as usize];
        let characters = match self.file.ascii.get_or_init(|| text.is_ascii()) {
            true => before.len(),
            false => before.chars().count(),
        };
        1 + characters as u32
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

impl Eq for Span {}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line(), self.column())
    }
}
