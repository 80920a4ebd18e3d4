//! What a run leaves behind: counts, latencies, verdicts, and a digest over all that happened. No
//! engine in it; memory does not grow with the number of requests.
//!
//! | module | holds |
//! |---|---|
//! | [`run`] | the record of one run, as it is printed |
//! | [`latency`] | online latency statistics |
//! | [`digest`] | the digest |

pub mod digest;
pub mod latency;
pub mod run;

pub use digest::Digest;
pub use latency::Latencies;
pub use run::*;
