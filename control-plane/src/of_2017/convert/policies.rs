//! DestinationRules: the versions that RouteRules name, with what Pilot gave their clusters.

use super::routes::{labels_of, subset_name};
use super::{Converter, duration};
use crate::config::{DestinationPolicy, EgressProtocol, VersionPolicy};
use crate::object::Body;
use crate::of_2017::{egress_rules, host_of};
use crate::translate::{
    PANIC_PERCENT_OF_2017, circuit_breakers_of_2017, outlier_detection_of_2017,
};
use proxy_core::xds::{LbPolicy, Name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Converter<'_, '_> {
    pub(super) fn add_policies(&mut self) {
        self.say_sources();
        let encrypted: BTreeMap<Name, Vec<u16>> = egress_rules(self.objects)
            .into_iter()
            .map(|(_, rule)| {
                let ports = rule.ports.iter();
                let ports = ports.filter(|(_, protocol)| *protocol == EgressProtocol::Https);
                let host = rule.host.text.to_ascii_lowercase().into();
                (host, ports.map(|(port, _)| *port).collect())
            })
            .collect();
        let mut hosts: BTreeSet<Name> = self.rules.hosts_with_clusters().into_iter().collect();
        let begin_tls = encrypted.iter().filter(|(_, ports)| !ports.is_empty());
        hosts.extend(begin_tls.map(|(host, _)| host.clone()));
        for host in hosts {
            if &*host == "*" {
                continue;
            }
            let ports = encrypted.get(&host).map_or(&[][..], Vec::as_slice);
            let spec = self.destination_rule(&host, ports);
            let (namespace, name) = self.place(&host);
            self.add("DestinationRule", &namespace, &name, &spec);
        }
    }

    fn destination_rule(&mut self, host: &Name, encrypted: &[u16]) -> Value {
        let whole = self.found(host, &[]);
        let mut policy = match self.rules.balance(host) {
            true => traffic_policy(whole.as_ref()),
            false => json!({}),
        };
        let settings: Vec<Value> = encrypted
            .iter()
            .map(|port| {
                // Port-level settings replace all others.
                let mut settings = policy.clone();
                settings["port"] = json!({"number": port});
                settings["tls"] = json!({"mode": "SIMPLE"});
                settings
            })
            .collect();
        if !settings.is_empty() {
            policy["portLevelSettings"] = Value::Array(settings);
        }
        let mut spec = json!({"host": &**host, "trafficPolicy": policy});
        let versions = self.rules.versions_of(host);
        let versions: Vec<_> = versions.map(|version| version.labels.clone()).collect();
        let mut subsets = Vec::new();
        for labels in versions {
            let found = self.found(host, &labels);
            let mut subset = json!({"name": subset_name(&labels), "labels": labels_of(&labels)});
            let mut own = traffic_policy(found.as_ref());
            let ejects =
                |policy: Option<&VersionPolicy>| policy.is_some_and(|p| p.breaker.is_some());
            if ejects(whole.as_ref()) && !ejects(found.as_ref()) {
                // What holds for the whole host is not taken back otherwise.
                own["outlierDetection"] = json!({
                    "consecutive5xxErrors": 0,
                    "consecutiveGatewayErrors": 0,
                });
            }
            if own != traffic_policy(whole.as_ref()) {
                subset["trafficPolicy"] = own;
            }
            subsets.push(subset);
        }
        if !subsets.is_empty() {
            spec["subsets"] = Value::Array(subsets);
        }
        spec
    }

    /// The policy for every caller of a version; what cannot be said of it today is reported.
    fn found(&mut self, host: &Name, labels: &[(Name, Name)]) -> Option<VersionPolicy> {
        let found = self.rules.policy_of(host, labels, |_| false);
        let (_, version) = found?;
        let version = version.clone();
        if version.breaker.is_some() {
            let message =
                "Envoy of 2017 ejected by success rate too, and one host whatever the percentage";
            let label = "a DestinationRule cannot ask for that; with few endpoints, raise `maxEjectionPercent`";
            self.warn(&version.span, message, label);
        }
        Some(version)
    }

    /// Policies for some callers only.
    fn say_sources(&mut self) {
        let policies = self.objects.of_kind("DestinationPolicy");
        let sources: Vec<_> = policies
            .filter_map(|object| match &object.body {
                Body::DestinationPolicy(DestinationPolicy {
                    source: Some(source),
                    destination,
                    ..
                }) => Some((source.host.span.clone(), host_of(destination))),
                _ => None,
            })
            .collect();
        for (span, host) in sources {
            let message = format!("a policy of {host} for some callers only is left out");
            let label = "a DestinationRule is for every caller, or for pods of its own namespace \
                         (`workloadSelector`)";
            self.warn(&span, message, label);
        }
    }
}

/// Everything said: what today's Istio leaves to its own defaults was Envoy's of 2017.
fn traffic_policy(version: Option<&VersionPolicy>) -> Value {
    let breaker = version.and_then(|version| version.breaker.as_ref());
    let simple = match version.and_then(|version| version.lb_policy.as_ref()) {
        Some(LbPolicy::LeastRequest { .. }) => "LEAST_REQUEST",
        Some(LbPolicy::Random) => "RANDOM",
        _ => "ROUND_ROBIN",
    };
    let limits = circuit_breakers_of_2017(breaker);
    let mut policy = json!({
        "loadBalancer": {"simple": simple},
        "connectionPool": {
            "tcp": {"maxConnections": limits.max_connections},
            "http": {
                "http1MaxPendingRequests": limits.max_pending_requests,
                "http2MaxRequests": limits.max_requests,
                "maxRetries": limits.max_retries,
            },
        },
    });
    if let Some(breaker) = breaker {
        if breaker.max_requests_per_connection > 0 {
            policy["connectionPool"]["http"]["maxRequestsPerConnection"] =
                json!(breaker.max_requests_per_connection);
        }
        let outliers = outlier_detection_of_2017(breaker);
        policy["outlierDetection"] = json!({
            "consecutive5xxErrors": outliers.consecutive_5xx,
            "interval": duration(outliers.interval),
            "baseEjectionTime": duration(outliers.base_ejection_time),
            "maxEjectionPercent": outliers.max_ejection_percent,
            "minHealthPercent": PANIC_PERCENT_OF_2017,
        });
    }
    policy
}
