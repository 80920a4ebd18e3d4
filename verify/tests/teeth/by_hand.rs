//! Clusters, endpoints and routes of `tries.rs` with what no rule can say.

use crate::tries::CONDITIONS;
use control_plane::Resources;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CircuitBreakers, Cluster, Endpoint, Fault, FaultDelay, FilterPlace, Forward, Fraction,
    HeaderMatch, HttpProtocol, Listener, LoadAssignment, LocalRateLimit, LocalRateLimitFilter,
    LocalityEndpoints, NetworkFilter, OutlierDetection, RetryBudget, RetryOn, Route, RouteAction,
    RouteTable, SubsetFallback, SubsetSelector, Subsets, TokenBucket, ValueMatch, VirtualHost,
};
use std::sync::Arc;

/// Last numbers of the addresses, and weights, by priority.
fn pods(service: &str) -> &'static [&'static [(u8, u32)]] {
    match service {
        "eject-few" => &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]],
        "remote" => &[&[(1, 1), (2, 1)], &[(3, 1), (4, 1)], &[(5, 1)]],
        "ring" => &[&[(1, 20), (2, 1), (3, 1)]],
        "again" | "authority" | "degrading" | "maglev" => {
            &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]]
        }
        "nobody" => &[],
        name if name.starts_with("subset") => &[&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]],
        _ => &[&[(1, 1)]],
    }
}

fn assignment(service: &str, before: &LoadAssignment) -> LoadAssignment {
    let port = before.localities[0].endpoints[0].address.port();
    let endpoint = |&(pod, weight): &(u8, u32)| Endpoint {
        weight,
        lb_metadata: match pod {
            1 => vec![
                ("version".into(), "v1".into()),
                ("stage".into(), "a".into()),
            ],
            2 => vec![
                ("version".into(), "v1".into()),
                ("stage".into(), "b".into()),
            ],
            3 => vec![("version".into(), "v2".into())],
            4 => vec![("stage".into(), "a".into())],
            _ => Vec::new(),
        },
        ..Endpoint::new(([10, 0, 0, pod], port).into())
    };
    let localities = pods(service).iter().enumerate();
    let localities = localities.map(|(priority, pods)| LocalityEndpoints {
        locality: "r1/z1".into(),
        priority: priority as u32,
        weight: 1,
        endpoints: pods.iter().map(endpoint).collect(),
    });
    LoadAssignment {
        drop_overload_ppm: match service {
            "dropped" => 1_000_000,
            "dropped-some" => 300_000,
            _ => 0,
        },
        ..LoadAssignment::new(before.cluster.clone(), localities.collect())
    }
}

fn subsets(service: &str) -> Option<Subsets> {
    let default = SubsetFallback::DefaultSubset(vec![("version".into(), "v2".into())]);
    let (none, any) = (SubsetFallback::NoFallback, SubsetFallback::AnyEndpoint);
    let keys = SubsetFallback::Keys(vec!["version".into()]);
    // Of the cluster, of the version, and of stage and version together.
    let (fallback, version, pair) = match service {
        "subset-none" => (none, None, None),
        "subset-any" => (any, None, Some(none)),
        "subset-default" => (default, None, None),
        "subset-keys" => (none, None, Some(keys)),
        "subset-own" => (any, Some(none), None),
        _ => return None,
    };
    let selector = |keys: &[&str], fallback| SubsetSelector {
        keys: keys.iter().map(|&key| key.into()).collect(),
        fallback,
    };
    Some(Subsets {
        selectors: vec![
            selector(&["version"], version),
            selector(&["stage", "version"], pair),
        ],
        fallback,
        panic_mode_any: false,
        allow_redundant_keys: false,
    })
}

/// What no rule can set.
fn change(service: &str, cluster: &mut Cluster) {
    let none = CircuitBreakers::UNLIMITED;
    match service {
        "full-requests" => {
            cluster.circuit_breakers = CircuitBreakers {
                max_requests: 0,
                ..none
            };
        }
        "full-pending" => {
            let max_pending_requests = 0;
            cluster.circuit_breakers = CircuitBreakers {
                max_pending_requests,
                ..none
            };
        }
        "full-connections" => {
            let max_connections = 0;
            cluster.circuit_breakers = CircuitBreakers {
                max_connections,
                ..none
            };
        }
        "full-retries" => {
            cluster.circuit_breakers = CircuitBreakers {
                max_retries: 0,
                ..none
            };
        }
        "full-budget" => {
            let retry_budget = Some(RetryBudget {
                budget_percent: 0.0,
                min_retry_concurrency: 0,
            });
            cluster.circuit_breakers = CircuitBreakers {
                retry_budget,
                ..none
            };
        }
        "worn" => cluster.max_requests_per_connection = 2,
        "idle" => cluster.idle_timeout = Some(Nanos::from_millis(150)),
        "streams" => cluster.http_protocol = HttpProtocol::Http2,
        "worn-streams" => {
            cluster.http_protocol = HttpProtocol::Http2;
            cluster.max_requests_per_connection = 2;
        }
        "degrading" => {
            cluster.outlier_detection = Some(OutlierDetection {
                detect_degraded_hosts: true,
                ..OutlierDetection::default()
            });
        }
        _ => cluster.subsets = subsets(service),
    }
}

fn limit(service: &str) -> Option<LocalRateLimit> {
    let bucket = |max_tokens, interval_ms| {
        Some(TokenBucket {
            max_tokens,
            tokens_per_fill: 1,
            fill_interval: Nanos::from_millis(interval_ms),
        })
    };
    const HOUR: u64 = 3_600_000;
    let limit = LocalRateLimit {
        bucket: bucket(2, HOUR),
        enabled: Fraction::ALWAYS,
        enforced: Fraction::ALWAYS,
        ..LocalRateLimit::default()
    };
    Some(match service {
        "limited" => limit,
        "limited-always" => LocalRateLimit {
            bucket: bucket(0, HOUR),
            status: 503,
            ..limit
        },
        "limited-never" => LocalRateLimit {
            bucket: bucket(0, HOUR),
            enforced: Fraction::ppm(0),
            ..limit
        },
        "limited-connection" => LocalRateLimit {
            bucket: bucket(1, HOUR),
            per_connection: true,
            ..limit
        },
        "refilled" => LocalRateLimit {
            bucket: bucket(2, 400),
            ..limit
        },
        _ => return None,
    })
}

/// What no rule can set of a route; `number` is its place.
fn change_forward(service: &str, number: usize, forward: &mut Forward) {
    match service {
        "ring" | "maglev" => {
            if let Some(retry) = &mut forward.retry {
                retry.avoid_previous_hosts = true;
                retry.host_selection_retry_max_attempts = 5;
            }
        }
        "hedged" | "hedged-slowly" => forward.hedge_on_per_try_timeout = true,
        "again" => {
            if let Some(retry) = &mut forward.retry
                && number == CONDITIONS.len()
            {
                retry.retry_on = RetryOn::RETRIABLE_HEADERS;
                retry.retriable_headers = vec![HeaderMatch {
                    name: "x-again".into(),
                    value: ValueMatch::Present(true),
                    invert: false,
                    treat_missing_as_empty: false,
                }];
            }
        }
        name if name.starts_with("subset") => {
            let pairs: &[(&str, &str)] = match number {
                0 => &[("version", "v1")],
                1 => &[("version", "v9")],
                2 => &[("stage", "a"), ("version", "v1")],
                3 => &[("stage", "x"), ("version", "v1")],
                4 => &[("stage", "a")],
                _ => &[],
            };
            let pair = |&(key, value): &(&str, &str)| (key.into(), value.into());
            forward.subset = pairs.iter().map(pair).collect();
        }
        _ => {}
    }
}

/// A delay, if no other request is delayed.
fn one_fault() -> Fault {
    Fault {
        delay: Some(FaultDelay {
            fixed: Nanos::from_millis(5),
            fraction_ppm: 1_000_000,
        }),
        abort: None,
        max_active_faults: Some(1),
    }
}

fn changed_host(host: &VirtualHost) -> VirtualHost {
    let service = host.name.split('.').next().unwrap_or_default();
    let route = |(number, route): (usize, &Arc<Route>)| {
        let mut route = Route::clone(route);
        route.local_rate_limit = limit(service).map(Arc::new);
        if service == "faulty" {
            route.fault = Some(one_fault());
        }
        if let RouteAction::Forward(forward) = &mut route.action {
            change_forward(service, number, forward);
        }
        Arc::new(route)
    };
    VirtualHost {
        routes: host.routes.iter().enumerate().map(route).collect(),
        ..host.clone()
    }
}

pub fn changed(resources: Resources) -> Resources {
    let mut resources = crate::changed(resources, change, assignment);
    for table in &mut resources.routes {
        let hosts = table
            .virtual_hosts
            .iter()
            .map(|host| changed_host(host))
            .collect();
        let changed = RouteTable::new(table.name.clone(), hosts, table.ignore_port_in_host);
        *table = Arc::new(changed);
    }
    for listener in &mut resources.listeners {
        add_filter(Arc::make_mut(listener));
    }
    resources
}

/// One without a limit of its own, for those of the routes.
fn add_filter(listener: &mut Listener) {
    let chains = listener.filter_chains.iter_mut();
    for chain in chains.chain(&mut listener.default_filter_chain) {
        if let NetworkFilter::Http(manager) = &mut chain.filter {
            manager.local_rate_limits.push(LocalRateLimitFilter {
                place: FilterPlace::BeforeRouter,
                config: Arc::new(LocalRateLimit::default()),
            });
        }
    }
}
