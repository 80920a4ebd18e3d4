//! What updates of resources change, and which of them are refused.

mod support;

use proxy_core::contract::{Action, Input};
use proxy_core::ids::{DownstreamId, ExchangeId, HeadId};
use proxy_core::xds::*;
use std::sync::Arc;
use support::*;

/// An interned head is not routed by what an earlier version of its listener held.
#[test]
fn a_changed_inline_table_is_noticed() {
    let mut w = World::bare();
    let mut request = head("/", &[]);
    request.id = Some(HeadId(0));
    let request = Arc::new(request);
    for (n, status) in [(0u32, 201u16), (1, 202)] {
        let body = "".into();
        let answer = route("/", RouteAction::DirectResponse { status, body });
        let table = RouteTable::new(
            "inline".into(),
            vec![VirtualHost {
                name: "v".into(),
                domains: vec!["*".into()],
                routes: vec![answer.into()],
                ..VirtualHost::default()
            }],
            false,
        );
        let mut listener = listener();
        if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
            manager.routes = RouteSource::Inline(Arc::new(table));
        }
        w.xds(XdsDelta::Listeners {
            upsert: vec![Arc::new(listener)],
            remove: vec![],
        });
        w.input(Input::Opened(opened(n)));
        w.input(Input::Request {
            exchange: ExchangeId {
                index: n,
                generation: 0,
            },
            downstream: DownstreamId {
                index: n,
                generation: 0,
            },
            key: u64::from(n),
            head: Arc::clone(&request),
            ends: true,
        });
        assert_eq!(w.log(n.into()).status, status);
    }
}

/// A changed cluster that never warms again can still be removed.
#[test]
fn a_cluster_that_warms_anew_is_removed_with_its_old_version() {
    let mut w = World::of(cluster(), 1, to_c());
    let renewed = Cluster {
        discovery: Discovery::StrictDns {
            host: "c.example".into(),
            port: 80,
        },
        ..cluster()
    };
    w.xds(XdsDelta::Clusters {
        upsert: vec![renewed.into()],
        remove: vec![],
    });
    let old = w.get(10, "/");
    w.run(20);
    w.xds(XdsDelta::Clusters {
        upsert: vec![],
        remove: vec!["c".into()],
    });
    let gone = w.get(30, "/");
    w.run(40);
    assert_eq!(w.short(old), (200, "-".into()));
    assert_eq!(w.short(gone), (503, "NC".into()));
}

#[test]
fn endless_tables_are_refused() {
    let hashing = ConsistentHashing::default();
    let maglev = |table_size| LbPolicy::Maglev {
        table_size,
        hashing,
    };
    for lb_policy in [
        maglev(100),
        maglev(0),
        LbPolicy::RingHash {
            minimum_ring_size: 1,
            maximum_ring_size: u64::MAX,
            function: RingHashFunction::XxHash,
            hashing,
        },
    ] {
        let mut w = World::bare();
        let cluster = Cluster {
            lb_policy,
            ..cluster()
        };
        w.cluster(cluster, vec![(1, 0)]);
        assert!(matches!(w.actions[0].1, Action::Nack { .. }));
    }
}

/// Seen at a real Envoy: the others of an update are taken over.
#[test]
fn refused_resources_leave_the_others_of_their_update() {
    let mut w = World::with_routes(vec![route("/", RouteAction::Forward(to_c()))]);
    let bad = Cluster {
        name: "bad".into(),
        lb_policy: LbPolicy::Maglev {
            table_size: 100,
            hashing: ConsistentHashing::default(),
        },
        ..cluster()
    };
    w.xds(XdsDelta::Clusters {
        upsert: vec![bad.into(), cluster().into()],
        remove: vec![],
    });
    let refused = |action: &Action| matches!(action, Action::Nack { .. });
    assert!(w.actions.iter().any(|(_, action)| refused(action)));
    w.endpoints("c", vec![(1, 0)]);
    let key = w.get(0, "/");
    w.run(100);
    assert_eq!(w.log(key).status, 200);
}
