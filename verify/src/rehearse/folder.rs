//! Configuration as files that Envoy watches: one for the clusters, one for the endpoints of each, one
//! for the listeners, one for each route table. A push swaps the files it changes.

use super::script::{Arrival, Script};
use super::{Failure, Refusal, resources};
use proxy_core::contract::Opened;
use proxy_core::router::find_chain;
use proxy_core::xds::{
    Cluster, Listener, LoadAssignment, Name, NetworkFilter, RouteSource, RouteTable, Transport,
    XdsDelta,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a client's connections were going to, and which way.
pub(super) type Door = (SocketAddr, u8);

/// What the door of an arrival is.
pub(super) fn door(arrival: &Arrival) -> Door {
    (arrival.opened.original_dst, arrival.opened.direction as u8)
}

/// The folder, and the configuration as it is now.
pub(super) struct Folder {
    path: PathBuf,
    /// Each door has a listener of its own on loopback.
    doors: BTreeMap<Door, (Arc<Opened>, u16)>,
    clusters: BTreeMap<Name, Arc<Cluster>>,
    assignments: BTreeMap<Name, Arc<LoadAssignment>>,
    listeners: BTreeMap<Name, Arc<Listener>>,
    tables: BTreeMap<Name, Arc<RouteTable>>,
    /// As written last.
    written: BTreeMap<String, Value>,
}

impl Folder {
    /// A new folder below the system's temporary one, without any resource.
    pub(super) fn new(script: &Script) -> Result<Folder, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("meshsim-rehearsal-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        let mut doors = BTreeMap::new();
        for arrival in &script.arrivals {
            if let std::collections::btree_map::Entry::Vacant(place) = doors.entry(door(arrival)) {
                place.insert((Arc::clone(&arrival.opened), free_port()?));
            }
        }
        let mut folder = Folder {
            path,
            doors,
            clusters: BTreeMap::new(),
            assignments: BTreeMap::new(),
            listeners: BTreeMap::new(),
            tables: BTreeMap::new(),
            written: BTreeMap::new(),
        };
        folder.write("cds.json", resources::response(Vec::new()))?;
        folder.write("lds.json", resources::response(Vec::new()))?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where on loopback each door is.
    pub(super) fn ports(&self) -> BTreeMap<Door, SocketAddr> {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        self.doors.iter().map(|(door, (_, port))| (*door, address(*port))).collect()
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// What Envoy is started with.
    pub(super) fn bootstrap(&self, proxy: &str, locality: &str) -> Result<(PathBuf, u16), Failure> {
        let admin = free_port()?;
        let mut parts = locality.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let bootstrap = json!({
            "node": {
                "id": proxy,
                "cluster": proxy,
                "locality": {"region": part(), "zone": part(), "sub_zone": part()},
            },
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "cluster_manager": {"outlier_detection": {"event_log_path": self.file("outlier.log")}},
            "dynamic_resources": {
                "cds_config": resources::source(&self.file("cds.json")),
                "lds_config": resources::source(&self.file("lds.json")),
            },
        });
        let path = self.path.join("bootstrap.json");
        fs::write(&path, bootstrap.to_string())?;
        Ok((path, admin))
    }

    /// Takes over a push and swaps the files that it changes: endpoints before the clusters that read
    /// them, routes before the listeners.
    pub(super) fn apply(&mut self, deltas: &[XdsDelta]) -> Result<(), Failure> {
        for delta in deltas {
            self.take(delta);
        }
        let mut clusters = Vec::new();
        for cluster in self.clusters.values().cloned().collect::<Vec<_>>() {
            let Ok(mut resource) = resources::cluster(&plain(&cluster)) else { continue };
            if resource["type"] == "EDS" {
                let file = file_name("eds", &cluster.name);
                let endpoints = self.assignments.get(&cluster.name);
                let endpoints = endpoints.map(|a| resources::load_assignment(a));
                self.write(&file, resources::response(endpoints.into_iter().collect()))?;
                resource["eds_cluster_config"] = json!({
                    "eds_config": resources::source(&self.file(&file)),
                    "service_name": &*cluster.name,
                });
            }
            clusters.push(resource);
        }
        self.write("cds.json", resources::response(clusters))?;
        let mut listeners = Vec::new();
        let known: Vec<Arc<Listener>> = self.listeners.values().cloned().collect();
        for (opened, port) in self.doors.values().cloned().collect::<Vec<_>>() {
            let Some(choice) = find_chain(&known, &opened, true) else { continue };
            let Some(chain) = choice.chain() else { continue };
            let NetworkFilter::Http(manager) = &chain.filter else { continue };
            let routes = match &manager.routes {
                RouteSource::Inline(table) => {
                    json!({"route_config": resources::route_table(table).map_err(Refusal)?})
                }
                RouteSource::Rds(name) => {
                    let file = file_name("rds", name);
                    let table = self.tables.get(name).map(|t| resources::route_table(t));
                    let table = table.transpose().map_err(Refusal)?;
                    self.write(&file, resources::response(table.into_iter().collect()))?;
                    json!({"rds": {
                        "route_config_name": &**name,
                        "config_source": resources::source(&self.file(&file)),
                    }})
                }
            };
            let name = format!("{} {}", choice.listener.name, opened.original_dst);
            listeners.push(resources::listener(&name, port, routes, &self.file("access.log")));
        }
        self.write("lds.json", resources::response(listeners))?;
        Ok(())
    }

    fn take(&mut self, delta: &XdsDelta) {
        match delta {
            XdsDelta::Clusters { upsert, remove } => {
                for cluster in upsert {
                    self.clusters.insert(Arc::clone(&cluster.name), Arc::clone(cluster));
                }
                for name in remove {
                    self.clusters.remove(name);
                    self.assignments.remove(name);
                }
            }
            XdsDelta::Endpoints { upsert } => {
                for assignment in upsert {
                    let name = Arc::clone(&assignment.cluster);
                    self.assignments.insert(name, Arc::clone(assignment));
                }
            }
            XdsDelta::Listeners { upsert, remove } => {
                for listener in upsert {
                    self.listeners.insert(Arc::clone(&listener.name), Arc::clone(listener));
                }
                remove.iter().for_each(|name| drop(self.listeners.remove(name)));
            }
            XdsDelta::Routes { upsert, remove } => {
                for table in upsert {
                    self.tables.insert(Arc::clone(&table.name), Arc::clone(table));
                }
                remove.iter().for_each(|name| drop(self.tables.remove(name)));
            }
        }
    }

    /// Swaps a file in one step, if what it is to hold has changed.
    fn write(&mut self, name: &str, content: Value) -> io::Result<()> {
        if self.written.get(name) == Some(&content) {
            return Ok(());
        }
        let next = self.path.join("next");
        fs::write(&next, content.to_string())?;
        fs::rename(&next, self.path.join(name))?;
        self.written.insert(name.to_owned(), content);
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder does no harm.
        if std::env::var_os("MESHSIM_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Names hold `|` and other characters that file names better do without.
fn file_name(kind: &str, name: &str) -> String {
    let safe = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    format!("{kind}-{safe}-{:x}.json", proxy_core::random::hash_text(name))
}

/// As it is played: without TLS.
fn plain(cluster: &Cluster) -> Cluster {
    Cluster { transport: Transport::Plaintext, ..cluster.clone() }
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
