//! Clusters.

use super::{lines, rule};
use crate::args::{ClusterFilter, TrafficDirection};
use export::{Resources, Unsupported};
use proxy_core::xds::{Cluster, Discovery};
use serde_json::Value;

const HEADINGS: [&str; 6] = [
    "SERVICE FQDN",
    "PORT",
    "SUBSET",
    "DIRECTION",
    "TYPE",
    "DESTINATION RULE",
];

pub(super) fn table(resources: &Resources<'_>, filter: &ClusterFilter) -> String {
    let row = |(name, cluster): (Parts<'_>, &Cluster)| {
        let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        [
            name.fqdn.to_owned(),
            or_dash(&name.port.map(|port| port.to_string()).unwrap_or_default()),
            or_dash(name.subset),
            or_dash(name.direction),
            discovery(cluster).to_owned(),
            rule(cluster.origin.as_ref(), &["DestinationRule"]),
        ]
    };
    let rows = chosen(resources, filter).into_iter().map(row);
    lines(HEADINGS, rows.collect())
}

pub(super) fn json(
    resources: &Resources<'_>,
    filter: &ClusterFilter,
) -> Result<Value, Vec<Unsupported>> {
    let chosen = chosen(resources, filter).into_iter();
    let values = chosen.map(|(_, cluster)| export::dump::cluster(cluster));
    values
        .collect::<Result<Value, _>>()
        .map_err(|problem| vec![problem])
}

/// What the name of a cluster says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Parts<'n> {
    fqdn: &'n str,
    subset: &'n str,
    port: Option<u16>,
    direction: &'n str,
}

impl Parts<'_> {
    /// `DIRECTION|PORT|SUBSET|FQDN`; other names belong to clusters that Istio adds.
    fn of(name: &str) -> Parts<'_> {
        let mut parts = name.splitn(4, '|');
        let four = [(); 4].map(|()| parts.next());
        match four {
            [Some(direction), Some(port), Some(subset), Some(fqdn)] => Parts {
                fqdn,
                subset,
                port: port.parse().ok(),
                direction,
            },
            _ => Parts {
                fqdn: name,
                subset: "",
                port: None,
                direction: "",
            },
        }
    }

    fn fits(&self, filter: &ClusterFilter) -> bool {
        let direction = filter.direction.map(|direction| match direction {
            TrafficDirection::Inbound => "inbound",
            TrafficDirection::Outbound => "outbound",
        });
        let holds = |text: &str, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text.contains(&**part))
        };
        holds(self.fqdn, &filter.fqdn)
            && holds(self.subset, &filter.subset)
            && filter.port.is_none_or(|port| Some(port) == self.port)
            && direction.is_none_or(|direction| direction == self.direction)
    }
}

/// By service, subset, port and direction, as istioctl has them.
fn chosen<'r>(resources: &Resources<'r>, filter: &ClusterFilter) -> Vec<(Parts<'r>, &'r Cluster)> {
    let clusters = resources.clusters.iter();
    let mut chosen: Vec<(Parts<'r>, &'r Cluster)> = clusters
        .map(|cluster| (Parts::of(&cluster.name), &**cluster))
        .filter(|(name, _)| name.fits(filter))
        .collect();
    chosen.sort_by_key(|(name, _)| *name);
    chosen
}

fn discovery(cluster: &Cluster) -> &'static str {
    match cluster.discovery {
        Discovery::Eds => "EDS",
        Discovery::Static(_) => "STATIC",
        Discovery::StrictDns { .. } => "STRICT_DNS",
        Discovery::LogicalDns { .. } => "LOGICAL_DNS",
        Discovery::OriginalDst { .. } => "ORIGINAL_DST",
    }
}
