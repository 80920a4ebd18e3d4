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
