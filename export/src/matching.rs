//! Matchers of strings, headers and query parameters.

use crate::Message;
use proxy_core::xds::{HeaderMatch, QueryMatch, StringMatch, ValueMatch};
use serde_json::{Value, json};

/// `envoy.type.matcher.v3.StringMatcher`.
pub(crate) fn string(matcher: &StringMatch) -> Value {
    match matcher {
        StringMatch::Exact(text) => json!({ "exact": **text }),
        StringMatch::Prefix(text) => json!({ "prefix": **text }),
        StringMatch::Suffix(text) => json!({ "suffix": **text }),
        StringMatch::Contains(text) => json!({ "contains": **text }),
        StringMatch::Regex(regex) => json!({ "safe_regex": { "regex": regex.source() } }),
    }
}

fn value(matcher: &ValueMatch, message: &mut Message) {
    match matcher {
        ValueMatch::Present(present) => message.set("present_match", *present),
        ValueMatch::String(matcher) => message.set("string_match", string(matcher)),
    }
}

/// `envoy.config.route.v3.HeaderMatcher`.
pub(crate) fn header(matcher: &HeaderMatch) -> Value {
    let mut message = Message::default();
    message.set("name", &*matcher.name);
    value(&matcher.value, &mut message);
    message.set_flag("invert_match", matcher.invert);
    message.set_flag(
        "treat_missing_header_as_empty",
        matcher.treat_missing_as_empty,
    );
    message.into()
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
pub(crate) fn query(matcher: &QueryMatch) -> Value {
    let mut message = Message::default();
    message.set("name", &*matcher.name);
    value(&matcher.value, &mut message);
    message.into()
}
