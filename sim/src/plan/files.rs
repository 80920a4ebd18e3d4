//! Reading files, folders and standard input.

use control_plane::{MeshConfig, Objects};
use scenarios::model::{ConfigSource, Named, Scenario};
use source::{Diagnostic, Level, SourceFile};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STANDARD_INPUT: &str = "-";

/// The scenario at `path`, a file or a folder with a `scenario.yaml`, with `sets` written over it.
pub fn read_scenario(
    path: &Path,
    sets: &[(String, String)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let path = match path.is_dir() {
        true => path.join("scenario.yaml"),
        false => path.to_owned(),
    };
    let file = read_file(&path, None, diagnostics)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    scenarios::parse_with(&file, folder, sets, diagnostics)
}

/// Gives `objects` the MeshConfig of the file at `path`.
pub fn set_mesh_config(objects: &mut Objects, path: &Path, diagnostics: &mut Vec<Diagnostic>) {
    for file in read_sources(path, None, diagnostics) {
        objects.set_mesh_config(MeshConfig::parse(&file.name, &file.text, diagnostics));
    }
}

/// Every YAML file at `path`: a file, a folder (its files in order of name), or `-` for standard
/// input. `named` is where a file names the path.
pub fn read_sources(
    path: &Path,
    named: Option<&Named>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<SourceFile>> {
    if path == Path::new(STANDARD_INPUT) {
        let mut text = String::new();
        return match std::io::stdin().read_to_string(&mut text) {
            Ok(_) => vec![SourceFile::new("<stdin>", &text)],
            Err(error) => {
                diagnostics.push(Diagnostic::error(format!("standard input: {error}")));
                Vec::new()
            }
        };
    }
    if !path.is_dir() {
        return read_file(path, named, diagnostics).into_iter().collect();
    }
    let files = yaml_files(path);
    if files.is_empty() {
        let message = format!("{}: no YAML file in this folder", path.display());
        diagnostics.push(located(
            Diagnostic::error(message),
            named,
            "holds nothing to read",
        ));
    }
    files
        .iter()
        .filter_map(|file| read_file(file, named, diagnostics))
        .collect()
}

/// What reads the files at a path that a scenario names, as [`read_sources`] does from disk.
pub type ReadSources<'r> =
    dyn FnMut(&Path, Option<&Named>, &mut Vec<Diagnostic>) -> Vec<Arc<SourceFile>> + 'r;

/// The Istio objects that `source` stands for.
pub(super) fn config(
    folder: &Path,
    source: &ConfigSource,
    read: &mut ReadSources<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    match source {
        ConfigSource::Inline(node) => Objects::read_node(node, diagnostics),
        ConfigSource::Path(path) => objects_at(folder, path, read, diagnostics),
    }
}

/// The objects in a file or folder that a scenario names.
pub(super) fn objects_at(
    folder: &Path,
    path: &Named,
    read: &mut ReadSources<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    let mut objects = Objects::default();
    for file in read(&place(folder, path), Some(path), diagnostics) {
        objects.apply(&Objects::read(&file, diagnostics));
    }
    objects
}

/// The files that a scenario means by `path`.
pub(super) fn sources_at(
    folder: &Path,
    path: &Named,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<SourceFile>> {
    read_sources(&place(folder, path), Some(path), diagnostics)
}

fn place(folder: &Path, path: &Named) -> PathBuf {
    match path.text.as_str() {
        STANDARD_INPUT => PathBuf::from(STANDARD_INPUT),
        text => folder.join(text),
    }
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|e| e.to_str());
            path.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
        })
        .collect();
    files.sort();
    files
}

fn read_file(
    path: &Path,
    named: Option<&Named>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<SourceFile>> {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Some(SourceFile::new(&shown, &text)),
        Err(error) => {
            let message = format!("{shown}: {}", plain(&error));
            let diagnostic = located(Diagnostic::error(message), named, "cannot be read");
            diagnostics.push(suggest(diagnostic, path));
            None
        }
    }
}

fn located(diagnostic: Diagnostic, named: Option<&Named>, label: &str) -> Diagnostic {
    match named {
        Some(named) => diagnostic.at(&named.span, label),
        None => diagnostic,
    }
}

/// Without the number that the operating system adds.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn suggest(diagnostic: Diagnostic, missing: &Path) -> Diagnostic {
    debug_assert!(diagnostic.level == Level::Error);
    let (Some(folder), Some(name)) = (missing.parent(), missing.file_name()) else {
        return diagnostic;
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut beside: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    beside.sort();
    diagnostic.nearest(&name.to_string_lossy(), beside.iter().map(String::as_str))
}
