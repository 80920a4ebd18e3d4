//! `meshsim verify --rehearse`.

use crate::args::{Format, VerifyArgs};
use crate::{Exit, report};
use anstream::{eprintln, print, println};
use serde_json::json;
use sim::{Overrides, Plan};
use std::path::Path;
use verify::rehearse::rehearse;

/// Plays the scenario at `path` on a real Envoy and compares.
pub(crate) fn run(args: &VerifyArgs, path: &Path, envoy: &Path) -> Exit {
    let mut diagnostics = Vec::new();
    let scenario = sim::plan::read_scenario(path, &args.sets, &mut diagnostics);
    let overrides = Overrides {
        on_loopback: true,
        ..Overrides::default()
    };
    let plan = scenario.and_then(|scenario| Plan::new(&scenario, overrides, &mut diagnostics));
    let failed = report(&diagnostics);
    let Some(plan) = plan.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    let seed = args.seed.unwrap_or(plan.seed);
    let rehearsal = match rehearse(&plan, args.proxy.as_deref(), seed, envoy) {
        Ok(rehearsal) => rehearsal,
        Err(failure) => {
            eprintln!("error: {}: {failure}", path.display());
            return Exit::BadInput;
        }
    };
    let agrees = rehearsal.agreement.is_full();
    match args.format {
        Format::Text => print!("{rehearsal}"),
        Format::Json => println!(
            "{}",
            json!({
                "schema": "meshsim.rehearsal/1",
                "version": env!("CARGO_PKG_VERSION"),
                "agrees": agrees,
                "disturbed": rehearsal.was_disturbed(),
                "rehearsal": rehearsal,
            })
        ),
    }
    if agrees { Exit::Held } else { Exit::DidNotHold }
}
