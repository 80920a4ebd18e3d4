//! What a driver on bytes says of connections.

#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::contract::{Action, Input};
use proxy_core::ids::{ConnId, ExchangeId};
use std::sync::Arc;
use support::{Behaviour, World, cluster, downstream, head, to_c};

/// One host that answers after 10 ms.
fn world() -> World {
    let mut world = World::of(cluster(), 1, to_c());
    world.behave(1, Behaviour::Status(200, 10));
    world
}

fn conns_closed(world: &World) -> Vec<ConnId> {
    let closed = world.actions.iter().filter_map(|(_, action)| match action {
        Action::CloseConn { conn } => Some(*conn),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_busy_connection_that_goes_away_is_closed_after_its_response() {
    let mut world = world();
    let first = world.get(0, "/");
    world.run(5);
    let conn = world.sent[0].2;
    world.input(Input::GoAway { conn });
    assert!(conns_closed(&world).is_empty());
    world.run(20);
    assert_eq!(world.log(first).status, 200);
    assert_eq!(conns_closed(&world), [conn]);
    world.get(30, "/");
    world.run(50);
    assert_ne!(world.sent[1].2, conn);
    assert_eq!(world.connects(), 2);
}

#[test]
fn an_idle_connection_that_goes_away_is_closed_at_once() {
    let mut world = world();
    world.get(0, "/");
    world.run(20);
    let conn = world.sent[0].2;
    world.input(Input::GoAway { conn });
    assert_eq!(conns_closed(&world), [conn]);
    // A second word about it changes nothing.
    world.input(Input::GoAway { conn });
    assert_eq!(conns_closed(&world), [conn]);
}

#[test]
fn a_response_before_the_end_of_its_request_closes_the_connection() {
    let mut world = world();
    world.get(0, "/");
    world.run(20);
    let exchange = ExchangeId {
        index: 0,
        generation: 1,
    };
    world.input(Input::Request {
        exchange,
        downstream: downstream(0),
        key: 99,
        head: Arc::new(head("/", &[])),
        ends: false,
    });
    world.run(40);
    assert_eq!(world.log(99).status, 200);
    assert_eq!(conns_closed(&world), [world.sent[1].2]);
}
