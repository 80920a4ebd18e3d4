//! DestinationRules.

use crate::json::{Json, always, both, just, list, maybe, object, of, one_member, weighted};
use proptest::strategy::Strategy;
use serde_json::json;

/// A rule for `host` with `subsets` by their names and labels.
pub fn rule(
    (namespace, name): (&str, &str),
    host: &str,
    subsets: Vec<(&'static str, Json)>,
    ports: &'static [u16],
) -> Json {
    let subsets = subsets.into_iter().map(|(name, labels)| {
        object(vec![
            always("name", just(json!(name))),
            always("labels", labels),
            maybe(35, "trafficPolicy", policy(ports)),
        ])
    });
    let subsets = subsets.collect::<Vec<_>>();
    let members = vec![
        always("host", just(json!(host))),
        maybe(75, "trafficPolicy", policy(ports)),
        always("subsets", all(subsets)),
        maybe(
            15,
            "exportTo",
            of([json!(["."]), json!(["*"]), json!([namespace])]),
        ),
        maybe(
            12,
            "workloadSelector",
            object(vec![always(
                "matchLabels",
                of([json!({"app": "client"}), json!({"app": "other"})]),
            )]),
        ),
    ];
    object(vec![
        always("apiVersion", just(json!("networking.istio.io/v1"))),
        always("kind", just(json!("DestinationRule"))),
        always(
            "metadata",
            just(json!({"name": name, "namespace": namespace})),
        ),
        always("spec", object(members)),
    ])
}

fn all(items: Vec<Json>) -> Json {
    items.prop_map(serde_json::Value::from).boxed()
}

fn policy(ports: &'static [u16]) -> Json {
    let port = object(vec![always("number", of(ports.iter().copied()))]);
    let at_port = both(object(vec![always("port", port)]), blocks());
    let budget = object(vec![
        maybe(70, "percent", of([json!(20), json!(50.5), json!(100)])),
        maybe(70, "minRetryConcurrency", of([1, 3, 10])),
    ]);
    let rest = object(vec![
        maybe(20, "portLevelSettings", list(1..=1, at_port)),
        maybe(15, "retryBudget", budget),
    ]);
    both(blocks(), rest)
}

fn blocks() -> Json {
    object(vec![
        maybe(60, "loadBalancer", load_balancer()),
        maybe(40, "connectionPool", connection_pool()),
        maybe(35, "outlierDetection", outlier_detection()),
        maybe(
            20,
            "tls",
            object(vec![
                always("mode", of(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
                maybe(50, "sni", of(["sni.example"])),
            ]),
        ),
    ])
}

fn load_balancer() -> Json {
    let percent = of([10, 40, 100]);
    let warmup = object(vec![
        always("duration", of(["1s", "30s"])),
        maybe(60, "minimumPercent", percent),
        maybe(60, "aggression", of([json!(1), json!(1.5), json!(3)])),
    ]);
    let warms = object(vec![
        maybe(75, "simple", of(["LEAST_REQUEST", "ROUND_ROBIN"])),
        maybe(40, "warmup", warmup),
        maybe(35, "localityLbSetting", locality()),
    ]);
    // The older way to say it.
    let warms_as_before = object(vec![
        always("simple", of(["LEAST_REQUEST", "ROUND_ROBIN"])),
        always("warmupDurationSecs", of(["2s", "10s"])),
    ]);
    let simple = of(["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH"]);
    let others = object(vec![
        always("simple", simple),
        maybe(35, "localityLbSetting", locality()),
    ]);
    let hashes = object(vec![
        always("consistentHash", consistent_hash()),
        maybe(25, "localityLbSetting", locality()),
    ]);
    weighted(vec![
        (4, warms),
        (1, warms_as_before),
        (4, others),
        (5, hashes),
    ])
}

fn consistent_hash() -> Json {
    let cookie = object(vec![
        always("name", of(["user", "session"])),
        maybe(50, "path", of(["/", "/p"])),
        maybe(50, "ttl", of(["0s", "60s", "1h"])),
    ]);
    let key = one_member(vec![
        ("httpHeaderName", of(["x-user", "X-Num", "absent"])),
        ("httpCookie", cookie),
        ("useSourceIp", just(json!(true))),
        ("httpQueryParameterName", of(["q", "page"])),
    ]);
    let ring = object(vec![maybe(80, "minimumRingSize", of([1, 128, 2048]))]);
    // Primes, which Envoy insists on.
    let maglev = object(vec![maybe(80, "tableSize", of([251, 1031, 65_537]))]);
    let table = weighted(vec![
        (2, just(json!({}))),
        (2, object(vec![always("minimumRingSize", of([64, 3000]))])),
        (3, object(vec![always("ringHash", ring)])),
        (3, object(vec![always("maglev", maglev)])),
    ]);
    both(key, table)
}

fn locality() -> Json {
    let distribute = |from: &'static str| {
        object(vec![
            always("from", just(json!(from))),
            always(
                "to",
                of([
                    json!({"r1/z1/*": 80, "r1/z2/*": 20}),
                    json!({"r1/*": 70, "r2/*": 30}),
                    json!({"r2/z3": 100}),
                ]),
            ),
        ])
    };
    // Istio refuses one within an earlier one.
    let froms: [&[&'static str]; 5] = [
        &["r1/z1/*"],
        &["r1/*"],
        &["*"],
        &["r1/z1/*", "r1/*"],
        &["r1/*", "*"],
    ];
    let distributes =
        froms.map(|froms| (1, all(froms.iter().map(|from| distribute(from)).collect())));
    let failover = just(json!([{"from": "r1", "to": "r2"}]));
    let priority = of([
        json!([
            "topology.kubernetes.io/region",
            "topology.kubernetes.io/zone"
        ]),
        json!(["version=v2", "app"]),
        json!(["version"]),
    ]);
    let preferred = weighted(vec![
        (
            3,
            object(vec![always("distribute", weighted(distributes.into()))]),
        ),
        (3, object(vec![always("failover", failover.clone())])),
        (3, object(vec![always("failoverPriority", priority)])),
        (
            1,
            object(vec![
                always("failover", failover),
                always("failoverPriority", of([json!(["version=v2", "app"])])),
            ]),
        ),
        (1, just(json!({}))),
    ]);
    both(
        preferred,
        object(vec![maybe(40, "enabled", of([true, false]))]),
    )
}

/// No limit so low that a request and its copies, which race, are in each other's way.
fn connection_pool() -> Json {
    let tcp = object(vec![
        maybe(50, "maxConnections", of([0, 8, 100])),
        maybe(50, "connectTimeout", of(["1s", "2500ms", "10s"])),
        maybe(50, "idleTimeout", of(["5s", "1h"])),
    ]);
    let http = object(vec![
        maybe(50, "http1MaxPendingRequests", of([0, 8, 1024])),
        maybe(50, "http2MaxRequests", of([0, 8, 1000])),
        maybe(50, "maxRetries", of([0, 1, 5])),
        maybe(50, "maxRequestsPerConnection", of([0, 1, 2, 100])),
        maybe(50, "maxConcurrentStreams", of([1, 100])),
        maybe(40, "idleTimeout", of(["5s", "300s"])),
        maybe(
            40,
            "h2UpgradePolicy",
            of(["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]),
        ),
        maybe(40, "useClientProtocol", of([true, false])),
    ]);
    object(vec![maybe(75, "tcp", tcp), maybe(85, "http", http)])
}

fn outlier_detection() -> Json {
    object(vec![
        maybe(50, "consecutive5xxErrors", of([0, 1, 5])),
        maybe(50, "consecutiveGatewayErrors", of([0, 1, 5])),
        maybe(50, "splitExternalLocalOriginErrors", of([true, false])),
        maybe(50, "consecutiveLocalOriginFailures", of([0, 1, 5])),
        maybe(50, "interval", of(["1s", "10s"])),
        maybe(50, "baseEjectionTime", of(["10s", "400s"])),
        maybe(50, "maxEjectionPercent", of([0, 10, 100])),
        maybe(50, "minHealthPercent", of([0, 30, 60, 100])),
    ])
}
