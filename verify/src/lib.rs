//! Holds the data plane against a real Envoy.

pub mod rehearse;
