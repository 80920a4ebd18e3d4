//! The local rate limit filter through the contract, against what Envoy does.

mod support;

use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::ids::ExchangeId;
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::sync::Arc;
use support::*;

/// `tokens` at most, one each 100 ms.
fn limit(tokens: u32) -> LocalRateLimit {
    LocalRateLimit {
        max_tokens: tokens,
        tokens_per_fill: 1,
        fill_interval: ms(100),
        enabled: Fraction::ALWAYS,
        enforced: Fraction::ALWAYS,
        per_connection: false,
        status: 429,
    }
}

fn listener_with(limit: LocalRateLimit) -> Listener {
    let mut listener = listener();
    if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
        manager.local_rate_limit = Some(limit);
    }
    listener
}

fn world(of_listener: Option<LocalRateLimit>, of_route: Option<LocalRateLimit>) -> World {
    let limited = Route {
        local_rate_limit: of_route,
        ..route("/limited", RouteAction::Forward(to_c()))
    };
    let plain = route("/plain", RouteAction::Forward(to_c()));
    let mut w = World::with_routes(vec![limited, plain]);
    w.cluster(cluster(), vec![(1, 0)]);
    if let Some(limit) = of_listener {
        w.xds(XdsDelta::Listeners {
            upsert: vec![listener_with(limit).into()],
            remove: vec![],
        });
        w.input(Input::Opened(opened(0)));
    }
    w
}

fn statuses(w: &World, keys: &[u64]) -> Vec<u16> {
    keys.iter().map(|&k| w.log(k).status).collect()
}

#[test]
fn requests_without_a_token_are_refused() {
    let mut w = world(Some(limit(2)), None);
    let keys: Vec<u64> = [0, 10, 20, 99, 100, 101, 1000, 1001, 1002]
        .map(|at| w.get(at, "/plain"))
        .into();
    w.run(5000);
    assert_eq!(
        statuses(&w, &keys),
        [200, 200, 429, 429, 200, 429, 200, 200, 429]
    );
    let refused = w.outcome(keys[2]);
    assert_eq!(refused, (429, "RL".into(), "local_rate_limited".into(), 20));
    assert_eq!(w.response(keys[2]).1, "local_rate_limited");
    assert_eq!(w.response(keys[2]).0.headers.0.len(), 1);
    let type_ = w.header(keys[2], "content-type");
    assert_eq!(type_.as_deref(), Some("text/plain"));
    settled(&w, keys.len());
}

/// The filter comes before the router, so a request that no route takes needs a token too.
#[test]
fn routes_have_their_own_limit_instead() {
    let mut w = world(Some(limit(1)), Some(limit(2)));
    let keys: Vec<u64> = [
        "/limited", "/limited", "/limited", "/nowhere", "/plain", "/nowhere",
    ]
    .map(|path| w.get(10, path))
    .into();
    w.run(5000);
    assert_eq!(statuses(&w, &keys), [200, 200, 429, 404, 429, 429]);
}

#[test]
fn a_changed_table_has_full_buckets_and_the_same_one_has_not() {
    let table = |status| {
        let limited = Route {
            local_rate_limit: Some(limit(1)),
            ..route(
                "/",
                RouteAction::DirectResponse {
                    status,
                    body: "".into(),
                },
            )
        };
        let host = VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            routes: vec![limited.into()],
            ..VirtualHost::default()
        };
        XdsDelta::Routes {
            upsert: vec![Arc::new(RouteTable::new("t".into(), vec![host], true))],
            remove: vec![],
        }
    };
    let mut w = world(None, None);
    w.xds_at(1, table(204));
    w.xds_at(20, table(204));
    w.xds_at(40, table(205));
    let keys: Vec<u64> = [10, 11, 30, 50, 51].map(|at| w.get(at, "/")).into();
    w.run(1000);
    assert_eq!(statuses(&w, &keys), [204, 429, 429, 205, 429]);
}

#[test]
fn a_share_of_the_requests() {
    let part = LocalRateLimit {
        enabled: Fraction::ppm(600_000),
        enforced: Fraction::ppm(500_000),
        ..limit(0)
    };
    let mut w = world(Some(part), None);
    let keys: Vec<u64> = (0..2000).map(|n| w.get(n, "/plain")).collect();
    w.run(10_000);
    let refused = statuses(&w, &keys)
        .into_iter()
        .filter(|&s| s == 429)
        .count();
    // Five standard deviations of a binomial with mean 600.
    assert!((498..=702).contains(&refused), "{refused}");
}

/// Requests of `workers` workers in turn, all at once, over `connections` connections each.
fn refusals(limit: LocalRateLimit, workers: u32, connections: u32, requests: u32) -> usize {
    let identity = Identity::new(1, "p".into(), workers);
    let mut proxy = Proxy::new(&identity);
    let mut outs = Outs::new(workers);
    let answer = RouteAction::DirectResponse {
        status: 204,
        body: "".into(),
    };
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: vec![route("/", answer).into()],
        ..VirtualHost::default()
    };
    for delta in [
        XdsDelta::Routes {
            upsert: vec![RouteTable::new("t".into(), vec![host], true).into()],
            remove: vec![],
        },
        XdsDelta::Listeners {
            upsert: vec![listener_with(limit).into()],
            remove: vec![],
        },
    ] {
        let input = MainInput::Xds { delta, version: 1 };
        proxy.handle_main(Nanos::ZERO, input, &mut outs, None);
    }
    for worker in 0..workers {
        for connection in 0..connections {
            let input = Input::Opened(opened(connection));
            proxy.handle_worker(Nanos::ZERO, worker, input, &mut outs, None);
        }
    }
    for n in 0..requests {
        let worker = n % workers;
        let request = Input::Request {
            exchange: ExchangeId {
                index: n / workers,
                generation: 0,
            },
            downstream: downstream((n / workers) % connections),
            key: u64::from(n),
            head: Arc::new(head("/", &[])),
            ends: true,
        };
        proxy.handle_worker(Nanos::ZERO, worker, request, &mut outs, None);
    }
    let logs = outs.workers.iter().flat_map(|out| &out.logs);
    logs.filter(|log| log.status == 429).count()
}

#[test]
fn workers_share_a_bucket_and_connections_may_have_their_own() {
    assert_eq!(refusals(limit(3), 1, 1, 12), 9);
    assert_eq!(refusals(limit(3), 4, 1, 12), 9);
    assert_eq!(refusals(limit(3), 2, 3, 12), 9);
    let per_connection = LocalRateLimit {
        per_connection: true,
        ..limit(1)
    };
    assert_eq!(refusals(per_connection, 2, 3, 12), 6);
}
