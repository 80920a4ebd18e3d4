//! Consistent hashing: which endpoint a key goes to. What is called measured was answered by Envoy 1.40
//! to the same configuration.
// A recording that cannot be read may stop it.
#![allow(clippy::unwrap_used)]

mod support;

use proxy_core::xds::*;
use std::net::SocketAddr;
use support::picks::*;
use support::*;

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

#[test]
fn cookies_are_made_where_hashes_are_asked_for() {
    let cookie = HashPolicy {
        input: HashInput::Cookie {
            name: "s".into(),
            path: "".into(),
            ttl: Some(ms(10_000)),
        },
        terminal: false,
    };
    // Measured: none without consistent hashing; one for each try with it.
    for (policy, want) in [(LbPolicy::RoundRobin, 0), (ring(), 2)] {
        let forward = Forward {
            hash_policies: vec![cookie.clone()],
            retry: Some(retries(1, "5xx")),
            ..to_c()
        };
        let localities = vec![locality("", 0, 1, hosts([1]))];
        let mut world = world(of_policy(policy), localities, forward);
        world.behave(1, Behaviour::Status(503, 1));
        let key = world.get(1, "/");
        world.run(1000);
        let set: Vec<&[u8]> = world.response(key).0.headers.all("set-cookie").collect();
        assert_eq!(set.len(), want);
        for line in set {
            assert_eq!(line, b"s=\"fd1d1939dc0b248c\"; Max-Age=10; HttpOnly");
        }
    }
}
