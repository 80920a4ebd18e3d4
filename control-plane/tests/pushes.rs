//! When the control plane pushes what to whom.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{ControlPlane, ObjectRef, Objects, Pod, Push, PushSettings};
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
use source::{Dialect, SourceFile, parse};
use std::sync::Arc;

const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{port: 9080, name: http}], selector: {app: reviews}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec: {containers: [{name: app, ports: [{containerPort: 9080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: app}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews, subset: v1}}]}]
";

fn read(text: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("world.yaml", text), &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

fn reference(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn pod(objects: &Objects, name: &str) -> Pod {
    let pods = objects.pods();
    pods.into_iter().find(|pod| &*pod.name == name).unwrap()
}

/// A control plane with one client connected.
fn connected() -> (ControlPlane, Push) {
    let objects = read(WORLD);
    let client = pod(&objects, "client-0").identity();
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods);
    let push = plane.connect(Nanos::ZERO, client);
    (plane, push)
}

/// What a push updates, and removes as `-NAME`, by type.
fn content(push: &Push) -> Vec<(&'static str, Vec<String>)> {
    let names = |upsert: Vec<String>, remove: &[Arc<str>]| {
        upsert
            .into_iter()
            .chain(remove.iter().map(|name| format!("-{name}")))
            .collect()
    };
    let one = |delta: &XdsDelta| match delta {
        XdsDelta::Clusters { upsert, remove } => (
            "CDS",
            names(upsert.iter().map(|r| r.name.to_string()).collect(), remove),
        ),
        XdsDelta::Endpoints { upsert } => (
            "EDS",
            names(upsert.iter().map(|r| r.cluster.to_string()).collect(), &[]),
        ),
        XdsDelta::Listeners { upsert, remove } => (
            "LDS",
            names(upsert.iter().map(|r| r.name.to_string()).collect(), remove),
        ),
        XdsDelta::Routes { upsert, remove } => (
            "RDS",
            names(upsert.iter().map(|r| r.name.to_string()).collect(), remove),
        ),
    };
    push.deltas.iter().map(one).collect()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_new_proxy_gets_everything_at_once() {
    let (_, push) = connected();
    let reviews = "reviews.default.svc.cluster.local";
    let eds = ["", "v1", "v2"].map(|subset| format!("outbound|9080|{subset}|{reviews}"));
    let content = content(&push);
    let types: Vec<&str> = content.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(types, ["CDS", "EDS", "LDS", "RDS"]);
    assert_eq!(content[1].1, eds);
    assert_eq!(
        content[2].1,
        ["0.0.0.0_9080", "virtualOutbound", "virtualInbound"]
    );
    assert_eq!(content[3].1, ["9080"]);
    assert_eq!(push.version, 1);
}

#[test]
fn changes_wait_for_quiet_but_not_for_ever() {
    let (mut plane, _) = connected();
    let ms = Nanos::from_millis;
    let mut reviews = pod(plane.objects(), "reviews-v1-0");
    assert_eq!(plane.deadline(), None);
    for at in (0..200).map(|n| n * 60) {
        reviews.ready = !reviews.ready;
        plane.set_pod(ms(1000 + at), reviews.clone());
        let quiet = ms(1000 + at + 100);
        assert_eq!(plane.deadline(), Some(quiet.min(ms(11_000))));
        if ms(1000 + at) < ms(11_000) {
            assert_eq!(plane.tick(ms(1000 + at)), []);
        }
    }
    let pushes = plane.tick(ms(11_000));
    assert_eq!(
        (pushes.len(), plane.deadline()),
        (0, None),
        "back where it was"
    );
}

#[test]
fn a_pod_that_is_not_ready_changes_its_endpoints_only() {
    let (mut plane, _) = connected();
    let mut reviews = pod(plane.objects(), "reviews-v1-1");
    plane.set_pod(Nanos::ZERO, reviews.clone());
    assert_eq!(plane.deadline(), None, "nothing is new");
    reviews.ready = false;
    plane.set_pod(Nanos::ZERO, reviews);
    let pushes = plane.tick(Nanos::from_millis(100));
    let host = "reviews.default.svc.cluster.local";
    let changed = ["", "v1"].map(|subset| format!("outbound|9080|{subset}|{host}"));
    assert_eq!(content(&pushes[0]), [("EDS", changed.to_vec())]);
    assert_eq!(pushes[0].version, 2);
    plane.remove_pod(Nanos::from_millis(200), "default", "client-1");
    assert_eq!(
        plane.tick(Nanos::from_millis(300)),
        [],
        "no service selects it"
    );
}

#[test]
fn a_changed_rule_changes_its_table_only() {
    let (mut plane, _) = connected();
    let mut objects = plane.objects().clone();
    let patch = SourceFile::new(
        "patch.yaml",
        "spec: {http: [{timeout: 1s, route: [{destination: {host: reviews, subset: v2}}]}]}",
    );
    let (documents, _) = parse(&patch, Dialect::Kubernetes);
    let mut diagnostics = Vec::new();
    let rule = reference("VirtualService", "reviews");
    objects.patch(&rule, &documents[0], &mut diagnostics);
    assert_eq!(diagnostics, []);
    plane.set_objects(Nanos::ZERO, objects.clone());
    let pushes = plane.tick(Nanos::from_millis(100));
    assert_eq!(content(&pushes[0]), [("RDS", owned(&["9080"]))]);

    assert!(objects.delete(&reference("DestinationRule", "reviews")));
    assert!(!objects.delete(&reference("DestinationRule", "reviews")));
    plane.set_objects(Nanos::from_secs(1), objects);
    let pushes = plane.tick(Nanos::from_secs(2));
    let host = "reviews.default.svc.cluster.local";
    let content = content(&pushes[0]);
    assert_eq!(content.len(), 1);
    assert!(content[0].1.contains(&format!("-outbound|9080|v1|{host}")));
}

#[test]
fn sidecars_of_a_namespace_share_what_they_are_told() {
    let (mut plane, _) = connected();
    let one = plane.resources(&pod(plane.objects(), "client-0").identity());
    let two = plane.resources(&pod(plane.objects(), "reviews-v1-1").identity());
    assert!(Arc::ptr_eq(&one.clusters[0], &two.clusters[0]));
    assert!(Arc::ptr_eq(&one.endpoints[0], &two.endpoints[0]));
    assert!(Arc::ptr_eq(&one.routes[0], &two.routes[0]));
    assert!(Arc::ptr_eq(&one.listeners[0], &two.listeners[0]));
    let inbound =
        |r: &control_plane::Resources| r.clusters.iter().any(|c| &*c.name == "inbound|9080||");
    assert!(inbound(&two) && !inbound(&one));
}

#[test]
fn older_rules_win_and_replaced_ones_keep_their_age() {
    let rule = |name: &str, subset: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [reviews], http: [{{route: [{{destination: {{host: reviews, subset: {subset}}}}}]}}]}}
"
        )
    };
    let mut objects = read(WORLD);
    objects.delete(&reference("VirtualService", "reviews"));
    objects.apply(&read(&rule("zzz", "v1")));
    objects.apply(&read(&rule("aaa", "v2")));
    let goes_to = |objects: &Objects| {
        let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), objects.pods());
        let resources = plane.resources(&pod(objects, "client-0").identity());
        let request = control_plane::Request {
            authority: "reviews:9080".into(),
            ..Default::default()
        };
        control_plane::explain(&resources, &request).clusters[0]
            .name
            .to_string()
    };
    assert_eq!(
        goes_to(&objects),
        "outbound|9080|v1|reviews.default.svc.cluster.local"
    );
    objects.apply(&read(&rule("zzz", "v3")));
    assert_eq!(
        goes_to(&objects),
        "outbound|9080|v3|reviews.default.svc.cluster.local"
    );
    objects.delete(&reference("VirtualService", "zzz"));
    objects.apply(&read(&rule("zzz", "v1")));
    assert_eq!(
        goes_to(&objects),
        "outbound|9080|v2|reviews.default.svc.cluster.local"
    );
}

/// A control plane with `count` clients connected, whose pushes take 30 ms, `throttle` at a time.
fn busy(count: u32, throttle: u32) -> ControlPlane {
    let world = WORLD.replacen("replicas: 2", "replicas: 1", 1);
    let world = world.replacen("replicas: 2", &format!("replicas: {count}"), 1);
    let objects = read(&world);
    let settings = PushSettings {
        cost: Nanos::from_millis(30),
        throttle,
        ..PushSettings::default()
    };
    let pods = objects.pods();
    let mut plane = ControlPlane::new(settings, objects, pods);
    for number in 0..count {
        let client = pod(plane.objects(), &format!("client-{number}"));
        plane.connect(Nanos::ZERO, client.identity());
    }
    plane
}

/// A change that every proxy hears of.
fn set_ready(plane: &mut ControlPlane, at_ms: u64, ready: bool) {
    let mut reviews = pod(plane.objects(), "reviews-v1-0");
    reviews.ready = ready;
    plane.set_pod(Nanos::from_millis(at_ms), reviews);
}

fn set_timeout(plane: &mut ControlPlane, at_ms: u64, timeout: &str) {
    let mut objects = plane.objects().clone();
    let text = format!(
        "spec: {{http: [{{timeout: {timeout}, route: [{{destination: {{host: reviews, subset: v1}}}}]}}]}}"
    );
    let (documents, _) = parse(&SourceFile::new("patch.yaml", &text), Dialect::Kubernetes);
    let rule = reference("VirtualService", "reviews");
    objects.patch(&rule, &documents[0], &mut Vec::new());
    plane.set_objects(Nanos::from_millis(at_ms), objects);
}

/// A push: when it left in ms, to whom, what version, what types.
type Left = (u64, String, u64, Vec<&'static str>);

/// What leaves until nothing is left to do.
fn everything(plane: &mut ControlPlane) -> Vec<Left> {
    until(plane, u64::MAX / 1_000_000)
}

/// What leaves before a time.
fn until(plane: &mut ControlPlane, end_ms: u64) -> Vec<Left> {
    let end = Nanos::from_millis(end_ms);
    let mut all = Vec::new();
    while let Some(at) = plane.deadline().filter(|at| *at < end) {
        all.extend(left(at, &plane.tick(at)));
    }
    all
}

fn left(at: Nanos, pushes: &[Push]) -> Vec<Left> {
    let one = |push: &Push| {
        let types = content(push).into_iter().map(|(kind, _)| kind).collect();
        let name = push.proxy.split('.').next().unwrap().to_owned();
        (at.0 / 1_000_000, name, push.version, types)
    };
    pushes.iter().map(one).collect()
}

fn push(at: u64, proxy: u32, version: u64, types: &[&'static str]) -> Left {
    (at, format!("client-{proxy}"), version, types.to_vec())
}

#[test]
fn so_many_pushes_are_made_at_a_time() {
    let mut plane = busy(5, 2);
    set_ready(&mut plane, 0, false);
    let want = [(130, 0), (130, 1), (160, 2), (160, 3), (190, 4)];
    let want = want.map(|(at, proxy)| push(at, proxy, 2, &["EDS"]));
    assert_eq!(everything(&mut plane), want);
}

#[test]
fn what_changes_while_a_proxy_waits_is_in_its_one_push() {
    let mut plane = busy(7, 1);
    set_ready(&mut plane, 0, false);
    // Seen at 220 ms: 0 to 2 have been told, 3's is half made, the others wait.
    assert_eq!(until(&mut plane, 120), []);
    set_timeout(&mut plane, 120, "1s");
    let mut want = [(130, 0), (160, 1), (190, 2), (220, 3)]
        .map(|(at, proxy)| push(at, proxy, 2, &["EDS"]))
        .to_vec();
    let both = [(250, 4), (280, 5), (310, 6)];
    want.extend(both.map(|(at, proxy)| push(at, proxy, 3, &["EDS", "RDS"])));
    let again = [(340, 0), (370, 1), (400, 2), (430, 3)];
    want.extend(again.map(|(at, proxy)| push(at, proxy, 3, &["RDS"])));
    assert_eq!(everything(&mut plane), want);
}

#[test]
fn what_is_taken_back_while_a_proxy_waits_is_never_sent() {
    let mut plane = busy(6, 1);
    set_ready(&mut plane, 0, false);
    assert_eq!(until(&mut plane, 101), []);
    set_ready(&mut plane, 101, true);
    // Seen at 201 ms, when 3's push is being made.
    let told = everything(&mut plane);
    let of = |proxy: u32| {
        told.iter()
            .filter(|p| p.1 == format!("client-{proxy}"))
            .count()
    };
    let told: Vec<usize> = (0..6).map(of).collect();
    assert_eq!(told, [2, 2, 2, 2, 0, 0]);
}

#[test]
fn while_it_is_stopped_nothing_is_pushed_and_then_all_at_once() {
    let mut plane = busy(3, 1);
    set_ready(&mut plane, 0, false);
    assert_eq!(plane.tick(Nanos::from_millis(100)), []);
    // 0's push is half made, and lost.
    plane.stop();
    assert_eq!(plane.deadline(), None);
    set_timeout(&mut plane, 120, "1s");
    assert_eq!(
        (plane.deadline(), plane.tick(Nanos::from_secs(9))),
        (None, vec![])
    );
    let newcomer = pod(plane.objects(), "reviews-v1-0").identity();
    assert_eq!(plane.connect(Nanos::from_secs(9), newcomer).deltas, []);

    assert_eq!(plane.start(Nanos::from_secs(10)), []);
    let mut want = [(10_030, 0), (10_060, 1), (10_090, 2)]
        .map(|(at, proxy)| push(at, proxy, 3, &["EDS", "RDS"]))
        .to_vec();
    let types = vec!["CDS", "EDS", "LDS", "RDS"];
    want.push((10_120, "reviews-v1-0".to_owned(), 3, types));
    assert_eq!(everything(&mut plane), want);
    plane.stop();
    plane.start(Nanos::from_secs(20));
    assert_eq!(everything(&mut plane), [], "nothing is new");
}

#[test]
fn a_broken_stream_is_passed_over_until_it_is_back() {
    let (mut plane, first) = connected();
    let client = first.proxy;
    plane.break_stream(&client);
    set_ready(&mut plane, 0, false);
    set_timeout(&mut plane, 0, "1s");
    assert_eq!(plane.tick(Nanos::from_secs(1)), []);
    plane.stop();
    assert_eq!(
        plane.start(Nanos::from_secs(2)),
        [],
        "its own stream is broken still"
    );
    let pushes = plane.reconnect(Nanos::from_secs(3), &client);
    let want = [push(3_000, 0, 2, &["EDS", "RDS"])];
    assert_eq!(left(Nanos::from_secs(3), &pushes), want);
    assert_eq!(plane.reconnect(Nanos::from_secs(4), &client), []);
    plane.stop();
    set_ready(&mut plane, 5_000, true);
    plane.break_stream(&client);
    assert_eq!(
        plane.reconnect(Nanos::from_secs(5), &client),
        [],
        "nobody is there"
    );
    assert_eq!(plane.start(Nanos::from_secs(6)).len(), 1);
}
