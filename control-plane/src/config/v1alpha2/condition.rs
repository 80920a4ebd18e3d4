//! Which callers and requests a rule of 2017 is for.

use super::{DataPlane, ServiceReference, Spelling};
use crate::config::syntax::{demand, header_name};
use crate::config::{Named, entries, parse_cidr, refuse, selection, string_match};
use proxy_core::xds::StringMatch;
use source::{Diagnostic, Fields, Node};

/// Istio `MatchCondition`: everything holds together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    /// The caller is such a service, with those labels.
    pub(crate) source: Option<ServiceReference>,
    /// By lower-case name; `uri` is the path, without the query.
    pub(crate) headers: Vec<(Named, StringMatch)>,
}

impl Condition {
    /// Whether every request matches, whoever sends it: nothing after such a rule is reached.
    pub(crate) fn takes_all(&self, data_plane: DataPlane) -> bool {
        let linkerd = data_plane == DataPlane::Linkerd111;
        let all = |(name, value): &(Named, StringMatch)| match (&*name.text, value) {
            ("uri", StringMatch::Prefix(prefix)) => &**prefix == "/",
            ("uri", StringMatch::Regex(regex)) => linkerd && regex.source() == ".*",
            _ => false,
        };
        (linkerd || self.source.is_none()) && self.headers.iter().all(all)
    }

    pub(super) fn read(
        node: &Node,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Condition> {
        let mut fields = Fields::of(node, "a match", diagnostics)?;
        let mut source = ServiceReference::read(&mut fields, "source", spelling, namespace);
        let mut condition = Condition::default();
        match spelling {
            Spelling::V01 => {
                let labels = selection::valid_labels(&mut fields, "sourceTags");
                match (&mut source, fields.optional("sourceTags")) {
                    (Some(source), _) => source.labels = labels,
                    (None, Some(node)) => fields.diagnostics.push(
                        Diagnostic::warning("`sourceTags` without `source` say nothing")
                            .at(&node.span, "every caller is meant"),
                    ),
                    (None, None) => {}
                }
                condition.headers = read_headers(&mut fields, "httpHeaders");
            }
            Spelling::V02 => {
                if let Some(node) = fields.optional("request") {
                    let mut inner = Fields::of(node, "a request", fields.diagnostics)?;
                    condition.headers = read_headers(&mut inner, "headers");
                    inner.finish();
                }
            }
        }
        condition.source = source;
        check_l4(&mut fields);
        fields.finish();
        Some(condition)
    }

    /// The condition on the header, or part of the head, of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&StringMatch> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| *header.text == *name);
        found.map(|(_, value)| value)
    }
}

fn read_headers(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<(Named, StringMatch)> {
    let mut headers = Vec::new();
    for entry in entries(fields, key) {
        let (name, span) = (entry.key.as_str(), &entry.key_span);
        let verdict = header_name(name).and_then(|()| match name == name.to_ascii_lowercase() {
            true => Ok(()),
            false => Err("names of headers are in lower case here".to_owned()),
        });
        demand(fields.diagnostics, (name, span), "a header", verdict);
        let Some(found) = string_match(&entry.value, fields.diagnostics) else {
            continue;
        };
        let Some(value) = found else {
            let message = format!("the match of header `{name}` says nothing");
            let label = "one of `exact`, `prefix`, `regex`";
            refuse(fields.diagnostics, &entry.value.span, message, label);
            continue;
        };
        let empty = matches!(&value, StringMatch::Exact(text) | StringMatch::Prefix(text) if text.is_empty());
        if name == "uri" && empty {
            let message = "the match of `uri` is not empty";
            refuse(
                fields.diagnostics,
                &entry.value.span,
                message,
                "no path is empty",
            );
        }
        let name = Named {
            text: name.into(),
            span: span.clone(),
        };
        headers.push((name, value));
    }
    headers.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
    headers
}

/// Conditions on connections: Pilot checked them, and made nothing of them where it routed requests.
fn check_l4(fields: &mut Fields<'_, '_>) {
    if let Some(node) = fields.optional("udp") {
        let message = "Istio did not support UDP";
        refuse(fields.diagnostics, &node.span, message, "refused by Pilot");
    }
    let Some(node) = fields.optional("tcp") else {
        return;
    };
    fields.diagnostics.push(
        Diagnostic::warning("Pilot made nothing of `tcp` conditions")
            .at(&node.span, "every request is meant"),
    );
    let Some(mut inner) = Fields::of(node, "conditions on connections", fields.diagnostics) else {
        return;
    };
    for key in ["sourceSubnet", "destinationSubnet"] {
        for node in inner.list(key) {
            let text = node.as_scalar().unwrap_or_default();
            let address = text.split('/').next().unwrap_or_default();
            let v4 = address.parse::<std::net::Ipv4Addr>().is_ok();
            if !v4 || parse_cidr(text).is_none() {
                let message = format!("`{text}` is not an IPv4 subnet");
                refuse(
                    inner.diagnostics,
                    &node.span,
                    message,
                    "as in `10.1.0.0/16`",
                );
            }
        }
    }
    inner.finish();
}
