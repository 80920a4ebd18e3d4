//! When a try is repeated (Envoy `retry_state_impl.cc`).

use crate::head::ResponseHead;
use crate::telemetry::UpstreamReset;
use crate::time::Nanos;
use crate::xds::{RetryOn, RetryPolicy};

/// Whether a response that has not been forwarded yet should be tried again.
pub(crate) fn retries_response(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let on = policy.retry_on;
    // A rate-limited response is repeated only by the `envoy-ratelimited` condition.
    if head.headers.get("x-envoy-ratelimited").is_some() {
        return false;
    }
    let status = head.status;
    let by_status = (on.any(RetryOn::FIVE_XX) && (500..600).contains(&status))
        || (on.any(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
        || (on.any(RetryOn::RETRIABLE_4XX) && status == 409)
        || (on.any(RetryOn::RETRIABLE_STATUS_CODES)
            && policy.retriable_status_codes.contains(&status));
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

#[cfg(test)]
mod tests {
    use super::*;

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
