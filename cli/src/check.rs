//! `meshsim check`.

use crate::args::{CheckArgs, CheckFormat, Threshold};
use crate::config::{is_scenario, scenario, sources};
use crate::{Exit, has_error, report, status};
use analysis::output::{arrange, entry, listed, sarif};
use analysis::{Documents, Settings, add_unsaid, analyze, codes, never_reached, own, suppress};
use anstream::print;
use control_plane::{MeshConfig, Objects};
use scenarios::model::Scenario;
use serde_json::Value;
use sim::plan::{self, Piece};
use sim::{Overrides, Plan};
use source::{Diagnostic, Dialect, Level, SourceFile, each_document};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

/// What is given for the mesh, besides the objects.
struct Mesh {
    config: Option<Arc<SourceFile>>,
    networks: Option<Arc<SourceFile>>,
}

pub(crate) fn check(args: &CheckArgs) -> Exit {
    if args.format == CheckFormat::Sarif && (args.list || args.status) {
        let message = "`--format sarif` has no place for `--list` or `--status`";
        report(&[Diagnostic::error(message)]);
        return Exit::BadInput;
    }
    if args.list {
        print!("{}", all_codes(args.format));
        return Exit::Held;
    }
    let mut found = Vec::new();
    let sources = sources(&args.paths, &mut found);
    let mut of_mesh = |path: &Option<PathBuf>| {
        let files = path.iter();
        let files = files.flat_map(|path| plan::read_sources(path, None, &mut found));
        files.last()
    };
    let mesh = Mesh {
        config: of_mesh(&args.mesh_config),
        networks: of_mesh(&args.mesh_networks),
    };
    let unreadable = has_error(&found);
    let names: Vec<Arc<str>> = sources.iter().map(|file| Arc::clone(&file.name)).collect();
    let (scenarios, configuration): (Vec<_>, Vec<_>) = sources.into_iter().partition(is_scenario);
    for file in &scenarios {
        found.extend(check_scenario(file, args));
    }
    let mut objects = Objects::default();
    if !configuration.is_empty() || scenarios.is_empty() {
        found.extend(check_files(&configuration, &mesh, args, &mut objects));
    }
    arrange(&mut found, &names);
    print!("{}", shown(&found, &objects, args));
    match (unreadable, has_at_least(&found, args.failure_threshold)) {
        (true, _) => Exit::BadInput,
        (false, true) => Exit::DidNotHold,
        (false, false) => Exit::Held,
    }
}

fn has_at_least(found: &[Diagnostic], threshold: Threshold) -> bool {
    let least = match threshold {
        Threshold::Note => Level::Note,
        Threshold::Warning => Level::Warning,
        Threshold::Error => Level::Error,
    };
    found.iter().any(|one| one.level >= least)
}

/// A scenario and the configuration that it starts with.
fn check_scenario(file: &Arc<SourceFile>, args: &CheckArgs) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let Some(scenario) = scenario(file, &mut found) else {
        return found;
    };
    Plan::new(&scenario, Overrides::default(), &mut found);
    let mut documents = Documents::default();
    for piece in plan::pieces(&scenario) {
        match piece {
            Piece::Object(node) => documents.add(&node),
            Piece::File(file) => {
                // What is wrong with it has been said.
                let mut said = Vec::new();
                each_document(&file, Dialect::Kubernetes, &mut said, |node, _| {
                    documents.add(&node);
                });
            }
        }
    }
    let objects = plan::objects(&scenario, &mut Vec::new());
    judge(
        &documents,
        &objects,
        &Settings::default(),
        Some(&scenario),
        args,
        &mut found,
    );
    found
}

/// Files of configuration; their objects are added to `objects`.
fn check_files(
    files: &[Arc<SourceFile>],
    mesh: &Mesh,
    args: &CheckArgs,
    objects: &mut Objects,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut documents = Documents::default();
    for file in files {
        let mut of_file = Objects::default();
        each_document(file, Dialect::Kubernetes, &mut found, |node, found| {
            documents.add(&node);
            of_file.add(&node, found);
        });
        objects.apply(&of_file);
    }
    if let Some(data_plane) = args.data_plane {
        objects.set_data_plane(data_plane);
    }
    if let Some(file) = &mesh.config {
        objects.set_mesh_config(MeshConfig::parse(&file.name, &file.text, &mut found));
    }
    let first = |file: &Option<Arc<SourceFile>>| {
        let (documents, _) = source::parse(file.as_ref()?, Dialect::Kubernetes);
        documents.into_iter().next()
    };
    let (mesh_config, mesh_networks) = (first(&mesh.config), first(&mesh.networks));
    let settings = Settings {
        mesh_config: mesh_config.as_ref(),
        mesh_networks: mesh_networks.as_ref(),
        ..Settings::default()
    };
    judge(&documents, objects, &settings, None, args, &mut found);
    found
}

/// Adds what analysis finds, and takes out what is not to be told.
fn judge(
    documents: &Documents,
    objects: &Objects,
    settings: &Settings<'_>,
    scenario: Option<&Scenario>,
    args: &CheckArgs,
    found: &mut Vec<Diagnostic>,
) {
    let mut told = Vec::new();
    analyze(documents, settings, &mut told);
    add_unsaid(found, told);
    let mut references = Vec::new();
    objects.check_references(&mut references);
    // The others are those of the analyzers.
    references.retain(|one| one.code.is_none());
    found.append(&mut references);
    never_reached(documents, objects, found);
    own::check(documents, objects, scenario, found);
    suppress(found, documents, &args.suppress);
}

fn shown(found: &[Diagnostic], objects: &Objects, args: &CheckArgs) -> String {
    let entries = || Value::Array(found.iter().map(entry).collect());
    let statuses = args.status.then(|| objects.gateway_api_statuses());
    match (args.format, statuses) {
        (CheckFormat::Text, statuses) => {
            let statuses = statuses.map(status::text).unwrap_or_default();
            format!("{}{statuses}", in_words(found))
        }
        (CheckFormat::Json, None) => format!("{:#}\n", entries()),
        (CheckFormat::Json, Some(statuses)) => {
            let both = serde_json::json!({"diagnostics": entries(), "statuses": statuses});
            format!("{both:#}\n")
        }
        (CheckFormat::Sarif, _) => format!("{:#}\n", sarif(found, env!("CARGO_PKG_VERSION"))),
    }
}

fn in_words(found: &[Diagnostic]) -> String {
    match found {
        [] => "no problem found\n".to_owned(),
        found => source::render(found, std::io::stdout().is_terminal()),
    }
}

fn all_codes(format: CheckFormat) -> String {
    if format != CheckFormat::Text {
        return format!("{:#}\n", Value::Array(listed()));
    }
    let widest = codes::ALL
        .iter()
        .map(|code| code.name.len())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{:<7}  {:<7}  {:<widest$}  MEANING\n",
        "CODE", "LEVEL", "NAME"
    );
    for code in codes::ALL {
        let level = code.level.to_string();
        let _ = writeln!(
            text,
            "{:<7}  {level:<7}  {:<widest$}  {}",
            code.code, code.name, code.meaning
        );
    }
    text
}
