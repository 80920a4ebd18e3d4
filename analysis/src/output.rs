//! Messages and codes for programs: JSON, and SARIF 2.1.0.

use crate::codes::{self, Code};
use indexmap::IndexSet;
use serde_json::{Value, json};
use source::{Diagnostic, Level, Span};
use std::sync::Arc;

const SARIF_SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Puts messages in the order of the input: by file, by place in it. Those without a place come first,
/// those of other files than `files` last.
pub fn arrange(found: &mut [Diagnostic], files: &[Arc<str>]) {
    let mut order: IndexSet<Arc<str>> = files.iter().cloned().collect();
    let spans = found.iter().filter_map(|one| one.span.as_ref());
    order.extend(spans.map(|span| Arc::clone(&span.file.name)));
    found.sort_by_key(|one| {
        let span = one.span.as_ref()?;
        Some((order.get_index_of(&span.file.name), span.range().start))
    });
}

/// A message as an object.
pub fn entry(one: &Diagnostic) -> Value {
    json!({
        "code": one.code,
        "name": one.code.and_then(codes::find).map(|code| code.name),
        "level": one.level.to_string(),
        "message": one.message,
        "label": Some(&one.label).filter(|label| !label.is_empty()),
        "help": one.help,
        "resource": one.resource,
        "file": one.span.as_ref().map(|span| span.file.name.to_string()),
        "line": one.span.as_ref().map(Span::line),
        "column": one.span.as_ref().map(Span::column),
    })
}

/// Every code as an object.
pub fn listed() -> Vec<Value> {
    let entry = |code: &Code| {
        json!({
            "code": code.code,
            "name": code.name,
            "level": code.level.to_string(),
            "meaning": code.meaning,
        })
    };
    codes::ALL.iter().map(entry).collect()
}

/// A log of one run, as code scanners take it.
pub fn sarif(found: &[Diagnostic], version: &str) -> Value {
    let mut used: Vec<&Code> = found
        .iter()
        .filter_map(|one| codes::find(one.code?))
        .collect();
    used.sort_by_key(|code| code.code);
    used.dedup();
    let results: Vec<Value> = found.iter().map(|one| result(one, &used)).collect();
    let rules: Vec<Value> = used.iter().map(|code| rule(code)).collect();
    json!({
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "meshsim", "version": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: &Code) -> Value {
    json!({
        "id": code.code,
        "name": code.name,
        "shortDescription": {"text": code.meaning},
        "defaultConfiguration": {"level": level(code.level)},
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

fn result(one: &Diagnostic, rules: &[&Code]) -> Value {
    let mut text = one.message.clone();
    for part in [Some(&one.label), one.help.as_ref()].into_iter().flatten() {
        if !part.is_empty() {
            text += &format!("\n{part}");
        }
    }
    let mut result = json!({"level": level(one.level), "message": {"text": text}});
    if let Some(code) = one.code {
        result["ruleId"] = code.into();
        if let Some(at) = rules.iter().position(|rule| rule.code == code) {
            result["ruleIndex"] = at.into();
        }
    }
    let mut location = json!({});
    if let Some(span) = &one.span {
        location["physicalLocation"] = json!({
            "artifactLocation": {"uri": uri(&span.file.name)},
            "region": region(span),
        });
    }
    if let Some(resource) = &one.resource {
        location["logicalLocations"] = json!([{"fullyQualifiedName": resource, "kind": "object"}]);
    }
    if location != json!({}) {
        result["locations"] = json!([location]);
    }
    result
}

/// The first line of a place.
fn region(span: &Span) -> Value {
    let (line, column) = (span.line(), span.column());
    let shown = span.text().lines().next().unwrap_or_default();
    let end = column + shown.chars().count() as u32;
    json!({"startLine": line, "startColumn": column, "endLine": line, "endColumn": end})
}

/// A file's name as a relative reference.
fn uri(name: &str) -> String {
    let mut uri = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(byte.into());
            }
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use source::{Dialect, SourceFile, parse};

    #[test]
    fn messages_are_in_the_order_of_the_files_whichever_was_spoken_of_first() {
        let at = |file: &str, index: usize| {
            let (documents, _) = parse(&SourceFile::new(file, "[1, 2]"), Dialect::Yaml12);
            let items = documents[0].as_seq().unwrap();
            Diagnostic::error(format!("{file} {index}")).at(&items[index].span, "here")
        };
        let mut found = [
            at("other", 0),
            at("b", 1),
            at("a", 1),
            Diagnostic::error("nowhere"),
            at("b", 0),
        ];
        arrange(&mut found, &["a".into(), "b".into()]);
        let order: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(order, ["nowhere", "a 1", "b 0", "b 1", "other 0"]);
    }
}
