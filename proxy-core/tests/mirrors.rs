//! Mirrored requests through the contract, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::xds::*;
use support::*;

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

/// Where the route has a limit a copy has all of that time; otherwise it is told what the first try
/// was.
#[test]
fn copies_are_told_their_time() {
    for (limit, of_copy) in [(None, 300), (Some(ms(1000)), 1000)] {
        let retry = RetryPolicy {
            per_try_timeout: Some(ms(300)),
            ..retries(1, "5xx")
        };
        let forward = Forward {
            timeout: limit,
            mirrors: vec![Mirror {
                cluster: "c".into(),
                fraction: Fraction::ALWAYS,
                shadow_suffix: false,
            }],
            ..with_retry(retry)
        };
        let mut w = World::of(cluster(), 1, forward);
        w.get(0, "/");
        w.run(1000);
        let mut told = w.expected_timeouts();
        told.sort();
        assert_eq!(told, [300, of_copy]);
    }
}
