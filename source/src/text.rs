//! Files and places in them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// As the user named it.
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file of that name and content.
    pub fn new(name: &str, text: &str) -> Arc<SourceFile> {
        Arc::new(SourceFile {
            name: name.into(),
            text: text.into(),
        })
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
        1 + self.before().bytes().filter(|&b| b == b'\n').count() as u32
    }

    /// Column of its start in characters, from 1.
    pub fn column(&self) -> u32 {
        let line_start = self.before().rfind('\n').map_or(0, |at| at + 1);
        1 + self.before()[line_start..].chars().count() as u32
    }

    fn before(&self) -> &str {
        &self.file.text[..self.start as usize]
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
