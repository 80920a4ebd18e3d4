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
