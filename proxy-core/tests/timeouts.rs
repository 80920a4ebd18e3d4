//! Timeouts through the contract, against what Envoy does.

mod support;

use proxy_core::xds::*;
use support::*;

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

/// The end of the request starts the route timeout only if an attempt is under way then.
#[test]
fn a_request_that_ends_during_a_back_off_has_no_timeout() {
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
    w.behave(1, Behaviour::Status(503, 10));
    let during = w.post(0, head("/", &[]));
    w.end_at(20, during);
    let before = w.post(0, head("/", &[]));
    w.end_at(5, before);
    w.run(200_000);
    assert_eq!(w.short(during), (503, "URX".into()));
    assert_eq!(
        w.outcome(before),
        (504, "UT".into(), "response_timeout".into(), 55)
    );
    settled(&w, 2);
}

#[test]
fn per_try_idle_timeouts_are_retried_then_answered() {
    let retry = RetryPolicy {
        per_try_idle_timeout: Some(ms(100)),
        ..retries(1, "5xx")
    };
    let mut w = World::of(cluster(), 2, with_retry(retry));
    w.behave(1, Behaviour::Silent);
    w.behave(2, Behaviour::Silent);
    let r = w.get(0, "/");
    w.run(10_000);
    let (status, flags, details, end) = w.outcome(r);
    let want = (504, "URX,UT", "upstream_per_try_idle_timeout");
    assert_eq!((status, &*flags, &*details), want);
    assert!((200..225).contains(&end), "{end}");
    assert_eq!(w.response(r).1, "upstream request timeout");
    settled(&w, 1);
}

/// Envoy 1.40's answers for each limit of a stream: to a whole request, to a request that has not
/// ended, and to a gRPC request.
#[test]
fn limits_of_streams() {
    let by_route = |change: fn(&mut Forward)| {
        let mut forward = to_c();
        change(&mut forward);
        (cluster(), forward)
    };
    let by_cluster = (
        Cluster {
            max_stream_duration: Some(ms(200)),
            ..cluster()
        },
        to_c(),
    );
    let idle = "stream timeout";
    let duration = "downstream duration timeout";
    let upstream = "upstream max stream duration reached";
    for ((cluster, forward), flags, details, body, grpc) in [
        (
            by_route(|f| f.idle_timeout = Some(ms(200))),
            "SI",
            "stream_idle_timeout",
            idle,
            "14",
        ),
        (
            by_route(|f| f.max_stream_duration = Some(ms(200))),
            "-",
            "max_duration_timeout",
            duration,
            "4",
        ),
        (
            by_cluster,
            "UMSDR",
            "upstream_max_stream_duration_reached",
            upstream,
            "14",
        ),
    ] {
        let mut w = World::of(cluster, 1, forward);
        w.behave(1, Behaviour::Silent);
        let whole = w.request(0, head("/", &[]));
        let half = w.post(0, head("/", &[]));
        let by_grpc = w.request(0, head("/", &[("content-type", "application/grpc")]));
        w.run(10_000);
        let want = |status| (status, flags.to_owned(), details.to_owned(), 200);
        assert_eq!(w.outcome(whole), want(504));
        assert_eq!(w.outcome(half), want(408));
        assert_eq!(w.outcome(by_grpc), want(200));
        assert_eq!(w.response(whole).1, body);
        assert_eq!(w.header(by_grpc, "grpc-status").as_deref(), Some(grpc));
        assert_eq!(w.header(by_grpc, "grpc-message").as_deref(), Some(body));
        settled(&w, 3);
    }
}

/// The end of the request is progress, and a zero turns the limit off.
#[test]
fn idle_streams() {
    let idle = |timeout| Forward {
        idle_timeout: Some(ms(timeout)),
        ..to_c()
    };
    let mut w = World::of(cluster(), 1, idle(200));
    w.behave(1, Behaviour::Status(200, 300));
    let r = w.post(0, head("/", &[]));
    w.end_at(150, r);
    w.run(10_000);
    assert_eq!(w.outcome(r), (200, "-".into(), "via_upstream".into(), 300));

    let mut w = World::of(cluster(), 1, idle(0));
    w.behave(1, Behaviour::Status(200, 5_000));
    let r = w.get(0, "/");
    w.run(10_000);
    assert_eq!(w.short(r).0, 200);
}

/// A cluster's limit is one on each attempt, which may be tried again.
#[test]
fn attempts_that_last_too_long_are_retried() {
    let cluster = Cluster {
        max_stream_duration: Some(ms(200)),
        ..cluster()
    };
    let mut w = World::of(cluster, 1, with_retry(retries(1, "reset")));
    w.behave(1, Behaviour::Silent);
    let r = w.get(0, "/");
    w.run(10_000);
    let (status, flags, _, end) = w.outcome(r);
    assert_eq!((status, &*flags), (504, "URX,UMSDR"));
    assert!((400..425).contains(&end), "{end}");
    settled(&w, 1);
}

#[test]
fn grpc_requests_bring_their_own_timeout() {
    for (max, asked, answered_at) in [
        (Some(1000), Some("300m"), Some(300)),
        (Some(1000), Some("5S"), Some(1000)),
        (Some(1000), None, Some(1000)),
        (Some(0), Some("300m"), Some(300)),
        (Some(0), None, None),
        (None, Some("300m"), Some(2000)),
    ] {
        let forward = Forward {
            timeout: Some(ms(2000)),
            max_grpc_timeout: max.map(ms),
            ..to_c()
        };
        let mut w = World::of(cluster(), 1, forward);
        w.behave(1, Behaviour::Status(200, 9_000));
        let mut headers = vec![("content-type", "application/grpc+proto")];
        headers.extend(asked.map(|asked| ("grpc-timeout", asked)));
        let r = w.request(0, head("/", &headers));
        let plain = w.request(0, head("/", &headers[1..]));
        w.run(20_000);
        let (status, flags, _, end) = w.outcome(r);
        let flag = if answered_at.is_some() { "UT" } else { "-" };
        let want = (200, flag, answered_at.unwrap_or(9_000));
        assert_eq!((status, &*flags, end), want, "{max:?} {asked:?}");
        assert_eq!(w.outcome(plain).3, 2000, "not a gRPC request");
        assert_eq!(w.expected_timeouts(), [answered_at.unwrap_or(0), 2000]);
    }
}

#[test]
fn attempts_are_told_what_is_left() {
    let retry = RetryPolicy {
        per_try_timeout: Some(ms(300)),
        ..retries(3, "5xx")
    };
    let forward = Forward {
        timeout: Some(ms(1000)),
        ..with_retry(retry)
    };
    let mut w = World::of(cluster(), 1, forward);
    w.behave(1, Behaviour::Silent);
    w.get(0, "/");
    w.run(10_000);
    let left = w.sent_to(1).into_iter().map(|at| (1000 - at).min(300));
    assert_eq!(w.expected_timeouts(), left.collect::<Vec<u64>>());
}
