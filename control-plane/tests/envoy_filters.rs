//! EnvoyFilters about local rate limits, and what is said of the others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use client::client;
use control_plane::{ControlPlane, Objects, ProxyKind, PushSettings, Resources};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    FilterPlace, Fraction, HttpConnectionManager, LocalRateLimit, LocalRateLimitFilter,
    NetworkFilter, Route, RouteAction, RouteSource, RouteTable, VirtualHost,
};
use source::{Diagnostic, Level, SourceFile};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: productpage}
spec: {clusterIP: 10.8.0.1, selector: {app: productpage}, ports: [{name: http, port: 8000, targetPort: 9080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: productpage-0, labels: {app: productpage}}
spec: {containers: [{name: app}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.9.0.2}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
  - {name: moved, match: [{uri: {exact: /old}}], redirect: {uri: /new}}
  - {name: rest, route: [{destination: {host: productpage}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reads}
spec: {selector: {matchLabels: {app: productpage}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
"#;

/// An EnvoyFilter with such patches.
fn filter(name: &str, head: &str, patches: &[String]) -> String {
    let patches = patches.join("");
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}}}\n\
         spec:\n  {head}\n  configPatches:\n{patches}"
    )
}

fn in_namespace(namespace: &str, filter: &str) -> String {
    filter.replace(
        "metadata: {name:",
        &format!("metadata: {{namespace: {namespace}, name:"),
    )
}

/// A patch that puts a filter with `tokens` tokens somewhere.
fn inserted(context: &str, operation: &str, sub_filter: &str, tokens: u32) -> String {
    let sub_filter = match sub_filter {
        "" => String::new(),
        name => format!(", subFilter: {{name: {name}}}"),
    };
    format!(
        r#"  - applyTo: HTTP_FILTER
    match: {{context: {context}, listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager{sub_filter}}}}}}}}}
    patch:
      operation: {operation}
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: http_local_rate_limiter
            tokenBucket: {{maxTokens: {tokens}, tokens_per_fill: 4, fill_interval: 60s}}
            filter_enabled: {{runtime_key: a, default_value: {{numerator: 100, denominator: HUNDRED}}}}
            filter_enforced: {{default_value: {{numerator: 5000, denominator: TEN_THOUSAND}}}}
"#
    )
}

/// A patch that gives routes or virtual hosts a limit of `tokens` tokens.
fn merged(apply_to: &str, matches: &str, tokens: u32) -> String {
    format!(
        r#"  - applyTo: {apply_to}
    match: {matches}
    patch:
      operation: MERGE
      value:
        typed_per_filter_config:
          envoy.filters.http.local_ratelimit:
            "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: some
            token_bucket: {{max_tokens: {tokens}, tokens_per_fill: 1, fill_interval: 1s}}
"#
    )
}

fn read(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("mesh.yaml", text), &mut diagnostics);
    (objects, diagnostics)
}

/// What the sidecar of productpage and the gateway are told.
fn told(filters: &[String]) -> (Resources, Resources) {
    let (objects, said) = read(&[MESH, &filters.concat()].concat());
    assert_eq!(source::render(&said, false), "");
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods.clone());
    let mut of = |name: &str| {
        let pod = pods.iter().find(|pod| &*pod.name == name).unwrap();
        let mut identity = pod.identity();
        identity.kind = match name {
            "edge-0" => ProxyKind::Gateway,
            _ => ProxyKind::Sidecar,
        };
        plane.resources(&identity)
    };
    (of("productpage-0"), of("edge-0"))
}

/// The connection managers of a listener, by the names of their chains.
fn managers<'r>(told: &'r Resources, listener: &str) -> Vec<(&'r str, &'r HttpConnectionManager)> {
    let mut listeners = told.listeners.iter();
    let listener = listeners.find(|one| &*one.name == listener).unwrap();
    let chains = listener.filter_chains.iter();
    chains
        .filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(manager) => Some((&*chain.name, manager)),
            NetworkFilter::Tcp(_) => None,
        })
        .collect()
}

/// Places and sizes.
fn filters(manager: &HttpConnectionManager) -> Vec<(FilterPlace, u32)> {
    let size = |filter: &LocalRateLimitFilter| (filter.place, tokens(&filter.config));
    manager.local_rate_limits.iter().map(size).collect()
}

fn tokens(limit: &LocalRateLimit) -> u32 {
    limit.bucket.map_or(0, |bucket| bucket.max_tokens)
}

fn inbound_table(told: &Resources) -> &RouteTable {
    let managers = managers(told, "virtualInbound");
    let of_port = managers.iter().find(|(name, _)| *name == "0.0.0.0_9080");
    match &of_port.unwrap().1.routes {
        RouteSource::Inline(table) => table,
        RouteSource::Rds(name) => panic!("inbound routes come by themselves: {name}"),
    }
}

fn table<'r>(told: &'r Resources, name: &str) -> &'r RouteTable {
    let mut tables = told.routes.iter();
    tables.find(|table| &*table.name == name).unwrap()
}

fn of_host(host: &VirtualHost) -> Option<u32> {
    host.local_rate_limit.as_deref().map(tokens)
}

fn of_routes(host: &VirtualHost) -> Vec<Option<u32>> {
    let of = |route: &Route| route.local_rate_limit.as_deref().map(tokens);
    host.routes.iter().map(|route| of(route)).collect()
}

const PRODUCTPAGE: &str = "workloadSelector: {labels: {app: productpage}}";

#[test]
fn a_filter_comes_to_the_side_that_it_is_for() {
    let patch = inserted("SIDECAR_INBOUND", "INSERT_BEFORE", "", 9);
    let (sidecar, gateway) = told(&[filter("limit", PRODUCTPAGE, &[patch])]);
    let inbound = managers(&sidecar, "virtualInbound");
    assert!(inbound.len() > 1);
    for (_, manager) in &inbound {
        assert_eq!(filters(manager), [(FilterPlace::First, 9)]);
    }
    let limit = &inbound[0].1.local_rate_limits[0].config;
    assert_eq!(limit.enabled, Fraction::ALWAYS);
    let half = Fraction {
        numerator: 5000,
        denominator: 10_000,
    };
    assert_eq!((limit.enforced, limit.status), (half, 429));
    assert_eq!(limit.bucket.unwrap().fill_interval, Nanos::from_secs(60));
    let outbound = managers(&sidecar, "0.0.0.0_8000");
    assert_eq!(filters(outbound[0].1), []);
    assert_eq!(filters(managers(&gateway, "0.0.0.0_8080")[0].1), []);
}

#[test]
fn contexts_and_ports() {
    let of = |context: &str, head: &str| {
        let patch = inserted(context, "INSERT_FIRST", "", 9);
        let patch = patch.replace("listener: {", head);
        let (sidecar, gateway) =
            told(&[in_namespace("istio-system", &filter("limit", "", &[patch]))]);
        let limited = |told: &Resources, listener: &str| {
            let all = managers(told, listener);
            let limited = all
                .iter()
                .filter(|(_, manager)| !filters(manager).is_empty());
            limited.count()
        };
        [
            limited(&sidecar, "virtualInbound"),
            limited(&sidecar, "0.0.0.0_8000"),
            limited(&gateway, "0.0.0.0_8080"),
        ]
    };
    assert_eq!(of("SIDECAR_OUTBOUND", "listener: {"), [0, 1, 0]);
    assert_eq!(of("GATEWAY", "listener: {"), [0, 0, 1]);
    assert_eq!(of("ANY", "listener: {"), [4, 1, 1]);
    assert_eq!(of("ANY", "listener: {portNumber: 9080, "), [2, 0, 0]);
    assert_eq!(of("ANY", "listener: {portNumber: 8080, "), [0, 0, 1]);
    assert_eq!(of("ANY", "listener: {name: 0.0.0.0_8000, "), [0, 1, 0]);
}

#[test]
fn filters_stand_where_they_are_put() {
    let at =
        |operation: &str, name: &str, tokens| inserted("SIDECAR_INBOUND", operation, name, tokens);
    let router = "envoy.filters.http.router";
    let patches = [
        at("INSERT_BEFORE", router, 1),
        at("INSERT_BEFORE", router, 2),
        at("INSERT_AFTER", "envoy.cors", 3)
            .replace("filters.network.http_conn", "http_conn")
            .replace(
                "stat_prefix",
                "stage: 0\n            vh_rate_limits: OVERRIDE\n            stat_prefix",
            ),
        at("INSERT_FIRST", "envoy.filters.http.lua", 4),
        at("INSERT_BEFORE", "", 5),
        at("INSERT_BEFORE", "envoy.filters.http.rbac", 6),
        at("INSERT_AFTER", "envoy.filters.http.rbac", 7),
        at("INSERT_AFTER", "envoy.filters.http.fault", 8),
        at("INSERT_BEFORE", "envoy.filters.http.jwt_authn", 9),
        at("INSERT_AFTER", "envoy.filters.http.local_ratelimit", 10),
    ];
    let (sidecar, _) = told(&[filter("limit", PRODUCTPAGE, &patches)]);
    use FilterPlace::*;
    assert_eq!(
        filters(managers(&sidecar, "virtualInbound")[0].1),
        // There is no JWT filter.
        [
            (First, 5),
            (First, 10),
            (First, 4),
            (BeforeRbac, 6),
            (BeforeFault, 7),
            (BeforeCors, 8),
            (BeforeRouter, 3),
            (BeforeRouter, 1),
            (BeforeRouter, 2),
        ]
    );
}

/// By priority, then those of the root namespace, then the older ones; a later one comes before
/// what is first already.
#[test]
fn filters_are_applied_in_order() {
    let of = |name: &str, head: &str, tokens| {
        let patch = inserted("SIDECAR_INBOUND", "INSERT_FIRST", "", tokens);
        filter(name, head, &[patch])
    };
    let filters_of = [
        of("b-own", PRODUCTPAGE, 1),
        of("a-own", PRODUCTPAGE, 2),
        in_namespace("istio-system", &of("z-root", "", 3)),
        of("early", "priority: -1", 4),
        in_namespace("elsewhere", &of("others", "", 5)),
        of(
            "other-pods",
            "workloadSelector: {labels: {app: reviews}}",
            6,
        ),
        of(
            "other-proxies",
            "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]",
            7,
        ),
    ];
    let (sidecar, gateway) = told(&filters_of);
    let order = filters(managers(&sidecar, "virtualInbound")[0].1);
    let order: Vec<u32> = order.into_iter().map(|(_, tokens)| tokens).collect();
    assert_eq!(order, [1, 2, 3, 4]);
    assert_eq!(filters(managers(&gateway, "0.0.0.0_8080")[0].1), []);
}

#[test]
fn routes_and_virtual_hosts_get_limits() {
    let inbound = |name: &str| {
        format!(
            "{{context: SIDECAR_INBOUND, routeConfiguration: {{vhost: {{name: '{name}', route: {{action: ANY}}}}}}}}"
        )
    };
    let patches = [
        merged("HTTP_ROUTE", &inbound("inbound|http|8000"), 3),
        merged("HTTP_ROUTE", &inbound("inbound|http|8001"), 4),
        merged(
            "VIRTUAL_HOST",
            "{context: SIDECAR_OUTBOUND, routeConfiguration: {portNumber: 8000, vhost: {name: 'productpage.default.svc.cluster.local:8000'}}}",
            5,
        ),
        merged(
            "HTTP_ROUTE",
            "{context: GATEWAY, routeConfiguration: {name: http.8080, vhost: {name: 'shop.example:8080', route: {action: ROUTE}}}}",
            6,
        ),
        merged(
            "VIRTUAL_HOST",
            "{context: GATEWAY, routeConfiguration: {portNumber: 8080, vhost: {domainName: shop.example}}}",
            7,
        ),
        merged(
            "VIRTUAL_HOST",
            "{context: GATEWAY, routeConfiguration: {portNumber: 80}}",
            8,
        ),
    ];
    let everywhere = filter("limits", "", &patches);
    let (sidecar, gateway) = told(&[in_namespace("istio-system", &everywhere)]);
    let host = &inbound_table(&sidecar).virtual_hosts[0];
    assert_eq!((of_host(host), of_routes(host)), (None, vec![Some(3)]));
    let hosts = &table(&sidecar, "8000").virtual_hosts;
    let limits: Vec<(&str, Option<u32>)> = hosts.iter().map(|h| (&*h.name, of_host(h))).collect();
    assert_eq!(
        limits,
        [
            ("productpage.default.svc.cluster.local:8000", Some(5)),
            ("allow_any", None),
        ]
    );
    let host = &table(&gateway, "http.8080").virtual_hosts[0];
    assert_eq!(of_host(host), Some(7));
    assert_eq!(of_routes(host), [None, Some(6)]);
}

/// Istio's own sample, with descriptors by path and address.
#[test]
fn the_sample_of_istio_runs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/corpus/samples/ratelimit/local-rate-limit-service.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: {} is not there", path.display());
        return;
    };
    let (sidecar, _) = told(&[format!("---\n{text}")]);
    let manager = managers(&sidecar, "virtualInbound")[0].1;
    assert_eq!(filters(manager), [(FilterPlace::First, 0)]);
    let route = &inbound_table(&sidecar).virtual_hosts[0].routes[0];
    insta::assert_debug_snapshot!(route.local_rate_limit);
    match &route.action {
        RouteAction::Forward(forward) => insta::assert_debug_snapshot!(forward.rate_limits),
        other => panic!("{other:?}"),
    }
}

/// A change of a rule beside it keeps what is patched.
#[test]
fn patches_outlast_changes_of_rules() {
    let matches = "{context: GATEWAY, routeConfiguration: {vhost: {name: 'shop.example:8080'}}}";
    let outbound = "{context: SIDECAR_OUTBOUND, routeConfiguration: {name: '8000'}}";
    let patches = [
        merged("HTTP_ROUTE", matches, 6),
        merged("HTTP_ROUTE", outbound, 7),
    ];
    let limits = in_namespace("istio-system", &filter("limits", "", &patches));
    let rule = |timeout: u32| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: in-mesh}}\n\
             spec: {{hosts: [productpage], http: [{{timeout: {timeout}s, route: [{{destination: {{host: productpage}}}}]}}]}}\n"
        )
    };
    let (mut objects, _) = read(&[MESH, &limits, &rule(1)].concat());
    let identity = client(ProxyKind::Sidecar, "default", &[], "");
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), Vec::new());
    plane.connect(Nanos::ZERO, identity.clone());
    objects.apply(&read(&rule(2)).0);
    plane.set_objects(Nanos::ZERO, objects.clone());
    plane.tick(Nanos::from_secs(1));
    let now = plane.resources(&identity);
    let host = &table(&now, "8000").virtual_hosts[0];
    assert_eq!(of_routes(host), [Some(7)]);
    let afresh =
        ControlPlane::new(PushSettings::default(), objects, Vec::new()).resources(&identity);
    assert_eq!(now, afresh);
}

/// What is not run says so, and errors say why; nothing of either is applied.
#[test]
fn what_is_not_run_says_so() {
    let limit = |fields: &str| {
        let patch = inserted("SIDECAR_INBOUND", "INSERT_FIRST", "", 1);
        patch.replace(
            "            stat_prefix",
            &format!("            {fields}\n            stat_prefix"),
        )
    };
    let patches = [
        inserted("SIDECAR_INBOUND", "MERGE", "", 1),
        inserted("SIDECAR_INBOUND", "INSERT_AFTER", "envoy.filters.http.router", 1),
        inserted("SIDECAR_INBOUND", "INSERT_AFTER", "envoy.filters.http.lua", 1),
        inserted("SIDECAR_INBOUND", "INSERT_FIRST", "", 1)
            .replace("name: envoy.filters.http.local_ratelimit", "name: own"),
        inserted("SIDECAR_INBOUND, proxy: {proxyVersion: '^1\\.2.*'}", "INSERT_FIRST", "", 1),
        limit("local_cluster_rate_limit: {}"),
        limit("rate_limits: [{actions: [{destination_cluster: {}}]}]"),
        limit("rate_limits: [{actions: [{header_value_match: {descriptor_value: v, headers: [{name: a, exact_match: ''}]}}]}]"),
        limit("vh_rate_limits: IGNORE"),
        limit("descriptors: [{entries: [{key: a}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]"),
        limit("shadow_mode: true"),
        inserted("SIDECAR_INBOUND", "INSERT_FIRST", "", 1)
            .replace("        typed_config:", "        disabled: true\n        typed_config:"),
        merged("HTTP_ROUTE", "{context: ANY}", 1)
            .replace("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", "envoy.config.route.v3.FilterConfig"),
        "  - applyTo: HTTP_FILTER\n    match: {context: GATEWAY}\n    patch: {operation: INSERT_BEFORE, value: {name: envoy.filters.http.ratelimit, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit}}}\n".to_owned(),
        "  - applyTo: CLUSTER\n    patch: {operation: MERGE, value: {connect_timeout: 1s}}\n".to_owned(),
        "  - applyTo: HTTP_ROUTE\n    match: {routeConfiguration: {vhost: {name: a}}}\n    patch: {operation: MERGE, value: {route: {timeout: 1s}}}\n".to_owned(),
    ];
    let (objects, said) = read(&filter("limit", "", &patches));
    assert!(said.iter().all(|one| one.level == Level::Warning));
    assert_eq!(objects.refs().len(), 1);
    insta::assert_snapshot!(source::render(&said, false));
}

#[test]
fn what_envoy_refuses_is_an_error() {
    let bucket = "tokenBucket: {maxTokens: 1, tokens_per_fill: 4, fill_interval: 60s}";
    let with =
        |from: &str, to: &str| inserted("SIDECAR_INBOUND", "INSERT_FIRST", "", 1).replace(from, to);
    let without_bucket = merged("HTTP_ROUTE", "{context: ANY}", 1).replace(
        "            token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 1s}\n",
        "",
    );
    let twice = "{entries: [{key: a, value: b}], token_bucket: {max_tokens: 1, fill_interval: 1s}}";
    let patches = [
        with("fill_interval: 60s", "fill_interval: 0.049s"),
        with("fill_interval: 60s", "fill_interval: 1m"),
        with(bucket, "token_bucket: {max_tokens: 1}"),
        with("tokens_per_fill: 4", "tokens_per_fill: 0"),
        with("            stat_prefix: http_local_rate_limiter\n", ""),
        with("denominator: HUNDRED", "denominator: THOUSAND"),
        with(
            bucket,
            &format!("{bucket}\n            descriptors: [{twice}, {twice}]"),
        ),
        with(
            bucket,
            &format!("{bucket}\n            rate_limits: [{{}}]"),
        ),
        without_bucket,
    ];
    let (objects, said) = read(&filter("limit", "", &patches));
    assert!(said.iter().all(|one| one.level == Level::Error));
    assert_eq!(objects.refs(), []);
    insta::assert_snapshot!(source::render(&said, false));
}
