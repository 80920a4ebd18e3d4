//! The Mixer filter through the contract: what it holds back, answers and reports.

mod support;

use proxy_core::contract::*;
use proxy_core::ids::{ClusterId, ExchangeId};
use proxy_core::xds::*;
use support::*;

fn mixer() -> Mixer {
    Mixer {
        check: true,
        report: true,
        attributes: vec![("destination.service".into(), "c.default".into())],
        ..Mixer::new("mixer_server".into())
    }
}

fn denied(code: u32, message: &str) -> Verdict {
    let message = message.into();
    Verdict::Denied { code, message }
}

/// A proxy with such a filter before a route to one host.
fn world(mixer: Mixer, says: Option<(u64, Verdict)>) -> World {
    let redirect = RouteAction::DirectResponse {
        status: 204,
        body: "".into(),
    };
    let mut w = World::with_routes(vec![
        route("/here", redirect),
        route("/", RouteAction::Forward(to_c())),
    ]);
    w.cluster(cluster(), vec![(1, 0)]);
    let mut listener = listener();
    if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
        manager.mixer = Some(mixer.into());
    }
    w.xds(XdsDelta::Listeners {
        upsert: vec![listener.into()],
        remove: vec![],
    });
    w.input(Input::Opened(opened(0)));
    w.mixer = says;
    w
}

/// When Mixer was asked, in ms.
fn asked(w: &World) -> Vec<u64> {
    let asks = w.actions.iter();
    let asks = asks.filter(|(_, action)| matches!(action, Action::Ask { .. }));
    asks.map(|(at, _)| at.as_millis()).collect()
}

/// When it was told, of which status and duration (ms).
fn reported(w: &World) -> Vec<(u64, u16, u64)> {
    let told = |(at, action): &(_, Action)| match action {
        Action::Report {
            status, duration, ..
        } => {
            let at: proxy_core::time::Nanos = *at;
            Some((at.as_millis(), *status, duration.as_millis()))
        }
        _ => None,
    };
    w.actions.iter().filter_map(told).collect()
}

#[test]
fn a_request_waits_for_the_verdict_and_its_response_is_reported() {
    let mut w = world(mixer(), Some((7, Verdict::Allowed)));
    let key = w.get(10, "/");
    w.run(1000);
    assert_eq!(asked(&w), [10]);
    assert_eq!(w.sent_to(1), [17]);
    assert_eq!(w.outcome(key), (200, "-".into(), "via_upstream".into(), 18));
    assert_eq!(reported(&w), [(18, 200, 8)]);
    let report = w.actions.iter().find_map(|(_, action)| match action {
        Action::Report {
            mixer,
            head,
            peer,
            cluster,
            ..
        } => Some((mixer, head, *peer, *cluster)),
        _ => None,
    });
    let (mixer, head, peer, cluster) = report.unwrap();
    assert_eq!(
        mixer.attribute("destination.service").unwrap(),
        &"c.default".into()
    );
    assert_eq!((&*head.path, peer), ("/", opened(0).peer));
    assert_eq!(cluster, Some(ClusterId(0)));
    settled(&w, 1);
}

#[test]
fn a_denied_request_is_answered_by_the_code_and_reported_too() {
    for (code, status) in [
        (7, 403),
        (8, 429),
        (14, 503),
        (5, 404),
        (16, 401),
        (3, 400),
        (2, 500),
    ] {
        let text = "CODE:Not allowed";
        let mut w = world(mixer(), Some((2, denied(code, text))));
        let key = w.get(0, "/");
        w.run(100);
        let details = format!("mixer_denied{{{code}}}");
        assert_eq!(w.outcome(key), (status, "-".into(), details, 2));
        assert_eq!(w.response(key).1, text);
        assert_eq!(w.sent.len(), 0);
        assert_eq!(reported(&w), [(2, status, 2)]);
        settled(&w, 1);
    }
}

/// The filter looks at the route's entry, which only routes that forward have.
#[test]
fn only_requests_that_a_route_forwards_are_asked_about() {
    let mut w = world(mixer(), Some((1, denied(7, "no"))));
    let here = w.get(0, "/here");
    w.run(100);
    assert_eq!(w.log(here).status, 204);
    assert_eq!((asked(&w).len(), reported(&w).len()), (0, 0));
}

#[test]
fn each_call_can_be_off() {
    let report_only = Mixer {
        check: false,
        ..mixer()
    };
    let mut w = world(report_only, Some((1, denied(7, "no"))));
    let key = w.get(0, "/");
    w.run(100);
    assert_eq!((w.log(key).status, asked(&w).len()), (200, 0));
    assert_eq!(reported(&w), [(1, 200, 1)]);

    let check_only = Mixer {
        report: false,
        ..mixer()
    };
    let mut w = world(check_only, Some((1, denied(7, "no"))));
    let key = w.get(0, "/");
    w.run(100);
    assert_eq!((w.log(key).status, reported(&w).len()), (403, 0));
}

#[test]
fn a_check_that_fails_or_takes_too_long_lets_the_request_go_on_unless_told_otherwise() {
    for (says, ends) in [(Some((3, Verdict::Failed)), 4), (None, 5001)] {
        let mut w = world(mixer(), says.clone());
        let key = w.get(0, "/");
        w.run(10_000);
        assert_eq!(
            w.outcome(key),
            (200, "-".into(), "via_upstream".into(), ends)
        );

        let closed = Mixer {
            fail_open: false,
            ..mixer()
        };
        let mut w = world(closed, says);
        let key = w.get(0, "/");
        w.run(10_000);
        let (status, _, details, at) = w.outcome(key);
        assert_eq!((status, &*details, at), (500, "mixer_denied{13}", ends - 1));
        settled(&w, 1);
    }
}

#[test]
fn answers_that_come_late_or_twice_change_nothing() {
    let quick = Mixer {
        timeout: ms(20),
        ..mixer()
    };
    let mut w = world(quick, None);
    let key = w.get(0, "/");
    let exchange = ExchangeId {
        index: 0,
        generation: 0,
    };
    w.behave(1, Behaviour::Status(200, 50));
    for at in [30, 40, 90] {
        let verdict = denied(7, "no");
        w.input_at(at, Input::Answered { exchange, verdict });
    }
    w.run(1000);
    assert_eq!(w.outcome(key), (200, "-".into(), "via_upstream".into(), 70));
    assert_eq!(w.sent_to(1), [20]);
    settled(&w, 1);
}

/// The client leaves while Mixer thinks: nothing is left of the exchange, and the report says 500.
#[test]
fn an_exchange_that_ends_while_mixer_is_asked_leaves_nothing() {
    let mut w = world(mixer(), Some((50, Verdict::Allowed)));
    let key = w.get(0, "/");
    let exchange = ExchangeId {
        index: 0,
        generation: 0,
    };
    w.input_at(10, Input::Cancelled { exchange });
    w.run(20_000);
    assert_eq!(w.short(key), (0, "DC".into()));
    assert_eq!((w.sent.len(), reported(&w)), (0, vec![(10, 500, 10)]));
    assert_eq!(w.proxy.worker(0).deadline(), None);
    settled(&w, 1);
}

/// Mixer comes before the fault filter: a delay begins with the verdict.
#[test]
fn faults_come_after_the_verdict() {
    let fault = Fault {
        delay: Some(FaultDelay {
            fixed: ms(100),
            fraction_ppm: 1_000_000,
        }),
        abort: None,
        max_active_faults: None,
    };
    let slow = Route {
        fault: Some(fault),
        ..route("/", RouteAction::Forward(to_c()))
    };
    let mut w = World::with_routes(vec![slow]);
    w.cluster(cluster(), vec![(1, 0)]);
    let mut listener = listener();
    if let NetworkFilter::Http(manager) = &mut listener.filter_chains[0].filter {
        manager.mixer = Some(mixer().into());
    }
    w.xds(XdsDelta::Listeners {
        upsert: vec![listener.into()],
        remove: vec![],
    });
    w.input(Input::Opened(opened(0)));
    w.mixer = Some((10, Verdict::Allowed));
    let key = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.sent_to(1), [110]);
    assert_eq!(w.short(key), (200, "DI".into()));
}
