//! Earliest deadline first: Envoy's weighted scheduler (`edf_scheduler.h`).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps `1/weight` finite and breaks exact ties as Envoy does.
const EPSILON: f64 = 1e-13;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    /// Insertion order: first in, first out on equal deadlines.
    order: u64,
    host: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// Reversed, so that the heap's maximum is the earliest.
    fn cmp(&self, other: &Entry) -> Ordering {
        other
            .deadline
            .total_cmp(&self.deadline)
            .then(other.order.cmp(&self.order))
    }
}

/// Hosts scheduled in proportion to their weights.
#[derive(Clone, Debug)]
pub(crate) struct Edf {
    heap: BinaryHeap<Entry>,
    next_order: u64,
}

impl Edf {
    /// Schedules `hosts` of the given weights as if `seed`, shortened, picks had been made already,
    /// so that the proxies of a mesh do not all begin with the same host.
    pub(crate) fn new(hosts: &[u32], seed: u64, weight: impl Fn(u32) -> f64) -> Edf {
        let picks = f64::from((seed as u32) % 429_496_729);
        let weights: Vec<f64> = hosts.iter().map(|&host| weight(host) + EPSILON).collect();
        let total: f64 = weights.iter().sum();
        let mut edf = Edf {
            heap: BinaryHeap::with_capacity(hosts.len()),
            next_order: 0,
        };
        let mut left = picks;
        for (&host, &w) in hosts.iter().zip(&weights) {
            let mut made = libm::floor(w * picks / total);
            if made > 0.0 && made / w >= picks / total {
                made -= 1.0;
            }
            left -= made;
            edf.push(host, (made + 1.0) / w);
        }
        for _ in 0..left as u64 {
            edf.pick(&weight);
        }
        edf
    }

    /// The next host; it goes back in by its weight of this moment.
    pub(crate) fn pick(&mut self, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let mut earliest = self.heap.peek_mut()?;
        let host = earliest.host;
        earliest.deadline += 1.0 / weight(host);
        earliest.order = self.next_order;
        self.next_order += 1;
        Some(host)
    }

    fn push(&mut self, host: u32, deadline: f64) {
        self.heap.push(Entry {
            deadline,
            order: self.next_order,
            host,
        });
        self.next_order += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[f64], seed: u64, n: usize) -> Vec<u32> {
        let hosts: Vec<u32> = (0..weights.len() as u32).collect();
        let weight = |host: u32| weights[host as usize];
        let mut edf = Edf::new(&hosts, seed, weight);
        (0..n).map(|_| edf.pick(weight).unwrap()).collect()
    }

    /// Envoy's measured cycles, up to the phase that the seed decides.
    #[test]
    fn known_cycles() {
        for (weights, cycle) in [
            (&[1.0, 2.0, 3.0][..], &[0u32, 1, 2, 2, 1, 2][..]),
            (&[5.0, 1.0, 1.0], &[0, 0, 0, 0, 1, 2, 0]),
        ] {
            for seed in 0..40 {
                let got = picks(weights, seed, cycle.len() * 2);
                let doubled: Vec<u32> = cycle.iter().chain(cycle).copied().collect();
                let fits = (0..cycle.len())
                    .any(|phase| got[..cycle.len()] == doubled[phase..phase + cycle.len()]);
                assert!(fits, "weights {weights:?} seed {seed}: {got:?}");
            }
        }
    }

    #[test]
    fn shares_follow_weights_exactly_over_whole_cycles() {
        let got = picks(&[1.0, 2.0, 3.0], 12345, 6000);
        let counts = got.iter().fold([0; 3], |mut c, &h| {
            c[h as usize] += 1;
            c
        });
        assert_eq!(counts, [1000, 2000, 3000]);
    }
}
