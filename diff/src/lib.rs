//! Which requests two configurations treat differently.
//!
//! Both are translated for every proxy, and compared as Envoy decides: what was written in another
//! way, and means the same, is no change.
//!
//! | module | holds |
//! |---|---|
//! | `report` | the answer: classes of requests that change, each with a witness |
//! | `proxies` | which proxies are asked |
//! | `compare`, `side` | one proxy, before and after |
//! | `answers` | what one side does with the requests on a connection, or for one host |
//! | `connections` | classes of connections, and the filter chains that take them |
//! | `place` | a connection and a host, and a request that goes there |
//! | `hosts` | classes of hosts, and the virtual hosts that take them |
//! | `routes` | the requests of one host: which route takes them, before and after |
//! | `outcome`, `retries`, `rewrite` | what a route does, as settings that can be compared |
//! | `clusters`, `policy` | the same of clusters: balancing, limits, outlier detection, TLS, endpoints |
//! | `access` | the same of a connection manager: RBAC, tokens, paths, rate limits |
//! | `settings`, `labels` | settings by name, and what differs between two lists of them; short names |
//! | `text`, `markdown` | the answer as people read it |
//! | `guard` | requests that RBAC filters judge differently |
//! | `merge` | from single findings to few classes |
//! | `revision` | files of a revision in git |

mod access;
mod answers;
mod clusters;
mod compare;
mod connections;
mod guard;
mod hosts;
mod labels;
mod markdown;
mod merge;
mod outcome;
mod place;
mod policy;
mod proxies;
mod report;
mod retries;
mod revision;
mod rewrite;
mod routes;
mod settings;
mod side;
mod text;

pub use markdown::markdown;
pub use report::{Change, Kind, Report, Treatment, Undecided, Witness};
pub use revision::read_revision;
pub use settings::SettingChange;
pub use text::text;

use compare::{Found, compare};
use control_plane::{ControlPlane, Objects, Pod, ProxyKind, PushSettings, Resources};
use merge::Merged;
use proxies::Asked;
use proxy_core::contract::Direction;
use side::Side;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `new` does differently from `old`.
pub fn diff(old: &Objects, new: &Objects) -> Report {
    let pods = [old.pods(), new.pods()];
    let by_address = [0, 1].map(|side: usize| policy::pods_by_address(&pods[side]));
    let control_plane = |objects: &Objects, pods: &[Pod]| {
        ControlPlane::new(PushSettings::default(), objects.clone(), pods.to_vec())
    };
    let mut before = control_plane(old, &pods[0]);
    let mut after = control_plane(new, &pods[1]);
    let services = old.services().len() + new.services().len();
    let proxies = proxies::of(&before, &after, [&pods[0], &pods[1]]);
    let mut merged = Merged::default();
    let mut known = Known::default();
    for asked in &proxies.asked {
        let resources = [before.resources(&asked.old), after.resources(&asked.new)];
        let old_labels = || before.selected_labels(&asked.old);
        let new_labels = || after.selected_labels(&asked.new);
        let old_rule = |port| before.mutual_tls_rule(&asked.old, port).cloned();
        let new_rule = |port| after.mutual_tls_rule(&asked.new, port).cloned();
        let old = Side {
            resources: &resources[0],
            pods: &by_address[0],
            selected: &old_labels,
            ip: asked.old.ip,
            mutual_tls_rule: &old_rule,
        };
        let new = Side {
            resources: &resources[1],
            pods: &by_address[1],
            selected: &new_labels,
            ip: asked.new.ip,
            mutual_tls_rule: &new_rule,
        };
        for &direction in directions(asked) {
            let key = parts(&resources, direction);
            let found = known.findings.entry(key);
            let found = found.or_insert_with(|| compare(&asked.name, direction, old, new));
            merged.add(found, &asked.name);
        }
        known.resources.push(resources);
    }
    let (changes, undecided) = merged.finish();
    Report {
        changes,
        undecided,
        proxies: proxies.asked.len(),
        only_old: proxies.only_old,
        only_new: proxies.only_new,
        assumed_sidecars: proxies.assumed,
        without_services: services == 0,
    }
}

/// What was found for proxies that are told the very same, by the addresses of their resources.
#[derive(Default)]
struct Known {
    findings: BTreeMap<Vec<usize>, Found>,
    /// Kept, so that no other resource gets one of those addresses.
    resources: Vec<[Resources; 2]>,
}

fn directions(asked: &Asked) -> &'static [Direction] {
    match asked.old.kind {
        ProxyKind::Gateway => &[Direction::Gateway],
        ProxyKind::Sidecar | ProxyKind::None => &[Direction::Outbound, Direction::Inbound],
        // Not asked.
        ProxyKind::Node | ProxyKind::NodeProxy(_) => &[],
    }
}

/// The addresses of all resources of both sides that count in one direction.
fn parts(sides: &[Resources; 2], direction: Direction) -> Vec<usize> {
    fn address<T>(resource: &Arc<T>) -> usize {
        Arc::as_ptr(resource) as usize
    }
    let inbound = direction == Direction::Inbound;
    let mut parts = vec![usize::from(inbound)];
    for side in sides {
        let clusters = side.clusters.iter();
        let clusters = clusters.filter(|cluster| is_inbound(&cluster.name) == inbound);
        parts.extend(clusters.map(address));
        let listeners = side.listeners.iter();
        let listeners =
            listeners.filter(|listener| (&*listener.name == "virtualInbound") == inbound);
        parts.extend(listeners.map(address));
        if !inbound {
            parts.extend(side.endpoints.iter().map(address));
            parts.extend(side.routes.iter().map(address));
        }
        parts.push(0);
    }
    parts
}

fn is_inbound(cluster: &str) -> bool {
    cluster.starts_with("inbound|") || cluster == "InboundPassthroughCluster"
}
