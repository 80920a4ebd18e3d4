//! When a try is repeated (Envoy `retry_state_impl.cc`).

use crate::head::{RequestHead, ResponseHead};
use crate::router::{request_header_matches, response_header_matches};
use crate::telemetry::UpstreamReset;
use crate::time::Nanos;
use crate::xds::{CircuitBreakers, RateLimitedBackOff, RetryOn, RetryPolicy};

/// Whether requests with this head are tried again at all.
pub(crate) fn retries_request(policy: &RetryPolicy, head: &RequestHead) -> bool {
    let headers = &policy.retriable_request_headers;
    headers.is_empty()
        || headers
            .iter()
            .any(|matcher| request_header_matches(matcher, head))
}

/// Whether a response that has not been forwarded yet should be tried again.
pub(crate) fn retries_response(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let on = policy.retry_on;
    // A rate-limited response is repeated only by the `envoy-ratelimited` condition.
    if head.headers.get("x-envoy-ratelimited").is_some() {
        return on.any(RetryOn::ENVOY_RATE_LIMITED);
    }
    let status = head.status;
    let by_status = (on.any(RetryOn::FIVE_XX) && (500..600).contains(&status))
        || (on.any(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
        || (on.any(RetryOn::RETRIABLE_4XX) && status == 409)
        || (on.any(RetryOn::RETRIABLE_STATUS_CODES)
            && policy.retriable_status_codes.contains(&status))
        || (on.any(RetryOn::RETRIABLE_HEADERS)
            && policy
                .retriable_headers
                .iter()
                .any(|matcher| response_header_matches(matcher, head)));
    by_status
        || head
            .headers
            .get("grpc-status")
            .is_some_and(|code| retries_grpc(on, code))
}

fn retries_grpc(on: RetryOn, code: &[u8]) -> bool {
    let condition = match code {
        b"1" => RetryOn::GRPC_CANCELLED,
        b"4" => RetryOn::GRPC_DEADLINE_EXCEEDED,
        b"8" => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        b"13" => RetryOn::GRPC_INTERNAL,
        b"14" => RetryOn::GRPC_UNAVAILABLE,
        _ => return false,
    };
    on.any(condition)
}

/// Whether a reset should be tried again. `request_sent`: some try of the exchange sent bytes
/// upstream.
pub(crate) fn retries_reset(
    policy: &RetryPolicy,
    reset: UpstreamReset,
    request_sent: bool,
) -> bool {
    let on = policy.retry_on;
    let connect_failure = matches!(
        reset,
        UpstreamReset::RemoteConnectionFailure
            | UpstreamReset::LocalConnectionFailure
            | UpstreamReset::ConnectionTimeout
    );
    if reset == UpstreamReset::Overflow {
        return false;
    }
    on.any(RetryOn::FIVE_XX | RetryOn::GATEWAY_ERROR | RetryOn::RESET)
        || (on.any(RetryOn::RESET_BEFORE_REQUEST) && !request_sent)
        || (on.any(RetryOn::CONNECT_FAILURE) && connect_failure)
        || (on.any(RetryOn::REFUSED_STREAM) && reset == UpstreamReset::RemoteRefusedStreamReset)
}

/// How long to wait before retry number `retry` (from 0): a whole number of milliseconds below an
/// interval that doubles from the base up to the maximum.
pub(crate) fn back_off(policy: &RetryPolicy, retry: u32, draw: u64) -> Nanos {
    let base = policy.back_off_base.as_millis().max(1);
    let max = policy.back_off_max.as_millis().max(base);
    let interval = base
        .saturating_mul(1u64.checked_shl(retry).unwrap_or(u64::MAX))
        .min(max);
    Nanos::from_millis(draw % interval)
}

/// What a rate-limited response says about when to come back: between one and one and a half times
/// the interval in the first of the headers that names a believable one. `now` counts from 1970.
pub(crate) fn rate_limited_back_off(
    back_off: &RateLimitedBackOff,
    head: &ResponseHead,
    now: Nanos,
    draw: u64,
) -> Option<Nanos> {
    let interval = back_off.reset_headers.iter().find_map(|header| {
        let text = std::str::from_utf8(head.headers.get(&header.name)?).ok()?;
        let mut seconds: u64 = text.trim().parse().ok()?;
        if header.unix_timestamp {
            seconds = seconds.checked_sub(now.as_millis() / 1000)?;
        }
        let interval = Nanos::from_secs(seconds);
        (interval > Nanos::from_millis(1) && interval <= back_off.max_interval).then_some(interval)
    })?;
    Some(interval + Nanos::from_millis(draw % (interval.as_millis() / 2)))
}

/// How many retries may be under way at once while `requests` are.
pub(crate) fn concurrency_limit(limits: &CircuitBreakers, requests: u32) -> u32 {
    match &limits.retry_budget {
        None => limits.max_retries,
        Some(budget) => {
            let share = budget.budget_percent * f64::from(requests) / 100.0;
            (share as u32).max(budget.min_retry_concurrency)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::{HeaderMatch, ResetHeader, RetryBudget, ValueMatch};

    fn policy(tokens: &str) -> RetryPolicy {
        let tokens = tokens.split(',').filter_map(RetryOn::from_token);
        RetryPolicy {
            retriable_status_codes: vec![418],
            ..RetryPolicy::on(tokens.fold(RetryOn::default(), |a, b| a | b), 1)
        }
    }

    /// Rows of Envoy's `retry_on` table.
    #[test]
    fn conditions() {
        use UpstreamReset::*;
        for (token, statuses, resets, resets_unsent) in [
            (
                "5xx",
                &[500, 502, 503, 504, 599][..],
                &[ConnectionTermination, LocalReset, RemoteConnectionFailure][..],
                &[][..],
            ),
            (
                "gateway-error",
                &[502, 503, 504],
                &[ConnectionTermination, RemoteReset, ConnectionTimeout],
                &[],
            ),
            (
                "reset",
                &[],
                &[ConnectionTermination, ProtocolError, LocalConnectionFailure],
                &[],
            ),
            (
                "reset-before-request",
                &[],
                &[],
                &[ConnectionTermination, RemoteConnectionFailure],
            ),
            (
                "connect-failure",
                &[],
                &[
                    RemoteConnectionFailure,
                    LocalConnectionFailure,
                    ConnectionTimeout,
                ],
                &[],
            ),
            ("refused-stream", &[], &[RemoteRefusedStreamReset], &[]),
            ("retriable-4xx", &[409], &[], &[]),
            ("retriable-status-codes", &[418], &[], &[]),
            ("nonsense", &[], &[], &[]),
        ] {
            let policy = policy(token);
            for status in [200, 409, 418, 429, 500, 502, 503, 504, 599] {
                let head = ResponseHead::of_status(status);
                assert_eq!(
                    retries_response(&policy, &head),
                    statuses.contains(&status),
                    "{token} {status}"
                );
            }
            for reset in [
                RemoteConnectionFailure,
                LocalConnectionFailure,
                ConnectionTimeout,
                ConnectionTermination,
                RemoteReset,
                RemoteRefusedStreamReset,
                LocalReset,
                ProtocolError,
            ] {
                let any = matches!(token, "5xx" | "gateway-error" | "reset");
                let want = any || resets.contains(&reset);
                assert_eq!(
                    retries_reset(&policy, reset, true),
                    want,
                    "{token} {reset:?}"
                );
                let unsent = want || !resets_unsent.is_empty();
                assert_eq!(
                    retries_reset(&policy, reset, false),
                    unsent,
                    "{token} {reset:?} unsent"
                );
            }
            assert!(
                !retries_reset(&policy, Overflow, false),
                "overflow is never repeated"
            );
        }
    }

    #[test]
    fn grpc_status_in_headers() {
        let mut head = ResponseHead::of_status(200);
        head.headers.append("grpc-status".into(), b"14");
        assert!(retries_response(&policy("unavailable"), &head));
        assert!(!retries_response(&policy("cancelled"), &head));
    }

    #[test]
    fn a_rate_limited_answer_is_a_matter_for_its_own_condition() {
        let mut head = ResponseHead::of_status(503);
        head.headers.append("x-envoy-ratelimited".into(), b"true");
        head.headers.append("retry-me".into(), b"1");
        let all = "5xx,gateway-error,retriable-status-codes,retriable-headers";
        let with_header = |tokens: &str| RetryPolicy {
            retriable_headers: vec![present("retry-me")],
            ..policy(tokens)
        };
        assert!(!retries_response(&with_header(all), &head));
        let limited = with_header("envoy-ratelimited");
        assert!(retries_response(&limited, &head));
        head.headers.remove("x-envoy-ratelimited");
        assert!(!retries_response(&limited, &head));
        assert!(retries_response(&with_header("retriable-headers"), &head));
    }

    fn present(name: &str) -> HeaderMatch {
        HeaderMatch {
            name: name.into(),
            value: ValueMatch::Present(true),
            invert: false,
            treat_missing_as_empty: false,
        }
    }

    #[test]
    fn reset_headers() {
        let back_off = RateLimitedBackOff {
            reset_headers: vec![
                ResetHeader {
                    name: "retry-after".into(),
                    unix_timestamp: false,
                },
                ResetHeader {
                    name: "x-reset".into(),
                    unix_timestamp: true,
                },
            ],
            max_interval: Nanos::from_secs(300),
        };
        let now = Nanos::from_millis(1_000_900);
        for (headers, want_ms) in [
            (&[("retry-after", "2")][..], Some(2_000)),
            (&[("retry-after", "0"), ("x-reset", "1004")], Some(4_000)),
            (&[("retry-after", "301"), ("x-reset", "1000")], None),
            (&[("retry-after", "300")], Some(300_000)),
            (&[("retry-after", "soon"), ("x-reset", "999")], None),
            (&[], None),
        ] {
            let mut head = ResponseHead::of_status(429);
            for (name, value) in headers {
                head.headers.append((*name).into(), value.as_bytes());
            }
            let wait = |draw| rate_limited_back_off(&back_off, &head, now, draw);
            assert_eq!(wait(0), want_ms.map(Nanos::from_millis), "{headers:?}");
            if let Some(ms) = want_ms {
                assert_eq!(wait(ms / 2 - 1), Some(Nanos::from_millis(ms + ms / 2 - 1)));
                assert_eq!(wait(ms / 2), wait(0));
            }
        }
    }

    #[test]
    fn budgets_replace_the_limit() {
        let with = |budget_percent| CircuitBreakers {
            max_retries: 1,
            retry_budget: Some(RetryBudget {
                budget_percent,
                min_retry_concurrency: 3,
            }),
            ..CircuitBreakers::UNLIMITED
        };
        for (percent, requests, want) in [
            (20.0, 0, 3),
            (20.0, 19, 3),
            (20.0, 20, 4),
            (20.0, 24, 4),
            (12.5, 48, 6),
            (0.0, 1000, 3),
        ] {
            let limit = concurrency_limit(&with(percent), requests);
            assert_eq!(limit, want, "{percent} {requests}");
        }
    }

    #[test]
    fn back_off_is_below_a_doubling_interval() {
        let policy = policy("5xx");
        for (retry, interval) in [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (40, 250)] {
            assert_eq!(
                back_off(&policy, retry, interval - 1),
                Nanos::from_millis(interval - 1)
            );
            assert_eq!(back_off(&policy, retry, interval), Nanos::ZERO);
        }
    }
}
