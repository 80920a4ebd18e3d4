//! Peak EWMA, as Finagle, tower and Linkerd do it: the estimate jumps to a worse latency at once
//! and decays towards a better one; a host's load is the estimate times what it has in flight.

use crate::time::Nanos;

/// The latency estimate of one host, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PeakEwma {
    estimate_ns: f64,
    updated_at: Nanos,
}

impl PeakEwma {
    pub(crate) fn new(default_rtt: Nanos, now: Nanos) -> PeakEwma {
        PeakEwma {
            estimate_ns: default_rtt.0 as f64,
            updated_at: now,
        }
    }

    /// Takes in the latency of a finished request.
    pub(crate) fn observe(&mut self, now: Nanos, rtt: Nanos, decay: Nanos) {
        let rtt_ns = rtt.0 as f64;
        if self.estimate_ns < rtt_ns {
            self.estimate_ns = rtt_ns;
        } else {
            let elapsed_ns = (now - self.updated_at).0 as f64;
            let kept = libm::exp(-elapsed_ns / decay.0 as f64);
            self.estimate_ns = self.estimate_ns * kept + rtt_ns * (1.0 - kept);
        }
        self.updated_at = now;
    }

    /// The estimate decayed towards zero since it was last updated, times the requests in flight,
    /// this one included.
    pub(crate) fn load(&self, now: Nanos, active: u32, decay: Nanos) -> f64 {
        let elapsed_ns = (now - self.updated_at).0 as f64;
        self.estimate_ns * libm::exp(-elapsed_ns / decay.0 as f64) * (f64::from(active) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_up_and_decays_down() {
        let decay = Nanos::from_secs(1);
        let mut host = PeakEwma::new(Nanos::from_millis(10), Nanos::ZERO);
        host.observe(Nanos::ZERO, Nanos::from_millis(100), decay);
        assert_eq!(host.load(Nanos::ZERO, 0, decay), 1e8);
        assert_eq!(host.load(Nanos::ZERO, 2, decay), 3e8);
        host.observe(Nanos::from_secs(1), Nanos::from_millis(50), decay);
        let kept = libm::exp(-1.0);
        let expected = 1e8 * kept + 5e7 * (1.0 - kept);
        assert!((host.load(Nanos::from_secs(1), 0, decay) - expected).abs() < 1.0);
    }
}
