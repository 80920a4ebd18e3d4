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
