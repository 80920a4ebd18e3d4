//! Proxy passes a second through the public run path, beside a bare loop that does the same
//! queueing in the same process: `cargo bench -p sim --bench passes` (and `-- 10000` for one size). Machines differ and are noisy; the ratio of
//! the two is the figure to keep.
//!
//! The scenario: an un-injected client, one gateway, the endpoints; 250 µs of network each way,
//! utilisation 0.7, Poisson arrivals, least request, a 15 s timeout on every request, outlier
//! detection and retries configured; record and digest on, one core.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // A bench measures wall time.

use sim::{Observers, Overrides, Plan, event};
use source::SourceFile;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const REQUESTS: u64 = 3_000_000;
const UTILISATION: f64 = 0.7;

fn main() {
    println!(
        "{:>9} {:>14} {:>14} {:>7}",
        "endpoints", "passes/s", "bare loop/s", "ratio"
    );
    let asked: Vec<u64> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let sizes = if asked.is_empty() {
        vec![10, 10_000]
    } else {
        asked
    };
    for endpoints in sizes {
        let plan = plan(endpoints);
        let mut ratios: Vec<(f64, f64, f64)> = (0..5)
            .map(|round| {
                let bare = rate(|| bare_loop(endpoints, round));
                let full = rate(|| event::run(&plan, 1 + round, Observers::default()).passes);
                (full / bare, full, bare)
            })
            .collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, full, bare) = ratios[ratios.len() / 2];
        println!("{endpoints:>9} {full:>14.0} {bare:>14.0} {ratio:>7.3}");
    }
}

fn rate(run: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    let done = black_box(run());
    done as f64 / start.elapsed().as_secs_f64()
}

#[allow(clippy::expect_used)] // The scenario is a constant of this file.
fn plan(endpoints: u64) -> Plan {
    // 20 simulated seconds; service times make the utilisation.
    let seconds = 20;
    let per_s = REQUESTS / seconds;
    let service_us = UTILISATION * endpoints as f64 / per_s as f64 * 1e6;
    let text = format!(
        r#"
name: passes
duration: {seconds}s
network: {{latency: 250us}}
proxies: {{concurrency: 1}}
topology:
  services:
    gateway: {{port: 80, proxy: gateway}}
    backend: {{port: 8080, proxy: none, replicas: {endpoints}}}
config:
  - apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {{name: gateway, namespace: default}}
    spec:
      selector: {{istio: gateway}}
      servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
  - apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {{name: backend, namespace: default}}
    spec:
      hosts: ["*"]
      gateways: [gateway]
      http:
        - timeout: 15s
          retries: {{attempts: 2, retryOn: "5xx,connect-failure"}}
          route: [{{destination: {{host: backend, port: {{number: 8080}}}}}}]
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {{name: backend, namespace: default}}
    spec:
      host: backend
      trafficPolicy:
        loadBalancer: {{simple: LEAST_REQUEST}}
        outlierDetection: {{consecutive5xxErrors: 5, interval: 10s}}
behavior:
  backend: {{workers: 1, service_time: {{exponential: {service_us:.3}us}}}}
traffic:
  load: {{get: "http://backend.example/", via: gateway, rate: {per_s}/s}}
"#
    );
    let file = SourceFile::new("passes.yaml", &text);
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(&file, Path::new("."), &[], &mut diagnostics);
    let plan = scenario.and_then(|s| Plan::new(&s, Overrides::default(), &mut diagnostics));
    plan.unwrap_or_else(|| {
        eprintln!("{}", source::render(&diagnostics, false));
        std::process::exit(2);
    })
}

/// Poisson arrivals, the shorter of two queues, first come first served, exponential service; two
/// events a request.
fn bare_loop(servers: u64, seed: u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        proxy_core::random::mix(state)
    };
    let unit = |bits: u64| 1.0 - (bits >> 11) as f64 / (1u64 << 53) as f64;
    let gap_ns = 1e9 / (servers as f64 * UTILISATION);
    let mut queues: Vec<VecDeque<u64>> = vec![VecDeque::new(); servers as usize];
    let mut heap = BinaryHeap::new();
    let mut sequence = 0u64;
    let arrival = u32::MAX;
    heap.push(Reverse((0u64, sequence, arrival)));
    let (mut done, mut sojourn) = (0, 0u128);
    while let Some(Reverse((now, _, server))) = heap.pop() {
        let mut schedule = |after_ns: f64, what: u32| {
            sequence += 1;
            heap.push(Reverse((now + after_ns as u64, sequence, what)));
        };
        if server == arrival {
            schedule(-gap_ns * libm::log(unit(draw())), arrival);
            let (a, b) = ((draw() % servers) as usize, (draw() % servers) as usize);
            let shorter = if queues[b].len() < queues[a].len() {
                b
            } else {
                a
            };
            queues[shorter].push_back(now);
            if queues[shorter].len() == 1 {
                schedule(-1e9 * libm::log(unit(draw())), shorter as u32);
            }
            continue;
        }
        let queue = &mut queues[server as usize];
        sojourn += u128::from(now - queue.pop_front().unwrap_or(now));
        done += 1;
        if !queue.is_empty() {
            schedule(-1e9 * libm::log(unit(draw())), server);
        }
        if done == REQUESTS {
            break;
        }
    }
    black_box(sojourn);
    done
}
