//! What there is to refer to.

use super::Spec;
use super::certificates::{Authority, Certificates};
use super::reference::{GROUP, ReferenceGrant};
use crate::config::Labels;
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::registry::{Registry, Service};
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The controllers of Istio, by what their Gateways are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Gateway,
    /// In another cluster.
    Remote,
    Waypoint,
    EastWest,
}

/// The controller of a class of Gateways; some are there without their objects. `None`: not Istio's.
pub(crate) fn controller_of(objects: &Objects, class: &str) -> Option<Controller> {
    let object = objects.find("GatewayClass", "", class);
    match object.map(|object| &object.body) {
        Some(Body::GatewayApi(Spec::GatewayClass(controller))) => Some(match &**controller {
            "istio.io/gateway-controller" => Controller::Gateway,
            "istio.io/unmanaged-gateway" => Controller::Remote,
            "istio.io/mesh-controller" => Controller::Waypoint,
            "istio.io/eastwest-controller" => Controller::EastWest,
            _ => return None,
        }),
        _ => match class {
            "istio" => Some(Controller::Gateway),
            "istio-remote" => Some(Controller::Remote),
            "istio-waypoint" => Some(Controller::Waypoint),
            "istio-east-west" => Some(Controller::EastWest),
            _ => None,
        },
    }
}

/// Why something is not as it should be, as a condition says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            reason,
            message: message.into(),
        }
    }
}

/// What there is to refer to.
pub(crate) struct Known<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) registry: &'a Registry,
    /// With the namespace of each.
    grants: Vec<(&'a Name, &'a ReferenceGrant)>,
    /// Their labels. Every namespace that an object is in is there.
    pub(crate) namespaces: BTreeMap<&'a Name, &'a Labels>,
    /// Without any Secret, those that are referred to are taken to be there.
    secrets: bool,
    config_maps: bool,
}

static NO_LABELS: Labels = Vec::new();

impl<'a> Known<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Known<'a> {
        let mut known = Known {
            objects,
            registry: objects.registry(),
            grants: Vec::new(),
            namespaces: BTreeMap::new(),
            secrets: false,
            config_maps: false,
        };
        for object in objects.iter() {
            let reference = &object.reference;
            if !reference.namespace.is_empty() {
                let namespaces = &mut known.namespaces;
                namespaces.entry(&reference.namespace).or_insert(&NO_LABELS);
            }
            match &object.body {
                Body::Namespace => {
                    known.namespaces.insert(&reference.name, &object.labels);
                }
                Body::Certificates(_) if &*reference.kind == "Secret" => known.secrets = true,
                Body::Certificates(_) => known.config_maps = true,
                Body::GatewayApi(Spec::ReferenceGrant(grant)) => {
                    known.grants.push((&reference.namespace, grant));
                }
                _ => {}
            }
        }
        known
    }

    /// The object of that kind, with the spec that it has.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
        self.objects.find(kind, namespace, name)
    }

    /// The service with that host in that namespace.
    pub(crate) fn service(&self, host: &str, namespace: &str) -> Option<&'a Arc<Service>> {
        let mut services = self.registry.with_host(host);
        services.find(|service| *service.namespace == *namespace)
    }

    /// Whether objects of a kind in `namespace` may refer to one `elsewhere`: another namespace has to
    /// grant it.
    pub(crate) fn granted(
        &self,
        kind: &str,
        namespace: &str,
        to: (&str, &str),
        elsewhere: &str,
        name: &str,
    ) -> bool {
        if namespace == elsewhere {
            return true;
        }
        let grants = self.grants.iter().filter(|(own, _)| ***own == *elsewhere);
        grants.into_iter().any(|(_, grant)| {
            let mut from = grant.from.iter();
            let mut of = grant.to.iter();
            from.any(|(g, k, n)| (&**g, &**k, &**n) == (GROUP, kind, namespace))
                && of.any(|(group, kind, only)| {
                    let only = only.as_ref();
                    (&**group, &**kind) == to && only.is_none_or(|only| **only == *name)
                })
        })
    }

    /// What a Secret can be used for; `None`: it is not there.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<Certificates> {
        self.certificates("Secret", self.secrets, namespace, name)
    }

    /// What a ConfigMap can be used for; `None`: it is not there.
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<Certificates> {
        self.certificates("ConfigMap", self.config_maps, namespace, name)
    }

    fn certificates(
        &self,
        kind: &str,
        listed: bool,
        namespace: &str,
        name: &str,
    ) -> Option<Certificates> {
        match self.find(kind, namespace, name).map(|object| &object.body) {
            Some(Body::Certificates(certificates)) => Some(*certificates),
            _ if !listed => Some(Certificates {
                server: true,
                authority: Authority::WellFormed,
            }),
            _ => None,
        }
    }
}
