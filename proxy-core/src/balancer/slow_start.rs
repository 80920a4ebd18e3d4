//! Slow start: new hosts earn their weight over a window (Envoy `load_balancer_impl.cc`).

use crate::time::Nanos;
use crate::xds::SlowStart;

/// What of its weight a host has that has been healthy for `healthy_for`.
pub(crate) fn factor(config: &SlowStart, healthy_for: Nanos) -> f64 {
    let (elapsed, window) = (healthy_for.as_millis(), config.window.as_millis());
    if elapsed >= window {
        return 1.0;
    }
    let time = elapsed.max(1) as f64 / window as f64;
    let aggression = match config.aggression {
        aggression if aggression > 0.0 => aggression,
        _ => 1.0,
    };
    let earned = if aggression == 1.0 || time == 1.0 {
        time
    } else {
        libm::pow(time, 1.0 / aggression)
    };
    earned.max(config.min_weight_percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_factors() {
        for (aggression, min_weight_percent, elapsed_ms, want) in [
            (1.0, 10.0, 0, 0.1),
            (1.0, 10.0, 5_000, 0.5),
            (1.0, 0.0, 0, 0.0001),
            (2.0, 10.0, 2_500, 0.5),
            (0.5, 10.0, 5_000, 0.25),
            (-1.0, 10.0, 5_000, 0.5),
            (f64::NAN, 10.0, 5_000, 0.5),
            (2.0, 10.0, 10_000, 1.0),
        ] {
            let config = SlowStart {
                window: Nanos::from_secs(10),
                aggression,
                min_weight_percent,
            };
            let got = factor(&config, Nanos::from_millis(elapsed_ms));
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        }
    }
}
