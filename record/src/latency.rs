//! Latencies: an exact mean, and quantiles to three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer latencies count as this long in quantiles: a day.
const MICROS_MAX: u64 = 86_400_000_000;

/// Latencies seen so far.
#[derive(Clone, Debug)]
pub struct Latencies {
    count: u64,
    sum_ns: u128,
    max_ns: u64,
    micros: Histogram<u64>,
}

impl Default for Latencies {
    /// None yet.
    #[allow(clippy::expect_used)]
    fn default() -> Latencies {
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, 3)
            .expect("the bounds and the precision are constants that fit");
        Latencies {
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            micros,
        }
    }
}

impl Latencies {
    /// Adds one.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
        self.micros.saturating_record((ns / 1_000).max(1));
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean in milliseconds; `None` if there are none.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64 / 1e6)
    }

    /// The smallest latency that at least `quantile` (0 to 1) of all do not exceed, in milliseconds,
    /// to three digits; `None` if there are none.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (self.count > 0).then(|| self.micros.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The usual figures.
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            mean: self.mean_ms(),
            p50: self.quantile_ms(0.50),
            p90: self.quantile_ms(0.90),
            p95: self.quantile_ms(0.95),
            p99: self.quantile_ms(0.99),
            p99_9: self.quantile_ms(0.999),
            max: (self.count > 0).then(|| self.max_ns as f64 / 1e6),
        }
    }
}

/// Milliseconds; `None` (null) where there was no request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub p99_9: Option<f64>,
    pub max: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_exact_and_quantiles_are_near() {
        let mut latencies = Latencies::default();
        for ms in 1..=1000u64 {
            latencies.add(ms * 1_000_000);
        }
        assert_eq!(latencies.mean_ms(), Some(500.5));
        let p99 = latencies.quantile_ms(0.99).expect("there are some");
        assert!((p99 - 990.0).abs() < 1.0, "{p99}");
        assert_eq!(latencies.summary().max, Some(1000.0));
        assert_eq!(Latencies::default().summary(), LatencySummary::default());
    }
}
