//! Rules that delegate to a VirtualService that is not there.

use super::read::text;
use crate::codes::MSH0020;
use crate::documents::{Documents, VIRTUAL_SERVICE};
use crate::read::items;
use source::Diagnostic;

pub(super) fn check(documents: &Documents, found: &mut Vec<Diagnostic>) {
    for root in documents.of(VIRTUAL_SERVICE) {
        for rule in items(&root.node, &["spec", "http"]) {
            let Some(node) = rule.at(&["delegate", "name"]) else {
                continue;
            };
            let name = text(node, &[]).unwrap_or_default();
            let namespace = text(rule, &["delegate", "namespace"]).unwrap_or(&root.namespace);
            if documents.find(VIRTUAL_SERVICE, namespace, name).is_some() {
                continue;
            }
            let message = format!("there is no VirtualService {namespace}/{name} to delegate to");
            let near = documents
                .of(VIRTUAL_SERVICE)
                .filter(|one| one.namespace == namespace);
            let mut diagnostic = MSH0020
                .says(message)
                .at(
                    &node.span,
                    "Istio leaves the rule out, and later ones get its requests",
                )
                .nearest(name, near.map(|one| one.name.as_str()));
            diagnostic.resource = Some(root.resource());
            found.push(diagnostic);
        }
    }
}
