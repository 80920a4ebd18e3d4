//! When requests of an open-loop source arrive.

use crate::random::{Purpose, WorldDraws};
use proxy_core::time::Nanos;

/// A rate over time: pieces from `from` on, each going in a straight line.
#[derive(Clone, Debug, PartialEq)]
pub struct RatePiece {
    pub from: Nanos,
    /// Requests a second at `from`, and at the start of the next piece.
    pub start_per_s: f64,
    pub end_per_s: f64,
}

/// How the gaps between arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Poisson,
    /// Evenly.
    Constant,
}

/// The arrivals of one source.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    draws: WorldDraws,
    spread: Spread,
    pieces: Vec<RatePiece>,
    piece: usize,
    at: Nanos,
    next: u64,
}

impl Arrivals {
    pub(crate) fn new(draws: WorldDraws, spread: Spread, pieces: Vec<RatePiece>) -> Arrivals {
        Arrivals {
            draws,
            spread,
            pieces,
            piece: 0,
            at: Nanos::ZERO,
            next: 0,
        }
    }

    /// From `now` to `until` the rate is `per_s`; arrival number `ordinal`, and what follows it, is
    /// drawn anew.
    pub(crate) fn change_rate(&mut self, now: Nanos, until: Nanos, per_s: f64, ordinal: u64) {
        let level = |from, per_s| RatePiece {
            from,
            start_per_s: per_s,
            end_per_s: per_s,
        };
        self.pieces = vec![level(now, per_s), level(until, 0.0)];
        self.piece = 0;
        self.at = now;
        self.next = ordinal;
    }

    /// The ordinal and time of the next arrival; `None`: there is none any more.
    pub(crate) fn next(&mut self) -> Option<(u64, Nanos)> {
        let ordinal = self.next;
        let mut left = match self.spread {
            Spread::Poisson => -libm::log(1.0 - self.draws.unit(ordinal, Purpose::Arrival, 0)),
            Spread::Constant => 1.0,
        };
        loop {
            let piece = self.pieces.get(self.piece)?;
            self.at = self.at.max(piece.from);
            let end = self
                .pieces
                .get(self.piece + 1)
                .map_or(Nanos::MAX, |next| next.from);
            if let Some(wait_s) = time_to_collect(piece, end, self.at, left)
                && self.at + Nanos::from_secs_f64(wait_s) < end
            {
                self.at += Nanos::from_secs_f64(wait_s);
                self.next += 1;
                return Some((ordinal, self.at));
            }
            if end == Nanos::MAX {
                return None;
            }
            left -= collected(piece, end, self.at, end);
            left = left.max(0.0);
            self.at = end;
            self.piece += 1;
        }
    }
}

fn rate_at(piece: &RatePiece, end: Nanos, at: Nanos) -> f64 {
    if end == Nanos::MAX {
        return piece.start_per_s;
    }
    let done = (at - piece.from).as_secs_f64() / (end - piece.from).as_secs_f64();
    piece.start_per_s + (piece.end_per_s - piece.start_per_s) * done
}

/// Expected arrivals between two points of a piece.
fn collected(piece: &RatePiece, end: Nanos, from: Nanos, to: Nanos) -> f64 {
    (rate_at(piece, end, from) + rate_at(piece, end, to)) / 2.0 * (to - from).as_secs_f64()
}

/// Seconds from `at` until `amount` arrivals are expected; `None`: never in this piece.
fn time_to_collect(piece: &RatePiece, end: Nanos, at: Nanos, amount: f64) -> Option<f64> {
    let rate = rate_at(piece, end, at);
    let slope = if end == Nanos::MAX {
        0.0
    } else {
        (piece.end_per_s - piece.start_per_s) / (end - piece.from).as_secs_f64()
    };
    if slope == 0.0 {
        return (rate > 0.0).then(|| amount / rate);
    }
    // rate·t + slope·t²/2 = amount, in the form that does not cancel.
    let root = rate * rate + 2.0 * slope * amount;
    (root >= 0.0)
        .then(|| 2.0 * amount / (rate + libm::sqrt(root)))
        .filter(|t| t.is_finite() && *t >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spread: Spread, pieces: Vec<RatePiece>, until_s: u64) -> Vec<f64> {
        let mut arrivals = Arrivals::new(WorldDraws::new(1, "t"), spread, pieces);
        std::iter::from_fn(|| arrivals.next())
            .map(|(_, at)| at.as_secs_f64())
            .take_while(|&at| at < until_s as f64)
            .collect()
    }

    fn piece(from_s: u64, start_per_s: f64, end_per_s: f64) -> RatePiece {
        RatePiece {
            from: Nanos::from_secs(from_s),
            start_per_s,
            end_per_s,
        }
    }

    #[test]
    fn constant_gaps() {
        let got = times(Spread::Constant, vec![piece(0, 4.0, 4.0)], 2);
        assert_eq!(got, [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]);
    }

    #[test]
    fn ramps_and_steps_give_the_area_under_the_rate() {
        let pieces = vec![
            piece(0, 0.0, 100.0),
            piece(10, 50.0, 50.0),
            piece(20, 0.0, 0.0),
        ];
        for spread in [Spread::Constant, Spread::Poisson] {
            let got = times(spread, pieces.clone(), 100);
            let first = got.iter().filter(|&&at| at < 10.0).count() as f64;
            let second = got.iter().filter(|&&at| (10.0..20.0).contains(&at)).count() as f64;
            // Five standard deviations of 500 Poisson arrivals.
            assert!(
                (first - 500.0).abs() < 112.0 && (second - 500.0).abs() < 112.0,
                "{first} {second}"
            );
            assert!(got.iter().all(|&at| at < 20.0));
        }
    }
}
