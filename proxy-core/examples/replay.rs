//! Replays journals into a bare core: `cargo run -p proxy-core --example replay -- FILE...`
//!
//! Links nothing of the workspace but `proxy-core`.

use proxy_core::journal::{Coverage, replay};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut coverage = Coverage::default();
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        };
        match replay(&text) {
            Ok(found) => {
                println!("{path}: {} inputs, identical actions", found.entries);
                coverage.merge(found);
            }
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
            }
        }
    }
    let (inputs, actions) = coverage.missing();
    println!("never journaled: inputs {inputs:?}, actions {actions:?}");
    ExitCode::from(u8::from(failed))
}
