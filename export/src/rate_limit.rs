//! Local rate limits, and what makes their descriptors.

use crate::route::header_value;
use crate::{Message, duration, fractional_percent, matching, typed};
use proxy_core::xds::{
    LocalRateLimit, RateLimitAction, RateLimitActions, RateLimitDescriptor, TokenBucket,
};
use serde_json::{Value, json};

pub(crate) const LOCAL_RATE_LIMIT: &str = "envoy.filters.http.local_ratelimit";

/// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.
pub(crate) fn local_rate_limit(limit: &LocalRateLimit) -> Value {
    let mut message = Message::default();
    message.set("stat_prefix", "local_rate_limit");
    if limit.status != 429 {
        message.set("status", json!({ "code": limit.status }));
    }
    message.set_some("token_bucket", limit.bucket.map(token_bucket));
    for (name, share) in [
        ("filter_enabled", limit.enabled),
        ("filter_enforced", limit.enforced),
    ] {
        message.set(name, json!({ "default_value": fractional_percent(share) }));
    }
    message.set_flag(
        "local_rate_limit_per_downstream_connection",
        limit.per_connection,
    );
    message.set_flag(
        "rate_limited_as_resource_exhausted",
        limit.resource_exhausted,
    );
    let headers = limit.response_headers.add.iter().map(header_value);
    message.set_list("response_headers_to_add", headers);
    if limit.x_ratelimit_headers {
        message.set("enable_x_ratelimit_headers", "DRAFT_VERSION_03");
    }
    message.set_list("descriptors", limit.descriptors.iter().map(descriptor));
    message.set_list("rate_limits", rate_limits(&limit.rate_limits));
    if !limit.always_consume_default_bucket {
        message.set("always_consume_default_token_bucket", false);
    }
    typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        message.into(),
    )
}

fn token_bucket(bucket: TokenBucket) -> Value {
    json!({
        "max_tokens": bucket.max_tokens,
        "tokens_per_fill": bucket.tokens_per_fill,
        "fill_interval": duration(bucket.fill_interval),
    })
}

fn descriptor(descriptor: &RateLimitDescriptor) -> Value {
    let entries = descriptor.entries.iter();
    let entries: Vec<Value> = entries
        .map(|(key, value)| json!({ "key": **key, "value": **value }))
        .collect();
    json!({ "entries": entries, "token_bucket": token_bucket(descriptor.bucket) })
}

/// `envoy.config.route.v3.RateLimit`, of each.
pub(crate) fn rate_limits(all: &[RateLimitActions]) -> impl Iterator<Item = Value> {
    all.iter().map(|actions| {
        let actions: Vec<Value> = actions.iter().map(action).collect();
        json!({ "actions": actions })
    })
}

fn action(action: &RateLimitAction) -> Value {
    match action {
        RateLimitAction::RemoteAddress => json!({ "remote_address": {} }),
        RateLimitAction::RequestHeader {
            header,
            key,
            skip_if_absent,
        } => {
            let mut message = Message::default();
            message.set("header_name", &**header);
            message.set("descriptor_key", &**key);
            message.set_flag("skip_if_absent", *skip_if_absent);
            json!({ "request_headers": message.0 })
        }
        RateLimitAction::GenericKey { key, value } => {
            json!({ "generic_key": { "descriptor_key": **key, "descriptor_value": **value } })
        }
        RateLimitAction::HeaderValueMatch {
            key,
            value,
            headers,
            expect_match,
        } => {
            let headers: Vec<Value> = headers.iter().map(matching::header).collect();
            json!({ "header_value_match": {
                "descriptor_key": **key,
                "descriptor_value": **value,
                "expect_match": expect_match,
                "headers": headers,
            } })
        }
    }
}
