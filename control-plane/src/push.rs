//! The control plane as a state machine: what changed, for whom, and when it is pushed.

use crate::delta::deltas;
use crate::model::{Pod, ProxyIdentity, Push, Resources};
use crate::objects::Objects;
use crate::translate::{InboundKey, Mesh, PodIndex, ScopeKey, Shared, assemble, inbound, shared};
use proxy_core::time::Nanos;
use proxy_core::xds::{LoadAssignment, XdsDelta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Timing of pushes.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSettings {
    /// Quiet time before a push.
    pub debounce: Nanos,
    /// Longest wait for quiet.
    pub debounce_max: Nanos,
}

impl Default for PushSettings {
    /// Istio's: 100 ms of quiet, at most 10 s.
    fn default() -> PushSettings {
        PushSettings {
            debounce: Nanos::from_millis(100),
            debounce_max: Nanos::from_secs(10),
        }
    }
}

/// The control plane as a state machine.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    settings: PushSettings,
    objects: Objects,
    mesh: Mesh,
    pods: PodIndex,
    /// In order of connection.
    proxies: Vec<Connected>,
    shared: BTreeMap<ScopeKey, Arc<Shared>>,
    inbound: BTreeMap<InboundKey, Arc<Resources>>,
    changed: Option<Changed>,
    version: u64,
}

/// A proxy and what it was told.
#[derive(Clone, Debug)]
struct Connected {
    identity: ProxyIdentity,
    sent: Sent,
}

/// The parts of what a proxy was told, which it shares with others.
#[derive(Clone, Debug)]
struct Sent {
    shared: Arc<Shared>,
    inbound: Arc<Resources>,
}

/// Deltas between shared parts, by their addresses: most proxies go through the same change.
type Computed = BTreeMap<(usize, usize), Vec<XdsDelta>>;

/// What has not been pushed yet.
#[derive(Clone, Debug)]
struct Changed {
    first: Nanos,
    last: Nanos,
    configuration: bool,
    /// Pods as they were and as they are.
    pods: Vec<Arc<Pod>>,
}

impl ControlPlane {
    /// A control plane that has seen `objects` and `pods` and pushed them to nobody yet.
    pub fn new(settings: PushSettings, objects: Objects, pods: Vec<Pod>) -> ControlPlane {
        ControlPlane {
            settings,
            mesh: Mesh::new(&objects),
            objects,
            pods: PodIndex::new(pods),
            proxies: Vec::new(),
            shared: BTreeMap::new(),
            inbound: BTreeMap::new(),
            changed: None,
            version: 1,
        }
    }

    /// The configuration as last set.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The configuration changed.
    pub fn set_objects(&mut self, now: Nanos, objects: Objects) {
        self.objects = objects;
        self.change(now).configuration = true;
    }

    /// A pod is new, ready, not ready, terminating.
    pub fn set_pod(&mut self, now: Nanos, pod: Pod) {
        let new = Arc::new(pod.clone());
        let old = self.pods.set(pod);
        if old.as_ref() == Some(&new) {
            return;
        }
        let changed = self.change(now);
        changed.pods.extend(old);
        changed.pods.push(new);
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, now: Nanos, namespace: &str, name: &str) {
        if let Some(old) = self.pods.remove(&namespace.into(), &name.into()) {
            self.change(now).pods.push(old);
        }
    }

    fn change(&mut self, now: Nanos) -> &mut Changed {
        let changed = self.changed.get_or_insert(Changed {
            first: now,
            last: now,
            configuration: false,
            pods: Vec::new(),
        });
        changed.last = now;
        changed
    }

    /// A proxy subscribes: it gets all there is, at once (with the version of the state).
    pub fn connect(&mut self, _now: Nanos, proxy: ProxyIdentity) -> Push {
        let sent = self.parts(&proxy);
        let resources = assemble(&sent.shared, &sent.inbound, &proxy);
        let push = Push {
            proxy: proxy.name.clone(),
            deltas: deltas(&Resources::default(), &resources),
            version: self.version,
        };
        self.disconnect(&proxy.name);
        self.proxies.push(Connected {
            identity: proxy,
            sent,
        });
        push
    }

    /// A proxy is gone.
    pub fn disconnect(&mut self, proxy: &str) {
        self.proxies.retain(|known| *known.identity.name != *proxy);
    }

    /// When [`ControlPlane::tick`] is next needed.
    pub fn deadline(&self) -> Option<Nanos> {
        let changed = self.changed.as_ref()?;
        let quiet = changed.last + self.settings.debounce;
        Some(quiet.min(changed.first + self.settings.debounce_max))
    }

    /// The pushes that are due, in order of connection; proxies with nothing new get none.
    pub fn tick(&mut self, now: Nanos) -> Vec<Push> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let Some(changed) = self.changed.take() else {
            return Vec::new();
        };
        self.version += 1;
        self.retranslate(&changed);
        let mut pushes = Vec::new();
        let mut computed = Computed::new();
        let mut proxies = std::mem::take(&mut self.proxies);
        for proxy in &mut proxies {
            let new = self.parts(&proxy.identity);
            let deltas = change(&proxy.sent, &new, &proxy.identity, &mut computed);
            proxy.sent = new;
            if !deltas.is_empty() {
                pushes.push(Push {
                    proxy: proxy.identity.name.clone(),
                    deltas,
                    version: self.version,
                });
            }
        }
        self.proxies = proxies;
        pushes
    }

    /// Everything a proxy with that identity is told as things stand.
    pub fn resources(&mut self, proxy: &ProxyIdentity) -> Resources {
        let parts = self.parts(proxy);
        assemble(&parts.shared, &parts.inbound, proxy)
    }

    fn parts(&mut self, proxy: &ProxyIdentity) -> Sent {
        let key = self.mesh.scope_key(proxy);
        let (mesh, pods) = (&self.mesh, &self.pods);
        let shared = self
            .shared
            .entry(key)
            .or_insert_with_key(|key| Arc::new(shared(mesh, key, pods)));
        let own = self.mesh.inbound_key(proxy);
        let inbound = self
            .inbound
            .entry(own)
            .or_insert_with(|| Arc::new(inbound(mesh, proxy, pods)));
        Sent {
            shared: Arc::clone(shared),
            inbound: Arc::clone(inbound),
        }
    }

    fn retranslate(&mut self, changed: &Changed) {
        if changed.configuration {
            self.mesh = Mesh::new(&self.objects);
            self.shared.clear();
            self.inbound.clear();
            return;
        }
        for (key, old) in &mut self.shared {
            if old.follows_pods {
                *old = Arc::new(shared(&self.mesh, key, &self.pods));
                continue;
            }
            let pods = &self.pods;
            let authentication = &self.mesh.rules.authentication;
            let new = Arc::make_mut(old);
            for (source, assignment) in new.sources.iter().zip(&mut new.endpoints) {
                let concerned =
                    |pod: &Arc<Pod>| source.service.selects(&pod.namespace, &pod.labels);
                if changed.pods.iter().any(concerned) {
                    replace(assignment, source.assignment(pods, authentication, key));
                }
            }
        }
    }
}

/// From `old` to `new` for one proxy.
fn change(old: &Sent, new: &Sent, proxy: &ProxyIdentity, computed: &mut Computed) -> Vec<XdsDelta> {
    let alike = Arc::ptr_eq(&old.inbound, &new.inbound) || old.inbound == new.inbound;
    let own_listeners = old.shared.listens_on_endpoints || new.shared.listens_on_endpoints;
    if own_listeners || !alike {
        let whole = |sent: &Sent| assemble(&sent.shared, &sent.inbound, proxy);
        return deltas(&whole(old), &whole(new));
    }
    let address = |sent: &Sent| Arc::as_ptr(&sent.shared) as usize;
    let key = (address(old), address(new));
    let whole = |sent: &Sent| assemble(&sent.shared, &Resources::default(), proxy);
    let known = computed.entry(key);
    known
        .or_insert_with(|| deltas(&whole(old), &whole(new)))
        .clone()
}

/// Keeps the old copy of what did not change.
fn replace(old: &mut Arc<LoadAssignment>, new: LoadAssignment) {
    if **old != new {
        *old = Arc::new(new);
    }
}
