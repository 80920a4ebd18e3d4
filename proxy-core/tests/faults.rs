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
