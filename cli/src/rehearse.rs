//! `meshsim verify --rehearse`.

use crate::args::{Format, VerifyArgs};
use crate::{Exit, report};
use anstream::{print, println};
use serde_json::json;
use sim::{Overrides, Plan};
use source::Diagnostic;
use std::path::Path;
use verify::rehearse::{Rehearsal, rehearse as play};

/// Plays the scenario at `path` on a real Envoy and compares.
pub(crate) fn rehearse(args: &VerifyArgs, path: &Path) -> Exit {
    let mut diagnostics = Vec::new();
    let rehearsal = rehearsal(args, path, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(rehearsal) = rehearsal.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    match args.format {
        Format::Text => print!("{rehearsal}"),
        Format::Json => println!("{}", json(&rehearsal)),
    }
    match rehearsal.agreement.is_full() {
        true => Exit::Held,
        false => Exit::DidNotHold,
    }
}

fn rehearsal(
    args: &VerifyArgs,
    path: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Rehearsal> {
    let scenario = sim::plan::read_scenario(path, &args.sets, diagnostics)?;
    let overrides = Overrides {
        on_loopback: true,
        allow_invalid: args.config.allow_invalid,
        ..Overrides::default()
    };
    let plan = Plan::new(&scenario, overrides, diagnostics)?;
    let proxy = match &args.proxies[..] {
        [] => None,
        [one] => Some(one.as_str()),
        _ => {
            let several = "a rehearsal is as one proxy lives through it: give one --as";
            diagnostics.push(Diagnostic::error(several));
            return None;
        }
    };
    let Some(envoy) = args.envoy.clone().or_else(verify::find_envoy) else {
        diagnostics.push(Diagnostic::error(verify::HOW_TO_GET));
        return None;
    };
    let seed = args.seed.unwrap_or(plan.seed);
    let played = play(&plan, proxy, seed, &envoy);
    played
        .map_err(|problem| diagnostics.push(Diagnostic::error(problem.to_string())))
        .ok()
}

fn json(rehearsal: &Rehearsal) -> serde_json::Value {
    json!({
        "schema": "meshsim.rehearsal/1",
        "version": env!("CARGO_PKG_VERSION"),
        "agrees": rehearsal.agreement.is_full(),
        "disturbed": rehearsal.was_disturbed(),
        "rehearsal": rehearsal,
    })
}
