//! The conditions of an HTTP rule.

use super::syntax::{claim_path, demand, demand_of, dns_label, host_name, matched_header};
use super::{
    Labels, Named, named, named_list, port, schema_warning, selection, string_match, written,
};
use proxy_core::xds::{
    ClaimMatch, HeaderMatch, Name, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};
use source::{Diagnostic, Fields, Node, Span, Value};

/// Istio `HTTPMatchRequest`, split into what is decided per proxy and what per request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpMatch {
    pub(crate) name: Option<Name>,
    /// Where it was written; `None` if it was not.
    pub(crate) span: Option<Span>,
    pub(crate) statics: Static,
    /// The path was stated.
    pub(crate) has_uri: bool,
    pub(crate) request: RouteMatch,
}

/// Conditions on the proxy and the listener, not on the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Static {
    pub(crate) port: Option<u16>,
    /// Empty: those of the VirtualService.
    pub(crate) gateways: Vec<Named>,
    pub(crate) source_labels: Labels,
    pub(crate) source_namespace: Option<Name>,
}

impl Static {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Static {
        let gateways = named_list(fields, "gateways");
        check_gateways(&gateways, fields.diagnostics);
        let namespace = named(fields, "sourceNamespace").filter(|named| !named.text.is_empty());
        Static {
            // 0 is any.
            port: match fields.optional("port").map(written) {
                Some("0") => None,
                _ => port(fields, "port"),
            },
            gateways,
            source_labels: selection::valid_labels(fields, "sourceLabels"),
            source_namespace: namespace.map(|named| named.text),
        }
    }

    /// Only HTTP matches have their namespace checked.
    fn check_namespace(&self, fields: &mut Fields<'_, '_>) {
        let node = fields.optional("sourceNamespace");
        if let (Some(namespace), Some(node)) = (&self.source_namespace, node) {
            let verdict = dns_label(namespace);
            demand(
                fields.diagnostics,
                (namespace, &node.span),
                "a namespace",
                verdict,
            );
        }
    }
}

/// Checks the names of gateways. As in Istio, one that is not `NAMESPACE/NAME` ends it.
pub(super) fn check_gateways(gateways: &[Named], diagnostics: &mut Vec<Diagnostic>) {
    for gateway in gateways {
        let Some((namespace, name)) = gateway.text.split_once('/') else {
            if let [name, namespace, ..] = gateway.text.split('.').collect::<Vec<_>>()[..] {
                let message = format!("`{}` names a gateway in the old way", gateway.text);
                let help = format!("write `{namespace}/{name}`");
                let warning = schema_warning(message).at(&gateway.span, "a host name");
                diagnostics.push(warning.help(help));
            }
            demand_of(diagnostics, gateway, "a gateway", host_name(&gateway.text));
            return;
        };
        let part =
            |text: &str| dns_label(text).map_err(|why| format!("`{text}` is no name: {why}"));
        let verdict = part(namespace).and_then(|()| part(name));
        demand_of(diagnostics, gateway, "a gateway", verdict);
    }
}

impl HttpMatch {
    /// Of the path alone.
    pub(crate) fn of_path(path: PathMatch) -> HttpMatch {
        HttpMatch {
            name: None,
            span: None,
            statics: Static::default(),
            has_uri: true,
            request: RouteMatch {
                path,
                ..RouteMatch::default()
            },
        }
    }

    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpMatch> {
        if node.value == Value::Null {
            return Some(HttpMatch {
                span: Some(node.span.clone()),
                has_uri: false,
                ..HttpMatch::of_path(PathMatch::Prefix("/".into()))
            });
        }
        let mut fields = Fields::of(node, "an HTTP match", diagnostics)?;
        let name = fields.text("name").map(Name::from);
        let statics = Static::read(&mut fields);
        statics.check_namespace(&mut fields);
        let ignore_case = fields.boolean("ignoreUriCase").unwrap_or(false);
        let uri = fields.optional("uri");
        let path = match uri {
            None => None,
            Some(node) => string_match(node, fields.diagnostics)?,
        };
        let path = path.map_or(PathMatch::Prefix("/".into()), path_of);
        let mut claims = Vec::new();
        let mut headers = header_matches(&mut fields, "headers", false, &mut claims);
        headers.extend(header_matches(
            &mut fields,
            "withoutHeaders",
            true,
            &mut claims,
        ));
        headers.sort_by(|a, b| a.name.cmp(&b.name));
        for (key, pseudo) in [
            ("method", ":method"),
            ("authority", ":authority"),
            ("scheme", ":scheme"),
        ] {
            if let Some(node) = fields.optional(key) {
                let wanted = filled_match(node, fields.diagnostics)?;
                headers.push(HeaderMatch {
                    name: pseudo.into(),
                    value: wanted.map_or(ValueMatch::Present(true), ValueMatch::String),
                    invert: false,
                    treat_missing_as_empty: false,
                });
            }
        }
        let query = query_matches(&mut fields);
        // Names statistics only.
        fields.ignore(&["statPrefix"]);
        fields.finish();
        let request = RouteMatch {
            path,
            case_sensitive: !ignore_case,
            headers,
            query,
            claims,
            fraction: None,
        };
        Some(HttpMatch {
            name,
            span: Some(node.span.clone()),
            statics,
            has_uri: uri.is_some(),
            request,
        })
    }
}

/// A string match, presence if it is empty; its prefix may not be empty.
fn filled_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<StringMatch>> {
    let found = string_match(node, diagnostics)?;
    if found == Some(StringMatch::Prefix("".into())) {
        let message = "the prefix of a string match is not empty";
        let label = "every text begins with it";
        diagnostics.push(Diagnostic::error(message).at(&node.span, label));
        return None;
    }
    Some(found)
}

fn path_of(wanted: StringMatch) -> PathMatch {
    match wanted {
        StringMatch::Exact(text) => PathMatch::Exact(text),
        StringMatch::Regex(regex) => PathMatch::Regex(regex),
        StringMatch::Prefix(text) | StringMatch::Suffix(text) | StringMatch::Contains(text) => {
            PathMatch::Prefix(text)
        }
    }
}

/// Name and match of every entry; presence is `None`.
fn string_matches(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<(Name, Option<StringMatch>)> {
    let Some(node) = fields.optional(key) else {
        return Vec::new();
    };
    let Value::Map(map) = &node.value else {
        fields
            .diagnostics
            .push(source::fields::expected(node, &format!("`{key}` is a map")));
        return Vec::new();
    };
    let mut matches = Vec::new();
    for entry in &map.entries {
        if key != "queryParams" {
            let (name, span) = (entry.key.as_str(), &entry.key_span);
            demand(
                fields.diagnostics,
                (name, span),
                "a header",
                matched_header(name),
            );
        }
        let regex = entry.value.at(&["regex"]).and_then(Node::as_str);
        let wanted = match entry.value.value {
            Value::Null if key == "headers" => {
                let message = format!("the match of header `{}` is null", entry.key);
                let help = "`{}` matches every request that has the header";
                fields.diagnostics.push(
                    Diagnostic::error(message)
                        .at(&entry.key_span, "no match")
                        .help(help),
                );
                None
            }
            Value::Null => Some(None),
            // No expression of RE2's, which Istio takes for presence and checks elsewhere only.
            _ if key == "withoutHeaders" && regex == Some("*") => Some(None),
            _ => filled_match(&entry.value, fields.diagnostics),
        };
        if let Some(wanted) = wanted {
            matches.push((Name::from(entry.key.as_str()), wanted));
        }
    }
    matches
}

fn header_matches(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    invert: bool,
    claims: &mut Vec<ClaimMatch>,
) -> Vec<HeaderMatch> {
    let (of_claims, headers): (Vec<_>, Vec<_>) = string_matches(fields, key)
        .into_iter()
        .partition(|(name, _)| claim_path(name).is_some());
    claims.extend(of_claims.into_iter().map(|(name, wanted)| ClaimMatch {
        path: claim_path(&name).unwrap_or_default(),
        values: wanted.into_iter().collect(),
        in_list: true,
        invert,
    }));
    headers
        .into_iter()
        .map(|(name, wanted)| {
            let (value, treat_missing_as_empty) = match wanted {
                None => (ValueMatch::Present(true), false),
                Some(wanted) => (ValueMatch::String(wanted), invert),
            };
            HeaderMatch {
                name: name.to_ascii_lowercase().into(),
                value,
                invert,
                treat_missing_as_empty,
            }
        })
        .collect()
}

fn query_matches(fields: &mut Fields<'_, '_>) -> Vec<QueryMatch> {
    let mut query: Vec<QueryMatch> = string_matches(fields, "queryParams")
        .into_iter()
        .map(|(name, wanted)| QueryMatch {
            name,
            value: wanted.map_or(ValueMatch::Present(true), ValueMatch::String),
        })
        .collect();
    query.sort_by(|a, b| a.name.cmp(&b.name));
    query
}
