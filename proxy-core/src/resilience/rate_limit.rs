//! Token buckets of the local rate limit filter (Envoy `AtomicTokenBucketImpl`), in exact arithmetic.

use crate::time::Nanos;
use crate::xds::{Name, TokenBucket};
use serde::{Deserialize, Serialize};

/// A bucket that the workers of a proxy share. It lasts as long as its owner stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BucketId {
    pub owner: BucketOwner,
    /// Of the owner's descriptors; `None`: the one for all requests.
    pub descriptor: Option<u32>,
}

/// The configuration that has a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BucketOwner {
    /// A local rate limit among the filters of a chain.
    Filter { chain: ChainId, filter: u32 },
    /// A virtual host, or one of its routes by its number.
    Table {
        /// Of a table that is part of a chain.
        chain: Option<ChainId>,
        table: Name,
        virtual_host: Name,
        route: Option<u32>,
    },
}

/// A chain of a listener; `None`: its default one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChainId {
    pub listener: Name,
    pub chain: Option<usize>,
}

impl BucketOwner {
    /// The chain that it is part of.
    pub(crate) fn chain(&self) -> Option<&ChainId> {
        match self {
            BucketOwner::Filter { chain, .. } => Some(chain),
            BucketOwner::Table { chain, .. } => chain.as_ref(),
        }
    }

    /// Whether it is part of the route table of that name, delivered on its own.
    pub(crate) fn is_of_table(&self, name: &Name) -> bool {
        matches!(self, BucketOwner::Table { chain: None, table, .. } if table == name)
    }
}

/// A bucket that fills continuously and starts full.
///
/// Its one number is the time at which it would have been empty had nothing been taken since. Times
/// are counted in nanoseconds divided by `tokens_per_fill`, so that a token is a whole number of
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: TokenBucket,
    empty_at: Option<i128>,
}

impl Bucket {
    pub(crate) fn new(size: TokenBucket) -> Bucket {
        let empty_at = None;
        Bucket { size, empty_at }
    }

    /// Takes a token, if there is a whole one.
    pub(crate) fn take(&mut self, now: Nanos) -> bool {
        let (token, filled) = (self.token(), self.filled(now));
        if filled < token {
            return false;
        }
        self.empty_at = Some(self.scaled(now) - (filled - token));
        true
    }

    /// Whole tokens in it.
    pub(crate) fn remaining(&self, now: Nanos) -> u64 {
        (self.filled(now) / self.token()) as u64
    }

    /// Seconds until there is a whole token, rounded up.
    pub(crate) fn seconds_to_next(&self, now: Nanos) -> u64 {
        let missing = (self.token() - self.filled(now)).max(0) as u128;
        let second = u128::from(self.size.tokens_per_fill.max(1)) * 1_000_000_000;
        missing.div_ceil(second) as u64
    }

    pub(crate) fn size(&self) -> TokenBucket {
        self.size
    }

    fn token(&self) -> i128 {
        i128::from(self.size.fill_interval.0.max(1))
    }

    fn scaled(&self, now: Nanos) -> i128 {
        i128::from(now.0) * i128::from(self.size.tokens_per_fill)
    }

    fn filled(&self, now: Nanos) -> i128 {
        let full = self.token() * i128::from(self.size.max_tokens);
        let since = self.empty_at.map(|empty_at| self.scaled(now) - empty_at);
        since.map_or(full, |since| full.min(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, interval_ms: u64) -> Bucket {
        Bucket::new(TokenBucket {
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
    fn tells_what_is_left_and_when_there_is_more() {
        let mut bucket = bucket(2, 1, 2500);
        assert_eq!(
            (bucket.remaining(Nanos(0)), bucket.seconds_to_next(Nanos(0))),
            (2, 0)
        );
        assert!(bucket.take(Nanos(0)));
        assert_eq!(
            (bucket.remaining(Nanos(0)), bucket.seconds_to_next(Nanos(0))),
            (1, 0)
        );
        assert!(bucket.take(Nanos(0)));
        assert_eq!(
            (bucket.remaining(Nanos(1)), bucket.seconds_to_next(Nanos(1))),
            (0, 3)
        );
        let later = Nanos::from_millis(2499);
        assert_eq!(
            (bucket.remaining(later), bucket.seconds_to_next(later)),
            (0, 1)
        );
        let later = Nanos::from_millis(2500);
        assert_eq!(
            (bucket.remaining(later), bucket.seconds_to_next(later)),
            (1, 0)
        );
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
