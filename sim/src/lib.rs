//! Runs scenarios: the world, its engines, and what they leave behind.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | a scenario made ready to run: names resolved, files read |
//! | [`distribution`] | sampling of durations |
//! | [`observe`] | what may be watched of a run |
//! | [`seeds`] | several seeds on several threads |
//! | [`event`] | the discrete-event engine |
//! | [`turmoil`] | the run on bytes |

pub mod distribution;
pub mod event;
mod mixer_tally;
pub mod observe;
pub mod plan;
mod random;
pub mod seeds;
mod tally;
pub mod turmoil;
mod verdict;

pub use event::station::{Admission, Station};
pub use observe::{LogLine, Observers, Outcome};
pub use plan::{Overrides, Plan};
pub use seeds::run_seeds;
