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

fn bucket(tokens: u32, interval_ms: u64) -> TokenBucket {
    TokenBucket {
        max_tokens: tokens,
        tokens_per_fill: 1,
        fill_interval: ms(interval_ms),
    }
}

/// `tokens` at most, one each 100 ms.
fn limit(tokens: u32) -> LocalRateLimit {
    LocalRateLimit {
        bucket: Some(bucket(tokens, 100)),
        enabled: Fraction::ALWAYS,
        enforced: Fraction::ALWAYS,
        ..LocalRateLimit::default()
    }
}

fn listener_with(limits: Vec<(FilterPlace, LocalRateLimit)>) -> Listener {
    let mut listener = listener();
    if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
        let filters = limits.into_iter();
        let filters = filters.map(|(place, config)| LocalRateLimitFilter {
            place,
            config: config.into(),
        });
        manager.local_rate_limits = filters.collect();
    }
    listener
}

fn at_the_end(limit: LocalRateLimit) -> Listener {
    listener_with(vec![(FilterPlace::BeforeRouter, limit)])
}

fn take_over(w: &mut World, listener: Listener) {
    w.xds(XdsDelta::Listeners {
        upsert: vec![listener.into()],
        remove: vec![],
    });
    w.input(Input::Opened(opened(0)));
}

/// A filter without a limit of its own, unless it is given one.
fn world(of_listener: Option<LocalRateLimit>, of_route: Option<LocalRateLimit>) -> World {
    let limited = Route {
        local_rate_limit: of_route.map(Arc::new),
        ..route("/limited", RouteAction::Forward(to_c()))
    };
    let plain = route("/plain", RouteAction::Forward(to_c()));
    let mut w = World::with_routes(vec![limited, plain]);
    w.cluster(cluster(), vec![(1, 0)]);
    take_over(&mut w, at_the_end(of_listener.unwrap_or_default()));
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
            local_rate_limit: Some(limit(1).into()),
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

#[test]
fn without_the_filter_a_limit_of_a_route_is_nothing() {
    let mut w = world(None, Some(limit(1)));
    take_over(&mut w, listener_with(vec![]));
    let keys: Vec<u64> = [10, 11].map(|at| w.get(at, "/limited")).into();
    w.run(1000);
    assert_eq!(statuses(&w, &keys), [200, 200]);
}

#[test]
fn a_virtual_host_has_a_limit_for_the_routes_without_one() {
    let mut w = World::bare();
    let answer = RouteAction::DirectResponse {
        status: 204,
        body: "".into(),
    };
    let own = Route {
        local_rate_limit: Some(limit(2).into()),
        ..route("/own", answer.clone())
    };
    w.table(vec![VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: vec![
            own.into(),
            route("/a", answer.clone()).into(),
            route("/b", answer).into(),
        ],
        local_rate_limit: Some(limit(1).into()),
        ..VirtualHost::default()
    }]);
    take_over(&mut w, at_the_end(limit(9)));
    let keys: Vec<u64> = ["/own", "/own", "/own", "/a", "/b"]
        .map(|path| w.get(10, path))
        .into();
    w.run(1000);
    assert_eq!(statuses(&w, &keys), [204, 204, 429, 204, 429]);
}

/// Two filters: what the first lets pass needs a token of the second too.
#[test]
fn filters_stand_in_a_row_and_before_others() {
    let mut fails = route("/plain", RouteAction::Forward(to_c()));
    fails.fault = Some(Fault {
        delay: None,
        abort: Some(FaultAbort {
            status: 418,
            grpc_status: None,
            fraction_ppm: 1_000_000,
        }),
        max_active_faults: None,
    });
    let outcomes = |first, second| {
        let mut w = World::with_routes(vec![fails.clone()]);
        let limits = vec![(first, limit(2)), (second, limit(1))];
        take_over(&mut w, listener_with(limits));
        let keys: Vec<u64> = [10, 11, 12].map(|at| w.get(at, "/plain")).into();
        w.run(1000);
        statuses(&w, &keys)
    };
    let (before, after) = (FilterPlace::BeforeFault, FilterPlace::BeforeCors);
    assert_eq!(outcomes(before, before), [418, 429, 429]);
    assert_eq!(outcomes(FilterPlace::First, after), [418, 418, 429]);
    assert_eq!(outcomes(after, FilterPlace::BeforeRouter), [418, 418, 418]);
}

#[test]
fn a_refusal_says_what_it_is_told_to() {
    let header = |name: &str, value: &str| HeaderValue {
        name: name.into(),
        value: value.into(),
        append: false,
    };
    let told = LocalRateLimit {
        bucket: Some(bucket(1, 60_000)),
        status: 503,
        resource_exhausted: true,
        x_ratelimit_headers: true,
        response_headers: HeaderMutations {
            remove: vec![],
            add: vec![header("x-l", "%REQ(x-a)%t"), header("content-type", "zz")],
        },
        ..limit(0)
    };
    let mut w = world(Some(told), None);
    let grpc = [("content-type", "application/grpc"), ("x-a", "g")];
    let keys = [
        w.get(10, "/plain"),
        w.request(20, head("/plain", &[("x-a", "v")])),
        w.request(30, head("/plain", &grpc)),
    ];
    w.run(1000);
    assert_eq!(statuses(&w, &keys), [200, 503, 200]);
    let told = |key, names: &[&str]| -> Vec<String> {
        let value = |name: &&str| w.header(key, name).unwrap_or_default();
        names.iter().map(value).collect()
    };
    let limits = [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ];
    for key in keys {
        assert_eq!(told(key, &limits), ["1", "0", "60"]);
    }
    assert_eq!(told(keys[0], &["x-l"]), [""]);
    assert_eq!(told(keys[1], &["x-l", "content-type"]), ["vt", "zz"]);
    assert_eq!(told(keys[2], &["x-l", "grpc-status"]), ["gt", "8"]);
}

#[test]
fn a_refusal_before_the_cors_filter_goes_without_its_headers() {
    let headers = |place| {
        let mut shared = route("/plain", RouteAction::Forward(to_c()));
        shared.cors = Some(Arc::new(CorsPolicy {
            allow_origins: vec![StringMatch::Exact("*".into())],
            ..CorsPolicy::default()
        }));
        let mut w = World::with_routes(vec![shared]);
        take_over(&mut w, listener_with(vec![(place, limit(0))]));
        let key = w.request(10, head("/plain", &[("origin", "http://a")]));
        w.run(1000);
        assert_eq!(statuses(&w, &[key]), [429]);
        w.header(key, "access-control-allow-origin")
    };
    assert_eq!(headers(FilterPlace::BeforeCors), None);
    let told = headers(FilterPlace::BeforeRouter);
    assert_eq!(told.as_deref(), Some("http://a"));
}

/// As in Envoy 1.40.
#[test]
fn a_bucket_that_is_never_filled_has_nothing_to_tell() {
    let silent = LocalRateLimit {
        x_ratelimit_headers: true,
        ..limit(0)
    };
    let mut w = world(Some(silent), None);
    let key = w.get(10, "/plain");
    w.run(1000);
    assert_eq!(statuses(&w, &[key]), [429]);
    assert_eq!(w.header(key, "x-ratelimit-limit"), None);
}

/// What a real Envoy 1.40 answered.
#[test]
fn descriptors_have_buckets_of_their_own() {
    let descriptor = |entries: &[(&str, &str)], bucket| RateLimitDescriptor {
        entries: entries
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        bucket,
    };
    let header_match = |value: &str, prefix: &str| RateLimitAction::HeaderValueMatch {
        key: "header_match".into(),
        value: value.into(),
        headers: vec![HeaderMatch {
            name: ":path".into(),
            value: ValueMatch::String(StringMatch::Prefix(prefix.into())),
            invert: false,
            treat_missing_as_empty: false,
        }],
        expect_match: true,
    };
    let x_and_y = vec![
        RateLimitAction::RequestHeader {
            header: "x".into(),
            key: "x".into(),
            skip_if_absent: false,
        },
        RateLimitAction::GenericKey {
            key: "y".into(),
            value: "q".into(),
        },
    ];
    let peer = opened(0).peer.ip().to_string();
    let descriptors = vec![
        descriptor(&[("remote_address", &peer)], bucket(2, 30_000)),
        descriptor(&[("header_match", "a")], bucket(1, 60_000)),
        descriptor(&[("x", "1"), ("y", "q")], bucket(1, 10_000)),
    ];
    let limit_of = |always, tokens| LocalRateLimit {
        descriptors: descriptors.clone(),
        bucket: Some(bucket(tokens, 60_000)),
        always_consume_default_bucket: always,
        ..limit(0)
    };
    let outcomes = |limit, actions: Vec<RateLimitActions>, requests: &[(&str, &str)]| {
        let forward = Forward {
            rate_limits: actions,
            ..to_c()
        };
        let mut w = World::with_routes(vec![route("/", RouteAction::Forward(forward))]);
        w.cluster(cluster(), vec![(1, 0)]);
        take_over(&mut w, at_the_end(limit));
        let requests = requests.iter();
        let keys: Vec<u64> = requests
            .map(|(path, x)| w.request(10, head(path, &[("x", x)])))
            .collect();
        w.run(1000);
        statuses(&w, &keys)
    };
    let all = vec![
        vec![header_match("a", "/a")],
        vec![RateLimitAction::RemoteAddress],
        x_and_y.clone(),
    ];
    // The slowest first: the second request takes nothing of the address's bucket.
    let paths = [("/a", ""), ("/a", ""), ("/b", ""), ("/b", "")];
    let answers = outcomes(limit_of(true, 100), all, &paths);
    assert_eq!(answers, [200, 429, 200, 429]);
    // Of several entries all must be as stated.
    let xs = [("/", "1"), ("/", "2"), ("/", "1"), ("/", "2")];
    let answers = outcomes(limit_of(true, 100), vec![x_and_y.clone()], &xs);
    assert_eq!(answers, [200, 200, 429, 200]);
    // The bucket for all is taken from as well, unless that is turned off.
    let xs = [("/", "1"), ("/", "2")];
    let answers = outcomes(limit_of(true, 1), vec![x_and_y.clone()], &xs);
    assert_eq!(answers, [200, 429]);
    let answers = outcomes(limit_of(false, 1), vec![x_and_y], &xs);
    assert_eq!(answers, [200, 200]);
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
            upsert: vec![at_the_end(limit).into()],
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
