//! VirtualServices.

use crate::json::{
    Json, Member, always, both, just, list, maybe, object, of, one_member, weighted,
};
use proptest::strategy::Strategy;
use serde_json::{Value, json};

/// The Gateway that rules may be bound to, besides `mesh`.
pub const GATEWAY: &str = "istio-system/edge";

/// What a rule may be bound to, where it may say so.
#[derive(Clone, Copy, PartialEq)]
pub enum Bound {
    /// Sidecars, and perhaps the gateway.
    Mesh,
    /// The gateway, and perhaps sidecars.
    Gateway,
}

pub fn service((namespace, name): (&str, &str), spec: Json) -> Json {
    object(vec![
        always("apiVersion", just(json!("networking.istio.io/v1"))),
        always("kind", just(json!("VirtualService"))),
        always(
            "metadata",
            just(json!({"name": name, "namespace": namespace})),
        ),
        always("spec", spec),
    ])
}

/// HTTP rules for `hosts`.
pub fn http(hosts: Json, bound: Bound) -> Json {
    let gateways = match bound {
        Bound::Mesh => maybe(
            35,
            "gateways",
            of([json!(["mesh"]), json!([GATEWAY, "mesh"])]),
        ),
        Bound::Gateway => always("gateways", of([json!([GATEWAY]), json!(["mesh", GATEWAY])])),
    };
    object(vec![
        always("hosts", hosts),
        gateways,
        export_to(),
        always("http", list(1..=4, route(true))),
    ])
}

/// Rules that others delegate to.
pub fn child() -> Json {
    object(vec![export_to(), always("http", list(1..=2, route(false)))])
}

fn export_to() -> Member {
    maybe(
        15,
        "exportTo",
        of([
            json!(["."]),
            json!(["*"]),
            json!(["default", "istio-system"]),
        ]),
    )
}

/// Rules for connections to the host of service `c`.
pub fn connections() -> Json {
    let statics = vec![
        maybe(30, "port", of([3306, 8443])),
        maybe(30, "sourceLabels", labels()),
        maybe(25, "sourceNamespace", of(["default", "far"])),
        maybe(25, "gateways", of([json!(["mesh"]), json!([GATEWAY])])),
    ];
    let subnets = of([json!(["10.9.0.0/16"]), json!(["10.9.0.3", "192.0.2.0/24"])]);
    let mut tcp = statics.clone();
    tcp.push(maybe(25, "destinationSubnets", subnets.clone()));
    let mut tls = statics;
    tls.push(maybe(25, "destinationSubnets", subnets));
    tls.push(always(
        "sniHosts",
        of([
            json!(["c.far.svc.cluster.local"]),
            json!(["one.c.example", "two.c.example"]),
        ]),
    ));
    let to = |port: u16| {
        let own = destination("c.far.svc.cluster.local", &["v1"], &[port]);
        object(vec![
            always("destination", own),
            maybe(70, "weight", of([1, 20, 33, 80])),
        ])
    };
    let tcp = object(vec![
        maybe(70, "match", list(1..=2, object(tcp))),
        always("route", weighing(list(1..=2, to(3306)))),
    ]);
    let tls = object(vec![
        always("match", list(1..=2, object(tls))),
        always("route", weighing(list(1..=2, to(8443)))),
    ]);
    object(vec![
        always(
            "hosts",
            just(json!(["c.far.svc.cluster.local", "*.c.example"])),
        ),
        maybe(
            30,
            "gateways",
            of([json!(["mesh"]), json!(["mesh", GATEWAY])]),
        ),
        export_to(),
        always("tcp", list(1..=2, tcp)),
        maybe(60, "tls", list(1..=2, tls)),
        maybe(30, "http", list(1..=2, route(false))),
    ])
}

/// Destinations of which, if there are several, not all are without a weight.
fn weighing(destinations: Json) -> Json {
    let weighs = |to: &Value| to["weight"].as_u64().unwrap_or(0) > 0;
    destinations
        .prop_map(move |mut list| {
            if let Value::Array(items) = &mut list
                && items.len() > 1
                && !items.iter().any(weighs)
            {
                items[0]["weight"] = json!(1);
            }
            list
        })
        .boxed()
}

fn route(delegates: bool) -> Json {
    let forwards = both(object(vec![always("route", destinations())]), forwarding());
    let delegate = object(vec![
        always("name", just(json!("child"))),
        maybe(70, "namespace", just(json!("default"))),
    ]);
    let delegate = both(object(vec![always("delegate", delegate)]), forwarding());
    let response = object(vec![
        always("status", of([200, 201, 204, 302, 404, 503])),
        maybe(
            60,
            "body",
            object(vec![always("string", of(["", "text", "two\nlines"]))]),
        ),
    ]);
    let redirects = object(vec![
        always("redirect", redirect()),
        maybe(30, "headers", headers()),
    ]);
    let responds = object(vec![
        always("directResponse", response),
        maybe(30, "headers", headers()),
    ]);
    let action = weighted(
        vec![
            (6, forwards),
            (2, redirects),
            (1, responds),
            (if delegates { 2 } else { 0 }, delegate),
        ]
        .into_iter()
        .filter(|(weight, _)| *weight > 0)
        .collect(),
    );
    let common = object(vec![
        maybe(40, "name", of(["first", "second", "odd name"])),
        maybe(80, "match", list(1..=3, condition())),
    ]);
    both(common, action)
}

fn text(exact: &[&str], prefix: &[&str], regex: &[&str]) -> Json {
    let own = |texts: &[&str]| of(texts.iter().copied());
    one_member(vec![
        ("exact", own(exact)),
        ("prefix", own(prefix)),
        ("regex", own(regex)),
    ])
}

fn labels() -> Json {
    of([
        json!({"app": "client"}),
        json!({"app": "client", "version": "v1"}),
        json!({"app": "other"}),
    ])
}

fn condition() -> Json {
    let uri = text(
        &["/exact", "/Mixed/Case", "/p/x"],
        &["/p", "/p/", "/", "/Mixed"],
        &["/r/[a-c]+/x?", "/(one|two)(/.*)?", ".*\\.png"],
    );
    let header = || {
        weighted(vec![
            (
                4,
                text(&["one", "A b"], &["on", "x-"], &["[0-9]+", "a.*z", ".*"]),
            ),
            (1, just(json!({}))),
        ])
    };
    let named = |keys: [&'static str; 3]| {
        let [one, two, three] = keys;
        object(vec![
            maybe(60, one, header()),
            maybe(40, two, header()),
            maybe(30, three, header()),
        ])
    };
    object(vec![
        maybe(20, "name", of(["m1", "m2"])),
        maybe(60, "uri", uri),
        maybe(25, "ignoreUriCase", of([true, false])),
        maybe(
            15,
            "scheme",
            text(&["http", "https"], &["htt"], &["https?"]),
        ),
        maybe(20, "method", text(&["GET", "POST"], &["P"], &["GET|PUT"])),
        maybe(
            15,
            "authority",
            text(
                &["a", "shop.example:80"],
                &["a", "shop"],
                &["[a-z.]+(:80)?"],
            ),
        ),
        maybe(30, "headers", named(["x-user", "X-Num", "cookie"])),
        maybe(20, "withoutHeaders", named(["x-debug", "x-user", "X-Num"])),
        maybe(25, "queryParams", named(["q", "page", "Case"])),
        maybe(12, "port", of([80, 8081])),
        maybe(12, "sourceLabels", labels()),
        maybe(10, "sourceNamespace", of(["default", "far"])),
        maybe(
            12,
            "gateways",
            of([json!(["mesh"]), json!([GATEWAY]), json!([GATEWAY, "mesh"])]),
        ),
    ])
}

fn destination(host: &'static str, subsets: &[&'static str], ports: &[u16]) -> Json {
    object(vec![
        always("host", just(json!(host))),
        maybe(55, "subset", of(subsets.iter().copied())),
        maybe(
            30,
            "port",
            object(vec![always("number", of(ports.iter().copied()))]),
        ),
    ])
}

fn any_destination() -> Json {
    weighted(vec![
        (3, destination("a", &["v1", "v2", "none"], &[80, 8081])),
        (
            1,
            destination("a.default.svc.cluster.local", &["v1", "v2"], &[80, 8081]),
        ),
        (
            2,
            destination("b.default.svc.cluster.local", &["v1"], &[80, 9000]),
        ),
        (1, destination("c.far.svc.cluster.local", &["v1"], &[80])),
    ])
}

fn destinations() -> Json {
    let to = object(vec![
        always("destination", any_destination()),
        maybe(70, "weight", of([0, 1, 7, 33, 50, 200])),
        maybe(30, "headers", headers()),
    ]);
    weighing(list(1..=3, to))
}

fn headers() -> Json {
    let values = || {
        of([
            "v",
            "",
            "a, b",
            "%REQ(x-user)%",
            "%REQ(:authority)%",
            "100%% %PROTOCOL%",
        ])
    };
    let changes = |host: bool| {
        let mut set = vec![maybe(60, "x-one", values()), maybe(30, "X-User", values())];
        if host {
            set.push(maybe(10, "host", of(["set.example"])));
            set.push(maybe(10, ":authority", of(["authority.example:81"])));
        }
        let add = vec![maybe(60, "x-one", values()), maybe(40, "x-more", values())];
        object(vec![
            maybe(60, "set", object(set)),
            maybe(60, "add", object(add)),
            maybe(
                50,
                "remove",
                of([json!(["x-num"]), json!(["X-User", "x-more"])]),
            ),
        ])
    };
    object(vec![
        maybe(80, "request", changes(true)),
        maybe(60, "response", changes(false)),
    ])
}

/// What goes with `route` and `delegate`.
fn forwarding() -> Json {
    let mirror = object(vec![
        always("mirror", any_destination()),
        maybe(50, "mirrorPercentage", percentage()),
        maybe(40, "mirrorPercent", of([0, 50, 100])),
    ]);
    let several = object(vec![
        always("destination", any_destination()),
        maybe(60, "percentage", percentage()),
    ]);
    let mirrors = object(vec![always("mirrors", list(1..=2, several))]);
    let mirroring = weighted(vec![(6, just(json!({}))), (2, mirror), (1, mirrors)]);
    let rest = object(vec![
        maybe(30, "headers", headers()),
        maybe(30, "rewrite", rewrite()),
        // Far from what an answer takes.
        maybe(25, "timeout", of(["2s", "2500ms", "1m"])),
        maybe(30, "retries", retries()),
        maybe(25, "fault", fault()),
        maybe(20, "corsPolicy", cors()),
    ]);
    both(mirroring, rest)
}

fn cors() -> Json {
    let origin = text(
        &["https://shop.example", "*"],
        &["https://", "http"],
        &["https?://[a-z]+[.]example", ".*"],
    );
    object(vec![
        maybe(85, "allowOrigins", list(1..=2, origin)),
        maybe(20, "allowOrigin", of([json!(["https://old.example"])])),
        maybe(
            60,
            "allowMethods",
            of([json!(["GET", "PUT"]), json!(["*"])]),
        ),
        maybe(
            60,
            "allowHeaders",
            of([json!(["x-one", "X-Two"]), json!(["*"])]),
        ),
        maybe(
            40,
            "exposeHeaders",
            of([json!(["x-out"]), json!(["a", "b"])]),
        ),
        maybe(40, "maxAge", of(["24h", "90s"])),
        maybe(40, "allowCredentials", of([true, false])),
        maybe(
            50,
            "unmatchedPreflights",
            of(["UNSPECIFIED", "FORWARD", "IGNORE"]),
        ),
    ])
}

fn percentage() -> Json {
    object(vec![always(
        "value",
        of([json!(0), json!(12.5), json!(50), json!(100)]),
    )])
}

fn rewrite() -> Json {
    let uri = of(["/", "/new", "/new/"]);
    let pattern = of([
        json!({"match": "/([a-z]+)", "rewrite": "/_\\1_"}),
        json!({"match": "^/p(.*)$", "rewrite": "/\\1/\\0"}),
        json!({"match": "x", "rewrite": "y"}),
    ]);
    weighted(vec![
        (
            3,
            object(vec![
                always("uri", uri),
                maybe(30, "authority", of(["new.example"])),
            ]),
        ),
        (
            3,
            object(vec![
                always("uriRegexRewrite", pattern),
                maybe(30, "authority", of(["new.example"])),
            ]),
        ),
        (
            2,
            object(vec![always("authority", of(["new.example:8080"]))]),
        ),
    ])
}

fn redirect() -> Json {
    let path = weighted(vec![
        (
            2,
            object(vec![always("uri", of(["/moved", "/moved?to=x"]))]),
        ),
        (
            2,
            object(vec![always("prefixRewrite", of(["/moved", "/m/"]))]),
        ),
        (1, just(json!({}))),
    ]);
    let port = weighted(vec![
        (2, object(vec![always("port", of([80, 443, 8080]))])),
        (
            2,
            object(vec![always(
                "derivePort",
                of(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]),
            )]),
        ),
        (1, just(json!({}))),
    ]);
    let rest = object(vec![
        maybe(50, "authority", of(["moved.example", "moved.example:81"])),
        maybe(50, "scheme", of(["http", "https"])),
        maybe(50, "redirectCode", of([301, 302, 303, 307, 308])),
    ]);
    both(both(path, port), rest)
}

fn retries() -> Json {
    let tries = object(vec![
        always("attempts", of([1, 2, 3])),
        maybe(50, "perTryTimeout", of(["1s", "1500ms"])),
        maybe(
            60,
            "retryOn",
            of([
                "5xx",
                "gateway-error",
                "reset,retriable-4xx",
                "connect-failure,refused-stream,503",
                "retriable-status-codes,404",
            ]),
        ),
        maybe(50, "backoff", of(["5ms", "20ms"])),
        maybe(40, "retryRemoteLocalities", of([true, false])),
        maybe(40, "retryIgnorePreviousHosts", of([true, false])),
    ]);
    weighted(vec![(4, tries), (1, just(json!({"attempts": 0})))])
}

fn fault() -> Json {
    let share = weighted(vec![
        (4, object(vec![always("percentage", percentage())])),
        (1, just(json!({}))),
    ]);
    let old = weighted(vec![
        (3, share.clone()),
        (2, object(vec![always("percent", of([0, 50, 100]))])),
    ]);
    let delay = both(object(vec![always("fixedDelay", of(["1ms", "10ms"]))]), old);
    let abort = weighted(vec![
        (
            3,
            object(vec![always("httpStatus", of([200, 404, 418, 503]))]),
        ),
        (
            2,
            object(vec![always("grpcStatus", of(["UNAVAILABLE", "NOT_FOUND"]))]),
        ),
    ]);
    object(vec![
        maybe(60, "delay", delay),
        maybe(60, "abort", both(abort, share)),
    ])
}
