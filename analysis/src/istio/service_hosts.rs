//! The hosts that there are: of Services and ServiceEntries, by who sees them.

use super::input::Input;
use crate::documents::{Document, SERVICE, SERVICE_ENTRY};
use crate::hosts::{DOMAIN, Scope, full_host, scopes};
use crate::read::{entries, items, number, texts};
use crate::selector::Selector;
use source::Node;
use std::collections::BTreeMap;

/// A Service or ServiceEntry.
#[derive(Clone, Copy)]
pub(super) struct Host<'n> {
    document: &'n Document,
}

impl<'n> Host<'n> {
    /// The numbers of its ports.
    pub(super) fn ports(self) -> impl Iterator<Item = i64> + use<'n> {
        let of_service = self.document.kind == SERVICE;
        let key = if of_service { "port" } else { "number" };
        let ports = items(&self.document.node, &["spec", "ports"]);
        ports.iter().map(move |port| number(port, &[key]))
    }

    /// The pods that a ServiceEntry selects; analyzers do not ask a Service.
    pub(super) fn selector(self) -> Selector<'n> {
        match self.document.kind == SERVICE_ENTRY {
            true => {
                let path = ["spec", "workloadSelector", "labels"];
                Selector::of(entries(&self.document.node, &path))
            }
            false => Selector::default(),
        }
    }
}

/// Every host.
pub(super) struct Hosts<'n> {
    exact: BTreeMap<Scope<'n>, BTreeMap<String, Host<'n>>>,
    /// Without the `*` that they begin with.
    wildcards: Vec<(Scope<'n>, &'n str, Host<'n>)>,
}

impl<'n> Hosts<'n> {
    pub(super) fn new(input: &'n Input<'_>) -> Hosts<'n> {
        let mut hosts = Hosts {
            exact: BTreeMap::new(),
            wildcards: Vec::new(),
        };
        for document in input.of(SERVICE_ENTRY) {
            let export_to = texts(&document.node, &["spec", "exportTo"]);
            for scope in scopes(&export_to, &document.namespace) {
                for host in texts(&document.node, &["spec", "hosts"]) {
                    hosts.add(scope.clone(), host, document);
                }
            }
        }
        for document in input.of(SERVICE) {
            let export_to = document.annotation("networking.istio.io/exportTo");
            let export_to: Vec<&str> = match export_to {
                None | Some("") => Vec::new(),
                Some(written) => written.split(',').map(str::trim).collect(),
            };
            for scope in scopes(&export_to, &document.namespace) {
                hosts.add(scope, &document.name, document);
            }
        }
        hosts
    }

    fn add(&mut self, scope: Scope<'n>, host: &'n str, document: &'n Document) {
        let found = Host { document };
        if let Some(rest) = host.strip_prefix('*') {
            self.wildcards.push((scope.clone(), rest, found));
        }
        let full = full_host(host, &document.namespace);
        self.exact.entry(scope).or_default().insert(full, found);
    }

    /// The host that a rule of `namespace` with this `exportTo` means.
    pub(super) fn find(&self, namespace: &str, export_to: &[&str], host: &str) -> Option<Host<'n>> {
        let full = full_host(host, namespace);
        let within = |scope: &Scope<'_>| self.exact.get(scope)?.get(&full).copied();
        let own = |to: &&str| within(&Scope::Namespace(if *to == "." { namespace } else { to }));
        within(&Scope::Everywhere)
            .or_else(|| match export_to.is_empty() {
                true => own(&"."),
                // `*` stands for no namespace here.
                false => export_to.iter().find_map(own),
            })
            .or_else(|| {
                let host = host.strip_prefix('*').unwrap_or(host);
                let mut fit = self.wildcards.iter().filter(|(scope, end, _)| {
                    let seen =
                        matches!(scope, Scope::Everywhere) || *scope == Scope::Namespace(namespace);
                    seen && host.ends_with(end)
                });
                fit.next().map(|(_, _, found)| *found)
            })
    }

    /// The hosts seen from `namespace`, short where they are its own.
    pub(super) fn names(&self, namespace: &str) -> Vec<String> {
        let own = format!(".{namespace}.{DOMAIN}");
        let seen = [Scope::Everywhere, Scope::Namespace(namespace)];
        let hosts = seen.iter().filter_map(|scope| self.exact.get(scope));
        let hosts = hosts.flat_map(BTreeMap::keys);
        hosts
            .map(|host| host.strip_suffix(&own).unwrap_or(host).to_owned())
            .collect()
    }
}

/// The place of a host, which points at what names it.
pub(super) fn place<'n>(destination: &'n Node, key: &str) -> &'n source::Span {
    let host = destination.at(&[key]);
    &host.unwrap_or(destination).span
}
