//! What of a request makes the descriptors of rate limits (Envoy `config.route.v3.RateLimit`).

use super::local_rate_limit::{finish, leave_out, leave_out_where, leave_out_with};
use super::{named, refuse, regex};
use crate::names::escaped;
use proxy_core::xds::{
    HeaderMatch, Name, RateLimitAction, RateLimitActions, Regex, StringMatch, ValueMatch,
};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Header names are compared in lower case.
pub(super) fn header_name(name: &str) -> Name {
    name.to_ascii_lowercase().into()
}

/// The `rate_limits` of a route, virtual host or filter. `None` if something of it is left out.
pub(super) fn read_rate_limits(fields: &mut Fields<'_, '_>) -> Option<Vec<RateLimitActions>> {
    let mut all = Vec::new();
    for node in fields.list("rate_limits") {
        let mut inner = Fields::of(node, "a rate limit", fields.diagnostics)?;
        let unsupported = [
            "stage",
            "disable_key",
            "limit",
            "hits_addend",
            "apply_on_stream_done",
        ];
        if leave_out_with(&mut inner, &unsupported) {
            return None;
        }
        let nodes = inner.list("actions");
        if nodes.is_empty() {
            let message = "a rate limit has `actions`";
            refuse(
                inner.diagnostics,
                &node.span,
                message,
                "Envoy refuses one without",
            );
        }
        let mut actions = RateLimitActions::new();
        for node in nodes {
            actions.push(read_action(node, inner.diagnostics)?);
        }
        finish(inner);
        all.push(actions);
    }
    Some(all)
}

/// `None` if it is left out, which is said.
fn read_action(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RateLimitAction> {
    let entries = node.as_map().map_or(&[][..], |map| &map.entries);
    let [entry] = entries else {
        diagnostics.push(expected(
            node,
            "an action of a rate limit is a map of one key",
        ));
        return None;
    };
    let key_or = |fields: &mut Fields<'_, '_>, default: &str| -> Name {
        let key = fields.text("descriptor_key").filter(|key| !key.is_empty());
        key.map_or_else(|| default.into(), Name::from)
    };
    match entry.key.as_str() {
        "remote_address" => Some(RateLimitAction::RemoteAddress),
        "request_headers" => {
            let mut fields = Fields::of(&entry.value, "`request_headers`", diagnostics)?;
            let header = fields.required_text("header_name")?;
            let key = fields.required_text("descriptor_key")?;
            let skip_if_absent = fields.boolean("skip_if_absent").unwrap_or(false);
            finish(fields);
            Some(RateLimitAction::RequestHeader {
                header: header_name(&header),
                key: key.into(),
                skip_if_absent,
            })
        }
        "generic_key" => {
            let mut fields = Fields::of(&entry.value, "`generic_key`", diagnostics)?;
            let key = key_or(&mut fields, "generic_key");
            let value = fields.required_text("descriptor_value")?;
            finish(fields);
            Some(RateLimitAction::GenericKey {
                key,
                value: value.into(),
            })
        }
        "header_value_match" => {
            let mut fields = Fields::of(&entry.value, "`header_value_match`", diagnostics)?;
            let key = key_or(&mut fields, "header_match");
            let value = fields.required_text("descriptor_value")?;
            let expect_match = fields.boolean("expect_match").unwrap_or(true);
            let nodes = fields.list("headers");
            if nodes.is_empty() {
                let message = "`header_value_match` has `headers`";
                refuse(
                    fields.diagnostics,
                    &entry.value.span,
                    message,
                    "Envoy refuses one without",
                );
            }
            let mut headers = Vec::new();
            for node in nodes {
                headers.push(read_header(node, fields.diagnostics)?);
            }
            finish(fields);
            Some(RateLimitAction::HeaderValueMatch {
                key,
                value: value.into(),
                headers,
                expect_match,
            })
        }
        other => {
            leave_out(
                node,
                &format!("the action `{other}` of a rate limit"),
                diagnostics,
            );
            None
        }
    }
}

/// Envoy `HeaderMatcher`.
fn read_header(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HeaderMatch> {
    let mut fields = Fields::of(node, "a header match", diagnostics)?;
    let name = fields.required_text("name")?;
    let older = [
        "exact_match",
        "prefix_match",
        "suffix_match",
        "contains_match",
        "safe_regex_match",
        "range_match",
    ];
    if leave_out_where(&mut fields, &older, |_| true) {
        return None;
    }
    let present = fields.boolean("present_match");
    let value = match fields.optional("string_match") {
        Some(node) => ValueMatch::String(read_string(node, fields.diagnostics)?),
        None => ValueMatch::Present(present.unwrap_or(true)),
    };
    let invert = fields.boolean("invert_match").unwrap_or(false);
    let treat_missing_as_empty = fields.boolean("treat_missing_header_as_empty");
    finish(fields);
    Some(HeaderMatch {
        name: header_name(&name),
        value,
        invert,
        treat_missing_as_empty: treat_missing_as_empty.unwrap_or(false),
    })
}

/// Envoy `StringMatcher`.
fn read_string(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<StringMatch> {
    let mut fields = Fields::of(node, "a string match", diagnostics)?;
    let ignore_case = fields.boolean("ignore_case").unwrap_or(false);
    let [exact, prefix, suffix, contains] =
        ["exact", "prefix", "suffix", "contains"].map(|key| named(&mut fields, key));
    let expression = fields
        .optional("safe_regex")
        .and_then(|node| node.at(&["regex"]));
    let texts = [
        exact.map(|text| (StringMatch::Exact as fn(Name) -> StringMatch, "", text, "")),
        prefix.map(|text| {
            (
                StringMatch::Prefix as fn(Name) -> StringMatch,
                "",
                text,
                ".*",
            )
        }),
        suffix.map(|text| {
            (
                StringMatch::Suffix as fn(Name) -> StringMatch,
                ".*",
                text,
                "",
            )
        }),
        contains.map(|text| {
            (
                StringMatch::Contains as fn(Name) -> StringMatch,
                ".*",
                text,
                ".*",
            )
        }),
    ];
    let text = texts.into_iter().flatten().next();
    let found = match (text, expression) {
        (Some((_, before, text, after)), _) if ignore_case => {
            let pattern = format!("(?i){before}{}{after}", escaped(&text.text));
            Regex::new(&pattern).ok().map(StringMatch::Regex)
        }
        (Some((plain, _, text, _)), _) => Some(plain(text.text)),
        (None, Some(node)) => regex(node, fields.diagnostics).map(StringMatch::Regex),
        (None, None) => {
            let want = "one of `exact`, `prefix`, `suffix`, `contains`, `safe_regex`";
            fields.diagnostics.push(expected(node, want));
            None
        }
    };
    finish(fields);
    found
}
