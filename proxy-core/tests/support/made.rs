//! Configurations and requests as most tests want them.

use super::*;

pub fn downstream(index: u32) -> DownstreamId {
    DownstreamId {
        index,
        generation: 0,
    }
}

pub fn opened(index: u32) -> Opened {
    Opened {
        downstream: downstream(index),
        peer: "127.0.0.1:35690".parse().unwrap(),
        original_dst: "127.0.0.1:28000".parse().unwrap(),
        direction: Direction::Outbound,
        tls: None,
        protocol: Protocol::Http1,
    }
}

pub fn listener() -> Listener {
    let manager = HttpConnectionManager::new(RouteSource::Rds("t".into()));
    Listener {
        name: "l".into(),
        address: None,
        port: 28000,
        filter_chains: vec![FilterChain {
            name: "".into(),
            matches: FilterChainMatch::default(),
            terminates_tls: false,
            rbac: Vec::new(),
            filter: NetworkFilter::Http(manager),
        }],
        default_filter_chain: None,
        use_original_dst: false,
        tls_inspector: proxy_core::xds::TlsInspector::AllPorts,
    }
}

pub fn assignment(cluster: &str, hosts: Vec<(u8, u32)>) -> LoadAssignment {
    let localities = hosts
        .into_iter()
        .map(|(n, priority)| LocalityEndpoints {
            locality: "".into(),
            priority,
            weight: 1,
            endpoints: vec![Endpoint::new(address(n))],
        })
        .collect();
    LoadAssignment::new(cluster.into(), localities)
}

pub fn cluster() -> Cluster {
    Cluster {
        lb_policy: LbPolicy::RoundRobin,
        ..Cluster::new("c".into(), Discovery::Eds)
    }
}

pub fn route(prefix: &str, action: RouteAction) -> Route {
    let matches = RouteMatch {
        path: PathMatch::Prefix(prefix.into()),
        ..RouteMatch::default()
    };
    Route {
        name: prefix.into(),
        ..Route::new(matches, action)
    }
}

pub fn to_c() -> Forward {
    Forward::to("c".into())
}

pub fn retries(num_retries: u32, on: &str) -> RetryPolicy {
    let tokens = on.split(',').filter_map(RetryOn::from_token);
    RetryPolicy {
        avoid_previous_hosts: true,
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::on(tokens.fold(RetryOn::default(), |a, b| a | b), num_retries)
    }
}

pub fn head(path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut lines = Headers::default();
    for (name, value) in headers {
        lines.append((*name).into(), value.as_bytes());
    }
    RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "a.example".into(),
        path: path.into(),
        headers: lines,
        id: None,
    }
}

pub fn with_retry(retry: RetryPolicy) -> Forward {
    Forward {
        retry: Some(retry),
        ..to_c()
    }
}

pub fn breakers(change: impl Fn(&mut CircuitBreakers)) -> Cluster {
    let mut limits = CircuitBreakers::UNLIMITED;
    change(&mut limits);
    Cluster {
        circuit_breakers: limits,
        ..cluster()
    }
}
