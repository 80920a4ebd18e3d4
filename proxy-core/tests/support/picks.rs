//! Clusters of every shape, and where a row of requests to them goes.

use super::*;

pub const MAXIMUM_RING_SIZE: u64 = 8 * 1024 * 1024;

pub fn ring() -> LbPolicy {
    LbPolicy::RingHash {
        minimum_ring_size: 1024,
        maximum_ring_size: MAXIMUM_RING_SIZE,
        function: RingHashFunction::XxHash,
        hashing: ConsistentHashing::default(),
    }
}

pub fn maglev() -> LbPolicy {
    LbPolicy::Maglev {
        table_size: 65537,
        hashing: ConsistentHashing::default(),
    }
}

pub fn least_request() -> LbPolicy {
    LbPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias: 1.0,
        full_scan: false,
    }
}

pub fn of_policy(lb_policy: LbPolicy) -> Cluster {
    Cluster {
        lb_policy,
        ..cluster()
    }
}

pub fn locality(
    name: &str,
    priority: u32,
    weight: u32,
    endpoints: Vec<Endpoint>,
) -> LocalityEndpoints {
    LocalityEndpoints {
        locality: name.into(),
        priority,
        weight,
        endpoints,
    }
}

pub fn world(cluster: Cluster, localities: Vec<LocalityEndpoints>, forward: Forward) -> World {
    let mut world = World::with_routes(vec![route("/", RouteAction::Forward(forward))]);
    world.xds(XdsDelta::Clusters {
        upsert: vec![Arc::new(cluster)],
        remove: vec![],
    });
    assign(&mut world, localities);
    world
}

pub fn assign(world: &mut World, localities: Vec<LocalityEndpoints>) {
    let assignment = LoadAssignment::new("c".into(), localities);
    world.xds(XdsDelta::Endpoints {
        upsert: vec![Arc::new(assignment)],
    });
}

/// Where `count` requests go, one after the other; 0: nowhere.
pub fn picks(world: &mut World, count: u64) -> Vec<u16> {
    let start = world.now.as_millis() + 10;
    let keys: Vec<u64> = (0..count).map(|i| world.get(start + 2 * i, "/")).collect();
    world.run(start + 2 * count + 10);
    keys.into_iter().map(|key| went_to(world, key)).collect()
}

pub fn went_to(world: &World, key: u64) -> u16 {
    match world.log(key).endpoint {
        Some(_) => world.host_of(key),
        None => 0,
    }
}

pub fn counts(picks: &[u16]) -> BTreeMap<u16, usize> {
    picks.iter().fold(BTreeMap::new(), |mut counts, &host| {
        *counts.entry(host).or_default() += 1;
        counts
    })
}

pub fn digits(picks: &[u16]) -> String {
    picks.iter().map(u16::to_string).collect()
}

pub fn hosts(numbers: impl IntoIterator<Item = u8>) -> Vec<Endpoint> {
    numbers
        .into_iter()
        .map(|n| Endpoint::new(address(n)))
        .collect()
}

pub fn with_health(
    mut endpoints: Vec<Endpoint>,
    health: EndpointHealth,
    first: usize,
) -> Vec<Endpoint> {
    for endpoint in endpoints.iter_mut().take(first) {
        endpoint.health = health;
    }
    endpoints
}
