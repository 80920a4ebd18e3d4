//! `meshsim diff`.

use crate::args::{DiffArgs, DiffFormat};
use crate::config::{self, is_scenario};
use crate::{Exit, has_error, report};
use anstream::print;
use control_plane::{Objects, allow_invalid};
use diff::{Report, markdown, read_revision, text};
use sim::plan::{ReadSources, objects_from};
use source::{Diagnostic, Level, SourceFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCHEMA: &str = "meshsim.diff/1";

pub(crate) fn compare(args: &DiffArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let answer = answer(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(answer) = answer.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    match args.format {
        DiffFormat::Text => print!("{}", text(&answer)),
        DiffFormat::Markdown => print!("{}", markdown(&answer)),
        DiffFormat::Json => print!("{}", json(&answer)),
    }
    match args.exit_code && !answer.is_empty() {
        true => Exit::DidNotHold,
        false => Exit::Held,
    }
}

fn json(answer: &Report) -> String {
    let mut value = serde_json::json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let (Some(value), Ok(serde_json::Value::Object(fields))) =
        (value.as_object_mut(), serde_json::to_value(answer))
    {
        value.extend(fields);
    }
    format!("{value:#}\n")
}

fn answer(args: &DiffArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Report> {
    let (old, new) = (side(&args.old, &args.from), side(&args.new, &args.to));
    let (old, new) = (Input::all(&old), Input::all(&new));
    let mut of_old = Vec::new();
    let before = objects(args, &old, &new, &mut of_old);
    let after = objects(args, &new, &old, diagnostics);
    // What holds for both sides is said once.
    of_old.retain(|one: &Diagnostic| {
        let said =
            |other: &Diagnostic| one.message == other.message && one.resource == other.resource;
        one.level == Level::Error || !diagnostics.iter().any(said)
    });
    diagnostics.splice(0..0, of_old);
    (!has_error(diagnostics)).then(|| diff::diff(&before, &after))
}

fn side(several: &[String], one: &Option<String>) -> Vec<String> {
    match one {
        Some(one) => vec![one.clone()],
        None => several.to_vec(),
    }
}

/// A part of one side.
enum Input {
    Path(PathBuf),
    /// `None`: the paths of the other side.
    Revision(String, Option<PathBuf>),
}

impl Input {
    fn all(texts: &[String]) -> Vec<Input> {
        texts.iter().map(|text| Input::of(text)).collect()
    }

    fn of(text: &str) -> Input {
        match text.strip_prefix("git:").map(|rest| rest.split_once(':')) {
            None => Input::Path(text.into()),
            Some(Some((revision, path))) => Input::Revision(revision.to_owned(), Some(path.into())),
            Some(None) => Input::Revision(text["git:".len()..].to_owned(), None),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Input::Path(path) => Some(path),
            Input::Revision(_, path) => path.as_deref(),
        }
    }
}

fn objects(
    args: &DiffArgs,
    side: &[Input],
    other: &[Input],
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    let mut objects = Objects::default();
    for input in side {
        match input {
            Input::Path(path) => {
                for file in config::sources(std::slice::from_ref(path), diagnostics) {
                    let folder = Path::new(&*file.name).parent().unwrap_or(Path::new(""));
                    let mut read = sim::plan::read_sources;
                    objects.apply(&of_file(&file, folder, &mut read, diagnostics));
                }
            }
            Input::Revision(revision, path) => {
                for path in paths(revision, path.as_deref(), other, diagnostics) {
                    for file in read_revision(revision, &path, diagnostics) {
                        let at = Path::new(file.name.get(revision.len() + 1..).unwrap_or_default());
                        let folder = at.parent().unwrap_or(Path::new(""));
                        let mut read = |path: &Path, _: Option<&_>, diagnostics: &mut Vec<_>| {
                            read_revision(revision, path, diagnostics)
                        };
                        objects.apply(&of_file(&file, folder, &mut read, diagnostics));
                    }
                }
            }
        }
    }
    if args.allow_invalid {
        allow_invalid(diagnostics);
    }
    if let Some(path) = &args.mesh_config {
        sim::plan::set_mesh_config(&mut objects, path, diagnostics);
    }
    objects
}

/// What a revision is asked for.
fn paths(
    revision: &str,
    path: Option<&Path>,
    other: &[Input],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PathBuf> {
    if let Some(path) = path {
        return vec![path.to_owned()];
    }
    let paths: Vec<PathBuf> = other
        .iter()
        .filter_map(Input::path)
        .map(Path::to_owned)
        .collect();
    if paths.iter().any(|path| path == Path::new("-")) {
        let message = format!("git:{revision}: git knows nothing of standard input");
        diagnostics.push(Diagnostic::error(message).help("name a path: git:REVISION:PATH"));
        return Vec::new();
    }
    match paths.is_empty() {
        true => vec![PathBuf::from(".")],
        false => paths,
    }
}

/// Of a scenario, the objects that it starts with; what it names is read by `read`.
fn of_file(
    file: &Arc<SourceFile>,
    folder: &Path,
    read: &mut ReadSources<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    if !is_scenario(file) {
        return Objects::read(file, diagnostics);
    }
    let scenario = scenarios::parse(file, folder, diagnostics);
    let objects = scenario.map(|scenario| objects_from(&scenario, read, diagnostics));
    objects.unwrap_or_default()
}
