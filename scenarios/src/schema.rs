//! The format as a JSON Schema. It is written by hand, with what editors show as help; tests hold
//! its keys against those that the readers ask for.

use serde_json::Value;

const SCHEMA: &str = include_str!("../scenario.schema.json");

/// JSON Schema (draft 2020-12) of a scenario file.
#[allow(clippy::expect_used)]
pub fn json_schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the file is part of the program, and a test reads it")
}
