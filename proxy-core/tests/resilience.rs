//! Retries, timeouts, pools, circuit breakers, outlier detection and faults through the contract,
//! against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use support::*;

fn with_retry(retry: RetryPolicy) -> Forward {
    Forward {
        retry: Some(retry),
        ..to_c()
    }
}

fn breakers(change: impl Fn(&mut CircuitBreakers)) -> Cluster {
    let mut limits = CircuitBreakers::UNLIMITED;
    change(&mut limits);
    Cluster {
        circuit_breakers: limits,
        ..cluster()
    }
}

const RESET: &str = "upstream connect error or disconnect/reset before headers. ";

/// Every exchange has ended once and gave back what it took.
fn settled(world: &World, exchanges: usize) {
    assert_eq!(world.logs.len(), exchanges);
    assert_eq!(world.slots(), [0; 4]);
}

#[test]
fn a_request_is_answered() {
    let mut w = World::of(cluster(), 1, to_c());
    let r = w.get(10, "/");
    w.run(1000);
    assert_eq!(w.outcome(r), (200, "-".into(), "via_upstream".into(), 11));
    settled(&w, 1);
}

#[test]
fn exhausted_retries_pass_the_response_on() {
    let mut w = World::of(cluster(), 1, with_retry(retries(2, "5xx")));
    w.behave(1, Behaviour::Status(503, 10));
    let r = w.get(0, "/");
    w.run(10_000);
    let (status, flags, details, end) = w.outcome(r);
    assert_eq!((status, &*flags, &*details), (503, "URX", "via_upstream"));
    let sent = w.sent_to(1);
    assert_eq!(sent.len(), 3);
    // Back-offs: whole milliseconds below 25, then below 50.
    assert!(sent[1] - sent[0] - 10 < 25 && sent[2] - sent[1] - 10 < 50);
    assert_eq!(end, sent[2] + 10);
    settled(&w, 1);
}

#[test]
fn what_is_not_listed_is_not_retried() {
    let mut w = World::of(cluster(), 1, with_retry(retries(2, "connect-failure,503")));
    w.behave(1, Behaviour::Status(503, 10));
    let r = w.get(0, "/");
    w.run(10_000);
    assert_eq!(w.short(r), (503, "-".into()));
    assert_eq!(w.sent.len(), 1);
}

/// K11.
#[test]
fn a_retry_holds_its_slot_until_its_outcome() {
    let mut w = World::of(
        breakers(|l| l.max_retries = 1),
        2,
        with_retry(retries(1, "5xx")),
    );
    w.behave(1, Behaviour::Status(503, 300));
    w.behave(2, Behaviour::Status(503, 300));
    let first = w.get(0, "/");
    let second = w.get(120, "/");
    w.run(10_000);
    let (status, flags, _, end) = w.outcome(first);
    assert_eq!((status, &*flags), (503, "URX"));
    assert!((600..625).contains(&end), "{end}");
    assert_eq!(
        w.outcome(second),
        (503, "UO".into(), "via_upstream".into(), 420)
    );
    assert!(
        w.response(second)
            .0
            .headers
            .get("x-envoy-overloaded")
            .is_none()
    );
    settled(&w, 2);
}

#[test]
fn retries_avoid_hosts_already_tried() {
    let mut w = World::of(cluster(), 3, with_retry(retries(2, "connect-failure")));
    w.behave(1, Behaviour::Refuse(1));
    w.behave(2, Behaviour::Refuse(1));
    let all: Vec<u64> = (0..9).map(|n| w.get(n * 500, "/")).collect();
    w.run(10_000);
    for r in all {
        assert_eq!(w.short(r), (200, "-".into()));
        assert_eq!(w.host_of(r), 3);
    }
    settled(&w, 9);
}

#[test]
fn resets_have_their_own_answers() {
    let reset = |b: Behaviour| {
        let mut w = World::of(cluster(), 1, with_retry(retries(0, "")));
        w.behave(1, b);
        let r = w.get(0, "/");
        w.run(60_000);
        settled(&w, 1);
        let (status, flags, details, end) = w.outcome(r);
        (status, flags, details, w.response(r).1, end)
    };
    let want = |status, flag: &str, reason: &str, end| {
        let details = format!(
            "upstream_reset_before_response_started{{{}}}",
            reason.replace(' ', "_")
        );
        let body = format!("{RESET}reset reason: {reason}");
        (status, flag.to_owned(), details, body, end)
    };
    assert_eq!(
        reset(Behaviour::Refuse(2)),
        want(503, "UF", "remote connection failure", 2)
    );
    assert_eq!(
        reset(Behaviour::Blackhole),
        want(503, "UF", "connection timeout", 10_000)
    );
    assert_eq!(
        reset(Behaviour::Hangup(5)),
        want(503, "UC", "connection termination", 5)
    );
    for (reason, status, flag, text) in [
        (ResetReason::RemoteReset, 503, "UR", "remote reset"),
        (
            ResetReason::RefusedStream,
            503,
            "UR",
            "remote refused stream reset",
        ),
        (ResetReason::ProtocolError, 502, "UPE", "protocol error"),
    ] {
        assert_eq!(
            reset(Behaviour::Reset(reason, 5)),
            want(status, flag, text, 5)
        );
    }
}

#[test]
fn a_retried_reset_says_so() {
    let mut w = World::of(cluster(), 1, with_retry(retries(1, "reset")));
    w.behave(1, Behaviour::Hangup(5));
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.short(r), (503, "URX,UC".into()));
    let body = format!("{RESET}retried and the latest reset reason: connection termination");
    assert_eq!(w.response(r).1, body);
}

#[test]
fn per_try_timeouts_are_retried_then_answered() {
    let retry = RetryPolicy {
        per_try_timeout: Some(ms(100)),
        ..retries(1, "5xx")
    };
    let mut w = World::of(cluster(), 2, with_retry(retry));
    w.behave(1, Behaviour::Silent);
    w.behave(2, Behaviour::Silent);
    let r = w.get(0, "/");
    w.run(10_000);
    let (status, flags, details, end) = w.outcome(r);
    assert_eq!(
        (status, &*flags, &*details),
        (504, "URX,UT", "upstream_per_try_timeout")
    );
    assert!((200..225).contains(&end), "{end}");
    assert_eq!(w.response(r).1, "upstream request timeout");
    settled(&w, 1);
}

#[test]
fn a_per_try_timeout_not_below_the_route_timeout_is_ignored() {
    let retry = RetryPolicy {
        per_try_timeout: Some(ms(100)),
        ..retries(3, "5xx")
    };
    let forward = Forward {
        timeout: Some(ms(100)),
        ..with_retry(retry)
    };
    let mut w = World::of(cluster(), 1, forward);
    w.behave(1, Behaviour::Silent);
    let r = w.get(0, "/");
    w.run(10_000);
    assert_eq!(
        w.outcome(r),
        (504, "UT".into(), "response_timeout".into(), 100)
    );
}

/// The per-try timeout starts on a connection; the route timeout covers the wait for one.
#[test]
fn queueing_counts_for_the_route_timeout_only() {
    let retry = RetryPolicy {
        per_try_timeout: Some(ms(150)),
        ..retries(1, "5xx")
    };
    let forward = Forward {
        timeout: Some(ms(250)),
        ..with_retry(retry)
    };
    let mut w = World::of(breakers(|l| l.max_connections = 1), 1, forward);
    w.behave(1, Behaviour::Status(200, 140));
    let all = [w.get(0, "/"), w.get(0, "/")];
    w.run(10_000);
    assert_eq!(w.outcome(all[0]).3, 140);
    // 140 ms in the queue, then 110 of the 140 it needs: the route timeout, not the per-try one.
    assert_eq!(
        w.outcome(all[1]),
        (504, "UT".into(), "response_timeout".into(), 250)
    );
    settled(&w, 2);
}

#[test]
fn route_timeout_covers_back_off() {
    let retry = RetryPolicy {
        back_off_base: ms(100_000),
        back_off_max: ms(100_000),
        ..retries(1, "5xx")
    };
    let forward = Forward {
        timeout: Some(ms(50)),
        ..with_retry(retry)
    };
    let mut w = World::of(cluster(), 1, forward);
    w.behave(1, Behaviour::Status(500, 10));
    let r = w.get(0, "/");
    w.run(200_000);
    assert_eq!(w.outcome(r).0, 504);
    assert_eq!(w.outcome(r).3, 50);
    settled(&w, 1);
}

/// K12.
#[test]
fn idle_connections_are_reused_last_freed_first() {
    let mut w = World::of(cluster(), 1, to_c());
    w.behave(1, Behaviour::Status(200, 30));
    for at in [0, 1, 2] {
        w.get(at, "/");
    }
    for at in [100, 101, 102] {
        w.get(at, "/");
    }
    w.run(1000);
    let conns: Vec<_> = w.sent.iter().map(|sent| sent.2).collect();
    assert_eq!(conns[3..], [conns[2], conns[1], conns[0]]);
    assert_eq!(w.connects(), 3);
}

#[test]
fn idle_connections_close() {
    let mut w = World::of(
        Cluster {
            idle_timeout: Some(ms(1000)),
            ..cluster()
        },
        1,
        to_c(),
    );
    w.get(0, "/");
    w.get(900, "/"); // within the idle time
    w.get(2000, "/"); // after it
    w.run(10_000);
    assert_eq!(w.connects(), 2);
    let closed: Vec<u64> = w
        .actions
        .iter()
        .filter(|a| matches!(a.1, Action::CloseConn { .. }))
        .map(|a| a.0.as_millis())
        .collect();
    assert_eq!(closed, [1901, 3001]);
}

#[test]
fn a_connection_carries_so_many_requests() {
    let mut w = World::of(
        Cluster {
            max_requests_per_connection: 2,
            ..cluster()
        },
        1,
        to_c(),
    );
    for n in 0..5 {
        w.get(n * 100, "/");
    }
    w.run(10_000);
    assert_eq!(w.connects(), 3);
    settled(&w, 5);
}

#[test]
fn pending_overflow() {
    let mut w = World::of(
        breakers(|l| {
            l.max_connections = 1;
            l.max_pending_requests = 1;
        }),
        1,
        with_retry(retries(3, "5xx")),
    );
    w.behave(1, Behaviour::Status(200, 100));
    let all = [w.get(0, "/"), w.get(10, "/"), w.get(20, "/")];
    w.run(10_000);
    assert_eq!(w.outcome(all[0]).3, 100);
    assert_eq!(w.outcome(all[1]).3, 200, "queued behind the first");
    let over = w.outcome(all[2]);
    assert_eq!(
        over,
        (
            503,
            "UO".into(),
            "upstream_reset_before_response_started{overflow}".into(),
            20
        )
    );
    let (head, body) = w.response(all[2]);
    assert_eq!(head.headers.get("x-envoy-overloaded"), Some(&b"true"[..]));
    assert_eq!(body, format!("{RESET}reset reason: overflow"));
    settled(&w, 3);
}

/// The request limit is tested when a connection is at hand, so a queued stream can hit it too.
#[test]
fn request_overflow_at_attach() {
    let mut w = World::of(breakers(|l| l.max_requests = 1), 1, to_c());
    w.behave(1, Behaviour::Status(200, 100));
    let all = [w.get(0, "/"), w.get(0, "/")];
    w.run(10_000);
    assert_eq!(w.short(all[0]), (200, "-".into()));
    assert_eq!(w.short(all[1]), (503, "UO".into()));
    settled(&w, 2);
}

#[test]
fn a_connect_failure_fails_all_that_wait() {
    let mut w = World::of(breakers(|l| l.max_connections = 1), 1, to_c());
    w.behave(1, Behaviour::Refuse(50));
    let all = [w.get(0, "/"), w.get(10, "/"), w.get(20, "/")];
    w.run(10_000);
    for r in all {
        assert_eq!(w.outcome(r).3, 50);
        assert_eq!(w.short(r), (503, "UF".into()));
    }
    assert_eq!(w.connects(), 1);
    settled(&w, 3);
}

#[test]
fn no_host_no_cluster_no_route() {
    let mut w = World::with_routes(vec![
        route("/c", RouteAction::Forward(to_c())),
        route("/d", RouteAction::Forward(Forward::to("d".into()))),
    ]);
    w.cluster(cluster(), vec![]);
    let all = [
        w.get(0, "/c"),
        w.get(0, "/d"),
        w.get(0, "/e"),
        w.get(0, "/c#f"),
    ];
    w.run(1000);
    for (r, status, flag, details, body) in [
        (
            all[0],
            503,
            "UH",
            "no_healthy_upstream",
            "no healthy upstream",
        ),
        (all[1], 503, "NC", "cluster_not_found", ""),
        (all[2], 404, "NR", "route_not_found", ""),
        (all[3], 400, "-", "path_normalization_failed", ""),
    ] {
        let (s, f, d, _) = w.outcome(r);
        assert_eq!((s, &*f, &*d), (status, flag, details));
        assert_eq!(w.response(r).1, body);
    }
    settled(&w, 4);
}

fn outlier(change: impl Fn(&mut OutlierDetection)) -> Cluster {
    let mut config = OutlierDetection {
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    change(&mut config);
    Cluster {
        outlier_detection: Some(config),
        ..cluster()
    }
}

fn ejections(world: &World) -> Vec<(u64, bool)> {
    world
        .changes
        .iter()
        .filter_map(|(at, change)| match change {
            StateChange::Ejected { .. } => Some((at.as_millis(), true)),
            StateChange::Unejected { .. } => Some((at.as_millis(), false)),
            _ => None,
        })
        .collect()
}

/// Base 1 s, interval 0.5 s: out from the fifth failure on, back at the first sweep a second later;
/// twice as long the next time, unless good sweeps in between took that back.
#[test]
fn consecutive_errors_eject_for_longer_each_time() {
    let mut w = World::of(
        outlier(|o| {
            o.base_ejection_time = ms(1000);
            o.interval = ms(500);
        }),
        1,
        to_c(),
    );
    w.behave(1, Behaviour::Status(500, 0));
    for n in 0..5 {
        w.get(3100 + n, "/");
        w.get(4600 + n, "/");
        w.get(9100 + n, "/");
    }
    let out = w.get(3200, "/");
    w.run(12_000);
    assert_eq!(
        ejections(&w),
        [
            (3104, true),
            (4500, false),
            (4604, true),
            (7000, false),
            (9104, true),
            (10_500, false)
        ]
    );
    assert_eq!(w.short(out), (503, "UH".into()));
}

#[test]
fn defaults_never_eject_one_of_few() {
    let mut w = World::of(outlier(|o| o.max_ejection_percent = 10), 9, to_c());
    for n in 1..=9 {
        w.behave(n, Behaviour::Status(500, 0));
    }
    for n in 0..90 {
        w.get(n, "/");
    }
    w.run(5_000);
    assert_eq!(ejections(&w), []);
    let refused = |c: &&(Nanos, StateChange)| matches!(c.1, StateChange::EjectionOverflow { .. });
    assert_eq!(w.changes.iter().filter(refused).count(), 18);
}

#[test]
fn one_success_starts_the_count_afresh() {
    let mut w = World::of(outlier(|_| ()), 1, to_c());
    w.behave(1, Behaviour::Status(500, 0));
    w.behave_at(1040, 1, Behaviour::Status(404, 0));
    w.behave_at(1050, 1, Behaviour::Status(500, 0));
    for n in 0..9 {
        w.get(1001 + n * 10, "/"); // four failures, a success, four failures
    }
    w.run(5_000);
    assert_eq!(ejections(&w), []);
}

/// With split errors a connection that comes up is a success of the proxy's own.
#[test]
fn split_errors_count_connections() {
    let split = |o: &mut OutlierDetection| {
        o.split_external_local_origin_errors = true;
        o.consecutive_local_origin_failure = 2;
    };
    let mut hangups = World::of(outlier(split), 1, to_c());
    hangups.behave(1, Behaviour::Hangup(1));
    let mut refusals = World::of(outlier(split), 1, to_c());
    refusals.behave(1, Behaviour::Refuse(1));
    for n in 0..4 {
        hangups.get(2000 + n * 10, "/");
        refusals.get(2000 + n * 10, "/");
    }
    hangups.run(5_000);
    refusals.run(5_000);
    assert_eq!(ejections(&hangups), []);
    assert_eq!(ejections(&refusals), [(2011, true)]);
}

fn faulty(delay_ppm: u32, abort_ppm: u32, forward: Forward) -> World {
    let mut route = route("/", RouteAction::Forward(forward));
    route.fault = Some(Fault {
        delay: Some(FaultDelay {
            fixed: ms(50),
            fraction_ppm: delay_ppm,
        }),
        abort: Some(FaultAbort {
            status: 418,
            grpc_status: None,
            fraction_ppm: abort_ppm,
        }),
        max_active_faults: None,
    });
    let mut world = World::with_routes(vec![route]);
    world.cluster(cluster(), vec![(1, 0)]);
    world
}

#[test]
fn faults_delay_then_abort() {
    let mut w = faulty(1_000_000, 1_000_000, to_c());
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(
        w.outcome(r),
        (418, "DI,FI".into(), "fault_filter_abort".into(), 50)
    );
    assert_eq!(w.response(r).1, "fault filter abort");
    settled(&w, 1);
}

#[test]
fn a_fault_delay_comes_before_the_route_timeout() {
    let forward = Forward {
        timeout: Some(ms(20)),
        ..to_c()
    };
    let mut w = faulty(1_000_000, 0, forward);
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.outcome(r).0, 200);
    assert_eq!(w.outcome(r).3, 51);
    assert_eq!(w.short(r).1, "DI");
}

#[test]
fn fault_percentages() {
    let mut w = faulty(0, 300_000, to_c());
    for n in 0..2000 {
        w.get(n, "/");
    }
    w.run(10_000);
    let aborted = w.logs.iter().filter(|l| l.1.status == 418).count();
    // Five standard deviations of a binomial with mean 600.
    assert!((498..=702).contains(&aborted), "{aborted}");
}

#[test]
fn one_mirror_per_stream_and_none_of_local_answers() {
    let forward = Forward {
        mirrors: vec![Mirror {
            cluster: "m".into(),
            fraction: Fraction::ALWAYS,
            shadow_suffix: true,
        }],
        ..with_retry(retries(2, "5xx"))
    };
    let limits = breakers(|l| {
        l.max_connections = 1;
        l.max_pending_requests = 1;
    });
    let mut w = World::of(limits, 1, forward);
    let mirror = Cluster {
        name: "m".into(),
        ..cluster()
    };
    w.cluster(mirror, vec![(9, 0)]);
    w.behave(1, Behaviour::Status(503, 10));
    w.get(0, "/");
    w.run(1000);
    let copies: Vec<_> = w.sent.iter().filter(|s| s.1 == address(9)).collect();
    assert_eq!((w.sent_to(1).len(), copies.len()), (3, 1));
    assert_eq!(&*copies[0].3.authority, "a.example-shadow");
    assert!(matches!(copies[0].4, BodySource::Mirror(_)));
    w.behave(1, Behaviour::Status(200, 100));
    let first = w.get(2000, "/");
    let queued = w.get(2005, "/");
    let refused = w.get(2010, "/");
    w.run(5000);
    assert_eq!(w.short(first).0, 200);
    assert_eq!(w.short(queued).0, 200);
    assert_eq!(w.short(refused), (503, "UO".into()));
    assert_eq!(w.sent_to(9).len(), 3, "nothing for the refused one");
    settled(&w, 4);
}

/// A cluster may go while its requests are under way: they finish, later ones find none.
#[test]
fn a_removed_cluster_finishes_what_it_has() {
    let mut w = World::of(cluster(), 1, to_c());
    w.behave(1, Behaviour::Status(200, 100));
    let before = w.get(0, "/");
    w.xds_at(
        50,
        XdsDelta::Clusters {
            upsert: vec![],
            remove: vec!["c".into()],
        },
    );
    let after = w.get(60, "/");
    w.run(1000);
    assert_eq!(w.short(before), (200, "-".into()));
    assert_eq!(w.short(after), (503, "NC".into()));
    let closed = |a: &&(Nanos, Action)| matches!(a.1, Action::CloseConn { .. });
    assert_eq!(w.actions.iter().filter(closed).count(), 1);
    settled(&w, 2);
}
