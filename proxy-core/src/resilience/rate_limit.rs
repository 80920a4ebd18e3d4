//! Token buckets of the local rate limit filter (Envoy `AtomicTokenBucketImpl`), in exact arithmetic.

use crate::time::Nanos;
use crate::xds::{LocalRateLimit, Name};
use serde::{Deserialize, Serialize};

/// What a bucket belongs to: it lasts as long as that configuration stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BucketOwner {
    /// A chain of a listener; `None`: its default one.
    Chain {
        listener: Name,
        chain: Option<usize>,
    },
    /// A route, by its number in its virtual host.
    Route {
        table: Name,
        virtual_host: Name,
        route: u32,
    },
}

/// The size of a bucket and how it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSize {
    pub max_tokens: u32,
    pub tokens_per_fill: u32,
    pub fill_interval: Nanos,
}

impl From<&LocalRateLimit> for BucketSize {
    fn from(limit: &LocalRateLimit) -> BucketSize {
        BucketSize {
            max_tokens: limit.max_tokens,
            tokens_per_fill: limit.tokens_per_fill,
            fill_interval: limit.fill_interval,
        }
    }
}

/// A bucket that fills continuously and starts full.
///
/// Its one number is the time at which it would have been empty had nothing been taken since. Times
/// are counted in nanoseconds divided by `tokens_per_fill`, so that a token is a whole number of
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: BucketSize,
    empty_at: Option<i128>,
}

impl Bucket {
    pub(crate) fn new(size: BucketSize) -> Bucket {
        let empty_at = None;
        Bucket { size, empty_at }
    }

    /// Takes a token, if there is a whole one.
    pub(crate) fn take(&mut self, now: Nanos) -> bool {
        let token = i128::from(self.size.fill_interval.0.max(1));
        let now = i128::from(now.0) * i128::from(self.size.tokens_per_fill);
        let full = token * i128::from(self.size.max_tokens);
        let filled = self
            .empty_at
            .map_or(full, |empty_at| full.min(now - empty_at));
        if filled < token {
            return false;
        }
        self.empty_at = Some(now - (filled - token));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, interval_ms: u64) -> Bucket {
        Bucket::new(BucketSize {
            max_tokens,
            tokens_per_fill,
            fill_interval: Nanos::from_millis(interval_ms),
        })
    }

    #[test]
    fn starts_full_and_fills_all_the_time() {
        // 3 tokens in 100 ms: a token in 33.3 ms.
        let mut bucket = bucket(2, 3, 100);
        let mut take = |nanos| bucket.take(Nanos(nanos));
        assert!(take(0) && take(0) && !take(0));
        assert!(!take(33_333_333) && take(33_333_334));
        // The rest of a nanosecond is not lost.
        assert!(!take(66_666_666) && take(66_666_667));
        assert!(take(100_000_000));
        assert!(take(10_000_000_000) && take(10_000_000_000) && !take(10_000_000_000));
    }

    #[test]
    fn an_empty_bucket_refuses_everything() {
        let mut bucket = bucket(0, 1, 100);
        assert!(!bucket.take(Nanos::ZERO) && !bucket.take(Nanos::from_secs(9)));
    }

    proptest! {
        /// Over any span no more passes than the bucket holds and what flows in.
        #[test]
        fn never_more_than_size_and_flow(
            max in 1u32..9, per_fill in 1u32..9, interval_ms in 50u64..200,
            pauses in prop::collection::vec(0u64..60_000_000, 1..200),
        ) {
            let mut bucket = bucket(max, per_fill, interval_ms);
            let (mut now, mut passed) = (0u64, 0u64);
            for pause in pauses {
                now += pause;
                passed += u64::from(bucket.take(Nanos(now)));
                let flow = u128::from(now) * u128::from(per_fill) / u128::from(interval_ms * 1_000_000);
                prop_assert!(u128::from(passed) <= u128::from(max) + flow);
            }
        }
    }
}
