//! BackendTLSPolicies to DestinationRules.

use super::certificates::Authority;
use super::known::{Known, Problem};
use super::policy::{BackendTlsPolicy, Target};
use super::reference::GROUP;
use super::status::{
    AncestorStatus, Conditions, GATEWAY_CONTROLLER, MESH_CONTROLLER, StatusReference,
};
use super::{GATEWAY, GENERATED, Spec};
use crate::config::{ClientTls, DestinationRule, ExportTo, Named, TlsMode, TrafficPolicy};
use crate::names::service_host;
use crate::object::{Age, Body, Object};
use proxy_core::xds::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The Gateways, by namespace and name, whose routes send to a backend of that kind, namespace and
/// name.
pub(crate) type Reached = BTreeMap<(Name, Name, Name), BTreeSet<(Name, Name)>>;

/// What is found of one policy.
pub(crate) struct Outcome {
    pub(crate) ancestors: Vec<AncestorStatus>,
    /// Host, port (`None`: every one) and the TLS towards it.
    settings: Vec<(Name, Option<u16>, ClientTls)>,
}

/// The policies with their objects, by age, namespace and name.
pub(crate) fn ordered<'a>(known: &Known<'a>) -> Vec<(&'a Arc<Object>, &'a BackendTlsPolicy)> {
    let all = known.objects.of_kind("BackendTLSPolicy");
    let all = all.filter_map(|object| match &object.body {
        Body::GatewayApi(Spec::BackendTlsPolicy(policy)) => Some((object, policy)),
        _ => None,
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(object, _)| {
        let reference = &object.reference;
        (
            object.age.clone(),
            reference.namespace.clone(),
            reference.name.clone(),
        )
    });
    all
}

/// What becomes of a policy, with the Gateways whose routes reach each backend.
pub(crate) fn outcome(
    known: &Known<'_>,
    object: &Object,
    policy: &BackendTlsPolicy,
    others: &[(&Arc<Object>, &BackendTlsPolicy)],
    gateways: &Reached,
) -> Outcome {
    let namespace = &object.reference.namespace;
    let mut outcome = Outcome {
        ancestors: Vec::new(),
        settings: Vec::new(),
    };
    let mut conditions = Conditions::default();
    let valid = "Configuration is valid";
    conditions.set("Accepted", true, "Accepted", valid);
    if policy.ignored {
        let message = "Ignored by Istio due to annotation istio.io/ignore-policy-attachment=true";
        conditions.fail("Accepted", Problem::new("IgnoredByIstio", message));
        let all = policy.targets.iter();
        outcome.ancestors = all.map(|to| of_target(to, conditions.clone())).collect();
        return outcome;
    }
    conditions.set("ResolvedRefs", true, "ResolvedRefs", valid);
    let tls = ClientTls {
        mode: TlsMode::Simple,
        sni: Some(policy.hostname.clone()),
        unusable: !check_authority(known, namespace, policy, &mut conditions),
    };
    let mut seen: BTreeSet<(Name, Name)> = BTreeSet::new();
    for target in &policy.targets {
        match hosts(known, namespace, target) {
            Err(why) => {
                let message = format!("targetRefs invalid: {why}");
                conditions.fail("Accepted", Problem::new("TargetNotFound", message));
            }
            Ok((hosts, port)) => {
                match stronger(object, target, others) {
                    Some(name) => {
                        let message = format!(
                            "Conflicts with BackendTLSPolicy \"{name}\" targeting the same backend"
                        );
                        conditions.fail("Accepted", Problem::new("Conflicted", message));
                    }
                    None => outcome
                        .settings
                        .extend(hosts.into_iter().map(|host| (host, port, tls.clone()))),
                }
                let key = (
                    target.kind.clone(),
                    namespace.clone(),
                    target.name.text.clone(),
                );
                seen.extend(gateways.get(&key).into_iter().flatten().cloned());
            }
        }
        outcome
            .ancestors
            .push(of_target(target, conditions.clone()));
    }
    for (_, name) in seen {
        outcome.ancestors.push(AncestorStatus {
            ancestor_ref: StatusReference {
                group: Some(GROUP.into()),
                kind: Some("Gateway".into()),
                namespace: None,
                name,
                section_name: None,
                port: None,
            },
            controller_name: GATEWAY_CONTROLLER,
            conditions: conditions.clone().finish(),
        });
    }
    // As many as the API has room for.
    outcome.ancestors.truncate(16);
    outcome
}

fn of_target(target: &Target, conditions: Conditions) -> AncestorStatus {
    AncestorStatus {
        ancestor_ref: StatusReference {
            group: Some(target.group.clone()),
            kind: Some(target.kind.clone()),
            namespace: None,
            name: target.name.text.clone(),
            section_name: target.section.clone(),
            port: None,
        },
        controller_name: MESH_CONTROLLER,
        conditions: conditions.finish(),
    }
}

/// Whether the certificates of the authority are there: of the system, or of the first reference.
fn check_authority(
    known: &Known<'_>,
    namespace: &str,
    policy: &BackendTlsPolicy,
    conditions: &mut Conditions,
) -> bool {
    match policy.well_known.as_deref() {
        Some("System") => return true,
        Some(other) => {
            let message = format!("Unknown wellKnownCACertificates: {other}");
            conditions.fail("Accepted", Problem::new("Invalid", message));
            return true;
        }
        None => {}
    }
    let Some(first) = policy.certificates.first() else {
        return true;
    };
    let name = &first.name.text;
    let found = match first.group_kind("", "") {
        ("", "ConfigMap") => known.config_map(namespace, name),
        ("", kind @ ("Secret" | "Service")) => {
            if known.find(kind, namespace, name).is_some() {
                let why = format!("unsupported reference kind: {kind}");
                let message = format!("Certificate reference invalid: {why}");
                conditions.fail("ResolvedRefs", Problem::new("InvalidKind", message));
                refuse(conditions, &why);
                return false;
            }
            None
        }
        (_, kind) => {
            let why = format!("unsupported kind {kind}");
            let message = format!("Certificate reference not supported: {why}");
            conditions.fail("ResolvedRefs", Problem::new("InvalidKind", message));
            refuse(conditions, &why);
            return false;
        }
    };
    let kind = first.kind.as_deref().unwrap_or_default();
    let why = match found.map(|found| found.authority) {
        None => format!("reference {namespace}/{name} (of kind {kind}) not found"),
        Some(Authority::Missing) => {
            "found secret, but didn't have expected keys cacert or ca.crt".to_owned()
        }
        Some(_) => {
            if policy.certificates.len() > 1 {
                let message = "Configuration is valid; warning: only the first caCertificateRefs \
                               will be used";
                conditions.set("Accepted", true, "Accepted", message);
            }
            return true;
        }
    };
    let message = match found {
        None => format!("Certificate reference not found: {why}"),
        Some(_) => format!("Certificate invalid: {why}"),
    };
    conditions.fail(
        "ResolvedRefs",
        Problem::new("InvalidCACertificateRef", message),
    );
    refuse(conditions, &why);
    false
}

fn refuse(conditions: &mut Conditions, why: &str) {
    let message = format!("Certificate reference invalid: {why}");
    conditions.fail("Accepted", Problem::new("NoValidCACertificate", message));
}

/// The hosts and the port that a target means.
fn hosts(
    known: &Known<'_>,
    namespace: &Name,
    target: &Target,
) -> Result<(Vec<Name>, Option<u16>), String> {
    let name = &target.name.text;
    let object = match (&*target.group, &*target.kind) {
        ("", "Service") | ("networking.istio.io", "ServiceEntry") => {
            known.find(&target.kind, namespace, name)
        }
        (_, kind) => return Err(format!("unsupported kind {kind}")),
    };
    let kind = &target.kind;
    let missing = || format!("reference {namespace}/{name} (of kind {kind}) not found");
    let object = object.ok_or_else(missing)?;
    let (hosts, ports): (Vec<Name>, Vec<(Name, u16)>) = match &object.body {
        Body::Service(service) => {
            let ports = service.ports.iter();
            let ports = ports.map(|port| (port.name.clone(), port.number));
            (vec![service_host(name, namespace)], ports.collect())
        }
        Body::ServiceEntry(entry) => {
            let ports = entry.ports.iter();
            let ports = ports.map(|port| (port.name.clone(), port.number));
            let hosts = entry.hosts.iter().map(|host| host.text.clone());
            (hosts.collect(), ports.collect())
        }
        _ => return Err(missing()),
    };
    let Some(section) = &target.section else {
        return Ok((hosts, None));
    };
    match ports.iter().find(|(name, _)| name == section) {
        Some((_, number)) => Ok((hosts, Some(*number))),
        None => Err(format!(
            "sectionName \"{section}\" does not exist in {kind} {namespace}/{name}"
        )),
    }
}

/// The policy before this one that has the same target, if there is one.
fn stronger<'a>(
    object: &Object,
    target: &Target,
    others: &'a [(&Arc<Object>, &BackendTlsPolicy)],
) -> Option<&'a Name> {
    let order = |object: &Object| (object.age.clone(), object.reference.name.clone());
    let before = others.iter().filter(|(other, policy)| {
        other.reference.namespace == object.reference.namespace
            && order(other) < order(object)
            && !policy.ignored
    });
    before
        .into_iter()
        .find(|(_, policy)| policy.targets.iter().any(|other| other.same(target)))
        .map(|(other, _)| &other.reference.name)
}

/// One DestinationRule for each host.
pub(crate) fn destination_rules(found: &[(&Arc<Object>, Outcome)]) -> Vec<Arc<Object>> {
    let mut by_host: BTreeMap<(Name, Name), (&Arc<Object>, TrafficPolicy)> = BTreeMap::new();
    for (object, outcome) in found {
        for (host, port, tls) in &outcome.settings {
            let key = (object.reference.namespace.clone(), host.clone());
            let entry = by_host.entry(key);
            let (_, policy) = entry.or_insert_with(|| (object, TrafficPolicy::default()));
            let new = TrafficPolicy {
                tls: Some(tls.clone()),
                ..TrafficPolicy::default()
            };
            match port {
                None => policy.tls = policy.tls.take().or(new.tls),
                Some(port) if policy.port_level.iter().any(|(known, _)| known == port) => {}
                Some(port) => policy.port_level.push((*port, new)),
            }
        }
    }
    let mut made = Vec::new();
    for ((namespace, host), (object, policy)) in by_host {
        let name = format!("{host}~{GENERATED}");
        let rule = DestinationRule {
            host: Named {
                text: host,
                span: object.document.span.clone(),
            },
            policy: Some(policy),
            subsets: Vec::new(),
            export_to: ExportTo::Unstated,
            workload_selector: None,
        };
        let body = Body::DestinationRule(Box::new(rule));
        made.push(Arc::new(Object {
            // Older than any.
            age: Age::Created("".into()),
            ..object.stand_in("DestinationRule", &namespace, &name, body)
        }));
    }
    made
}

/// The Gateways that a route's references name, by namespace and name.
pub(crate) fn gateways_of(object: &Object, route: &super::route::Route) -> BTreeSet<(Name, Name)> {
    let own = &object.reference.namespace;
    let parents = route.parents.iter();
    let gateways = parents.filter(|parent| parent.group_kind() == (GROUP, "Gateway"));
    gateways
        .map(|parent| {
            let to = &parent.to;
            (to.namespace_or(own).clone(), to.name.text.clone())
        })
        .collect()
}

/// As objects call what `GATEWAY` tells apart.
pub(crate) fn shown_kind(kind: &Name) -> Name {
    match &**kind {
        GATEWAY => "Gateway".into(),
        _ => kind.clone(),
    }
}
