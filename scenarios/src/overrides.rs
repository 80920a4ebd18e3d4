//! `--set key=value`: values put into the tree before it is read.

use source::node::Entry;
use source::{Diagnostic, Dialect, Node, SourceFile, Value, nearest};
use std::sync::Arc;

/// Puts `value`, as YAML, at `path`. Everything on the way to the last key must exist, but a whole
/// part of the scenario that was left out; the last key may be new. Whether new keys are known is for
/// the reader to say.
pub(crate) fn set(node: &mut Node, path: &str, value: &str, diagnostics: &mut Vec<Diagnostic>) {
    let file = SourceFile::new("--set", &format!("{path}={value}"));
    let Some(value) = parse_value(path, value, diagnostics) else {
        return;
    };
    if let Err(diagnostic) = put(node, &file, 0, value) {
        diagnostics.push(*diagnostic);
    }
}

fn parse_value(path: &str, value: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let file = SourceFile::new(&format!("--set {path}"), value);
    let (mut documents, mut found) = source::parse(&file, Dialect::Yaml12);
    if found.is_empty() && documents.len() != 1 {
        found.push(
            Diagnostic::error(format!("`--set {path}` needs one value"))
                .at(&file.span(0..value.len()), "not one value"),
        );
    }
    let failed = !found.is_empty();
    diagnostics.append(&mut found);
    documents.pop().filter(|_| !failed)
}

type Refusal = Box<Diagnostic>;

/// Goes from `node` along the path that begins at byte `at` of `file`.
fn put(node: &mut Node, file: &Arc<SourceFile>, at: usize, value: Node) -> Result<(), Refusal> {
    let text = Arc::clone(&file.text);
    let path = text[at..].split_once('=').map_or("", |(path, _)| path);
    let next = path.split('.').next().unwrap_or_default();
    let span = file.span(at..at + next.len());
    match &mut node.value {
        Value::Seq(items) => {
            let length = items.len();
            let item = next
                .parse()
                .ok()
                .and_then(|index: usize| items.get_mut(index));
            match item {
                Some(item) if path == next => *item = value,
                Some(item) => return put(item, file, at + next.len() + 1, value),
                None => {
                    let message = format!("`{next}` is not an item of a list of {length}");
                    let label = "items are numbered from 0";
                    return Err(Box::new(Diagnostic::error(message).at(&span, label)));
                }
            }
        }
        Value::Map(map) => {
            let key = longest_key(&map.entries, path);
            let number = key.and_then(|key| map.entries.iter().position(|e| e.key == key));
            let two_keys = path.matches('.').count() == 1;
            let new_part = at == 0 && two_keys && is_new_part(&map.entries, next);
            match number.and_then(|number| map.entries.get_mut(number)) {
                Some(entry) if entry.key == path => entry.value = value,
                Some(entry) => {
                    let after = at + entry.key.len() + 1;
                    return put(&mut entry.value, file, after, value);
                }
                None if path == next && !next.is_empty() => map.entries.push(Entry {
                    key: next.to_owned(),
                    key_span: span,
                    value,
                }),
                None if new_part => {
                    let mut part = Node {
                        value: Value::Map(source::Map::default()),
                        span: span.clone(),
                    };
                    put(&mut part, file, next.len() + 1, value)?;
                    map.entries.push(Entry {
                        key: next.to_owned(),
                        key_span: span,
                        value: part,
                    });
                }
                None => {
                    let keys: Vec<&str> = map.entries.iter().map(|e| e.key.as_str()).collect();
                    let help = match nearest(next, keys.iter().copied()) {
                        Some(key) => format!("did you mean `{key}`?"),
                        None => format!("keys here: {}", keys.join(", ")),
                    };
                    let message = format!("no key `{next}` in the scenario to set");
                    let diagnostic = Diagnostic::error(message).at(&span, "not there");
                    return Err(Box::new(diagnostic.help(help)));
                }
            }
        }
        _ => {
            let message = format!("`{}` holds {}", &text[..at.saturating_sub(1)], node.kind());
            let label = "nothing stands below it";
            return Err(Box::new(Diagnostic::error(message).at(&span, label)));
        }
    }
    Ok(())
}

/// Whether `key` is no misspelt one of these.
fn is_new_part(entries: &[Entry], key: &str) -> bool {
    !key.is_empty() && nearest(key, entries.iter().map(|e| e.key.as_str())).is_none()
}

/// The key that `path` begins with; keys may have dots in them (host names).
fn longest_key(entries: &[Entry], path: &str) -> Option<String> {
    entries
        .iter()
        .map(|entry| &entry.key)
        .filter(|key| {
            path.strip_prefix(key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .max_by_key(|key| key.len())
        .cloned()
}
