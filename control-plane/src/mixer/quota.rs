//! What is left of quotas, as Mixer's memquota keeps it: in memory, in a window that rolls on by
//! tenths of a second.

use proxy_core::time::Nanos;
use std::collections::BTreeMap;

const TICK: Nanos = Nanos::from_millis(100);
const TICKS_PER_S: u64 = 10;

/// How much there is for each set of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) max: u64,
    /// Until an amount is free again; whole seconds, rounded up. 0: never.
    pub(super) valid_for: Nanos,
}

/// What was taken so far, by quota and dimensions.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    windows: BTreeMap<String, Window>,
}

impl Quotas {
    /// Takes one, if there is one.
    pub(super) fn take(&mut self, key: String, of: Amount, now: Nanos) -> bool {
        let window = self.windows.entry(key).or_insert_with(|| Window::new(of));
        window.take(now)
    }
}

#[derive(Clone, Debug)]
struct Window {
    available: u64,
    /// Taken in each tick; empty where nothing is ever given back.
    taken: Vec<u64>,
    /// Ticks since the start of the run, at the last taking.
    tick: u64,
}

impl Window {
    fn new(of: Amount) -> Window {
        let seconds = of.valid_for.0.div_ceil(Nanos::from_secs(1).0);
        Window {
            available: of.max,
            taken: vec![0; (seconds * TICKS_PER_S) as usize],
            tick: 0,
        }
    }

    fn take(&mut self, now: Nanos) -> bool {
        let tick = now.0 / TICK.0;
        let ticks = self.taken.len() as u64;
        if ticks > 0 {
            let first = self.tick + 1;
            for passed in first..=tick.min(self.tick + ticks) {
                self.available += std::mem::take(&mut self.taken[(passed % ticks) as usize]);
            }
            self.tick = tick;
        }
        if self.available == 0 {
            return false;
        }
        self.available -= 1;
        if ticks > 0 {
            self.taken[(tick % ticks) as usize] += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(max: u64, valid_for: Nanos, at_ms: &[u64]) -> Vec<bool> {
        let mut quotas = Quotas::default();
        let amount = Amount { max, valid_for };
        let at = at_ms.iter().map(|&at| Nanos::from_millis(at));
        at.map(|now| quotas.take("q".into(), amount, now)).collect()
    }

    #[test]
    fn an_amount_is_free_again_after_its_time() {
        let second = Nanos::from_secs(1);
        assert_eq!(
            taken(
                2,
                second,
                &[0, 50, 900, 999, 1000, 1001, 1099, 5000, 5001, 5002]
            ),
            [
                true, true, false, false, true, true, false, true, true, false
            ]
        );
        // Each goes with its tick.
        assert_eq!(
            taken(2, second, &[0, 550, 600, 1050, 1060, 1500, 1600]),
            [true, true, false, true, false, true, false]
        );
    }

    #[test]
    fn without_a_time_nothing_comes_back() {
        let taken = taken(3, Nanos::ZERO, &[0, 1, 2, 3, 1_000_000]);
        assert_eq!(taken, [true, true, true, false, false]);
    }

    #[test]
    fn dimensions_have_amounts_of_their_own() {
        let mut quotas = Quotas::default();
        let amount = Amount {
            max: 1,
            valid_for: Nanos::from_secs(1),
        };
        let mut take = |key: &str| quotas.take(key.into(), amount, Nanos::ZERO);
        assert_eq!([take("a"), take("b"), take("a")], [true, true, false]);
    }
}
