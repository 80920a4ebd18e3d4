//! Clusters: one for each port of each service, and one for each subset of its DestinationRule, or
//! version that a RouteRule sends to.

use super::endpoints::{EndpointSource, PodIndex};
use super::of_2017::settle;
use super::scope::Scope;
use super::{Mesh, ScopeKey, cluster_name};
use crate::config::{
    ClientTls, ConnectionPool, HashTable, Labels, LoadBalancer, MutualTls, Simple, Subset, TlsMode,
    TrafficPolicy, has_labels, merge_levels,
};
use crate::kubernetes::Target;
use crate::model::ProxyKind;
use crate::policies::Policy;
use crate::protocol::Protocol;
use crate::registry::{Service, ServiceDiscovery, ServicePort, named_port};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, ConsistentHashing, Discovery, HttpProtocol, LbPolicy, LoadAssignment, LocalityLb,
    Name, RingHashFunction, Transport,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The clusters of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfService {
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// Where the endpoints of those come from that get them by EDS.
    sources: Vec<EndpointSource>,
    /// Of each source.
    pub(crate) endpoints: Vec<Arc<LoadAssignment>>,
    /// Some cluster's transport follows from the pods behind the service.
    pub(crate) follows_pods: bool,
}

impl OfService {
    pub(crate) fn selected_labels(&self) -> impl Iterator<Item = (Name, Labels)> {
        self.sources.iter().map(|source| {
            let of_service = source.service.selector.iter().flatten();
            let labels = of_service.chain(&source.subset).cloned();
            (source.cluster.clone(), labels.collect())
        })
    }

    /// Keeps the old copy of what did not change.
    pub(crate) fn renew_endpoints(&mut self, mesh: &Mesh, key: &ScopeKey, pods: &PodIndex) {
        for (source, assignment) in self.sources.iter().zip(&mut self.endpoints) {
            let new = source.assignment(pods, &mesh.rules.authentication, key);
            if **assignment != new {
                *assignment = Arc::new(new);
            }
        }
    }
}

/// One for each port of `service`, and one for each subset of its DestinationRule.
pub(crate) fn of(
    scope: &Scope<'_>,
    service: &Arc<Service>,
    pods: &PodIndex,
    key: &ScopeKey,
) -> OfService {
    let mut made = OfService::default();
    if service.alias_of.is_some() {
        return made;
    }
    let policy = scope.policy(service);
    let mut seen = BTreeSet::new();
    let ports = service.ports.iter();
    for port in ports.filter(|port| port.protocol != Protocol::Udp) {
        if !seen.insert(port.number) {
            continue;
        }
        let mut make = |subset: Option<&Subset>, of_2017: bool| {
            let name = subset.map_or("", |subset| &subset.name.text);
            let mut source = EndpointSource::new(service, port, name);
            source.subset = subset
                .map(|subset| subset.labels.clone())
                .unwrap_or_default();
            let policy = policy.map(|policy| &**policy);
            let Some(mut cluster) = cluster(scope, &mut source, policy, subset, pods) else {
                return;
            };
            if of_2017 && settle(scope, (service, port), &source.subset, &mut cluster) {
                // Pilot of 2017 listed none but ready ones.
                source.send_unhealthy = false;
            }
            made.follows_pods |= service.has_pods() && asks_endpoints(service, own(policy, subset));
            if cluster.discovery == Discovery::Eds {
                let authentication = &scope.mesh.rules.authentication;
                let endpoints = source.assignment(pods, authentication, key);
                made.endpoints.push(Arc::new(endpoints));
                made.sources.push(source);
            }
            made.clusters.push(Arc::new(cluster));
        };
        make(None, true);
        for subset in policy.iter().flat_map(|policy| &policy.subsets) {
            make(Some(subset), false);
        }
        for version in scope.mesh.rules.of_2017.versions_of(&service.host) {
            make(Some(version), true);
        }
    }
    made
}

/// The clusters that are there without any service.
pub(crate) fn built_in(scope: &Scope<'_>) -> Vec<Arc<Cluster>> {
    let mut clusters = vec![black_hole()];
    if scope.kind != ProxyKind::Gateway {
        clusters.push(passthrough("PassthroughCluster"));
    }
    for cluster in &mut clusters {
        cluster.connect_timeout = scope.mesh.config.connect_timeout;
    }
    clusters.into_iter().map(Arc::new).collect()
}

fn black_hole() -> Cluster {
    let name = "BlackHoleCluster";
    let none = LoadAssignment::new(name.into(), Vec::new());
    Cluster::new(name.into(), Discovery::Static(none))
}

/// To wherever the connection was going, whatever listens there.
pub(crate) fn passthrough(name: &str) -> Cluster {
    Cluster {
        idle_timeout: Some(Nanos::from_secs(300)),
        ..to_original_destination(name)
    }
}

/// To wherever the connection was going.
pub(crate) fn to_original_destination(name: &str) -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided,
        http_protocol: HttpProtocol::UseDownstream,
        ..Cluster::new(name.into(), Discovery::OriginalDst { port: None })
    }
}

/// `None`: a DNS name without endpoints in the subset; Istio leaves such clusters out.
fn cluster(
    scope: &Scope<'_>,
    source: &mut EndpointSource,
    policy: Option<&Policy>,
    subset: Option<&Subset>,
    pods: &PodIndex,
) -> Option<Cluster> {
    let (service, port) = (&source.service, &source.port);
    let (external, port_number) = (service.external, port.number);
    let subset_policy = subset.and_then(|subset| subset.policy.as_ref());
    let rule_policy = policy.and_then(|policy| policy.policy.as_ref());
    let effective = merge_levels(rule_policy, subset_policy, port.number);
    // A subset cannot take back what holds for the whole service.
    let whole = subset.map(|_| merge_levels(rule_policy, None, port.number));
    let levels = [whole.as_ref(), Some(&effective), subset_policy];
    let mut levels = levels.into_iter().flatten();
    let discovery = match levels.any(passes_through) {
        true => original_dst(service, port),
        false => discovery(scope, service, port, &source.subset)?,
    };
    let name = cluster_name(
        port.number,
        subset.map_or("", |subset| &subset.name.text),
        &service.host,
    );
    let mut cluster = Cluster::new(name, discovery);
    cluster.origin = Some(policy.map_or_else(|| service.origin.clone(), |p| p.origin.clone()));
    let config = &scope.mesh.config;
    let pool = effective.connection_pool.as_ref();
    let keeps = pool.is_some_and(|pool| pool.use_client_protocol);
    let stated = pool.and_then(|pool| pool.h2_upgrade);
    let upgrades = stated.unwrap_or(config.h2_upgrade && port.protocol.is_http());
    cluster.http_protocol = match port.protocol {
        protocol if protocol.is_http2() => HttpProtocol::Http2,
        Protocol::Auto if scope.kind != ProxyKind::Gateway => HttpProtocol::UseDownstream,
        _ if upgrades && !keeps => HttpProtocol::Http2,
        _ => HttpProtocol::Http1,
    };
    cluster.connect_timeout = config.connect_timeout;
    apply(&mut cluster, &effective);
    if let Discovery::OriginalDst { .. } = cluster.discovery {
        cluster.lb_policy = LbPolicy::ClusterProvided;
    }
    cluster.transport = match &effective.tls {
        Some(tls) => {
            if tls.unusable {
                // Envoy fails to connect to any host; here there is none.
                let none = LoadAssignment::new(cluster.name.clone(), Vec::new());
                cluster.discovery = Discovery::Static(none);
            }
            stated_transport(tls)
        }
        None => inferred_transport(scope, source, own(policy, subset), &cluster.discovery, pods),
    };
    source.send_unhealthy =
        cluster.healthy_panic_threshold_percent == 0 || source.service.near.is_some();
    // Endpoints go by the first level that states a mode, whatever became of the cluster.
    let levels = [subset_policy, rule_policy];
    let stated = levels
        .into_iter()
        .flatten()
        .find_map(|level| level.tls_at(port_number));
    source.mutual_tls = !external && matches!(stated, None | Some(TlsMode::IstioMutual));
    let near = source.service.near.as_ref();
    let near = near.filter(|_| effective.locality.is_none());
    let setting = effective.locality.as_ref().or(near);
    let setting = setting.unwrap_or(&scope.mesh.config.locality);
    source.locality = Some(setting.clone()).filter(|setting| setting.enabled);
    source.fails_over = effective.outlier_detection.is_some() || near.is_some();
    if setting.enabled && setting.weighs(source.fails_over) {
        cluster.locality_lb = LocalityLb::Weighted;
    }
    Some(cluster)
}

/// The traffic policy of the level that is asked for, without those it inherits from.
fn own<'p>(policy: Option<&'p Policy>, subset: Option<&'p Subset>) -> Option<&'p TrafficPolicy> {
    match subset {
        Some(subset) => subset.policy.as_ref(),
        None => policy.and_then(|policy| policy.policy.as_ref()),
    }
}

fn passes_through(policy: &TrafficPolicy) -> bool {
    let wanted = LoadBalancer::Simple(Simple::Passthrough);
    policy.load_balancer == Some(wanted)
}

/// Whether mutual TLS depends on what the endpoints speak together: no one of them is told from the
/// others where the client picks the address.
fn asks_endpoints(service: &Service, own: Option<&TrafficPolicy>) -> bool {
    let direct = service.discovery == ServiceDiscovery::Passthrough;
    !service.external && (direct || own.is_some_and(passes_through))
}

fn stated_transport(tls: &ClientTls) -> Transport {
    match tls.mode {
        TlsMode::Disable => Transport::Plaintext,
        TlsMode::IstioMutual => Transport::IstioMutualTls,
        TlsMode::Simple | TlsMode::Mutual => Transport::Tls {
            sni: tls.sni.clone(),
        },
    }
}

/// Where no rule states one (Istio's automatic mutual TLS).
fn inferred_transport(
    scope: &Scope<'_>,
    source: &EndpointSource,
    own: Option<&TrafficPolicy>,
    discovery: &Discovery,
    pods: &PodIndex,
) -> Transport {
    let service = &source.service;
    let authentication = &scope.mesh.rules.authentication;
    let refused = || {
        !scope.mesh.config.auto_mutual_tls
            || authentication.of_namespace(&service.namespace) == MutualTls::Disable
    };
    let spoken = || !asks_endpoints(service, own) || source.all_speak_mutual_tls(pods);
    match discovery {
        _ if service.external || refused() || !spoken() => Transport::Plaintext,
        Discovery::OriginalDst { .. } => Transport::IstioMutualTls,
        _ => Transport::AutoMutualTls,
    }
}

/// Only a ServiceEntry's `targetPort` replaces the port that the client chose.
fn original_dst(service: &Service, port: &ServicePort) -> Discovery {
    let replaces = service.discovery == ServiceDiscovery::Passthrough && !service.kubernetes;
    let target = match port.target {
        Target::Number(target) if replaces && target != port.number => Some(target),
        _ => None,
    };
    Discovery::OriginalDst { port: target }
}

fn discovery(
    scope: &Scope<'_>,
    service: &Service,
    port: &ServicePort,
    subset: &Labels,
) -> Option<Discovery> {
    let dns = || {
        let entries = &service.listed;
        let entry = entries
            .iter()
            .find(|entry| has_labels(&entry.labels, subset));
        let target = match port.target {
            Target::Number(target) => target,
            Target::Name(_) => port.number,
        };
        match entry {
            Some(entry) => {
                let named = named_port(&entry.ports, &port.name);
                Some((entry.address.text.clone(), named.unwrap_or(target)))
            }
            // With neither endpoints nor a selector the host itself is looked up; it has no labels.
            None if entries.is_empty() && subset.is_empty() && service.selector.is_none() => {
                Some((service.host.clone(), target))
            }
            None => None,
        }
    };
    Some(match service.discovery {
        ServiceDiscovery::Listed => Discovery::Eds,
        // Gateways know the endpoints of headless services.
        ServiceDiscovery::Passthrough if scope.kind == ProxyKind::Gateway => Discovery::Eds,
        ServiceDiscovery::Passthrough => original_dst(service, port),
        ServiceDiscovery::Dns => {
            let (host, port) = dns()?;
            Discovery::StrictDns { host, port }
        }
        ServiceDiscovery::DnsRoundRobin => {
            let (host, port) = dns()?;
            Discovery::LogicalDns { host, port }
        }
    })
}

fn apply(cluster: &mut Cluster, policy: &TrafficPolicy) {
    match &policy.load_balancer {
        None | Some(LoadBalancer::Simple(Simple::LeastRequest | Simple::Passthrough)) => {}
        Some(LoadBalancer::Simple(Simple::RoundRobin)) => cluster.lb_policy = LbPolicy::RoundRobin,
        Some(LoadBalancer::Simple(Simple::Random)) => cluster.lb_policy = LbPolicy::Random,
        Some(LoadBalancer::ConsistentHash(hash)) => {
            cluster.lb_policy = match hash.table {
                HashTable::Ring { minimum } => LbPolicy::RingHash {
                    minimum_ring_size: minimum,
                    maximum_ring_size: 8_388_608,
                    function: RingHashFunction::XxHash,
                    hashing: ConsistentHashing::default(),
                },
                HashTable::Maglev { size } => LbPolicy::Maglev {
                    table_size: size,
                    hashing: ConsistentHashing::default(),
                },
            };
        }
    }
    if let LbPolicy::RoundRobin | LbPolicy::LeastRequest { .. } = cluster.lb_policy {
        cluster.slow_start = policy.warmup;
    }
    if let Some(pool) = &policy.connection_pool {
        apply_pool(cluster, pool);
    }
    cluster.circuit_breakers.retry_budget = policy.retry_budget;
    if let Some(outlier) = &policy.outlier_detection {
        cluster.outlier_detection = Some(outlier.detection.clone());
        cluster.healthy_panic_threshold_percent = outlier.min_health_percent;
    }
}

/// Limits and timeouts of connections; inbound clusters take nothing else of a rule.
pub(super) fn apply_pool(cluster: &mut Cluster, pool: &ConnectionPool) {
    let limits = &mut cluster.circuit_breakers;
    limits.max_connections = pool.max_connections.unwrap_or(u32::MAX);
    limits.max_pending_requests = pool.max_pending_requests.unwrap_or(u32::MAX);
    limits.max_requests = pool.max_requests.unwrap_or(u32::MAX);
    limits.max_retries = pool.max_retries.unwrap_or(u32::MAX);
    cluster.connect_timeout = pool.connect_timeout.unwrap_or(cluster.connect_timeout);
    cluster.idle_timeout = pool.idle_timeout.or(cluster.idle_timeout);
    cluster.max_requests_per_connection = pool.max_requests_per_connection.unwrap_or(0);
    if pool.use_client_protocol {
        cluster.http_protocol = HttpProtocol::UseDownstream;
    } else if cluster.http_protocol == HttpProtocol::Http2 {
        let streams = pool.max_concurrent_streams;
        cluster.max_concurrent_streams = streams.unwrap_or(cluster.max_concurrent_streams);
    }
}
