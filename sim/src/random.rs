//! The world's own draws: arrivals, service times, errors. Like the proxies' they are hashes of
//! what they decide, so that no draw depends on how many were made before it.

use proxy_core::random::{hash_text, mix};

/// What a draw decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    Arrival = 1,
    Mix,
    Think,
    ServiceTime,
    Status,
    CallProbability,
    Endpoint,
    PushDelay,
    Latency,
    Mixer,
    MixerFailure,
}

/// The draws about one subject (a traffic source, a workload) in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorldDraws {
    base: u64,
}

impl WorldDraws {
    pub(crate) fn new(seed: u64, subject: &str) -> WorldDraws {
        // Apart from the proxies' draws about a proxy of the same name.
        WorldDraws {
            base: mix(mix(seed ^ 0x776f_726c_6400_0000) ^ hash_text(subject)),
        }
    }

    /// A uniform 64-bit value.
    #[inline]
    pub(crate) fn bits(&self, key: u64, purpose: Purpose, n: u64) -> u64 {
        mix(mix(self.base ^ key) ^ (purpose as u64) << 56 ^ n)
    }

    /// Uniform over [0, 1), in steps of 2^-53.
    #[inline]
    pub(crate) fn unit(&self, key: u64, purpose: Purpose, n: u64) -> f64 {
        (self.bits(key, purpose, n) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }
}

/// One of the pods that `fits`, chosen by a uniform value.
pub(crate) fn pick(pods: &[u32], value: u64, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let count = pods.len() as u64;
    if count == 0 {
        return None;
    }
    let at = ((u128::from(value) * u128::from(count)) >> 64) as usize;
    if fits(pods[at]) {
        return Some(pods[at]);
    }
    let fitting: Vec<u32> = pods.iter().copied().filter(|&pod| fits(pod)).collect();
    match fitting.len() {
        0 => None,
        n => Some(fitting[(mix(value) % n as u64) as usize]),
    }
}

/// A generator over one stream of draws, for distributions that need more than one value.
pub(crate) struct Stream {
    draws: WorldDraws,
    key: u64,
    purpose: Purpose,
    next: u64,
}

impl Stream {
    pub(crate) fn new(draws: WorldDraws, key: u64, purpose: Purpose) -> Stream {
        Stream {
            draws,
            key,
            purpose,
            next: 0,
        }
    }

    /// Uniform over [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        let value = self.draws.unit(self.key, self.purpose, self.next);
        self.next += 1;
        value
    }

    /// Uniform over (0, 1]: safe under a logarithm.
    pub(crate) fn positive_unit(&mut self) -> f64 {
        1.0 - self.unit()
    }

    /// Standard normal, by Box and Muller's transform.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(self.positive_unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }
}
