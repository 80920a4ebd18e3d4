//! Ring hash (Envoy `ring_hash_lb.cc`, Ketama).

use super::hashed::WeightedKey;
use super::murmur2::{self, murmur2_64};
use crate::xds::RingHashFunction;
use xxhash_rust::xxh64::xxh64;

/// Points on the ring, sorted by hash.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    points: Vec<(u64, u32)>,
    /// By the leading bits of a hash: how many points come before them. There is a point or two for
    /// each pattern of these bits, and a pick looks no further.
    starts: Vec<u32>,
    /// Leaves the leading bits of a hash.
    shift: u32,
}

impl Ring {
    /// A ring of `hosts` in host-set order.
    pub(crate) fn build(
        hosts: &[WeightedKey],
        minimum: u64,
        maximum: u64,
        function: RingHashFunction,
    ) -> Ring {
        let Some(least) = hosts.iter().map(|h| h.weight).min_by(f64::total_cmp) else {
            return Ring::new(Vec::new());
        };
        let scale = (libm::ceil(least * minimum as f64) / least).min(maximum as f64);
        let mut points = Vec::with_capacity(libm::ceil(scale) as usize);
        let (mut current, mut target) = (0.0, 0.0);
        for WeightedKey { host, key, weight } in hosts {
            target += scale * weight;
            let mut i = 0u64;
            while current < target {
                let text = format!("{key}_{i}");
                let hash = match function {
                    RingHashFunction::XxHash => xxh64(text.as_bytes(), 0),
                    RingHashFunction::Murmur2 => murmur2_64(text.as_bytes(), murmur2::SEED),
                };
                points.push((hash, *host));
                i += 1;
                current += 1.0;
            }
        }
        points.sort_by_key(|&(hash, _)| hash);
        Ring::new(points)
    }

    /// `points` are sorted.
    fn new(points: Vec<(u64, u32)>) -> Ring {
        let bits = points.len().max(2).ilog2();
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, (hash, _)) in (0..).zip(&points) {
            starts.resize(starts.len().max((hash >> shift) as usize + 1), at);
        }
        starts.resize((1 << bits) + 1, points.len() as u32);
        Ring {
            points,
            starts,
            shift,
        }
    }

    /// The host at the first point not before `hash`, or `attempt` points further.
    pub(crate) fn pick(&self, hash: u64, attempt: u32) -> Option<u32> {
        if self.points.is_empty() {
            return None;
        }
        let bits = (hash >> self.shift) as usize;
        let (start, end) = (self.starts[bits] as usize, self.starts[bits + 1] as usize);
        let at = start + self.points[start..end].partition_point(|&(point, _)| point < hash);
        Some(self.points[(at + attempt as usize) % self.points.len()].1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hashed::tests::weighted;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Measured on Envoy 1.40.
    #[test]
    fn known_sizes() {
        for (weights, want) in [
            ([1; 5], [205; 5]),
            ([1, 2, 3, 4, 5], [69, 138, 207, 276, 345]),
        ] {
            for function in [RingHashFunction::XxHash, RingHashFunction::Murmur2] {
                let ring = Ring::build(&weighted(&weights), 1024, 8 * 1024 * 1024, function);
                let counts = ring.points.iter().fold([0; 5], |mut c, &(_, h)| {
                    c[h as usize] += 1;
                    c
                });
                assert_eq!(counts, want);
            }
        }
    }

    #[test]
    fn the_maximum_caps_the_ring() {
        let ring = Ring::build(&weighted(&[1; 5]), 1024, 1024, RingHashFunction::XxHash);
        assert_eq!(ring.points.len(), 1024);
    }

    #[test]
    fn attempts_walk_the_ring() {
        let ring = Ring::new(vec![(10, 0), (20, 1), (30, 2)]);
        assert_eq!(ring.pick(10, 0), Some(0));
        assert_eq!(ring.pick(11, 0), Some(1));
        assert_eq!(ring.pick(31, 0), Some(0));
        assert_eq!(ring.pick(31, 2), Some(2));
        assert_eq!(Ring::new(vec![]).pick(1, 0), None);
    }

    proptest! {
        #[test]
        fn picks_the_first_point_not_before_the_hash(
            mut hashes in vec(any::<u64>().prop_map(|hash| hash & !0 << (hash % 64)), 0..200),
            others in vec(any::<u64>(), 20),
            attempt in 0..300u32,
        ) {
            hashes.sort();
            let ring = Ring::new(hashes.iter().copied().zip(0..).collect());
            let beside = hashes.iter().flat_map(|hash| [hash.saturating_sub(1), *hash]);
            for hash in beside.chain(others).chain([0, u64::MAX]) {
                let first = hashes.iter().position(|&point| point >= hash).unwrap_or(0);
                let want = (first + attempt as usize).checked_rem(hashes.len());
                prop_assert_eq!(ring.pick(hash, attempt), want.map(|at| at as u32));
            }
        }
    }
}
