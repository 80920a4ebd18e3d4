//! A mesh of many services, each with a VirtualService of three routes and a DestinationRule of two
//! subsets: reading it, telling one proxy all of it, one changed rule, and one question.
//!
//! `cargo bench -p control-plane [-- SERVICES]`; `/usr/bin/time -v` in front shows the memory.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // A bench measures wall time.

use control_plane::{
    ControlPlane, Objects, ProxyIdentity, ProxyKind, PushSettings, Request, explain,
};
use proxy_core::time::Nanos;
use source::SourceFile;
use std::fmt::Write;
use std::time::Instant;

const NAMESPACES: usize = 20;

fn main() {
    let asked = std::env::args().find_map(|text| text.parse().ok());
    let services: usize = asked.unwrap_or(10_000);
    let text = yaml(services);
    println!("{services} services, {} MB of YAML", text.len() / 1_000_000);

    let file = SourceFile::new("mesh.yaml", &text);
    let mut diagnostics = Vec::new();
    let read = timed("reading the YAML", || {
        Objects::read(&file, &mut diagnostics)
    });
    assert_eq!(
        source::render(&diagnostics[..diagnostics.len().min(3)], false),
        ""
    );
    let mut objects = Objects::default();
    timed("applying it", || objects.apply(&read));
    let pods = timed("pods", || objects.pods());
    let proxy = ProxyIdentity {
        name: "client.ns-0".into(),
        kind: ProxyKind::Sidecar,
        namespace: "ns-0".into(),
        labels: vec![("app".into(), "svc-0".into())],
        ip: [10, 200, 0, 1].into(),
        locality: "".into(),
    };
    let mut plane = timed("indexing", || {
        ControlPlane::new(PushSettings::default(), objects, pods)
    });
    let push = timed("full translation for one proxy", || {
        plane.connect(Nanos::ZERO, proxy.clone())
    });
    println!("  {} deltas", push.deltas.len());

    let mut now = Nanos::ZERO;
    for round in 0..5 {
        let name = 17 + round * 100;
        let changed = virtual_service(name, 90 - round);
        let file = SourceFile::new("change.yaml", &changed);
        let change = Objects::read(&file, &mut diagnostics);
        let mut next = plane.objects().clone();
        now += Nanos::from_secs(60);
        let pushes = timed("one changed VirtualService, applied and translated", || {
            next.apply(&change);
            plane.set_objects(now, next);
            now += Nanos::from_secs(1);
            plane.tick(now)
        });
        assert_eq!(pushes.len(), 1, "the change is told");
    }

    let resources = timed("all of it once more", || plane.resources(&proxy));
    let request = Request::to_url("http://svc-123.ns-3.svc.cluster.local/b/x").unwrap();
    for _ in 0..3 {
        let answer = timed("explain", || explain(&resources, &request));
        assert_eq!(answer.clusters.len(), 2);
    }
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let made = run();
    println!("{:9.1} ms  {what}", started.elapsed().as_secs_f64() * 1e3);
    made
}

fn yaml(services: usize) -> String {
    let mut text = String::new();
    for number in 0..services {
        let namespace = number % NAMESPACES;
        write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{number}\n  namespace: ns-{namespace}\n\
             spec:\n  clusterIP: 10.{}.{}.{}\n  selector:\n    app: svc-{number}\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: svc-{number}\n  namespace: ns-{namespace}\n\
             spec:\n  replicas: 2\n  selector:\n    matchLabels:\n      app: svc-{number}\n  template:\n    metadata:\n      labels:\n        app: svc-{number}\n        version: v1\n    spec:\n      containers:\n      - name: app\n        image: app\n        ports:\n        - containerPort: 8080\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: svc-{number}\n  namespace: ns-{namespace}\n\
             spec:\n  host: svc-{number}\n  trafficPolicy:\n    connectionPool:\n      tcp:\n        maxConnections: 100\n    outlierDetection:\n      consecutive5xxErrors: 5\n  subsets:\n  - name: v1\n    labels:\n      version: v1\n  - name: v2\n    labels:\n      version: v2\n---\n",
            100 + number / 65536,
            number / 256 % 256,
            number % 256,
        )
        .unwrap();
        text += &virtual_service(number, 50);
        text += "---\n";
    }
    text
}

fn virtual_service(number: usize, weight: usize) -> String {
    let namespace = number % NAMESPACES;
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: svc-{number}\n  namespace: ns-{namespace}\n\
         spec:\n  hosts:\n  - svc-{number}\n  http:\n  - match:\n    - uri:\n        prefix: /a\n    route:\n    - destination:\n        host: svc-{number}\n        subset: v1\n    timeout: 2s\n\
         \x20 - match:\n    - uri:\n        prefix: /b\n      headers:\n        x-user:\n          exact: jason\n    - uri:\n        prefix: /b\n    route:\n    - destination:\n        host: svc-{number}\n        subset: v1\n      weight: {weight}\n    - destination:\n        host: svc-{number}\n        subset: v2\n      weight: {}\n\
         \x20 - route:\n    - destination:\n        host: svc-{number}\n        subset: v1\n    retries:\n      attempts: 3\n      perTryTimeout: 500ms\n",
        100 - weight,
    )
}
