//! The proxy's own answers through the contract, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use support::*;

#[test]
fn resets_have_their_own_answers() {
    let reset = |b: Behaviour| {
        let mut w = World::of(cluster(), 1, with_retry(retries(0, "")));
        w.behave(1, b);
        let r = w.get(0, "/");
        w.run(60_000);
        settled(&w, 1);
        let (status, flags, details, end) = w.outcome(r);
        (status, flags, details, w.response(r).1, end)
    };
    let want = |status, flag: &str, reason: &str, end| {
        let details = format!(
            "upstream_reset_before_response_started{{{}}}",
            reason.replace(' ', "_")
        );
        let body = format!("{RESET}reset reason: {reason}");
        (status, flag.to_owned(), details, body, end)
    };
    assert_eq!(
        reset(Behaviour::Refuse(2)),
        want(503, "UF", "remote connection failure", 2)
    );
    assert_eq!(
        reset(Behaviour::Blackhole),
        want(503, "UF", "connection timeout", 10_000)
    );
    assert_eq!(
        reset(Behaviour::Hangup(5)),
        want(503, "UC", "connection termination", 5)
    );
    for (reason, status, flag, text) in [
        (ResetReason::RemoteReset, 503, "UR", "remote reset"),
        (
            ResetReason::RefusedStream,
            503,
            "UR",
            "remote refused stream reset",
        ),
        (ResetReason::ProtocolError, 502, "UPE", "protocol error"),
    ] {
        assert_eq!(
            reset(Behaviour::Reset(reason, 5)),
            want(status, flag, text, 5)
        );
    }
}

#[test]
fn no_host_no_cluster_no_route() {
    let mut w = World::with_routes(vec![
        route("/c", RouteAction::Forward(to_c())),
        route("/d", RouteAction::Forward(Forward::to("d".into()))),
    ]);
    w.cluster(cluster(), vec![]);
    let all = [
        w.get(0, "/c"),
        w.get(0, "/d"),
        w.get(0, "/e"),
        w.get(0, "/c#f"),
    ];
    w.run(1000);
    for (r, status, flag, details, body) in [
        (
            all[0],
            503,
            "UH",
            "no_healthy_upstream",
            "no healthy upstream",
        ),
        (all[1], 503, "NC", "cluster_not_found", ""),
        (all[2], 404, "NR", "route_not_found", ""),
        (all[3], 400, "-", "path_normalization_failed", ""),
    ] {
        let (s, f, d, _) = w.outcome(r);
        assert_eq!((s, &*f, &*d), (status, flag, details));
        assert_eq!(w.response(r).1, body);
    }
    settled(&w, 4);
}

/// A cluster may go while its requests are under way: they finish, later ones find none.
#[test]
fn a_removed_cluster_finishes_what_it_has() {
    let mut w = World::of(cluster(), 1, to_c());
    w.behave(1, Behaviour::Status(200, 100));
    let before = w.get(0, "/");
    w.xds_at(
        50,
        XdsDelta::Clusters {
            upsert: vec![],
            remove: vec!["c".into()],
        },
    );
    let after = w.get(60, "/");
    w.run(1000);
    assert_eq!(w.short(before), (200, "-".into()));
    assert_eq!(w.short(after), (503, "NC".into()));
    let closed = |a: &&(Nanos, Action)| matches!(a.1, Action::CloseConn { .. });
    assert_eq!(w.actions.iter().filter(closed).count(), 1);
    settled(&w, 2);
}

/// Envoy 1.40's answers: the proxy's own replies to gRPC requests.
#[test]
fn answers_to_grpc() {
    let mut w = World::with_routes(vec![
        route("/c", RouteAction::Forward(to_c())),
        route("/d", RouteAction::Forward(Forward::to("d".into()))),
        route(
            "/tea",
            RouteAction::DirectResponse {
                status: 418,
                body: "50 %".into(),
            },
        ),
    ]);
    w.cluster(cluster(), vec![]);
    let grpc = [("content-type", "application/grpc")];
    let ask = |w: &mut World, path: &str| w.request(0, head(path, &grpc));
    let all = ["/c", "/d", "/e", "/c#f", "/tea"].map(|path| ask(&mut w, path));
    w.run(1000);
    for (r, flag, code, message) in [
        (all[0], "UH", "14", Some("no healthy upstream")),
        (all[1], "NC", "14", None),
        (all[2], "NR", "12", None),
        (all[3], "-", "13", None),
        (all[4], "-", "2", Some("50 %25")),
    ] {
        assert_eq!(w.short(r), (200, flag.into()));
        let type_ = w.header(r, "content-type");
        assert_eq!(type_.as_deref(), Some("application/grpc"));
        assert_eq!(w.header(r, "grpc-status").as_deref(), Some(code));
        assert_eq!(w.header(r, "grpc-message").as_deref(), message);
        assert_eq!(w.response(r).1, "");
    }
}

/// Envoy 1.40's answers.
#[test]
fn dropped_for_overload() {
    for (ppm, flag, header, body) in [
        (
            1_000_000,
            "UDO",
            "x-envoy-unconditional-drop-overload",
            "unconditional drop overload",
        ),
        (999_999, "DO", "x-envoy-drop-overload", "drop overload"),
    ] {
        let mut w = World::of(cluster(), 1, to_c());
        let mut dropping = assignment("c", vec![(1, 0)]);
        dropping.drop_overload_ppm = ppm;
        w.xds(XdsDelta::Endpoints {
            upsert: vec![dropping.into()],
        });
        let r = w.get(0, "/");
        w.run(1000);
        let details = body.replace(' ', "_");
        assert_eq!(w.outcome(r), (503, flag.into(), details, 0));
        assert_eq!(w.header(r, header).as_deref(), Some("true"));
        assert_eq!(w.response(r).1, body);
    }
    let mut w = World::of(cluster(), 1, to_c());
    let mut dropping = assignment("c", vec![(1, 0)]);
    dropping.drop_overload_ppm = 300_000;
    w.xds(XdsDelta::Endpoints {
        upsert: vec![dropping.into()],
    });
    let keys: Vec<u64> = (0..2000).map(|n| w.get(n, "/")).collect();
    w.run(10_000);
    let dropped = keys.iter().filter(|&&k| w.log(k).status == 503).count();
    // Five standard deviations of a binomial with mean 600.
    assert!((498..=702).contains(&dropped), "{dropped}");
}

/// The route's changes come before what the answer itself says, and after a redirect's location.
#[test]
fn answers_are_changed_like_responses() {
    let changes = |remove: &str| HeaderMutations {
        remove: vec![remove.into()],
        add: vec![HeaderValue {
            name: "x-added".into(),
            value: "1".into(),
            append: true,
        }],
    };
    let busy = Route {
        response_headers: changes("x-envoy-overloaded"),
        ..route("/busy", RouteAction::Forward(to_c()))
    };
    let redirect = Redirect {
        status: 302,
        scheme: None,
        host: Some("b".into()),
        port: None,
        path: RedirectPath::Keep,
    };
    let moved = Route {
        response_headers: changes("location"),
        ..route("/moved", RouteAction::Redirect(redirect))
    };
    let mut w = World::with_routes(vec![busy, moved]);
    w.cluster(breakers(|l| l.max_pending_requests = 0), vec![(1, 0)]);
    let (busy, moved) = (w.get(0, "/busy"), w.get(0, "/moved"));
    w.run(1000);
    assert_eq!(w.short(busy), (503, "UO".into()));
    assert_eq!(
        w.header(busy, "x-envoy-overloaded").as_deref(),
        Some("true")
    );
    assert_eq!(w.header(busy, "x-added").as_deref(), Some("1"));
    assert_eq!(w.short(moved), (302, "-".into()));
    assert_eq!(w.header(moved, "location"), None);
}

/// Envoy 1.40's answers.
#[test]
fn types_and_locations_of_direct_responses() {
    let direct = |prefix: &str, status, body: &str| {
        let body = body.into();
        route(prefix, RouteAction::DirectResponse { status, body })
    };
    let typed = |prefix: &str, body: &str| Route {
        response_headers: HeaderMutations {
            remove: vec![],
            add: vec![HeaderValue {
                name: "content-type".into(),
                value: "application/json".into(),
                append: false,
            }],
        },
        ..direct(prefix, 200, body)
    };
    let mut w = World::with_routes(vec![
        direct("/201", 201, "made"),
        direct("/302", 302, "there"),
        direct("/200", 200, "text"),
        direct("/204", 204, ""),
        typed("/typed", "{}"),
        typed("/bare", ""),
    ]);
    let (text, json) = (Some("text/plain"), Some("application/json"));
    let cases = [
        ("/201", "http", Some("http://a.example/201"), text),
        ("/201", "HTTPS", Some("https://a.example/201"), text),
        ("/201", "ftp", Some("http://a.example/201"), text),
        ("/302?x=1", "https", Some("https://a.example/302?x=1"), text),
        ("/200", "https", None, text),
        ("/204", "http", None, None),
        ("/typed", "http", None, json),
        ("/bare", "http", None, None),
    ];
    let ask = |(path, proto, ..): &(&str, &str, _, _)| {
        w.request(0, head(path, &[("x-forwarded-proto", proto)]))
    };
    let keys: Vec<u64> = cases.iter().map(ask).collect();
    w.run(10);
    for (key, (path, proto, location, type_)) in keys.into_iter().zip(cases) {
        let got = (w.header(key, "location"), w.header(key, "content-type"));
        let got = (got.0.as_deref(), got.1.as_deref());
        assert_eq!(got, (location, type_), "{path} {proto}");
    }
}
