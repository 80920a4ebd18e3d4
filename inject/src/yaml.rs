//! Values as YAML, in the style of `kubectl`.

use serde_json::Value;

/// The lines of `value` in block style, without indentation.
pub(crate) fn block(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .flat_map(|(key, value)| entry(key, value))
            .collect(),
        Value::Array(items) if !items.is_empty() => items.iter().flat_map(item).collect(),
        _ => vec![scalar(value)],
    }
}

/// `key: value`, on as many lines as it takes.
pub(crate) fn entry(key: &str, value: &Value) -> Vec<String> {
    let key = text(key);
    let indented = |lines: Vec<String>| lines.into_iter().map(|line| format!("  {line}"));
    let below = |head: String, lines: Vec<String>| std::iter::once(head).chain(lines).collect();
    match value {
        Value::Object(map) if !map.is_empty() => {
            below(format!("{key}:"), indented(block(value)).collect())
        }
        Value::Array(items) if !items.is_empty() => below(format!("{key}:"), block(value)),
        Value::String(long) if long.contains('\n') => {
            let (long, chomp) = match long.strip_suffix('\n') {
                Some(long) => (long, ""),
                None => (long.as_str(), "-"),
            };
            let lines = long.lines().map(str::to_owned).collect();
            below(format!("{key}: |{chomp}"), indented(lines).collect())
        }
        _ => vec![format!("{key}: {}", scalar(value))],
    }
}

/// `- value`, on as many lines as it takes.
pub(crate) fn item(value: &Value) -> Vec<String> {
    let lines = block(value).into_iter().enumerate();
    let begun = |(number, line)| match number {
        0 => format!("- {line}"),
        _ => format!("  {line}"),
    };
    lines.map(begun).collect()
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(plain) => text(plain),
        other => other.to_string(),
    }
}

/// Without quotes where that is certain to be read as the same text.
fn text(plain: &str) -> String {
    let begins = plain
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&plain.to_ascii_lowercase().as_str());
    if begins && plain.chars().all(goes_on) && !plain.ends_with(':') && !word {
        return plain.to_owned();
    }
    let printable = |c: char| c == ' ' || c.is_ascii_graphic();
    match plain.contains('"') && !plain.contains('\'') && plain.chars().all(printable) {
        true => format!("'{plain}'"),
        false => Value::from(plain).to_string(),
    }
}
