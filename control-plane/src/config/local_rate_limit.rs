//! Envoy's local rate limit, as EnvoyFilters write it.

use super::rate_limit_actions::{header_name, read_rate_limits};
use super::{choice, parse_duration, refuse, schema_warning, written};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Fraction, HeaderMutations, HeaderValue, LocalRateLimit, RateLimitDescriptor, TokenBucket,
};
use source::fields::expected;
use source::{Diagnostic, Fields, Level, Map, Node, Value};
use std::sync::Arc;

/// The name of the filter, by which routes configure it.
pub(super) const LOCAL_RATE_LIMIT: &str = "envoy.filters.http.local_ratelimit";
const TYPE_PREFIX: &str = "type.googleapis.com/";
const TYPE: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// A type without the prefix of its URL.
fn type_of<'n>(node: &'n Node, key: &str) -> &'n str {
    let url = node.at(&[key]).map_or("", written);
    url.strip_prefix(TYPE_PREFIX).unwrap_or(url)
}

/// The type of an extension's configuration, and the configuration.
pub(super) fn extension(node: &Node) -> (&str, Option<&Node>) {
    match type_of(node, "@type") {
        of_struct if STRUCTS.contains(&of_struct) => {
            (type_of(node, "type_url"), node.at(&["value"]))
        }
        own => (own, Some(node)),
    }
}

pub(super) fn is_local_rate_limit(node: &Node) -> bool {
    extension(node).0 == TYPE
}

/// Messages may have their keys in either of two spellings: `max_tokens`, `maxTokens`.
pub(super) fn in_snake_case(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(map) => Value::Map(Map {
            entries: map
                .entries
                .iter()
                .map(|entry| {
                    let mut entry = entry.clone();
                    let snake = snake_case(&entry.key);
                    // Of both spellings, one has to be refused.
                    if !entry.key.contains(['.', '@']) && map.get(&snake).is_none() {
                        entry.key = snake;
                    }
                    entry.value = in_snake_case(&entry.value);
                    entry
                })
                .collect(),
        }),
        Value::Seq(items) => Value::Seq(items.iter().map(in_snake_case).collect()),
        other => other.clone(),
    };
    Node {
        value,
        span: node.span.clone(),
    }
}

fn snake_case(key: &str) -> String {
    let mut snake = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Says that something of Envoy's is not modelled, so that the patch with it is left out.
pub(super) fn leave_out(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) {
    let message = format!("{what} is not supported yet");
    let label = "the patch is left out: requests are treated as if it were not there";
    diagnostics.push(Diagnostic::warning(message).at(&node.span, label));
}

/// Whether a value is what is so without it, in a field of which it does not matter that it is there.
fn is_default(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::String(text) => text.is_empty(),
        Value::Seq(items) => items.is_empty(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Map(_) => false,
    }
}

/// Leaves out what has one of `keys`, unless with what is so without it.
pub(super) fn leave_out_with(fields: &mut Fields<'_, '_>, keys: &[&'static str]) -> bool {
    leave_out_where(fields, keys, |node| !is_default(node))
}

/// Leaves out what has one of `keys` with such a value.
pub(super) fn leave_out_where(
    fields: &mut Fields<'_, '_>,
    keys: &[&'static str],
    such: fn(&Node) -> bool,
) -> bool {
    let before = fields.diagnostics.len();
    for key in keys {
        if let Some(node) = fields.optional(key).filter(|node| such(node)) {
            leave_out(
                node,
                &format!("`{key}` of a local rate limit"),
                fields.diagnostics,
            );
        }
    }
    fields.diagnostics.len() > before
}

/// Keys that Envoy does not have are passed over, by Istio too.
pub(super) fn finish(mut fields: Fields<'_, '_>) {
    for entry in fields.rest() {
        let message = format!("Envoy knows no `{}` here", entry.key);
        let warning = schema_warning(message).at(&entry.key_span, "passed over");
        fields.diagnostics.push(warning);
    }
}

/// Reads a configuration whose keys are in snake case. `None` if it is left out, which is said, or has
/// an error.
pub(super) fn read(
    node: &Node,
    of_route: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<LocalRateLimit>> {
    let mut fields = Fields::of(node, "a local rate limit", diagnostics)?;
    fields.ignore(&["@type", "max_dynamic_descriptors"]);
    if fields
        .text("stat_prefix")
        .is_none_or(|prefix| prefix.is_empty())
    {
        let message = "a local rate limit has a `stat_prefix`";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "Envoy refuses it without",
        );
    }
    let bucket = fields.optional("token_bucket");
    if bucket.is_none() && of_route {
        let message = "a local rate limit of a route or virtual host has a `token_bucket`";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "Envoy refuses it without",
        );
    }
    let headers = read_headers(&mut fields);
    let descriptors = read_descriptors(&mut fields);
    let rate_limits = read_rate_limits(&mut fields);
    let unsupported = leave_out_with(
        &mut fields,
        &[
            "local_cluster_rate_limit",
            "request_headers_to_add_when_not_enforced",
            "stage",
        ],
    ) | leave_out_where(&mut fields, &["vh_rate_limits"], |node| {
        written(node) != "OVERRIDE"
    });
    let limit = LocalRateLimit {
        bucket: bucket.and_then(|bucket| token_bucket(bucket, fields.diagnostics)),
        enabled: fraction(&mut fields, "filter_enabled"),
        enforced: fraction(&mut fields, "filter_enforced"),
        per_connection: fields
            .boolean("local_rate_limit_per_downstream_connection")
            .unwrap_or(false),
        status: status(&mut fields),
        resource_exhausted: fields
            .boolean("rate_limited_as_resource_exhausted")
            .unwrap_or(false),
        response_headers: headers?,
        x_ratelimit_headers: choice(
            &mut fields,
            "enable_x_ratelimit_headers",
            &[("OFF", false), ("DRAFT_VERSION_03", true)],
        )
        .unwrap_or(false),
        descriptors: descriptors?,
        rate_limits: rate_limits?,
        always_consume_default_bucket: fields
            .boolean("always_consume_default_token_bucket")
            .unwrap_or(true),
    };
    finish(fields);
    (!unsupported).then(|| Arc::new(limit))
}

const SHORTEST_INTERVAL: Nanos = Nanos::from_millis(50);

fn token_bucket(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<TokenBucket> {
    let mut fields = Fields::of(node, "a token bucket", diagnostics)?;
    let whole = 0..=i64::from(u32::MAX);
    let number = |fields: &mut Fields<'_, '_>, key, range| {
        fields
            .integer(key, range)
            .and_then(|n| u32::try_from(n).ok())
    };
    let max_tokens = number(&mut fields, "max_tokens", whole).unwrap_or(0);
    let tokens_per_fill = number(&mut fields, "tokens_per_fill", 1..=i64::from(u32::MAX));
    let interval = fields.required("fill_interval")?;
    let seconds = interval.as_scalar().filter(|text| is_seconds(text));
    let Some(fill_interval) = seconds.and_then(parse_duration) else {
        let want = "`fill_interval` is a number of seconds such as `60s` or `0.5s`";
        fields.diagnostics.push(expected(interval, want));
        return None;
    };
    if fill_interval < SHORTEST_INTERVAL {
        let message = "`fill_interval` is 0.05s at least";
        refuse(
            fields.diagnostics,
            &interval.span,
            message,
            "Envoy refuses shorter ones",
        );
    }
    finish(fields);
    Some(TokenBucket {
        max_tokens,
        tokens_per_fill: tokens_per_fill.unwrap_or(1),
        // Envoy counts in milliseconds.
        fill_interval: Nanos::from_millis(fill_interval.0 / 1_000_000),
    })
}

/// As durations are written in Envoy's JSON.
fn is_seconds(text: &str) -> bool {
    let number = text.strip_suffix('s').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Envoy `RuntimeFractionalPercent`, of which no more than the default is known; nothing where it is
/// missing.
fn fraction(fields: &mut Fields<'_, '_>, key: &'static str) -> Fraction {
    let never = Fraction::ppm(0);
    let Some(node) = fields.optional(key) else {
        return never;
    };
    let Some(mut outer) = Fields::of(node, "a share of the requests", fields.diagnostics) else {
        return never;
    };
    outer.ignore(&["runtime_key"]);
    let share = outer.required("default_value");
    finish(outer);
    let share = share.and_then(|node| Fields::of(node, "a share", fields.diagnostics));
    let Some(mut share) = share else {
        return never;
    };
    let numerator = share.integer("numerator", 0..=i64::from(u32::MAX));
    let denominators = [
        ("HUNDRED", 100),
        ("TEN_THOUSAND", 10_000),
        ("MILLION", 1_000_000),
    ];
    let denominator = choice(&mut share, "denominator", &denominators).unwrap_or(100);
    finish(share);
    Fraction {
        numerator: numerator.map_or(0, |n| n as u32),
        denominator,
    }
}

/// What is no status of an error counts as 429.
fn status(fields: &mut Fields<'_, '_>) -> u16 {
    let node = fields.optional("status");
    let status = node.and_then(|node| Fields::of(node, "a status", fields.diagnostics));
    let code = status.and_then(|mut status| status.integer("code", 0..=599));
    code.map_or(429, |code| if code < 400 { 429 } else { code as u16 })
}

/// `None` if something of it is left out.
fn read_headers(fields: &mut Fields<'_, '_>) -> Option<HeaderMutations> {
    let mut mutations = HeaderMutations::default();
    for node in fields.list("response_headers_to_add") {
        let mut inner = Fields::of(node, "a header to add", fields.diagnostics)?;
        let append = inner.boolean("append").unwrap_or(true);
        let how = choice(
            &mut inner,
            "append_action",
            &[
                ("APPEND_IF_EXISTS_OR_ADD", Some(true)),
                ("OVERWRITE_IF_EXISTS_OR_ADD", Some(false)),
                ("ADD_IF_ABSENT", None),
                ("OVERWRITE_IF_EXISTS", None),
            ],
        );
        if how == Some(None) {
            leave_out(node, "such an `append_action`", inner.diagnostics);
            return None;
        }
        if leave_out_with(&mut inner, &["keep_empty_value"]) {
            return None;
        }
        let header = inner.required("header")?;
        finish(inner);
        let mut header = Fields::of(header, "a header", fields.diagnostics)?;
        let name = header.required_text("key")?;
        let value = header.text("value").unwrap_or_default();
        finish(header);
        mutations.add.push(HeaderValue {
            name: header_name(&name),
            value: value.into(),
            append: how.flatten().unwrap_or(append),
        });
    }
    Some(mutations)
}

/// `None` if something of it is left out.
fn read_descriptors(fields: &mut Fields<'_, '_>) -> Option<Vec<RateLimitDescriptor>> {
    let mut descriptors: Vec<RateLimitDescriptor> = Vec::new();
    for node in fields.list("descriptors") {
        let before = fields.diagnostics.len();
        let mut inner = Fields::of(node, "a descriptor", fields.diagnostics)?;
        let mut entries = Vec::new();
        for node in inner.list("entries") {
            let mut entry = Fields::of(node, "an entry of a descriptor", inner.diagnostics)?;
            let key = entry.required_text("key")?;
            let value = entry.text("value").unwrap_or_default();
            finish(entry);
            if value.is_empty() {
                leave_out(
                    node,
                    "an entry that stands for every value",
                    inner.diagnostics,
                );
                return None;
            }
            entries.push((key.into(), value.into()));
        }
        if entries.is_empty() {
            let message = "a descriptor has `entries`";
            refuse(
                inner.diagnostics,
                &node.span,
                message,
                "Envoy refuses one without",
            );
        }
        let bucket = inner.required("token_bucket");
        let bucket = bucket.and_then(|bucket| token_bucket(bucket, inner.diagnostics));
        finish(inner);
        if descriptors.iter().any(|other| other.entries == entries) {
            let message = "a descriptor is there twice";
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                "Envoy refuses that",
            );
        }
        let said = fields.diagnostics[before..].iter();
        if said.clone().any(|said| said.level == Level::Error) {
            return None;
        }
        descriptors.push(RateLimitDescriptor {
            entries,
            bucket: bucket?,
        });
    }
    Some(descriptors)
}
