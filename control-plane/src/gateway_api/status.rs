//! The status that Istio's controller writes into an object.

use super::known::Problem;
use super::reference::{GROUP, ParentRef};
use super::route::RouteKind;
use proxy_core::xds::Name;
use serde::Serialize;

/// The status of one object of the Gateway API, in the shape of the API.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApiStatus {
    pub api_version: Name,
    pub kind: Name,
    pub metadata: StatusMetadata,
    pub status: StatusBody,
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusMetadata {
    /// Empty: the cluster's.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub namespace: Name,
    pub name: Name,
}

/// What the controller found. Which parts there are depends on the kind of object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusBody {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<StatusAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_listener_sets: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// Of a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<ParentStatus>>,
    /// Of a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ancestors: Option<Vec<AncestorStatus>>,
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusAddress {
    /// `Hostname` or `IPAddress`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub value: Name,
}

/// Kubernetes `Condition`, without times and generations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusCondition {
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// Of a listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    pub name: Name,
    pub attached_routes: usize,
    pub supported_kinds: Vec<StatusKind>,
    pub conditions: Vec<StatusCondition>,
}

/// A kind of routes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusKind {
    pub group: &'static str,
    pub kind: &'static str,
}

/// Of a route towards one parent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    pub parent_ref: StatusReference,
    pub controller_name: &'static str,
    pub conditions: Vec<StatusCondition>,
}

/// Of a policy, as seen from one Gateway or service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    pub ancestor_ref: StatusReference,
    pub controller_name: &'static str,
    pub conditions: Vec<StatusCondition>,
}

/// Gateway API `ParentReference`, as the object states it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    pub name: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl StatusReference {
    pub(crate) fn of(reference: &ParentRef) -> StatusReference {
        let to = &reference.to;
        StatusReference {
            group: to.group.clone(),
            kind: to.kind.clone(),
            namespace: to.namespace.clone(),
            name: to.name.text.clone(),
            section_name: reference.section.clone(),
            port: reference.port,
        }
    }
}

/// The controller of Gateways.
pub(crate) const GATEWAY_CONTROLLER: &str = "istio.io/gateway-controller";
/// The controller of what concerns clients in the mesh.
pub(crate) const MESH_CONTROLLER: &str = "istio.io/mesh-controller";

/// Conditions being found, each type once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    found: Vec<StatusCondition>,
}

impl Conditions {
    /// All is well with a listener.
    pub(crate) fn of_listener() -> Conditions {
        let mut conditions = Conditions::default();
        let fine = "No errors found";
        conditions.set("Accepted", true, "Accepted", fine);
        conditions.set("Programmed", true, "Programmed", fine);
        conditions.set("Conflicted", false, "NoConflicts", fine);
        conditions.set("ResolvedRefs", true, "ResolvedRefs", fine);
        conditions
    }

    /// Sets a condition, whatever it was.
    pub(crate) fn set(
        &mut self,
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.found.retain(|condition| condition.kind != kind);
        self.found.push(StatusCondition {
            kind,
            status: if holds { "True" } else { "False" },
            reason,
            message: message.into(),
        });
    }

    /// The condition does not hold.
    pub(crate) fn fail(&mut self, kind: &'static str, problem: Problem) {
        self.set(kind, false, problem.reason, problem.message);
    }

    /// By type, as the API has them.
    pub(crate) fn finish(mut self) -> Vec<StatusCondition> {
        self.found.sort_by_key(|condition| condition.kind);
        self.found
    }
}

impl ListenerStatus {
    pub(crate) fn new(name: &Name, kinds: &[RouteKind], conditions: Conditions) -> ListenerStatus {
        ListenerStatus {
            name: name.clone(),
            attached_routes: 0,
            supported_kinds: kinds
                .iter()
                .map(|kind| StatusKind {
                    group: GROUP,
                    kind: kind.name(),
                })
                .collect(),
            conditions: conditions.finish(),
        }
    }
}
