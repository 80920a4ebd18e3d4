//! CorsPolicy of an HTTP route.

use super::syntax::{Verdict, demand, header_name};
use super::{choice, duration, refuse, string_match};
use proxy_core::xds::{CorsPolicy, StringMatch};
use source::{Diagnostic, Fields, Node};

/// Reads an Istio `CorsPolicy`.
pub(super) fn read_cors(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<CorsPolicy> {
    let mut fields = Fields::of(node, "a CORS policy", diagnostics)?;
    let origins = fields.list("allowOrigins");
    let allow_origins = match origins.is_empty() {
        false => origins
            .iter()
            .filter_map(|node| read_origin(node, fields.diagnostics))
            .collect(),
        true => {
            let exact = fields.texts("allowOrigin").into_iter();
            exact.map(|text| StringMatch::Exact(text.into())).collect()
        }
    };
    let mut joined = |key| fields.texts(key).join(",").into();
    let (allow_methods, allow_headers) = (joined("allowMethods"), joined("allowHeaders"));
    let expose_headers = joined("exposeHeaders");
    check(&mut fields, "allowMethods", "a method of HTTP", method);
    for key in ["allowHeaders", "exposeHeaders"] {
        let any_or_name = |name: &str| {
            if name == "*" {
                Ok(())
            } else {
                header_name(name)
            }
        };
        check(&mut fields, key, "a header", any_or_name);
    }
    let max_age = duration(&mut fields, "maxAge");
    if let (Some(node), Some(age)) = (fields.optional("maxAge"), max_age)
        && age.0 % 1_000_000_000 != 0
    {
        let message = "`maxAge` has whole seconds";
        refuse(fields.diagnostics, &node.span, message, "too precise");
    }
    let allow_credentials = fields.boolean("allowCredentials").unwrap_or(false);
    let forwards = [("UNSPECIFIED", true), ("FORWARD", true), ("IGNORE", false)];
    let forward = choice(&mut fields, "unmatchedPreflights", &forwards);
    fields.ignore(&["allowOrigin"]);
    fields.finish();
    Some(CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age: max_age.map_or("".into(), |age| (age.as_millis() / 1000).to_string().into()),
        allow_credentials,
        forward_not_matching_preflights: forward.unwrap_or(true),
    })
}

/// An origin, which says something.
fn read_origin(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<StringMatch> {
    let found = string_match(node, diagnostics)?;
    let text = match &found {
        Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) => text,
        Some(_) => return found,
        None => "",
    };
    if text.is_empty() {
        let message = "an origin needs `exact`, `prefix` or `regex`, and not an empty one";
        refuse(diagnostics, &node.span, message, "matches no origin");
        return None;
    }
    found
}

/// Checks the texts of a list.
fn check(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    what: &str,
    rule: impl Fn(&str) -> Verdict,
) {
    for node in fields.list(key) {
        if let Some(text) = node.as_scalar() {
            demand(fields.diagnostics, (text, &node.span), what, rule(text));
        }
    }
}

fn method(text: &str) -> Verdict {
    let known = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
    ];
    match known.contains(&text) {
        true => Ok(()),
        false => Err(format!("one of {}", known.join(", "))),
    }
}
