//! RequestAuthentication.

use super::{Named, Target, choice, duration, named_node, required_named, schema_warning};
use proxy_core::xds::{JwtProvider, Name};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Istio `RequestAuthentication`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestAuthentication {
    pub(crate) target: Target,
    /// The `jwtRules`, as Envoy has them; without their origin.
    pub(crate) providers: Vec<(JwtProvider, u32)>,
}

impl RequestAuthentication {
    pub(crate) fn read(
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<RequestAuthentication> {
        let mut fields = Fields::of(node, "a RequestAuthentication", diagnostics)?;
        let target = Target::read(&mut fields);
        let rules = fields.list("jwtRules").iter();
        let providers = rules
            .filter_map(|rule| Some((read_rule(rule, fields.diagnostics)?, rule.span.line())))
            .collect();
        fields.finish();
        Some(RequestAuthentication { target, providers })
    }
}

/// Istio `JWTRule`. Of keys only their form is looked at.
fn read_rule(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<JwtProvider> {
    let mut fields = Fields::of(node, "a JWT rule", diagnostics)?;
    let issuer = fields.text("issuer").unwrap_or_default();
    let uri = ["jwksUri", "jwks_uri"].map(|key| fields.optional(key));
    let uri = uri.into_iter().flatten().next();
    match uri
        .and_then(Node::as_scalar)
        .filter(|text| !text.is_empty())
    {
        Some(text) if !is_jwks_uri(text) => {
            let want = "keys are at an `http` or `https` URL";
            fields.diagnostics.push(expected(uri.unwrap_or(node), want));
        }
        None if issuer.is_empty() => {
            fields.diagnostics.push(
                Diagnostic::error("a JWT rule has an `issuer` or a `jwksUri`")
                    .at(&node.span, "whose tokens?"),
            );
        }
        _ => {}
    }
    if let Some(jwks) = fields.optional("jwks") {
        check_keys(jwks, fields.diagnostics);
    }
    duration(&mut fields, "timeout");
    let required = choice(
        &mut fields,
        "presence",
        &[("OPTIONAL", false), ("REQUIRED", true)],
    );
    if let (Some(node), Some(true)) = (fields.optional("presence"), required) {
        let message = "Istio's control plane does not look at `presence`";
        let label = "an AuthorizationPolicy requires tokens";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(&node.span, label));
    }
    let mut from_headers = Vec::new();
    for item in fields.list("fromHeaders") {
        let mut inner = Fields::of(item, "a header location", fields.diagnostics)?;
        let name = required_named(&mut inner, "name")?;
        let prefix = inner.text("prefix").unwrap_or_default();
        inner.finish();
        check_filled(item, &name.text, "a header has a name", fields.diagnostics);
        from_headers.push((name.text.to_ascii_lowercase().into(), prefix.into()));
    }
    let mut claim_to_headers = Vec::new();
    for item in fields.list("outputClaimToHeaders") {
        let mut inner = Fields::of(item, "a claim's header", fields.diagnostics)?;
        let header = inner.text("header").unwrap_or_default();
        let claim = inner.text("claim").unwrap_or_default();
        inner.finish();
        let strict = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if header.is_empty() || claim.is_empty() || !header.bytes().all(strict) {
            let want = "a claim and the name of a header, of letters, digits, `-` and `_`";
            fields.diagnostics.push(expected(item, want));
        }
        claim_to_headers.push((header.to_ascii_lowercase().into(), claim.into()));
    }
    let payload = fields.text("outputPayloadToHeader");
    let payload = payload.filter(|name| !name.is_empty());
    let mut space_delimited = filled_texts(&mut fields, "spaceDelimitedClaims");
    for always in ["permission", "scope"] {
        if !space_delimited.iter().any(|name| **name == *always) {
            space_delimited.push(always.into());
        }
    }
    let provider = JwtProvider {
        issuer: issuer.into(),
        audiences: filled_texts(&mut fields, "audiences"),
        from_headers,
        from_params: filled_texts(&mut fields, "fromParams"),
        from_cookies: filled_texts(&mut fields, "fromCookies"),
        forward: fields.boolean("forwardOriginalToken").unwrap_or(false),
        forward_payload_header: payload.map(|name| name.to_ascii_lowercase().into()),
        claim_to_headers,
        space_delimited_claims: space_delimited,
        origin: None,
    };
    fields.finish();
    Some(provider)
}

fn check_filled(node: &Node, text: &str, want: &str, diagnostics: &mut Vec<Diagnostic>) {
    if text.is_empty() {
        diagnostics.push(expected(node, want));
    }
}

fn filled_texts(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<Name> {
    let mut texts = Vec::new();
    for item in fields.list(key) {
        if let Some(Named { text, .. }) = named_node(item, key, fields.diagnostics) {
            let want = format!("an item of `{key}` is not empty");
            check_filled(item, &text, &want, fields.diagnostics);
            texts.push(text);
        }
    }
    texts
}

fn is_jwks_uri(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, port)) if !authority.ends_with(']') => {
            port.is_empty() || port.parse::<u32>().is_ok()
        }
        _ => true,
    }
}

/// A key, or a set of keys, as JSON (RFC 7517).
fn check_keys(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let text = node.as_scalar().unwrap_or_default();
    if text.is_empty() {
        return;
    }
    let keys: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let all = match &keys {
        Some(keys) => match keys.get("keys").and_then(serde_json::Value::as_array) {
            Some(several) => several.iter().collect(),
            None => vec![keys],
        },
        None => Vec::new(),
    };
    let typed = |key: &&serde_json::Value| key.get("kty").is_some_and(|kty| kty.is_string());
    if keys.is_none() || !all.iter().all(typed) {
        diagnostics.push(expected(node, "`jwks` is a JSON Web Key Set"));
    }
    let private = |key: &serde_json::Value| key.get("d").is_some() || key["kty"] == "oct";
    if all.into_iter().any(private) {
        diagnostics.push(
            schema_warning("`jwks` holds a private key")
                .at(&node.span, "public keys are all that is used"),
        );
    }
}
