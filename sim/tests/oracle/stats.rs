//! Whether two sets of counts can come from the same source.

use std::collections::{BTreeMap, BTreeSet};

pub type Counts = BTreeMap<String, u64>;

/// The p value of the G test that two samples are of one distribution.
pub fn same_distribution(a: &Counts, b: &Counts) -> f64 {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let of = |counts: &Counts, key: &str| counts.get(key).copied().unwrap_or(0) as f64;
    let totals = [a, b].map(|counts| counts.values().sum::<u64>() as f64);
    let all = totals[0] + totals[1];
    let mut g = 0.0;
    let mut kinds = 0;
    for key in keys {
        let both = of(a, key) + of(b, key);
        if both == 0.0 {
            continue;
        }
        kinds += 1;
        for (counts, total) in [(a, totals[0]), (b, totals[1])] {
            let seen = of(counts, key);
            if seen > 0.0 {
                g += 2.0 * seen * libm::log(seen * all / (both * total));
            }
        }
    }
    if kinds < 2 {
        1.0
    } else {
        chi_square_tail(g.max(0.0), f64::from(kinds - 1))
    }
}

/// The largest difference of a share, in percentage points.
pub fn largest_gap(a: &Counts, b: &Counts) -> f64 {
    let share = |counts: &Counts, key: &str| {
        let all = counts.values().sum::<u64>().max(1);
        100.0 * counts.get(key).copied().unwrap_or(0) as f64 / all as f64
    };
    let keys = a.keys().chain(b.keys());
    keys.map(|key| (share(a, key) - share(b, key)).abs())
        .fold(0.0, f64::max)
}

/// Upper tail of the chi-square distribution: the regularized upper incomplete gamma function, by
/// its series below the mean and its continued fraction above.
fn chi_square_tail(x: f64, degrees: f64) -> f64 {
    let (a, x) = (degrees / 2.0, x / 2.0);
    if x <= 0.0 {
        return 1.0;
    }
    let scale = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-15 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - sum * scale;
    }
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..1000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    scale * h
}

#[test]
fn tails_of_the_chi_square_distribution() {
    for (x, degrees, tail) in [
        (3.841_459, 1.0, 0.05),
        (16.918_978, 9.0, 0.05),
        (27.877_165, 9.0, 0.001),
    ] {
        assert!((chi_square_tail(x, degrees) - tail).abs() < 1e-6);
    }
}
