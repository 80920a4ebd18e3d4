//! From a route's clusters on: which there are, and the endpoints behind them.

use super::settings::balancing;
use super::{ClusterShare, Explanation, Upstream};
use crate::model::Resources;
use proxy_core::contract::Opened;
use proxy_core::router::Matched;
use proxy_core::xds::{Cluster, Discovery, EndpointHealth, Forward, LbPolicy, Name};
use std::net::SocketAddr;

impl Explanation {
    pub(super) fn forward(
        &mut self,
        resources: &Resources,
        forward: &Forward,
        matched: &Matched,
        opened: &Opened,
    ) {
        self.clusters = shares(forward.clusters.iter().map(|c| (&c.cluster, c.weight)));
        if let Some(head) = matched.upstream_heads.first() {
            self.upstream = Some(Upstream {
                authority: head.authority.clone(),
                path: head.path.clone(),
                headers: head.headers.clone(),
            });
        }
        for mirror in &forward.mirrors {
            let share = 100.0 * f64::from(mirror.fraction.numerator)
                / f64::from(mirror.fraction.denominator);
            self.say(format!("{share} % are mirrored to {}", mirror.cluster));
        }
        self.towards(resources, opened, forward.cluster_not_found_status);
    }

    /// What is known of the way from the cluster on, if there is only one.
    pub(super) fn towards(&mut self, resources: &Resources, opened: &Opened, not_found: u16) {
        let names: Vec<Name> = self
            .clusters
            .iter()
            .map(|share| share.name.clone())
            .collect();
        for name in &names {
            let Some(cluster) = resources.clusters.iter().find(|c| c.name == *name) else {
                self.say(format!("there is no cluster {name}"));
                if names.len() == 1 {
                    self.local_reply(not_found, Some("NC"), "cluster_not_found");
                }
                continue;
            };
            self.configured_by(cluster.origin.as_ref());
            let step = format!("cluster {name}: {}", describe(cluster));
            self.say(step);
            let endpoints = endpoints_of(resources, cluster, opened);
            match endpoints.as_deref() {
                Some([]) => {
                    self.say("it has no healthy endpoint".to_owned());
                    if names.len() == 1 {
                        self.local_reply(503, Some("UH"), "no_healthy_upstream");
                    }
                }
                Some([only]) if names.len() == 1 => self.endpoint = Some(*only),
                _ => {}
            }
        }
    }
}

pub(super) fn shares<'a>(clusters: impl Iterator<Item = (&'a Name, u32)>) -> Vec<ClusterShare> {
    let mut shares: Vec<ClusterShare> = clusters
        .map(|(name, weight)| ClusterShare {
            name: name.clone(),
            weight,
        })
        .collect();
    if let [single] = &mut shares[..] {
        single.weight = 100;
    }
    shares
}

fn describe(cluster: &Cluster) -> String {
    let found = match &cluster.discovery {
        Discovery::Eds => "endpoints from the control plane".to_owned(),
        Discovery::Static(_) => "fixed endpoints".to_owned(),
        Discovery::StrictDns { host, port } => format!("all addresses of {host}, port {port}"),
        Discovery::LogicalDns { host, port } => format!("an address of {host}, port {port}"),
        Discovery::OriginalDst { .. } => "where the connection was going".to_owned(),
    };
    match (&*cluster.name, &cluster.lb_policy) {
        ("PassthroughCluster", _) => format!(
            "{found}: no service has this address and port, and outboundTrafficPolicy is ALLOW_ANY"
        ),
        ("BlackHoleCluster", _) => "nowhere: no service has this address and port, and \
                                    outboundTrafficPolicy is REGISTRY_ONLY"
            .to_owned(),
        (_, LbPolicy::ClusterProvided) => found,
        (_, policy) => format!("{found}, {}", balancing(policy)),
    }
}

/// The healthy endpoints; `None` where only a name is known.
fn endpoints_of(
    resources: &Resources,
    cluster: &Cluster,
    opened: &Opened,
) -> Option<Vec<SocketAddr>> {
    let assignment = match &cluster.discovery {
        Discovery::Eds => {
            let mut all = resources.endpoints.iter();
            &**all.find(|assignment| assignment.cluster == cluster.name)?
        }
        Discovery::Static(assignment) => assignment,
        Discovery::OriginalDst { port } => {
            let mut address = opened.original_dst;
            address.set_port(port.unwrap_or(address.port()));
            return Some(vec![address]);
        }
        Discovery::StrictDns { .. } | Discovery::LogicalDns { .. } => return None,
    };
    let endpoints = assignment.localities.iter().flat_map(|l| &l.endpoints);
    let healthy = endpoints.filter(|endpoint| endpoint.health == EndpointHealth::Healthy);
    Some(healthy.map(|endpoint| endpoint.address).collect())
}
