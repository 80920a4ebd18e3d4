//! Ring hash (Envoy `ring_hash_lb.cc`, Ketama).

use xxhash_rust::xxh64::xxh64;

/// Points on the ring, sorted by hash.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of `hosts`, each a host index with its hash key and weight, in host-set order.
    pub(crate) fn build(hosts: &[(u32, String, u32)], minimum: u64, maximum: u64) -> Ring {
        let total: f64 = hosts.iter().map(|(_, _, w)| f64::from(*w)).sum();
        let Some(least) = hosts
            .iter()
            .map(|(_, _, w)| f64::from(*w) / total)
            .min_by(f64::total_cmp)
        else {
            return Ring { points: Vec::new() };
        };
        let scale = (libm::ceil(least * minimum as f64) / least).min(maximum as f64);
        let mut points = Vec::with_capacity(libm::ceil(scale) as usize);
        let (mut current, mut target) = (0.0, 0.0);
        for (host, key, weight) in hosts {
            target += scale * (f64::from(*weight) / total);
            let mut i = 0u64;
            while current < target {
                points.push((xxh64(format!("{key}_{i}").as_bytes(), 0), *host));
                i += 1;
                current += 1.0;
            }
        }
        points.sort_by_key(|&(hash, _)| hash);
        Ring { points }
    }

    /// The host at the first point not before `hash`, or `attempt` points further.
    pub(crate) fn pick(&self, hash: u64, attempt: u32) -> Option<u32> {
        if self.points.is_empty() {
            return None;
        }
        let at = self.points.partition_point(|&(point, _)| point < hash) % self.points.len();
        Some(self.points[(at + attempt as usize) % self.points.len()].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sizes() {
        let hosts = |weights: [u32; 5]| -> Vec<(u32, String, u32)> {
            (0..5)
                .map(|i| (i, format!("127.0.1.{}:28080", i + 1), weights[i as usize]))
                .collect()
        };
        for (weights, want) in [
            ([1; 5], [205; 5]),
            ([1, 2, 3, 4, 5], [69, 138, 207, 276, 345]),
        ] {
            let ring = Ring::build(&hosts(weights), 1024, 8 * 1024 * 1024);
            let counts = ring.points.iter().fold([0; 5], |mut c, &(_, h)| {
                c[h as usize] += 1;
                c
            });
            assert_eq!(counts, want);
        }
    }

    #[test]
    fn attempts_walk_the_ring() {
        let ring = Ring {
            points: vec![(10, 0), (20, 1), (30, 2)],
        };
        assert_eq!(ring.pick(10, 0), Some(0));
        assert_eq!(ring.pick(11, 0), Some(1));
        assert_eq!(ring.pick(31, 0), Some(0));
        assert_eq!(ring.pick(31, 2), Some(2));
        assert_eq!(Ring { points: vec![] }.pick(1, 0), None);
    }
}
