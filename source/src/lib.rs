//! Text that people wrote, and what to tell them about it: YAML with the place of every value, and
//! diagnostics that show file, line, column and the offending snippet.
//!
//! | module | holds |
//! |---|---|
//! | [`text`] | files and places in them |
//! | [`node`] | the YAML tree |
//! | [`mod@parse`] | from text to trees |
//! | [`fields`] | strict reading of maps: unknown keys, wrong types |
//! | [`diagnostic`] | errors and warnings, and their rendering |

pub mod diagnostic;
pub mod fields;
mod mapping;
pub mod node;
pub mod parse;
mod scalar;
pub mod text;

pub use diagnostic::{Diagnostic, Level, nearest, render};
pub use fields::Fields;
pub use node::{Map, Node, Value};
pub use parse::{Dialect, each_document, parse};
pub use text::{SourceFile, Span};
