//! Configuration as files that Envoy watches. A push swaps the files that it changes.

use super::Refusal;
use super::script::{Arrival, Script};
use crate::Failure;
use crate::envoy::Folder;
use export::{Bootstrap, Resources};
use proxy_core::contract::Opened;
use proxy_core::router::find_chain;
use proxy_core::xds::{
    Cluster, FilterChainMatch, Listener, LoadAssignment, Name, RouteTable, TlsInspector, XdsDelta,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files, and the configuration as it is now.
pub(super) struct Files {
    folder: Folder,
    bootstrap: Bootstrap,
    /// Where clients' connections were going to; on loopback each has a listener of its own.
    doors: Vec<(Arc<Opened>, u16)>,
    clusters: BTreeMap<Name, Arc<Cluster>>,
    endpoints: BTreeMap<Name, Arc<LoadAssignment>>,
    listeners: BTreeMap<Name, Arc<Listener>>,
    routes: BTreeMap<Name, Arc<RouteTable>>,
    /// As written last.
    written: BTreeMap<PathBuf, Value>,
}

impl Files {
    /// A new folder below the system's temporary one, for an Envoy without any resource whose admin
    /// interface is at `admin`.
    pub(super) fn new(script: &Script, admin: u16) -> Result<Files, Failure> {
        let folder = Folder::new()?;
        for kind in ["eds", "rds"] {
            fs::create_dir_all(folder.join(kind))?;
        }
        let mut doors: Vec<(Arc<Opened>, u16)> = Vec::new();
        for arrival in &script.arrivals {
            let opened = &arrival.opened;
            let known = doors.iter().any(|(known, _)| is_same_door(known, opened));
            if !known {
                doors.push((Arc::clone(opened), free_port()?));
            }
        }
        let bootstrap = Bootstrap {
            node: script.proxy.clone(),
            admin_port: Some(admin),
            access_log: Some(access_log(folder.path())),
        };
        let mut files = Files {
            folder,
            bootstrap,
            doors,
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            listeners: BTreeMap::new(),
            routes: BTreeMap::new(),
            written: BTreeMap::new(),
        };
        files.apply(&[])?;
        Ok(files)
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Port of the admin interface.
    pub(super) fn admin(&self) -> u16 {
        self.bootstrap.admin_port.unwrap_or_default()
    }

    /// What Envoy is started with.
    pub(super) fn bootstrap(&self) -> Value {
        let mut bootstrap = self
            .written
            .get(&self.folder.join("bootstrap.json"))
            .cloned();
        let bootstrap = bootstrap.get_or_insert_default();
        let log = self.folder.join("outlier.log").display().to_string();
        bootstrap["cluster_manager"] = json!({"outlier_detection": {"event_log_path": log}});
        std::mem::take(bootstrap)
    }

    /// The listener of each door.
    pub(super) fn addresses(&self) -> impl Fn(&Arrival) -> Option<SocketAddr> + use<> {
        let doors = self.doors.clone();
        move |arrival| {
            let found = doors
                .iter()
                .find(|(opened, _)| is_same_door(opened, &arrival.opened));
            found.map(|(_, port)| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
        }
    }

    /// Takes over a push.
    pub(super) fn apply(&mut self, deltas: &[XdsDelta]) -> Result<(), Failure> {
        deltas.iter().for_each(|delta| self.take(delta));
        let clusters: Vec<Arc<Cluster>> = self.clusters.values().cloned().collect();
        // A file that a cluster or listener reads from has to be there, whatever it holds.
        let endpoints: Vec<Arc<LoadAssignment>> = clusters
            .iter()
            .map(|cluster| match self.endpoints.get(&cluster.name) {
                Some(known) => Arc::clone(known),
                None => Arc::new(LoadAssignment::new(Arc::clone(&cluster.name), Vec::new())),
            })
            .collect();
        let resources = Resources {
            clusters: &clusters,
            endpoints: &endpoints,
            listeners: &self.doors_now(),
            routes: &self.routes.values().cloned().collect::<Vec<_>>(),
        };
        let files = self.bootstrap.with_files(&resources, self.folder.path());
        let mut files = files.map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Refusal(problems.join("; "))
        })?;
        // Endpoints before the clusters that read them, routes before the listeners.
        let order = |path: &Path| {
            let part = path
                .strip_prefix(self.folder.path())
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned();
            ["eds", "cds", "rds", "lds"]
                .iter()
                .position(|kind| part.starts_with(kind))
        };
        files.sort_by_key(|(path, _)| order(path));
        for (path, content) in files {
            self.swap(path, content)?;
        }
        Ok(())
    }

    fn take(&mut self, delta: &XdsDelta) {
        match delta {
            XdsDelta::Clusters { upsert, remove } => {
                for name in remove {
                    self.clusters.remove(name);
                    self.endpoints.remove(name);
                }
                self.clusters
                    .extend(upsert.iter().map(|c| (Arc::clone(&c.name), Arc::clone(c))));
            }
            XdsDelta::Endpoints { upsert } => {
                self.endpoints.extend(
                    upsert
                        .iter()
                        .map(|e| (Arc::clone(&e.cluster), Arc::clone(e))),
                );
            }
            XdsDelta::Listeners { upsert, remove } => {
                self.listeners.retain(|name, _| !remove.contains(name));
                self.listeners
                    .extend(upsert.iter().map(|l| (Arc::clone(&l.name), Arc::clone(l))));
            }
            XdsDelta::Routes { upsert, remove } => {
                self.routes.retain(|name, _| !remove.contains(name));
                self.routes
                    .extend(upsert.iter().map(|t| (Arc::clone(&t.name), Arc::clone(t))));
            }
        }
    }

    /// For each door the filter chain that takes its connections, as a listener of its own.
    fn doors_now(&self) -> Vec<Arc<Listener>> {
        let known: Vec<Arc<Listener>> = self.listeners.values().cloned().collect();
        let own = |(opened, port): &(Arc<Opened>, u16)| {
            let choice = find_chain(&known, opened, true)?;
            let mut chain = choice.chain()?.clone();
            chain.matches = FilterChainMatch::default();
            Some(Arc::new(Listener {
                name: format!("{} for {}", choice.listener.name, opened.original_dst).into(),
                address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                port: *port,
                filter_chains: vec![chain],
                default_filter_chain: None,
                use_original_dst: false,
                tls_inspector: TlsInspector::AllPorts,
            }))
        };
        self.doors.iter().filter_map(own).collect()
    }

    /// Replaces a file in one step, if what it is to hold has changed.
    fn swap(&mut self, path: PathBuf, content: Value) -> io::Result<()> {
        if self.written.get(&path) != Some(&content) {
            let next = self.folder.join("next");
            fs::write(&next, content.to_string())?;
            fs::rename(&next, &path)?;
            self.written.insert(path, content);
        }
        Ok(())
    }
}

fn is_same_door(a: &Opened, b: &Opened) -> bool {
    (a.original_dst, a.direction) == (b.original_dst, b.direction)
}

/// One JSON object a line, with what [`super::logs`] reads.
fn access_log(folder: &Path) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": folder.join("access.log").display().to_string(),
        "log_format": {"json_format": {
            "n": format!("%REQ({})%", super::REQUEST),
            "status": "%RESPONSE_CODE%",
            "flags": "%RESPONSE_FLAGS%",
            "cluster": "%UPSTREAM_CLUSTER_RAW%",
            "endpoint": "%UPSTREAM_HOST%",
            "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        }},
    })
}

/// A port on loopback that nobody has at this moment.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
