//! The conditions of an HTTP rule.

use super::{Labels, Named, labels, named_list, port, string_match};
use proxy_core::xds::{
    ClaimMatch, HeaderMatch, Name, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};
use source::{Diagnostic, Fields, Node, Value};

/// Istio `HTTPMatchRequest`, split into what is decided per proxy and what per request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpMatch {
    pub(crate) name: Option<Name>,
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
        Static {
            port: port(fields, "port"),
            gateways: named_list(fields, "gateways"),
            source_labels: labels(fields, "sourceLabels"),
            source_namespace: fields.text("sourceNamespace").map(Name::from),
        }
    }
}

impl HttpMatch {
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpMatch> {
        let mut fields = Fields::of(node, "an HTTP match", diagnostics)?;
        let name = fields.text("name").map(Name::from);
        let statics = Static::read(&mut fields);
        let ignore_case = fields.boolean("ignoreUriCase").unwrap_or(false);
        let uri = fields.optional("uri");
        let path = match uri {
            None => PathMatch::Prefix("/".into()),
            Some(node) => path(some_match(node, fields.diagnostics)?),
        };
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
                let wanted = some_match(node, fields.diagnostics)?;
                headers.push(HeaderMatch {
                    name: pseudo.into(),
                    value: ValueMatch::String(wanted),
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
            statics,
            has_uri: uri.is_some(),
            request,
        })
    }
}

/// A string match that is not empty.
fn some_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<StringMatch> {
    let found = string_match(node, diagnostics)?;
    if found.is_none() {
        let message = "a string match needs `exact`, `prefix` or `regex`";
        diagnostics.push(Diagnostic::error(message).at(&node.span, "matches nothing"));
    }
    found
}

fn path(wanted: StringMatch) -> PathMatch {
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
        if key != "queryParams" && entry.key.starts_with('@') && claim_path(&entry.key).is_none() {
            fields.diagnostics.push(
                Diagnostic::warning(format!("`{}` is not supported yet", entry.key))
                    .at(&entry.key_span, "matches no request here"),
            );
        }
        let regex = entry.value.at(&["regex"]).and_then(Node::as_str);
        let wanted = match entry.value.value {
            Value::Null => Some(None),
            // No expression of RE2's, which Istio takes for presence and checks elsewhere only.
            _ if key == "withoutHeaders" && regex == Some("*") => Some(None),
            _ => string_match(&entry.value, fields.diagnostics),
        };
        if let Some(wanted) = wanted {
            matches.push((Name::from(entry.key.as_str()), wanted));
        }
    }
    matches
}

/// The claim that the name of a header stands for: `@request.auth.claims.a.b` or
/// `@request.auth.claims[a][b]`.
fn claim_path(name: &str) -> Option<Vec<Name>> {
    const CLAIMS: &str = "@request.auth.claims";
    let start = name.get(..CLAIMS.len())?;
    let rest = &name[CLAIMS.len()..];
    if !start.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let bracketed = rest
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let (keys, between) = match bracketed {
        Some(keys) => (keys, "]["),
        None => (rest.strip_prefix('.')?, "."),
    };
    let path = keys.split(between).map(Name::from).collect();
    (!keys.is_empty()).then_some(path)
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
