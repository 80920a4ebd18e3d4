//! What is left of quotas, as Mixer's memquota keeps it: in memory, in a window that rolls on by
//! tenths of a second.

use proxy_core::time::Nanos;
use std::collections::{BTreeMap, VecDeque};

const TICK: Nanos = Nanos::from_millis(100);
const TICKS_PER_S: u64 = 10;

/// How much there is for each set of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount {
    pub(super) max: u64,
    /// Until an amount is free again; whole seconds, rounded up. 0: never.
    pub(super) valid_for: Nanos,
}

/// What was taken so far, by quota and dimensions, and by how much there is: a changed amount
/// starts anew, and rules with different amounts of one quota do not mix.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    windows: BTreeMap<(String, Amount), Window>,
}

impl Quotas {
    /// Takes one, if there is one.
    pub(super) fn take(&mut self, key: String, of: Amount, now: Nanos) -> bool {
        let window = self.windows.entry((key, of));
        window.or_insert_with(|| Window::new(of)).take(now)
    }
}

#[derive(Clone, Debug)]
struct Window {
    available: u64,
    /// Until what was taken is free again; 0: never.
    ticks: u64,
    /// How many in which tick since the start of the run, the oldest first.
    taken: VecDeque<(u64, u64)>,
}

impl Window {
    fn new(of: Amount) -> Window {
        Window {
            available: of.max,
            ticks: of.valid_for.0.div_ceil(Nanos::from_secs(1).0) * TICKS_PER_S,
            taken: VecDeque::new(),
        }
    }

    fn take(&mut self, now: Nanos) -> bool {
        let tick = now.0 / TICK.0;
        while let Some(&(at, count)) = self.taken.front()
            && at + self.ticks <= tick
        {
            self.available += count;
            self.taken.pop_front();
        }
        if self.available == 0 {
            return false;
        }
        self.available -= 1;
        match self.taken.back_mut() {
            _ if self.ticks == 0 => {}
            Some((at, count)) if *at == tick => *count += 1,
            _ => self.taken.push_back((tick, 1)),
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

    #[test]
    fn a_changed_amount_starts_anew() {
        let mut quotas = Quotas::default();
        let mut take = |max| {
            let valid_for = Nanos::from_secs(24 * 3600);
            quotas.take("q".into(), Amount { max, valid_for }, Nanos::ZERO)
        };
        let taken = [1, 1, 3, 3, 3, 3, 1].map(&mut take);
        assert_eq!(taken, [true, false, true, true, true, false, false]);
    }
}
