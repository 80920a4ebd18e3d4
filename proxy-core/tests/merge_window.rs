//! When workers hear of changes of health and weight (Envoy's `update_merge_window`).

mod support;

use proxy_core::xds::*;
use support::*;

/// Endpoints with their priority and health.
fn delta(hosts: &[(u8, u32, EndpointHealth)]) -> XdsDelta {
    let localities = hosts
        .iter()
        .map(|&(n, priority, health)| LocalityEndpoints {
            locality: "".into(),
            priority,
            weight: 1,
            endpoints: vec![Endpoint {
                health,
                ..Endpoint::new(address(n))
            }],
        });
    let assignment = LoadAssignment::new("c".into(), localities.collect());
    XdsDelta::Endpoints {
        upsert: vec![assignment.into()],
    }
}

use EndpointHealth::{Healthy as UP, Unhealthy as DOWN};

/// Requests every 10 ms; the time of the last one to each of the hosts, rounded up.
fn last_sent(mut w: World, hosts: &[u8]) -> Vec<u64> {
    for n in 0..500 {
        w.get(n * 10 + 5, "/");
    }
    w.run(10_000);
    let last = |host: &u8| {
        w.sent_to(*host)
            .last()
            .map_or(0, |at| at.next_multiple_of(100))
    };
    hosts.iter().map(last).collect()
}

fn three(change: impl Fn(&mut Cluster)) -> World {
    let mut cluster = cluster();
    change(&mut cluster);
    World::of(cluster, 4, to_c())
}

/// A change is delivered at once after a second of quiet; one sooner than that waits a full second.
/// Hosts that come or go are not waited with, take along what waits, and start the window anew.
#[test]
fn discovery_of_health() {
    let of = |states: [EndpointHealth; 4]| {
        let hosts: Vec<_> = (1..)
            .zip(states)
            .map(|(n, health)| (n, 0, health))
            .collect();
        delta(&hosts)
    };
    let mut w = three(|_| ());
    w.xds_at(1000, of([DOWN, UP, UP, UP]));
    w.xds_at(1300, of([DOWN, DOWN, UP, UP]));
    w.xds_at(1700, of([DOWN, DOWN, DOWN, UP]));
    assert_eq!(last_sent(w, &[1, 2, 3, 4]), [1000, 2300, 2300, 5000]);

    let mut w = three(|_| ());
    w.xds_at(1000, of([DOWN, UP, UP, UP]));
    w.xds_at(1700, of([DOWN, DOWN, UP, UP]));
    // A second after the first and with a timer running: at once, for both.
    w.xds_at(2100, of([DOWN, DOWN, DOWN, UP]));
    assert_eq!(last_sent(w, &[1, 2, 3, 4]), [1000, 2100, 2100, 5000]);

    let mut w = three(|_| ());
    w.xds_at(1000, of([DOWN, UP, UP, UP]));
    w.xds_at(1300, of([DOWN, DOWN, UP, UP]));
    w.xds_at(
        1500,
        delta(&[
            (1, 0, DOWN),
            (2, 0, DOWN),
            (3, 0, UP),
            (4, 0, UP),
            (5, 0, UP),
        ]),
    );
    w.xds_at(
        1900,
        delta(&[
            (1, 0, DOWN),
            (2, 0, DOWN),
            (3, 0, DOWN),
            (4, 0, UP),
            (5, 0, UP),
        ]),
    );
    assert_eq!(last_sent(w, &[1, 2, 3, 4]), [1000, 1500, 2900, 5000]);

    let mut w = three(|c| c.update_merge_window = ms(0));
    w.xds_at(1000, of([DOWN, UP, UP, UP]));
    w.xds_at(1300, of([DOWN, DOWN, UP, UP]));
    assert_eq!(last_sent(w, &[1, 2, 3, 4]), [1000, 1300, 5000, 5000]);
}

/// The first assignment starts no window, and one that changes nothing neither.
#[test]
fn a_window_starts_with_a_change() {
    let mut w = three(|_| ());
    let all = [(1, 0, UP), (2, 0, UP), (3, 0, UP), (4, 0, UP)];
    let mut one = all;
    one[0].2 = DOWN;
    w.xds_at(100, delta(&all));
    w.xds_at(200, delta(&one));
    assert_eq!(last_sent(w, &[1]), [200]);
}

/// Discovery touches the windows of the priorities it changes; all others stay as delivered.
#[test]
fn each_priority_has_its_own_window() {
    let world = || {
        let mut w = World::with_routes(vec![route("/", RouteAction::Forward(to_c()))]);
        w.cluster(cluster(), vec![(1, 0), (2, 0), (3, 1), (4, 1)]);
        w
    };
    // Half of the first priority is gone: 30 % go to the second.
    let mut w = world();
    w.xds_at(
        1000,
        delta(&[(1, 0, DOWN), (2, 0, UP), (3, 1, UP), (4, 1, UP)]),
    );
    w.xds_at(
        1300,
        delta(&[(1, 0, DOWN), (2, 0, UP), (3, 1, DOWN), (4, 1, UP)]),
    );
    w.xds_at(
        1400,
        delta(&[(1, 0, DOWN), (2, 0, DOWN), (3, 1, DOWN), (4, 1, UP)]),
    );
    let last = last_sent(w, &[1, 2, 3, 4]);
    assert_eq!((last[0], last[1], last[3]), (1000, 2400, 5000));
    assert!((1200..=1300).contains(&last[2]), "{last:?}");
}

fn ejecting(hosts: u8) -> World {
    let config = OutlierDetection {
        max_ejection_percent: 100,
        consecutive_5xx: 1,
        interval: ms(100_000),
        ..OutlierDetection::default()
    };
    let cluster = Cluster {
        outlier_detection: Some(config),
        ..cluster()
    };
    World::of(cluster, hosts, to_c())
}

/// Measured on Envoy: ejections at 0 and 0.3 s leave the second host in until 1.3 s, at 0 and 0.7 s
/// until 1.7 s. So does one in another priority: a change of any host's health updates them all.
#[test]
fn a_second_ejection_inside_a_second_acts_late() {
    for (second, until) in [(1300, 2300), (1700, 2700), (2100, 2100)] {
        let mut w = ejecting(3);
        w.behave_at(990, 1, Behaviour::Status(500, 0));
        w.behave_at(second - 10, 2, Behaviour::Status(500, 0));
        let last = last_sent(w, &[1, 2, 3]);
        let near = |at: u64, want: u64| (want..=want + 100).contains(&at);
        assert!(
            near(last[0], 1000) && near(last[1], until),
            "{second}: {last:?}"
        );
    }
}

/// Connections of an ejected host are drained at once, even while it is still in rotation.
#[test]
fn ejection_drains_connections() {
    let mut w = ejecting(2);
    w.get(100, "/");
    w.get(110, "/");
    w.behave_at(150, 1, Behaviour::Status(500, 1));
    w.behave_at(150, 2, Behaviour::Status(500, 1));
    w.get(200, "/");
    w.get(210, "/");
    // Within a second of the first ejection: the worker hears of the second at 1.211 s.
    let still = w.get(500, "/");
    let gone = w.get(1300, "/");
    w.run(2_000);
    assert_eq!(w.short(still), (500, "-".into()));
    assert_eq!(w.short(gone), (503, "UH".into()));
    assert_eq!(w.connects(), 3, "the connections of both were closed");
}

/// Measured on Envoy: slow start asks a host's flags, which do not wait. A host that is ejected while it
/// warms up has its whole weight until the workers hear of it, or of its return.
#[test]
fn slow_start_does_not_wait() {
    let world = |base_ejection_time| {
        let cluster = Cluster {
            slow_start: Some(SlowStart {
                window: ms(600_000),
                aggression: 1.0,
                min_weight_percent: 10.0,
            }),
            outlier_detection: Some(OutlierDetection {
                max_ejection_percent: 100,
                consecutive_5xx: 1,
                interval: ms(100),
                base_ejection_time,
                max_ejection_time: base_ejection_time,
                ..OutlierDetection::default()
            }),
            ..cluster()
        };
        let mut w = World::of(cluster, 4, to_c());
        w.behave_at(990, 1, Behaviour::Status(500, 0));
        w.behave_at(1_100, 1, Behaviour::Status(200, 0));
        w.behave_at(1_190, 2, Behaviour::Status(500, 0));
        w.behave_at(1_300, 2, Behaviour::Status(200, 0));
        w
    };
    let shares = |mut w: World| {
        for n in 0..800 {
            w.get(n * 5, "/");
        }
        w.run(5_000);
        let sent = w.sent_to(2);
        let share = |from: u64, to: u64| {
            let count = sent.iter().filter(|at| (from..to).contains(*at)).count();
            count * 100 / ((to - from) as usize / 5)
        };
        (share(1_300, 2_000), share(2_300, 4_000))
    };
    // 1 of 1.2, then nothing.
    let (meanwhile, after) = shares(world(ms(100_000)));
    assert!(
        (80..=86).contains(&meanwhile) && after == 0,
        "{meanwhile} {after}"
    );
    // Back by then: a quarter, as all warm up.
    let (_, after) = shares(world(ms(300)));
    assert!((23..=27).contains(&after), "{after}");
}
