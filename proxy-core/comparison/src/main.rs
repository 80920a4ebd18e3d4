//! What routing and balancing a request cost, beside `tower` and `pingora-load-balancing`:
//! `cargo run --release` in this folder. Machines differ and are noisy, so all contestants of a line
//! take turns in one process, and the ratios are the figures to keep.
//!
//! The balancer is no interface of `proxy-core`, so its source is compiled in here.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // It measures; nothing is decided.

#[path = "../../src/balancer/mod.rs"]
#[allow(dead_code)]
mod balancer;
#[path = "../../src/cluster/mod.rs"]
#[allow(dead_code, unused_imports)]
mod cluster;
mod ours;
mod peers;
mod routing;

use proxy_core::{contract, ids, messages, random, time, xds};
use std::time::Instant;

/// Makes so many choices.
type Batch = Box<dyn FnMut(u64)>;

const ROUNDS: usize = 21;
const CHOICES: u64 = 20_000;

/// Nanoseconds a choice: the median over rounds in which everyone takes a turn.
fn measure(contestants: &mut [Batch]) -> Vec<f64> {
    let mut took = vec![Vec::new(); contestants.len()];
    for batch in contestants.iter_mut() {
        batch(CHOICES);
    }
    for _ in 0..ROUNDS {
        for (batch, took) in contestants.iter_mut().zip(&mut took) {
            let start = Instant::now();
            batch(CHOICES);
            took.push(start.elapsed().as_nanos() as f64 / CHOICES as f64);
        }
    }
    let median = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    };
    took.into_iter().map(median).collect()
}

fn main() {
    println!("ns a request; in brackets: times meshsim's pick, times its route + pick");
    println!(
        "{:>14} {:>9} {:>6} {:>12}  peers",
        "policy", "endpoints", "pick", "route + pick"
    );
    for policy in [
        "round robin",
        "random",
        "consistent",
        "least request",
        "peak EWMA",
    ] {
        for endpoints in [10, 1_000, 10_000] {
            let (peers, batches): (Vec<&str>, Vec<Batch>) =
                peers::of(policy, endpoints).into_iter().unzip();
            let mut contestants = vec![
                ours::picking(policy, endpoints, false),
                ours::picking(policy, endpoints, true),
            ];
            contestants.extend(batches);
            let ns = measure(&mut contestants);
            print!("{policy:>14} {endpoints:>9} {:>6.1} {:>12.1}", ns[0], ns[1]);
            for (peer, ns_each) in peers.iter().zip(&ns[2..]) {
                let (picks, routes_and_picks) = (ns_each / ns[0], ns_each / ns[1]);
                print!("  {peer} {ns_each:.1} ({picks:.2}, {routes_and_picks:.2})");
            }
            println!();
        }
    }
    routing::report();
}
