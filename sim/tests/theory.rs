//! Queueing theory through ordinary scenario files. Each case runs under several seeds; their means
//! give a 95 % interval, whose half-width must be at most 1 % of the theory's value (0.5 % with
//! `MESHSIM_SLOW=1`, which adds utilisation 0.95 and 10,000 servers). The mean must lie within 1.5
//! half-widths of the theory, which a right simulator misses once in a hundred cases.
#![allow(clippy::unwrap_used)]

mod support;

use sim::{Plan, run_seeds};

const SEEDS: u64 = 16;
/// Student's t for 15 degrees of freedom, 97.5 %.
const T_15: f64 = 2.131;

fn slow() -> bool {
    std::env::var_os("MESHSIM_SLOW").is_some()
}

fn plan(file: &str, sets: &[(&str, String)]) -> Plan {
    let folder = support::root().join("sim/tests/theory");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    support::plan_of(file, &text, &folder, sets)
}

/// Mean and 95 % half-width of the mean time in the system, in milliseconds.
fn mean_time(plan: &Plan) -> (f64, f64) {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    let outcomes = run_seeds(plan, &seeds, 2, &|_| {});
    let of = |o: &sim::Outcome| o.record.traffic["load"].latency_ms.mean.unwrap();
    let means: Vec<f64> = outcomes.iter().map(of).collect();
    let mean = means.iter().sum::<f64>() / SEEDS as f64;
    let variance = means.iter().map(|m| (m - mean) * (m - mean)).sum::<f64>() / (SEEDS - 1) as f64;
    (mean, T_15 * (variance / SEEDS as f64).sqrt())
}

/// Runs `file` long enough for `requests` in all and compares with `theory_ms`.
fn check(
    what: &str,
    file: &str,
    rate_per_s: f64,
    requests: f64,
    sets: &[(&str, String)],
    theory_ms: f64,
) -> (f64, f64) {
    let requests = if slow() { 5.0 * requests } else { requests };
    let mut sets = sets.to_vec();
    sets.push(("traffic.load.rate", format!("{rate_per_s}/s")));
    let warmup_s = plan(file, &sets).warmup.as_secs_f64();
    let seconds = warmup_s + requests / SEEDS as f64 / rate_per_s;
    sets.push(("duration", format!("{seconds:.3}s")));
    let (mean, half) = mean_time(&plan(file, &sets));
    let limit = if slow() { 0.005 } else { 0.01 };
    println!(
        "{what}: theory {theory_ms:.4}, measured {mean:.4} ± {half:.4} ({:.2} %)",
        100.0 * half / theory_ms
    );
    assert!(
        half <= limit * theory_ms,
        "{what}: half-width {half} is too wide"
    );
    assert!(
        (mean - theory_ms).abs() <= 1.5 * half.max(1e-9),
        "{what}: {mean} ± {half}, theory {theory_ms}"
    );
    (mean, half)
}

#[test]
fn mm1_takes_one_over_one_minus_utilisation() {
    for (rho, requests) in [(0.5, 0.8e6), (0.8, 5.0e6), (0.9, 16.0e6)] {
        check(
            &format!("M/M/1 at {rho}"),
            "station.yaml",
            1000.0 * rho,
            requests,
            &[],
            1.0 / (1.0 - rho),
        );
    }
    if slow() {
        check("M/M/1 at 0.95", "station.yaml", 950.0, 45.0e6, &[], 20.0);
    }
}

/// Erlang's C formula: the probability of waiting with `servers` at utilisation `rho`.
fn erlang_c(servers: u32, rho: f64) -> f64 {
    let load = rho * f64::from(servers);
    let blocked = (1..=servers).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    blocked / (1.0 - rho * (1.0 - blocked))
}

#[test]
fn mm4_follows_erlang_c() {
    assert!(
        (erlang_c(10, 0.9) - 0.6687).abs() < 5e-5,
        "the tabulated value"
    );
    for (rho, requests) in [(0.5, 0.4e6), (0.8, 3.0e6), (0.9, 12.0e6)] {
        let theory = 1.0 + erlang_c(4, rho) / (4.0 * (1.0 - rho));
        let sets = [("behavior.queue.workers", "4".to_owned())];
        check(
            &format!("M/M/4 at {rho}"),
            "station.yaml",
            4000.0 * rho,
            requests,
            &sets,
            theory,
        );
    }
}

/// Whatever the distribution: here far from exponential, with a squared coefficient of variation
/// of 4 (first come first served would take 11 at 0.8).
#[test]
fn processor_sharing_depends_on_the_mean_only() {
    for (rho, requests) in [(0.5, 2.0e6), (0.8, 14.0e6)] {
        let sets = [
            ("behavior.queue.discipline", "processor-sharing".to_owned()),
            (
                "behavior.queue.service_time",
                "{mean: 1ms, scv: 4}".to_owned(),
            ),
        ];
        check(
            &format!("M/G/1-PS at {rho}"),
            "station.yaml",
            1000.0 * rho,
            requests,
            &sets,
            1.0 / (1.0 - rho),
        );
    }
}

/// First come first served does depend on the distribution (Pollaczek and Khinchine).
#[test]
fn mg1_follows_pollaczek_khinchine() {
    let sets = [("behavior.queue.service_time", "1ms".to_owned())];
    check("M/D/1 at 0.8", "station.yaml", 800.0, 3.0e6, &sets, 3.0);
}

/// Two choices among ten servers, drawn with replacement as Envoy draws them: 3.114. Distinct
/// choices would give 2.982, which must not pass.
#[test]
fn two_choices_among_ten_are_drawn_with_replacement() {
    let (mean, half) = check(
        "two of 10 at 0.9",
        "balanced.yaml",
        9000.0,
        4.0e6,
        &[],
        3.114,
    );
    assert!(
        (mean - 2.982).abs() > 1.5 * half,
        "distinct choices would fit as well"
    );
}

/// Mitzenmacher's fixed point for two choices: the sum of utilisation^(2^i - 2).
fn fixed_point(rho: f64) -> f64 {
    (1..20)
        .map(|i| libm::pow(rho, libm::pow(2.0, f64::from(i)) - 2.0))
        .sum()
}

#[test]
fn two_choices_among_many_reach_the_fixed_point() {
    assert!(
        (fixed_point(0.9) - 2.6141).abs() < 1e-4,
        "the published limit"
    );
    // Simulations of 100 servers lie above the limit by 1.48 % at 0.9 and by 2.69 % at 0.95, and the
    // difference goes with one over their number.
    let many = |servers: u32, rho: f64, requests: f64, excess_at_100: f64| {
        let sets = [
            ("topology.services.queue.replicas", servers.to_string()),
            ("warmup", "0.3s".to_owned()),
        ];
        let rate = 1000.0 * f64::from(servers) * rho;
        let excess = excess_at_100 * 100.0 / f64::from(servers);
        check(
            &format!("two of {servers} at {rho}"),
            "balanced.yaml",
            rate,
            requests,
            &sets,
            fixed_point(rho) * (1.0 + excess),
        );
    };
    many(1_000, 0.9, 3.0e6, 0.0148);
    if slow() {
        many(10_000, 0.9, 10.0e6, 0.0148);
        many(10_000, 0.95, 10.0e6, 0.0269);
    }
}

/// One worker's round robin serves its endpoints in turn, whatever the load.
#[test]
fn round_robin_of_one_worker_is_exact() {
    let sets = [
        (
            "config.2.spec.trafficPolicy.loadBalancer.simple",
            "ROUND_ROBIN".to_owned(),
        ),
        ("duration", "5s".to_owned()),
        ("warmup", "0s".to_owned()),
    ];
    let outcome = &run_seeds(&plan("balanced.yaml", &sets), &[1], 1, &|_| {})[0];
    let served = &outcome.record.workloads["queue.default"].endpoints;
    assert_eq!(served.len(), 10);
    let requests: Vec<u64> = served.values().map(|endpoint| endpoint.requests).collect();
    let (least, most) = (
        requests.iter().min().unwrap(),
        requests.iter().max().unwrap(),
    );
    assert!(most - least <= 1, "{requests:?}");
    assert!(*least > 4_000);
}
