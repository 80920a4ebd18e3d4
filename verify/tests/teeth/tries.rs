//! What fails, is tried again, ejected, limited and refused: requests one after another, to upstreams
//! that do as each request says.

use crate::by_hand::changed;
use crate::{objects, proxy, services};
use control_plane::Request;
use verify::Config;

/// A path each: what is tried again there.
pub const CONDITIONS: [&str; 14] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "503",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "envoy-ratelimited",
];

/// What upstreams do at the first try.
const FIRST: [&str; 15] = [
    "200",
    "503",
    "500",
    "504",
    "409",
    "404",
    "reset",
    "503;x-envoy-ratelimited=true",
    "200;grpc-status=0",
    "200;grpc-status=1",
    "200;grpc-status=4",
    "200;grpc-status=8",
    "200;grpc-status=13",
    "200;grpc-status=14",
    "200;grpc-status=16",
];

/// Services with endpoints of their own, and their DestinationRules' policies.
const SERVICES: &[(&str, &str)] = &[
    ("again", "{loadBalancer: {simple: ROUND_ROBIN}}"),
    ("pause", "{}"),
    (
        "ring",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 40}}}}",
    ),
    (
        "maglev",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 61}}}}",
    ),
    (
        "authority",
        "{loadBalancer: {consistentHash: {httpHeaderName: ':authority'}}}",
    ),
    (
        "eject-5xx",
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}",
    ),
    (
        "eject-gateway",
        "{outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}",
    ),
    (
        "eject-local",
        "{outlierDetection: {consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}",
    ),
    (
        "eject-together",
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}",
    ),
    (
        "eject-grpc",
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}}",
    ),
    (
        "eject-few",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}, outlierDetection: {consecutive5xxErrors: 1, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 40}}",
    ),
    (
        "eject-all",
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100, minHealthPercent: 50}}",
    ),
    (
        "degrading",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}",
    ),
    ("remote", "{loadBalancer: {simple: RANDOM}}"),
    ("full-requests", "{}"),
    ("full-pending", "{}"),
    ("full-connections", "{}"),
    ("full-retries", "{}"),
    ("full-budget", "{}"),
    ("limited", "{}"),
    ("limited-always", "{}"),
    ("limited-never", "{}"),
    ("limited-connection", "{}"),
    ("refilled", "{}"),
    ("hedged", "{}"),
    ("hedged-slowly", "{}"),
    ("subset-none", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-any", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-default", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-keys", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-own", "{loadBalancer: {simple: RANDOM}}"),
    ("kept", "{}"),
    ("worn", "{}"),
    ("idle", "{}"),
    ("streams", "{}"),
    ("worn-streams", "{}"),
    ("faulty", "{}"),
    ("dropped", "{}"),
    ("dropped-some", "{}"),
    ("nobody", "{}"),
];

/// Services with subsets of the cluster itself, and the paths that ask for one each.
const SUBSETS: [&str; 5] = ["none", "any", "default", "keys", "own"];
const SUBSET_PATHS: [&str; 5] = ["v1", "v9", "both", "other", "stage"];

/// A route for each of the paths, and one for the rest.
fn subset_rule(service: &str) -> String {
    let to = format!("route: [{{destination: {{host: subset-{service}}}}}]");
    let route = |path: &&str| format!("  - {{match: [{{uri: {{exact: /{path}}}}}], {to}}}\n");
    let routes: String = SUBSET_PATHS.iter().map(route).collect();
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: subset-{service}, namespace: default}}
spec:
  hosts: [subset-{service}]
  http:
{routes}  - {{{to}}}
"
    )
}

/// A route of `again` for each condition, and what services have besides.
fn rules() -> String {
    let route = |on: &&str| {
        format!(
            "  - match: [{{uri: {{prefix: /{on}/}}}}]
    retries: {{attempts: 2, retryOn: '{on}', backoff: 1ms}}
    route: [{{destination: {{host: again}}}}]
"
        )
    };
    let routes: String = CONDITIONS.iter().map(route).collect();
    let subsets: String = SUBSETS.into_iter().map(subset_rule).collect();
    include_str!("tries.yaml").replace("  - CONDITIONS\n", &routes) + &subsets
}

/// Requests, in order.
#[derive(Default)]
struct Requests(Vec<Request>);

impl Requests {
    fn ask(&mut self, url: &str, script: &str, headers: &[(&str, &str)]) {
        let script = [("x-verify-upstream", script)];
        let lines = script.iter().chain(headers);
        self.plain(url).headers = lines
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
    }

    /// Of a request that says nothing to the upstream shares are compared, if it goes several ways.
    fn plain(&mut self, url: &str) -> &mut Request {
        let request = Request::to_url(&format!("http://{url}")).unwrap();
        self.0.push_mut(request)
    }

    /// Time for what a request changes, or for tokens to come.
    fn pause(&mut self, millis: u32) {
        self.ask("pause/", &format!("200@{millis}"), &[]);
    }

    /// One after another, each with time for what it changes; upstream connections are compared.
    fn in_turn(&mut self, url: &str, scripts: &[&str]) {
        for script in scripts {
            self.ask(url, script, &[("x-verify-connection", "")]);
            self.pause(20);
        }
    }
}

fn conditions(requests: &mut Requests) {
    for on in CONDITIONS {
        for first in FIRST {
            requests.ask(&format!("again/{on}/"), &format!("{first},200"), &[]);
        }
    }
}

fn retries(requests: &mut Requests) {
    requests.ask("again/header/", "404;x-again=yes,200", &[]);
    requests.ask("again/header/", "404,200", &[]);
    requests.ask("again/many/", "503", &[]);
    requests.ask("again/many/", "503,reset,503,503,503,503,200", &[]);
    for headers in [
        &[("x-envoy-retry-on", "5xx")][..],
        &[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "2")],
        &[
            ("x-envoy-retry-on", "retriable-status-codes"),
            ("x-envoy-retriable-status-codes", "500,404"),
        ],
        &[("x-envoy-retry-grpc-on", "unavailable")],
        &[("x-envoy-upstream-rq-timeout-ms", "70")],
        &[
            ("x-envoy-upstream-rq-per-try-timeout-ms", "70"),
            ("x-envoy-retry-on", "5xx"),
        ],
        &[("x-envoy-upstream-rq-timeout-ms", "0")],
    ] {
        for script in [
            "503,503,200",
            "404,200",
            "200;grpc-status=14,200",
            "200@300,200",
        ] {
            requests.ask("again/plain/", script, headers);
        }
    }
    let grpc = [("content-type", "application/grpc")];
    for status in [
        "400", "401", "403", "404", "429", "502", "503", "504", "500",
    ] {
        requests.ask("again/direct/", status, &grpc);
        requests.ask("again/direct/", status, &[]);
        requests.ask(&format!("again/abort/{status}"), status, &grpc);
    }
    for key in 0..24 {
        let user = format!("user-{key}");
        let headers = [("x-user", &*user)];
        requests.ask("ring/", "503", &headers);
        requests.ask("maglev/", "503", &headers);
        requests.plain(&format!("host-{key}.authority/"));
        requests.ask("remote/", "503", &headers);
    }
    requests.ask("authority/", "200", &[]);
}

fn timeouts(requests: &mut Requests) {
    for script in ["200@400,200", "200@400", "503,200@400"] {
        requests.ask("again/try/", script, &[]);
        requests.ask("again/whole/", script, &[]);
        requests.ask("again/both/", script, &[]);
    }
    for timeout in [
        "1H",
        "2M",
        "5S",
        "700m",
        "90000u",
        "80000000n",
        "1n",
        "5X",
        "",
        "123456789S",
    ] {
        let headers = [
            ("content-type", "application/grpc"),
            ("grpc-timeout", timeout),
        ];
        // A millisecond is as good as none on a busy machine.
        if timeout != "1n" {
            requests.ask("again/plain/", "200", &headers);
        }
        requests.ask("again/plain/", "200@300", &headers);
    }
    for scripts in [
        "200@105,200@400",
        "200@400,200@10",
        "503@150,200@10",
        "200@400,503@10",
        "200@400",
        "200@500,200@400,200@250",
        "503@200,503@200,200@300",
        "503@250,503@140,503@20",
        "200@600,reset@120,200@200",
        "503@90,200@45",
        "200@250,503@140,503@20",
    ] {
        requests.ask("hedged/", scripts, &[]);
    }
    // The next try is still to come when the first fails.
    requests.ask("hedged-slowly/", "503@90,200", &[]);
}

fn ejections(requests: &mut Requests) {
    let fails = ["503", "503", "503", "200"];
    requests.in_turn("eject-5xx/", &["500", "404", "503", "504", "reset", "200"]);
    requests.in_turn(
        "eject-gateway/",
        &["503", "504", "500", "502", "503", "200", "503"],
    );
    requests.in_turn("eject-gateway/", &fails);
    let local = [
        "503", "503", "503", "reset", "reset", "200", "reset", "reset", "reset", "200",
    ];
    requests.in_turn("eject-local/", &local);
    requests.in_turn("eject-together/", &["reset", "503", "reset", "200"]);
    // Panic: it is used all the same, but on new connections.
    requests.in_turn("eject-all/", &["200", "503", "503", "503", "200", "200"]);
    for status in [1, 3, 5, 6, 7, 8, 9, 10, 11, 16, 0, 2] {
        let grpc = format!("200;grpc-status={status}");
        for script in ["503", "503", &grpc] {
            requests.ask(
                "eject-grpc/",
                script,
                &[("content-type", "application/grpc")],
            );
            requests.pause(20);
        }
    }
    requests.in_turn("eject-grpc/", &["200"]);
    for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        requests.ask("eject-few/", "503", &[("x-user", user)]);
        requests.pause(20);
    }
    for script in ["200;x-envoy-degraded=true", "200"] {
        for user in ["a", "b", "c"] {
            requests.ask("degrading/", script, &[("x-user", user)]);
            requests.pause(20);
        }
    }
}

/// Which connections are used again.
fn connections(requests: &mut Requests) {
    let scripts = [
        "200",
        "200",
        "200",
        "404",
        "503",
        "503,200",
        "200;grpc-status=0",
        "reset",
        "200",
        "503;grpc-status=14,200",
        "reset,200",
        "200@200",
        "200@200,200",
        "200",
        "204",
        "204",
        "200",
    ];
    for service in ["kept", "worn", "idle", "streams", "worn-streams"] {
        let url = format!("{service}/");
        requests.in_turn(&url, &scripts);
        requests.pause(80);
        requests.in_turn(&url, &["200"]);
        requests.pause(280);
        requests.in_turn(&url, &["200"]);
    }
}

fn limits(requests: &mut Requests) {
    for full in ["requests", "pending", "connections", "retries", "budget"] {
        requests.ask(&format!("full-{full}/"), "503,200", &[]);
        requests.ask(&format!("full-{full}/"), "200", &[]);
    }
    for limited in [
        "limited",
        "limited-always",
        "limited-never",
        "limited-connection",
    ] {
        for _ in 0..4 {
            requests.ask(&format!("{limited}/"), "200", &[]);
        }
    }
    for _ in 0..3 {
        requests.ask("refilled/", "200", &[]);
    }
    requests.pause(600);
    requests.ask("refilled/", "200", &[]);
    requests.ask("refilled/", "200", &[]);
    requests.pause(2000);
    for _ in 0..3 {
        requests.ask("refilled/", "200", &[]);
    }
    for _ in 0..8 {
        requests.ask("dropped/", "200", &[]);
        requests.ask("dropped-some/", "200", &[]);
    }
    requests.ask("nobody/", "200", &[]);
    for _ in 0..3 {
        requests.ask("faulty/", "200", &[]);
        requests.pause(20);
    }
}

fn subset_requests(requests: &mut Requests) {
    for service in SUBSETS {
        for path in SUBSET_PATHS.iter().chain(&["plain"]) {
            requests.plain(&format!("subset-{service}/{path}"));
        }
    }
}

type Fill = fn(&mut Requests);

/// One for each kind of requests: those of one are asked one after another.
pub fn configs() -> Vec<Config> {
    let (services, rules) = (services(8300, SERVICES), rules());
    let objects = objects(&[
        ("mesh.yaml", include_str!("mesh.yaml")),
        ("services.yaml", &services),
        ("rules.yaml", &rules),
    ]);
    let (proxy, resources) = proxy(&objects, "client-0");
    let resources = changed(resources);
    let config = |(name, fill): (&str, Fill)| {
        let mut requests = Requests::default();
        fill(&mut requests);
        for request in &mut requests.0 {
            request.resolve(&objects, &proxy);
        }
        Config {
            name: name.into(),
            proxy: proxy.clone(),
            resources: resources.clone(),
            requests: requests.0,
        }
    };
    let kinds: [(&str, Fill); 7] = [
        ("conditions", conditions),
        ("retries", retries),
        ("timeouts", timeouts),
        ("ejections", ejections),
        ("connections", connections),
        ("limits", limits),
        ("subsets", subset_requests),
    ];
    kinds.into_iter().map(config).collect()
}
