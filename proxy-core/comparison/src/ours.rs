//! meshsim's side: a cluster's selection of a host, with and without routing before it.

use crate::Batch;
use crate::cluster::{ClusterState, Selection};
use crate::ids::{ClusterId, EndpointId};
use crate::random::{Draws, mix};
use crate::routing;
use crate::time::Nanos;
use crate::xds::*;
use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use xxhash_rust::xxh64::xxh64;

pub fn address(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + n), 80))
}

/// Of the requests made, so many are in flight: half of the endpoints have one on average.
pub fn in_flight(endpoints: u32) -> usize {
    (endpoints / 2) as usize
}

pub const RTT: Nanos = Nanos(1_000_000);
const DECAY: Nanos = Nanos(10_000_000_000);

fn policy(name: &str, endpoints: u32) -> LbPolicy {
    match name {
        "round robin" => LbPolicy::RoundRobin,
        "random" => LbPolicy::Random,
        // As many points a host as ketama has.
        "consistent" => LbPolicy::RingHash {
            minimum_ring_size: 160 * u64::from(endpoints),
            maximum_ring_size: 8 << 20,
            function: RingHashFunction::XxHash,
            hashing: ConsistentHashing::default(),
        },
        "least request" => LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan: false,
        },
        _ => LbPolicy::PeakEwma {
            decay: DECAY,
            default_rtt: RTT,
        },
    }
}

fn cluster(name: &str, endpoints: u32) -> ClusterState {
    let locality = LocalityEndpoints {
        locality: "".into(),
        priority: 0,
        weight: 1,
        endpoints: (0..endpoints).map(|n| Endpoint::new(address(n))).collect(),
    };
    let assignment = LoadAssignment::new("c".into(), vec![locality]);
    let config = Cluster {
        lb_policy: policy(name, endpoints),
        ..Cluster::new("c".into(), Discovery::Static(assignment.clone()))
    };
    let draws = Draws::new(1, "comparison");
    let place = ("".into(), None);
    let mut state = ClusterState::new(ClusterId(0), config.into(), 0, draws, place, Nanos::ZERO);
    let mut next = 0;
    state.assign(&assignment, Nanos::ZERO, |_| {
        next += 1;
        EndpointId(next)
    });
    state
}

/// Picks a host for one request after another and keeps the books of those in flight.
pub fn picking(name: &str, endpoints: u32, route: bool) -> Batch {
    let mut cluster = cluster(name, endpoints);
    let counts_requests = matches!(name, "least request" | "peak EWMA");
    let (hashed, timed) = (name == "consistent", name == "peak EWMA");
    let mut in_flight_hosts: VecDeque<u32> = VecDeque::new();
    let (table, heads) = routing::bookinfo();
    let mut key = 0u64;
    Box::new(move |choices| {
        for _ in 0..choices {
            key += 1;
            if route {
                black_box(table.find(&heads[key as usize % heads.len()], key));
            }
            let selection = Selection {
                now: Nanos(key * 1000),
                key,
                attempt: 0,
                criteria: None,
                hash: hashed.then(|| xxh64(&mix(key).to_le_bytes(), 0)),
                tried: &[],
                max_repicks: 0,
                previous_priorities: None,
            };
            let Some(host) = black_box(cluster.select(selection)) else {
                continue;
            };
            if !counts_requests {
                continue;
            }
            cluster.active[host as usize] += 1;
            in_flight_hosts.push_back(host);
            if in_flight_hosts.len() > in_flight(endpoints)
                && let Some(done) = in_flight_hosts.pop_front()
            {
                cluster.active[done as usize] -= 1;
                if timed {
                    cluster.latencies[done as usize].observe(Nanos(key * 1000), RTT, DECAY);
                }
            }
        }
    })
}
