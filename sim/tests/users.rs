//! Closed loops in which no time passes.
#![allow(clippy::unwrap_used)]

mod support;

use sim::{Observers, event};
use support::{plan_of, root};

/// One request at a time, and two users who do not think: the other one is refused at once.
const REFUSED: &str = r#"
name: refused
duration: 1s
network: {latency: 1ms}
topology:
  services:
    client: {port: 80}
    shop: {port: 8080}
config:
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: shop, namespace: default}
    spec:
      host: shop
      trafficPolicy:
        connectionPool: {http: {http2MaxRequests: 1}, tcp: {maxConnections: 1}}
behavior:
  default: {service_time: 100ms}
traffic:
  web: {get: "http://shop:8080/", from: client, users: 2}
"#;

#[test]
fn users_refused_at_once_ask_again_later() {
    let plan = plan_of("refused", REFUSED, &root(), &[]);
    let record = event::run(&plan, 1, Observers::default()).record;
    let web = &record.traffic["web"];
    let refused = web.flags["UO"];
    // Ten in a millisecond, while the other one is served.
    assert!((9_000..10_100).contains(&refused), "{refused}");
    assert_eq!(web.requests, refused + web.succeeded);
}

/// The only pod that they ask from is gone for a second.
const GONE: &str = r#"
name: gone
duration: 4s
network: {latency: 1ms}
topology:
  services:
    client: {port: 80}
    shop: {port: 8080}
behavior:
  default: {service_time: 1ms}
traffic:
  web: {get: "http://shop:8080/", from: client, users: 2, think: 100ms}
timeline:
  gone: {at: 1s, crash: client, pod: 0, restart_after: 1s}
"#;

#[test]
fn users_come_back_with_their_pod() {
    let plan = plan_of("gone", GONE, &root(), &[]);
    let record = event::run(&plan, 1, Observers::default()).record;
    let requests = record.traffic["web"].requests;
    // Ten a second each, in three of the four seconds.
    assert!((50..=60).contains(&requests), "{requests}");
}
