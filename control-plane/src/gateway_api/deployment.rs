//! The Service and the pods that Istio's controller makes for a Gateway. They are made up here unless
//! the configuration has pods and no Deployments: what lists the pods of a cluster lists these too.

use super::gateway::Gateway;
use super::known::{Controller, controller_of};
use super::{GATEWAY, Spec};
use crate::config::{ExportTo, GATEWAY_NAME, Labels};
use crate::injection::{PodFacts, ProxyFound};
use crate::kubernetes::{
    ClusterIp, Deployment, KubernetesService, Replicas, ServicePort, Target, Template,
};
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::protocol::Protocol;
use proxy_core::xds::Name;
use std::sync::Arc;

/// Where a gateway pod reports its health.
const STATUS_PORT: u16 = 15021;

/// The Services and Deployments of the Gateways of `objects`, beside those that are there.
pub(crate) fn deployed(objects: &Objects) -> Vec<Arc<Object>> {
    let any = |kind| objects.of_kind(kind).next().is_some();
    if any("Pod") && !any("Deployment") {
        return Vec::new();
    }
    let mut made = Vec::new();
    for object in objects.of_kind(GATEWAY) {
        let Body::GatewayApi(Spec::Gateway(gateway)) = &object.body else {
            continue;
        };
        let ours = controller_of(objects, &gateway.class) == Some(Controller::Gateway);
        if !ours || !gateway.managed() {
            continue;
        }
        let name = service_name(&object.reference.name, gateway, Controller::Gateway);
        let labels = labels(object, gateway, &name);
        let service = Body::Service(service(objects, object, gateway));
        let deployment = Body::Deployment(Deployment {
            replicas: Replicas::Stated(1),
            template: Template {
                labels,
                service_account: name.clone(),
                container_ports: Vec::new(),
                locality: "".into(),
                node: None,
                facts: PodFacts {
                    labels: Vec::new(),
                    annotation: None,
                    host_network: false,
                    proxy: ProxyFound::Gateway,
                },
            },
        });
        for (kind, body) in [("Service", service), ("Deployment", deployment)] {
            let new = object.stand_in(kind, &object.reference.namespace, &name, body);
            let mut there = objects.of_kind(kind);
            if there.all(|other| other.reference != new.reference) {
                made.push(Arc::new(new));
            }
        }
    }
    made
}

/// What the Service and the Deployment of a managed Gateway are called.
pub(crate) fn service_name(name: &Name, gateway: &Gateway, controller: Controller) -> Name {
    match (&gateway.name_override, controller) {
        (Some(stated), _) => stated.clone(),
        (None, Controller::Gateway | Controller::Remote) => {
            format!("{name}-{}", gateway.class).into()
        }
        (None, Controller::Waypoint | Controller::EastWest) => name.clone(),
    }
}

fn labels(object: &Object, gateway: &Gateway, name: &Name) -> Labels {
    let own = gateway.infrastructure_labels.as_ref();
    let mut labels = own.unwrap_or(&object.labels).clone();
    for (key, value) in [
        (GATEWAY_NAME, &object.reference.name),
        (
            "gateway.networking.k8s.io/gateway-class-name",
            &gateway.class,
        ),
        ("service.istio.io/canonical-name", name),
    ] {
        labels.retain(|(known, _)| **known != *key);
        labels.push((key.into(), value.clone()));
    }
    labels
}

/// A port for each port of a listener, of the Gateway or of a ListenerSet on it.
fn service(objects: &Objects, object: &Object, gateway: &Gateway) -> KubernetesService {
    let reference = &object.reference;
    let mut ports = vec![port("status-port", STATUS_PORT, "TCP")];
    let sets = objects.of_kind("ListenerSet");
    let of_sets = sets.filter_map(|other| match &other.body {
        Body::GatewayApi(Spec::ListenerSet(set)) => {
            let to = &set.parent.to;
            let parent = (to.namespace_or(&other.reference.namespace), &to.name.text);
            (parent == (&reference.namespace, &reference.name)).then_some(&set.listeners)
        }
        _ => None,
    });
    for listener in gateway.listeners.iter().chain(of_sets.flatten()) {
        if listener.port > 0 && ports.iter().all(|port| port.number != listener.port) {
            ports.push(port(&listener.name, listener.port, &listener.protocol));
        }
    }
    KubernetesService {
        cluster_ip: ClusterIp::Unknown,
        ports,
        selector: vec![(GATEWAY_NAME.into(), reference.name.clone())],
        export_to: ExportTo::Unstated,
        publishes_unready: false,
        distribution: None,
        external_name: None,
    }
}

fn port(name: &str, number: u16, protocol: &str) -> ServicePort {
    ServicePort {
        number,
        name: name.into(),
        target: Target::Number(number),
        protocol: Protocol::parse(protocol).unwrap_or(Protocol::Auto),
    }
}
