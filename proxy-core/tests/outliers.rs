//! Outlier detection through the contract, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use support::*;

fn outlier(change: impl Fn(&mut OutlierDetection)) -> Cluster {
    let mut config = OutlierDetection {
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    change(&mut config);
    Cluster {
        outlier_detection: Some(config),
        ..cluster()
    }
}

fn ejections(world: &World) -> Vec<(u64, bool)> {
    world
        .changes
        .iter()
        .filter_map(|(at, change)| match change {
            StateChange::Ejected { .. } => Some((at.as_millis(), true)),
            StateChange::Unejected { .. } => Some((at.as_millis(), false)),
            _ => None,
        })
        .collect()
}

/// Base 1 s, interval 0.5 s: out from the fifth failure on, back at the first sweep a second later;
/// twice as long the next time, unless good sweeps in between took that back.
#[test]
fn consecutive_errors_eject_for_longer_each_time() {
    let mut w = World::of(
        outlier(|o| {
            o.base_ejection_time = ms(1000);
            o.interval = ms(500);
        }),
        1,
        to_c(),
    );
    w.behave(1, Behaviour::Status(500, 0));
    for n in 0..5 {
        w.get(3100 + n, "/");
        w.get(4600 + n, "/");
        w.get(9100 + n, "/");
    }
    let out = w.get(3200, "/");
    w.run(12_000);
    assert_eq!(
        ejections(&w),
        [
            (3104, true),
            (4500, false),
            (4604, true),
            (7000, false),
            (9104, true),
            (10_500, false)
        ]
    );
    assert_eq!(w.short(out), (503, "UH".into()));
    assert_eq!(w.log(out).attempts, 1, "a try without a host is one");
}

#[test]
fn defaults_never_eject_one_of_few() {
    let mut w = World::of(outlier(|o| o.max_ejection_percent = 10), 9, to_c());
    for n in 1..=9 {
        w.behave(n, Behaviour::Status(500, 0));
    }
    for n in 0..90 {
        w.get(n, "/");
    }
    w.run(5_000);
    assert_eq!(ejections(&w), []);
    let refused = |c: &&(Nanos, StateChange)| matches!(c.1, StateChange::EjectionOverflow { .. });
    assert_eq!(w.changes.iter().filter(refused).count(), 18);
}

#[test]
fn one_success_starts_the_count_afresh() {
    let mut w = World::of(outlier(|_| ()), 1, to_c());
    w.behave(1, Behaviour::Status(500, 0));
    w.behave_at(1040, 1, Behaviour::Status(404, 0));
    w.behave_at(1050, 1, Behaviour::Status(500, 0));
    for n in 0..9 {
        w.get(1001 + n * 10, "/"); // four failures, a success, four failures
    }
    w.run(5_000);
    assert_eq!(ejections(&w), []);
}

/// With split errors a connection that comes up is a success of the proxy's own.
#[test]
fn split_errors_count_connections() {
    let split = |o: &mut OutlierDetection| {
        o.split_external_local_origin_errors = true;
        o.consecutive_local_origin_failure = 2;
    };
    let mut hangups = World::of(outlier(split), 1, to_c());
    hangups.behave(1, Behaviour::Hangup(1));
    let mut refusals = World::of(outlier(split), 1, to_c());
    refusals.behave(1, Behaviour::Refuse(1));
    for n in 0..4 {
        hangups.get(2000 + n * 10, "/");
        refusals.get(2000 + n * 10, "/");
    }
    hangups.run(5_000);
    refusals.run(5_000);
    assert_eq!(ejections(&hangups), []);
    assert_eq!(ejections(&refusals), [(2011, true)]);
}

/// The status of a gRPC answer counts as what it stands for, and only for gRPC requests.
#[test]
fn grpc_answers_count_by_their_own_status() {
    for (content_type, ejected) in [("application/grpc", true), ("text/plain", false)] {
        let mut w = World::of(outlier(|o| o.consecutive_5xx = 3), 1, to_c());
        w.behave(1, Behaviour::Answer(200, 1, &[("grpc-status", "14")]));
        for n in 0..3 {
            w.request(2000 + n * 10, head("/", &[("content-type", content_type)]));
        }
        w.run(5000);
        assert_eq!(!ejections(&w).is_empty(), ejected, "{content_type}");
    }
}
