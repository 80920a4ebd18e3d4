//! Random changes, pushed one by one, leave every proxy with what it would be told if it connected at
//! the end. `SEED=N` runs one sequence alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{
    ControlPlane, ObjectRef, Objects, Pod, ProxyIdentity, ProxyKind, PushSettings, Resources,
};
use proxy_core::random::mix;
use proxy_core::time::Nanos;
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable, XdsDelta};
use source::SourceFile;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

const SEQUENCES: u64 = 10_000;
const CHANGES: usize = 8;
const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];

struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = mix(self.0.wrapping_add(1));
        (self.0 % bound as u64) as usize
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn host(draws: &mut Draws) -> String {
    let literal = ["shop.test", "*.test", "api.shop.test"];
    match draws.below(5) {
        0 => draws.of(&literal).to_owned(),
        _ => format!(
            "s{}.{}.svc.cluster.local",
            draws.below(4),
            draws.of(&["a", "b"])
        ),
    }
}

fn export_to(draws: &mut Draws) -> &'static str {
    draws.of(&["", "", "", "  exportTo: [.]\n", "  exportTo: [a, b]\n"])
}

fn service(draws: &mut Draws, name: usize) -> String {
    let address = match draws.below(4) {
        0 => "  clusterIP: None\n".to_owned(),
        _ => format!("  clusterIP: 10.9.0.{}\n", 1 + draws.below(200)),
    };
    let ports = draws.of(&[
        "  - {name: http, port: 80, targetPort: 8080}\n",
        "  - {name: http, port: 80}\n  - {name: tcp, port: 81}\n",
        "  - {name: auto, port: 80, targetPort: 8080}\n",
        "  - {name: tls, port: 82}\n  - {name: http-b, port: 81, targetPort: 8081}\n",
    ]);
    let annotations = match draws.chance(15) {
        true => ", annotations: {networking.istio.io/exportTo: .}",
        false => "",
    };
    let namespace = ["a", "a", "b", "a"][name];
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, namespace: {namespace}{annotations}}}\n\
         spec:\n{address}  selector: {{app: s{name}}}\n  ports:\n{ports}"
    )
}

fn entry(draws: &mut Draws, name: usize) -> String {
    let resolution = draws.of(&["STATIC", "DNS", "NONE"]);
    let endpoints = match resolution {
        "STATIC" => format!(
            "  endpoints: [{{address: 192.0.2.{}}}]\n",
            1 + draws.below(3)
        ),
        _ => String::new(),
    };
    let (namespace, host) = (
        draws.of(&NAMESPACES),
        draws.of(&["shop.test", "api.shop.test"]),
    );
    let port = draws.of(&[
        "{name: http, number: 80, protocol: HTTP}",
        "{name: tls, number: 443, protocol: TLS}",
        "{name: tcp, number: 81, protocol: TCP}",
    ]);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{name}, namespace: {namespace}}}\n\
         spec:\n  hosts: [{host}]\n  ports: [{port}]\n  resolution: {resolution}\n{endpoints}{}",
        export_to(draws)
    )
}

/// Of service number `to` mostly.
fn destination(draws: &mut Draws, to: usize) -> String {
    let host = match draws.below(8) {
        0 => host(draws).replace('*', "x"),
        1 => format!("s{to}.b.svc.cluster.local"),
        _ => format!("s{to}.a.svc.cluster.local"),
    };
    let mut text = format!("{{host: {host}");
    if draws.chance(40) {
        write!(text, ", subset: v{}", 1 + draws.below(2)).unwrap();
    }
    if draws.chance(30) {
        text += ", port: {number: 80}";
    }
    text + "}"
}

/// Mostly the same but for its HTTP rules, as it is changed time and again.
fn virtual_service(draws: &mut Draws, name: usize) -> String {
    let mut shape = Draws(mix(name as u64 * 16 + draws.below(8) as u64 / 6));
    let namespace = shape.of(&NAMESPACES);
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{name}, namespace: {namespace}}}\nspec:\n"
    );
    let to = shape.below(3);
    if name == 3 {
        // For others to delegate to.
        let to = destination(draws, to);
        let path = draws.below(3);
        writeln!(
            text,
            "  http: [{{match: [{{uri: {{prefix: /p{path}/x}}}}], route: [{{destination: {to}}}]}}]"
        )
        .unwrap();
        return text;
    }
    let mut hosts = vec![host(&mut shape)];
    if shape.chance(30) {
        let other = host(&mut shape);
        if other != hosts[0] {
            hosts.push(other);
        }
    }
    let quoted: Vec<String> = hosts.iter().map(|host| format!("'{host}'")).collect();
    writeln!(text, "  hosts: [{}]", quoted.join(", ")).unwrap();
    text += shape.of(&[
        "",
        "",
        "  gateways: [mesh, istio-system/g0]\n",
        "  gateways: [istio-system/g0]\n",
    ]);
    text += export_to(&mut shape);
    text += "  http:\n";
    for _ in 0..=draws.below(2) {
        let statics = draws.of(&[
            "",
            ", port: 80",
            ", port: 81",
            ", sourceLabels: {app: s1}",
            ", sourceNamespace: a",
        ]);
        writeln!(
            text,
            "  - match: [{{uri: {{prefix: /p{}}}{statics}}}]",
            draws.below(3)
        )
        .unwrap();
        match draws.below(5) {
            0 => {
                let namespace = Draws(mix(48)).of(&NAMESPACES);
                writeln!(text, "    delegate: {{name: v3, namespace: {namespace}}}").unwrap();
            }
            _ => {
                let to = destination(draws, to);
                writeln!(text, "    route: [{{destination: {to}}}]").unwrap();
            }
        }
    }
    if draws.chance(40) {
        let to = destination(draws, to);
        writeln!(text, "  - route: [{{destination: {to}}}]").unwrap();
    }
    if draws.chance(10) {
        let to = destination(draws, to);
        writeln!(text, "  tcp:\n  - route: [{{destination: {to}}}]").unwrap();
    }
    text
}

fn destination_rule(draws: &mut Draws, name: usize) -> String {
    let policy = draws.of(&[
        "loadBalancer: {simple: ROUND_ROBIN}",
        "loadBalancer: {consistentHash: {httpHeaderName: x-user}}",
        "outlierDetection: {consecutive5xxErrors: 3}",
        "tls: {mode: DISABLE}",
        "connectionPool: {tcp: {maxConnections: 7}}",
        "loadBalancer: {simple: PASSTHROUGH}",
    ]);
    let selector = match draws.chance(10) {
        true => "  workloadSelector: {matchLabels: {app: s1}}\n",
        false => "",
    };
    let mut shape = Draws(mix(name as u64 * 16 + draws.below(8) as u64 / 6));
    let (namespace, host) = (shape.of(&NAMESPACES), host(&mut shape));
    let exported = match selector {
        "" => export_to(draws),
        // Such a rule is for its own namespace only.
        _ => "",
    };
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d{name}, namespace: {namespace}}}\n\
         spec:\n  host: '{host}'\n{selector}{exported}  trafficPolicy: {{{policy}}}\n"
    );
    if draws.chance(60) {
        text += "  subsets: [{name: v1, labels: {version: v1}}]\n";
    }
    text
}

fn other(draws: &mut Draws, name: usize) -> String {
    let namespace = draws.of(&NAMESPACES);
    match draws.below(8) {
        0..=2 => format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: c{name}, namespace: {namespace}}}\n\
             spec:\n  egress: [{{hosts: ['{}']}}]\n",
            draws.of(&["./*", "./*", "a/*", "*/*.test"])
        ),
        3 => format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p{name}, namespace: {namespace}}}\n\
             spec: {{mtls: {{mode: {}}}}}\n",
            draws.of(&["STRICT", "DISABLE", "PERMISSIVE"])
        ),
        4 => format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: z{name}, namespace: {namespace}}}\n\
             spec: {{rules: [{{to: [{{operation: {{paths: [/p{}]}}}}]}}]}}\n",
            draws.below(3)
        ),
        5 => format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{name}, namespace: a}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: s{}}}]\n  rules: [{{backendRefs: [{{name: s{}, port: 80}}]}}]\n",
            draws.below(4),
            draws.below(4)
        ),
        _ => format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g0, namespace: istio-system}}\n\
             spec:\n  selector: {{istio: gateway}}\n  servers: [{{port: {{number: {}, name: http, protocol: HTTP}}, hosts: ['{}']}}]\n",
            draws.of(&["80", "8080"]),
            draws.of(&["*", "*.test", "shop.test"])
        ),
    }
}

fn object(draws: &mut Draws) -> String {
    let name = draws.below(4);
    match draws.below(12) {
        0..=1 => service(draws, name),
        2 => entry(draws, name),
        3..=6 => virtual_service(draws, name),
        7..=9 => destination_rule(draws, name),
        _ => other(draws, name),
    }
}

fn read(text: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("change.yaml", text), &mut diagnostics);
    diagnostics.retain(|one| one.level == source::Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

fn pods() -> Vec<Pod> {
    let mut pods = Vec::new();
    for (at, (namespace, app)) in [
        ("a", "s0"),
        ("a", "s1"),
        ("b", "s1"),
        ("b", "s2"),
        ("a", "s3"),
    ]
    .into_iter()
    .enumerate()
    {
        for version in ["v1", "v2"] {
            let address = (at * 2 + usize::from(version == "v2") + 1) as u8;
            pods.push(Pod {
                namespace: namespace.into(),
                name: format!("{app}-{version}").into(),
                workload: app.into(),
                ordinal: 0,
                labels: vec![
                    ("app".into(), app.into()),
                    ("version".into(), version.into()),
                ],
                ip: [10, 1, 0, address].into(),
                container_ports: Vec::new(),
                locality: "".into(),
                service_account: "default".into(),
                trust_domain: "cluster.local".into(),
                proxy: ProxyKind::Sidecar,
                node_proxy: None,
                ready: true,
                terminating: false,
            });
        }
    }
    pods
}

fn proxies(pods: &[Pod]) -> Vec<ProxyIdentity> {
    let mut proxies: Vec<ProxyIdentity> = [0, 3, 6]
        .into_iter()
        .map(|at| pods[at].identity())
        .collect();
    proxies.push(ProxyIdentity {
        name: "gateway.istio-system".into(),
        kind: ProxyKind::Gateway,
        namespace: "istio-system".into(),
        labels: vec![("istio".into(), "gateway".into())],
        ip: [10, 1, 0, 99].into(),
        locality: "".into(),
    });
    proxies
}

/// What a proxy has, by name.
#[derive(Debug, Default, PartialEq)]
struct Told {
    clusters: BTreeMap<Name, Arc<Cluster>>,
    endpoints: BTreeMap<Name, Arc<LoadAssignment>>,
    listeners: BTreeMap<Name, Arc<Listener>>,
    routes: BTreeMap<Name, Arc<RouteTable>>,
}

impl Told {
    fn all(resources: &Resources) -> Told {
        let mut told = Told::default();
        told.clusters.extend(
            resources
                .clusters
                .iter()
                .map(|c| (c.name.clone(), c.clone())),
        );
        told.endpoints.extend(
            resources
                .endpoints
                .iter()
                .map(|e| (e.cluster.clone(), e.clone())),
        );
        told.listeners.extend(
            resources
                .listeners
                .iter()
                .map(|l| (l.name.clone(), l.clone())),
        );
        told.routes
            .extend(resources.routes.iter().map(|t| (t.name.clone(), t.clone())));
        told
    }

    fn take(&mut self, delta: XdsDelta) {
        match delta {
            XdsDelta::Clusters { upsert, remove } => {
                self.clusters.retain(|name, _| !remove.contains(name));
                self.endpoints.retain(|name, _| !remove.contains(name));
                self.clusters
                    .extend(upsert.into_iter().map(|c| (c.name.clone(), c)));
            }
            XdsDelta::Endpoints { upsert } => {
                self.endpoints
                    .extend(upsert.into_iter().map(|e| (e.cluster.clone(), e)));
            }
            XdsDelta::Listeners { upsert, remove } => {
                self.listeners.retain(|name, _| !remove.contains(name));
                self.listeners
                    .extend(upsert.into_iter().map(|l| (l.name.clone(), l)));
            }
            XdsDelta::Routes { upsert, remove } => {
                self.routes.retain(|name, _| !remove.contains(name));
                self.routes
                    .extend(upsert.into_iter().map(|t| (t.name.clone(), t)));
            }
        }
    }

    /// Load assignments of clusters that no longer ask for them may stay.
    fn without_leftovers(mut self, wanted: &Told) -> Told {
        self.endpoints
            .retain(|name, _| wanted.endpoints.contains_key(name));
        self
    }
}

fn run(seed: u64) {
    let mut draws = Draws(mix(seed));
    let mut pods = pods();
    let mut first = String::new();
    for _ in 0..8 {
        first += &object(&mut draws);
        first += "---\n";
    }
    let mut log = vec![first.clone()];
    let mut objects = Objects::default();
    objects.apply(&read(&first));
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods.clone());
    let proxies = proxies(&pods);
    let mut told: BTreeMap<Name, Told> = BTreeMap::new();
    for proxy in &proxies {
        let push = plane.connect(Nanos::ZERO, proxy.clone());
        let told = told.entry(push.proxy).or_default();
        push.deltas.into_iter().for_each(|delta| told.take(delta));
    }
    let mut now = Nanos::ZERO;
    for _ in 0..CHANGES {
        for _ in 0..=draws.below(2) {
            change(&mut draws, &mut plane, &mut pods, now, &mut log);
        }
        now += Nanos::from_secs(60);
        for push in plane.tick(now) {
            let told = told.get_mut(&push.proxy).unwrap();
            push.deltas.into_iter().for_each(|delta| told.take(delta));
        }
    }
    let mut fresh = ControlPlane::new(PushSettings::default(), plane.objects().clone(), pods);
    for proxy in &proxies {
        let want = Told::all(&fresh.resources(proxy));
        assert!(
            Told::all(&plane.resources(proxy)) == want,
            "seed {seed}: {} is translated otherwise after\n{}",
            proxy.name,
            log.join("\n== then\n")
        );
        let got = told.remove(&proxy.name).unwrap().without_leftovers(&want);
        assert!(
            got == want,
            "seed {seed}: {} was told otherwise after\n{}",
            proxy.name,
            log.join("\n== then\n")
        );
    }
}

fn change(
    draws: &mut Draws,
    plane: &mut ControlPlane,
    pods: &mut [Pod],
    now: Nanos,
    log: &mut Vec<String>,
) {
    let mut objects = plane.objects().clone();
    match draws.below(10) {
        0..=1 => {
            let number = draws.below(pods.len());
            let pod = &mut pods[number];
            match draws.below(3) {
                0 => pod.ready = !pod.ready,
                1 => pod.terminating = !pod.terminating,
                _ if pod.proxy == ProxyKind::None => pod.proxy = ProxyKind::Sidecar,
                _ => pod.proxy = ProxyKind::None,
            }
            let (name, ready, gone, proxy) = (&pod.name, pod.ready, pod.terminating, pod.proxy);
            log.push(format!(
                "{name}: ready {ready}, terminating {gone}, {proxy:?}"
            ));
            plane.set_pod(now, pod.clone());
        }
        2 => {
            let refs: Vec<ObjectRef> = objects.refs();
            if refs.is_empty() {
                return;
            }
            let reference = &refs[draws.below(refs.len())];
            log.push(format!("delete {reference}"));
            objects.delete(reference);
            plane.set_objects(now, objects);
        }
        _ => {
            let text = object(draws);
            objects.apply(&read(&text));
            log.push(text);
            plane.set_objects(now, objects);
        }
    }
}

#[test]
fn changes_one_by_one_come_to_the_same() {
    if let Ok(seed) = std::env::var("SEED") {
        return run(seed.parse().unwrap());
    }
    for seed in 0..SEQUENCES {
        run(seed);
    }
}
