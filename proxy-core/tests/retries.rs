//! Retries through the contract, against what Envoy does.

mod support;

use support::*;

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
fn a_retried_reset_says_so() {
    let mut w = World::of(cluster(), 1, with_retry(retries(1, "reset")));
    w.behave(1, Behaviour::Hangup(5));
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.short(r), (503, "URX,UC".into()));
    let body = format!("{RESET}retried and the latest reset reason: connection termination");
    assert_eq!(w.response(r).1, body);
}
