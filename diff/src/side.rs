//! A proxy, as one side tells it.

use crate::policy::PodsByAddress;
use control_plane::Resources;
use proxy_core::xds::{
    Cluster, ConfigRef, HttpConnectionManager, LoadAssignment, Name, RouteSource, RouteTable,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A proxy, as one side tells it.
#[derive(Clone, Copy)]
pub(crate) struct Side<'r> {
    pub(crate) resources: &'r Resources,
    pub(crate) pods: &'r PodsByAddress,
    pub(crate) ip: IpAddr,
    /// By which labels the pods behind a cluster are found.
    pub(crate) selected: &'r dyn Fn() -> BTreeMap<Name, Vec<(Name, Name)>>,
    /// The rule that says how connections to a port are to be secured.
    pub(crate) mutual_tls_rule: &'r dyn Fn(u16) -> Option<ConfigRef>,
}

/// Resources by name.
pub(crate) struct Indexed<'r> {
    pub(crate) side: Side<'r>,
    pub(crate) clusters: BTreeMap<&'r Name, &'r Arc<Cluster>>,
    pub(crate) assignments: BTreeMap<&'r Name, &'r Arc<LoadAssignment>>,
    pub(crate) tables: BTreeMap<&'r Name, &'r Arc<RouteTable>>,
}

impl<'r> Indexed<'r> {
    pub(crate) fn new(side: Side<'r>) -> Indexed<'r> {
        let resources = side.resources;
        let clusters = resources.clusters.iter();
        let assignments = resources.endpoints.iter();
        let tables = resources.routes.iter();
        Indexed {
            side,
            clusters: clusters.map(|cluster| (&cluster.name, cluster)).collect(),
            assignments: assignments.map(|of| (&of.cluster, of)).collect(),
            tables: tables.map(|table| (&table.name, table)).collect(),
        }
    }

    pub(crate) fn table(&self, manager: &'r HttpConnectionManager) -> Option<&'r RouteTable> {
        match &manager.routes {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Rds(name) => self.tables.get(name).map(|table| &***table),
        }
    }
}
