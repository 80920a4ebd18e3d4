//! Localities, zones and subsets: which part of a cluster a request goes to. What is called measured
//! was answered by Envoy 1.40 to the same configuration.

mod support;

use proxy_core::xds::*;
use std::sync::Arc;
use support::picks::*;
use support::*;

/// Locality X of weight 1 with so many of 100 hosts healthy, Y of weight 2 with all: the documented
/// table, by the real formula.
#[test]
fn locality_weights_follow_availability() {
    let cluster = || Cluster {
        locality_lb: LocalityLb::Weighted,
        ..of_policy(LbPolicy::RoundRobin)
    };
    for (healthy, want) in [
        (100, 0.3333),
        (70, 0.3289),
        (69, 0.3257),
        (50, 0.2593),
        (25, 0.1489),
        (0, 0.0),
    ] {
        let x = with_health(hosts(1..101), EndpointHealth::Unhealthy, 100 - healthy);
        let localities = vec![locality("x", 0, 1, x), locality("y", 0, 2, hosts(101..111))];
        let mut world = world(cluster(), localities, to_c());
        let got = picks(&mut world, 3000);
        let share = got.iter().filter(|&&host| host <= 100).count() as f64 / 3000.0;
        assert!(
            (share - want).abs() < 0.001,
            "{healthy}: {share} for {want}"
        );
    }
}

#[test]
fn localities_without_weights_make_no_difference() {
    let cluster = Cluster {
        locality_lb: LocalityLb::Weighted,
        ..of_policy(LbPolicy::RoundRobin)
    };
    let localities = vec![
        locality("x", 0, 0, hosts(1..4)),
        locality("y", 0, 0, hosts(4..5)),
    ];
    let got = picks(&mut world(cluster, localities, to_c()), 400);
    assert_eq!(counts(&got), (1..5).map(|n| (n, 100)).collect());
}

/// Measured: subsets and what is fallen back to. Hosts: 1 {a:1 b:1}, 2 {a:1}, 3 {a:2 b:2}, 4 {}.
#[test]
fn known_subsets() {
    let metadata = |text: &str| -> Vec<(Name, Name)> {
        text.split_whitespace()
            .map(|pair| (pair[..1].into(), pair[1..].into()))
            .collect()
    };
    let selector = |keys: &str, fallback: Option<SubsetFallback>| SubsetSelector {
        keys: keys.chars().map(|key| key.to_string().into()).collect(),
        fallback,
    };
    let any = || Some(SubsetFallback::AnyEndpoint);
    let plain = |selectors: Vec<SubsetSelector>| Subsets {
        selectors,
        fallback: SubsetFallback::NoFallback,
        panic_mode_any: false,
        allow_redundant_keys: false,
    };
    let to_a = Some(SubsetFallback::Keys(vec!["a".into()]));
    let redundant = Subsets {
        fallback: SubsetFallback::DefaultSubset(metadata("a2")),
        allow_redundant_keys: true,
        ..plain(vec![selector("a", None), selector("ab", None)])
    };
    let panics = Subsets {
        fallback: SubsetFallback::DefaultSubset(metadata("a7")),
        panic_mode_any: true,
        ..plain(vec![selector("a", None)])
    };
    // Wanted: a9, a1, a1 b1 c1, a9 b1, b9, nothing.
    for (subsets, want) in [
        (
            plain(vec![selector("ab", None), selector("a", any())]),
            ["0", "12", "0", "0", "0", "0"],
        ),
        (
            plain(vec![selector("a", any()), selector("ab", None)]),
            ["1234", "12", "0", "0", "0", "0"],
        ),
        (
            plain(vec![selector("a", any()), selector("ab", to_a)]),
            ["1234", "12", "0", "1234", "0", "0"],
        ),
        (redundant, ["3", "12", "1", "3", "3", "3"]),
        (panics, ["1234", "12", "1234", "1234", "1234", "1234"]),
    ] {
        for (wanted, want) in ["a9", "a1", "a1 b1 c1", "a9 b1", "b9", ""]
            .into_iter()
            .zip(want)
        {
            let cluster = Cluster {
                subsets: Some(subsets.clone()),
                ..cluster()
            };
            let endpoints = ["a1 b1", "a1", "a2 b2", ""]
                .into_iter()
                .zip(1..)
                .map(|(labels, n)| Endpoint {
                    lb_metadata: metadata(labels),
                    ..Endpoint::new(address(n))
                })
                .collect();
            let forward = Forward {
                subset: metadata(wanted),
                ..to_c()
            };
            let mut world = world(cluster, vec![locality("", 0, 1, endpoints)], forward);
            let got: String = counts(&picks(&mut world, 12))
                .keys()
                .map(u16::to_string)
                .collect();
            assert_eq!(got, want, "{wanted} of {subsets:?}");
        }
    }
}

#[test]
fn the_metadata_of_a_weighted_cluster_wins() {
    let cluster = Cluster {
        subsets: Some(Subsets {
            selectors: vec![SubsetSelector {
                keys: vec!["stage".into(), "version".into()],
                fallback: None,
            }],
            fallback: SubsetFallback::NoFallback,
            panic_mode_any: false,
            allow_redundant_keys: false,
        }),
        ..cluster()
    };
    let labels = |version: &str| {
        vec![
            ("version".into(), version.into()),
            ("stage".into(), "x".into()),
        ]
    };
    let endpoints = [(1, "v1"), (2, "v2")]
        .map(|(n, version)| Endpoint {
            lb_metadata: labels(version),
            ..Endpoint::new(address(n))
        })
        .to_vec();
    let forward = Forward {
        subset: labels("v1"),
        clusters: vec![WeightedCluster {
            subset: vec![("version".into(), "v2".into())],
            ..WeightedCluster::new("c".into(), 1)
        }],
        ..to_c()
    };
    let mut world = world(cluster, vec![locality("", 0, 1, endpoints)], forward);
    assert_eq!(picks(&mut world, 3), [2, 2, 2]);
}

/// Unhealthy hosts of a subset do not make it fall back.
#[test]
fn a_subset_with_any_host_is_final() {
    let cluster = Cluster {
        subsets: Some(Subsets {
            selectors: vec![SubsetSelector {
                keys: vec!["v".into()],
                fallback: None,
            }],
            fallback: SubsetFallback::AnyEndpoint,
            panic_mode_any: true,
            allow_redundant_keys: false,
        }),
        ..cluster()
    };
    let endpoint = |n, health| Endpoint {
        health,
        lb_metadata: vec![("v".into(), format!("{n}").into())],
        ..Endpoint::new(address(n))
    };
    let endpoints = vec![
        endpoint(1, EndpointHealth::Unhealthy),
        endpoint(2, EndpointHealth::Healthy),
    ];
    let forward = Forward {
        subset: vec![("v".into(), "1".into())],
        ..to_c()
    };
    let mut world = world(cluster, vec![locality("", 0, 1, endpoints)], forward);
    assert_eq!(picks(&mut world, 2), [0, 0]);
    // Once it has no host at all, anyone will do.
    assign(
        &mut world,
        vec![locality(
            "",
            0,
            1,
            vec![endpoint(2, EndpointHealth::Healthy)],
        )],
    );
    assert_eq!(picks(&mut world, 2), [2, 2]);
}

fn zones(here: u8, there: u8) -> Vec<LocalityEndpoints> {
    vec![
        locality("r/b", 0, 1, hosts(101..101 + there)),
        locality("r/a", 0, 1, hosts(1..1 + here)),
    ]
}

/// Where 4,000 requests of a proxy in `r/a` go: the share of its own zone. `mine` are the members of
/// its own cluster, in `r/a` and `r/b`.
fn share_of_own_zone(locality_lb: LocalityLb, mine: (u8, u8), upstream: (u8, u8)) -> f64 {
    let identity = proxy_core::Identity {
        locality: Some("r/a".into()),
        local_cluster: Some("me".into()),
        ..proxy_core::Identity::new(1, "p".into(), 1)
    };
    let mut world = World::with_identity(&identity);
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: vec![Arc::new(route("/", RouteAction::Forward(to_c())))],
        ..VirtualHost::default()
    };
    world.table(vec![host]);
    let me = Cluster {
        name: "me".into(),
        ..cluster()
    };
    let upstream_cluster = Cluster {
        locality_lb,
        ..cluster()
    };
    world.xds(XdsDelta::Clusters {
        upsert: vec![Arc::new(upstream_cluster), Arc::new(me)],
        remove: vec![],
    });
    assign(&mut world, zones(upstream.0, upstream.1));
    world.xds(XdsDelta::Endpoints {
        upsert: vec![Arc::new(LoadAssignment::new(
            "me".into(),
            zones(mine.0, mine.1),
        ))],
    });
    let got = picks(&mut world, 4000);
    got.iter().filter(|&&host| host <= 100).count() as f64 / 4000.0
}

#[test]
fn requests_stay_in_the_zone_as_far_as_fair() {
    let aware = |force| {
        LocalityLb::ZoneAware(ZoneAware {
            routing_enabled_percent: 100,
            min_cluster_size: 6,
            force_local_zone_min_size: force,
        })
    };
    for (locality_lb, mine, upstream, want) in [
        // Measured: on by default where the own cluster is known.
        (LocalityLb::None, (1, 1), (4, 4), 1.0),
        (aware(None), (1, 1), (4, 4), 1.0),
        (aware(None), (3, 1), (4, 4), 0.6666),
        // Too few hosts: as if there were no zones.
        (aware(None), (1, 1), (2, 3), 0.4),
        // Not in our own cluster.
        (aware(None), (0, 2), (4, 4), 0.5),
        (aware(Some(2)), (9, 1), (2, 8), 1.0),
        (aware(Some(3)), (9, 1), (2, 8), 0.2222),
        (LocalityLb::Weighted, (3, 1), (4, 4), 0.5),
    ] {
        let share = share_of_own_zone(locality_lb, mine, upstream);
        // 5 standard deviations.
        assert!(
            (share - want).abs() < 0.04,
            "{locality_lb:?} {mine:?} {upstream:?}: {share}"
        );
    }
}

/// Locality weights count for the cluster as a whole, not inside a subset.
#[test]
fn subsets_do_not_know_locality_weights() {
    let subsets = Subsets {
        selectors: vec![SubsetSelector {
            keys: vec!["v".into()],
            fallback: None,
        }],
        fallback: SubsetFallback::NoFallback,
        panic_mode_any: false,
        allow_redundant_keys: false,
    };
    let labelled = |numbers: std::ops::Range<u8>| {
        let mut endpoints = hosts(numbers);
        for endpoint in &mut endpoints {
            endpoint.lb_metadata = vec![("v".into(), "1".into())];
        }
        endpoints
    };
    for policy in [LbPolicy::RoundRobin, ring()] {
        let cluster = Cluster {
            locality_lb: LocalityLb::Weighted,
            subsets: Some(subsets.clone()),
            ..of_policy(policy)
        };
        let forward = Forward {
            subset: vec![("v".into(), "1".into())],
            ..to_c()
        };
        let localities = vec![
            locality("x", 0, 1, labelled(1..2)),
            locality("y", 0, 0, labelled(2..5)),
        ];
        let got = picks(&mut world(cluster, localities, forward), 400);
        assert_eq!(counts(&got).len(), 4, "{got:?}");
    }
}

/// Measured: a copy of a request asks for the subset that the request itself asks for.
#[test]
fn mirrors_ask_for_the_same_subset() {
    let mirror = Mirror {
        cluster: "m".into(),
        fraction: Fraction::ALWAYS,
        shadow_suffix: true,
    };
    let wants = |value: &str| vec![("a".into(), value.into())];
    let forward = Forward {
        subset: wants("1"),
        clusters: vec![WeightedCluster {
            subset: wants("2"),
            ..WeightedCluster::new("c".into(), 1)
        }],
        mirrors: vec![mirror],
        ..to_c()
    };
    let mut world = world(cluster(), vec![locality("", 0, 1, hosts([1]))], forward);
    let copies = Cluster {
        name: "m".into(),
        subsets: Some(Subsets {
            selectors: vec![SubsetSelector {
                keys: vec!["a".into()],
                fallback: None,
            }],
            fallback: SubsetFallback::AnyEndpoint,
            panic_mode_any: false,
            allow_redundant_keys: false,
        }),
        ..cluster()
    };
    world.cluster(copies, vec![]);
    let endpoints = [(2, "1"), (3, "2")].map(|(n, value)| Endpoint {
        lb_metadata: wants(value),
        ..Endpoint::new(address(n))
    });
    let localities = vec![locality("", 0, 1, endpoints.to_vec())];
    world.xds(XdsDelta::Endpoints {
        upsert: vec![Arc::new(LoadAssignment::new("m".into(), localities))],
    });
    picks(&mut world, 5);
    assert!(world.sent_to(2).is_empty());
    assert_eq!(world.sent_to(3).len(), 5);
}
