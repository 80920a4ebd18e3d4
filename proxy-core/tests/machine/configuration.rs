//! What the control plane says.

use crate::driver::{Driver, MOST_STREAMS};
use crate::support::{assignment, ms, retries, route};
use proxy_core::contract::*;
use proxy_core::xds::*;
use std::sync::Arc;

fn limit(max_tokens: u32) -> LocalRateLimit {
    LocalRateLimit {
        bucket: Some(TokenBucket {
            max_tokens,
            tokens_per_fill: 3,
            fill_interval: ms(100),
        }),
        enabled: Fraction::ppm(900_000),
        enforced: Fraction::ppm(900_000),
        x_ratelimit_headers: true,
        ..LocalRateLimit::default()
    }
}

impl Driver {
    pub fn xds(&mut self, delta: XdsDelta) {
        self.main(MainInput::Xds { delta, version: 1 });
    }

    pub fn breakers(&mut self, limit: u32) {
        self.cluster = Cluster {
            circuit_breakers: CircuitBreakers {
                max_connections: limit,
                max_pending_requests: limit,
                max_requests: limit,
                max_retries: limit,
                retry_budget: (limit == 1).then_some(RetryBudget {
                    budget_percent: 30.0,
                    min_retry_concurrency: 1,
                }),
                max_connections_per_host: (limit % 2 == 1).then_some(limit),
            },
            outlier_detection: Some(OutlierDetection {
                max_ejection_percent: 60,
                consecutive_5xx: 2,
                interval: ms(100),
                base_ejection_time: ms(200),
                ..OutlierDetection::default()
            }),
            connect_timeout: ms(150),
            max_stream_duration: (limit == 2).then_some(ms(170)),
            max_requests_per_connection: 3,
            max_concurrent_streams: MOST_STREAMS as u32,
            idle_timeout: Some(ms(300)),
            ..self.cluster.clone()
        };
        self.configure();
    }

    pub fn policies(&mut self, protocol: HttpProtocol, checks: usize, statistics: bool) {
        self.cluster.http_protocol = protocol;
        let check = HealthCheck {
            probe: Probe::Http {
                host: "c".into(),
                path: "/".into(),
                expected_statuses: vec![],
                retriable_statuses: vec![],
            },
            timeout: ms(40),
            interval: ms(60),
            unhealthy_interval: None,
            unhealthy_edge_interval: None,
            healthy_edge_interval: None,
            no_traffic_interval: ms(90),
            no_traffic_healthy_interval: None,
            initial_jitter: ms(20),
            interval_jitter: ms(20),
            interval_jitter_percent: 20,
            unhealthy_threshold: 2,
            healthy_threshold: 2,
        };
        self.cluster.health_checks = vec![check; checks];
        if let Some(detection) = &mut self.cluster.outlier_detection {
            let enforcing = if statistics { 100 } else { 0 };
            detection.success_rate = SuccessRate {
                enforcing,
                minimum_hosts: 2,
                request_volume: 1,
                stdev_factor: 500,
            };
            detection.failure_percentage = FailurePercentage {
                enforcing,
                threshold: 50,
                minimum_hosts: 1,
                request_volume: 1,
            };
        }
        self.configure();
    }

    pub fn configure(&mut self) {
        let upsert = vec![Arc::new(self.cluster.clone())];
        self.xds(XdsDelta::Clusters {
            upsert,
            remove: vec![],
        });
    }

    pub fn endpoints(&mut self, n: u8) {
        let hosts = (1..=n).map(|h| (h, u32::from(h % 2))).collect();
        let mut assignment = assignment("c", hosts);
        assignment.drop_overload_ppm = if n == 7 { 300_000 } else { 0 };
        self.xds(XdsDelta::Endpoints {
            upsert: vec![assignment.into()],
        });
    }

    pub fn routes(&mut self) {
        self.generation += 1;
        let plain = Forward::to("c".into());
        let full = Forward {
            retry: Some(RetryPolicy {
                per_try_timeout: Some(ms(60)),
                ..retries(3, "5xx,retriable-4xx")
            }),
            timeout: Some(ms(250)),
            mirrors: vec![Mirror {
                cluster: "c".into(),
                fraction: Fraction::ppm(500_000),
                shadow_suffix: false,
            }],
            ..plain.clone()
        };
        let mut slow = route("/slow", RouteAction::Forward(full.clone()));
        slow.fault = Some(Fault {
            delay: Some(FaultDelay {
                fixed: ms(30),
                fraction_ppm: 700_000,
            }),
            abort: Some(FaultAbort {
                status: 418,
                grpc_status: None,
                fraction_ppm: 200_000,
            }),
            max_active_faults: Some(2),
        });
        slow.local_rate_limit = Some(Arc::new(LocalRateLimit {
            per_connection: true,
            ..limit(5)
        }));
        let hedged = Forward {
            retry: Some(RetryPolicy {
                per_try_timeout: Some(ms(40)),
                per_try_idle_timeout: Some(ms(70)),
                ..retries(3, "5xx,retriable-4xx")
            }),
            hedge_on_per_try_timeout: true,
            timeout: Some(ms(250)),
            idle_timeout: Some(ms(130)),
            max_stream_duration: Some(ms(220)),
            max_grpc_timeout: Some(ms(150)),
            ..plain.clone()
        };
        let mut hedged = route("/hedged", RouteAction::Forward(hedged));
        hedged.matches.fraction = Some(Fraction::ppm(700_000));
        hedged.local_rate_limit = Some(Arc::new(limit(9)));
        let host = VirtualHost {
            name: format!("v{}", self.generation).into(),
            domains: vec!["*".into()],
            routes: vec![
                Arc::new(slow),
                Arc::new(hedged),
                Arc::new(route("/full", RouteAction::Forward(full))),
                Arc::new(route("/plain", RouteAction::Forward(plain))),
            ],
            ..VirtualHost::default()
        };
        self.xds(XdsDelta::Routes {
            upsert: vec![Arc::new(RouteTable::new("t".into(), vec![host], true))],
            remove: vec![],
        });
    }
}
