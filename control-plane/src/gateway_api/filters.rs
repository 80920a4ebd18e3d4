//! The filters of rules and of backends.

use super::route::{Backend, RouteKind};
use crate::config::{HeaderChanges, HttpAction, RedirectPort, count, port, regex};
use proxy_core::xds::{
    CorsPolicy, HeaderMutations, HeaderValue, Name, PathRewrite, RedirectPath, Regex, StringMatch,
};
use source::{Diagnostic, Fields, Node};
use std::sync::Arc;

/// What the filters of a rule or backend do together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters {
    pub(crate) headers: HeaderChanges,
    pub(crate) redirect: Option<HttpAction>,
    pub(crate) path_rewrite: Option<PathRewrite>,
    pub(crate) authority_rewrite: Option<Name>,
    /// With the share of requests, in parts per million.
    pub(crate) mirrors: Vec<(Backend, u32)>,
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    /// Why Istio refuses the whole route.
    pub(crate) invalid: Option<String>,
    /// Any filter but those of headers.
    pub(crate) beyond_headers: Option<Name>,
}

impl Filters {
    /// Reads `filters`. What Istio does not know refuses the route, with a warning here.
    pub(crate) fn read(fields: &mut Fields<'_, '_>, kind: RouteKind) -> Filters {
        let mut filters = Filters::default();
        for node in fields.list("filters") {
            filters.read_one(node, kind, fields.diagnostics);
        }
        filters
    }

    fn read_one(
        &mut self,
        node: &Node,
        kind: RouteKind,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<()> {
        let mut fields = Fields::of(node, "a filter", diagnostics)?;
        let of = fields.required_text("type")?;
        let http = kind == RouteKind::Http;
        match of.as_str() {
            "RequestHeaderModifier" => {
                let node = fields.required("requestHeaderModifier")?;
                let (mutations, authority) = self.modifier(node, fields.diagnostics)?;
                self.headers.request = mutations;
                self.headers.authority = authority;
            }
            "ResponseHeaderModifier" => {
                let node = fields.required("responseHeaderModifier")?;
                self.headers.response = self.modifier(node, fields.diagnostics)?.0;
            }
            "RequestMirror" => {
                let node = fields.required("requestMirror")?;
                self.mirrors.extend(read_mirror(node, fields.diagnostics));
            }
            "RequestRedirect" if http => {
                let node = fields.required("requestRedirect")?;
                self.redirect = read_redirect(node, fields.diagnostics);
            }
            "URLRewrite" if http => {
                let node = fields.required("urlRewrite")?;
                self.read_rewrite(node, fields.diagnostics)?;
            }
            "CORS" if http => {
                let node = fields.required("cors")?;
                self.cors = Some(Arc::new(read_cors(node, fields.diagnostics)?));
            }
            other => {
                self.invalid = Some(format!("unsupported filter type \"{other}\""));
                fields.ignore(&["extensionRef", "externalAuth"]);
                fields.diagnostics.push(
                    Diagnostic::warning(format!("Istio does not support filters of type {other}"))
                        .at(&node.span, "the whole route is refused"),
                );
            }
        }
        if !of.ends_with("HeaderModifier") {
            self.beyond_headers = Some(of.into());
        }
        fields.finish();
        Some(())
    }

    /// Of names that are there twice, the first counts.
    fn modifier(
        &mut self,
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<(HeaderMutations, Option<Name>)> {
        let mut fields = Fields::of(node, "a header modifier", diagnostics)?;
        let mut mutations = HeaderMutations::default();
        let removed = fields.texts("remove").into_iter();
        mutations.remove = removed
            .map(|name| name.to_ascii_lowercase().into())
            .filter(|name: &Name| &**name != "host" && !name.starts_with(':'))
            .collect();
        let mut authority = None;
        for (key, append) in [("set", false), ("add", true)] {
            let mut pairs: Vec<(String, String)> = Vec::new();
            for node in fields.list(key) {
                let mut inner = Fields::of(node, "a header", fields.diagnostics)?;
                let name = inner.required_text("name")?.to_ascii_lowercase();
                let value = inner.text("value").unwrap_or_default();
                inner.finish();
                if value.bytes().any(|b| (b < 0x20 && b != 9) || b == 0x7f) {
                    let message = format!("header \"{name}\" value contains invalid characters");
                    self.invalid = Some(message);
                }
                if !pairs.iter().any(|(known, _)| *known == name) {
                    pairs.push((name, value));
                }
            }
            pairs.sort();
            for (name, value) in pairs {
                if name == "host" || name == ":authority" {
                    authority.get_or_insert(Name::from(value));
                } else if !name.starts_with(':') {
                    mutations.add.push(HeaderValue {
                        name: name.into(),
                        value: value.into(),
                        append,
                    });
                }
            }
        }
        fields.finish();
        Some((mutations, authority))
    }

    fn read_rewrite(&mut self, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<()> {
        let mut fields = Fields::of(node, "a URL rewrite", diagnostics)?;
        self.authority_rewrite = fields.text("hostname").map(Name::from);
        if let Some(node) = fields.optional("path") {
            self.path_rewrite = match read_path(node, fields.diagnostics)? {
                NewPath::Full(text, node) => {
                    let every = Node {
                        value: source::Value::String("/.*".to_owned()),
                        ..node
                    };
                    Some(PathRewrite::Regex {
                        pattern: regex(&every, fields.diagnostics)?,
                        substitution: text.into(),
                    })
                }
                NewPath::Prefix(text) => {
                    let text = text.strip_suffix('/').unwrap_or(&text);
                    let text = if text.is_empty() { "/" } else { text };
                    Some(PathRewrite::Prefix(text.into()))
                }
            };
        }
        fields.finish();
        Some(())
    }
}

/// Gateway API `HTTPPathModifier`.
enum NewPath {
    Full(String, Node),
    Prefix(String),
}

fn read_path(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<NewPath> {
    let mut fields = Fields::of(node, "a path modifier", diagnostics)?;
    fields.required("type");
    let types = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
    let path = match crate::config::choice(&mut fields, "type", &types)? {
        true => {
            let node = fields.required("replaceFullPath")?;
            NewPath::Full(fields.text("replaceFullPath")?, node.clone())
        }
        false => {
            fields.required("replacePrefixMatch")?;
            NewPath::Prefix(fields.text("replacePrefixMatch")?)
        }
    };
    fields.finish();
    Some(path)
}

/// 302 unless stated. Without a port, the scheme decides it, and without either the listener.
fn read_redirect(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a redirect", diagnostics)?;
    let scheme = fields.text("scheme").map(Name::from);
    let host = fields.text("hostname").map(Name::from);
    let number = port(&mut fields, "port");
    let codes = [
        ("301", 301),
        ("302", 302),
        ("303", 303),
        ("307", 307),
        ("308", 308),
    ];
    let status = crate::config::choice(&mut fields, "statusCode", &codes).unwrap_or(302);
    let path = match fields.optional("path") {
        None => RedirectPath::Keep,
        Some(node) => match read_path(node, fields.diagnostics)? {
            NewPath::Full(text, _) if text.is_empty() => RedirectPath::Keep,
            NewPath::Full(text, _) => RedirectPath::Replace(text.into()),
            NewPath::Prefix(text) if text.is_empty() => RedirectPath::Keep,
            NewPath::Prefix(text) => RedirectPath::Prefix(text.into()),
        },
    };
    fields.finish();
    let port = match (number, &scheme) {
        (Some(number), _) => Some(RedirectPort::Number(number)),
        (None, Some(_)) => None,
        (None, None) => Some(RedirectPort::FromRequest),
    };
    Some(HttpAction::Redirect {
        status,
        scheme,
        host,
        port,
        path,
    })
}

fn read_mirror(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(Backend, u32)> {
    let mut fields = Fields::of(node, "a mirror", diagnostics)?;
    let backend = fields.required("backendRef");
    let backend = backend.and_then(|node| Backend::read_mirrored(node, fields.diagnostics));
    let percent = fields.integer("percent", 0..=100);
    let mut ppm = percent.map_or(1_000_000.0, |percent| percent as f64 * 10_000.0);
    if let Some(node) = fields.optional("fraction") {
        let mut inner = Fields::of(node, "a fraction", fields.diagnostics)?;
        inner.required("numerator");
        let numerator = count(&mut inner, "numerator");
        let denominator = count(&mut inner, "denominator").unwrap_or(100).max(1);
        inner.finish();
        let share = (100.0 * f64::from(numerator?)) / f64::from(denominator);
        ppm = (share * 10_000.0).clamp(0.0, 1_000_000.0);
    }
    fields.finish();
    Some((backend?, ppm as u32))
}

/// Preflights that do not match are answered, and results are kept for 5 s unless stated.
fn read_cors(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<CorsPolicy> {
    let mut fields = Fields::of(node, "a CORS filter", diagnostics)?;
    let origins = fields.texts("allowOrigins");
    let allow_credentials = fields.boolean("allowCredentials").unwrap_or(false);
    let mut joined = |key| fields.texts(key).join(",").into();
    let (allow_methods, allow_headers) = (joined("allowMethods"), joined("allowHeaders"));
    let expose_headers = joined("exposeHeaders");
    let max_age = count(&mut fields, "maxAge").unwrap_or(5);
    fields.finish();
    Some(CorsPolicy {
        allow_origins: origins.iter().filter_map(|text| origin(text)).collect(),
        allow_methods,
        allow_headers,
        expose_headers,
        max_age: match max_age {
            0 => "".into(),
            seconds => seconds.to_string().into(),
        },
        allow_credentials,
        forward_not_matching_preflights: false,
    })
}

/// `*` stands for anything, and on its own for anything that is an origin.
fn origin(text: &str) -> Option<StringMatch> {
    let pattern = match text.strip_suffix('*') {
        _ if text.is_empty() => return None,
        Some("") => r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$".to_owned(),
        None if !text.contains('*') => return Some(StringMatch::Exact(text.into())),
        Some(prefix) if !prefix.contains('*') => return Some(StringMatch::Prefix(prefix.into())),
        _ => {
            let parts: Vec<String> = text.split('*').map(crate::names::escaped).collect();
            format!("^{}$", parts.join(".*"))
        }
    };
    Regex::new(&pattern).ok().map(StringMatch::Regex)
}
