//! What fails, is tried again, ejected, limited and refused: requests one after another, to upstreams
//! that do as each request says.

use crate::{objects, proxy, service};
use control_plane::{Request, Resources};
use proxy_core::time::Nanos;
use proxy_core::xds::EndpointHealth::Healthy;
use proxy_core::xds::{
    CircuitBreakers, Cluster, Endpoint, Forward, Fraction, HeaderMatch, LoadAssignment,
    LocalRateLimit, LocalityEndpoints, OutlierDetection, RetryBudget, RetryOn, Route, RouteAction,
    RouteTable, SubsetFallback, SubsetSelector, Subsets, ValueMatch, VirtualHost,
};
use std::sync::Arc;
use verify::Config;

/// A path each: what is tried again there.
const CONDITIONS: [&str; 14] = [
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
        "{outlierDetection: {consecutive5xxErrors: 1, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 40}}",
    ),
    ("degrading", "{loadBalancer: {simple: ROUND_ROBIN}}"),
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
    ("subset-none", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-any", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-default", "{loadBalancer: {simple: RANDOM}}"),
    ("subset-keys", "{loadBalancer: {simple: RANDOM}}"),
    ("dropped", "{}"),
    ("dropped-some", "{}"),
    ("nobody", "{}"),
];

fn services() -> String {
    let text = |(at, (name, policy)): (usize, &(&str, &str))| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{app: app}}, ports: [{{name: http, port: 80, targetPort: {}}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: default}}
spec: {{host: {name}, trafficPolicy: {policy}}}
---
",
            8300 + at
        )
    };
    SERVICES.iter().enumerate().map(text).collect()
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
    include_str!("tries.yaml").replace("  - CONDITIONS\n", &routes)
}

/// Last numbers of the addresses, and weights, by priority.
fn pods(service: &str) -> &'static [&'static [(u8, u32)]] {
    match service {
        "eject-few" => &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]],
        "remote" => &[&[(1, 1), (2, 1)], &[(3, 1), (4, 1)], &[(5, 1)]],
        "ring" | "maglev" => &[&[(1, 20), (2, 1), (3, 1)]],
        "again" | "authority" => &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]],
        "degrading" => &[&[(1, 1), (2, 1)]],
        "nobody" => &[],
        name if name.starts_with("subset") => &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]],
        _ => &[&[(1, 1)]],
    }
}

fn assignment(service: &str, before: &LoadAssignment) -> LoadAssignment {
    let port = before.localities[0].endpoints[0].address.port();
    let endpoint = |&(pod, weight): &(u8, u32)| Endpoint {
        weight,
        health: Healthy,
        lb_metadata: match pod {
            1 => vec![
                ("version".into(), "v1".into()),
                ("stage".into(), "a".into()),
            ],
            2 => vec![
                ("version".into(), "v1".into()),
                ("stage".into(), "b".into()),
            ],
            3 => vec![("version".into(), "v2".into())],
            4 => vec![("stage".into(), "a".into())],
            _ => Vec::new(),
        },
        ..Endpoint::new(([10, 0, 0, pod], port).into())
    };
    let localities = pods(service).iter().enumerate();
    let localities = localities.map(|(priority, pods)| LocalityEndpoints {
        locality: "r1/z1".into(),
        priority: priority as u32,
        weight: 1,
        endpoints: pods.iter().map(endpoint).collect(),
    });
    LoadAssignment {
        drop_overload_ppm: match service {
            "dropped" => 1_000_000,
            "dropped-some" => 300_000,
            _ => 0,
        },
        ..LoadAssignment::new(before.cluster.clone(), localities.collect())
    }
}

fn subsets(service: &str) -> Option<Subsets> {
    let default = SubsetFallback::DefaultSubset(vec![("version".into(), "v2".into())]);
    let (fallback, pair) = match service {
        "subset-none" => (SubsetFallback::NoFallback, None),
        "subset-any" => (
            SubsetFallback::AnyEndpoint,
            Some(SubsetFallback::NoFallback),
        ),
        "subset-default" => (default, None),
        "subset-keys" => {
            let keys = SubsetFallback::Keys(vec!["version".into()]);
            (SubsetFallback::NoFallback, Some(keys))
        }
        _ => return None,
    };
    let selector = |keys: &[&str], fallback| SubsetSelector {
        keys: keys.iter().map(|&key| key.into()).collect(),
        fallback,
    };
    Some(Subsets {
        selectors: vec![
            selector(&["version"], None),
            selector(&["stage", "version"], pair),
        ],
        fallback,
        panic_mode_any: false,
        allow_redundant_keys: false,
    })
}

/// What no rule can set.
fn change(service: &str, cluster: &mut Cluster) {
    let none = CircuitBreakers::UNLIMITED;
    match service {
        "full-requests" => {
            cluster.circuit_breakers = CircuitBreakers {
                max_requests: 0,
                ..none
            };
        }
        "full-pending" => {
            let max_pending_requests = 0;
            cluster.circuit_breakers = CircuitBreakers {
                max_pending_requests,
                ..none
            };
        }
        "full-connections" => {
            let max_connections = 0;
            cluster.circuit_breakers = CircuitBreakers {
                max_connections,
                ..none
            };
        }
        "full-retries" => {
            cluster.circuit_breakers = CircuitBreakers {
                max_retries: 0,
                ..none
            };
        }
        "full-budget" => {
            let retry_budget = Some(RetryBudget {
                budget_percent: 0.0,
                min_retry_concurrency: 0,
            });
            cluster.circuit_breakers = CircuitBreakers {
                retry_budget,
                ..none
            };
        }
        "degrading" => {
            cluster.outlier_detection = Some(OutlierDetection {
                detect_degraded_hosts: true,
                ..OutlierDetection::default()
            });
        }
        _ => cluster.subsets = subsets(service),
    }
}

fn limit(service: &str) -> Option<LocalRateLimit> {
    let hour = Nanos::from_secs(3600);
    let limit = LocalRateLimit {
        max_tokens: 2,
        tokens_per_fill: 1,
        fill_interval: hour,
        enabled: Fraction::ALWAYS,
        enforced: Fraction::ALWAYS,
        per_connection: false,
        status: 429,
    };
    Some(match service {
        "limited" => limit,
        "limited-always" => LocalRateLimit {
            max_tokens: 0,
            status: 503,
            ..limit
        },
        "limited-never" => LocalRateLimit {
            max_tokens: 0,
            enforced: Fraction::ppm(0),
            ..limit
        },
        "limited-connection" => LocalRateLimit {
            max_tokens: 1,
            per_connection: true,
            ..limit
        },
        "refilled" => LocalRateLimit {
            fill_interval: Nanos::from_millis(400),
            ..limit
        },
        _ => return None,
    })
}

/// What no rule can set of a route; `number` is its place.
fn change_forward(service: &str, number: usize, forward: &mut Forward) {
    match service {
        "hedged" => forward.hedge_on_per_try_timeout = true,
        "again" => {
            if let Some(retry) = &mut forward.retry
                && number == CONDITIONS.len()
            {
                retry.retry_on = RetryOn::RETRIABLE_HEADERS;
                retry.retriable_headers = vec![HeaderMatch {
                    name: "x-again".into(),
                    value: ValueMatch::Present(true),
                    invert: false,
                    treat_missing_as_empty: false,
                }];
            }
        }
        name if name.starts_with("subset") => {
            let pairs: &[(&str, &str)] = match number {
                0 => &[("version", "v1")],
                1 => &[("version", "v9")],
                2 => &[("stage", "a"), ("version", "v1")],
                3 => &[("stage", "x"), ("version", "v1")],
                4 => &[("stage", "a")],
                _ => &[],
            };
            let pair = |&(key, value): &(&str, &str)| (key.into(), value.into());
            forward.subset = pairs.iter().map(pair).collect();
        }
        _ => {}
    }
}

fn changed_host(host: &VirtualHost) -> VirtualHost {
    let service = host.name.split('.').next().unwrap_or_default();
    let route = |(number, route): (usize, &Arc<Route>)| {
        let mut route = Route::clone(route);
        route.local_rate_limit = limit(service);
        if let RouteAction::Forward(forward) = &mut route.action {
            change_forward(service, number, forward);
        }
        Arc::new(route)
    };
    VirtualHost {
        routes: host.routes.iter().enumerate().map(route).collect(),
        ..host.clone()
    }
}

fn changed(resources: Resources) -> Resources {
    let clusters = resources.clusters.into_iter().map(|cluster| {
        let mut cluster = Arc::unwrap_or_clone(cluster);
        if let Some(service) = service(&cluster.name.clone()) {
            change(service, &mut cluster);
        }
        Arc::new(cluster)
    });
    let endpoints = resources
        .endpoints
        .into_iter()
        .map(|before| match service(&before.cluster) {
            Some(service) => Arc::new(assignment(service, &before)),
            None => before,
        });
    let routes = resources.routes.into_iter().map(|table| {
        let hosts = table.virtual_hosts.iter().map(changed_host).collect();
        Arc::new(RouteTable::new(
            table.name.clone(),
            hosts,
            table.ignore_port_in_host,
        ))
    });
    Resources {
        clusters: clusters.collect(),
        endpoints: endpoints.collect(),
        routes: routes.collect(),
        ..resources
    }
}

/// Requests, in order.
#[derive(Default)]
struct Requests(Vec<Request>);

impl Requests {
    fn ask(&mut self, url: &str, script: &str, headers: &[(&str, &str)]) {
        let mut request = Request::to_url(&format!("http://{url}")).unwrap();
        request
            .headers
            .push(("x-verify-upstream".into(), script.into()));
        let own = headers
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        request.headers.extend(own);
        self.0.push(request);
    }

    /// Time for what a request changes, or for tokens to come.
    fn pause(&mut self, millis: u32) {
        self.ask("pause/", &format!("200@{millis}"), &[]);
    }

    /// Upstreams do these one after another, `every` so many milliseconds.
    fn in_turn(&mut self, url: &str, scripts: &[&str]) {
        for script in scripts {
            self.ask(url, script, &[]);
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
        requests.ask(&format!("host-{key}.authority/"), "200", &headers);
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
        requests.ask("again/plain/", "200", &headers);
        requests.ask("again/plain/", "200@300", &headers);
    }
    for scripts in [
        "200@150,200@400",
        "200@400,200@10",
        "503@150,200@10",
        "200@400,503@10",
        "200@400",
    ] {
        requests.ask("hedged/", scripts, &[]);
    }
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
    for status in [1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 16, 0, 2, 4, 13, 14, 15] {
        let grpc = format!("200;grpc-status={status}");
        requests.in_turn("eject-grpc/", &["503", "503", &grpc]);
    }
    requests.in_turn("eject-grpc/", &fails);
    requests.in_turn("eject-few/", &["503"; 5]);
    requests.in_turn(
        "degrading/",
        &["200;x-envoy-degraded=true", "200", "200", "200"],
    );
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
}

fn subset_requests(requests: &mut Requests) {
    for service in ["none", "any", "default", "keys"] {
        for path in ["v1", "v9", "both", "other", "stage", "plain"] {
            let url = format!("http://subset-{service}/{path}");
            requests.0.push(Request::to_url(&url).unwrap());
        }
    }
}

type Fill = fn(&mut Requests);

/// One for each kind of requests: those of one are asked one after another.
pub fn configs() -> Vec<Config> {
    let (services, rules) = (services(), rules());
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
    let kinds: [(&str, Fill); 6] = [
        ("conditions", conditions),
        ("retries", retries),
        ("timeouts", timeouts),
        ("ejections", ejections),
        ("limits", limits),
        ("subsets", subset_requests),
    ];
    kinds.into_iter().map(config).collect()
}
