//! Rules that name things that are not there (Istio's analyzer messages IST0101 and IST0174).

use crate::codes::{NOT_FOUND, UNKNOWN_RULE_HOST};
use crate::config::{Destination, DestinationRule, HttpAction, HttpRoute, Named, VirtualService};
use crate::gateway_api::{self, check_route};
use crate::ingress::is_served;
use crate::mixer::MixerPolicy;
use crate::names::{DOMAIN, full_name, gateway_name, is_within, overlap};
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::of_2017;
use crate::registry::{Registry, Service};
use proxy_core::xds::Name;
use source::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What there is to refer to.
struct Known<'a> {
    objects: &'a Objects,
    registry: &'a Registry,
    /// Without any Service the configuration is taken on its own, and hosts are not checked.
    hosts_known: bool,
    /// `NAMESPACE/NAME`.
    gateways: BTreeSet<Name>,
    /// Subsets by full host.
    subsets: BTreeMap<Name, Vec<Name>>,
}

impl Objects {
    /// What names a thing that is not there: hosts no service has, ports it does not have, subsets
    /// nobody defines, gateways missing, routes that nothing takes; each at its place with the nearest
    /// right name; and what rules of 2017 say that comes to nothing. Hosts are checked only if there is
    /// any Service to be found.
    pub fn check_references(&self, diagnostics: &mut Vec<Diagnostic>) {
        let known = Known::new(self);
        let of_gateway_api = gateway_api::Known::new(self);
        let mesh = self.mesh_config();
        for object in self.iter() {
            let before = diagnostics.len();
            match &object.body {
                Body::VirtualService(spec) => {
                    known.check_virtual_service(object, spec, diagnostics);
                }
                Body::DestinationRule(spec) => known.check_rule(object, spec, diagnostics),
                Body::GatewayApi(_) => {
                    check_route(&of_gateway_api, object, known.hosts_known, diagnostics);
                }
                Body::Ingress(spec) if !is_served(self, &mesh, spec) => {
                    diagnostics.push(
                        Diagnostic::warning("Istio does not serve this Ingress")
                            .at(&spec.span, "not of its class, as an IngressClass says")
                            .help(
                                "an IngressClass with `controller: istio.io/ingress-controller`, \
                                 or the annotation `kubernetes.io/ingress.class: istio`",
                            ),
                    );
                }
                _ => {}
            }
            for diagnostic in &mut diagnostics[before..] {
                diagnostic.resource = Some(object.reference.to_string());
            }
        }
        if self.of_kind("rule").next().is_some() {
            MixerPolicy::of(self, diagnostics);
        }
        of_2017::check(self, diagnostics);
    }
}

impl<'a> Known<'a> {
    fn new(objects: &'a Objects) -> Known<'a> {
        let mut known = Known {
            objects,
            registry: objects.registry(),
            hosts_known: objects.of_kind("Service").next().is_some(),
            gateways: BTreeSet::new(),
            subsets: BTreeMap::new(),
        };
        for object in objects.iter() {
            let reference = &object.reference;
            match &object.body {
                Body::Gateway(_) => {
                    let id = format!("{}/{}", reference.namespace, reference.name);
                    known.gateways.insert(id.into());
                }
                Body::DestinationRule(rule) => {
                    let host = full_name(&rule.host.text, &reference.namespace);
                    let names = rule.subsets.iter().map(|subset| subset.name.text.clone());
                    known.subsets.entry(host).or_default().extend(names);
                }
                _ => {}
            }
        }
        known
    }

    fn check_virtual_service(
        &self,
        object: &Object,
        spec: &VirtualService,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let namespace = &object.reference.namespace;
        for gateway in &spec.gateways {
            let id = gateway_name(&gateway.text, namespace);
            if &*id != "mesh" && !self.gateways.contains(&id) {
                let names = self.gateways.iter().map(|id| {
                    let own = id.strip_prefix(&format!("{namespace}/")).map(str::to_owned);
                    own.unwrap_or_else(|| id.to_string())
                });
                let names: Vec<String> = names.chain(["mesh".to_owned()]).collect();
                diagnostics.push(
                    Diagnostic::error(format!("there is no Gateway `{}`", gateway.text))
                        .code(NOT_FOUND)
                        .at(&gateway.span, "no such Gateway")
                        .nearest(&gateway.text, names.iter().map(String::as_str)),
                );
            }
        }
        for rule in &spec.http {
            self.check_delegate(namespace, rule, diagnostics);
        }
        for destination in spec.destinations() {
            self.check_destination(namespace, destination, diagnostics);
        }
    }

    fn check_delegate(
        &self,
        namespace: &Name,
        rule: &HttpRoute,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let HttpAction::Delegate {
            name,
            namespace: of,
        } = &rule.action
        else {
            return;
        };
        let of = of.as_ref().unwrap_or(namespace);
        if self.objects.virtual_service(of, &name.text).is_none() {
            let names = self.objects.of_namespace("VirtualService", of);
            let message = format!(
                "there is no VirtualService {of}/{} to delegate to",
                name.text
            );
            diagnostics.push(
                Diagnostic::error(message)
                    .code(NOT_FOUND)
                    .at(&name.span, "no such VirtualService")
                    .nearest(&name.text, names.map(|object| &*object.reference.name)),
            );
        }
    }

    fn check_destination(
        &self,
        namespace: &Name,
        to: &Destination,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let host = full_name(&to.host.text, namespace);
        if self.hosts_known {
            match self.service(&host) {
                None => {
                    let diagnostic = self.unknown_host(namespace, &to.host);
                    diagnostics.push(diagnostic.code(NOT_FOUND));
                    return;
                }
                Some(service) => check_port(service, to, diagnostics),
            }
        }
        let Some(subset) = &to.subset else {
            return;
        };
        let defined: Vec<&Name> = self
            .subsets
            .iter()
            .filter(|(of, _)| overlap(of, &host))
            .flat_map(|(_, names)| names)
            .collect();
        if !defined.contains(&&subset.text) {
            let message = format!(
                "no DestinationRule defines subset `{}` of {host}",
                subset.text
            );
            let diagnostic = Diagnostic::error(message)
                .code(NOT_FOUND)
                .at(&subset.span, "no such subset");
            diagnostics.push(match defined.is_empty() {
                true => diagnostic.help(format!("no DestinationRule defines any subset of {host}")),
                false => {
                    let names = defined.iter().map(|name| &***name);
                    let listed: Vec<&str> = names.clone().collect();
                    let near = diagnostic.nearest(&subset.text, names);
                    match near.help {
                        Some(_) => near,
                        None => near.help(format!("defined are {}", listed.join(", "))),
                    }
                }
            });
        }
    }

    fn check_rule(
        &self,
        object: &Object,
        rule: &DestinationRule,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let namespace = &object.reference.namespace;
        let host = full_name(&rule.host.text, namespace);
        let exists = self.registry.hosts().any(|known| overlap(known, &host));
        if self.hosts_known && !exists {
            let mut diagnostic = self.unknown_host(namespace, &rule.host);
            diagnostic.level = source::Level::Warning;
            diagnostics.push(diagnostic.code(UNKNOWN_RULE_HOST));
        }
    }

    /// The service called `host`, or the wildcard that takes it.
    fn service(&self, host: &Name) -> Option<&'a Arc<Service>> {
        self.registry.with_host(host).next().or_else(|| {
            let mut services = self.registry.services.iter();
            services.find(|service| is_within(host, &service.host))
        })
    }

    fn unknown_host(&self, namespace: &Name, host: &Named) -> Diagnostic {
        let own = format!(".{namespace}.{DOMAIN}");
        let short = !host.text.contains('.');
        let names = self
            .registry
            .hosts()
            .map(|known| match known.strip_suffix(&own) {
                Some(name) if short => name,
                _ => known,
            });
        let message = format!("no service has the host `{}`", host.text);
        let full = full_name(&host.text, namespace);
        let label = match *full == *host.text {
            true => "no such host".to_owned(),
            false => format!("means {full}"),
        };
        let diagnostic = Diagnostic::error(message).at(&host.span, label);
        let elsewhere = format!("{}.", host.text);
        match self
            .registry
            .hosts()
            .find(|known| short && known.starts_with(&elsewhere))
        {
            Some(known) => diagnostic.help(format!("there is {known}")),
            None => diagnostic.nearest(&host.text, names),
        }
    }
}

fn check_port(service: &Service, to: &Destination, diagnostics: &mut Vec<Diagnostic>) {
    let Some(port) = to.port else {
        return;
    };
    // An alias has the ports of what it means.
    if service.port(port).is_none() && service.alias_of.is_none() {
        let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        diagnostics.push(
            Diagnostic::error(format!("{} has no port {port}", service.host))
                .code(NOT_FOUND)
                .at(&to.host.span, "no such port")
                .help(format!("its ports are {}", ports.join(", "))),
        );
    }
}
