//! Numbers with units. They are read digit by digit, so that `99.9%` is exactly the number nearest
//! to 0.999 and no duration is rounded.

use proxy_core::time::Nanos;
use source::fields::expected;
use source::{Diagnostic, Node};

/// The whole of a fraction in parts per million.
pub(crate) const WHOLE_PPM: u32 = 1_000_000;

const DURATION_UNITS_NS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const RATE_MAX_PER_S: f64 = 1e7;

/// What is wrong with a number: what stands under it, and what would be right.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaint {
    label: String,
    help: Option<String>,
}

type Read<T> = Result<T, Complaint>;

fn complaint<T>(label: impl Into<String>) -> Read<T> {
    let label = label.into();
    Err(Complaint { label, help: None })
}

/// Reads the scalar `node` with `reader`; `want` completes the message.
fn scalar<T>(
    node: &Node,
    want: String,
    diagnostics: &mut Vec<Diagnostic>,
    reader: impl FnOnce(&str) -> Read<T>,
) -> Option<T> {
    let Some(text) = node.as_scalar() else {
        diagnostics.push(expected(node, &want));
        return None;
    };
    match reader(text) {
        Ok(value) => Some(value),
        Err(complaint) => {
            let diagnostic = Diagnostic::error(want).at(&node.span, complaint.label);
            diagnostics.push(match complaint.help {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            });
            None
        }
    }
}

/// `250ms`, `1.5s`, `1m30s`; `0` alone needs no unit.
pub fn duration(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Nanos> {
    let want = format!("`{what}` is a duration, like `250ms`");
    scalar(node, want, diagnostics, duration_of)
}

/// A duration of more than nothing.
pub(crate) fn positive_duration(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Nanos> {
    let want = format!("`{what}` is a duration of more than nothing, like `250ms`");
    scalar(node, want, diagnostics, |text| match duration_of(text)? {
        Nanos::ZERO => complaint("is nothing"),
        value => Ok(value),
    })
}

/// `400/s`, `24000/m`, `1.5/h`: per second.
pub(crate) fn rate(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<f64> {
    let want = format!("`{what}` is a rate, like `400/s`");
    scalar(node, want, diagnostics, rate_of)
}

/// A part of a whole, in parts per million.
pub(crate) fn ppm(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<u32> {
    let want = format!("`{what}` is a percentage, like `50%`");
    scalar(node, want, diagnostics, ppm_of)
}

/// `10x`: a factor of more than 0.
pub(crate) fn factor(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<f64> {
    let want = format!("`{what}` is a factor, like `10x`");
    scalar(node, want, diagnostics, |text| {
        let Some(number) = text.strip_suffix('x') else {
            return unit_missing(text, &["x"]);
        };
        match decimal(number) {
            Some(value) if value > 0.0 => Ok(value),
            _ => complaint("not a number of more than 0 and `x`"),
        }
    })
}

/// A plain number of more than 0.
pub(crate) fn positive(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<f64> {
    let want = format!("`{what}` is a number of more than 0");
    scalar(node, want, diagnostics, |text| match number_of(text)? {
        value if value > 0.0 => Ok(value),
        _ => complaint("is not more than 0"),
    })
}

pub(crate) fn duration_of(text: &str) -> Read<Nanos> {
    if text == "0" {
        return Ok(Nanos::ZERO);
    }
    let mut total_ns = 0u64;
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !is_decimal(c)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let (unit, after) = after.split_at(after.find(is_decimal).unwrap_or(after.len()));
        if number.is_empty() {
            return complaint("not a number and a unit");
        }
        if unit.is_empty() {
            return unit_missing(text, &["ms", "s"]);
        }
        let Some((_, unit_ns)) = DURATION_UNITS_NS.iter().find(|(name, _)| *name == unit) else {
            return complaint(format!("`{unit}` is not one of ns, us, ms, s, m, h"));
        };
        let sum = scaled(number, *unit_ns).and_then(|ns| total_ns.checked_add(ns));
        match sum.filter(|ns| i64::try_from(*ns).is_ok()) {
            Some(sum) => total_ns = sum,
            None => return complaint("not a whole number of nanoseconds that fits"),
        }
        if after.is_empty() {
            return Ok(Nanos(total_ns));
        }
        rest = after;
    }
}

fn rate_of(text: &str) -> Read<f64> {
    let Some((number, unit)) = text.split_once('/') else {
        return unit_missing(text, &["/s", "/m"]);
    };
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return complaint(format!("`/{unit}` is not one of /s, /m, /h")),
    };
    match decimal(number).map(|count| count / seconds) {
        Some(per_s) if per_s <= RATE_MAX_PER_S => Ok(per_s),
        Some(_) => complaint("more than 10,000,000 a second"),
        None => complaint("not a number of requests and a unit of time"),
    }
}

pub(crate) fn ppm_of(text: &str) -> Read<u32> {
    let number = percent_sign(text)?;
    match scaled(number, u64::from(WHOLE_PPM / 100)).map(u32::try_from) {
        Some(Ok(ppm)) if ppm <= WHOLE_PPM => Ok(ppm),
        _ if decimal(number).is_some_and(|percent| percent > 100.0) => complaint("more than 100 %"),
        _ => complaint("not a number from 0 to 100, in steps of 0.0001"),
    }
}

/// A percentage as a fraction of 1.
pub(crate) fn fraction_of(text: &str) -> Read<f64> {
    let number = percent_sign(text)?;
    match decimal(number) {
        // The parser rounds once; a division by 100 would round a second time.
        Some(percent) if percent <= 100.0 => Ok(format!("{number}e-2").parse().unwrap_or(1.0)),
        Some(_) => complaint("more than 100 %"),
        None => complaint("not a number from 0 to 100"),
    }
}

fn percent_sign(text: &str) -> Read<&str> {
    match text.strip_suffix('%') {
        Some(number) => Ok(number),
        None => unit_missing(text, &["%"]),
    }
}

/// A plain number, without a unit.
pub(crate) fn number_of(text: &str) -> Read<f64> {
    match decimal(text) {
        Some(value) => Ok(value),
        None => complaint("not a plain number"),
    }
}

/// A plain whole number, without a unit.
pub(crate) fn whole_of(text: &str) -> Read<f64> {
    match scaled(text, 1) {
        Some(value) => Ok(value as f64),
        None => complaint("not a whole number"),
    }
}

fn unit_missing<T>(text: &str, units: &[&str]) -> Read<T> {
    if decimal(text).is_none() {
        let units: Vec<String> = units.iter().map(|unit| format!("`{unit}`")).collect();
        return complaint(format!("not a number followed by {}", units.join(" or ")));
    }
    let meant: Vec<String> = units.iter().map(|unit| format!("`{text}{unit}`")).collect();
    Err(Complaint {
        label: "the unit is missing".to_owned(),
        help: Some(format!("did you mean {}?", meant.join(" or "))),
    })
}

fn is_decimal(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// Digits with at most one point inside; no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let edges = [text.chars().next()?, text.chars().next_back()?];
    let plain = text.chars().all(is_decimal) && edges.iter().all(char::is_ascii_digit);
    text.parse()
        .ok()
        .filter(|value: &f64| plain && value.is_finite())
}

/// `text` times `scale`, if that is a whole number.
fn scaled(text: &str, scale: u64) -> Option<u64> {
    decimal(text)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let numerator = digits.checked_mul(u128::from(scale))?;
    let denominator = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    if numerator % denominator != 0 {
        return None;
    }
    u64::try_from(numerator / denominator).ok()
}

/// Reads both ends of `a..b`.
pub(crate) fn range_of<T>(text: &str, reader: impl Fn(&str) -> Read<T>) -> Read<(T, T)> {
    match text.split_once("..") {
        Some((low, high)) => Ok((reader(low.trim())?, reader(high.trim())?)),
        None => complaint("not two values with `..` between them"),
    }
}

/// Reads a scalar by a function of its text.
pub(crate) fn by_text<T>(
    node: &Node,
    want: String,
    diagnostics: &mut Vec<Diagnostic>,
    reader: impl FnOnce(&str) -> Read<T>,
) -> Option<T> {
    scalar(node, want, diagnostics, reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ns = |text: &str| duration_of(text).map(|value| value.0).ok();
        assert_eq!(ns("3ms"), Some(3_000_000));
        assert_eq!(ns("1.5s"), Some(1_500_000_000));
        assert_eq!(ns("1m30s"), Some(90_000_000_000));
        assert_eq!(ns("0.1us"), Some(100));
        assert_eq!(ns("250µs"), Some(250_000));
        assert_eq!(ns("0"), Some(0));
        for wrong in [
            "3",
            "",
            "ms",
            "-3ms",
            "1.2.3s",
            "0.5ns",
            "3 ms",
            "3min",
            "1e3ms",
            ".5s",
            "300000000h",
        ] {
            assert_eq!(ns(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate_of("400/s"), Ok(400.0));
        assert_eq!(rate_of("24000/m"), Ok(400.0));
        assert_eq!(rate_of("1800/h"), Ok(0.5));
        for wrong in [
            "400",
            "/s",
            "-1/s",
            "1/d",
            "1e3/s",
            "inf/s",
            "NaN/s",
            "99999999/s",
        ] {
            assert!(rate_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        assert_eq!(fraction_of("99.9%"), Ok(999.0 / 1000.0));
        assert_eq!(fraction_of("100%"), Ok(1.0));
        assert_eq!(fraction_of("9%"), Ok(9.0 / 100.0));
        assert_eq!(ppm_of("0.0001%"), Ok(1));
        assert_eq!(ppm_of("33.3333%"), Ok(333_333));
        for wrong in ["0.5", "101%", "100.00001%", "0.00001%", "-1%", "%", "1e1%"] {
            assert!(ppm_of(wrong).is_err(), "{wrong}");
        }
    }
}
