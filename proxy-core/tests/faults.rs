//! The fault filter through the contract, against what Envoy does.

mod support;

use proxy_core::xds::*;
use support::*;

fn faulty(delay_ppm: u32, abort_ppm: u32, forward: Forward) -> World {
    let mut route = route("/", RouteAction::Forward(forward));
    route.fault = Some(Fault {
        delay: Some(FaultDelay {
            fixed: ms(50),
            fraction_ppm: delay_ppm,
        }),
        abort: Some(FaultAbort {
            status: 418,
            grpc_status: None,
            fraction_ppm: abort_ppm,
        }),
        max_active_faults: None,
    });
    let mut world = World::with_routes(vec![route]);
    world.cluster(cluster(), vec![(1, 0)]);
    world
}

#[test]
fn faults_delay_then_abort() {
    let mut w = faulty(1_000_000, 1_000_000, to_c());
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(
        w.outcome(r),
        (418, "DI,FI".into(), "fault_filter_abort".into(), 50)
    );
    assert_eq!(w.response(r).1, "fault filter abort");
    settled(&w, 1);
}

#[test]
fn a_fault_delay_comes_before_the_route_timeout() {
    let forward = Forward {
        timeout: Some(ms(20)),
        ..to_c()
    };
    let mut w = faulty(1_000_000, 0, forward);
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.outcome(r).0, 200);
    assert_eq!(w.outcome(r).3, 51);
    assert_eq!(w.short(r).1, "DI");
}

#[test]
fn fault_percentages() {
    let mut w = faulty(0, 300_000, to_c());
    for n in 0..2000 {
        w.get(n, "/");
    }
    w.run(10_000);
    let aborted = w.logs.iter().filter(|l| l.1.status == 418).count();
    // Five standard deviations of a binomial with mean 600.
    assert!((498..=702).contains(&aborted), "{aborted}");
}

fn limited(delay_ppm: u32, abort_ppm: u32, max_active_faults: u32) -> World {
    let mut route = route("/", RouteAction::Forward(to_c()));
    route.fault = Some(Fault {
        delay: Some(FaultDelay {
            fixed: ms(50),
            fraction_ppm: delay_ppm,
        }),
        abort: Some(FaultAbort {
            status: 418,
            grpc_status: None,
            fraction_ppm: abort_ppm,
        }),
        max_active_faults: Some(max_active_faults),
    });
    let mut world = World::with_routes(vec![route]);
    world.cluster(cluster(), vec![(1, 0)]);
    world
}

/// Beyond the limit requests pass; a fault is active until its delay is over, and the abort after
/// the delay is not refused.
#[test]
fn so_many_faults_at_a_time() {
    let mut w = limited(1_000_000, 1_000_000, 1);
    let all = [w.get(0, "/"), w.get(20, "/"), w.get(50, "/")];
    w.run(1000);
    let outcomes = all.map(|r| w.short(r));
    let hit = (418, "DI,FI".to_owned());
    assert_eq!(outcomes, [hit.clone(), (200, "-".into()), hit]);

    let mut w = limited(0, 1_000_000, 0);
    let r = w.get(0, "/");
    w.run(1000);
    assert_eq!(w.short(r), (200, "-".into()));
}

/// Envoy 1.40's answers.
#[test]
fn aborts_of_grpc() {
    let grpc = [("content-type", "application/grpc")];
    for (grpc_status, headers, status, code) in [
        (None, &grpc[..], 200, Some("2")),
        (Some(7), &grpc[..], 200, Some("7")),
        (None, &[], 418, None),
        (Some(7), &[], 200, None),
    ] {
        let mut route = route("/", RouteAction::Forward(to_c()));
        route.fault = Some(Fault {
            delay: None,
            abort: Some(FaultAbort {
                status: 418,
                grpc_status,
                fraction_ppm: 1_000_000,
            }),
            max_active_faults: None,
        });
        let mut w = World::with_routes(vec![route]);
        let r = w.request(0, head("/", headers));
        w.run(1000);
        assert_eq!(w.short(r), (status, "FI".into()));
        assert_eq!(w.header(r, "grpc-status").as_deref(), code);
        let message = "fault filter abort";
        assert_eq!(
            w.header(r, "grpc-message").as_deref(),
            code.map(|_| message)
        );
        assert_eq!(w.response(r).1, if code.is_some() { "" } else { message });
    }
}

/// A redirect's header changes are for the redirect, not for the fault that came before it.
#[test]
fn aborts_of_redirects_are_left_as_they_are() {
    for (abort_ppm, status, marked) in [(1_000_000, 418, None), (0, 301, Some("yes".to_owned()))] {
        let action = RouteAction::Redirect(Redirect {
            status: 301,
            scheme: None,
            host: Some("b.example".into()),
            port: None,
            path: RedirectPath::Keep,
        });
        let mut route = route("/", action);
        route.fault = Some(Fault {
            delay: None,
            abort: Some(FaultAbort {
                status: 418,
                grpc_status: None,
                fraction_ppm: abort_ppm,
            }),
            max_active_faults: None,
        });
        route.response_headers.add.push(HeaderValue {
            name: "x-mark".into(),
            value: "yes".into(),
            append: true,
        });
        let mut w = World::with_routes(vec![route]);
        let r = w.get(0, "/");
        w.run(100);
        assert_eq!((w.log(r).status, w.header(r, "x-mark")), (status, marked));
    }
}
