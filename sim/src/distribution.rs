//! Sampling of the distributions a scenario may name, in nanoseconds.

use crate::random::Purpose;
use crate::random::{Stream, WorldDraws};
use proxy_core::time::Nanos;

/// A distribution of durations.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    Constant(Nanos),
    Exponential {
        mean_ns: f64,
    },
    /// Of the logarithm: mean and standard deviation.
    Lognormal {
        mu: f64,
        sigma: f64,
    },
    Gamma {
        mean_ns: f64,
        shape: f64,
    },
    /// (probability, nanoseconds), rising in both; linear in between.
    Quantiles(Vec<(f64, f64)>),
    Samples(Vec<Nanos>),
}

/// The standard normal quantile of 0.99.
const Z_99: f64 = 2.326_347_874_040_841;

impl From<&scenarios::model::Distribution> for Distribution {
    fn from(written: &scenarios::model::Distribution) -> Distribution {
        use scenarios::model::Distribution as Written;
        let ns = |value: &Nanos| value.0 as f64;
        match written {
            Written::Constant(value) => Distribution::Constant(*value),
            Written::Exponential { mean } => Distribution::Exponential { mean_ns: ns(mean) },
            Written::Lognormal { p50, p99 } => Distribution::lognormal_through(ns(p50), ns(p99)),
            Written::Gamma { mean, scv } => Distribution::Gamma {
                mean_ns: ns(mean),
                shape: 1.0 / scv,
            },
            Written::Quantiles(points) => {
                Distribution::Quantiles(points.iter().map(|(p, value)| (*p, ns(value))).collect())
            }
            Written::Samples(values) => Distribution::Samples(values.clone()),
        }
    }
}

impl Distribution {
    /// The lognormal through a median and a 99th percentile.
    pub(crate) fn lognormal_through(p50_ns: f64, p99_ns: f64) -> Distribution {
        let mu = libm::log(p50_ns);
        Distribution::Lognormal {
            mu,
            sigma: (libm::log(p99_ns) - mu) / Z_99,
        }
    }

    /// One value, the same for the same draws and key.
    #[inline]
    pub(crate) fn sample(&self, draws: WorldDraws, key: u64, purpose: Purpose) -> Nanos {
        if let Distribution::Constant(value) = self {
            return *value;
        }
        let mut stream = Stream::new(draws, key, purpose);
        Nanos(libm::round(self.sample_ns(&mut stream)).max(0.0) as u64)
    }

    fn sample_ns(&self, stream: &mut Stream) -> f64 {
        match self {
            Distribution::Constant(value) => value.0 as f64,
            Distribution::Exponential { mean_ns } => -mean_ns * libm::log(stream.positive_unit()),
            Distribution::Lognormal { mu, sigma } => libm::exp(mu + sigma * stream.normal()),
            Distribution::Gamma { mean_ns, shape } => mean_ns / shape * gamma(*shape, stream),
            Distribution::Quantiles(points) => interpolate(points, stream.unit()),
            Distribution::Samples(values) => {
                let at = (stream.unit() * values.len() as f64) as usize;
                values.get(at).map_or(0.0, |value| value.0 as f64)
            }
        }
    }
}

/// Marsaglia and Tsang's method (2000), for unit scale.
fn gamma(shape: f64, stream: &mut Stream) -> f64 {
    if shape < 1.0 {
        let boost = libm::pow(stream.positive_unit(), 1.0 / shape);
        return gamma(shape + 1.0, stream) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = stream.normal();
        let v = 1.0 + c * x;
        let v = v * v * v;
        if v > 0.0 && libm::log(stream.positive_unit()) < 0.5 * x * x + d - d * v + d * libm::log(v)
        {
            return d * v;
        }
    }
}

fn interpolate(points: &[(f64, f64)], u: f64) -> f64 {
    let at = points.partition_point(|&(p, _)| p <= u);
    match (
        at.checked_sub(1).and_then(|before| points.get(before)),
        points.get(at),
    ) {
        (Some(&(p0, v0)), Some(&(p1, v1))) => v0 + (v1 - v0) * (u - p0) / (p1 - p0),
        (Some(&(_, v)), None) | (None, Some(&(_, v))) => v,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(distribution: &Distribution) -> Vec<f64> {
        let draws = WorldDraws::new(1, "test");
        let mut values: Vec<f64> = (0..200_000)
            .map(|key| distribution.sample(draws, key, Purpose::ServiceTime).0 as f64)
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Bounds are at least 5 standard errors of 200,000 samples.
    #[test]
    fn moments_and_quantiles() {
        let exponential = samples(&Distribution::Exponential { mean_ns: 1e6 });
        assert!((mean(&exponential) / 1e6 - 1.0).abs() < 0.012);
        let gamma = samples(&Distribution::Gamma {
            mean_ns: 1e6,
            shape: 0.25,
        });
        assert!((mean(&gamma) / 1e6 - 1.0).abs() < 0.025);
        let variance =
            gamma.iter().map(|v| (v - 1e6) * (v - 1e6)).sum::<f64>() / gamma.len() as f64;
        assert!((variance / 4e12 - 1.0).abs() < 0.08, "scv is 1/shape");
        let lognormal = samples(&Distribution::lognormal_through(8e6, 40e6));
        assert!((lognormal[100_000] / 8e6 - 1.0).abs() < 0.012);
        assert!((lognormal[198_000] / 40e6 - 1.0).abs() < 0.04);
        let quantiles = samples(&Distribution::Quantiles(vec![
            (0.0, 1e6),
            (0.5, 2e6),
            (1.0, 10e6),
        ]));
        assert!((quantiles[100_000] / 2e6 - 1.0).abs() < 0.02);
        assert!((mean(&quantiles) / 3.75e6 - 1.0).abs() < 0.012);
    }
}
