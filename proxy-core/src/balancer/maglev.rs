//! Maglev (Envoy `maglev_lb.cc`; Eisenbud et al., NSDI 2016).

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
    /// A table of `size` slots (a prime) over `hosts`: host index, hash key, weight.
    pub(crate) fn build(hosts: &[(u32, String, u32)], size: u64) -> Maglev {
        if hosts.is_empty() {
            return Maglev { slots: Vec::new() };
        }
        let total: f64 = hosts.iter().map(|(_, _, w)| f64::from(*w)).sum();
        let mut sorted: Vec<&(u32, String, u32)> = hosts.iter().collect();
        sorted.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
        let mut fillers: Vec<Filler> = sorted
            .iter()
            .map(|(host, key, weight)| Filler {
                host: *host,
                weight: f64::from(*weight) / total,
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
    use super::*;

    #[test]
    fn known_counts() {
        for (weights, want) in [
            ([1, 1, 1, 1, 1], [13108, 13108, 13107, 13107, 13107]),
            ([1, 2, 3, 4, 5], [4370, 8738, 13107, 17477, 21845]),
        ] {
            let hosts: Vec<(u32, String, u32)> = (0..5)
                .map(|i| (i, format!("127.0.1.{}:28080", i + 1), weights[i as usize]))
                .collect();
            let table = Maglev::build(&hosts, 65537);
            let counts = table.slots.iter().fold([0; 5], |mut c, &h| {
                c[h as usize] += 1;
                c
            });
            let mut sorted = counts;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let mut expected = want;
            expected.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(sorted, expected, "{counts:?}");
        }
    }
}
