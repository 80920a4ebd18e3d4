//! Which proxies are asked: those of both sides' workloads, and imaginary ones where the files have
//! none that a rule could be for.

use control_plane::{ControlPlane, Objects, Pod, ProxyIdentity, ProxyKind};
use proxy_core::xds::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One proxy, as each side knows it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// As `explain --as` takes it.
    pub(crate) name: String,
    pub(crate) old: ProxyIdentity,
    pub(crate) new: ProxyIdentity,
}

/// The proxies to ask, and the workloads that only one side has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) asked: Vec<Asked>,
    pub(crate) only_old: Vec<String>,
    pub(crate) only_new: Vec<String>,
    /// No workload has a sidecar by what the files say: all are taken to have one.
    pub(crate) assumed: bool,
}

pub(crate) fn of(old: &ControlPlane, new: &ControlPlane, pods: [&[Pod]; 2]) -> Proxies {
    let injected = |pods: &[Pod]| pods.iter().any(|pod| pod.proxy == ProxyKind::Sidecar);
    let assumed = !pods.iter().any(|pods| injected(pods));
    let [before, after] = pods.map(|pods| workloads(pods, assumed));
    let mut proxies = Proxies {
        assumed: assumed && pods.iter().any(|pods| !pods.is_empty()),
        ..Proxies::default()
    };
    for (name, pods) in &before {
        let Some(others) = after.get(name) else {
            proxies.only_old.push(label(name));
            continue;
        };
        for (at, pod) in pods.iter().enumerate() {
            // Of several sorts of pods, those with the same labels; else in order.
            let alike = others.iter().find(|other| other.labels == pod.labels);
            let other = alike.or_else(|| others.get(at)).or_else(|| others.first());
            if let Some(other) = other {
                proxies.asked.push(Asked {
                    name: label(name),
                    old: pod.identity(),
                    new: other.identity(),
                });
            }
        }
    }
    let added = after.keys().filter(|name| !before.contains_key(*name));
    proxies.only_new = added.map(label).collect();
    imagine(old, new, pods, &mut proxies.asked);
    proxies
}

/// One pod of each sort, by workload: those of one workload differ in what they are told only if their
/// labels do.
fn workloads(pods: &[Pod], assumed: bool) -> BTreeMap<(Name, Name), Vec<Pod>> {
    let mut workloads: BTreeMap<(Name, Name), Vec<Pod>> = BTreeMap::new();
    for pod in pods {
        let mut pod = pod.clone();
        match pod.proxy {
            ProxyKind::None if assumed => pod.proxy = ProxyKind::Sidecar,
            ProxyKind::None | ProxyKind::Node | ProxyKind::NodeProxy(_) => continue,
            ProxyKind::Sidecar | ProxyKind::Gateway => {}
        }
        let name = (pod.namespace.clone(), pod.workload.clone());
        let known = workloads.entry(name).or_default();
        if !known.iter().any(|other| other.labels == pod.labels) {
            known.push(pod);
        }
    }
    workloads
}

fn label((namespace, workload): &(Name, Name)) -> String {
    format!("{namespace}/{workload}")
}

/// A sidecar behind each Service without pods, one in each namespace that still has none, and a gateway
/// for each selector of a Gateway that no pod fits.
fn imagine(old: &ControlPlane, new: &ControlPlane, pods: [&[Pod]; 2], asked: &mut Vec<Asked>) {
    let selectors = old
        .gateway_selectors()
        .into_iter()
        .chain(new.gateway_selectors());
    let selectors: BTreeSet<&[(Name, Name)]> = selectors.collect();
    let labelled = match look_at_workloads(old.objects()) || look_at_workloads(new.objects()) {
        true => without_pods(old.objects(), new.objects(), pods),
        false => BTreeSet::new(),
    };
    for (namespace, labels) in labelled {
        let mut gateways = selectors.iter().filter(|selector| !selector.is_empty());
        if !gateways.any(|selector| selector.iter().all(|one| labels.contains(one))) {
            asked.push(imaginary(ProxyKind::Sidecar, &namespace, &labels));
        }
    }
    let sidecars = asked
        .iter()
        .filter(|proxy| proxy.old.kind == ProxyKind::Sidecar);
    let served: BTreeSet<Name> = sidecars.map(|proxy| proxy.old.namespace.clone()).collect();
    for namespace in namespaces(old.objects(), new.objects()).difference(&served) {
        asked.push(imaginary(ProxyKind::Sidecar, namespace, &[]));
    }
    for selector in selectors {
        let fits = |proxy: &Asked| {
            let labels = [&proxy.old.labels, &proxy.new.labels];
            let has_all =
                |labels: &Vec<(Name, Name)>| selector.iter().all(|one| labels.contains(one));
            proxy.old.kind == ProxyKind::Gateway && labels.into_iter().any(has_all)
        };
        if !asked.iter().any(fits) {
            asked.push(imaginary(ProxyKind::Gateway, "istio-system", selector));
        }
    }
}

/// Whether some rule is for workloads instead of for requests to a host.
fn look_at_workloads(objects: &Objects) -> bool {
    const KINDS: [&str; 5] = [
        "AuthorizationPolicy",
        "EnvoyFilter",
        "PeerAuthentication",
        "RequestAuthentication",
        "Sidecar",
    ];
    objects
        .refs()
        .iter()
        .any(|object| KINDS.contains(&&*object.kind))
}

/// What Services select that no pod of either side fits, by namespace.
fn without_pods(
    old: &Objects,
    new: &Objects,
    pods: [&[Pod]; 2],
) -> BTreeSet<(Name, Vec<(Name, Name)>)> {
    let services = old.services().into_iter().chain(new.services());
    let selecting = services.filter(|service| !service.external && !service.selector.is_empty());
    let fits = |pod: &Pod, namespace: &Name, selector: &[(Name, Name)]| {
        pod.namespace == *namespace && selector.iter().all(|label| pod.labels.contains(label))
    };
    let mut found = BTreeSet::new();
    for service in selecting {
        let (namespace, selector) = (service.namespace, service.selector);
        let mut all = pods.iter().flat_map(|side| side.iter());
        if !all.any(|pod| fits(pod, &namespace, &selector)) {
            found.insert((namespace, selector));
        }
    }
    found
}

/// Those that rules or services are in.
fn namespaces(old: &Objects, new: &Objects) -> BTreeSet<Name> {
    let refs = old.refs().into_iter().chain(new.refs());
    let within = refs.filter(|object| !matches!(&*object.kind, "ConfigMap" | "Gateway" | "Secret"));
    let names = within.map(|object| object.namespace);
    names.filter(|namespace| !namespace.is_empty()).collect()
}

fn imaginary(kind: ProxyKind, namespace: &str, labels: &[(Name, Name)]) -> Asked {
    let of_kind = match kind {
        ProxyKind::Gateway => "gateway",
        _ => "sidecar",
    };
    let mut name = format!("kind={of_kind},namespace={namespace}");
    if !labels.is_empty() {
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
        name += &format!(",labels={}", labels.collect::<Vec<_>>().join(";"));
    }
    let identity = ProxyIdentity {
        name: name.as_str().into(),
        kind,
        namespace: namespace.into(),
        labels: labels.to_vec(),
        ip: IpAddr::from([10, 0, 0, 1]),
        locality: "".into(),
    };
    Asked {
        name,
        old: identity.clone(),
        new: identity,
    }
}
