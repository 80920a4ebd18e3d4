//! Counter-based randomness: every draw is a hash of who decides, about what, and for which
//! purpose, so no draw depends on how many were made before it elsewhere.

use crate::contract::BodySource;
use serde::{Deserialize, Serialize};

/// What a draw decides. One stream per independent draw of the modelled proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Envoy's one random value per stream: route fractions, weighted clusters, mirrors.
    Stream = 1,
    Priority,
    Host,
    BackOff,
    FaultDelay,
    FaultAbort,
    /// The seed that a balancer keeps for life.
    BalancerSeed,
    EjectionEnforced,
    EjectionJitter,
    /// Stands in for a missing hash under ring hash and maglev.
    MissingHash,
    RateLimitEnabled,
    RateLimitEnforced,
    DropOverload,
    /// Where the turns of localities begin; anew with each change of their priority.
    LocalitySeed,
    /// Whether a request stays in the zone, and where it goes otherwise.
    Zone,
    HealthCheckInitialJitter,
    HealthCheckPercentJitter,
    HealthCheckJitter,
}

/// The draws of one proxy in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draws {
    base: u64,
}

impl Draws {
    /// The draws of the proxy called `proxy` in the run with seed `seed`.
    pub fn new(seed: u64, proxy: &str) -> Draws {
        Draws {
            base: mix(seed ^ mix(hash_text(proxy))),
        }
    }

    /// The `n`-th uniform 64-bit value about `subject` (an exchange key, or a hashed name).
    #[inline]
    pub fn draw(&self, subject: u64, purpose: Purpose, n: u64) -> u64 {
        mix(mix(self.base ^ subject)
            ^ (purpose as u64) << 56
            ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// True with probability `percent`/100; decided without a draw at 0 and 100.
    pub fn percent(&self, percent: u32, subject: u64, purpose: Purpose, n: u64) -> bool {
        percent >= 100 || (percent > 0 && self.draw(subject, purpose, n) % 100 < u64::from(percent))
    }
}

/// A name as the subject of draws.
pub fn hash_text(text: &str) -> u64 {
    xxhash_rust::xxh64::xxh64(text.as_bytes(), 0)
}

/// Sets the keys of mirrored requests apart.
const MIRRORED: u64 = 0x6d69_7272_6f72;

/// The key of a try on its way to the next hop: that of its exchange, set apart for retries and
/// copies, so that an endpoint draws anew for them. `ordinal` is 1 for the first try.
pub fn key_of_try(key: u64, source: BodySource, ordinal: u32) -> u64 {
    match source {
        BodySource::Exchange(_) if ordinal <= 1 => key,
        BodySource::Exchange(_) => mix(key ^ u64::from(ordinal)),
        BodySource::Mirror(_) => mix(key ^ MIRRORED),
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection with full avalanche.
#[inline]
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_independent_of_order_and_uniform() {
        let draws = Draws::new(7, "gateway");
        let mut buckets = [0u32; 16];
        for key in 0..160_000u64 {
            buckets[(draws.draw(mix(key), Purpose::Host, 0) % 16) as usize] += 1;
        }
        // 5 standard deviations of a binomial with mean 10,000.
        assert!(
            buckets.iter().all(|&n| (9_515..10_485).contains(&n)),
            "{buckets:?}"
        );
        assert_ne!(
            draws.draw(1, Purpose::Host, 0),
            draws.draw(1, Purpose::Host, 1)
        );
        assert_ne!(
            draws.draw(1, Purpose::Host, 0),
            draws.draw(1, Purpose::Priority, 0)
        );
        assert_ne!(
            draws.draw(1, Purpose::Host, 0),
            Draws::new(7, "other").draw(1, Purpose::Host, 0)
        );
        assert_ne!(
            draws.draw(1, Purpose::Host, 0),
            Draws::new(8, "gateway").draw(1, Purpose::Host, 0)
        );
    }

    #[test]
    fn percent_draws_nothing_at_the_ends() {
        let draws = Draws::new(1, "p");
        for key in 0..1000 {
            assert!(!draws.percent(0, key, Purpose::FaultAbort, 0));
            assert!(draws.percent(100, key, Purpose::FaultAbort, 0));
        }
    }
}
