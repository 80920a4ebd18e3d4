//! The control plane as a state machine: what changed, for whom, and when it is pushed.

use crate::delta::deltas;
use crate::model::{Pod, ProxyIdentity, Push, Resources};
use crate::objects::Objects;
use crate::translate::{InboundKey, Mesh, PodIndex, ScopeKey, Shared, inbound};
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
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
    /// Those that `mesh` was made from.
    translated: Objects,
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
            translated: objects.clone(),
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
        let resources = sent.shared.assemble(&sent.inbound, &proxy);
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
        parts.shared.assemble(&parts.inbound, proxy)
    }

    fn parts(&mut self, proxy: &ProxyIdentity) -> Sent {
        let key = self.mesh.scope_key(proxy);
        let (mesh, pods) = (&self.mesh, &self.pods);
        let shared = self
            .shared
            .entry(key)
            .or_insert_with_key(|key| Arc::new(Shared::new(mesh, key, pods)));
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
            let old = std::mem::replace(&mut self.translated, self.objects.clone());
            let differences = self.translated.differences(&old);
            match self.mesh.after_rules(&self.translated, &differences) {
                Some(mesh) => {
                    let old = std::mem::replace(&mut self.mesh, mesh);
                    for (key, shared) in &mut self.shared {
                        let meshes = (&old, &self.mesh);
                        *shared =
                            Arc::new(shared.after_rules(meshes, key, &self.pods, &differences));
                    }
                }
                None => {
                    self.mesh = Mesh::new(&self.translated);
                    self.shared.clear();
                }
            }
            self.inbound.clear();
        }
        if !changed.pods.is_empty() {
            for (key, shared) in &mut self.shared {
                let new = shared.after_pods(&self.mesh, key, &self.pods, &changed.pods);
                *shared = Arc::new(new);
            }
        }
    }
}

/// From `old` to `new` for one proxy.
fn change(old: &Sent, new: &Sent, proxy: &ProxyIdentity, computed: &mut Computed) -> Vec<XdsDelta> {
    let alike = Arc::ptr_eq(&old.inbound, &new.inbound) || old.inbound == new.inbound;
    let own_listeners = old.shared.listens_on_endpoints || new.shared.listens_on_endpoints;
    if own_listeners || !alike {
        let whole = |sent: &Sent| sent.shared.assemble(&sent.inbound, proxy);
        return deltas(&whole(old), &whole(new));
    }
    let address = |sent: &Sent| Arc::as_ptr(&sent.shared) as usize;
    let key = (address(old), address(new));
    let none = Resources::default();
    let known = computed.entry(key);
    let made = known.or_insert_with(|| match old.shared.has_clusters_of(&new.shared) {
        true => deltas(
            &old.shared.assemble_listening(&none, proxy),
            &new.shared.assemble_listening(&none, proxy),
        ),
        false => deltas(
            &old.shared.assemble(&none, proxy),
            &new.shared.assemble(&none, proxy),
        ),
    });
    made.clone()
}
