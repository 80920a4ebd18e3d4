//! All resources of a proxy together, as a file that `envoy -c` starts with.

use crate::{Unsupported, cluster, duration, listener, load_assignment, route_table, typed};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, Discovery, FilterChain, Listener, LoadAssignment, NetworkFilter, RouteSource,
    RouteTable, Transport,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one proxy is told.
#[derive(Clone, Copy, Debug)]
pub struct Resources<'a> {
    pub clusters: &'a [Arc<Cluster>],
    pub endpoints: &'a [Arc<LoadAssignment>],
    pub listeners: &'a [Arc<Listener>],
    pub routes: &'a [Arc<RouteTable>],
}

impl Resources<'_> {
    /// Whether `listener` takes connections itself. Traffic is redirected to the virtual listeners,
    /// which hand it over; without them it arrives at each listener itself.
    pub fn is_bound(&self, listener: &Listener) -> bool {
        let redirected = self.listeners.iter().any(|l| l.use_original_dst);
        !redirected || listener.use_original_dst || &*listener.name == "virtualInbound"
    }
}

/// What a bootstrap says besides the resources.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// `node.id` and `node.cluster`.
    pub node: String,
    /// Port of the admin interface on 127.0.0.1; 0 picks a free one, `None` leaves it out.
    pub admin_port: Option<u16>,
    /// `typed_config` of an access log of every connection manager and TCP proxy.
    pub access_log: Option<Value>,
}

/// Types of a filesystem-xDS folder and their URLs.
const ENDPOINTS: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
const CLUSTERS: &str = "envoy.config.cluster.v3.Cluster";
const LISTENERS: &str = "envoy.config.listener.v3.Listener";
const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";

impl Bootstrap {
    /// Everything in one file: endpoints within their clusters, routes within their listeners.
    ///
    /// # Errors
    /// What Envoy has no word for, all of it.
    pub fn with_static(&self, resources: &Resources<'_>) -> Result<Value, Vec<Unsupported>> {
        let with_endpoints = resources.clusters.iter().map(|one| {
            let mut one = Cluster::clone(one);
            if one.discovery == Discovery::Eds {
                let known = resources.endpoints.iter().find(|e| e.cluster == one.name);
                let none = || LoadAssignment::new(one.name.clone(), Vec::new());
                let assignment = known.map_or_else(none, |known| LoadAssignment::clone(known));
                one.discovery = Discovery::Static(assignment);
            }
            cluster(&one)
        });
        let clusters = all(with_endpoints)?;
        let listeners = resources.listeners.iter().map(|one| {
            let mut with_routes = Listener::clone(one);
            for chain in with_routes.chains_mut() {
                inline_routes(chain, resources.routes);
            }
            self.listener(&with_routes, resources)
        });
        let listeners: Vec<Value> = listeners.collect();
        let mut bootstrap = self.frame();
        bootstrap["static_resources"] = json!({ "clusters": clusters, "listeners": listeners });
        Ok(bootstrap)
    }

    /// A bootstrap that reads everything from files below `folder`, and these files: a change is
    /// taken up when one of them is replaced (moved over the old one, not written in place).
    ///
    /// # Errors
    /// What Envoy has no word for, all of it.
    pub fn with_files(
        &self,
        resources: &Resources<'_>,
        folder: &Path,
    ) -> Result<Vec<(PathBuf, Value)>, Vec<Unsupported>> {
        let clusters = all(resources.clusters.iter().map(|one| {
            let mut value = cluster(one)?;
            if one.discovery == Discovery::Eds {
                let path = folder.join(file_name("eds", &one.name));
                value["eds_cluster_config"]["eds_config"] = file_source(&path, folder);
            }
            Ok(value)
        }))?;
        let listeners = resources.listeners.iter().map(|one| {
            let mut value = self.listener(one, resources);
            for manager in filters(&mut value) {
                if let Some(rds) = manager.get_mut("rds")
                    && let Some(name) = rds["route_config_name"].as_str()
                {
                    let path = folder.join(file_name("rds", name));
                    rds["config_source"] = file_source(&path, folder);
                }
            }
            value
        });
        let mut files = vec![
            (folder.join("cds.json"), response(CLUSTERS, clusters)),
            (
                folder.join("lds.json"),
                response(LISTENERS, listeners.collect()),
            ),
        ];
        for one in resources.endpoints {
            let path = folder.join(file_name("eds", &one.cluster));
            files.push((path, response(ENDPOINTS, vec![load_assignment(one)])));
        }
        for one in resources.routes {
            let path = folder.join(file_name("rds", &one.name));
            files.push((path, response(ROUTES, vec![route_table(one)])));
        }
        let mut bootstrap = self.frame();
        bootstrap["dynamic_resources"] = json!({
            "cds_config": file_source(&folder.join("cds.json"), folder),
            "lds_config": file_source(&folder.join("lds.json"), folder),
        });
        files.push((folder.join("bootstrap.json"), bootstrap));
        Ok(files)
    }

    fn frame(&self) -> Value {
        let mut frame = json!({ "node": { "id": self.node, "cluster": self.node } });
        if let Some(port) = self.admin_port {
            let address = json!({ "address": "127.0.0.1", "port_value": port });
            frame["admin"] = json!({ "address": { "socket_address": address } });
        }
        frame
    }

    fn listener(&self, one: &Listener, resources: &Resources<'_>) -> Value {
        let mut value = listener(one, resources.is_bound(one));
        if let Some(log) = &self.access_log {
            for filter in filters(&mut value) {
                let name = "envoy.access_loggers.file";
                filter["access_log"] = json!([{ "name": name, "typed_config": log }]);
            }
        }
        value
    }
}

fn inline_routes(chain: &mut FilterChain, tables: &[Arc<RouteTable>]) {
    if let NetworkFilter::Http(manager) = &mut chain.filter
        && let RouteSource::Rds(name) = &manager.routes
        && let Some(table) = tables.iter().find(|table| table.name == *name)
    {
        manager.routes = RouteSource::Inline(Arc::clone(table));
    }
}

/// All values, or all that stands against them.
pub(crate) fn all(
    results: impl Iterator<Item = Result<Value, Unsupported>>,
) -> Result<Vec<Value>, Vec<Unsupported>> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(problems)
    }
}

/// The configurations of the filters that a listener's chains end in.
fn filters(listener: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = listener.as_object_mut().into_iter().flatten();
    let chains = fields.flat_map(|(name, value)| match (name.as_str(), value) {
        ("filter_chains", Value::Array(chains)) => &mut chains[..],
        ("default_filter_chain", chain) => std::slice::from_mut(chain),
        _ => &mut [],
    });
    let filters = chains.filter_map(|chain| chain["filters"].as_array_mut()?.last_mut());
    filters.map(|filter| &mut filter["typed_config"])
}

/// The file that holds the resource called `name`.
fn file_name(kind: &str, name: &str) -> PathBuf {
    let safe = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => c.to_string(),
        other => format!("%{:02X}", u32::from(other)),
    };
    let name: String = name.chars().map(safe).collect();
    Path::new(kind).join(format!("{name}.json"))
}

fn file_source(path: &Path, folder: &Path) -> Value {
    let watched = path.parent().unwrap_or(folder);
    json!({
        "path_config_source": {
            "path": path.display().to_string(),
            "watched_directory": { "path": watched.display().to_string() },
        },
        "resource_api_version": "V3",
        "initial_fetch_timeout": duration(Nanos::ZERO),
    })
}

/// `envoy.service.discovery.v3.DiscoveryResponse`.
fn response(message: &str, resources: Vec<Value>) -> Value {
    let resources = resources.into_iter().map(|one| typed(message, one));
    json!({ "resources": resources.collect::<Vec<_>>() })
}

/// What a proxy started from these resources does otherwise than the real one, a line each.
pub fn left_out(resources: &Resources<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for cluster in resources.clusters {
        if !matches!(
            cluster.transport,
            Transport::Plaintext | Transport::AutoMutualTls
        ) {
            lines.push(format!(
                "cluster {}: connects in plain text, its TLS is left out",
                cluster.name
            ));
        }
    }
    let secured = resources.clusters.iter();
    let secured = secured
        .filter(|one| one.transport == Transport::AutoMutualTls)
        .count();
    if secured > 0 {
        lines.push(format!(
            "{secured} clusters: Istio's mutual TLS is left out, endpoints are reached in plain text"
        ));
    }
    for listener in resources.listeners {
        let chains = listener.filter_chains.iter();
        let terminating = chains.filter(|chain| chain.terminates_tls).count();
        if terminating > 0 {
            lines.push(format!(
                "listener {}: {terminating} filter chains end TLS; their certificates are left out, so that they take no connection",
                listener.name
            ));
        }
        let tokens = |chain: &FilterChain| match &chain.filter {
            NetworkFilter::Http(manager) => manager.jwt.is_some(),
            NetworkFilter::Tcp(_) => false,
        };
        if listener.filter_chains.iter().any(tokens) {
            lines.push(format!(
                "listener {}: tokens are not looked at, as their keys are not fetched",
                listener.name
            ));
        }
    }
    lines
}
