//! The control plane as a state machine: what changed, for whom, and when it is pushed.

use crate::delta::deltas;
use crate::explain::Explainer;
use crate::model::{Pod, ProxyIdentity, ProxyKind, Push, Resources};
use crate::objects::Objects;
use crate::translate::{InboundKey, Mesh, PodIndex, ScopeKey, Shared, inbound, of_router};
use proxy_core::time::Nanos;
use proxy_core::xds::{ConfigRef, Name, XdsDelta};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Timing of pushes.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSettings {
    /// Quiet time before a push.
    pub debounce: Nanos,
    /// Longest wait for quiet.
    pub debounce_max: Nanos,
    /// From the beginning of a proxy's push until it leaves; a proxy with nothing new costs nothing.
    pub cost: Nanos,
    /// How many are made at a time (`PILOT_PUSH_THROTTLE`), at least 1.
    pub throttle: u32,
}

impl Default for PushSettings {
    /// Istio's: 100 ms of quiet, at most 10 s; 100 pushes at a time, as on large machines, that take
    /// no time.
    fn default() -> PushSettings {
        PushSettings {
            debounce: Nanos::from_millis(100),
            debounce_max: Nanos::from_secs(10),
            cost: Nanos::ZERO,
            throttle: 100,
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
    /// By number, in order of connection.
    proxies: BTreeMap<u64, Connected>,
    connections: u64,
    /// Proxies whose push waits its turn. Those that are gone, or whose stream broke, are passed over.
    waiting: VecDeque<u64>,
    /// Pushes being made, in order of their ends.
    making: VecDeque<Making>,
    /// Nobody is connected, and nothing is pushed.
    stopped: bool,
    shared: BTreeMap<ScopeKey, Arc<Shared>>,
    inbound: BTreeMap<InboundKey, Arc<Resources>>,
    changed: Option<Changed>,
    version: u64,
}

/// A proxy that runs, and what it was told.
#[derive(Clone, Debug)]
struct Connected {
    identity: ProxyIdentity,
    /// `None`: nothing yet.
    sent: Option<Sent>,
    turn: Turn,
}

/// Where a proxy stands with its next push. Whatever changes before a push begins is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    /// Its stream is broken.
    Disconnected,
    UpToDate,
    Waits,
    /// Its push is being made; `again`: there is more since.
    Made {
        again: bool,
    },
}

/// A push being made.
#[derive(Clone, Debug)]
struct Making {
    ends: Nanos,
    number: u64,
    sent: Sent,
    push: Push,
}

/// The parts of what a proxy was told, which it shares with others.
#[derive(Clone, Debug)]
struct Sent {
    shared: Arc<Shared>,
    inbound: Arc<Resources>,
    /// Of a router of a node's proxy: what it is told instead.
    router: Option<Arc<Resources>>,
}

impl Sent {
    fn assemble(&self, proxy: &ProxyIdentity) -> Resources {
        match &self.router {
            Some(resources) => Resources::clone(resources),
            None => self.shared.assemble(&self.inbound, proxy),
        }
    }
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
            proxies: BTreeMap::new(),
            connections: 0,
            waiting: VecDeque::new(),
            making: VecDeque::new(),
            stopped: false,
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

    /// A proxy starts and subscribes: it gets all there is, at once (with the version of the state).
    /// While the control plane is stopped that is nothing, and the push is empty.
    pub fn connect(&mut self, _now: Nanos, proxy: ProxyIdentity) -> Push {
        let mut push = Push {
            proxy: proxy.name.clone(),
            deltas: Vec::new(),
            version: self.version,
        };
        let mut sent = None;
        if !self.stopped {
            let parts = self.parts(&proxy);
            let resources = parts.assemble(&proxy);
            push.deltas = deltas(&Resources::default(), &resources);
            sent = Some(parts);
        }
        self.disconnect(&proxy.name);
        self.connections += 1;
        let connected = Connected {
            identity: proxy,
            sent,
            turn: Turn::UpToDate,
        };
        self.proxies.insert(self.connections, connected);
        push
    }

    /// A proxy is gone.
    pub fn disconnect(&mut self, proxy: &str) {
        self.proxies
            .retain(|_, known| *known.identity.name != *proxy);
    }

    /// A proxy's stream breaks: it keeps what it has, and what has left for it arrives.
    pub fn break_stream(&mut self, proxy: &str) {
        let numbers = self.proxies.iter_mut();
        for (&number, known) in numbers.filter(|(_, known)| *known.identity.name == *proxy) {
            known.turn = Turn::Disconnected;
            self.making.retain(|making| making.number != number);
        }
    }

    /// A proxy whose stream broke subscribes again: it gets what has changed since.
    pub fn reconnect(&mut self, now: Nanos, proxy: &str) -> Vec<Push> {
        let mut numbers = self.proxies.iter_mut();
        let known = numbers.find(|(_, known)| *known.identity.name == *proxy);
        if let Some((&number, known)) = known.filter(|(_, known)| known.turn == Turn::Disconnected)
        {
            known.turn = Turn::UpToDate;
            self.enqueue(number);
        }
        self.make(now)
    }

    /// The control plane ends: all streams break, and pushes that have not left are lost.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.waiting.clear();
        self.making.clear();
        for proxy in self.proxies.values_mut() {
            if proxy.turn != Turn::Disconnected {
                proxy.turn = Turn::UpToDate;
            }
        }
    }

    /// The control plane runs again, with the state as it is now: all proxies subscribe again, except
    /// those whose own stream is broken.
    pub fn start(&mut self, now: Nanos) -> Vec<Push> {
        self.stopped = false;
        self.catch_up();
        self.make(now)
    }

    /// Nothing is pushed, not even to proxies that start.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// When [`ControlPlane::tick`] is next needed.
    pub fn deadline(&self) -> Option<Nanos> {
        if self.stopped {
            return None;
        }
        let quiet = self.quiet_at();
        let made = self.making.front().map(|making| making.ends);
        quiet.into_iter().chain(made).min()
    }

    fn quiet_at(&self) -> Option<Nanos> {
        let changed = self.changed.as_ref()?;
        let quiet = changed.last + self.settings.debounce;
        Some(quiet.min(changed.first + self.settings.debounce_max))
    }

    /// The pushes that leave now, in order of their turns, which is at first that of connection;
    /// proxies with nothing new get none.
    pub fn tick(&mut self, now: Nanos) -> Vec<Push> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let mut pushes = Vec::new();
        while let Some(made) = self.making.pop_front_if(|making| making.ends <= now) {
            if let Some(proxy) = self.proxies.get_mut(&made.number) {
                let again = proxy.turn == Turn::Made { again: true };
                proxy.sent = Some(made.sent);
                proxy.turn = Turn::UpToDate;
                pushes.push(made.push);
                if again {
                    self.enqueue(made.number);
                }
            }
        }
        if self.quiet_at().is_some_and(|quiet| quiet <= now) {
            self.catch_up();
        }
        pushes.extend(self.make(now));
        pushes
    }

    /// Sees what has changed, and lets every proxy wait for its push.
    fn catch_up(&mut self) {
        if let Some(changed) = self.changed.take() {
            self.version += 1;
            self.retranslate(&changed);
        }
        let numbers: Vec<u64> = self.proxies.keys().copied().collect();
        for number in numbers {
            self.enqueue(number);
        }
    }

    fn enqueue(&mut self, number: u64) {
        let Some(proxy) = self.proxies.get_mut(&number) else {
            return;
        };
        match proxy.turn {
            Turn::UpToDate => {
                proxy.turn = Turn::Waits;
                self.waiting.push_back(number);
            }
            Turn::Made { .. } => proxy.turn = Turn::Made { again: true },
            Turn::Waits | Turn::Disconnected => {}
        }
    }

    /// Begins as many pushes as may be made at a time; those that take no time leave at once.
    fn make(&mut self, now: Nanos) -> Vec<Push> {
        let mut pushes = Vec::new();
        let mut computed = Computed::new();
        let mut proxies = std::mem::take(&mut self.proxies);
        while !self.stopped && self.making.len() < self.settings.throttle as usize {
            let Some(number) = self.waiting.pop_front() else {
                break;
            };
            let waits = |proxy: &&mut Connected| proxy.turn == Turn::Waits;
            let Some(proxy) = proxies.get_mut(&number).filter(waits) else {
                continue;
            };
            proxy.turn = Turn::UpToDate;
            let new = self.parts(&proxy.identity);
            let deltas = change(proxy.sent.as_ref(), &new, &proxy.identity, &mut computed);
            if deltas.is_empty() {
                proxy.sent = Some(new);
                continue;
            }
            let push = Push {
                proxy: proxy.identity.name.clone(),
                deltas,
                version: self.version,
            };
            if self.settings.cost == Nanos::ZERO {
                proxy.sent = Some(new);
                pushes.push(push);
            } else {
                proxy.turn = Turn::Made { again: false };
                self.making.push_back(Making {
                    ends: now + self.settings.cost,
                    number,
                    sent: new,
                    push,
                });
            }
        }
        self.proxies = proxies;
        pushes
    }

    /// Everything a proxy with that identity is told as things stand.
    pub fn resources(&mut self, proxy: &ProxyIdentity) -> Resources {
        self.parts(proxy).assemble(proxy)
    }

    /// What explains the decisions of a proxy.
    pub fn explainer<'c>(&'c mut self, proxy: &'c ProxyIdentity) -> Explainer<'c> {
        let resources = self.resources(proxy);
        Explainer {
            objects: &self.objects,
            mesh: &self.mesh,
            proxy,
            resources,
        }
    }

    /// The labels that Gateways select pods by.
    pub fn gateway_selectors(&self) -> Vec<&[(Name, Name)]> {
        let gateways = self.mesh.rules.gateways.iter();
        let specs = gateways.map(|gateway| gateway.spec());
        specs
            .filter(|spec| spec.bound_to.is_none())
            .map(|spec| &spec.selector[..])
            .collect()
    }

    /// The labels by which pods are found that are behind the clusters of a proxy: those of the Service
    /// with those of the subset. Nothing for a proxy whose resources nobody asked for.
    pub fn selected_labels(&self, proxy: &ProxyIdentity) -> BTreeMap<Name, Vec<(Name, Name)>> {
        let shared = self.shared.get(&self.mesh.scope_key(proxy, &self.pods));
        let labels = shared
            .into_iter()
            .flat_map(|shared| shared.selected_labels());
        labels.collect()
    }

    /// The PeerAuthentication that says how connections to `port` of a proxy's workload are to be
    /// secured; `None`: none does.
    pub fn mutual_tls_rule(&self, proxy: &ProxyIdentity, port: u16) -> Option<&ConfigRef> {
        let authentication = &self.mesh.rules.authentication;
        let stated = authentication.stated_for_port(&proxy.namespace, &proxy.labels, Some(port));
        stated.map(|(_, rule)| rule)
    }

    fn parts(&mut self, proxy: &ProxyIdentity) -> Sent {
        let ProxyKind::NodeProxy(router) = proxy.kind else {
            return self.shared_parts(proxy);
        };
        let parts = self.shared_parts(&ProxyIdentity {
            kind: ProxyKind::Sidecar,
            ..proxy.clone()
        });
        let of_sidecar = parts.shared.assemble(&Resources::default(), proxy);
        let resources = of_router(router, &of_sidecar, proxy, &self.pods);
        Sent {
            router: Some(Arc::new(resources)),
            ..parts
        }
    }

    fn shared_parts(&mut self, proxy: &ProxyIdentity) -> Sent {
        let (mesh, pods) = (&self.mesh, &self.pods);
        let key = mesh.scope_key(proxy, pods);
        let shared = self
            .shared
            .entry(key)
            .or_insert_with_key(|key| Arc::new(Shared::new(mesh, key, pods)));
        let own = mesh.inbound_key(proxy, pods);
        let inbound = self
            .inbound
            .entry(own)
            .or_insert_with(|| Arc::new(inbound(mesh, shared.imported(), proxy, pods)));
        Sent {
            shared: Arc::clone(shared),
            inbound: Arc::clone(inbound),
            router: None,
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
fn change(
    old: Option<&Sent>,
    new: &Sent,
    proxy: &ProxyIdentity,
    computed: &mut Computed,
) -> Vec<XdsDelta> {
    let Some(old) = old else {
        return deltas(&Resources::default(), &new.assemble(proxy));
    };
    let alike = Arc::ptr_eq(&old.inbound, &new.inbound) || old.inbound == new.inbound;
    let own_listeners = old.shared.listens_on_endpoints || new.shared.listens_on_endpoints;
    if own_listeners || !alike || new.router.is_some() {
        return deltas(&old.assemble(proxy), &new.assemble(proxy));
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
