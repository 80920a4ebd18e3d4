//! Matching, rewriting and local answers through the contract.

mod support;

use proxy_core::xds::*;
use support::*;

fn exact(text: &str) -> ValueMatch {
    ValueMatch::String(StringMatch::Exact(text.into()))
}

fn direct(status: u16, matches: RouteMatch) -> Route {
    let body = "".into();
    Route {
        matches,
        ..route("/", RouteAction::DirectResponse { status, body })
    }
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        ..RouteMatch::default()
    }
}

fn header(name: &str, value: ValueMatch, invert: bool, missing_empty: bool) -> RouteMatch {
    RouteMatch {
        headers: vec![HeaderMatch {
            name: name.into(),
            value,
            invert,
            treat_missing_as_empty: missing_empty,
        }],
        ..RouteMatch::default()
    }
}

fn status_of(routes: Vec<Route>, head: proxy_core::head::RequestHead) -> u16 {
    let mut w = World::with_routes(routes);
    let r = w.request(0, head);
    w.run(1);
    w.log(r).status
}

#[test]
fn first_match_wins_and_regexes_match_the_whole_path() {
    let routes = || {
        vec![
            direct(201, on(PathMatch::Exact("/exact".into()))),
            direct(202, on(PathMatch::SeparatedPrefix("/sep".into()))),
            direct(203, on(PathMatch::Regex(Regex::new("/v[0-9]+").unwrap()))),
            direct(204, on(PathMatch::Prefix("/pre".into()))),
            direct(205, on(PathMatch::Prefix("/".into()))),
        ]
    };
    for (path, want) in [
        ("/exact", 201),
        ("/exact?x", 201),
        ("/exact/", 205),
        ("/sep/a", 202),
        ("/separate", 205),
        ("/v12?q", 203),
        ("/v12/a", 205),
        ("/prefix", 204),
        ("/a/../exact", 201),
        ("/%65xact", 201),
    ] {
        assert_eq!(status_of(routes(), head(path, &[])), want, "{path}");
    }
}

#[test]
fn a_missing_header_never_matches_unless_it_counts_as_empty() {
    let by = |invert, empty| {
        vec![
            direct(201, header("x", exact("a"), invert, empty)),
            direct(202, RouteMatch::default()),
        ]
    };
    let present = || head("/", &[("x", "a")]);
    let other = || head("/", &[("x", "b")]);
    let missing = || head("/", &[]);
    for (invert, empty, request, want) in [
        (false, false, present(), 201),
        (false, false, other(), 202),
        (false, false, missing(), 202),
        (true, false, present(), 202),
        (true, false, other(), 201),
        (true, false, missing(), 202),
        (true, true, missing(), 201),
        (true, true, present(), 202),
    ] {
        let got = status_of(by(invert, empty), request.clone());
        assert_eq!(got, want, "invert {invert} empty {empty} {request:?}");
    }
}

#[test]
fn the_most_specific_domain_wins() {
    let host = |name: &str, domain: &str, status| VirtualHost {
        name: name.into(),
        domains: vec![domain.into()],
        routes: vec![direct(status, RouteMatch::default()).into()],
        ..VirtualHost::default()
    };
    let mut w = World::bare();
    w.table(vec![
        host("any", "*", 201),
        host("prefix", "a.*", 202),
        host("suffix", "*.example", 203),
        host("exact", "a.example", 204),
    ]);
    let mut keys = vec![];
    for authority in ["x", "a.org", "b.example", "A.example:81"] {
        let mut request = head("/", &[]);
        request.authority = authority.into();
        keys.push(w.request(0, request));
    }
    w.run(1);
    let statuses: Vec<u16> = keys.iter().map(|&k| w.log(k).status).collect();
    assert_eq!(statuses, [201, 202, 203, 204]);
}

#[test]
fn redirects_and_rewrites() {
    let redirect = RouteAction::Redirect(Redirect {
        status: 301,
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: RedirectPath::Prefix("/new".into()),
    });
    let forward = Forward {
        path_rewrite: PathRewrite::Prefix("/in".into()),
        host_rewrite: Some("in.example".into()),
        ..to_c()
    };
    let mut w = World::with_routes(vec![
        route("/old", redirect),
        route("/out", RouteAction::Forward(forward)),
    ]);
    w.cluster(cluster(), vec![(1, 0)]);
    let redirected = w.get(0, "/old/x?q=1");
    w.get(1, "/out/x?q=1");
    w.run(100);
    assert_eq!(w.outcome(redirected).2, "direct_response");
    let location = w.response(redirected).0.headers.get("location");
    assert_eq!(location, Some(&b"https://a.example/new/x?q=1"[..]));
    let sent = &w.sent[0].3;
    assert_eq!((&*sent.path, &*sent.authority), ("/in/x?q=1", "in.example"));
}

/// Header values about the request in the answer to one for which there is no host: by then the
/// request is as it would have been sent.
#[test]
fn without_a_host_values_are_of_the_request_to_be_sent() {
    let removed: Vec<std::sync::Arc<str>> = vec!["x-user".into()];
    for (remove, want) in [(removed, None), (vec![], Some("me"))] {
        for hosts in [vec![], vec![(1, 0)]] {
            let route = Route {
                request_headers: HeaderMutations {
                    remove: remove.clone(),
                    add: vec![],
                },
                response_headers: add("x-was", "%REQ(x-user)%"),
                ..route("/", RouteAction::Forward(to_c()))
            };
            let mut w = World::with_routes(vec![route]);
            w.cluster(cluster(), hosts);
            let r = w.request(0, head("/", &[("x-user", "me")]));
            w.run(100);
            assert_eq!(w.header(r, "x-was").as_deref(), want);
        }
    }
}

/// Envoy's one value per stream: weights are exact functions of it, and a fault's answer already
/// carries the changes of the entry it chose.
#[test]
fn the_chosen_weighted_entry_shapes_local_answers_too() {
    let entry = |name: &str| WeightedCluster {
        response_headers: HeaderMutations {
            remove: vec![],
            add: vec![HeaderValue {
                name: "x-entry".into(),
                value: name.into(),
                append: false,
            }],
        },
        ..WeightedCluster::new(name.into(), 50)
    };
    let forward = |fault| {
        let forward = Forward {
            clusters: vec![entry("a"), entry("b")],
            ..to_c()
        };
        Route {
            fault,
            ..route("/", RouteAction::Forward(forward))
        }
    };
    let abort = Fault {
        delay: None,
        abort: Some(FaultAbort {
            status: 500,
            grpc_status: None,
            fraction_ppm: 1_000_000,
        }),
        max_active_faults: None,
    };
    let entries = |fault| -> Vec<Vec<u8>> {
        let mut w = World::with_routes(vec![forward(fault)]);
        let keys: Vec<u64> = (0..40).map(|n| w.get(n, "/")).collect();
        w.run(1000);
        keys.iter()
            .map(|&k| w.response(k).0.headers.get("x-entry").unwrap().to_vec())
            .collect()
    };
    let (unknown, aborted) = (entries(None), entries(Some(abort)));
    assert_eq!(unknown, aborted);
    assert!(unknown.contains(&b"a".to_vec()) && unknown.contains(&b"b".to_vec()));
}

/// K8: one value decides about the route's fraction and about its clusters.
#[test]
fn a_fraction_and_weights_of_one_value() {
    let halves = Forward {
        clusters: vec![
            WeightedCluster::new("a".into(), 50),
            WeightedCluster::new("b".into(), 50),
        ],
        ..to_c()
    };
    let mut half = route("/", RouteAction::Forward(halves));
    half.matches.fraction = Some(Fraction {
        numerator: 50,
        denominator: 100,
    });
    let rest = direct(204, on(PathMatch::Prefix("/".into())));
    let mut w = World::with_routes(vec![half, rest]);
    let keys: Vec<u64> = (0..400)
        .map(|n| {
            let mut same = head("/", &[]);
            same.id = Some(proxy_core::ids::HeadId(0));
            w.request(n, same)
        })
        .collect();
    w.run(1000);
    let matched = keys.iter().filter(|&&k| w.log(k).status == 503);
    // Five standard deviations of a binomial with mean 200.
    assert!((150..=250).contains(&matched.clone().count()));
    assert!(matched.clone().all(|&k| w.log(k).weighted_choice == 0));
    assert!(keys.iter().any(|&k| w.log(k).status == 204));
}

/// Envoy 1.40's answers.
#[test]
fn escaped_slashes_lead_elsewhere() {
    for (action, status, location) in [
        (EscapedSlashes::Reject, 400, None),
        (EscapedSlashes::UnescapeAndRedirect, 307, Some("/b?c=%2F")),
        (EscapedSlashes::UnescapeAndForward, 203, None),
        (EscapedSlashes::Keep, 202, None),
    ] {
        let mut w = World::with_routes(vec![
            direct(203, on(PathMatch::Exact("/b".into()))),
            direct(202, on(PathMatch::Prefix("/".into()))),
        ]);
        let mut listener = listener();
        if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
            manager.escaped_slashes = action;
        }
        w.xds(XdsDelta::Listeners {
            upsert: vec![listener.into()],
            remove: vec![],
        });
        w.input(proxy_core::contract::Input::Opened(opened(0)));
        let r = w.get(0, "/a/..%2Fb?c=%2F");
        w.run(10);
        assert_eq!(w.log(r).status, status, "{action:?}");
        assert_eq!(w.header(r, "location").as_deref(), location);
        if status == 307 || status == 400 {
            assert_eq!(w.outcome(r).2, "path_normalization_failed");
        }
    }
}

/// Envoy 1.40's answers: the host is kept as it is, port and all.
#[test]
fn plain_text_is_sent_to_tls() {
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        require_tls: true,
        response_headers: add("x-vh", "1"),
        ..VirtualHost::default()
    };
    let mut w = World::bare();
    w.table(vec![host]);
    let keys = ["a", "a:80", "a:99"].map(|authority| {
        let mut request = head("/x?q", &[]);
        request.authority = authority.into();
        w.request(0, request)
    });
    w.run(10);
    for (key, want) in
        keys.into_iter()
            .zip(["https://a/x?q", "https://a:80/x?q", "https://a:99/x?q"])
    {
        let (head, body) = w.response(key);
        assert_eq!((head.status, &*body, head.headers.0.len()), (301, "", 1));
        assert_eq!(w.header(key, "location").as_deref(), Some(want));
    }
}

fn add(name: &str, value: &str) -> HeaderMutations {
    HeaderMutations {
        remove: vec![],
        add: vec![HeaderValue {
            name: name.into(),
            value: value.into(),
            append: true,
        }],
    }
}

/// Requests with the same head by different connections are told apart where a value names the
/// connection.
#[test]
fn header_values_tell_of_the_request_and_its_connection() {
    let route = Route {
        request_headers: add("x-from", "%DOWNSTREAM_REMOTE_PORT%"),
        response_headers: add("x-was", "%REQ(:path)% %RESPONSE_CODE% %REQ(x-from)%"),
        ..route("/", RouteAction::Forward(to_c()))
    };
    let mut w = World::with_routes(vec![route]);
    w.cluster(cluster(), vec![(1, 0)]);
    let same = || {
        let mut same = head("/a", &[]);
        same.id = Some(proxy_core::ids::HeadId(0));
        same
    };
    let first = w.request(0, same());
    w.run(50);
    let mut other = opened(0);
    other.peer.set_port(99);
    w.input(proxy_core::contract::Input::Opened(other));
    let second = w.request(100, same());
    w.run(200);
    for (key, want) in [(first, "/a 200 35690"), (second, "/a 200 99")] {
        assert_eq!(w.header(key, "x-was").as_deref(), Some(want));
    }
}

#[test]
fn tables_with_header_values_that_cannot_be_answered_are_refused() {
    for (value, why) in [
        ("%REQ(a?b?c)%", "%REQ(a?b?c)% has more than one alternative"),
        (
            "100%",
            "no operator begins at `%`; a percent sign is written %%",
        ),
        ("%START_TIME%", "%START_TIME% is not supported"),
    ] {
        let mut w = World::bare();
        let host = VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            request_headers: add("x-a", value),
            ..VirtualHost::default()
        };
        let table = RouteTable::new("t".into(), vec![host], true);
        w.xds(XdsDelta::Routes {
            upsert: vec![table.into()],
            remove: vec![],
        });
        let Some((_, proxy_core::contract::Action::Nack { reason, .. })) = w.actions.last() else {
            panic!("{value} was taken over");
        };
        let want = format!("route table t: virtual host v: value of header x-a: {why}");
        assert!(reason.starts_with(&want), "{reason}");
    }
}
