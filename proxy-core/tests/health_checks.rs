//! Active health checks through the contract: when they are made, what they do to hosts, and what
//! keeps a host that discovery has dropped.

mod support;

use proxy_core::contract::*;
use proxy_core::xds::*;
use support::*;

/// Every second once there is traffic, every minute before; three failures, two passes.
fn check() -> HealthCheck {
    HealthCheck {
        probe: Probe::Http {
            host: "c".into(),
            path: "/healthz".into(),
            expected_statuses: vec![],
            retriable_statuses: vec![(500, 501)],
        },
        timeout: ms(500),
        interval: ms(1000),
        unhealthy_interval: None,
        unhealthy_edge_interval: None,
        healthy_edge_interval: None,
        no_traffic_interval: ms(60_000),
        no_traffic_healthy_interval: None,
        initial_jitter: ms(0),
        interval_jitter: ms(0),
        interval_jitter_percent: 0,
        unhealthy_threshold: 3,
        healthy_threshold: 2,
    }
}

fn every_second() -> HealthCheck {
    HealthCheck {
        no_traffic_interval: ms(1000),
        ..check()
    }
}

fn checked(checks: Vec<HealthCheck>) -> Cluster {
    Cluster {
        health_checks: checks,
        update_merge_window: ms(0),
        ..cluster()
    }
}

const UP: Option<ProbeOutcome> = Some(ProbeOutcome::Status(200));
const UNFIT: Option<ProbeOutcome> = Some(ProbeOutcome::Status(503));
const RETRIABLE: Option<ProbeOutcome> = Some(ProbeOutcome::Status(500));
const BROKEN: Option<ProbeOutcome> = Some(ProbeOutcome::Failed);
const SILENT: Option<ProbeOutcome> = None;

/// When hosts turned, in ms: host 1 only.
fn turns(w: &World) -> Vec<(u64, bool)> {
    let found = w.changes.iter().filter_map(|(at, change)| match change {
        StateChange::HealthChecked {
            address: of,
            healthy,
            ..
        } if *of == address(1) => Some((at.as_millis(), *healthy)),
        _ => None,
    });
    found.collect()
}

fn warmed(w: &World) -> Option<u64> {
    let warmed = |c: &&(_, StateChange)| matches!(c.1, StateChange::Warmed { .. });
    w.changes
        .iter()
        .find(warmed)
        .map(|change| change.0.as_millis())
}

#[test]
fn a_cluster_warms_until_its_hosts_were_checked() {
    for (second, at) in [(UP, 1), (UNFIT, 1), (SILENT, 500)] {
        let mut w = World::of(checked(vec![check()]), 2, to_c());
        w.probes_find(2, second);
        let before = w.get(0, "/");
        let after = w.get(501, "/");
        w.run(1000);
        assert_eq!(warmed(&w), Some(at));
        assert_eq!(w.short(before), (503, "NC".into()));
        assert_eq!(w.short(after), (200, "-".into()));
    }
    // Without hosts there is nothing to wait for.
    let mut w = World::of(checked(vec![check()]), 0, to_c());
    let empty = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.short(empty), (503, "UH".into()));
}

/// A changed cluster takes over only when its own checks are done; until then the old one serves.
#[test]
fn the_old_version_serves_while_the_new_one_warms() {
    let mut w = World::of(cluster(), 1, to_c());
    w.probes_find(1, SILENT);
    let changed = XdsDelta::Clusters {
        upsert: vec![checked(vec![check()]).into()],
        remove: vec![],
    };
    w.xds_at(100, changed);
    let before = w.get(599, "/");
    let after = w.get(601, "/");
    w.run(1000);
    assert_eq!(w.short(before), (200, "-".into()));
    assert_eq!(w.short(after), (503, "UH".into()));
}

/// Whether a host turns, and after how many results: the first result decides at once if it is good.
#[test]
fn thresholds() {
    type Finding = (u64, Option<ProbeOutcome>);
    // Checks at 0, 1001, 2002, ...: each a second after the result of the one before.
    type Case = (&'static str, &'static [Finding], &'static [(u64, bool)]);
    let cases: [Case; 7] = [
        ("first pass", &[], &[(1, true)]),
        (
            "unfit at once",
            &[(500, UNFIT)],
            &[(1, true), (1002, false)],
        ),
        (
            "three broken",
            &[(500, BROKEN)],
            &[(1, true), (3004, false)],
        ),
        (
            "three retriable",
            &[(500, RETRIABLE)],
            &[(1, true), (3004, false)],
        ),
        (
            "three silent",
            &[(500, SILENT)],
            &[(1, true), (4501, false)],
        ),
        (
            "two are not three",
            &[(500, BROKEN), (2500, UP)],
            &[(1, true)],
        ),
        (
            "two passes to come back",
            &[(500, UNFIT), (1500, UP)],
            &[(1, true), (1002, false), (3004, true)],
        ),
    ];
    for (what, findings, want) in cases {
        let mut w = World::of(checked(vec![every_second()]), 1, to_c());
        for &(at, outcome) in findings {
            w.probes_find_at(at, 1, outcome);
        }
        w.run(5500);
        assert_eq!(turns(&w), want, "{what}");
    }
}

#[test]
fn expected_statuses_and_tcp() {
    let http = |expected: Vec<(u16, u16)>| Probe::Http {
        host: "c".into(),
        path: "/".into(),
        expected_statuses: expected,
        retriable_statuses: vec![],
    };
    let status = |status| Some(ProbeOutcome::Status(status));
    for (probe, outcome, healthy) in [
        (http(vec![]), status(200), true),
        (http(vec![]), status(204), false),
        (http(vec![(200, 205)]), status(204), true),
        (http(vec![(200, 205)]), status(205), false),
        (http(vec![(300, 301)]), status(200), false),
        (Probe::Tcp, Some(ProbeOutcome::Connected), true),
        (Probe::Tcp, BROKEN, false),
    ] {
        let checks = vec![HealthCheck { probe, ..check() }];
        let mut w = World::of(checked(checks), 1, to_c());
        w.probes_find(1, outcome);
        let r = w.get(100, "/");
        w.run(200);
        assert_eq!(w.outcome(r).0 == 200, healthy, "{outcome:?}");
    }
}

/// All checks of a host have to agree.
#[test]
fn several_checks() {
    let tcp = HealthCheck {
        probe: Probe::Tcp,
        ..check()
    };
    // A status is enough for both; a mere connection is not.
    for (outcome, healthy) in [(UP, true), (Some(ProbeOutcome::Connected), false)] {
        let mut w = World::of(checked(vec![check(), tcp.clone()]), 1, to_c());
        w.probes_find(1, outcome);
        let r = w.get(100, "/");
        w.run(200);
        assert_eq!(w.outcome(r).0 == 200, healthy);
    }
}

/// The time from a result to the next check.
#[test]
fn intervals() {
    let checks = vec![HealthCheck {
        unhealthy_interval: Some(ms(2000)),
        unhealthy_edge_interval: Some(ms(300)),
        healthy_edge_interval: Some(ms(400)),
        no_traffic_interval: ms(5000),
        no_traffic_healthy_interval: Some(ms(7000)),
        ..check()
    }];
    let mut w = World::of(checked(checks), 1, to_c());
    w.get(6000, "/"); // traffic
    w.probes_find_at(7500, 1, BROKEN);
    w.probes_find_at(10_500, 1, UP);
    w.run(15_000);
    let gaps: Vec<u64> = w
        .checked(1)
        .windows(2)
        .map(|at| at[1] - at[0] - 1)
        .collect();
    assert_eq!(
        gaps,
        [
            7000, // healthy, no traffic
            1000, // healthy
            300, 300,  // two of three failures
            2000, // unhealthy
            400,  // one of two passes
            1000, 1000, 1000
        ]
    );
}

#[test]
fn jitter_stays_in_bounds() {
    let checks = vec![HealthCheck {
        initial_jitter: ms(900),
        interval_jitter: ms(50),
        interval_jitter_percent: 10,
        no_traffic_interval: ms(1000),
        ..check()
    }];
    let mut w = World::of(checked(checks), 20, to_c());
    w.run(60_000);
    let mut gaps: Vec<u64> = Vec::new();
    let mut starts: Vec<u64> = Vec::new();
    for host in 1..=20 {
        let at = w.checked(host);
        starts.push(at[0]);
        gaps.extend(at.windows(2).map(|at| at[1] - at[0] - 1));
    }
    assert!(starts.iter().all(|&at| at < 900) && starts.iter().any(|&at| at > 500));
    assert!(gaps.iter().all(|gap| (1000..1149).contains(gap)));
    assert!(gaps.iter().any(|&gap| gap < 1030) && gaps.iter().any(|&gap| gap > 1110));
}

fn endpoints(hosts: Vec<(u8, u32)>) -> XdsDelta {
    XdsDelta::Endpoints {
        upsert: vec![assignment("c", hosts).into()],
    }
}

/// What discovery drops stays while its checks pass, unless the cluster says otherwise.
#[test]
fn passing_checks_keep_a_host() {
    for (ignore, finding, last) in [(false, UP, 4900), (true, UP, 900), (false, UNFIT, 1500)] {
        let mut cluster = checked(vec![every_second()]);
        cluster.ignore_health_on_host_removal = ignore;
        let mut w = World::of(cluster, 2, to_c());
        w.xds_at(1000, endpoints(vec![(2, 0)]));
        w.probes_find_at(1500, 1, finding);
        for n in 0..49 {
            w.get(n * 100 + 100, "/");
        }
        w.run(5000);
        let at = w.sent_to(1).last().copied().unwrap_or(0);
        assert!(
            (last - 100..last + 600).contains(&at),
            "{ignore} {finding:?}: {at}"
        );
        // Gone for good, it is not checked any more.
        let checks = w.checked(1).last().copied().unwrap_or(0);
        assert_eq!(checks > 3000, last == 4900, "{checks}");
    }
}

#[test]
fn a_passing_check_ends_an_ejection() {
    for (enabled, back) in [(true, Some(1002)), (false, None)] {
        let config = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            successful_active_health_check_uneject_host: enabled,
            ..OutlierDetection::default()
        };
        let mut w = World::of(
            Cluster {
                outlier_detection: Some(config),
                ..checked(vec![every_second()])
            },
            1,
            to_c(),
        );
        w.behave(1, Behaviour::Status(500, 1));
        w.get(100, "/");
        w.run(5_000);
        let unejected = w.ejections().into_iter().find(|e| e.2.is_none());
        assert_eq!(unejected.map(|e| e.0), back);
    }
}

/// A failing host's connections take no further requests; those in progress finish, whatever
/// `close_connections_on_host_health_failure` says, which Envoy heeds for TCP alone.
#[test]
fn a_failing_check_drains_connections() {
    for closes in [false, true] {
        let mut cluster = checked(vec![every_second()]);
        cluster.close_connections_on_host_health_failure = closes;
        let mut w = World::of(cluster, 1, to_c());
        w.get(100, "/");
        w.get(100, "/");
        w.behave_at(200, 1, Behaviour::Status(200, 3000));
        let slow = w.get(300, "/");
        w.probes_find_at(400, 1, UNFIT);
        w.run(10_000);
        assert_eq!(
            w.outcome(slow),
            (200, "-".into(), "via_upstream".into(), 3300)
        );
        assert_eq!(w.opened_and_closed(), (vec![100, 100], vec![1002, 3300]));
    }
}

/// Hosts that no check has judged yet count neither way where the cluster says so: without it, a new
/// host in the first priority sends a part of the load to the second.
#[test]
fn new_hosts_may_be_left_out_of_the_percentages() {
    for (ignore, spills) in [(false, true), (true, false)] {
        let mut cluster = checked(vec![check()]);
        cluster.ignore_new_hosts_until_first_health_check = ignore;
        let mut w = World::with_routes(vec![route("/", RouteAction::Forward(to_c()))]);
        w.cluster(cluster, vec![(1, 0), (9, 1)]);
        w.probes_find(2, SILENT);
        w.xds_at(100, endpoints(vec![(1, 0), (2, 0), (9, 1)]));
        for n in 0..90 {
            w.get(110 + n * 4, "/");
        }
        w.run(1000);
        assert_eq!(w.sent_to(2).len(), 0);
        assert_eq!(!w.sent_to(9).is_empty(), spills);
    }
}
