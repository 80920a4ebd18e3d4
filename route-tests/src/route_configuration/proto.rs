//! Proto JSON: names in either case, numbers as text, fields that cannot be done.

use proxy_core::time::Nanos;
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Value};

/// `node` with the names of all fields in snake case, as the messages define them.
pub(crate) fn in_snake_case(node: &Node) -> Node {
    let mut node = node.clone();
    rename(&mut node);
    node
}

fn rename(node: &mut Node) {
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(rename),
        Value::Map(map) => {
            for entry in &mut map.entries {
                entry.key = snake_case(&entry.key);
            }
            // Its values have names of their own.
            let of_stream = map.get("metadata_namespace").is_some();
            for entry in &mut map.entries {
                if !(of_stream && entry.key == "value") {
                    rename(&mut entry.value);
                }
            }
        }
        _ => {}
    }
}

fn snake_case(name: &str) -> String {
    // `@type` and names of extensions are no names of fields.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Fields that would change decisions and are not done here: an error where one says anything.
pub(crate) fn refuse(fields: &mut Fields<'_, '_>, keys: &[&'static str]) {
    for key in keys {
        let Some(node) = fields.optional(key) else {
            continue;
        };
        let says_nothing = match &node.value {
            Value::Bool(value) => !value,
            Value::Seq(items) => items.is_empty(),
            _ => false,
        };
        if !says_nothing {
            let message = format!("`{key}` is not done here");
            let problem = Diagnostic::error(message).at(&node.span, "would change what is decided");
            fields.diagnostics.push(problem);
        }
    }
}

/// A whole number that is not negative, which proto JSON may quote.
pub(crate) fn number(fields: &mut Fields<'_, '_>, key: &'static str, most: u64) -> Option<u64> {
    let node = fields.optional(key)?;
    let value = match &node.value {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let value = value.filter(|value| *value <= most);
    if value.is_none() {
        let want = format!("`{key}` is a whole number from 0 to {most}");
        fields.diagnostics.push(expected(node, &want));
    }
    value
}

/// A span of time: `1.5s`, or its seconds and nanoseconds.
pub(crate) fn duration(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Nanos> {
    let node = fields.optional(key)?;
    if node.as_map().is_some() {
        let mut parts = Fields::of(node, "a duration", fields.diagnostics)?;
        let seconds = number(&mut parts, "seconds", u64::from(u32::MAX)).unwrap_or(0);
        let nanos = number(&mut parts, "nanos", 999_999_999).unwrap_or(0);
        parts.finish();
        return Some(Nanos(seconds * 1_000_000_000 + nanos));
    }
    let in_seconds = node.as_str().is_some_and(|text| text.ends_with('s'));
    let mut problems = Vec::new();
    let span = scenarios::duration(node, key, &mut problems).filter(|_| in_seconds);
    if span.is_none() {
        let want = format!("`{key}` is a duration in seconds, like `1.5s`");
        fields.diagnostics.push(expected(node, &want));
    }
    span
}

/// In seconds, with as many digits as it needs.
pub(crate) fn shown_duration(span: Nanos) -> String {
    let (seconds, nanos) = (span.0 / 1_000_000_000, span.0 % 1_000_000_000);
    match nanos {
        0 => format!("{seconds}s"),
        _ => format!("{}s", format!("{seconds}.{nanos:09}").trim_end_matches('0')),
    }
}
