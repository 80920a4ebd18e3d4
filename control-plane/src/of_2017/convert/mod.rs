//! The rules of 2017 in today's words: what a mesh of today has to be told to send the same requests
//! the same way as Pilot and Envoy of 2017 did. What has no equivalent is said where it stands.
//!
//! | module | makes |
//! |---|---|
//! | `routes` | VirtualServices of RouteRules |
//! | `policies` | DestinationRules of the versions that they name, and of DestinationPolicies |
//! | `egress` | ServiceEntries of EgressRules |
//! | `ingress` | Gateways and their VirtualServices of Ingresses and IngressRules |
//! | `yaml` | text of them |

mod egress;
mod ingress;
mod policies;
mod routes;
mod yaml;

use super::RulesOf2017;
use crate::config::Named;
use crate::names::DOMAIN;
use crate::object::Body;
use crate::objects::{ObjectRef, Objects};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use serde_json::{Value, json};
use source::{Diagnostic, Span};
use std::collections::BTreeSet;

/// An object of today that stands for rules of 2017.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    pub reference: ObjectRef,
    /// A document of YAML, without a separator.
    pub text: String,
}

impl Objects {
    /// What the RouteRules, DestinationPolicies, EgressRules, IngressRules and Istio's Ingresses among
    /// the objects are today, by kind, namespace and name. Services tell what their `source` means.
    pub fn converted(&self, diagnostics: &mut Vec<Diagnostic>) -> Vec<Converted> {
        let mut converter = Converter {
            objects: self,
            rules: RulesOf2017::new(self),
            diagnostics,
            made: Vec::new(),
        };
        converter.add_routes();
        converter.add_policies();
        converter.add_egress();
        converter.add_ingress();
        let mut made = converter.made;
        made.sort_by(|a, b| a.reference.cmp(&b.reference));
        made
    }
}

struct Converter<'o, 'd> {
    objects: &'o Objects,
    rules: RulesOf2017,
    diagnostics: &'d mut Vec<Diagnostic>,
    made: Vec<Converted>,
}

impl Converter<'_, '_> {
    /// Adds an object; a name that is taken gets a number.
    fn add(&mut self, kind: &str, namespace: &Name, name: &str, spec: &Value) {
        let taken: BTreeSet<&ObjectRef> = self.made.iter().map(|made| &made.reference).collect();
        let named = |name: String| ObjectRef {
            kind: kind.into(),
            namespace: namespace.clone(),
            name: name.into(),
        };
        let mut reference = named(name.to_owned());
        let mut number = 2;
        while taken.contains(&reference) {
            reference = named(format!("{name}-{number}"));
            number += 1;
        }
        let document = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {"name": &*reference.name, "namespace": &**namespace},
            "spec": spec,
        });
        self.made.push(Converted {
            text: yaml::text(&document),
            reference,
        });
    }

    /// Says that something is not the same any more, or is said otherwise.
    fn warn(&mut self, span: &Span, message: impl Into<String>, label: impl Into<String>) {
        self.say(Diagnostic::warning(message).at(span, label));
    }

    fn note(&mut self, span: &Span, message: impl Into<String>, label: impl Into<String>) {
        self.say(Diagnostic::note(message).at(span, label));
    }

    /// Once, however often the rule is looked at.
    fn say(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Where the objects for `host` stand, and what they are called.
    fn place(&self, host: &str) -> (Name, String) {
        let inside = host.strip_suffix(&format!(".{DOMAIN}"));
        if let Some((name, namespace)) = inside.and_then(|inside| inside.split_once('.')) {
            return (namespace.into(), name.to_owned());
        }
        let of_rule = self.rules.routes_of(host).next();
        let namespace = of_rule.map(|(object, _)| object.reference.namespace.clone());
        let egress = || {
            let mut rules = self.objects.of_kind("EgressRule");
            let found = rules.find(|object| match &object.body {
                Body::EgressRule(rule) => rule.host.text.eq_ignore_ascii_case(host),
                _ => false,
            });
            found.map(|object| object.reference.namespace.clone())
        };
        let namespace = namespace.or_else(egress);
        (namespace.unwrap_or_else(|| "default".into()), plain(host))
    }
}

/// A host as the name of an object.
fn plain(host: &str) -> String {
    let text = host.replace('*', "any").replace('.', "-");
    text.trim_matches('-').to_owned()
}

/// As Istio writes times.
fn duration(time: Nanos) -> String {
    let millis = time.0 / 1_000_000;
    match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Sets `key`, if there is something to set.
fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}

fn text(named: Option<&Named>) -> Option<Value> {
    named.map(|named| json!(&*named.text))
}
