//! Which endpoint a request goes to, through a whole worker. What is called measured was answered by
//! Envoy 1.40 to the same configuration.

mod support;

use proptest::prelude::*;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use support::*;

const MAXIMUM_RING_SIZE: u64 = 8 * 1024 * 1024;

fn ring() -> LbPolicy {
    LbPolicy::RingHash {
        minimum_ring_size: 1024,
        maximum_ring_size: MAXIMUM_RING_SIZE,
        function: RingHashFunction::XxHash,
        hashing: ConsistentHashing::default(),
    }
}

fn maglev() -> LbPolicy {
    LbPolicy::Maglev {
        table_size: 65537,
        hashing: ConsistentHashing::default(),
    }
}

fn least_request() -> LbPolicy {
    LbPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias: 1.0,
        full_scan: false,
    }
}

fn of_policy(lb_policy: LbPolicy) -> Cluster {
    Cluster {
        lb_policy,
        ..cluster()
    }
}

/// Five endpoints, each shaped by its number from 0.
fn five(shape: impl Fn(usize, &mut Endpoint)) -> Vec<Endpoint> {
    (0..5)
        .map(|i| {
            let mut endpoint = Endpoint::new(SocketAddr::from(([127, 0, 1, i as u8 + 1], 28391)));
            shape(i, &mut endpoint);
            endpoint
        })
        .collect()
}

fn locality(name: &str, priority: u32, weight: u32, endpoints: Vec<Endpoint>) -> LocalityEndpoints {
    LocalityEndpoints {
        locality: name.into(),
        priority,
        weight,
        endpoints,
    }
}

fn hashed_by_header() -> Forward {
    let by_header = HashPolicy {
        input: HashInput::Header("k".into()),
        terminal: false,
    };
    Forward {
        hash_policies: vec![by_header],
        ..to_c()
    }
}

fn world(cluster: Cluster, localities: Vec<LocalityEndpoints>, forward: Forward) -> World {
    let mut world = World::with_routes(vec![route("/", RouteAction::Forward(forward))]);
    world.xds(XdsDelta::Clusters {
        upsert: vec![Arc::new(cluster)],
        remove: vec![],
    });
    assign(&mut world, localities);
    world
}

fn assign(world: &mut World, localities: Vec<LocalityEndpoints>) {
    let assignment = LoadAssignment::new("c".into(), localities);
    world.xds(XdsDelta::Endpoints {
        upsert: vec![Arc::new(assignment)],
    });
}

/// Where `count` requests go, one after the other; 0: nowhere.
fn picks(world: &mut World, count: u64) -> Vec<u16> {
    let start = world.now.as_millis() + 10;
    let keys: Vec<u64> = (0..count).map(|i| world.get(start + 2 * i, "/")).collect();
    world.run(start + 2 * count + 10);
    keys.into_iter().map(|key| went_to(world, key)).collect()
}

fn went_to(world: &World, key: u64) -> u16 {
    match world.log(key).endpoint {
        Some(_) => world.host_of(key),
        None => 0,
    }
}

fn counts(picks: &[u16]) -> BTreeMap<u16, usize> {
    picks.iter().fold(BTreeMap::new(), |mut counts, &host| {
        *counts.entry(host).or_default() += 1;
        counts
    })
}

fn digits(picks: &[u16]) -> String {
    picks.iter().map(u16::to_string).collect()
}

/// Measured: where keys `key-0` to `key-39` go.
#[test]
fn known_hash_tables() {
    let plain = || vec![locality("", 0, 1, five(|_, _| {}))];
    let keyed = |keys: &'static str| {
        let key = |i: usize| keys[i..=i].into();
        let shape = move |i: usize, e: &mut Endpoint| {
            e.lb_metadata = vec![("hash_key".into(), key(i))];
        };
        vec![locality("", 0, 1, five(shape))]
    };
    let named = five(|i, e| e.hostname = Some(format!("{}.example", &"abcde"[i..=i]).into()));
    let weighted = five(|i, e| e.weight = i as u32 + 1);
    let in_localities = || {
        let mut hosts = five(|_, _| {}).into_iter();
        let mut next = |n| hosts.by_ref().take(n).collect();
        vec![
            locality("z", 0, 1, next(2)),
            locality("b", 0, 3, next(2)),
            locality("n", 0, 0, next(1)),
        ]
    };
    let murmur = LbPolicy::RingHash {
        minimum_ring_size: 1024,
        maximum_ring_size: MAXIMUM_RING_SIZE,
        function: RingHashFunction::Murmur2,
        hashing: ConsistentHashing::default(),
    };
    let by_hostname = LbPolicy::RingHash {
        minimum_ring_size: 1024,
        maximum_ring_size: MAXIMUM_RING_SIZE,
        function: RingHashFunction::XxHash,
        hashing: ConsistentHashing {
            use_hostname: true,
            hash_balance_factor_percent: None,
        },
    };
    let by_locality = |lb_policy| Cluster {
        locality_lb: LocalityLb::Weighted,
        ..of_policy(lb_policy)
    };
    for (cluster, localities, want) in [
        (
            of_policy(ring()),
            plain(),
            "4134125223324323323553131114451415413135",
        ),
        (
            of_policy(murmur),
            plain(),
            "5415225331534541112142431234414541131135",
        ),
        (
            of_policy(ring()),
            keyed("abcde"),
            "5535451452141124235251132212534345423444",
        ),
        (
            of_policy(by_hostname),
            vec![locality("", 0, 1, named)],
            "2252415131131314434523555512315542535351",
        ),
        (
            of_policy(ring()),
            vec![locality("", 0, 1, weighted)],
            "4534125223524353323554534545551415413435",
        ),
        (
            by_locality(ring()),
            in_localities(),
            "4434144223324333324344434344434444413433",
        ),
        (
            of_policy(maglev()),
            plain(),
            "5144434411111115341154543244121225444331",
        ),
        (
            by_locality(maglev()),
            in_localities(),
            "3144434414131434341124343344141223444333",
        ),
        (
            of_policy(maglev()),
            keyed("abcde"),
            "1431554312454445544345214432441144215333",
        ),
    ] {
        let label = format!("{:?}", cluster.lb_policy);
        let mut world = world(cluster, localities, hashed_by_header());
        let keys: Vec<u64> = (0..40)
            .map(|i| world.request(1 + i, head("/", &[("k", &format!("key-{i}"))])))
            .collect();
        world.run(100);
        let got: Vec<u16> = keys.into_iter().map(|key| world.host_of(key)).collect();
        assert_eq!(digits(&got), want, "{label}");
    }
}

/// Measured: fourteen requests with one key, none of which is answered.
#[test]
fn known_bounded_loads() {
    for (policy, weights, factor, key, want) in [
        (ring(), [1; 5], 150, "key-0", "44545545334534"),
        (ring(), [1; 5], 150, "key-1", "11515515441541"),
        (ring(), [1; 5], 150, "key-2", "33232232113213"),
        (maglev(), [1; 5], 120, "key-0", "55335322532253"),
        (maglev(), [1; 5], 120, "key-1", "11551544154415"),
        (maglev(), [1; 5], 120, "key-2", "44224233423342"),
        (ring(), [1, 2, 3, 4, 5], 100, "key-0", "44545554353453"),
        (ring(), [1, 2, 3, 4, 5], 100, "key-1", "55454454151452"),
        (ring(), [1, 2, 3, 4, 5], 100, "key-2", "33221312443444"),
    ] {
        let mut policy = policy;
        if let LbPolicy::RingHash { hashing, .. } | LbPolicy::Maglev { hashing, .. } = &mut policy {
            hashing.hash_balance_factor_percent = Some(factor);
        }
        let hosts = five(|i, e| e.weight = weights[i]);
        let mut world = world(
            of_policy(policy),
            vec![locality("", 0, 1, hosts.clone())],
            hashed_by_header(),
        );
        for endpoint in &hosts {
            world.behaviours.insert(endpoint.address, Behaviour::Silent);
        }
        for i in 0..14 {
            world.request(1 + i, head("/", &[("k", key)]));
        }
        world.run(100);
        let got: Vec<u16> = world
            .sent
            .iter()
            .map(|sent| match sent.1 {
                SocketAddr::V4(v4) => u16::from(v4.ip().octets()[3]),
                SocketAddr::V6(_) => 0,
            })
            .collect();
        assert_eq!(digits(&got), want, "{factor} {key}");
    }
}

/// The recorded key maps of real runs: every key goes where Envoy sent it.
#[test]
fn recorded_key_maps() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle/golden/lb");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: {folder} is not there");
        return;
    };
    let mut maps = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let Some(map) = golden["map"].as_object() else {
            continue;
        };
        maps += 1;
        assert_key_map(&golden, map);
    }
    assert!(maps > 5, "only {maps} key maps");
}

fn assert_key_map(golden: &serde_json::Value, map: &serde_json::Map<String, serde_json::Value>) {
    let addresses = golden["addresses"].as_object().unwrap();
    // What was ejected takes no keys.
    let endpoints: Vec<Endpoint> = addresses
        .iter()
        .filter(|(id, _)| golden["map_counts"].get(id.as_str()).is_some())
        .map(|(id, address)| Endpoint {
            weight: golden["weights"][id].as_u64().unwrap() as u32,
            ..Endpoint::new(address.as_str().unwrap().parse().unwrap())
        })
        .collect();
    let config = &golden["clusters"][0];
    let size = |field: &str, name: &str, default| config[field][name].as_u64().unwrap_or(default);
    let lb_policy = match config["lb_policy"].as_str() {
        Some("RING_HASH") => LbPolicy::RingHash {
            minimum_ring_size: size("ring_hash_lb_config", "minimum_ring_size", 1024),
            maximum_ring_size: MAXIMUM_RING_SIZE,
            function: RingHashFunction::XxHash,
            hashing: ConsistentHashing::default(),
        },
        _ => LbPolicy::Maglev {
            table_size: size("maglev_lb_config", "table_size", 65537),
            hashing: ConsistentHashing::default(),
        },
    };
    let localities = vec![locality("", 0, 1, endpoints)];
    let mut world = world(of_policy(lb_policy), localities, hashed_by_header());
    let keys: Vec<(u64, &String, &str)> = map
        .iter()
        .zip(1..)
        .map(|((key, endpoint), at)| {
            let number = world.request(at, head("/", &[("k", key)]));
            (
                number,
                key,
                addresses[endpoint.as_str().unwrap()].as_str().unwrap(),
            )
        })
        .collect();
    world.run(keys.len() as u64 + 10);
    for (number, key, address) in keys {
        let endpoint = world.log(number).endpoint.unwrap();
        let got = world.proxy.worker(0).endpoint_address(endpoint).unwrap();
        assert_eq!(got.to_string(), address, "{} {key}", golden["case"]);
    }
}

/// Measured: the steady order of weighted round robin and of least request without concurrency.
#[test]
fn known_weighted_cycles() {
    for (policy, weights, cycle) in [
        (LbPolicy::RoundRobin, &[1, 2, 3][..], "123323"),
        (LbPolicy::RoundRobin, &[5, 1, 1], "1111231"),
        (least_request(), &[1, 2, 3], "312332"),
    ] {
        let hosts = weights
            .iter()
            .zip(1..)
            .map(|(&weight, n)| Endpoint {
                weight,
                ..Endpoint::new(address(n))
            })
            .collect();
        let mut world = world(of_policy(policy), vec![locality("", 0, 1, hosts)], to_c());
        let got = digits(&picks(&mut world, cycle.len() as u64 * 4));
        let endless = cycle.repeat(6);
        assert!(endless.contains(&got), "{weights:?}: {got}");
    }
}

fn hosts(numbers: impl IntoIterator<Item = u8>) -> Vec<Endpoint> {
    numbers
        .into_iter()
        .map(|n| Endpoint::new(address(n)))
        .collect()
}

fn with_health(
    mut endpoints: Vec<Endpoint>,
    health: EndpointHealth,
    first: usize,
) -> Vec<Endpoint> {
    for endpoint in endpoints.iter_mut().take(first) {
        endpoint.health = health;
    }
    endpoints
}

/// Each of a hundred hash residues goes to the priority that the loads say.
#[test]
fn every_residue_falls_to_its_priority() {
    let unhealthy = |numbers: std::ops::Range<u8>, ill| {
        with_health(hosts(numbers), EndpointHealth::Unhealthy, ill)
    };
    // 25 % and 100 % of the hosts healthy.
    let localities = vec![
        locality("", 0, 1, unhealthy(1..5, 3)),
        locality("", 1, 1, unhealthy(11..15, 0)),
    ];
    let mut world = world(of_policy(ring()), localities, hashed_by_header());
    let mut residues = [None; 100];
    for i in 0u32.. {
        let key = format!("k{i}");
        let residue = (proxy_core::random::hash_text(&key) % 100) as usize;
        if residues[residue].is_none() {
            residues[residue] = Some(world.request(1, head("/", &[("k", &key)])));
        }
        if residues.iter().all(Option::is_some) {
            break;
        }
    }
    world.run(100);
    for (residue, key) in residues.into_iter().enumerate() {
        let first = world.host_of(key.unwrap()) < 10;
        assert_eq!(first, residue < 35, "residue {residue}");
    }
}

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

#[test]
fn a_panic_fails_traffic_if_asked_to() {
    for (fail_traffic_on_panic, policy, want) in [
        (false, LbPolicy::RoundRobin, 4),
        (true, LbPolicy::RoundRobin, 1),
        (true, LbPolicy::Random, 1),
        // Consistent hashing does not know the setting.
        (true, ring(), 4),
    ] {
        let cluster = Cluster {
            fail_traffic_on_panic,
            healthy_panic_threshold_percent: 50,
            ..of_policy(policy)
        };
        let endpoints = with_health(hosts(1..5), EndpointHealth::Unhealthy, 3);
        let mut world = world(cluster, vec![locality("", 0, 1, endpoints)], to_c());
        let got = counts(&picks(&mut world, 64));
        assert_eq!(got.len(), want, "{got:?}");
        assert_eq!(got.contains_key(&0), want == 1);
    }
}

#[test]
fn degraded_hosts_help_out() {
    for (policy, degraded) in [(LbPolicy::RoundRobin, 30.0), (ring(), 0.0)] {
        let endpoints = with_health(hosts(1..11), EndpointHealth::Degraded, 5);
        let mut world = world(
            of_policy(policy),
            vec![locality("", 0, 1, endpoints)],
            to_c(),
        );
        let got = picks(&mut world, 4000);
        let share = got.iter().filter(|&&host| (1..=5).contains(&host)).count() as f64 / 40.0;
        // 5 standard deviations. Under ring hash nobody takes over.
        assert!((share - degraded).abs() < 3.7, "{share} % for {degraded} %");
    }
}

/// A rotation goes on over changes of membership, weighted or not.
#[test]
fn rotations_outlive_changes() {
    let mut world = world(cluster(), vec![locality("", 0, 1, hosts(1..6))], to_c());
    let first = picks(&mut world, 3);
    assert_eq!(first[1], first[0] % 5 + 1);
    assign(
        &mut world,
        vec![locality(
            "",
            0,
            1,
            with_health(hosts(1..6), EndpointHealth::Degraded, 0),
        )],
    );
    let unchanged = picks(&mut world, 1);
    assert_eq!(unchanged[0], first[2] % 5 + 1);
    let weighted = |weight| {
        let mut endpoints = hosts(1..6);
        endpoints[0].weight = weight;
        vec![locality("", 0, 1, endpoints)]
    };
    assign(&mut world, weighted(2));
    picks(&mut world, 7);
    assign(&mut world, weighted(1));
    assert_eq!(picks(&mut world, 1)[0], unchanged[0] % 5 + 1);
}

/// The order in which endpoints are listed is the order of the rotation, not their age.
#[test]
fn hosts_are_in_the_order_of_their_listing() {
    let mut world = world(cluster(), vec![locality("", 0, 1, hosts([3, 4]))], to_c());
    picks(&mut world, 1);
    assign(&mut world, vec![locality("", 0, 1, hosts([1, 2, 3, 4]))]);
    let got = picks(&mut world, 8);
    for pair in got.windows(2) {
        assert_eq!(pair[1], pair[0] % 4 + 1, "{got:?}");
    }
}

#[test]
fn the_whole_cluster_is_scanned_for_the_least_requests() {
    let policy = LbPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias: 1.0,
        full_scan: true,
    };
    let mut world = world(
        of_policy(policy),
        vec![locality("", 0, 1, hosts(1..9))],
        to_c(),
    );
    for n in 1..9 {
        world.behave(n, Behaviour::Silent);
    }
    let keys: Vec<u64> = (0..16).map(|i| world.get(1 + i, "/")).collect();
    world.run(50);
    let sent: Vec<u16> = world
        .sent
        .iter()
        .map(|s| u16::from(s.1.to_string().as_bytes()[7] - b'0'))
        .collect();
    assert_eq!(keys.len(), sent.len());
    // Everyone gets one before anyone gets two.
    assert_eq!(counts(&sent[..8]).len(), 8, "{sent:?}");
    assert_eq!(counts(&sent[8..]).len(), 8, "{sent:?}");
    assert_ne!(sent[..8], [1, 2, 3, 4, 5, 6, 7, 8], "ties are drawn");
}

/// A host that joins gets a tenth of its weight at first, half of it after half the window, and all
/// of it afterwards.
#[test]
fn slow_start_ramps_up() {
    let cluster = Cluster {
        slow_start: Some(SlowStart {
            window: Nanos::from_secs(100),
            aggression: 1.0,
            min_weight_percent: 10.0,
        }),
        ..cluster()
    };
    let mut world = world(cluster, vec![locality("", 0, 1, hosts(1..5))], to_c());
    world.run(200_000);
    assign(&mut world, vec![locality("", 0, 1, hosts(1..6))]);
    let mut share = |from_ms: u64| {
        world.run(from_ms);
        let got = picks(&mut world, 410);
        got.iter().filter(|&&host| host == 5).count()
    };
    let (start, middle, end) = (share(200_001), share(250_000), share(300_001));
    assert!((9..=12).contains(&start), "{start}");
    // Slightly late: a weight is read again only when its host is picked.
    assert!((42..=46).contains(&middle), "{middle}");
    assert!((81..=83).contains(&end), "{end}");
}

/// Retries leave the priorities tried before, and come back once none is left.
#[test]
fn retries_leave_priorities_behind() {
    for (frequency, want) in [(1, [0, 1, 2, 0]), (2, [0, 0, 1, 1])] {
        let policy = RetryPolicy {
            previous_priorities_update_frequency: Some(frequency),
            avoid_previous_hosts: false,
            ..retries(3, "5xx")
        };
        let forward = Forward {
            retry: Some(policy),
            ..to_c()
        };
        let localities = (0..3)
            .map(|p| locality("", p, 1, hosts([1 + p as u8 * 10, 2 + p as u8 * 10])))
            .collect();
        let mut world = world(cluster(), localities, forward);
        for n in [1, 2, 11, 12, 21, 22] {
            world.behave(n, Behaviour::Status(503, 1));
        }
        world.get(1, "/");
        world.run(5000);
        let tried: Vec<u32> = world
            .sent
            .iter()
            .map(|sent| match sent.1 {
                SocketAddr::V4(v4) => u32::from(v4.ip().octets()[3]) / 10,
                SocketAddr::V6(_) => u32::MAX,
            })
            .collect();
        assert_eq!(tried, want, "every {frequency}");
    }
}

/// However many hosts were tried, none is forgotten.
#[test]
fn retries_remember_every_host() {
    let policy = RetryPolicy {
        host_selection_retry_max_attempts: 100,
        ..retries(11, "5xx")
    };
    let forward = Forward {
        retry: Some(policy),
        ..to_c()
    };
    let random = of_policy(LbPolicy::Random);
    let mut world = world(random, vec![locality("", 0, 1, hosts(1..13))], forward);
    for n in 1..13 {
        world.behave(n, Behaviour::Status(503, 1));
    }
    world.get(1, "/");
    world.run(60_000);
    let tried: std::collections::BTreeSet<SocketAddr> = world.sent.iter().map(|s| s.1).collect();
    assert_eq!((world.sent.len(), tried.len()), (12, 12));
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

/// Slots of hosts that left are used again, and what is left of the old host does not show.
#[test]
fn endpoints_come_and_go() {
    let mut world = world(of_policy(least_request()), vec![], to_c());
    for round in 0..200u64 {
        let first = (round % 50) as u8 * 4 + 1;
        assign(
            &mut world,
            vec![locality("", 0, 1, hosts(first..first + 4))],
        );
        let got = picks(&mut world, 8);
        let members = u16::from(first)..u16::from(first) + 4;
        assert!(got.iter().all(|host| members.contains(host)), "{got:?}");
    }
    assert_eq!(world.slots(), [0; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over a whole cycle every host gets exactly its weight, under any policy by weights.
    #[test]
    fn shares_follow_weights(
        weights in proptest::collection::vec(1u32..20, 1..6),
        least in any::<bool>(),
    ) {
        let endpoints = weights
            .iter()
            .zip(1..)
            .map(|(&weight, n)| Endpoint { weight, ..Endpoint::new(address(n)) })
            .collect();
        let policy = if least { least_request() } else { LbPolicy::RoundRobin };
        // Least request among equals is a matter of luck.
        prop_assume!(!least || weights.iter().any(|w| *w != weights[0]));
        let mut world = world(of_policy(policy), vec![locality("", 0, 1, endpoints)], to_c());
        let total: u32 = weights.iter().sum();
        let got = counts(&picks(&mut world, u64::from(total)));
        let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
        let even = weights.iter().all(|w| *w == weights[0]);
        for (n, &weight) in (1u16..).zip(&weights) {
            let got = got.get(&n).copied().unwrap_or(0) as i64;
            // Rounding in the deadlines may put a pick on the other side of the cycle's end.
            let slack = i64::from(!even && divisor >= 1);
            prop_assert!((got - i64::from(weight)).abs() <= slack, "{got} for {weight}");
        }
    }

    /// Whatever happens to the hosts, a pick is a member, and the same run picks the same hosts.
    #[test]
    fn picks_are_members(
        steps in proptest::collection::vec(
            proptest::collection::vec((1u8..12, 0u32..3, 0usize..3, 1u32..4, 0u8..4), 0..8),
            1..5,
        ),
        policy in prop_oneof![
            Just(LbPolicy::RoundRobin), Just(least_request()), Just(LbPolicy::Random),
            Just(ring()), Just(LbPolicy::Maglev { table_size: 251, hashing: ConsistentHashing::default() }),
        ],
        locality_lb in prop_oneof![Just(LocalityLb::None), Just(LocalityLb::Weighted)],
        panic in 0u32..=100,
        slow in any::<bool>(),
    ) {
        let slow_start = SlowStart {
            window: Nanos::from_millis(50),
            aggression: 1.5,
            min_weight_percent: 10.0,
        };
        let cluster = Cluster {
            lb_policy: policy,
            locality_lb,
            healthy_panic_threshold_percent: panic,
            slow_start: slow.then_some(slow_start),
            ..cluster()
        };
        let run = || {
            let mut world = world(cluster.clone(), vec![], to_c());
            let mut all = Vec::new();
            for step in &steps {
                let mut members = Vec::new();
                let localities = step
                    .iter()
                    .map(|&(n, priority, zone, weight, health)| {
                        members.push(u16::from(n));
                        let health = [
                            EndpointHealth::Healthy, EndpointHealth::Degraded,
                            EndpointHealth::Unhealthy, EndpointHealth::Draining,
                        ][health as usize];
                        let endpoint = Endpoint { weight, health, ..Endpoint::new(address(n)) };
                        locality(["x", "y", "z"][zone], priority, weight - 1, vec![endpoint])
                    })
                    .collect();
                assign(&mut world, localities);
                let got = picks(&mut world, 12);
                all.push((members, got));
            }
            (all, world.slots())
        };
        let (all, slots) = run();
        for (members, got) in &all {
            for host in got {
                prop_assert!(*host == 0 || members.contains(host), "{host} of {members:?}");
            }
        }
        prop_assert_eq!(slots, [0; 4]);
        prop_assert_eq!(run().0, all);
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
