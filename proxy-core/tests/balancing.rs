//! Which endpoint a request goes to, through a whole worker. What is called measured was answered by
//! Envoy 1.40 to the same configuration.

mod support;

use proptest::prelude::*;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::net::SocketAddr;
use support::picks::*;
use support::*;

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
    let at_once = Cluster {
        update_merge_window: Nanos::ZERO,
        ..cluster()
    };
    let mut world = world(at_once, vec![locality("", 0, 1, hosts(1..6))], to_c());
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

    /// Over a whole cycle every host gets its weight, under any policy by weights.
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
        let even = weights.iter().all(|w| *w == weights[0]);
        for (n, &weight) in (1u16..).zip(&weights) {
            let got = got.get(&n).copied().unwrap_or(0) as i64;
            // Rounding in the deadlines may put a pick on the other side of the cycle's end.
            let slack = i64::from(!even);
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
