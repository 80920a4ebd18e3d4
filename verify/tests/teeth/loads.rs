//! Clusters whose endpoints differ in health, weight and priority, in more ways than rules can say.

use crate::{changed, objects, proxy, service, services};
use control_plane::Request;
use proxy_core::xds::EndpointHealth::{self, Degraded, Draining, Healthy, Unhealthy};
use proxy_core::xds::{
    Cluster, Endpoint, LbPolicy, LoadAssignment, LocalityEndpoints, LocalityLb, RingHashFunction,
};
use verify::Config;

/// Requests to each of the clusters that hash.
const KEYS: std::ops::Range<u32> = 0..24;

/// Pods of one locality and priority: last number of the address, health, weight.
struct Tier(u32, u32, &'static str, &'static [(u8, EndpointHealth, u32)]);

/// The services, and their DestinationRules' policies.
const SERVICES: &[(&str, &str)] = &[
    ("tiers", "{loadBalancer: {simple: RANDOM}}"),
    ("tiers-degraded", "{loadBalancer: {simple: RANDOM}}"),
    (
        "tiers-ring",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 50}}}}",
    ),
    (
        "tiers-maglev",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}}",
    ),
    ("weighted-tiers", "{loadBalancer: {simple: RANDOM}}"),
    ("panic-tiers", "{loadBalancer: {simple: RANDOM}}"),
    ("places", "{loadBalancer: {simple: ROUND_ROBIN}}"),
    ("places-degraded", "{loadBalancer: {simple: RANDOM}}"),
    (
        "places-ring",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 50}}}}",
    ),
    (
        "places-maglev",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}}",
    ),
    ("degraded", "{loadBalancer: {simple: RANDOM}}"),
    (
        "thirds",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 50}}}}",
    ),
    ("calm", "{loadBalancer: {simple: RANDOM}}"),
    ("calm-degraded", "{loadBalancer: {simple: RANDOM}}"),
    ("edge", "{loadBalancer: {simple: RANDOM}}"),
    ("all-down", "{loadBalancer: {simple: RANDOM}}"),
    ("panic", "{loadBalancer: {simple: RANDOM}}"),
    ("fail-on-panic", "{loadBalancer: {simple: RANDOM}}"),
    ("weighted", "{loadBalancer: {simple: LEAST_REQUEST}}"),
    ("weighted-random", "{loadBalancer: {simple: RANDOM}}"),
    (
        "weighted-ring",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 50}}}}",
    ),
    (
        "weighted-maglev",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}}",
    ),
    ("weighted-turns", "{loadBalancer: {simple: ROUND_ROBIN}}"),
    ("scan", "{loadBalancer: {simple: LEAST_REQUEST}}"),
    ("biased", "{loadBalancer: {simple: LEAST_REQUEST}}"),
    (
        "murmur",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 50}}}}",
    ),
];

const NEAR: &str = "r1/z1";
const BESIDE: &str = "r1/z2";
const FAR: &str = "r2/z3";

/// Priority, weight, place and pods.
fn tiers(service: &str) -> Vec<Tier> {
    let one = |pods| vec![Tier(0, 1, NEAR, pods)];
    match service {
        // 40 percent near, half of the rest takes all of the rest.
        "tiers" | "tiers-ring" | "tiers-maglev" => vec![
            Tier(
                0,
                1,
                NEAR,
                &[
                    (1, Healthy, 1),
                    (3, Unhealthy, 1),
                    (2, Unhealthy, 1),
                    (5, Draining, 1),
                ],
            ),
            Tier(1, 1, FAR, &[(4, Healthy, 1)]),
        ],
        "tiers-degraded" => vec![
            Tier(
                0,
                1,
                NEAR,
                &[
                    (1, Healthy, 1),
                    (3, Degraded, 1),
                    (2, Unhealthy, 1),
                    (5, Unhealthy, 1),
                ],
            ),
            Tier(1, 1, FAR, &[(4, Healthy, 1)]),
        ],
        "weighted-tiers" => vec![
            Tier(0, 1, NEAR, &[(1, Healthy, 1), (3, Unhealthy, 5)]),
            Tier(1, 1, FAR, &[(4, Healthy, 3), (2, Healthy, 2)]),
        ],
        "panic-tiers" => vec![
            Tier(
                0,
                1,
                NEAR,
                &[
                    (1, Healthy, 1),
                    (3, Unhealthy, 1),
                    (2, Unhealthy, 1),
                    (5, Unhealthy, 1),
                ],
            ),
            Tier(1, 1, FAR, &[(4, Unhealthy, 1)]),
        ],
        "places" => vec![
            Tier(0, 30, NEAR, &[(1, Healthy, 1), (3, Unhealthy, 1)]),
            Tier(0, 50, BESIDE, &[(2, Healthy, 1), (5, Healthy, 2)]),
            Tier(0, 20, FAR, &[(4, Unhealthy, 1)]),
        ],
        "places-degraded" => vec![
            Tier(0, 30, NEAR, &[(1, Healthy, 1), (3, Degraded, 1)]),
            Tier(0, 50, BESIDE, &[(2, Degraded, 1), (5, Unhealthy, 2)]),
        ],
        "places-ring" | "places-maglev" => vec![
            Tier(0, 3, NEAR, &[(1, Healthy, 1), (3, Healthy, 4)]),
            Tier(0, 5, BESIDE, &[(2, Healthy, 1), (5, Unhealthy, 1)]),
            Tier(0, 0, FAR, &[(4, Healthy, 1)]),
        ],
        "scan" => one(&[(1, Healthy, 1), (2, Healthy, 1), (3, Healthy, 1)]),
        "degraded" => one(&[
            (1, Healthy, 1),
            (2, Degraded, 1),
            (3, Degraded, 1),
            (4, Unhealthy, 1),
        ]),
        // 66.7 and 33.3 of a hundred: one is left over.
        "thirds" => vec![
            Tier(
                0,
                1,
                NEAR,
                &[(1, Healthy, 1), (2, Unhealthy, 1), (3, Unhealthy, 1)],
            ),
            Tier(
                1,
                1,
                FAR,
                &[
                    (4, Healthy, 1),
                    (5, Unhealthy, 5),
                    (6, Unhealthy, 1),
                    (7, Unhealthy, 1),
                    (8, Unhealthy, 1),
                    (9, Unhealthy, 1),
                ],
            ),
        ],
        "calm" | "edge" => one(&[
            (1, Healthy, 1),
            (2, Healthy, 1),
            (3, Unhealthy, 1),
            (4, Unhealthy, 1),
            (5, Unhealthy, 1),
        ]),
        "calm-degraded" => one(&[
            (1, Healthy, 1),
            (2, Degraded, 1),
            (3, Unhealthy, 1),
            (4, Unhealthy, 1),
            (5, Unhealthy, 1),
        ]),
        "all-down" => one(&[(1, Unhealthy, 1), (2, Unhealthy, 1)]),
        "panic" | "fail-on-panic" => one(&[
            (1, Healthy, 1),
            (2, Unhealthy, 1),
            (3, Unhealthy, 1),
            (4, Degraded, 1),
        ]),
        _ => one(&[(1, Healthy, 1), (2, Healthy, 4), (3, Healthy, 2)]),
    }
}

/// What no rule can set.
fn change(service: &str, cluster: &mut Cluster) {
    let least_request = |active_request_bias, full_scan| LbPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias,
        full_scan,
    };
    match service {
        "panic" => cluster.healthy_panic_threshold_percent = 60,
        "fail-on-panic" => {
            cluster.healthy_panic_threshold_percent = 60;
            cluster.fail_traffic_on_panic = true;
        }
        "thirds" => cluster.healthy_panic_threshold_percent = 0,
        "panic-tiers" | "tiers" => cluster.healthy_panic_threshold_percent = 50,
        "calm" | "calm-degraded" => cluster.healthy_panic_threshold_percent = 30,
        "edge" => cluster.healthy_panic_threshold_percent = 40,
        "scan" => cluster.lb_policy = least_request(1.0, true),
        "biased" => cluster.lb_policy = least_request(0.5, false),
        "places" | "places-degraded" | "places-ring" | "places-maglev" => {
            cluster.locality_lb = LocalityLb::Weighted;
        }
        "murmur" => {
            if let LbPolicy::RingHash { function, .. } = &mut cluster.lb_policy {
                *function = RingHashFunction::Murmur2;
            }
        }
        _ => {}
    }
}

/// A remainder of one percent takes many keys to be seen.
fn keys(service: &str) -> std::ops::Range<u32> {
    match service {
        "thirds" => 0..300,
        _ => KEYS,
    }
}

fn assignment(service: &str, before: &LoadAssignment) -> LoadAssignment {
    let port = before.localities[0].endpoints[0].address.port();
    let tiers = tiers(service).into_iter();
    let localities = tiers.map(|Tier(priority, weight, locality, pods)| {
        let endpoint = |&(pod, health, weight): &(u8, EndpointHealth, u32)| Endpoint {
            health,
            weight,
            ..Endpoint::new(([10, 0, 0, pod], port).into())
        };
        LocalityEndpoints {
            locality: locality.into(),
            priority,
            weight,
            endpoints: pods.iter().map(endpoint).collect(),
        }
    });
    LoadAssignment {
        weighted_priority_health: service == "weighted-tiers",
        ..LoadAssignment::new(before.cluster.clone(), localities.collect())
    }
}

/// So many configurations share the services: the requests of one are sent one after another.
const SHARES: usize = 6;

pub fn configs() -> Vec<Config> {
    let objects = objects(&[
        ("mesh.yaml", include_str!("mesh.yaml")),
        ("services.yaml", &services(8100, SERVICES)),
    ]);
    let (proxy, resources) = proxy(&objects, "client-0");
    let mut requests = vec![Vec::new(); SHARES];
    let clusters = resources.clusters.iter();
    for (at, service) in clusters.filter_map(|c| service(&c.name)).enumerate() {
        for key in keys(service) {
            let mut request = Request::to_url(&format!("http://{service}/{key}")).unwrap();
            request.add_header(&format!("x-user: user-{key}")).unwrap();
            request.resolve(&objects, &proxy);
            requests[at % SHARES].push(request);
        }
    }
    let resources = changed(resources, change, assignment);
    let config = |(share, requests)| Config {
        name: format!("loads {share}"),
        proxy: proxy.clone(),
        resources: resources.clone(),
        requests,
    };
    requests.into_iter().enumerate().map(config).collect()
}
