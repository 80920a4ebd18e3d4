//! The proxy on bytes is the same core: its journal replays, and repeats.
#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::journal::{ReplayError, replay};
use proxy_core::time::Nanos;
use proxy_core::xds::{Forward, Fraction, Mirror};
use std::time::Duration;
use support::*;

/// Two clients, two endpoints of which one fails now and then, a mirror, retries and a timeout.
fn eventful(seed: u64) -> String {
    let mut bench = Bench::new(seed);
    let (a, b, m) = (
        bench.address("a", 80),
        bench.address("b", 80),
        bench.address("m", 80),
    );
    bench.endpoint("a", |number, _| async move {
        match number % 3 {
            0 => status(503),
            1 => None,
            _ => ok(pattern(20_000)),
        }
    });
    bench.endpoint("b", |number, _| async move {
        let wait = if number % 4 == 3 { 400 } else { 3 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        ok("b")
    });
    bench.endpoint("m", |_, _| async { ok("m") });
    let mut forward = Forward::to("c".into());
    forward.timeout = Some(Nanos::from_millis(200));
    forward.retry = Some(retry(1));
    forward.mirrors = vec![Mirror {
        cluster: "m".into(),
        fraction: Fraction::ppm(500_000),
        shadow_suffix: true,
    }];
    let clusters = vec![cluster("c", &[a, b]), cluster("m", &[m])];
    bench.proxy(config(clusters, forward));
    let left = bench.run(async {
        let other = tokio::task::spawn_local(async {
            let mut client = Client::connect().await;
            for _ in 0..20 {
                client.get("/other").await;
            }
        });
        let mut client = Client::connect().await;
        for at in 0..20 {
            client.post("/one", pattern(at * 1000)).await;
        }
        other.await.unwrap();
    });
    assert_eq!(left.logs.borrow().len(), 40);
    left.journal()
}

#[test]
fn a_bare_core_gives_the_same_answers() {
    let coverage = replay(&eventful(1)).unwrap();
    assert!(coverage.entries > 200, "{}", coverage.entries);
    for input in ["RequestEnd", "ConnClosed", "ResponseEnd", "Tick", "Xds"] {
        assert!(coverage.inputs.contains(input), "{input}");
    }
    for action in [
        "Connect",
        "Send",
        "Cancel",
        "Respond",
        "Buffer",
        "CloseConn",
    ] {
        assert!(coverage.actions.contains(action), "{action}");
    }
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    let first = eventful(7);
    assert!(first == eventful(7));
}

#[test]
fn a_changed_journal_is_noticed() {
    let journal = eventful(1);
    let lines: Vec<&str> = journal.lines().collect();
    let at = lines.len() / 2;

    let mut dropped = lines.clone();
    dropped.remove(at);
    let found = replay(&dropped.join("\n")).unwrap_err();
    assert_eq!(
        found,
        ReplayError::Tampered {
            line: at as u64 + 1
        }
    );

    let mut changed: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
    changed[at] = changed[at].replacen("\"at\":", "\"at\":1", 1);
    assert_ne!(changed[at], lines[at]);
    let found = replay(&changed.join("\n")).unwrap_err();
    assert_eq!(
        found,
        ReplayError::Tampered {
            line: at as u64 + 1
        }
    );

    let cut = lines[..lines.len() - 1].join("\n");
    assert_eq!(replay(&cut).unwrap_err(), ReplayError::Truncated);

    let added = format!("{journal}{}\n", lines[at]);
    assert!(replay(&added).is_err(), "a line after the last one");
}
