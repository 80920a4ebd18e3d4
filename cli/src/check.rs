//! `meshsim check`.

use crate::args::{CheckArgs, Format};
use crate::{Exit, report};
use anstream::{print, println};
use control_plane::Objects;
use sim::{Overrides, Plan};
use source::{Diagnostic, Dialect, Level, SourceFile};
use std::path::Path;

pub(crate) fn check(args: &CheckArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let mut objects = Objects::default();
    let mut configuration = 0;
    for path in &args.paths {
        let scenario = path.join("scenario.yaml");
        if scenario.is_file() {
            check_scenario(&scenario, &mut diagnostics);
            continue;
        }
        for file in sim::plan::read_sources(path, None, &mut diagnostics) {
            if is_scenario(&file) {
                check_scenario(Path::new(&*file.name), &mut diagnostics);
            } else {
                objects.apply(&Objects::read(&file, &mut diagnostics));
                configuration += 1;
            }
        }
    }
    if configuration > 0 {
        objects.check_references(&mut diagnostics);
    }
    let failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error);
    match args.format {
        Format::Json => print!("{}", json(&diagnostics)),
        Format::Text => {
            report(&diagnostics);
            if diagnostics.is_empty() {
                println!("no problem found");
            }
        }
    }
    if failed { Exit::DidNotHold } else { Exit::Held }
}

fn check_scenario(path: &Path, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(scenario) = sim::plan::read_scenario(path, &[], diagnostics) {
        Plan::new(&scenario, Overrides::default(), diagnostics);
    }
}

/// A scenario has none of the keys that every object of a cluster has.
fn is_scenario(file: &std::sync::Arc<SourceFile>) -> bool {
    let (documents, _) = source::parse(file, Dialect::Yaml12);
    let [document] = &documents[..] else {
        return false;
    };
    let Some(map) = document.as_map() else {
        return false;
    };
    map.get("kind").is_none() && (map.get("traffic").is_some() || map.get("topology").is_some())
}

fn json(diagnostics: &[Diagnostic]) -> String {
    let entries: Vec<serde_json::Value> = diagnostics
        .iter()
        .map(|d| {
            serde_json::json!({
                "code": d.code,
                "level": d.level.to_string(),
                "message": d.message,
                "resource": d.resource,
                "file": d.span.as_ref().map(|span| span.file.name.to_string()),
                "line": d.span.as_ref().map(source::Span::line),
                "column": d.span.as_ref().map(source::Span::column),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(entries))
}
