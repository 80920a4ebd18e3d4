//! The scenario file format: what may be written, and its strict reading.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | what a scenario says, as typed values |

pub mod model;
