//! How long a request may take (Envoy `FilterUtility::finalTimeout`), in whole milliseconds.

use crate::head::RequestHead;
use crate::time::Nanos;
use crate::xds::Forward;
use serde::{Deserialize, Serialize};

/// The timeouts of one request; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    pub route: Option<Nanos>,
    /// Shorter than the route's.
    pub per_try: Option<Nanos>,
    /// Attempts have the route's time, whatever the per-try timeout.
    hedged: bool,
    /// `grpc-timeout` is kept in step.
    tells_grpc: bool,
}

impl Timeouts {
    pub(crate) fn of(forward: &Forward, head: &RequestHead, grpc: bool) -> Timeouts {
        let limit = |timeout: Option<Nanos>| timeout.filter(|&timeout| timeout != Nanos::ZERO);
        let (route, tells_grpc) = match forward.max_grpc_timeout {
            Some(max) if grpc => {
                let asked = limit(head.headers.get("grpc-timeout").and_then(grpc_timeout));
                let route = match (asked, limit(Some(max))) {
                    (Some(asked), Some(max)) => Some(asked.min(max)),
                    (asked, max) => asked.or(max),
                };
                (route, true)
            }
            _ => (limit(forward.timeout), false),
        };
        let per_try = forward
            .retry
            .as_ref()
            .and_then(|retry| retry.per_try_timeout);
        Timeouts {
            route,
            per_try: limit(per_try).filter(|&per_try| route.is_none_or(|route| per_try < route)),
            hedged: forward.hedge_on_per_try_timeout,
            tells_grpc,
        }
    }

    /// The `grpc-timeout` of an attempt with such an expected timeout, in milliseconds; 0: left as it
    /// is.
    pub(crate) fn grpc_ms(&self, expected_ms: u64) -> u64 {
        if self.tells_grpc { expected_ms } else { 0 }
    }

    /// What an attempt begun `elapsed` after the end of the request is told
    /// (`x-envoy-expected-rq-timeout-ms`), in milliseconds; 0: nothing.
    pub(crate) fn expected_ms(&self, elapsed: Nanos) -> u64 {
        let route = self.route.map_or(0, Nanos::as_millis);
        let per_try = self.per_try.map_or(0, Nanos::as_millis);
        let expected = if self.hedged || per_try == 0 {
            route
        } else {
            per_try
        };
        if expected == 0 || route == 0 {
            return expected;
        }
        // Out of time; but 0 would say that there is no limit.
        route
            .checked_sub(elapsed.as_millis())
            .filter(|&left| left > 0)
            .map_or(1, |left| expected.min(left))
    }
}

/// `grpc-timeout`: up to eight digits and a unit, rounded up to milliseconds.
fn grpc_timeout(value: &[u8]) -> Option<Nanos> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let millis = match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Nanos::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts() {
        for (text, millis) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3_000)),
            ("300m", Some(300)),
            ("1u", Some(1)),
            ("1000001n", Some(2)),
            ("0m", Some(0)),
            ("123456789m", None),
            ("-1m", None),
            ("m", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(
                grpc_timeout(text.as_bytes()),
                millis.map(Nanos::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn upstream_is_told_what_is_left() {
        let ms = Nanos::from_millis;
        let timeouts = |route: Option<u64>, per_try: Option<u64>, hedged| Timeouts {
            route: route.map(ms),
            per_try: per_try.map(ms),
            hedged,
            tells_grpc: false,
        };
        for (timeouts, elapsed, want) in [
            (timeouts(None, None, false), 0, 0),
            (timeouts(None, Some(10), false), 99, 10),
            (timeouts(Some(100), None, false), 0, 100),
            (timeouts(Some(100), None, false), 30, 70),
            (timeouts(Some(100), Some(10), false), 30, 10),
            (timeouts(Some(100), Some(10), false), 95, 5),
            (timeouts(Some(100), Some(10), true), 30, 70),
            (timeouts(Some(100), None, false), 100, 1),
        ] {
            assert_eq!(
                timeouts.expected_ms(ms(elapsed)),
                want,
                "{timeouts:?} {elapsed}"
            );
        }
    }
}
