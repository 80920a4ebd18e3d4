//! The same script through our core, again and again: only the proxies' own draws differ, so that
//! what chance alone can do is known.

use super::script::is_inbound;
use proxy_core::contract::{Out, StateChange};
use proxy_core::ids::ClusterId;
use proxy_core::proxy::{Step, Witness};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use serde::{Deserialize, Serialize};
use sim::{Observers, Plan};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What one side made of a script.
#[derive(Debug, Default)]
pub struct Run {
    pub exchanges: Vec<Exchange>,
    /// In order of time.
    pub ejections: Vec<Ejection>,
}

/// One request as the proxy logged it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When it reached the proxy.
    pub at: Nanos,
    pub cluster: Option<Name>,
    /// The last one tried.
    pub endpoint: Option<SocketAddr>,
    pub status: u16,
    /// As Envoy prints them.
    pub flags: String,
    pub attempts: u32,
}

/// Outlier detection took a host out or let it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ejection {
    pub at: Nanos,
    pub cluster: Name,
    pub host: SocketAddr,
    /// `false`: it is back.
    pub out: bool,
}

/// What `proxy` does with the script of `seed` and the proxies' draws of `draws`, each pass through a
/// proxy `slower` than in the scenario.
pub fn run_core(plan: &Plan, proxy: &str, seed: u64, draws: u64, slower: Nanos) -> Run {
    let mut plan = plan.clone();
    plan.proxies_seed = Some(draws);
    plan.overhead += slower;
    let mut run = Run::default();
    let mut names: BTreeMap<ClusterId, Name> = BTreeMap::new();
    let mut changes = Changes::default();
    let mut log = |line: &sim::LogLine<'_>| {
        if line.proxy != proxy || line.cluster.is_some_and(is_inbound) {
            return;
        }
        if let (Some(id), Some(name)) = (line.log.cluster, line.cluster) {
            names.entry(id).or_insert_with(|| name.into());
        }
        run.exchanges.push(Exchange {
            at: line.log.started_at,
            cluster: line.cluster.map(Name::from),
            endpoint: line.endpoint,
            status: line.log.status,
            flags: line.log.flags.to_string(),
            attempts: line.log.attempts,
        });
    };
    let observers = Observers {
        access_log: Some(&mut log),
        witness: Some((proxy, &mut changes)),
        ..Observers::default()
    };
    sim::event::run(&plan, seed, observers);
    for (at, cluster, host, out) in changes.seen {
        // A cluster that took no request has no ejection worth a name.
        if let Some(cluster) = names.get(&cluster).cloned() {
            run.ejections.push(Ejection {
                at,
                cluster,
                host,
                out,
            });
        }
    }
    run
}

/// Ejections as the proxy's main machine decides them.
#[derive(Default)]
struct Changes {
    seen: Vec<(Nanos, ClusterId, SocketAddr, bool)>,
}

impl Witness for Changes {
    fn saw(&mut self, now: Nanos, _: Step<'_>, out: &Out) {
        for change in &out.changes {
            match change {
                StateChange::Ejected {
                    cluster, address, ..
                } => {
                    self.seen.push((now, *cluster, *address, true));
                }
                StateChange::Unejected { cluster, address } => {
                    self.seen.push((now, *cluster, *address, false));
                }
                _ => {}
            }
        }
    }
}
