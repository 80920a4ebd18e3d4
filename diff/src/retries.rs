//! What a retry policy does, as settings that can be compared.

use crate::labels::{json, string_match};
use crate::report::Kind;
use crate::settings::{Settings, limit, span};
use proxy_core::xds::{HeaderMatch, RetryPolicy, ValueMatch};
use std::collections::BTreeSet;

pub(crate) fn of_retries(retry: &RetryPolicy, settings: &mut Settings) {
    let RetryPolicy {
        retry_on,
        num_retries,
        retriable_status_codes,
        retriable_headers,
        retriable_request_headers,
        per_try_timeout,
        per_try_idle_timeout,
        avoid_previous_hosts,
        host_selection_retry_max_attempts,
        back_off_base,
        back_off_max,
        rate_limited_back_off,
        previous_priorities_update_frequency,
    } = retry;
    let mut set = |name: &str, value: String| settings.set(Kind::Retries, name, value);
    set("retries.attempts", num_retries.to_string());
    let codes: BTreeSet<&u16> = retriable_status_codes.iter().collect();
    let codes = codes.into_iter().map(u16::to_string);
    let conditions: Vec<String> = retry_on.tokens().map(str::to_owned).chain(codes).collect();
    set("retries.retryOn", conditions.join(","));
    for (name, time) in [
        ("retries.perTryTimeout", per_try_timeout),
        ("retries.perTryIdleTimeout", per_try_idle_timeout),
    ] {
        if let Some(time) = limit(*time) {
            set(name, time);
        }
    }
    if !avoid_previous_hosts {
        set("retries.retryIgnorePreviousHosts", "false".to_owned());
    } else if *host_selection_retry_max_attempts != 5 {
        set(
            "retries.hostSelectionAttempts",
            host_selection_retry_max_attempts.to_string(),
        );
    }
    let (base, max) = (span(*back_off_base), span(*back_off_max));
    set("retries.backoff", format!("{base} to {max}"));
    if let Some(limited) = rate_limited_back_off {
        set("retries.rateLimitedBackoff", json(limited));
    }
    if previous_priorities_update_frequency.is_some() {
        set("retries.retryRemoteLocalities", "true".to_owned());
    }
    for (name, headers) in [
        ("retries.retriableHeaders", retriable_headers),
        ("retries.retriableRequestHeaders", retriable_request_headers),
    ] {
        if !headers.is_empty() {
            set(name, header_conditions(headers));
        }
    }
}

fn header_conditions(headers: &[HeaderMatch]) -> String {
    let each = headers.iter().map(|header| {
        let not = if header.invert { "not " } else { "" };
        match &header.value {
            ValueMatch::Present(true) => format!("{not}{}", header.name),
            ValueMatch::Present(false) => format!("{not}without {}", header.name),
            ValueMatch::String(matcher) => {
                format!("{not}{}: {}", header.name, string_match(matcher))
            }
        }
    });
    each.collect::<Vec<_>>().join(", ")
}
