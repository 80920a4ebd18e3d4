//! Real time, told as a scenario tells it: nanoseconds since its start.

use proxy_core::time::Nanos;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The runtime's timers go off at the first whole millisecond that is not too early; asked this much
/// too early they are right on average.
const HALF_A_TICK: Nanos = Nanos(500_000);

/// A clock that all parts of a rehearsal share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// The scenario starts `after` from now.
    pub(super) fn starting_in(after: Duration) -> Clock {
        Clock {
            start: Instant::now() + after,
        }
    }

    /// Zero before the start.
    pub(super) fn now(self) -> Nanos {
        Nanos(self.start.elapsed().as_nanos() as u64)
    }

    /// Waits until `at`, to half a millisecond.
    pub(super) async fn wait_until(self, at: Nanos) {
        let at = Nanos(at.0.saturating_sub(HALF_A_TICK.0));
        sleep_until(self.start + Duration::from_nanos(at.0)).await;
    }
}
