//! CorsPolicy of an HTTP route.

use super::{choice, duration_from, string_match};
use proxy_core::time::Nanos;
use proxy_core::xds::{CorsPolicy, StringMatch};
use source::{Diagnostic, Fields, Node};

/// Reads an Istio `CorsPolicy`.
pub(super) fn read_cors(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<CorsPolicy> {
    let mut fields = Fields::of(node, "a CORS policy", diagnostics)?;
    let origins = fields.list("allowOrigins");
    let allow_origins = match origins.is_empty() {
        false => origins
            .iter()
            .filter_map(|node| string_match(node, fields.diagnostics).flatten())
            .collect(),
        true => {
            let exact = fields.texts("allowOrigin").into_iter();
            exact.map(|text| StringMatch::Exact(text.into())).collect()
        }
    };
    let mut joined = |key| fields.texts(key).join(",").into();
    let (allow_methods, allow_headers) = (joined("allowMethods"), joined("allowHeaders"));
    let expose_headers = joined("exposeHeaders");
    let max_age = duration_from(&mut fields, "maxAge", Nanos::ZERO);
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
