//! Errors and warnings, and their rendering.

use crate::text::Span;
use annotate_snippets::{AnnotationKind, Group, Level as SnippetLevel, Origin, Renderer, Snippet};
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Note,
    Warning,
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        })
    }
}

/// Something to tell the user about their input.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub level: Level,
    /// A stable code (`IST0101`), where there is one.
    pub code: Option<&'static str>,
    pub message: String,
    pub span: Option<Span>,
    /// Stands under the snippet: what was expected.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The object it is about: `Kind namespace/name`.
    pub resource: Option<String>,
}

impl Diagnostic {
    fn new(level: Level, message: String) -> Diagnostic {
        let label = String::new();
        Diagnostic {
            level,
            code: None,
            message,
            span: None,
            label,
            help: None,
            resource: None,
        }
    }

    /// The input cannot be used.
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Level::Error, message.into())
    }

    /// The input is used, but not as its author may think.
    pub fn warning(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Level::Warning, message.into())
    }

    /// Worth knowing.
    pub fn note(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Level::Note, message.into())
    }

    /// Where, and what stands under the snippet.
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Diagnostic {
        self.span = Some(span.clone());
        self.label = label.into();
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// "did you mean", if one of `names` is near to `word`.
    pub fn nearest<'a>(self, word: &str, names: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        match nearest(word, names) {
            Some(name) => {
                let help = format!("did you mean `{name}`?");
                self.help(help)
            }
            None => self,
        }
    }

    /// A stable code.
    pub fn code(mut self, code: &'static str) -> Diagnostic {
        self.code = Some(code);
        self
    }
}

/// The name nearest to `word`, if any is near enough to be what was meant.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (wanted, length) = (word.to_lowercase(), word.chars().count());
    let most = |name: &str| (word.len().max(name.len()) / 3).max(1);
    names
        .into_iter()
        // There may be very many.
        .filter(|name| length.abs_diff(name.chars().count()) <= most(name))
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&wanted, &name.to_lowercase());
            (distance, name)
        })
        .filter(|(distance, name)| *distance <= most(name))
        .min()
        .map(|(_, name)| name)
}

/// Of errors, and of all else: so many are shown with their place in the text.
const IN_FULL: usize = 50;

/// All diagnostics as people read them, worst count last. Where they are very many, the later ones
/// have a line each.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    let mut shown = [0, 0];
    let mut short = Vec::new();
    for diagnostic in diagnostics {
        let shown = &mut shown[usize::from(diagnostic.level == Level::Error)];
        *shown += 1;
        if *shown > IN_FULL {
            short.push(diagnostic);
            continue;
        }
        text += &renderer.render(&[group(diagnostic)]);
        text += "\n\n";
    }
    for diagnostic in &short {
        text += &line(diagnostic);
    }
    if !short.is_empty() {
        text += "\n";
    }
    text + &summary(diagnostics)
}

/// `LEVEL[CODE]: FILE:LINE:COLUMN: MESSAGE: LABEL (OBJECT)`.
fn line(diagnostic: &Diagnostic) -> String {
    let mut line = diagnostic.level.to_string();
    if let Some(code) = diagnostic.code {
        line += &format!("[{code}]");
    }
    if let Some(span) = &diagnostic.span {
        line += &format!(": {}:{}:{}", span.file.name, span.line(), span.column());
    }
    line += &format!(": {}", diagnostic.message);
    if !diagnostic.label.is_empty() {
        line += &format!(": {}", diagnostic.label);
    }
    if let Some(resource) = &diagnostic.resource {
        line += &format!(" ({resource})");
    }
    line + "\n"
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let level = match diagnostic.level {
        Level::Error => SnippetLevel::ERROR,
        Level::Warning => SnippetLevel::WARNING,
        Level::Note => SnippetLevel::NOTE,
    };
    let mut title = level.primary_title(diagnostic.message.as_str());
    if let Some(code) = diagnostic.code {
        title = title.id(code);
    }
    let mut group = Group::with_title(title);
    if let Some(span) = &diagnostic.span {
        let (shown, marked, begins_line) = excerpt(span);
        let mut annotation = AnnotationKind::Primary.span(marked);
        if !diagnostic.label.is_empty() {
            annotation = annotation.label(diagnostic.label.as_str());
        }
        let (line, column) = (span.line() as usize, span.column() as usize);
        let snippet = Snippet::source(shown)
            .line_start(line)
            .annotation(annotation);
        group = match begins_line {
            true => group.element(snippet.path(&*span.file.name)),
            false => {
                let origin = Origin::path(&*span.file.name);
                let origin = origin.line(line).char_column(column);
                group.element(origin).element(snippet)
            }
        };
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(SnippetLevel::HELP.message(help.as_str()));
    }
    group
}

/// In bytes, on both sides of where a place begins.
const EXCERPT: usize = 512;

/// The line where the place begins, or of a long one what is near; where in this the place is (a long
/// value is shown by its first line); and whether it has the line's beginning. The size of the file
/// does not matter.
fn excerpt(span: &Span) -> (&str, std::ops::Range<usize>, bool) {
    let text = &*span.file.text;
    let range = span.range();
    let from = text.floor_char_boundary(range.start.saturating_sub(EXCERPT));
    let line = text[from..range.start].rfind('\n');
    let begin = line.map_or(from, |at| from + at + 1);
    let to = text.floor_char_boundary(range.start + EXCERPT);
    let end = text[range.start..to].find('\n');
    let end = end.map_or(to, |at| range.start + at);
    let marked = range.start - begin..range.end.min(end) - begin;
    (&text[begin..end], marked, line.is_some() || from == 0)
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |level| diagnostics.iter().filter(|d| d.level == level).count();
    let one = |n: usize, word: &str| {
        (n > 0).then(|| format!("{n} {word}{}", if n == 1 { "" } else { "s" }))
    };
    let parts: Vec<String> = [
        one(count(Level::Error), "error"),
        one(count(Level::Warning), "warning"),
        one(count(Level::Note), "note"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        String::new()
    } else {
        parts.join(", ") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::SourceFile;

    #[test]
    fn nearest_is_near() {
        assert_eq!(
            nearest("serivce_time", ["service_time", "workers"]),
            Some("service_time")
        );
        assert_eq!(nearest("v4", ["v1", "v2"]), Some("v1"));
        assert_eq!(nearest("something", ["else", "other"]), None);
    }

    #[test]
    fn shows_the_place() {
        let file = SourceFile::new("a.yaml", "one: 1\nserivce_time: 3ms\n");
        let diagnostic = Diagnostic::error("unknown key `serivce_time`")
            .at(&file.span(7..19), "not a key of a behaviour")
            .nearest("serivce_time", ["service_time"]);
        insta::assert_snapshot!(render(
            &[diagnostic, Diagnostic::warning("no place")],
            false
        ));
    }
}
