//! Envoy's run held against many of the core's.
//!
//! The core's runs differ in nothing but the proxy's own draws, so they show what chance alone does:
//! where all of them say the same, Envoy must say it too; where they vary, Envoy must lie where one in
//! a million does not.

use super::runs::{Ejection, Exchange, Run};
use proxy_core::time::Nanos;
use serde::Serialize;
use std::collections::BTreeMap;

/// Standard deviations that a normal variable exceeds once in a million.
const Z: f64 = 4.9;
/// What a skewed count exceeds them by, for each unit of variance over mean (Cornish and Fisher's
/// second term; a Poisson count has one).
const SKEW: f64 = (Z * Z - 1.0) / 6.0;
/// Requests of a window that real time may move to another figure: so many,
const STRAY: f64 = 1.0;
/// and this part of its requests.
const STRAY_PART: f64 = 0.01;
/// Real time may move an ejection by this much.
const EJECTION_JITTER: Nanos = Nanos::from_millis(150);
/// What begins this close to a change is not compared: which side of it a request falls on is a
/// matter of milliseconds.
const GUARD: Nanos = Nanos::from_millis(150);
/// A window with less is none.
const SHORTEST: Nanos = Nanos::from_millis(200);
/// Longer spans are cut, so that what develops in them is seen.
const LONGEST: Nanos = Nanos::from_millis(1_500);

/// A time at which something changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) at: Nanos,
    pub(super) what: String,
}

/// A span of time in which nothing changes from outside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    pub from: Nanos,
    pub to: Nanos,
    /// What happened last before it.
    pub after: String,
    /// Of Envoy's run.
    pub requests: u64,
    pub figures: Vec<Figure>,
}

/// One number, as both sides have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub what: String,
    pub envoy: f64,
    /// Over the core's runs.
    pub core_mean: f64,
    pub core_deviation: f64,
    /// Where Envoy's number has to be.
    pub at_least: f64,
    pub at_most: f64,
}

impl Figure {
    /// Whether Envoy's number is where it has to be.
    pub fn agrees(&self) -> bool {
        (self.at_least..=self.at_most).contains(&self.envoy)
    }

    /// `stray`: what real time may add or take.
    fn new(what: String, envoy: f64, core: &[f64], stray: f64) -> Figure {
        let count = core.len().max(1) as f64;
        let mean = core.iter().sum::<f64>() / count;
        let squares = core
            .iter()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f64>();
        let variance = squares / (count - 1.0).max(1.0);
        let spread = Z * (variance * (1.0 + 1.0 / count)).sqrt();
        let skew = if variance > 0.0 {
            SKEW * variance / mean.abs().max(1.0)
        } else {
            0.0
        };
        Figure {
            what,
            envoy,
            core_mean: mean,
            core_deviation: variance.sqrt(),
            at_least: mean - spread - stray,
            at_most: mean + spread + skew + stray,
        }
    }
}

/// The windows between `changes`, with every figure of theirs.
pub(super) fn windows(
    changes: &[Change],
    from: Nanos,
    end: Nanos,
    envoy: &Run,
    core: &[Run],
) -> Vec<Window> {
    let mut windows = spans(changes, from, end);
    for window in &mut windows {
        fill(window, envoy, core);
    }
    windows
}

fn spans(changes: &[Change], from: Nanos, end: Nanos) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut edges: Vec<(Nanos, &str)> = changes.iter().map(|c| (c.at, c.what.as_str())).collect();
    edges.retain(|(at, _)| *at < end);
    edges.sort_by_key(|(at, _)| *at);
    edges.push((end + GUARD, ""));
    let (mut since, mut after) = (from, "start");
    for (at, what) in edges {
        let until = Nanos(at.0.saturating_sub(GUARD.0));
        if since + SHORTEST <= until {
            let parts = (until - since).0.div_ceil(LONGEST.0);
            let cut = |part: u64| Nanos(since.0 + (until - since).0 * part / parts);
            windows.extend((0..parts).map(|part| Window {
                from: cut(part),
                to: cut(part + 1),
                after: after.to_owned(),
                requests: 0,
                figures: Vec::new(),
            }));
        }
        since = since.max(at + GUARD);
        after = what;
    }
    windows
}

fn fill(window: &mut Window, envoy: &Run, core: &[Run]) {
    let counts = |run: &Run| -> (u64, BTreeMap<String, u64>) {
        let mut counts = BTreeMap::new();
        let mut requests = 0;
        let within = |e: &&Exchange| window.from <= e.at && e.at < window.to;
        for exchange in run.exchanges.iter().filter(within) {
            requests += 1;
            for figure in figures_of(exchange) {
                *counts.entry(figure).or_default() += 1;
            }
        }
        (requests, counts)
    };
    let (requests, ours) = counts(envoy);
    let theirs: Vec<(u64, BTreeMap<String, u64>)> = core.iter().map(counts).collect();
    let mut names: Vec<&String> = ours.keys().collect();
    names.extend(theirs.iter().flat_map(|(_, counts)| counts.keys()));
    names.sort();
    names.dedup();
    let value = |counts: &BTreeMap<String, u64>, name: &str| {
        counts.get(name).copied().unwrap_or_default() as f64
    };
    let stray = STRAY + STRAY_PART * requests as f64;
    let figures = names.into_iter().map(|name| {
        let core: Vec<f64> = theirs
            .iter()
            .map(|(_, counts)| value(counts, name))
            .collect();
        Figure::new(name.clone(), value(&ours, name), &core, stray)
    });
    let mut figures: Vec<Figure> = figures.collect();
    let all: Vec<f64> = theirs
        .iter()
        .map(|(requests, _)| *requests as f64)
        .collect();
    figures.push(Figure::new(
        "requests".to_owned(),
        requests as f64,
        &all,
        STRAY,
    ));
    window.requests = requests;
    window.figures = figures;
}

/// What one request counts for: its outcome, and the endpoint that it ended at.
fn figures_of(exchange: &Exchange) -> impl Iterator<Item = String> {
    let cluster = exchange.cluster.as_deref().unwrap_or("no cluster");
    let Exchange {
        status,
        flags,
        attempts,
        ..
    } = exchange;
    let outcome = format!("{cluster}: {status} {flags} after {attempts}");
    let endpoint = exchange
        .endpoint
        .map(|endpoint| format!("{cluster}: at {endpoint}"));
    std::iter::once(outcome).chain(endpoint)
}

/// Every ejection and return of every host: how many, and when.
pub(super) fn ejections(envoy: &Run, core: &[Run]) -> Vec<Figure> {
    let mut hosts: Vec<String> = Vec::new();
    for ejection in std::iter::once(envoy)
        .chain(core)
        .flat_map(|run| &run.ejections)
    {
        let name = name_of(ejection);
        if !hosts.contains(&name) {
            hosts.push(name);
        }
    }
    hosts.sort();
    let mut figures = Vec::new();
    for name in hosts {
        let times = |run: &Run| -> Vec<f64> {
            let of_host = run.ejections.iter().filter(|e| name_of(e) == name);
            of_host.map(|e| e.at.as_millis_f64()).collect()
        };
        let ours = times(envoy);
        let theirs: Vec<Vec<f64>> = core.iter().map(times).collect();
        let counts: Vec<f64> = theirs.iter().map(|times| times.len() as f64).collect();
        figures.push(Figure::new(name.clone(), ours.len() as f64, &counts, 0.0));
        for (nth, at) in ours.iter().enumerate() {
            let core: Vec<f64> = theirs
                .iter()
                .filter_map(|times| times.get(nth).copied())
                .collect();
            // With too few the count above says what there is to say.
            if core.len() * 2 > theirs.len() {
                let what = format!("{name}: number {} at (ms)", nth + 1);
                figures.push(Figure::new(
                    what,
                    *at,
                    &core,
                    EJECTION_JITTER.as_millis_f64(),
                ));
            }
        }
    }
    figures
}

fn name_of(ejection: &Ejection) -> String {
    let what = if ejection.out { "ejected" } else { "back" };
    format!("{}: {} {what}", ejection.cluster, ejection.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Nanos {
        Nanos::from_secs_f64(s)
    }

    #[test]
    fn windows_keep_away_from_changes_and_are_cut() {
        let change = |at: f64, what: &str| Change {
            at: seconds(at),
            what: what.into(),
        };
        let changes = [
            change(2.0, "crash"),
            change(2.3, "push"),
            change(32.0, "late"),
        ];
        let got: Vec<(f64, f64, String)> = spans(&changes, seconds(0.5), seconds(5.15))
            .into_iter()
            .map(|w| (w.from.as_secs_f64(), w.to.as_secs_f64(), w.after))
            .collect();
        assert_eq!(
            got,
            [
                (0.5, 1.85, "start".to_owned()),
                (2.45, 3.8, "push".to_owned()),
                (3.8, 5.15, "push".to_owned()),
            ]
        );
    }

    #[test]
    fn what_never_varies_must_be_met() {
        let exact = Figure::new("x".into(), 40.0, &[30.0; 50], 1.4);
        assert!(!exact.agrees() && (exact.at_least, exact.at_most) == (28.6, 31.4));
        assert!(Figure::new("x".into(), 31.0, &[30.0; 50], 1.4).agrees());
    }

    /// A binomial count over 100 runs of mean 50 and deviation 5 allows about 25.
    #[test]
    fn what_varies_may_vary() {
        let core: Vec<f64> = (0..100)
            .map(|n| if n % 2 == 0 { 45.0 } else { 55.0 })
            .collect();
        assert!(Figure::new("x".into(), 70.0, &core, 0.0).agrees());
        assert!(!Figure::new("x".into(), 79.0, &core, 0.0).agrees());
        assert!(!Figure::new("x".into(), 24.0, &core, 0.0).agrees());
    }
}
