//! What a scenario file says, as it is read.

#![allow(clippy::unwrap_used)]

use proxy_core::time::Nanos;
use scenarios::model::*;
use source::{Diagnostic, SourceFile, render};
use std::path::Path;

const EVERYTHING: &str = include_str!("scenarios/everything.yaml");

fn set(sets: &[(&str, &str)]) -> (Option<Scenario>, Vec<Diagnostic>) {
    let file = SourceFile::new("scenario.yaml", EVERYTHING);
    let sets: Vec<_> = sets
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(&file, Path::new("folder"), &sets, &mut diagnostics);
    (scenario, diagnostics)
}

fn everything() -> Scenario {
    let (scenario, diagnostics) = set(&[]);
    assert_eq!(render(&diagnostics, false), "");
    scenario.unwrap()
}

fn millis(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

#[test]
fn the_frame() {
    let scenario = everything();
    assert_eq!(scenario.name, "bookinfo-canary");
    assert_eq!(scenario.istio.unwrap().text, "1.32");
    assert_eq!(
        (scenario.duration, scenario.warmup, scenario.seed),
        (Nanos::from_secs(180), Nanos::from_secs(10), 1)
    );
    assert_eq!(scenario.folder, Path::new("folder"));
    assert_eq!(
        scenario.topology.manifests[1].text,
        "kubernetes/ingressgateway.yaml"
    );
    let [reviews, api] = &scenario.topology.services[..] else {
        panic!()
    };
    let versions = [("v1", 1), ("v2", 2), ("v3", 3)].map(|(v, n)| (v.to_owned(), n));
    assert_eq!(reviews.versions, versions);
    assert_eq!(reviews.locality.as_deref(), Some("r/z"));
    assert_eq!(api.versions, [(String::new(), 1)]);
    assert_eq!(
        (api.protocol.as_str(), api.proxy, api.namespace.as_str()),
        ("http", ProxyKind::Sidecar, "default")
    );
    assert!(matches!(
        &scenario.config[..],
        [ConfigSource::Path(_), ConfigSource::Inline(_)]
    ));
    assert_eq!(
        scenario.network.default.latency,
        Distribution::Constant(Nanos::from_micros(250))
    );
    assert_eq!(
        scenario.network.links[0].2.latency,
        Distribution::Lognormal {
            p50: millis(20),
            p99: millis(40)
        }
    );
}

#[test]
fn behavior() {
    let behavior = everything().behavior;
    assert_eq!(behavior.default.workers, Some(32));
    let (name, page) = &behavior.workloads[0];
    assert_eq!(name.text, "productpage-v1");
    assert_eq!((name.span.line(), name.span.column()), (21, 3));
    assert_eq!(page.queue_limit, Some(Some(100)));
    assert_eq!(page.asynchronous, Some(true));
    assert_eq!(page.script.respond, Some(vec![(500, 400_000)]));
    let steps = page.script.calls.as_ref().unwrap();
    assert_eq!(
        steps
            .iter()
            .map(|step| step.calls.len())
            .collect::<Vec<_>>(),
        [1, 1, 2]
    );
    let call = &steps[1].calls[0];
    assert_eq!(
        (call.host.as_str(), call.port, call.path.as_str()),
        ("reviews", 9080, "/reviews/0")
    );
    assert_eq!(
        (call.on_error, call.probability_ppm),
        (OnError::Degrade, 500_000)
    );
    assert_eq!(steps[2].calls[1].path, "/ratings/0?x=y");
    assert_eq!(steps[2].calls[1].method, "POST");
    assert_eq!(page.handlers[0].1.calls, Some(vec![]));
    assert_eq!(behavior.workloads[1].1.queue_limit, Some(None));
    assert_eq!(behavior.external[0].0.text, "api.example.com");
    let time = |at: usize| {
        behavior.workloads[at]
            .1
            .script
            .service_time
            .clone()
            .unwrap()
    };
    assert_eq!(time(1), Distribution::Exponential { mean: millis(3) });
    assert_eq!(
        time(2),
        Distribution::Gamma {
            mean: millis(3),
            scv: 4.0
        }
    );
    assert_eq!(
        time(3),
        Distribution::Quantiles(vec![(0.0, millis(1)), (0.5, millis(2)), (1.0, millis(9))])
    );
    assert_eq!(time(4), Distribution::Samples(vec![millis(1), millis(2)]));
}

#[test]
fn traffic() {
    let traffic = everything().traffic;
    let [web, steps, people] = &traffic[..] else {
        panic!()
    };
    assert_eq!(
        (web.authority.as_str(), web.port, web.path.as_str()),
        ("bookinfo.example", 80, "/productpage")
    );
    assert_eq!(web.headers, [("x-client".to_owned(), "web".to_owned())]);
    assert_eq!(
        web.mix.iter().map(|(share, _)| *share).collect::<Vec<_>>(),
        [50_000, 950_000]
    );
    assert_eq!(web.mix[0].1.path.as_deref(), Some("/x"));
    assert!(matches!(&web.origin, Origin::Via(name) if name.text == "istio-ingressgateway"));
    let Load::Open {
        rate,
        arrivals: ArrivalSpacing::Poisson,
    } = &steps.load
    else {
        panic!()
    };
    let ramp = RatePoint {
        at: Nanos::from_secs(60),
        per_s: 400.0,
        ramp: true,
    };
    assert_eq!(rate[1], ramp);
    assert!(matches!(&steps.origin, Origin::From(name) if name.text == "productpage-v1"));
    assert_eq!(
        (people.scheme.as_str(), people.port, people.path.as_str()),
        ("https", 443, "/")
    );
    assert_eq!(
        people.load,
        Load::Closed {
            users: 20,
            think: Distribution::Constant(millis(1000))
        }
    );
    assert_eq!(people.origin, Origin::Direct);
}

#[test]
fn the_timeline_is_in_order_of_time() {
    let timeline = everything().timeline;
    let names: Vec<&str> = timeline
        .iter()
        .map(|event| event.name.text.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "canary", "inline", "inlines", "breaks", "gone", "gone-too", "patched", "more",
            "crash", "surge", "crowd", "rollback", "back", "drained", "cut", "whole", "outage",
            "over", "blip", "stale", "slow", "blind", "deaf", "seeing",
        ]
    );
    let Happening::Apply(ConfigSource::Inline(list)) = &timeline[2].what else {
        panic!()
    };
    assert_eq!(
        list.at(&["kind"]).and_then(|kind| kind.as_str()),
        Some("List")
    );
    assert_eq!(
        list.at(&["items"])
            .and_then(|items| items.as_seq())
            .map(<[_]>::len),
        Some(2)
    );
    let Happening::Behave {
        pods,
        change,
        lasts,
        ..
    } = &timeline[3].what
    else {
        panic!()
    };
    assert_eq!(
        (*pods, change.slower_by, *lasts),
        (Pods::First(1), Some(10.0), Some(Nanos::from_secs(30)))
    );
    assert!(matches!(
        &timeline[12].what,
        Happening::Restart {
            pods: Pods::Ordinal(0),
            ..
        }
    ));
}

#[test]
fn expectations() {
    let expect = everything().expect;
    let first = &expect[0];
    assert_eq!(
        first.text,
        "traffic: web, success_rate: {at_least: 99.9%}, during: start..breaks"
    );
    assert_eq!(first.span.line(), 78);
    assert_eq!(
        first.bound,
        Bound {
            at_least: Some(0.999),
            at_most: None
        }
    );
    assert_eq!(
        first.during.from,
        Point {
            anchor: Anchor::Start,
            offset_ns: 0
        }
    );
    let share = &expect[1];
    assert!(matches!(&share.metric, Metric::ShareOf(name) if name.text == "v3"));
    assert_eq!(
        share.bound,
        Bound {
            at_least: Some(0.09),
            at_most: Some(0.11)
        }
    );
    assert_eq!(share.during.from.offset_ns, 2_000_000_000);
    assert_eq!(expect[3].bound.at_most, Some(400.0));
    assert_eq!(
        expect[3].during.to,
        Point {
            anchor: Anchor::End,
            offset_ns: 0
        }
    );
    assert_eq!(expect[4].metric, Metric::CodeShare(503));
    assert_eq!(
        expect[4].during.from,
        Point {
            anchor: Anchor::RunStart,
            offset_ns: 10_000_000_000
        }
    );
    let window = &expect[5].during;
    assert!(matches!(&window.from.anchor, Anchor::Event(name) if name.text == "gone-too"));
    assert_eq!(
        (window.from.offset_ns, window.to.offset_ns),
        (-2_000_000_000, -1_000_000_000)
    );
    assert_eq!(expect[16].metric, Metric::Quantile(0.999));
}

#[test]
fn what_is_left_out_has_its_default() {
    let file = SourceFile::new(
        "a",
        "name: a\nduration: 1s\ntopology: []\ntraffic: {t: {get: a, rate: 1/s}}\n",
    );
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse(&file, Path::new("."), &mut diagnostics).unwrap();
    assert_eq!(
        (scenario.seed, scenario.warmup, scenario.istio),
        (1, Nanos::ZERO, None)
    );
    assert_eq!(
        scenario.proxies,
        Proxies {
            concurrency: 2,
            overhead: Nanos::ZERO
        }
    );
    assert_eq!(scenario.control_plane.debounce_max, Nanos::from_secs(10));
    assert_eq!(scenario.network.links, []);
}

#[test]
fn set_replaces_adds_and_reaches_into_lists_and_dotted_keys() {
    let (scenario, diagnostics) = set(&[
        ("traffic.web.rate", "800/s"),
        ("traffic.people.timeout", "2s"),
        (
            "external.api.example.com.service_time",
            "{p50: 1ms, p99: 2ms}",
        ),
        ("expect.3.p99.at_most", "500ms"),
        ("seed", "7"),
    ]);
    assert_eq!(render(&diagnostics, false), "");
    let scenario = scenario.unwrap();
    assert!(matches!(&scenario.traffic[0].load, Load::Open { rate, .. } if rate[0].per_s == 800.0));
    assert_eq!(scenario.traffic[2].timeout, Some(Nanos::from_secs(2)));
    assert_eq!(
        scenario.behavior.external[0].1.script.service_time,
        Some(Distribution::Lognormal {
            p50: millis(1),
            p99: millis(2)
        })
    );
    assert_eq!(scenario.expect[3].bound.at_most, Some(500.0));
    assert_eq!(scenario.seed, 7);
}

#[test]
fn set_that_cannot_be_says_why() {
    let mut text = String::new();
    for (path, value) in [
        ("traffic.wbe.rate", "800/s"),
        ("traffic.web.rte", "800/s"),
        ("nothing.of.this", "1"),
        ("seed.x", "1"),
        ("expect.99", "{}"),
        ("traffic.web.rate", "800"),
        ("traffic.web.rate", "[1"),
        ("seed", ""),
        ("", "1"),
    ] {
        let (scenario, diagnostics) = set(&[(path, value)]);
        assert_eq!(scenario, None, "{path}={value}");
        text += &format!("--set {path}={value}\n{}\n", render(&diagnostics, false));
    }
    insta::assert_snapshot!(text);
}
