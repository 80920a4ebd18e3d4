//! Random decisions: whether both sides take each way equally often.

use crate::core::Core;
use crate::seen::{Asked, Seen};
use libm::{exp, lgamma, log};
use proxy_core::time::Nanos;
use serde::Serialize;
use std::collections::BTreeMap;

/// Shares that are less likely the same than this are different.
pub(crate) const SIGNIFICANCE: f64 = 1e-6;
/// Keys looked at to tell what is random.
const LOOKS: u64 = 128;

/// Ten thousand of what takes longer would take their time.
const LONGEST: Nanos = Nanos::from_millis(5);

/// How often each way was taken.
pub(crate) type Shares = BTreeMap<String, u64>;

/// One request, sent over and over.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub config: String,
    pub request: String,
    /// What was counted.
    pub of: &'static str,
    pub ways: Vec<Way>,
    /// How likely both sides differ that much by chance.
    pub p: f64,
    pub agrees: bool,
}

/// A way that requests took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
    pub way: String,
    pub core: u64,
    pub envoy: u64,
}

/// The ways a request may take, if there are several and none of them is slow.
pub(crate) fn ways(core: &mut Core, asked: &Asked) -> Option<Vec<String>> {
    let mut shares = Shares::new();
    for key in 0..LOOKS {
        *shares.entry(way(&core.ask(asked, key))).or_default() += 1;
        if core.took() > LONGEST {
            return None;
        }
    }
    (shares.len() > 1).then(|| shares.into_keys().collect())
}

/// Where one request went.
pub(crate) fn way(seen: &Seen) -> String {
    words(
        seen.cluster.as_deref(),
        seen.endpoint.map(|a| a.to_string()).as_deref(),
        seen.status,
    )
}

pub(crate) fn words(cluster: Option<&str>, endpoint: Option<&str>, status: u16) -> String {
    let none = "none";
    format!(
        "{} {} {status}",
        cluster.unwrap_or(none),
        endpoint.unwrap_or(none)
    )
}

/// The ways that `count` requests take at the core, and the endpoints that they reached.
pub(crate) fn of_core(core: &mut Core, asked: &Asked, count: u64) -> (Shares, Shares) {
    let (mut ways, mut reached) = (Shares::new(), Shares::new());
    for key in 0..count {
        let seen = core.ask(asked, key);
        *ways.entry(way(&seen)).or_default() += 1;
        for hit in &seen.hits {
            *reached.entry(hit.endpoint.to_string()).or_default() += 1;
        }
    }
    (ways, reached)
}

/// Both sides' shares, tested for being the same.
pub(crate) fn judged(
    (config, request, of): (String, String, &'static str),
    core: &Shares,
    envoy: &Shares,
) -> Sample {
    let names: std::collections::BTreeSet<&String> = core.keys().chain(envoy.keys()).collect();
    let count = |shares: &Shares, name: &String| shares.get(name).copied().unwrap_or_default();
    let ways: Vec<Way> = names
        .into_iter()
        .map(|name| Way {
            way: name.clone(),
            core: count(core, name),
            envoy: count(envoy, name),
        })
        .collect();
    let p = same(&ways);
    Sample {
        config,
        request,
        of,
        ways,
        p,
        agrees: p >= SIGNIFICANCE,
    }
}

/// The G-test of homogeneity: how likely two samples of the same shares are at least this far apart.
fn same(ways: &[Way]) -> f64 {
    let sum = |side: fn(&Way) -> u64| ways.iter().map(side).sum::<u64>() as f64;
    let totals = [sum(|w| w.core), sum(|w| w.envoy)];
    let all = totals[0] + totals[1];
    if ways.len() < 2 || totals.contains(&0.0) {
        return if totals[0] == totals[1] || ways.len() == 1 {
            1.0
        } else {
            0.0
        };
    }
    let mut g = 0.0;
    for way in ways {
        let row = (way.core + way.envoy) as f64;
        for (observed, total) in [(way.core as f64, totals[0]), (way.envoy as f64, totals[1])] {
            if observed > 0.0 {
                g += 2.0 * observed * log(observed * all / (row * total));
            }
        }
    }
    upper_gamma((ways.len() - 1) as f64 / 2.0, g / 2.0)
}

/// The regularised upper incomplete gamma function.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = exp(a * log(x) - x - lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..500 {
            term *= x / (a + f64::from(n));
            sum += term;
        }
        return 1.0 - front * sum;
    }
    // Lentz's continued fraction.
    let mut b = x + 1.0 - a;
    let mut c = f64::MAX;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for n in 1..500 {
        let an = -f64::from(n) * (f64::from(n) - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        fraction *= c * d;
    }
    front * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(counts: &[(u64, u64)]) -> Vec<Way> {
        let way = |(core, envoy): &(u64, u64)| Way {
            way: String::new(),
            core: *core,
            envoy: *envoy,
        };
        counts.iter().map(way).collect()
    }

    #[test]
    fn quantiles_of_chi_square() {
        for (degrees, value, p) in [
            (1.0, 3.841_459, 0.05),
            (2.0, 27.631_02, 1e-6),
            (10.0, 18.307_04, 0.05),
        ] {
            let found = upper_gamma(degrees / 2.0, value / 2.0);
            assert!((found / p - 1.0).abs() < 1e-5, "{degrees} {value}: {found}");
        }
    }

    #[test]
    fn equal_shares_agree_and_others_do_not() {
        assert!(same(&ways(&[(5000, 5010), (5000, 4990)])) > 0.5);
        assert!(same(&ways(&[(8000, 9000), (2000, 1000)])) < SIGNIFICANCE);
        assert_eq!(same(&ways(&[(0, 10)])), 1.0);
        assert!(same(&ways(&[(10_000, 9_900), (0, 100)])) < SIGNIFICANCE);
    }
}
