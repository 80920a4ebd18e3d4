//! Outlier detectors that look at whole intervals, fed by what workers count.

mod support;

use proxy_core::contract::*;
use proxy_core::xds::*;
use support::*;

fn detecting(change: impl Fn(&mut OutlierDetection)) -> Cluster {
    let mut config = OutlierDetection {
        max_ejection_percent: 100,
        consecutive_5xx: u32::MAX,
        consecutive_gateway_failure: u32::MAX,
        consecutive_local_origin_failure: u32::MAX,
        ..OutlierDetection::default()
    };
    change(&mut config);
    Cluster {
        outlier_detection: Some(config),
        ..cluster()
    }
}

/// Five hosts in turn, 120 requests each in the first interval; what the first one does.
fn run(cluster: Cluster, first: Behaviour) -> World {
    let mut w = World::of(cluster, 5, to_c());
    w.behave(1, first);
    for n in 0..600 {
        w.get(n * 15, "/");
    }
    w.run(25_000);
    w
}

const BAD: Behaviour = Behaviour::Status(503, 1);
const DEAD: Behaviour = Behaviour::Refuse(1);

#[test]
fn who_is_ejected_by_what_the_workers_counted() {
    use EjectionReason::*;
    type Change = fn(&mut OutlierDetection);
    let cases: [(&str, Change, Behaviour, Option<EjectionReason>); 9] = [
        (
            "success rate",
            |c| c.success_rate.enforcing = 100,
            BAD,
            Some(SuccessRate),
        ),
        ("not enforced", |_| (), BAD, None),
        (
            "a good host",
            |c| c.success_rate.enforcing = 100,
            Behaviour::Status(200, 1),
            None,
        ),
        (
            "too few requests",
            |c| {
                c.success_rate.enforcing = 100;
                c.success_rate.request_volume = 121;
            },
            BAD,
            None,
        ),
        (
            "failure percentage",
            |c| c.failure_percentage.enforcing = 100,
            BAD,
            Some(FailurePercentage),
        ),
        (
            "connect failures count",
            |c| c.failure_percentage.enforcing = 100,
            DEAD,
            Some(FailurePercentage),
        ),
        (
            "split: local origin success rate",
            |c| c.split_external_local_origin_errors = true,
            DEAD,
            Some(LocalOriginSuccessRate),
        ),
        (
            "split: local origin failure percentage",
            |c| {
                c.split_external_local_origin_errors = true;
                c.enforcing_local_origin_success_rate = 0;
                c.enforcing_failure_percentage_local_origin = 100;
            },
            DEAD,
            Some(LocalOriginFailurePercentage),
        ),
        (
            "split: answers are not of local origin",
            |c| c.split_external_local_origin_errors = true,
            BAD,
            None,
        ),
    ];
    for (what, change, first, want) in cases {
        let w = run(detecting(change), first);
        let want: Vec<_> = want
            .iter()
            .map(|&reason| (10_000, 1, Some(reason)))
            .collect();
        assert_eq!(w.ejections(), want, "{what}");
    }
}

/// What was counted in one interval is forgotten in the next.
#[test]
fn counts_are_of_one_interval() {
    let mut w = World::of(
        detecting(|c| c.failure_percentage.enforcing = 100),
        5,
        to_c(),
    );
    w.behave(1, BAD);
    // 30 requests to each host in each interval: never 50.
    for n in 0..600 {
        w.get(n * 66, "/");
    }
    w.run(45_000);
    assert_eq!(w.ejections(), []);
}

/// Nobody is asked for counts that decide nothing.
#[test]
fn nothing_is_counted_for_nothing() {
    let w = run(detecting(|_| ()), BAD);
    assert_eq!(w.ejections(), []);
    let worker = format!("{:?}", w.proxy.worker(0));
    assert!(worker.contains("total: 0") && !worker.contains("total: 1"));
}
