//! JSON values as block YAML.

use serde_json::Value;
use std::fmt::Write;

/// The document, with a line break at its end.
pub(super) fn text(document: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, document, 0);
    out.trim_start_matches('\n').to_owned()
}

/// After a key or a dash: scalars on the same line, collections from the next one on.
fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let _ = write!(out, "\n{:indent$}{}:", "", scalar(key));
                write_value(out, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "\n{:indent$}-", "");
                let mut inner = String::new();
                write_value(&mut inner, item, indent + 2);
                // The first key of a map stands beside the dash.
                out.push_str(&match inner.strip_prefix('\n') {
                    Some(rest) => format!(" {}", rest.trim_start()),
                    None => inner,
                });
            }
        }
        Value::Object(_) => out.push_str(" {}"),
        Value::Array(_) => out.push_str(" []"),
        Value::String(text) => {
            out.push(' ');
            out.push_str(&scalar(text));
        }
        other => {
            let _ = write!(out, " {other}");
        }
    }
    if indent == 0 {
        out.push('\n');
    }
}

/// Plain where nothing but that text can be meant, else in double quotes, as JSON has them.
fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.contains(&text.to_ascii_lowercase().as_str());
    // `15s` and the like are no numbers.
    let time = text.ends_with('s') && text.starts_with(|c: char| c.is_ascii_digit());
    match (begins || time) && text.chars().all(safe) && !word {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_and_quotes() {
        let value = json!({
            "a": {"b": "x", "c": ["15s", "1", "no", {"k": 1, "l": {"m": "a: b"}}], "d": {}, "e": []},
            "x-y": true,
        });
        let want = "a:\n  b: x\n  c:\n    - 15s\n    - \"1\"\n    - \"no\"\n    - k: 1\n      l:\n        \
                    m: \"a: b\"\n  d: {}\n  e: []\nx-y: true\n";
        assert_eq!(text(&value), want);
    }
}
