//! Runs scenarios: the world, its engines, and what they leave behind.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | a scenario made ready to run: names resolved, files read |
//! | [`distribution`] | sampling of durations |
//! | [`random`] | the world's own draws |
//! | [`event`] | the discrete-event engine |

pub mod distribution;
pub mod event;
pub mod plan;
mod random;

pub use plan::{Overrides, Plan};
