//! The scenario file format: what may be written, and its strict reading.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | what a scenario says, as typed values |

pub mod model;
// stub
pub fn parse_with(
    _file: &std::sync::Arc<source::SourceFile>,
    _folder: &std::path::Path,
    _sets: &[(String, String)],
    _diagnostics: &mut Vec<source::Diagnostic>,
) -> Option<model::Scenario> {
    unimplemented!()
}
