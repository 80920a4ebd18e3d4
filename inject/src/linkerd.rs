//! What `linkerd-inject` of 2017 adds: no sidecar, but an init container whose iptables rule sends
//! everything that the pod sends to the Linkerd of its node.

use crate::documents::PodManifest;
use crate::edit::Edits;
use control_plane::injection::LINKERD_INJECTED;
use serde_json::{Value, json};

/// Where Kubernetes before 1.6 had init containers.
const INIT_CONTAINERS: &str = "pod.beta.kubernetes.io/init-containers";

/// The flags of `linkerd-inject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerdInject {
    /// Of the outgoing router.
    pub port: u16,
    /// The DaemonSet's Service.
    pub service: String,
    /// To the Service's own address instead of the node's.
    pub use_service_vip: bool,
    pub privileged: bool,
}

impl Default for LinkerdInject {
    fn default() -> LinkerdInject {
        LinkerdInject {
            port: 4140,
            service: "l5d".to_owned(),
            use_service_vip: false,
            privileged: false,
        }
    }
}

impl LinkerdInject {
    /// As the tool: every workload it knows of, bare Pods and CronJobs not, and none twice. Why it leaves
    /// one alone.
    pub(crate) fn inject(&self, pod: &PodManifest, edits: &mut Edits<'_>) -> Option<String> {
        let known = [
            "Job",
            "DaemonSet",
            "ReplicaSet",
            "Deployment",
            "ReplicationController",
        ];
        let annotation = |key: &str| pod.pod.at(&["metadata", "annotations", key]);
        if !known.contains(&pod.kind.as_str()) {
            return Some(format!("linkerd-inject knows no {}", pod.kind));
        }
        if annotation(LINKERD_INJECTED).is_some() {
            return Some("linkerd-inject was here".to_owned());
        }
        let before = annotation(INIT_CONTAINERS).and_then(source::Node::as_str);
        let before = before.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        let mut containers = before.unwrap_or_default();
        containers.push(self.container());
        let annotations = [
            (LINKERD_INJECTED.to_owned(), json!("injected")),
            (
                INIT_CONTAINERS.to_owned(),
                json!(Value::Array(containers).to_string()),
            ),
        ];
        crate::manifest::annotate(&pod.pod, &annotations, &[], edits);
        None
    }

    fn container(&self) -> Value {
        json!({
            "name": "init-linkerd",
            "image": "linkerd/istio-init:v1",
            "args": [
                "-p", self.port.to_string(),
                "-m", self.use_service_vip.to_string(),
                "-s", self.service.to_uppercase(),
            ],
            "env": [{
                "name": "NODE_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
            }],
            "imagePullPolicy": "IfNotPresent",
            "securityContext": {
                "capabilities": {"add": ["NET_ADMIN"]},
                "privileged": self.privileged,
            },
        })
    }
}
