//! Detectors without a proxy around them.

use super::*;

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

fn detector(hosts: u16, config: OutlierDetection) -> Detector {
    let mut detector = Detector::new(ClusterId(0), "c", config, Nanos::ZERO);
    for n in 0..hosts {
        detector.add(address(n));
    }
    detector
}

fn draws() -> Draws {
    Draws::new(1, "p")
}

fn detect(detector: &mut Detector, at_ms: u64, host: u16) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let reason = EjectionReason::Consecutive5xx;
    let now = Nanos::from_millis(at_ms);
    detector.detected(now, address(host), reason, &draws(), &mut verdicts);
    verdicts
}

/// A sweep with what one worker counted: succeeded and total, by host.
fn sweep(detector: &mut Detector, at_ms: u64, counted: &[(u64, u64)]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let now = Nanos::from_millis(at_ms);
    detector.begin_sweep(now, &mut verdicts);
    let hosts = (0..)
        .zip(counted)
        .map(|(n, &(succeeded, total))| HostStatistics {
            address: address(n),
            external: Successes { succeeded, total },
            local_origin: Successes::default(),
        });
    detector.counted(&hosts.collect::<Vec<_>>());
    detector.end_sweep(now, &draws(), &mut verdicts);
    verdicts
}

fn ejected(verdicts: &Verdicts) -> Vec<u16> {
    let out = verdicts
        .hosts
        .iter()
        .filter(|host| host.1 == Standing::Ejected);
    out.map(|host| host.0.port()).collect()
}

/// K7: mean 90, deviation 20, threshold 52.
#[test]
fn success_rate_threshold() {
    let rates = [50.0, 100.0, 100.0, 100.0, 100.0].map(|rate| (address(0), rate));
    assert_eq!(ejection_threshold(&rates, 1900), 52.0);
    let statistical = |change: fn(&mut OutlierDetection)| {
        let mut config = OutlierDetection {
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        };
        config.success_rate.enforcing = 100;
        change(&mut config);
        config
    };
    let good = (100, 100);
    type Change = fn(&mut OutlierDetection);
    type Case = (&'static str, Change, Vec<(u64, u64)>, &'static [u16]);
    let cases: [Case; 8] = [
        (
            "below",
            |_| (),
            vec![(50, 100), good, good, good, good],
            &[0],
        ),
        (
            "equal is not below",
            |c| c.success_rate.stdev_factor = 2000,
            vec![(50, 100), good, good, good, good],
            &[],
        ),
        ("four hosts", |_| (), vec![(0, 100), good, good, good], &[]),
        (
            "too few requests",
            |_| (),
            vec![(0, 99), good, good, good, good],
            &[],
        ),
        (
            "not enforced",
            |c| c.success_rate.enforcing = 0,
            vec![(50, 100), good, good, good, good],
            &[],
        ),
        (
            "failure percentage",
            |c| {
                c.success_rate.enforcing = 0;
                c.failure_percentage.enforcing = 100;
            },
            vec![(15, 100), (16, 100), good, good, good],
            &[0],
        ),
        (
            "both at once",
            |c| c.failure_percentage.enforcing = 100,
            vec![(0, 100), good, good, good, good],
            &[0, 0],
        ),
        (
            "one host whatever the percentage",
            |c| {
                c.max_ejection_percent = 0;
                c.always_eject_one_host = true;
                c.success_rate.stdev_factor = 500;
            },
            vec![(0, 100), (0, 100), good, good, good],
            &[0],
        ),
    ];
    for (what, change, counted, want) in cases {
        let mut all = detector(counted.len() as u16, statistical(change));
        assert_eq!(ejected(&sweep(&mut all, 10_000, &counted)), want, "{what}");
    }
}

/// Ejected by both statistical detectors in one sweep, a host counts twice, comes back once, and
/// is out for two base times; what it counted too much eats into the maximum percentage.
#[test]
fn twice_ejected_comes_back_once() {
    let mut config = OutlierDetection {
        max_ejection_percent: 40,
        base_ejection_time: Nanos::from_secs(10),
        ..OutlierDetection::default()
    };
    config.success_rate.enforcing = 100;
    config.failure_percentage.enforcing = 100;
    let mut five = detector(5, config);
    let good = (100, 100);
    let counted = [(0, 100), good, good, good, good];
    assert_eq!(ejected(&sweep(&mut five, 10_000, &counted)), [0, 0]);
    assert_eq!(sweep(&mut five, 20_000, &[]).hosts, []);
    let back = sweep(&mut five, 30_000, &[]);
    assert_eq!(back.hosts, [(address(0), Standing::Unejected)]);
    assert_eq!(ejected(&detect(&mut five, 31_000, 1)), [1]);
    let refused = detect(&mut five, 31_000, 2).changes;
    assert!(matches!(
        refused[..],
        [StateChange::EjectionOverflow { .. }]
    ));
}

#[test]
fn never_more_than_the_maximum_percentage() {
    // The default 10 % never ejects one of fewer than ten.
    for (hosts, percent, want) in [(9, 10, 0), (10, 10, 1), (3, 67, 2), (3, 66, 1), (2, 200, 2)] {
        let config = OutlierDetection {
            max_ejection_percent: percent,
            ..OutlierDetection::default()
        };
        let mut all = detector(hosts, config);
        let out: usize = (0..hosts)
            .map(|n| ejected(&detect(&mut all, 0, n)).len())
            .sum();
        assert_eq!(out, want, "{percent} % of {hosts}");
    }
}

#[test]
fn ejection_lasts_longer_each_time_and_ends_at_a_sweep() {
    let config = OutlierDetection {
        max_ejection_percent: 100,
        base_ejection_time: Nanos::from_secs(1),
        interval: Nanos::from_millis(500),
        ..OutlierDetection::default()
    };
    let mut one = detector(1, config);
    let back_at = |one: &mut Detector, from_ms: u64| {
        (from_ms / 500 + 1..)
            .map(|n| n * 500)
            .find(|&at| !sweep(one, at, &[]).hosts.is_empty())
            .unwrap()
    };
    detect(&mut one, 100, 0);
    assert_eq!(back_at(&mut one, 100), 1500);
    detect(&mut one, 1600, 0);
    assert_eq!(
        back_at(&mut one, 1600),
        4000,
        "two base times, then the sweep"
    );
}

/// As measured on Envoy with a base of 1 s and sweeps every 0.5 s.
#[test]
fn a_degraded_host_recovers_like_an_ejected_one() {
    let config = OutlierDetection {
        base_ejection_time: Nanos::from_secs(1),
        interval: Nanos::from_millis(500),
        detect_degraded_hosts: true,
        ..OutlierDetection::default()
    };
    let mut two = detector(2, config);
    let mut spans = Vec::new();
    let mut degraded_at = None;
    for at in (50..8000).step_by(50) {
        let mut verdicts = Verdicts::default();
        if at % 500 == 0 {
            verdicts = sweep(&mut two, at, &[]);
        }
        // It says so with every answer.
        two.degraded(Nanos::from_millis(at), address(0), &mut verdicts);
        for (_, standing) in verdicts.hosts {
            match standing {
                Standing::Degraded => degraded_at = Some(at),
                Standing::Undegraded => spans.extend(degraded_at.map(|from| (from, at))),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(spans, [(50, 1500), (1500, 3500), (3500, 6500)]);
}

#[test]
fn jitter_lengthens_an_ejection() {
    let config = OutlierDetection {
        max_ejection_percent: 100,
        max_ejection_time_jitter: Nanos::from_secs(20),
        ..OutlierDetection::default()
    };
    let mut all = detector(50, config);
    let mut jitters = Vec::new();
    for n in 0..50 {
        match detect(&mut all, 0, n).changes[..] {
            [StateChange::Ejected { until_at_least, .. }] => {
                jitters.push(until_at_least.as_millis() - 30_000)
            }
            ref other => panic!("{other:?}"),
        }
    }
    assert!(jitters.iter().all(|&jitter| jitter <= 20_000));
    jitters.sort_unstable();
    jitters.dedup();
    assert!(jitters.len() > 40);
}
