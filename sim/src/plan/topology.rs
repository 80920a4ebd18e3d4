//! Who is there: workloads, their pods, and services outside the mesh.

use super::behavior::PlanBehavior;
use super::files::{self, ReadSources};
use super::nodes;
use control_plane::{DataPlane, Objects, Pod, Workload};
use proxy_core::random::hash_text;
use scenarios::model::{self, Happening, Named, ProxyKind, Scenario, Service};
use source::{Diagnostic, SourceFile};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A Deployment, or a bare Pod.
#[derive(Clone, Debug)]
pub struct PlanWorkload {
    pub namespace: String,
    pub name: String,
    /// Indices of its pods, by ordinal.
    pub pods: Vec<u32>,
    pub behavior: PlanBehavior,
}

impl PlanWorkload {
    /// `NAME.NAMESPACE`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// A pod that exists at some time.
#[derive(Clone, Debug)]
pub struct PlanPod {
    pub pod: Pod,
    /// Index of its workload.
    pub workload: u32,
    /// Exists from the start.
    pub at_start: bool,
    /// Index of the pod that is the proxy of its node (itself, if it is one), where nodes have one.
    pub node: Option<u32>,
}

/// A service outside the mesh: one instance, without a proxy.
#[derive(Clone, Debug)]
pub struct PlanExternal {
    pub host: String,
    pub address: IpAddr,
    pub behavior: PlanBehavior,
}

/// The objects of a scenario's topology.
pub(super) fn objects(
    scenario: &Scenario,
    read: &mut ReadSources<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    let mut objects = Objects::default();
    if let Some(data_plane) = scenario.data_plane {
        objects.set_data_plane(match data_plane {
            model::DataPlane::Envoy2017 => DataPlane::Envoy2017,
            model::DataPlane::Linkerd111 => DataPlane::Linkerd111,
        });
    }
    for path in &scenario.topology.manifests {
        objects.apply(&files::objects_at(
            &scenario.folder,
            path,
            read,
            diagnostics,
        ));
    }
    for service in &scenario.topology.services {
        objects.apply(&Objects::read(&file_of(scenario, service), diagnostics));
    }
    nodes::add(scenario, &mut objects, diagnostics);
    objects
}

/// The files that those are read from; services written tersely have one of their own.
pub(super) fn sources(scenario: &Scenario) -> Vec<Arc<SourceFile>> {
    let (folder, topology) = (&scenario.folder, &scenario.topology);
    let manifests = topology.manifests.iter();
    let files = manifests.flat_map(|path| files::sources_at(folder, path, &mut Vec::new()));
    let terse = topology.services.iter();
    files
        .chain(terse.map(|service| file_of(scenario, service)))
        .collect()
}

fn file_of(scenario: &Scenario, service: &Service) -> Arc<SourceFile> {
    let name = format!("{} (service {})", scenario.file.name, service.name.text);
    SourceFile::new(&name, &manifests(service))
}

/// A tersely written service as Kubernetes manifests.
fn manifests(service: &Service) -> String {
    let Service {
        namespace,
        port,
        protocol,
        proxy,
        ..
    } = service;
    let name = &service.name.text;
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name:?}, namespace: {namespace:?}, labels: {{app: {name:?}}}}}\n\
         spec: {{selector: {{app: {name:?}}}, ports: [{{port: {port}, name: {protocol}}}]}}\n"
    );
    for (version, replicas) in &service.versions {
        let workload = match version.is_empty() {
            true => name.clone(),
            false => format!("{name}-{version}"),
        };
        let labels = labels(service, version);
        let annotations = match proxy {
            ProxyKind::Gateway => ", annotations: {inject.istio.io/templates: gateway}",
            _ => "",
        };
        // As linkerd-inject leaves a pod.
        let initial = match proxy {
            ProxyKind::Node => {
                ", initContainers: [{name: init-linkerd, image: \"linkerd/istio-init:v1\"}]"
            }
            _ => "",
        };
        let _ = write!(
            text,
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {workload:?}, namespace: {namespace:?}}}\n\
             spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name:?}}}}}\n  template:\n    \
             metadata: {{labels: {{{labels}}}{annotations}}}\n    \
             spec: {{containers: [{{name: app, image: app, ports: [{{containerPort: {port}}}]}}]{initial}}}\n"
        );
    }
    text
}

/// The labels of a service's pods, as the inside of a YAML map; those in the file win.
fn labels(service: &Service, version: &str) -> String {
    let name = &service.name.text;
    let mut labels = vec![("app", name.as_str())];
    if !version.is_empty() {
        labels.push(("version", version));
    }
    if service.proxy == ProxyKind::Gateway {
        labels.push(("istio", name));
    }
    let inject = match service.proxy {
        ProxyKind::None | ProxyKind::Node => "false",
        ProxyKind::Sidecar | ProxyKind::Gateway => "true",
    };
    labels.push(("sidecar.istio.io/inject", inject));
    if let Some((region, zone)) = service.locality.as_ref().and_then(|l| l.split_once('/')) {
        labels.push(("topology.kubernetes.io/region", region));
        labels.push(("topology.kubernetes.io/zone", zone));
    }
    for (key, value) in &service.labels {
        labels.retain(|(known, _)| known != key);
        labels.push((key, value));
    }
    let quoted = |(key, value): &(&str, &str)| format!("{key:?}: {value:?}");
    labels.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Workloads and pods before their behaviour is known.
pub(super) struct Places {
    pub(super) workloads: Vec<Workload>,
    pub(super) pods: Vec<PlanPod>,
}

impl Places {
    pub(super) fn of(
        scenario: &Scenario,
        objects: &Objects,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Places {
        let workloads = objects.deployments();
        let mut pods = Vec::new();
        for (number, workload) in workloads.iter().enumerate() {
            let most = most_replicas(scenario, workload);
            pods.extend((0..most).map(|ordinal| PlanPod {
                pod: workload.pod(ordinal),
                workload: number as u32,
                at_start: ordinal < workload.replicas,
                node: None,
            }));
        }
        if workloads.is_empty() {
            let span = scenario.file.span(0..0);
            diagnostics.push(
                Diagnostic::error("the scenario has no workload")
                    .at(&span, "no Deployment under `topology`, and no service"),
            );
        }
        Places {
            workloads,
            pods: separate(pods),
        }
    }

    /// Gives every pod an address of 127.128.0.0/9 instead, others for each scenario, so that several
    /// can be played at one time.
    pub(super) fn move_to_loopback(&mut self, scenario: &str) {
        let salt = hash_text(scenario) as u32;
        for pod in &mut self.pods {
            if let IpAddr::V4(ip) = &mut pod.pod.ip {
                let low = (ip.to_bits() ^ salt) & 0x7f_ffff;
                *ip = Ipv4Addr::from_bits(0x7f80_0000 | low);
            }
        }
    }

    /// The workload that `name` (`NAME` or `NAMESPACE/NAME`) means.
    pub(super) fn workload(&self, name: &str) -> Option<usize> {
        self.workloads
            .iter()
            .position(|w| is_named(&w.namespace, &w.name, name))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().map(|w| &*w.name)
    }

    pub(super) fn pods_of(&self, workload: usize) -> Vec<u32> {
        let all = (0u32..).zip(&self.pods);
        all.filter(|(_, pod)| pod.workload as usize == workload)
            .map(|(index, _)| index)
            .collect()
    }
}

/// Whether `NAME` or `NAMESPACE/NAME` means this one.
pub(super) fn is_named(namespace: &str, own_name: &str, name: &str) -> bool {
    match name.split_once('/') {
        Some((space, name)) => space == namespace && name == own_name,
        None => name == own_name,
    }
}

/// An error for a workload that is not there.
pub(super) fn unknown_workload<'a>(
    name: &Named,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    let known: Vec<&str> = known.into_iter().collect();
    let missing = Diagnostic::error(format!("no workload is called `{}`", name.text))
        .at(&name.span, "names no Deployment of the topology");
    // A service's name, where each of its versions is a workload.
    let version = |known: &&&str| {
        let rest = known.strip_prefix(name.text.as_str());
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    let versions: Vec<&str> = known.iter().filter(version).copied().collect();
    match versions.is_empty() {
        true => missing.nearest(&name.text, known),
        false => missing.help(format!("there are: {}", versions.join(", "))),
    }
}

fn most_replicas(scenario: &Scenario, workload: &Workload) -> u32 {
    let scaled = scenario
        .timeline
        .iter()
        .filter_map(|event| match &event.what {
            Happening::Scale {
                workload: name,
                replicas,
            } if is_named(&workload.namespace, &workload.name, &name.text) => Some(*replicas),
            _ => None,
        });
    scaled.max().unwrap_or(0).max(workload.replicas)
}

/// Two pods whose addresses happen to be the same are told apart: the later name moves on.
fn separate(mut pods: Vec<PlanPod>) -> Vec<PlanPod> {
    let mut order: Vec<usize> = (0..pods.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |at: usize| (&pods[at].pod.namespace, &pods[at].pod.name);
        key(a).cmp(&key(b))
    });
    let mut taken = std::collections::BTreeSet::new();
    for at in order {
        let pod = &mut pods[at].pod;
        let mut salt = 0;
        while !taken.insert(pod.ip) {
            salt += 1;
            let hash = hash_text(&format!("{}/{}/{salt}", pod.namespace, pod.name));
            pod.ip = IpAddr::V4(Ipv4Addr::from_bits(10 << 24 | (hash as u32 & 0x7f_ffff)));
        }
    }
    pods
}

/// Where a service outside the mesh answers: within 198.18.0.0/15, which no one else uses.
pub(super) fn external_address(host: &str) -> IpAddr {
    let low = hash_text(host) as u32 & 0x1_ffff;
    IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 | low))
}
