//! What a plain scalar stands for.

use crate::node::{Node, Value};
use crate::parse::Dialect;

/// The value of an unquoted `text`.
pub(crate) fn resolve(text: &str, dialect: Dialect) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let found = match dialect {
        Dialect::Yaml12 => number(text),
        Dialect::Kubernetes => old_boolean(text)
            .map(Value::Bool)
            .or_else(|| old_number(text)),
    };
    found.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A boolean that YAML 1.2 has no more.
fn old_boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn begins_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
}

fn number(text: &str) -> Option<Value> {
    if !begins_number(text) {
        return None;
    }
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix)
            .and_then(|digits| i64::from_str_radix(digits, radix).ok())
            .map(Value::Int)
    };
    radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| text.parse().ok().map(Value::Int))
        .or_else(|| float(text).map(Value::Float))
}

/// As sigs.k8s.io/yaml reads it on the way to JSON, which has only one sort of numbers: `1.0` is 1.
fn old_number(text: &str) -> Option<Value> {
    if !begins_number(text) {
        return None;
    }
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Some(Value::Float(f64::INFINITY));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Some(Value::Float(f64::NEG_INFINITY)),
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let plain = match text.contains('_') {
        true => &text.replace('_', ""),
        false => text,
    };
    if let Some(value) = old_integer(plain) {
        return Some(Value::Int(value));
    }
    let value = float(plain).filter(|value| value.is_finite())?;
    let whole = value as i64;
    Some(match whole as f64 == value && whole != i64::MAX {
        true => Value::Int(whole),
        false => Value::Float(value),
    })
}

/// With the prefixes of Go's integers; a leading 0 means octal.
fn old_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

fn float(text: &str) -> Option<f64> {
    let numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    text.parse().ok().filter(|_| text.bytes().all(numeric))
}

/// What to say of a value that YAML 1.1 reads as something else than it looks like.
pub(crate) fn surprise(node: &Node) -> Option<String> {
    let written = node.span.text();
    let digits = written.trim_start_matches(['+', '-']);
    match node.value {
        Value::Bool(value) if old_boolean(written) == Some(value) => {
            Some(format!("YAML 1.1 reads `{written}` as {value}"))
        }
        Value::Int(value) if octal(digits) && value != 0 => {
            Some(format!("YAML 1.1 reads `{written}` as octal: {value}"))
        }
        _ => None,
    }
}

/// Whether it is a number whose leading 0 makes it octal.
fn octal(digits: &str) -> bool {
    digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|b| matches!(b, b'0'..=b'7' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sigs.k8s.io/yaml 1.4 and 1.6 answer.
    #[test]
    fn kubernetes_reads_yaml_1_1() {
        let texts = |texts: &'static str| texts.split(' ');
        for text in texts("y Y yes Yes YES on On ON true True TRUE") {
            assert_eq!(resolve(text, Dialect::Kubernetes), Value::Bool(true));
        }
        for text in texts("n N no No NO off Off OFF false False FALSE") {
            assert_eq!(resolve(text, Dialect::Kubernetes), Value::Bool(false));
        }
        for text in texts(
            "yEs nO oN tRue nuLL + . 190:20:30 1:30 2001-01-01 0x 0o8 _1 1e400 0b12 1e 0x-1 1.2.3",
        ) {
            let text = text.to_owned();
            assert_eq!(
                resolve(&text, Dialect::Kubernetes),
                Value::String(text.clone())
            );
        }
        for (text, value) in [
            ("0x1F", 31),
            ("0X1F", 31),
            ("-0x1F", -31),
            ("+0x1F", 31),
            ("0x_1F", 31),
            ("0b11", 3),
            ("-0b11", -3),
            ("0o17", 15),
            ("0O17", 15),
            ("017", 15),
            ("00", 0),
            ("08", 8),
            ("-0", 0),
            ("+1", 1),
            ("1_000", 1000),
            ("1__0", 10),
            ("1_", 1),
            ("1e3", 1000),
            ("12e03", 12000),
            ("1.", 1),
            ("1.0", 1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(
                resolve(text, Dialect::Kubernetes),
                Value::Int(value),
                "{text}"
            );
        }
        for (text, value) in [
            (".5", 0.5),
            ("1_000.5", 1000.5),
            ("1.5e-7", 1.5e-7),
            ("1e21", 1e21),
            (".inf", f64::INFINITY),
            ("-.Inf", f64::NEG_INFINITY),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ] {
            assert_eq!(
                resolve(text, Dialect::Kubernetes),
                Value::Float(value),
                "{text}"
            );
        }
    }

    #[test]
    fn yaml_1_2_has_less_of_it() {
        for text in ["yes", "on", "n", "1_000", "0b11"] {
            assert_eq!(
                resolve(text, Dialect::Yaml12),
                Value::String(text.to_owned())
            );
        }
        assert_eq!(resolve("017", Dialect::Yaml12), Value::Int(17));
        assert_eq!(resolve("0o17", Dialect::Yaml12), Value::Int(15));
        assert_eq!(resolve("1.0", Dialect::Yaml12), Value::Float(1.0));
    }
}
