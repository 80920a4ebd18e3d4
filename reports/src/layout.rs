//! Tables, titles, colours.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const TITLE: Style = Style::new().bold();

/// `text` in a style, where colours are wanted.
pub(crate) fn paint(text: &str, style: Style, color: bool) -> String {
    if color {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// Lines under a line of headings, which is in bold; columns of numbers are flush right.
pub fn table(headings: &[&str], numbers: &[usize], rows: Vec<Vec<String>>, color: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.to_vec());
    table.add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.trim_fmt();
    match text.split_once('\n') {
        Some((head, body)) => format!("{}\n{body}\n", paint(head, TITLE, color)),
        None => paint(&text, TITLE, color) + "\n",
    }
}

/// A table whose rows begin with ✓ or ✗, in their colours.
pub(crate) fn verdicts(
    headings: &[&str],
    numbers: &[usize],
    rows: Vec<Vec<String>>,
    color: bool,
) -> String {
    let text = table(headings, numbers, rows, color);
    let lines = text.lines().map(|line| {
        let style = if line.starts_with('✗') { BAD } else { GOOD };
        let marked = line.strip_prefix(['✓', '✗']).map(|rest| {
            let mark = &line[..line.len() - rest.len()];
            paint(mark, style, color) + rest
        });
        marked.unwrap_or_else(|| line.to_owned()) + "\n"
    });
    lines.collect()
}

/// The mark of a verdict.
pub(crate) fn mark(passed: bool) -> &'static str {
    if passed { "✓" } else { "✗" }
}
