//! Circuit breakers through the contract, against what Envoy does.

mod support;

use support::*;

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
    assert_eq!((w.log(all[2]).attempts, w.log(all[2]).endpoint), (1, None));
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
    assert!(w.log(all[1]).endpoint.is_some(), "it was at its connection");
    settled(&w, 2);
}
