//! `meshsim check`.

use crate::args::{CheckArgs, Format};
use crate::config::{is_scenario, scenario, sources};
use crate::{Exit, has_error, status};
use anstream::print;
use control_plane::{Objects, code_name};
use sim::{Overrides, Plan};
use source::{Diagnostic, SourceFile, Span};
use std::io::IsTerminal;
use std::sync::Arc;

pub(crate) fn check(args: &CheckArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let sources = sources(&args.paths, &mut diagnostics);
    let unreadable = has_error(&diagnostics);
    let (scenarios, configuration): (Vec<_>, Vec<_>) = sources.into_iter().partition(is_scenario);
    for file in &scenarios {
        check_scenario(file, &mut diagnostics);
    }
    let mut objects = Objects::default();
    for file in &configuration {
        objects.apply(&Objects::read(file, &mut diagnostics));
    }
    objects.check_references(&mut diagnostics);
    match args.status {
        false => print!("{}", told(&diagnostics, args.format)),
        true => print!("{}", with_status(&diagnostics, &objects, args.format)),
    }
    match (unreadable, has_error(&diagnostics)) {
        (true, _) => Exit::BadInput,
        (false, true) => Exit::DidNotHold,
        (false, false) => Exit::Held,
    }
}

fn check_scenario(file: &Arc<SourceFile>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(scenario) = scenario(file, diagnostics) {
        Plan::new(&scenario, Overrides::default(), diagnostics);
    }
}

fn told(diagnostics: &[Diagnostic], format: Format) -> String {
    match (format, diagnostics) {
        (Format::Json, _) => json(diagnostics),
        (Format::Text, []) => "no problem found\n".to_owned(),
        (Format::Text, _) => source::render(diagnostics, std::io::stdout().is_terminal()),
    }
}

/// The same, and the statuses of objects of the Gateway API.
fn with_status(diagnostics: &[Diagnostic], objects: &Objects, format: Format) -> String {
    let statuses = objects.gateway_api_statuses();
    match format {
        Format::Text => format!("{}{}", told(diagnostics, format), status::text(statuses)),
        Format::Json => {
            let both = serde_json::json!({
                "diagnostics": entries(diagnostics),
                "statuses": statuses,
            });
            format!("{both:#}\n")
        }
    }
}

fn json(diagnostics: &[Diagnostic]) -> String {
    format!("{:#}\n", serde_json::Value::Array(entries(diagnostics)))
}

fn entries(diagnostics: &[Diagnostic]) -> Vec<serde_json::Value> {
    diagnostics
        .iter()
        .map(|d| {
            serde_json::json!({
                "code": d.code,
                "name": d.code.and_then(code_name),
                "level": d.level.to_string(),
                "message": d.message,
                "resource": d.resource,
                "file": d.span.as_ref().map(|span| span.file.name.to_string()),
                "line": d.span.as_ref().map(Span::line),
                "column": d.span.as_ref().map(Span::column),
            })
        })
        .collect()
}
