//! The discrete-event engine.
pub mod arrivals;
mod queue;
