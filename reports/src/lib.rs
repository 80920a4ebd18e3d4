//! Records as people and programs read them.
//!
//! | module | holds |
//! |---|---|
//! | `summary` | one run on a terminal |
//! | `seeds` | several runs of one scenario, summed up |
//! | `mixer` | what Mixer was asked and told |
//! | `layout` | tables, titles, colours |
//! | `numbers` | how numbers are written |

mod layout;
mod mixer;
mod numbers;
mod seeds;
mod summary;

pub use layout::table;

use record::RunRecord;

/// What a person should know about the runs of one scenario, in ten seconds. `repeat` is the command
/// that gives the same again.
pub fn summary(records: &[RunRecord], color: bool, repeat: &str) -> String {
    match records {
        [] => String::new(),
        [record] => summary::of_one(record, color, repeat),
        _ => seeds::of_several(records, color, repeat),
    }
}

/// One object a line, in the order given.
#[allow(clippy::expect_used)]
pub fn json_lines(records: &[RunRecord]) -> String {
    let lines = records.iter().map(|record| {
        serde_json::to_string(record).expect("a record is plain data with text keys") + "\n"
    });
    lines.collect()
}
