//! Maglev (Envoy `maglev_lb.cc`; Eisenbud et al., NSDI 2016).

use super::hashed::WeightedKey;
use xxhash_rust::xxh64::xxh64;

const FREE: u32 = u32::MAX;

/// The lookup table.
#[derive(Clone, Debug)]
pub(crate) struct Maglev {
    slots: Vec<u32>,
}

struct Filler {
    host: u32,
    weight: f64,
    offset: u64,
    skip: u64,
    next: u64,
    target: f64,
}

impl Maglev {
    /// A table of `size` slots (a prime) over `hosts`. They take turns in the order of their keys;
    /// those of equal keys in host-set order.
    pub(crate) fn build(hosts: &[WeightedKey], size: u64) -> Maglev {
        if hosts.is_empty() {
            return Maglev { slots: Vec::new() };
        }
        let mut sorted: Vec<&WeightedKey> = hosts.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut fillers: Vec<Filler> = sorted
            .iter()
            .map(|WeightedKey { host, key, weight }| Filler {
                host: *host,
                weight: *weight,
                offset: xxh64(key.as_bytes(), 0) % size,
                skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
                next: 0,
                target: 0.0,
            })
            .collect();
        let heaviest = fillers.iter().map(|f| f.weight).fold(0.0, f64::max);
        let mut slots = vec![FREE; size as usize];
        let mut filled = 0;
        let mut iteration = 1u64;
        while filled < size {
            for filler in &mut fillers {
                if filled == size {
                    break;
                }
                if iteration as f64 * filler.weight < filler.target {
                    continue;
                }
                filler.target += heaviest;
                let slot = filler.next_free(&slots, size);
                slots[slot] = filler.host;
                filled += 1;
            }
            iteration += 1;
        }
        Maglev { slots }
    }

    /// The host of `hash`; each attempt looks elsewhere.
    pub(crate) fn pick(&self, hash: u64, attempt: u32) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = if attempt > 0 {
            hash ^ (!0u64 - u64::from(attempt) + 1)
        } else {
            hash
        };
        Some(self.slots[(hash % self.slots.len() as u64) as usize])
    }
}

impl Filler {
    fn next_free(&mut self, slots: &[u32], size: u64) -> usize {
        loop {
            let slot = ((self.offset + self.skip * self.next) % size) as usize;
            self.next += 1;
            if slots[slot] == FREE {
                return slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hashed::tests::weighted;
    use super::*;

    /// Measured on Envoy 1.40.
    #[test]
    fn known_counts() {
        for (weights, want) in [
            ([1, 1, 1, 1, 1], [13107, 13107, 13107, 13108, 13108]),
            ([1, 2, 3, 4, 5], [4370, 8738, 13107, 17477, 21845]),
        ] {
            let table = Maglev::build(&weighted(&weights), 65537);
            let mut counts = table.slots.iter().fold([0; 5], |mut c, &h| {
                c[h as usize] += 1;
                c
            });
            counts.sort_unstable();
            assert_eq!(counts, want);
        }
    }

    #[test]
    fn hosts_of_one_key_share_its_walk() {
        let mut hosts = weighted(&[1, 1]);
        hosts[1].key = hosts[0].key.clone();
        let table = Maglev::build(&hosts, 11);
        let (first, second) = (
            (xxh64(hosts[0].key.as_bytes(), 0) % 11) as usize,
            xxh64(hosts[0].key.as_bytes(), 1) % 10 + 1,
        );
        assert_eq!(table.slots[first], 0);
        assert_eq!(table.slots[(first + second as usize) % 11], 1);
        assert_eq!(table.slots.iter().filter(|&&host| host == 0).count(), 6);
    }

    #[test]
    fn attempts_change_the_hash() {
        let table = Maglev {
            slots: vec![0, 1, 2, 3, 4, 5, 6],
        };
        assert_eq!(table.pick(10, 0), Some(3));
        assert_eq!(table.pick(10, 1), Some(((10 ^ u64::MAX) % 7) as u32));
        assert_eq!(table.pick(10, 2), Some(((10 ^ (u64::MAX - 1)) % 7) as u32));
    }
}
