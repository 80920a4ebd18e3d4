//! Hedged retries through the contract, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::xds::*;
use support::*;

fn hedged(num_retries: u32, on: &str) -> Forward {
    let retry = RetryPolicy {
        per_try_timeout: Some(ms(100)),
        ..retries(num_retries, on)
    };
    Forward {
        hedge_on_per_try_timeout: true,
        timeout: Some(ms(1000)),
        ..with_retry(retry)
    }
}

/// Host 1 is slow, host 2 is not: the retry wins and the first try is given up.
#[test]
fn the_first_good_answer_wins() {
    let mut w = World::of(cluster(), 2, hedged(1, "5xx"));
    w.behave(1, Behaviour::Status(200, 500));
    w.behave(2, Behaviour::Status(200, 50));
    let slow_first = [w.get(0, "/"), w.get(2000, "/")];
    w.run(10_000);
    let hedge = slow_first
        .into_iter()
        .find(|&r| w.log(r).attempts == 2)
        .unwrap();
    let (status, flags, details, end) = w.outcome(hedge);
    assert_eq!((status, &*flags, &*details), (200, "-", "via_upstream"));
    let took = end % 2000;
    assert!((150..175).contains(&took), "{took}");
    assert_eq!(w.host_of(hedge), 2);
    let hedged = slow_first.iter().filter(|&&r| w.log(r).attempts == 2);
    assert_eq!(w.cancelled(), hedged.count());
    settled(&w, 2);
}

/// The try that ran out of time may still be the one that answers.
#[test]
fn the_first_try_may_win_after_all() {
    let mut w = World::of(cluster(), 1, hedged(1, "5xx"));
    w.behave(1, Behaviour::Status(200, 130));
    let r = w.get(0, "/");
    w.run(10_000);
    let (status, flags, _, end) = w.outcome(r);
    assert_eq!((status, &*flags, end), (200, "-", 130));
    settled(&w, 1);
}

/// Whatever the conditions, as long as there is one; as many tries as the policy allows.
#[test]
fn hedging_needs_a_condition_and_a_retry() {
    for (on, num_retries, attempts, flags) in [
        ("connect-failure", 1, 2, "URX,UT"),
        ("connect-failure", 2, 3, "URX,UT"),
        ("5xx", 0, 1, "URX,UT"),
        ("nonsense", 3, 1, "UT"),
    ] {
        let mut w = World::of(cluster(), 4, hedged(num_retries, on));
        for host in 1..=4 {
            w.behave(host, Behaviour::Silent);
        }
        let r = w.get(0, "/");
        w.run(10_000);
        let want = (504, flags.into(), "response_timeout".into(), 1000);
        assert_eq!(w.outcome(r), want, "{on} {num_retries}");
        assert_eq!(w.log(r).attempts, attempts, "{on} {num_retries}");
        settled(&w, 1);
    }
}

/// A bad answer is dropped while another try may still do better, and given if none does.
#[test]
fn a_bad_answer_waits_for_the_others() {
    let mut w = World::of(cluster(), 1, hedged(1, "5xx"));
    w.behave(1, Behaviour::Status(503, 150));
    w.behave_at(50, 1, Behaviour::Status(200, 200));
    let better = w.get(0, "/");
    w.run(2_000);
    let (status, flags, _, end) = w.outcome(better);
    // The second try ran out of time too, and no retry was left.
    assert_eq!((status, &*flags), (200, "URX"));
    assert!((300..325).contains(&end), "{end}");

    w.behave(1, Behaviour::Status(503, 150));
    let worse = w.get(3_000, "/");
    w.run(6_000);
    let (status, flags, details, end) = w.outcome(worse);
    assert_eq!((status, &*flags, &*details), (503, "URX", "via_upstream"));
    assert!((3_250..3_275).contains(&end), "{end}");
    settled(&w, 2);
}

#[test]
fn a_reset_waits_for_the_others() {
    let mut w = World::of(cluster(), 1, hedged(1, "5xx"));
    w.behave(1, Behaviour::Hangup(150));
    w.behave_at(50, 1, Behaviour::Status(200, 200));
    let r = w.get(0, "/");
    w.run(2_000);
    assert_eq!(w.short(r), (200, "URX".into()));
    settled(&w, 1);
}

/// A timeout is held against a host once, though two timers ran out.
#[test]
fn a_timeout_counts_once() {
    let outlier_detection = Some(OutlierDetection {
        consecutive_5xx: 2,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    });
    let cluster = Cluster {
        outlier_detection,
        ..cluster()
    };
    let mut w = World::of(cluster, 1, hedged(0, "5xx"));
    w.behave(1, Behaviour::Silent);
    w.get(2_000, "/");
    w.run(5_000);
    let ejected = |c: &&(_, StateChange)| matches!(c.1, StateChange::Ejected { .. });
    assert_eq!(w.changes.iter().filter(ejected).count(), 0);
}

/// Attempts have the time of the whole route.
#[test]
fn attempts_are_told_the_route_timeout() {
    let mut w = World::of(cluster(), 1, hedged(1, "5xx"));
    w.behave(1, Behaviour::Silent);
    w.get(0, "/");
    w.run(5_000);
    let told = w.expected_timeouts();
    let second = w.sent_to(1)[1];
    assert_eq!(told, [1000, 1000 - second]);
}
