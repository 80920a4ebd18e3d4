//! EnvoyFilters of local rate limits, on both engines.

#![allow(clippy::unwrap_used)]

mod support;

use record::RunRecord;
use sim::{Observers, event, turmoil};
use std::path::Path;
use support::plan_of;

/// 20 requests a second for 10 s, the last before its end, of which the server's proxy lets 30 pass at once and 5 a second
/// after, a token in 0.2 s: 79 in all.
const SCENARIO: &str = r#"
name: limited
duration: 10s
network: {latency: 1ms}
proxies: {concurrency: 2}
topology:
  services:
    client: {port: 80}
    shop: {port: 8080}
config:
  - apiVersion: networking.istio.io/v1alpha3
    kind: EnvoyFilter
    metadata: {name: limit, namespace: default}
    spec:
      workloadSelector: {labels: {app: shop}}
      configPatches:
      - applyTo: HTTP_FILTER
        match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
        patch:
          operation: INSERT_BEFORE
          value:
            name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/udpa.type.v1.TypedStruct
              type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              value:
                stat_prefix: http_local_rate_limiter
                token_bucket: {max_tokens: 30, tokens_per_fill: 5, fill_interval: 1s}
                filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
                filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
behavior:
  default: {service_time: 1ms}
traffic:
  read: {get: "http://shop:8080/", from: client, rate: 20/s, arrivals: constant}
"#;

fn codes(run: &RunRecord) -> [u64; 3] {
    let traffic = &run.traffic["read"];
    let of = |code: &str| traffic.codes.get(code).copied().unwrap_or(0);
    [traffic.requests, of("200"), of("429")]
}

#[test]
fn what_flows_into_the_bucket_passes() {
    let of_client = SCENARIO
        .replace("SIDECAR_INBOUND", "SIDECAR_OUTBOUND")
        .replace("{app: shop}", "{app: client}");
    // The answer comes from the server's proxy, or from the client's own, which has the flag.
    for (text, flag) in [(SCENARIO, None), (&of_client, Some("RL"))] {
        let plan = plan_of("limited", text, Path::new("."), &[]);
        let events = event::run(&plan, 1, Observers::default()).record;
        let bytes = turmoil::run(&plan, 1, Observers::default()).unwrap().record;
        for run in [&events, &bytes] {
            let [all, passed, refused] = codes(run);
            assert_eq!((all, passed + refused), (199, 199));
            // What has come in by the last request, to within a token.
            assert!((79..=80).contains(&passed), "{passed}");
            let flags: Vec<(&str, u64)> = run.traffic["read"]
                .flags
                .iter()
                .map(|(flag, count)| (flag.as_str(), *count))
                .collect();
            assert_eq!(flags, Vec::from_iter(flag.map(|flag| (flag, refused))));
        }
        let again = event::run(&plan, 1, Observers::default()).record;
        assert_eq!(events.digest, again.digest);
    }
}
