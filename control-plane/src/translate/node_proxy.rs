//! What the proxy of a node is told, as Linkerd 1.x ran one for all pods of a node. Its two routers
//! take one port each, go by the host that is asked for, and both apply the rules: the outgoing one
//! sends to the node of the chosen pod, where the incoming one chooses again among the pods of its
//! node. It is what a sidecar of its namespace is told, put together anew.

use super::{PodIndex, mixer};
use crate::model::{ProxyIdentity, Resources, Router};
use crate::names::service_of_host;
use proxy_core::xds::{
    Cluster, Discovery, Endpoint, EndpointHealth, FilterChain, FilterChainMatch, Forward,
    HttpConnectionManager, Listener, LoadAssignment, LocalityEndpoints, Name, NetworkFilter,
    RetryOn, RetryPolicy, Route, RouteAction, RouteSource, RouteTable, TlsInspector, Transport,
    VirtualHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What `router` of `proxy` is told, where a sidecar in its place would be told `of_sidecar`.
pub(crate) fn of_router(
    router: Router,
    of_sidecar: &Resources,
    proxy: &ProxyIdentity,
    pods: &PodIndex,
) -> Resources {
    let nodes = Nodes::new(pods);
    let endpoints: Vec<LoadAssignment> = of_sidecar
        .endpoints
        .iter()
        .map(|assignment| match router {
            Router::Outgoing => nodes.instead_of_pods(assignment),
            Router::Incoming => nodes.within(proxy.ip, assignment),
        })
        .collect();
    let empty = endpoints.iter().filter(|all| all.localities.is_empty());
    let maker = Maker {
        router,
        empty: empty.map(|all| all.cluster.clone()).collect(),
    };
    Resources {
        clusters: of_sidecar
            .clusters
            .iter()
            .map(|cluster| Arc::new(maker.cluster(cluster)))
            .collect(),
        endpoints: endpoints
            .into_iter()
            .map(|all| {
                Arc::new(LoadAssignment {
                    cluster: maker.name(&all.cluster),
                    ..all
                })
            })
            .collect(),
        listeners: vec![Arc::new(listener(router, &of_sidecar.listeners))],
        routes: vec![Arc::new(maker.table(&of_sidecar.routes, &proxy.namespace))],
    }
}

/// Which pod is on which node.
struct Nodes {
    /// The address of the node's proxy, by that of the pod.
    of_pods: BTreeMap<IpAddr, IpAddr>,
    /// Nodes whose proxy is there.
    ready: BTreeSet<IpAddr>,
}

impl Nodes {
    fn new(pods: &PodIndex) -> Nodes {
        let there = pods.all().filter(|pod| pod.ready && !pod.terminating);
        Nodes {
            of_pods: pods
                .all()
                .filter_map(|pod| Some((pod.ip, pod.node_proxy?)))
                .collect(),
            ready: there
                .filter(|pod| pod.node_proxy == Some(pod.ip))
                .map(|pod| pod.ip)
                .collect(),
        }
    }

    /// Each node once, whatever the number of its pods; pods on a node without a proxy are out of
    /// reach.
    fn instead_of_pods(&self, of_pods: &LoadAssignment) -> LoadAssignment {
        let mut seen: BTreeSet<SocketAddr> = BTreeSet::new();
        changed(of_pods, |endpoint, others| {
            let Some(node) = self.of_pods.get(&endpoint.address.ip()) else {
                return Some(endpoint.clone());
            };
            if !self.ready.contains(node) {
                return None;
            }
            let address = SocketAddr::new(*node, Router::Incoming.port());
            if !seen.insert(address) {
                let mut known = others.iter_mut();
                let known = known.find(|other| other.address == address)?;
                if endpoint.health == EndpointHealth::Healthy {
                    known.health = EndpointHealth::Healthy;
                }
                return None;
            }
            Some(Endpoint {
                health: endpoint.health,
                ..Endpoint::new(address)
            })
        })
    }

    /// The pods of one node.
    fn within(&self, node: IpAddr, all: &LoadAssignment) -> LoadAssignment {
        changed(all, |endpoint, _| {
            let own = self.of_pods.get(&endpoint.address.ip()) == Some(&node);
            own.then(|| Endpoint {
                mutual_tls: false,
                ..endpoint.clone()
            })
        })
    }
}

/// `change` sees an endpoint, and those of its locality that are kept so far.
fn changed(
    all: &LoadAssignment,
    mut change: impl FnMut(&Endpoint, &mut Vec<Endpoint>) -> Option<Endpoint>,
) -> LoadAssignment {
    let localities = all.localities.iter().map(|locality| {
        let mut endpoints = Vec::new();
        for endpoint in &locality.endpoints {
            let kept = change(endpoint, &mut endpoints);
            endpoints.extend(kept);
        }
        LocalityEndpoints {
            endpoints,
            ..locality.clone()
        }
    });
    LoadAssignment {
        localities: localities.filter(|l| !l.endpoints.is_empty()).collect(),
        ..all.clone()
    }
}

/// Everything on one port; what is no HTTP is not told apart.
fn listener(router: Router, of_sidecar: &[Arc<Listener>]) -> Listener {
    let table = router.port().to_string();
    let mut manager = HttpConnectionManager::new(RouteSource::Rds(table.into()));
    if router == Router::Outgoing {
        manager.mixer = mixer::of_any(of_sidecar);
    }
    Listener {
        // Envoy's names for those that connections are redirected to.
        name: match router {
            Router::Outgoing => "virtualOutbound".into(),
            Router::Incoming => "virtualInbound".into(),
        },
        address: None,
        port: router.port(),
        filter_chains: vec![FilterChain {
            name: router.label().into(),
            matches: FilterChainMatch::default(),
            terminates_tls: false,
            rbac: Vec::new(),
            filter: NetworkFilter::Http(manager),
        }],
        default_filter_chain: None,
        use_original_dst: true,
        tls_inspector: TlsInspector::AllPorts,
    }
}

/// Makes the resources of one router.
struct Maker {
    router: Router,
    /// Clusters of the sidecar that have no endpoint here.
    empty: BTreeSet<Name>,
}

impl Maker {
    /// Clusters of the incoming router are told from those of the outgoing one.
    fn name(&self, cluster: &Name) -> Name {
        match (self.router, cluster.strip_prefix("outbound|")) {
            (Router::Incoming, Some(rest)) => format!("incoming|{rest}").into(),
            _ => cluster.clone(),
        }
    }

    fn cluster(&self, cluster: &Cluster) -> Cluster {
        let mut cluster = Cluster {
            name: self.name(&cluster.name),
            ..cluster.clone()
        };
        if let Discovery::Static(all) = &mut cluster.discovery {
            all.cluster = cluster.name.clone();
        }
        if matches!(
            cluster.transport,
            Transport::AutoMutualTls | Transport::IstioMutualTls
        ) {
            cluster.transport = Transport::Plaintext;
        }
        cluster
    }

    /// The tables of all ports in one: hosts with their port, at port 80 also without.
    fn table(&self, tables: &[Arc<RouteTable>], namespace: &str) -> RouteTable {
        let mut hosts: Vec<VirtualHost> = Vec::new();
        let mut others: Option<VirtualHost> = None;
        let mut taken: BTreeSet<Name> = BTreeSet::new();
        for table in tables {
            let mut parts = table.name.rsplit(':');
            let Some(port) = parts.next() else { continue };
            let own_host = parts.next();
            for host in &table.virtual_hosts {
                let everything = *host.domains == ["*".into()];
                let domains = match own_host {
                    Some(own) => names_of(own, namespace),
                    None if everything => {
                        others.get_or_insert_with(|| VirtualHost::clone(host));
                        continue;
                    }
                    None => host.domains.clone(),
                };
                let with_port = domains.iter().map(|d| Name::from(format!("{d}:{port}")));
                let mut all: Vec<Name> = with_port.collect();
                all.extend(domains.into_iter().filter(|_| port == "80"));
                all.retain(|domain| taken.insert(domain.clone()));
                if !all.is_empty() {
                    let routes = host.routes.iter().map(|route| Arc::new(self.route(route)));
                    hosts.push(VirtualHost {
                        domains: all,
                        routes: routes.collect(),
                        ..VirtualHost::clone(host)
                    });
                }
            }
        }
        hosts.extend(others.filter(|_| self.router == Router::Outgoing));
        RouteTable::new(self.router.port().to_string().into(), hosts, false)
    }

    fn route(&self, route: &Route) -> Route {
        let mut route = route.clone();
        if let RouteAction::Forward(forward) = &mut route.action {
            self.forward(forward);
        }
        if self.router == Router::Incoming {
            route.fault = None;
            route.cors = None;
            route.local_rate_limit = None;
        }
        route
    }

    /// A branch without endpoints drops out, unless all do. Only connections that fail are tried
    /// again by both routers; all else that is done for a request the first one does.
    fn forward(&self, forward: &mut Forward) {
        let reachable = |cluster: &Name| !self.empty.contains(cluster);
        if forward.clusters.iter().any(|to| reachable(&to.cluster)) {
            forward.clusters.retain(|to| reachable(&to.cluster));
        }
        for to in &mut forward.clusters {
            to.cluster = self.name(&to.cluster);
        }
        if self.router == Router::Incoming {
            let retry = forward.retry.take();
            *forward = Forward {
                retry: retry.map(|retry| RetryPolicy {
                    retry_on: RetryOn::CONNECT_FAILURE,
                    per_try_timeout: None,
                    ..retry
                }),
                timeout: None,
                idle_timeout: None,
                max_stream_duration: None,
                hedge_on_per_try_timeout: false,
                mirrors: Vec::new(),
                rate_limits: Vec::new(),
                ..forward.clone()
            };
        }
    }
}

/// What applications in `namespace` call a service.
fn names_of(host: &str, namespace: &str) -> Vec<Name> {
    let mut names = vec![host.into()];
    if let Some((name, own)) = service_of_host(host) {
        names.push(format!("{name}.{own}.svc").into());
        names.push(format!("{name}.{own}").into());
        names.extend((own == namespace).then(|| name.into()));
    }
    names
}
