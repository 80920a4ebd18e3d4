//! How numbers are written: no digit that is not known, none rounded to look better.

/// With a comma at the thousands.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds to three significant digits (what the histograms know), at most three decimals.
pub(crate) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) => format!("{ms:.*}", decimals(ms)),
    }
}

fn decimals(ms: f64) -> usize {
    match ms {
        _ if ms >= 100.0 => 0,
        _ if ms >= 10.0 => 1,
        _ if ms >= 1.0 => 2,
        _ => 3,
    }
}

/// A part of a whole, rounded down: 100 % is all of them.
pub(crate) fn success(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// A share; what is there is never shown as nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 / whole as f64 * 100.0;
    if part > 0 && percent < 0.05 {
        return "<0.1 %".to_owned();
    }
    format!("{percent:.1} %")
}

/// `mean ± half-width`, to the digits that the half-width leaves meaning to.
pub(crate) fn interval(mean: f64, half_width: f64) -> String {
    if half_width == 0.0 {
        return format!("{mean:.*}", decimals(mean));
    }
    let decimals = match half_width {
        _ if half_width >= 10.0 => 0,
        _ if half_width >= 1.0 => 1,
        _ if half_width >= 0.1 => 2,
        _ => 3,
    };
    if half_width < 0.0005 {
        return format!("{mean:.decimals$} ± <0.001");
    }
    format!("{mean:.decimals$} ± {half_width:.decimals$}")
}

/// Mean of `values` and half the width of its 95 % confidence interval (Student's t); `None` for
/// fewer than two.
pub(crate) fn mean_and_half_width(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    Some((mean, student_t(values.len() - 1) * (variance / n).sqrt()))
}

/// The 97.5th percentile of Student's t; beyond the table, a little more than it is.
fn student_t(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match TABLE.get(degrees.saturating_sub(1)) {
        Some(t) => *t,
        None => 1.960 + 2.5 / degrees as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn success_is_never_rounded_up() {
        assert_eq!(success(100_000, 100_000), "100.00 %");
        assert_eq!(success(99_999, 100_000), "99.99 %");
        assert_eq!(success(0, 0), "-");
        assert_eq!(share(1, 100_000), "<0.1 %");
        assert_eq!(share(0, 100_000), "0.0 %");
    }

    #[test]
    fn milliseconds_have_three_digits() {
        let shown = [0.25, 1.234, 12.34, 123.4, 1234.0].map(|ms| millis(Some(ms)));
        assert_eq!(shown, ["0.250", "1.23", "12.3", "123", "1234"]);
    }

    #[test]
    fn half_widths_are_students() {
        let (mean, half_width) = mean_and_half_width(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(mean, 2.0);
        assert!((half_width - 4.303 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean_and_half_width(&[1.0]), None);
        // Known: t for 40 degrees is 2.021, for 120 is 1.980.
        assert!((student_t(40) - 2.021).abs() < 0.003 && (student_t(120) - 1.980).abs() < 0.003);
    }
}
