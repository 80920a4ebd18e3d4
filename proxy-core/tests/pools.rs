//! Connection pools and their limits through the contract, against what Envoy does.

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

/// A limit on connections queues, and a pool without any opens one whatever the limit says.
#[test]
fn limits_on_connections_queue() {
    type Change = fn(&mut CircuitBreakers);
    let cases: [(&str, Change, [usize; 2]); 3] = [
        ("of the cluster", |l| l.max_connections = 1, [1, 1]),
        ("of the cluster, three", |l| l.max_connections = 3, [2, 1]),
        (
            "of a host",
            |l| l.max_connections_per_host = Some(2),
            [2, 2],
        ),
    ];
    for (what, change, want) in cases {
        let mut w = World::of(breakers(change), 2, to_c());
        w.behave(1, Behaviour::Status(200, 50));
        w.behave(2, Behaviour::Status(200, 50));
        for _ in 0..6 {
            w.get(0, "/");
        }
        w.run(49);
        let connections = [1, 2].map(|host| w.sent_to(host).len());
        assert_eq!(
            connections.iter().sum::<usize>(),
            want.iter().sum::<usize>(),
            "{what}"
        );
        assert_eq!(connections.iter().max(), want.iter().max(), "{what}");
        w.run(1000);
        settled(&w, 6);
    }
}

/// What waits at one host for room gets its connection when another host's goes: the next time that
/// the pool looks, which is when one of its own requests ends.
#[test]
fn room_found_later_is_used() {
    let mut w = World::of(breakers(|l| l.max_connections = 2), 2, to_c());
    w.behave(1, Behaviour::Status(200, 30));
    w.behave(2, Behaviour::Hangup(9));
    for _ in 0..6 {
        w.get(0, "/");
    }
    w.run(1000);
    settled(&w, 6);
    // Three each, in turn: host 2 loses its three one after another at 9, 18 and 27 ms, and host 1,
    // which has two waiting at 30 ms, then opens a second connection.
    assert_eq!(w.sent_to(1), [0, 30, 30]);
}

/// A request that gives up in the queue leaves the connection that was made for it.
#[test]
fn a_connection_outlives_its_reason() {
    let forward = Forward {
        timeout: Some(ms(20)),
        ..to_c()
    };
    let mut w = World::of(cluster(), 1, forward);
    w.behave(1, Behaviour::Blackhole);
    let late = w.get(0, "/");
    w.run(30);
    assert_eq!(w.outcome(late).1, "UT");
    let conn = w.actions.iter().find_map(|(_, action)| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    let Some(conn) = conn else {
        unreachable!("it asked for a connection")
    };
    w.input(Input::Connected { conn });
    w.behave(1, Behaviour::Status(200, 1));
    let next = w.get(40, "/");
    w.run(1000);
    assert_eq!(w.short(next), (200, "-".into()));
    assert_eq!(w.opened_and_closed(), (vec![0], vec![]));
    settled(&w, 2);
}

/// A host that left still serves who waits for it, on the connections it has.
#[test]
fn a_host_that_left_serves_its_queue() {
    let mut w = World::of(breakers(|l| l.max_connections = 1), 1, to_c());
    w.behave(1, Behaviour::Status(200, 50));
    let all = [w.get(0, "/"), w.get(1, "/"), w.get(2, "/")];
    let gone = XdsDelta::Endpoints {
        upsert: vec![assignment("c", vec![(2, 0)]).into()],
    };
    w.xds_at(10, gone);
    let after = w.get(20, "/");
    w.run(1000);
    assert_eq!(all.map(|r| w.outcome(r).3), [50, 100, 150]);
    assert_eq!(w.host_of(after), 2);
    assert_eq!(w.opened_and_closed(), (vec![0, 20], vec![150]));
    settled(&w, 4);
}

/// An address that comes back after its host has left is a new host, with new connections; one that
/// is listed all along keeps them.
#[test]
fn identity_goes_with_membership() {
    let endpoints = |hosts: Vec<(u8, u32)>| XdsDelta::Endpoints {
        upsert: vec![assignment("c", hosts).into()],
    };
    for (leaves, connections) in [(false, 1), (true, 2)] {
        let mut w = World::of(cluster(), 1, to_c());
        w.get(0, "/");
        let between = if leaves { vec![] } else { vec![(1, 0), (2, 0)] };
        w.xds_at(10, endpoints(between));
        w.xds_at(20, endpoints(vec![(1, 0)]));
        w.get(30, "/");
        w.run(1000);
        assert_eq!(w.connects(), connections);
    }
}

#[test]
fn without_an_idle_timeout_connections_stay() {
    let forever = Cluster {
        idle_timeout: None,
        ..cluster()
    };
    let mut w = World::of(forever, 1, to_c());
    w.get(0, "/");
    w.get(100_000_000, "/");
    w.run(200_000_000);
    assert_eq!(w.opened_and_closed(), (vec![0], vec![]));
}
