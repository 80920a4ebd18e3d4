//! One plan under several seeds, on several threads. Which thread runs which seed changes nothing:
//! runs share nothing but the plan.

use crate::event;
use crate::observe::{Observers, Outcome};
use crate::plan::Plan;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `plan` under every seed; the outcomes are in the order of the seeds. `progress` is told,
/// from any thread, how much of a seed's run is done since it was last told.
pub fn run_seeds(
    plan: &Plan,
    seeds: &[u64],
    threads: usize,
    progress: &(dyn Fn(f64) + Sync),
) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&seed) = seeds.get(at) else { return };
            let mut told = 0.0;
            let mut tell = |done: f64| {
                progress(done - told);
                told = done;
            };
            let observers = Observers {
                progress: Some(&mut tell),
                ..Observers::default()
            };
            let outcome = event::run(plan, seed, observers);
            progress(1.0 - told);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((at, outcome));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, seeds.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
