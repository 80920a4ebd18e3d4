//! What policies become, where istiod's recorded answers have no case of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use client::client;
use control_plane::{
    ControlPlane, MeshConfig, Objects, ProxyIdentity, ProxyKind, PushSettings, Resources,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, Forward, HttpProtocol, LocalityLb, RetryBudget, RouteAction, SlowStart,
};
use source::{Level, SourceFile};

const SHOP: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, locality: east/a, labels: {version: v1}}
  - {address: 10.0.0.2, locality: east/b, labels: {version: v1}, weight: 3}
  - {address: 10.0.0.3, locality: west/a, labels: {version: v2}}
---
";

/// What a sidecar in `east/a`, of version v1, is told under a traffic policy and a mesh config.
fn resources(policy: &str, mesh: &str) -> Resources {
    resources_of(SHOP, policy, mesh)
}

fn resources_of(shop: &str, policy: &str, mesh: &str) -> Resources {
    let mut diagnostics = Vec::new();
    let policy = match policy {
        "" => String::new(),
        policy => format!(", trafficPolicy: {{{policy}}}"),
    };
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: shop}}\n\
         spec: {{host: shop.test{policy}}}"
    );
    let file = SourceFile::new("shop.yaml", &format!("{shop}{rule}"));
    let mut objects = Objects::read(&file, &mut diagnostics);
    objects.set_mesh_config(MeshConfig::parse("mesh", mesh, &mut diagnostics));
    diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    let labels = [("version", "v1")];
    let identity = client(ProxyKind::Sidecar, "default", &labels, "east/a");
    ControlPlane::new(PushSettings::default(), objects, Vec::new()).resources(&identity)
}

fn cluster(resources: &Resources) -> &Cluster {
    named(resources, "outbound|80||shop.test")
}

/// Locality, priority, weight and endpoints of each group.
fn groups(resources: &Resources) -> Vec<(&str, u32, u32, usize)> {
    let localities = &resources.endpoints[0].localities;
    let group = localities.iter();
    group
        .map(|l| (&*l.locality, l.priority, l.weight, l.endpoints.len()))
        .collect()
}

const OUTLIER: &str = "outlierDetection: {consecutive5xxErrors: 3}";

#[test]
fn shares_of_a_distribution_are_split_by_weight_and_others_get_nothing() {
    let distribute =
        "{distribute: [{from: west/*, to: {'*': 100}}, {from: east/*, to: {'east/*': 100}}]}";
    let policy = format!("loadBalancer: {{localityLbSetting: {distribute}}}");
    let got = resources(&policy, "");
    assert_eq!(cluster(&got).locality_lb, LocalityLb::Weighted);
    let want = [
        ("east/a", 0, 25, 1),
        ("east/b", 0, 75, 1),
        ("west/a", 0, 1, 0),
    ];
    assert_eq!(groups(&got), want);
    // The mesh's own holds where no rule says anything.
    let mesh = format!("localityLbSetting: {distribute}");
    assert_eq!(groups(&resources("", &mesh)), want);
    let off = "loadBalancer: {localityLbSetting: {enabled: false}}";
    assert_eq!(groups(&resources(off, &mesh))[2], ("west/a", 0, 1, 1));
}

#[test]
fn labels_decide_before_distance() {
    let by = |setting: &str| {
        let policy = format!("loadBalancer: {{localityLbSetting: {setting}}}, {OUTLIER}");
        let got = resources(&policy, "");
        groups(&got).iter().map(|group| group.1).collect::<Vec<_>>()
    };
    assert_eq!(by("{failoverPriority: [version]}"), [0, 0, 1]);
    assert_eq!(by("{failoverPriority: [version=v2]}"), [1, 1, 0]);
    let both = "{failoverPriority: [version], failover: [{from: east, to: west}]}";
    assert_eq!(by(both), [0, 1, 2]);
    // Nothing fails over without outlier detection.
    let alone = "loadBalancer: {localityLbSetting: {failoverPriority: [version]}}";
    assert_eq!(groups(&resources(alone, ""))[2].1, 0);
}

/// Istio `applyFailoverPriorityPerLocality`: within another network the other labels count still.
#[test]
fn another_network_comes_after_all_of_the_own() {
    let elsewhere = "{topology.istio.io/network: n2, version";
    let shop = SHOP.replace(
        "{version: v1}, weight",
        &format!("{elsewhere}: v1}}, weight"),
    );
    let shop = shop.replace("{version: v2", &format!("{elsewhere}: v2"));
    let by = |labels: &str| {
        let setting = format!("localityLbSetting: {{failoverPriority: [{labels}]}}");
        let policy = format!("loadBalancer: {{{setting}}}, {OUTLIER}");
        let got = resources_of(&shop, &policy, "");
        groups(&got).iter().map(|group| group.1).collect::<Vec<_>>()
    };
    assert_eq!(by("topology.istio.io/network, version"), [0, 1, 2]);
    // It has to be the first one.
    assert_eq!(by("version, topology.istio.io/network"), [0, 1, 2]);
    assert_eq!(by("region, topology.istio.io/network, version"), [0, 1, 1]);
}

/// Istio `applyLocalityWeights` multiplies in 32 bits; sums of weights stop at the largest number.
#[test]
fn weights_as_large_as_they_come() {
    let shop = SHOP.replace("weight: 3", "weight: 2147483647");
    let distribute = "{distribute: [{from: '*', to: {'east/*': 100}}]}";
    let policy = format!("loadBalancer: {{localityLbSetting: {distribute}}}");
    let weights = |shop: &str, policy: &str| {
        let got = resources_of(shop, policy, "");
        groups(&got).iter().map(|group| group.2).collect::<Vec<_>>()
    };
    assert_eq!(weights(&shop, &policy), [1, 2, 1]);
    let shop = SHOP.replace(", weight: 3", "");
    let shop = shop.replace("labels", "weight: 2147483647, labels");
    let one_locality = shop.replace("east/b", "east/a").replace("west/a", "east/a");
    assert_eq!(weights(&one_locality, ""), [u32::MAX]);
}

#[test]
fn warm_up_budgets_and_streams() {
    let got = resources(
        "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 5s, minimumPercent: 25, aggression: 1.5}}, \
         retryBudget: {percent: 50}, connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7}}",
        "",
    );
    let got = cluster(&got);
    let slow_start = SlowStart {
        window: Nanos::from_secs(5),
        aggression: 1.5,
        min_weight_percent: 25.0,
    };
    assert_eq!(got.slow_start, Some(slow_start));
    let budget = RetryBudget {
        budget_percent: 50.0,
        min_retry_concurrency: 3,
    };
    assert_eq!(got.circuit_breakers.retry_budget, Some(budget));
    assert_eq!(
        (got.http_protocol, got.max_concurrent_streams),
        (HttpProtocol::Http2, 7)
    );
    // Random picks are not weighted.
    let random = resources("loadBalancer: {simple: RANDOM, warmupDurationSecs: 5s}", "");
    assert_eq!(cluster(&random).slow_start, None);
    let least = resources("loadBalancer: {warmupDurationSecs: 5s}", "");
    let slow_start = cluster(&least).slow_start.unwrap();
    assert_eq!(
        (slow_start.aggression, slow_start.min_weight_percent),
        (1.0, 10.0)
    );
}

/// A service and its only pod.
const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}], selector: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec: {containers: []}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2MaxRequests: 9}}}}
";

/// What the sidecar of that pod is told, with `more` objects.
fn told_to_web(more: &str) -> Resources {
    let mut diagnostics = Vec::new();
    let file = SourceFile::new("web.yaml", &format!("{WEB}{more}"));
    let objects = Objects::read(&file, &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    let pods = objects.pods();
    let identity = ProxyIdentity {
        kind: ProxyKind::Sidecar,
        ..pods[0].identity()
    };
    ControlPlane::new(PushSettings::default(), objects, pods).resources(&identity)
}

fn named<'r>(resources: &'r Resources, name: &str) -> &'r Cluster {
    let mut clusters = resources.clusters.iter();
    clusters.find(|cluster| &*cluster.name == name).unwrap()
}

#[test]
fn a_server_takes_no_upgrade_of_its_clients() {
    let got = told_to_web("");
    for (name, protocol) in [
        ("inbound|80||", HttpProtocol::Http1),
        (
            "outbound|80||web.default.svc.cluster.local",
            HttpProtocol::Http2,
        ),
    ] {
        let cluster = named(&got, name);
        assert_eq!(cluster.http_protocol, protocol, "{name}");
        assert_eq!(cluster.circuit_breakers.max_requests, 9, "{name}");
    }
}

#[test]
fn a_server_has_the_policy_of_its_service_if_its_sidecar_sees_it() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: [";
    for (hosts, requests) in [("./*", 9), ("other/*", u32::MAX)] {
        let got = told_to_web(&format!("{sidecar}{hosts}]}}]}}"));
        let cluster = named(&got, "inbound|80||");
        assert_eq!(cluster.circuit_breakers.max_requests, requests, "{hosts}");
    }
}

#[test]
fn retries_leave_priorities_and_forget_hosts() {
    let mesh = "defaultHttpRetryPolicy: {attempts: 4, retryRemoteLocalities: true, retryIgnorePreviousHosts: false}";
    let got = resources("", mesh);
    let mut hosts = got.routes.iter().flat_map(|table| &table.virtual_hosts);
    let host = hosts.find(|host| host.domains.iter().any(|domain| &**domain == "shop.test"));
    let RouteAction::Forward(Forward {
        retry: Some(retry), ..
    }) = &host.unwrap().routes[0].action
    else {
        panic!("no retries");
    };
    assert_eq!(retry.num_retries, 4);
    assert_eq!(retry.previous_priorities_update_frequency, Some(2));
    assert!(!retry.avoid_previous_hosts);
}
