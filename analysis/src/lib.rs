//! What a configuration says beyond its validation: what Istio's analyzers would tell of it.
//!
//! | module | holds |
//! |---|---|
//! | [`documents`] | every object as it was written, by kind, the invalid ones too |
//! | [`codes`] | all message codes, with name, level and meaning |
//! | [`mod@suppress`] | what the user does not want to be told |
//! | [`istio`] | Istio's analyzers |
//! | `read`, `selector`, `hosts` | values, selectors and hosts of raw objects |
//! | `reach` | HTTP rules and matches that no request reaches |
//! | [`own`] | our own checks |
//! | [`output`] | messages and codes as JSON and SARIF |

pub mod codes;
pub mod documents;
mod hosts;
pub mod istio;
mod reach;
mod read;
mod selector;
pub mod output;
pub mod own;
pub mod suppress;

pub use codes::Code;
pub use documents::{Document, Documents, Kind};
pub use istio::{Analyzer, Selection, Settings, analyze};
pub use reach::never_reached;
pub use suppress::{Suppression, suppress};
