//! Retries through the contract, against what Envoy does.

mod support;

use proxy_core::xds::*;
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

fn present(name: &str) -> HeaderMatch {
    HeaderMatch {
        name: name.into(),
        value: ValueMatch::Present(true),
        invert: false,
        treat_missing_as_empty: false,
    }
}

/// Envoy's table: what each condition makes of a refused connection, with one retry.
#[test]
fn a_refused_connection_is_retried_by() {
    for (on, retried) in [
        ("5xx", true),
        ("gateway-error", true),
        ("reset", true),
        ("connect-failure", true),
        ("reset-before-request", true),
        ("refused-stream", false),
        ("retriable-4xx", false),
        ("retriable-status-codes", false),
        ("retriable-headers", false),
        ("envoy-ratelimited", false),
        (
            "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable",
            false,
        ),
        ("http3-post-connect-failure", false),
        ("nonsense", false),
    ] {
        let mut w = World::of(cluster(), 1, with_retry(retries(1, on)));
        w.behave(1, Behaviour::Refuse(1));
        let r = w.get(0, "/");
        w.run(10_000);
        let flags = if retried { "URX,UF" } else { "UF" };
        assert_eq!(w.short(r), (503, flags.into()), "{on}");
        assert_eq!(w.connects(), 1 + usize::from(retried), "{on}");
        settled(&w, 1);
    }
}

#[test]
fn answers_retried_by_their_headers() {
    type Headers = &'static [(&'static str, &'static str)];
    const LIMITED: Headers = &[("x-envoy-ratelimited", "true")];
    const UNAVAILABLE: Headers = &[("grpc-status", "14")];
    const OWN: Headers = &[("x-again", "1")];
    for (on, status, headers, retried) in [
        ("5xx", 503, LIMITED, false),
        ("5xx,envoy-ratelimited", 429, LIMITED, true),
        ("envoy-ratelimited", 429, &[], false),
        ("unavailable", 200, UNAVAILABLE, true),
        ("cancelled", 200, UNAVAILABLE, false),
        ("retriable-headers", 200, OWN, true),
        ("retriable-headers", 200, UNAVAILABLE, false),
        ("retriable-status-codes", 418, &[], true),
        ("retriable-4xx", 409, &[], true),
        ("retriable-4xx", 418, &[], false),
    ] {
        let retry = RetryPolicy {
            retriable_headers: vec![present("x-again")],
            retriable_status_codes: vec![418],
            ..retries(1, on)
        };
        let mut w = World::of(cluster(), 1, with_retry(retry));
        w.behave(1, Behaviour::Answer(status, 1, headers));
        let r = w.get(0, "/");
        w.run(10_000);
        assert_eq!(
            w.log(r).attempts,
            1 + u32::from(retried),
            "{on} {status} {headers:?}"
        );
        assert_eq!(w.short(r).1, if retried { "URX" } else { "-" });
    }
}

#[test]
fn only_some_requests_are_retried() {
    let retry = RetryPolicy {
        retriable_request_headers: vec![present("x-safe"), present("x-idempotent")],
        ..retries(1, "5xx")
    };
    let mut w = World::of(cluster(), 1, with_retry(retry));
    w.behave(1, Behaviour::Status(503, 1));
    let safe = w.request(0, head("/", &[("x-idempotent", "1")]));
    let other = w.request(1000, head("/", &[]));
    w.run(10_000);
    assert_eq!((w.log(safe).attempts, w.log(other).attempts), (2, 1));
}

/// Clients from outside have no say in retries and timeouts.
#[test]
fn requests_lose_what_only_internal_clients_may_say() {
    let mut w = World::of(cluster(), 1, to_c());
    w.behave(1, Behaviour::Status(503, 1));
    let headers = [
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-max-retries", "7"),
        ("x-envoy-upstream-rq-timeout-ms", "9"),
        ("x-envoy-original-path", "/kept"),
    ];
    let r = w.request(0, head("/", &headers));
    w.run(10_000);
    assert_eq!(w.log(r).attempts, 1);
    let names: Vec<&str> = w.sent[0]
        .3
        .headers
        .0
        .iter()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(names, ["x-envoy-original-path", "x-forwarded-proto"]);
}

#[test]
fn a_rate_limited_answer_says_when_to_come_back() {
    let retry = RetryPolicy {
        rate_limited_back_off: Some(RateLimitedBackOff {
            reset_headers: vec![ResetHeader {
                name: "retry-after".into(),
                unix_timestamp: false,
            }],
            max_interval: ms(300_000),
        }),
        ..retries(2, "5xx,envoy-ratelimited")
    };
    let mut w = World::of(cluster(), 1, with_retry(retry));
    w.behave(
        1,
        Behaviour::Answer(
            429,
            10,
            &[("x-envoy-ratelimited", "true"), ("retry-after", "4")],
        ),
    );
    w.behave_at(3000, 1, Behaviour::Status(503, 10));
    w.get(0, "/");
    w.run(60_000);
    let sent = w.sent_to(1);
    assert!((4_010..6_010).contains(&sent[1]), "{sent:?}");
    // The exponential back-off has not begun: below 25 ms.
    assert!(sent[2] - sent[1] - 10 < 25, "{sent:?}");
}

/// At most 20 % of what is active or waiting, but three.
#[test]
fn a_budget_replaces_the_limit() {
    let budget = RetryBudget {
        budget_percent: 20.0,
        min_retry_concurrency: 3,
    };
    for (requests, retried) in [(4, 3), (10, 3), (30, 5)] {
        let limits = breakers(|l| {
            l.max_retries = 0;
            l.retry_budget = Some(budget);
        });
        let mut w = World::of(limits, 1, with_retry(retries(1, "5xx")));
        w.behave(1, Behaviour::Status(503, 100));
        let keys: Vec<u64> = (0..requests).map(|_| w.get(0, "/")).collect();
        w.run(10_000);
        let again = keys.iter().filter(|&&k| w.log(k).attempts == 2).count();
        // Answers come one after another, and those already given count no more.
        assert_eq!(again, retried, "{requests}");
        let refused = keys.iter().filter(|&&k| w.short(k).1 == "UO").count();
        assert_eq!(refused, requests - again);
        settled(&w, requests);
    }
}

#[test]
fn a_body_that_outgrows_the_buffer_ends_a_waiting_retry() {
    let retry = RetryPolicy {
        back_off_base: ms(100_000),
        back_off_max: ms(100_000),
        ..retries(3, "5xx")
    };
    let mut w = World::of(cluster(), 1, with_retry(retry));
    w.behave(1, Behaviour::Status(503, 10));
    let waiting = w.post(0, head("/", &[]));
    w.outgrow_at(20, waiting);
    let under_way = w.post(100, head("/", &[]));
    w.outgrow_at(105, under_way);
    w.run(1000);
    let details = "request_payload_exceeded_retry_buffer_limit";
    assert_eq!(w.outcome(waiting), (507, "-".into(), details.into(), 20));
    assert_eq!(
        w.response(waiting).1,
        "exceeded request buffer limit while retrying upstream"
    );
    assert_eq!(
        w.outcome(under_way),
        (503, "-".into(), "via_upstream".into(), 110)
    );
    settled(&w, 2);
}
