//! The scenario file format: what may be written, and its strict reading. All mistakes of a file
//! are reported in one go, each at its place; a file with a mistake gives no scenario.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | what a scenario says, as typed values |
//! | `document` | the file as a whole, and what its parts say of each other |
//! | `overrides` | `--set key=value` |
//! | `topology`, `network`, `behavior`, `traffic`, `timeline`, `expect` | its parts |
//! | `distribution`, `request`, `units`, `fields` | what the parts are made of |
//! | `schema` | the same format as a JSON Schema, for editors |

mod behavior;
mod distribution;
mod document;
mod expect;
mod fields;
pub mod model;
mod network;
mod overrides;
mod request;
mod schema;
mod timeline;
mod topology;
mod traffic;
mod units;

pub use document::{parse, parse_with};
pub use schema::json_schema;
pub use units::duration;
