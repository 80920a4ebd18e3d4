//! `meshsim verify --against`.

use crate::args::{Format, VerifyArgs};
use crate::{Exit, config, report};
use anstream::{print, println};
use export::{Comparison, Difference};
use serde_json::{Value, json};
use source::Diagnostic;
use std::fmt::Write;
use std::path::Path;

/// In the JSON.
const SCHEMA: &str = "meshsim.against/1";

pub(crate) fn against(args: &VerifyArgs, dump: &Path) -> Exit {
    let mut diagnostics = Vec::new();
    let compared = compared(args, dump, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(compared) = compared.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    match args.format {
        Format::Json => println!("{}", json(&compared)),
        Format::Text => print!("{}", text(&compared)),
    }
    match compared.unexplained().next() {
        None => Exit::Held,
        Some(_) => Exit::DidNotHold,
    }
}

fn compared(
    args: &VerifyArgs,
    dump: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Comparison> {
    let [name] = &args.proxies[..] else {
        let problem = Diagnostic::error("--against compares one proxy: name it with --as");
        diagnostics.push(problem);
        return None;
    };
    let objects = config::objects(&args.config, diagnostics);
    let proxy = config::proxy(&objects, name, diagnostics)?;
    let recorded = read(dump).map_err(|problem| {
        diagnostics.push(Diagnostic::error(format!("{}: {problem}", dump.display())));
    });
    let resources = config::resources(objects, &proxy);
    let resources = export::Resources {
        clusters: &resources.clusters,
        endpoints: &resources.endpoints,
        listeners: &resources.listeners,
        routes: &resources.routes,
    };
    Some(export::against(&resources, &recorded.ok()?))
}

fn read(dump: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(dump).map_err(|problem| problem.to_string())?;
    let value: Value = serde_json::from_str(&text).map_err(|problem| problem.to_string())?;
    match value["configs"].is_array() {
        true => Ok(value),
        false => Err("no config dump: it has no list `configs`".to_owned()),
    }
}

#[allow(clippy::unwrap_used)]
fn text(compared: &Comparison) -> String {
    let mut text = String::new();
    for one in compared.unexplained() {
        let Difference {
            kind,
            resource,
            path,
            theirs,
            ours,
            ..
        } = one;
        let place = path.trim_start_matches(|c| c != '.' && c != '[');
        writeln!(text, "{kind} {resource} {place}").unwrap();
        writeln!(text, "  the dump: {theirs}\n  meshsim:  {ours}\n").unwrap();
    }
    writeln!(text, "{:<12}{:>9}{:>10}", "", "compared", "the same").unwrap();
    for (kind, (seen, same)) in &compared.resources {
        writeln!(text, "{kind:<12}{seen:>9}{same:>10}").unwrap();
    }
    for (class, count) in compared.classes() {
        writeln!(text, "expected: {count} differences of {class}").unwrap();
    }
    let count = compared.unexplained().count();
    writeln!(text, "{count} unexplained differences").unwrap();
    text
}

fn json(compared: &Comparison) -> String {
    let differences = compared.differences.iter().map(|one| {
        json!({
            "kind": one.kind,
            "resource": one.resource,
            "path": one.path,
            "theirs": one.theirs,
            "ours": one.ours,
            "class": one.class,
        })
    });
    let resources = compared.resources.iter().map(|(kind, (seen, same))| {
        (
            (*kind).to_owned(),
            json!({ "compared": seen, "same": same }),
        )
    });
    let value = json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "resources": resources.collect::<serde_json::Map<_, _>>(),
        "differences": differences.collect::<Vec<_>>(),
        "agrees": compared.unexplained().next().is_none(),
    });
    value.to_string()
}
