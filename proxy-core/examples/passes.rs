//! How many exchanges a second the bare core takes through one worker: the driver answers at once.
//!
//! `cargo run --release -p proxy-core --example passes [PASSES]`

use proxy_core::contract::{Action, Direction, Input, MainInput, Opened, Protocol};
use proxy_core::head::{Headers, RequestHead, ResponseHead};
use proxy_core::ids::{DownstreamId, ExchangeId, HeadId};
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use proxy_core::{Identity, Worker};
use std::net::SocketAddr;
use std::sync::Arc;

const DOWNSTREAM: DownstreamId = DownstreamId {
    index: 0,
    generation: 0,
};

fn configured(endpoints: u32, lb_policy: LbPolicy) -> (Proxy, Outs) {
    let identity = Identity::new(1, "bench".into(), 1);
    let address = |n: u32| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 80));
    let locality = LocalityEndpoints {
        locality: "".into(),
        priority: 0,
        weight: 1,
        endpoints: (1..=endpoints).map(|n| Endpoint::new(address(n))).collect(),
    };
    let cluster = Cluster {
        lb_policy,
        ..Cluster::new(
            "c".into(),
            Discovery::Static(LoadAssignment::new("c".into(), vec![locality])),
        )
    };
    let to_cluster = RouteAction::Forward(Forward::to("c".into()));
    let route = Route::new(RouteMatch::default(), to_cluster);
    let host = VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: vec![Arc::new(route)],
        ..VirtualHost::default()
    };
    let table = Arc::new(RouteTable::new("t".into(), vec![host], true));
    let manager = HttpConnectionManager::new(RouteSource::Inline(table));
    let listener = Listener {
        name: "l".into(),
        address: None,
        port: 80,
        filter_chains: vec![FilterChain {
            name: "".into(),
            matches: FilterChainMatch::default(),
            terminates_tls: false,
            rbac: Vec::new(),
            filter: NetworkFilter::Http(manager),
        }],
        default_filter_chain: None,
        use_original_dst: false,
        tls_inspector: TlsInspector::AllPorts,
    };
    let (mut proxy, mut outs) = (Proxy::new(&identity), Outs::new(1));
    for delta in [
        XdsDelta::Clusters {
            upsert: vec![Arc::new(cluster)],
            remove: vec![],
        },
        XdsDelta::Listeners {
            upsert: vec![Arc::new(listener)],
            remove: vec![],
        },
    ] {
        let input = MainInput::Xds { delta, version: 1 };
        proxy.handle_main(Nanos::ZERO, input, &mut outs, None);
    }
    let opened = Opened {
        downstream: DOWNSTREAM,
        peer: address(1),
        original_dst: address(2),
        direction: Direction::Outbound,
        tls: None,
        protocol: Protocol::Http1,
    };
    proxy.handle_worker(Nanos::ZERO, 0, Input::Opened(opened), &mut outs, None);
    (proxy, outs)
}

#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // It measures; nothing is decided.
fn measure(name: &str, endpoints: u32, lb_policy: LbPolicy, passes: u32) {
    let (mut proxy, mut outs) = configured(endpoints, lb_policy);
    let head = Arc::new(RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "c".into(),
        path: "/".into(),
        headers: Headers::default(),
        id: Some(HeadId(0)),
    });
    let answer = Arc::new(ResponseHead::of_status(200));
    let mut todo: Vec<Action> = Vec::new();
    let mut pass = |n: u32| {
        let now = Nanos(u64::from(n) * 1000);
        let exchange = ExchangeId {
            index: 0,
            generation: n,
        };
        let request = Input::Request {
            exchange,
            downstream: DOWNSTREAM,
            key: u64::from(n),
            head: Arc::clone(&head),
            ends: true,
        };
        proxy.handle_worker(now, 0, request, &mut outs, None);
        while outs.workers[0].logs.is_empty() {
            std::mem::swap(&mut todo, &mut outs.workers[0].actions);
            for action in todo.drain(..) {
                let input = match action {
                    Action::Connect { conn, .. } => Input::Connected { conn },
                    Action::Send { attempt, .. } => Input::ResponseHead {
                        attempt,
                        head: Arc::clone(&answer),
                        ends: true,
                    },
                    _ => continue,
                };
                proxy.handle_worker(now, 0, input, &mut outs, None);
            }
        }
        outs.workers[0].actions.clear();
        outs.workers[0].logs.clear();
    };
    // Every endpoint gets its connection first.
    let warm_up = endpoints * 20;
    (1..=warm_up).for_each(&mut pass);
    let start = std::time::Instant::now();
    (warm_up + 1..=warm_up + passes).for_each(&mut pass);
    let rate = f64::from(passes) / start.elapsed().as_secs_f64();
    println!("{name:>13} {endpoints:>6} endpoints {rate:>12.0} passes/s");
}

fn main() {
    let passes = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let passes = passes.unwrap_or(3_000_000);
    println!(
        "bytes: Input {}, Action {}, worker {}",
        size_of::<Input>(),
        size_of::<Action>(),
        size_of::<Worker>()
    );
    for endpoints in [10, 10_000] {
        measure("round robin", endpoints, LbPolicy::RoundRobin, passes);
        let least_request = LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan: false,
        };
        measure("least request", endpoints, least_request, passes);
    }
}
