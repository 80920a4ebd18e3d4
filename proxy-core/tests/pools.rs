//! Connection pools through the contract, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::xds::*;
use support::*;

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
