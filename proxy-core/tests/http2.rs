//! HTTP/2 connection pools through the contract: many requests at once on a connection.

#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::contract::*;
use proxy_core::ids::ConnId;
use proxy_core::xds::*;
use support::*;

fn http2(change: impl Fn(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster {
        http_protocol: HttpProtocol::Http2,
        ..cluster()
    };
    change(&mut cluster);
    cluster
}

/// One host that answers after 100 ms.
fn world(cluster: Cluster) -> World {
    let mut world = World::of(cluster, 1, to_c());
    world.behave(1, Behaviour::Status(200, 100));
    world
}

/// Which connection, in order of opening, each request went out on.
fn carriers(world: &World) -> Vec<usize> {
    let opened = world.actions.iter().filter_map(|(_, action)| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    let opened: Vec<ConnId> = opened.collect();
    let carrier = |conn: ConnId| opened.iter().position(|&o| o == conn).unwrap();
    world.sent.iter().map(|sent| carrier(sent.2)).collect()
}

fn settled(world: &World, exchanges: usize) {
    assert_eq!(world.logs.len(), exchanges);
    assert_eq!(world.slots(), [0; 4]);
}

#[test]
fn as_many_connections_as_capacity_asks_for() {
    for (streams, at_once, want) in [
        (1024, 50, vec![0; 50]),
        (2, 5, vec![0, 0, 1, 1, 2]),
        (1, 3, vec![0, 1, 2]),
    ] {
        let mut w = world(http2(|c| c.max_concurrent_streams = streams));
        for _ in 0..at_once {
            w.get(10, "/");
        }
        w.run(1000);
        assert_eq!(carriers(&w), want, "{streams} streams");
        let all = w.logs.iter();
        assert!(all.clone().all(|(_, log)| log.status == 200));
        settled(&w, at_once);
    }
}

/// A connection with room keeps its place; one that was full and has room again is used first.
#[test]
fn most_recently_freed_first() {
    let mut w = world(http2(|c| c.max_concurrent_streams = 2));
    for at in [0, 0, 10, 10] {
        w.get(at, "/"); // 0 is full, then 1
    }
    // 0 is freed at 100, 1 at 110: 1 takes the next two, then 0.
    for at in [150, 151, 152] {
        w.get(at, "/");
    }
    w.run(1000);
    assert_eq!(carriers(&w), [0, 0, 1, 1, 1, 1, 0]);
}

#[test]
fn a_connection_drains_at_its_last_request() {
    let mut w = world(http2(|c| c.max_requests_per_connection = 3));
    for at in [0, 10, 20, 30] {
        w.get(at, "/");
    }
    w.run(1000);
    assert_eq!(carriers(&w), [0, 0, 0, 1]);
    // Closed with the last of its three.
    assert_eq!(w.opened_and_closed(), (vec![0, 30], vec![120]));
    settled(&w, 4);
}

/// Remaining requests bound what a connection on its way will take.
#[test]
fn coming_capacity_is_bounded_by_requests() {
    let mut w = world(http2(|c| c.max_requests_per_connection = 2));
    for _ in 0..4 {
        w.get(0, "/");
    }
    w.run(1000);
    assert_eq!(carriers(&w), [0, 0, 1, 1]);
}

#[test]
fn after_go_away_what_is_under_way_finishes() {
    let mut w = world(http2(|_| ()));
    let first = [w.get(0, "/"), w.get(5, "/")];
    w.run(20);
    let conn = w.sent[0].2;
    w.input(Input::GoAway { conn });
    let after = w.get(30, "/");
    w.run(1000);
    assert_eq!(carriers(&w), [0, 0, 1]);
    assert_eq!(w.opened_and_closed(), (vec![0, 30], vec![105]));
    for r in [first[0], first[1], after] {
        assert_eq!(w.short(r), (200, "-".into()));
    }
    settled(&w, 3);
}

#[test]
fn a_reset_stream_leaves_the_connection() {
    let retry = Forward {
        retry: Some(retries(1, "refused-stream")),
        ..to_c()
    };
    let mut w = World::of(http2(|_| ()), 1, retry);
    w.behave(1, Behaviour::Status(200, 100));
    let steady = w.get(0, "/");
    w.behave_at(5, 1, Behaviour::Reset(ResetReason::RefusedStream, 1));
    let refused = w.get(10, "/");
    w.behave_at(11, 1, Behaviour::Status(200, 1));
    w.run(1000);
    assert_eq!(w.short(steady), (200, "-".into()));
    assert_eq!(
        (w.short(refused), w.log(refused).attempts),
        ((200, "-".into()), 2)
    );
    assert_eq!(w.opened_and_closed(), (vec![0], vec![]));
    settled(&w, 2);
}

#[test]
fn a_given_up_stream_leaves_the_connection() {
    let forward = Forward {
        timeout: Some(ms(50)),
        ..to_c()
    };
    let mut w = World::of(http2(|_| ()), 1, forward);
    w.behave(1, Behaviour::Silent);
    let slow = w.get(0, "/");
    w.behave_at(10, 1, Behaviour::Status(200, 10));
    let fast = [w.get(20, "/"), w.get(60, "/")];
    w.run(1000);
    assert_eq!(w.short(slow), (504, "UT".into()));
    for r in fast {
        assert_eq!(w.short(r), (200, "-".into()));
    }
    let cancelled = |a: &&(_, Action)| matches!(a.1, Action::Cancel { .. });
    assert_eq!(w.actions.iter().filter(cancelled).count(), 1);
    assert_eq!(w.opened_and_closed(), (vec![0], vec![]));
    settled(&w, 3);
}

#[test]
fn a_lost_connection_resets_all_its_streams() {
    let mut w = world(http2(|_| ()));
    let all = [w.get(0, "/"), w.get(1, "/"), w.get(2, "/")];
    w.run(20);
    let conn = w.sent[0].2;
    w.input(Input::ConnClosed { conn });
    for r in all {
        assert_eq!(w.outcome(r).0, 503);
        assert_eq!(w.outcome(r).1, "UC");
        assert_eq!(w.outcome(r).3, 20);
    }
    // Newest first, as Envoy's codec resets them.
    let order: Vec<u64> = w.logs.iter().map(|(_, log)| log.key).collect();
    assert_eq!(order, [all[2], all[1], all[0]]);
    settled(&w, 3);
}

#[test]
fn settings_change_capacity() {
    let mut w = world(http2(|c| c.max_concurrent_streams = 100));
    let settings = |conn, max_concurrent_streams| Input::Settings {
        conn,
        max_concurrent_streams,
    };
    w.get(0, "/");
    w.run(1);
    let conn = w.sent[0].2;
    w.input(settings(conn, 1));
    w.get(2, "/"); // does not fit any more
    w.run(5);
    assert_eq!(carriers(&w), [0, 1]);
    // Room again, but never more than configured.
    w.input(settings(conn, 1000));
    for _ in 0..99 {
        w.get(10, "/");
    }
    w.run(50);
    assert_eq!(carriers(&w)[2..], [0; 99]);
    w.get(60, "/");
    w.run(1000);
    assert_eq!(carriers(&w)[101..], [1]);
    settled(&w, 102);
}

/// A queued request that a raised limit makes room for goes out at once.
#[test]
fn settings_free_what_waits() {
    let mut w = world(http2(|c| {
        c.max_concurrent_streams = 2;
        c.circuit_breakers.max_connections = 1;
    }));
    w.get(0, "/");
    w.run(1);
    let conn = w.sent[0].2;
    let settings = |max_concurrent_streams| Input::Settings {
        conn,
        max_concurrent_streams,
    };
    w.input(settings(1));
    w.get(10, "/");
    w.run(20);
    assert_eq!(w.sent.len(), 1);
    w.input(settings(2));
    assert_eq!(w.sent.len(), 2);
    w.run(1000);
    settled(&w, 2);
}

#[test]
fn the_request_limit_is_tested_at_attach() {
    let mut w = world(http2(|c| c.circuit_breakers.max_requests = 2));
    let all = [w.get(0, "/"), w.get(0, "/"), w.get(0, "/"), w.get(50, "/")];
    w.run(1000);
    let short = all.map(|r| w.short(r).1);
    assert_eq!(short, ["-", "-", "UO", "UO"]);
    settled(&w, 4);
}

#[test]
fn the_upstream_follows_the_downstream() {
    let mut w = World::of(
        http2(|c| c.http_protocol = HttpProtocol::UseDownstream),
        1,
        to_c(),
    );
    w.behave(1, Behaviour::Status(200, 100));
    w.input(Input::Opened(Opened {
        protocol: Protocol::Http2,
        ..opened(1)
    }));
    for at in [0, 1] {
        w.get(at, "/");
        w.request_on(at, 1, head("/", &[]));
    }
    w.run(1000);
    let spoken: Vec<Protocol> = w
        .actions
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Connect { protocol, .. } => Some(*protocol),
            _ => None,
        })
        .collect();
    // A pool for each: two connections of one, one of the other.
    assert_eq!(spoken, [Protocol::Http1, Protocol::Http2, Protocol::Http1]);
    assert_eq!(carriers(&w), [0, 1, 1, 2]);
    settled(&w, 4);
}

#[test]
fn a_connection_is_idle_without_streams() {
    let mut w = world(http2(|c| c.idle_timeout = Some(ms(200))));
    w.get(0, "/");
    w.get(80, "/");
    w.run(1000);
    assert_eq!(w.opened_and_closed(), (vec![0], vec![380]));
}
