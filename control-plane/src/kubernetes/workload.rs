//! Deployments, StatefulSets, DaemonSets and Pods. Of a pod's many fields only those that matter to routing are read.

use crate::config::{Labels, labels};
use crate::injection::PodFacts;
use proxy_core::xds::Name;
use source::fields::expected;
use source::{Diagnostic, Fields, Node};
use std::net::IpAddr;

/// What is common to the pods of a Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) replicas: Replicas,
    pub(crate) template: Template,
}

/// How many pods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replicas {
    Stated(u32),
    /// One on each Node that is listed; one if none is.
    PerNode,
}

/// A pod template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pub(crate) labels: Labels,
    pub(crate) service_account: Name,
    pub(crate) container_ports: Vec<(Name, u16)>,
    /// From node selectors; empty if unknown.
    pub(crate) locality: Name,
    pub(crate) node: Option<Name>,
    /// What it says of its proxy.
    pub(crate) facts: PodFacts,
}

/// A Pod that is listed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodObject {
    pub(crate) template: Template,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// Its containers have ended for good: nothing is sent to it.
    pub(crate) finished: bool,
    /// The Deployment, StatefulSet or DaemonSet that made it, if any did.
    pub(crate) owner: Option<Name>,
}

impl Deployment {
    /// `kind`: of the object.
    pub(crate) fn read(
        node: &Node,
        kind: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Deployment> {
        let (what, others) = match kind {
            "StatefulSet" => ("a StatefulSet", &STATEFUL_SET[..]),
            "DaemonSet" => ("a DaemonSet", &DAEMON_SET[..]),
            _ => ("a Deployment", &DEPLOYMENT[..]),
        };
        let mut fields = Fields::of(node, what, diagnostics)?;
        let replicas = match kind {
            "DaemonSet" => Some(Replicas::PerNode),
            _ => {
                let stated = fields.integer("replicas", 0..=1_000_000).unwrap_or(1);
                u32::try_from(stated).ok().map(Replicas::Stated)
            }
        };
        let template = fields.required("template");
        fields.ignore(&["selector", "minReadySeconds", "revisionHistoryLimit"]);
        fields.ignore(others);
        fields.finish();
        let template = template?;
        Some(Deployment {
            replicas: replicas?,
            template: Template::read(template, diagnostics)?,
        })
    }
}

// How pods come and go while they are replaced, and what they keep.
const DEPLOYMENT: [&str; 4] = [
    "strategy",
    "progressDeadlineSeconds",
    "paused",
    "rollbackTo",
];
const STATEFUL_SET: [&str; 6] = [
    "serviceName",
    "podManagementPolicy",
    "updateStrategy",
    "volumeClaimTemplates",
    "persistentVolumeClaimRetentionPolicy",
    "ordinals",
];
const DAEMON_SET: [&str; 2] = ["updateStrategy", "templateGeneration"];

impl PodObject {
    /// `document` is the whole Pod.
    pub(crate) fn read(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<PodObject> {
        let template = Template::read(document, diagnostics)?;
        let ip = document.at(&["status", "podIP"]);
        let address = ip
            .and_then(Node::as_scalar)
            .and_then(|text| text.parse().ok());
        if let (Some(node), None) = (ip, address) {
            diagnostics.push(expected(node, "`podIP` is an IP address"));
        }
        let conditions = document
            .at(&["status", "conditions"])
            .and_then(Node::as_seq);
        let ready = conditions.unwrap_or_default().iter().all(|condition| {
            let text = |key| condition.at(&[key]).and_then(Node::as_scalar);
            text("type") != Some("Ready")
                || text("status").is_some_and(|s| s.eq_ignore_ascii_case("true"))
        });
        Some(PodObject {
            template,
            ip: address,
            ready,
            terminating: document.at(&["metadata", "deletionTimestamp"]).is_some(),
            finished: matches!(
                document.at(&["status", "phase"]).and_then(Node::as_scalar),
                Some("Succeeded" | "Failed")
            ),
            owner: owner(document),
        })
    }
}

/// A Deployment owns its pods by ReplicaSets named `NAME-HASH`.
fn owner(pod: &Node) -> Option<Name> {
    let owners = pod.at(&["metadata", "ownerReferences"])?.as_seq()?;
    owners.iter().find_map(|owner| {
        let name = owner.at(&["name"])?.as_scalar()?;
        match owner.at(&["kind"])?.as_scalar()? {
            "ReplicaSet" => Some(name.rsplit_once('-')?.0.into()),
            "StatefulSet" | "DaemonSet" => Some(name.into()),
            _ => None,
        }
    })
}

impl Template {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Template> {
        let labels = match node.at(&["metadata"]) {
            None => Vec::new(),
            Some(metadata) => {
                let mut fields = Fields::of(metadata, "metadata", diagnostics)?;
                labels(&mut fields, "annotations");
                labels(&mut fields, "labels")
            }
        };
        let spec = node.at(&["spec"]);
        let text = |path: &[&str]| {
            spec.and_then(|spec| spec.at(path))
                .and_then(Node::as_scalar)
        };
        let listed = |key: &str| {
            let list = spec.and_then(|spec| spec.at(&[key]));
            list.and_then(Node::as_seq).unwrap_or_default().iter()
        };
        // Those that start first and go on running (native sidecars) are like any other.
        let goes_on = |container: &&Node| {
            let policy = container.at(&["restartPolicy"]);
            policy.and_then(Node::as_scalar) == Some("Always")
        };
        let native = listed("initContainers").filter(goes_on);
        let containers: Vec<&Node> = listed("containers").chain(native).collect();
        let mut container_ports = Vec::new();
        for container in &containers {
            let ports = container.at(&["ports"]).and_then(Node::as_seq);
            for port in ports.unwrap_or_default() {
                let Some(mut fields) = Fields::of(port, "a container port", diagnostics) else {
                    continue;
                };
                fields.required("containerPort");
                let number = fields.integer("containerPort", 1..=65535);
                let name = fields.text("name").unwrap_or_default();
                if let Some(number) = number.and_then(|n| u16::try_from(n).ok()) {
                    container_ports.push((name.into(), number));
                }
            }
        }
        let locality = locality_of(|label| text(&["nodeSelector", label]));
        let account = text(&["serviceAccountName"]).or_else(|| text(&["serviceAccount"]));
        Some(Template {
            facts: PodFacts::of(node),
            labels,
            service_account: account.unwrap_or("default").into(),
            container_ports,
            locality,
            node: text(&["nodeName"]).map(Name::from),
        })
    }
}

/// `REGION/ZONE/SUBZONE` from the well-known labels, trailing parts left out.
pub(crate) fn locality_of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Name {
    let keys = [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
    ];
    let parts: Vec<&str> = keys.iter().map_while(|key| label(key)).collect();
    parts.join("/").into()
}
