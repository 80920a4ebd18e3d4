//! Files of a revision in git, read through its command.

use source::{Diagnostic, SourceFile};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

/// Every YAML file at `path` as it was at `revision`: a file, or a folder (its files in order of name; of
/// one with a `scenario.yaml`, that file). They are called `REVISION:PATH`.
pub fn read_revision(
    revision: &str,
    path: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<SourceFile>> {
    match read(revision, path) {
        Ok(files) => files,
        Err(problem) => {
            diagnostics.push(problem);
            Vec::new()
        }
    }
}

fn read(revision: &str, path: &Path) -> Result<Vec<Arc<SourceFile>>, Diagnostic> {
    let place = Place::of(path);
    let commit = place.commit(revision)?;
    let mut entries = place.entries(&commit, &place.within)?;
    let shown = |entry: &Entry| format!("{revision}:{}", place.shown(&entry.path).display());
    let Some(found) = entries.first() else {
        let message = format!("{}: no such file or folder at {revision}", path.display());
        let beside = place.beside(&commit);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = beside.iter().map(String::as_str);
        return Err(Diagnostic::error(message).nearest(&name, beside));
    };
    let is_folder = place.within == "." || found.is_folder;
    if is_folder {
        if place.within != "." {
            entries = place.entries(&commit, &format!("{}/", place.within))?;
        }
        entries.retain(|entry| !entry.is_folder && is_yaml(&entry.path));
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let is_scenario = |entry: &Entry| entry.path.ends_with("scenario.yaml");
        if let Some(at) = entries.iter().position(is_scenario) {
            entries = vec![entries.swap_remove(at)];
        }
        if entries.is_empty() {
            let message = format!(
                "{}: no YAML file in this folder at {revision}",
                path.display()
            );
            return Err(Diagnostic::error(message));
        }
    }
    let texts = place.contents(&entries)?;
    let files = entries.iter().zip(texts).map(|(entry, bytes)| {
        let name = shown(entry);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceFile::new(&name, &text)),
            Err(_) => Err(Diagnostic::error(format!("{name}: is not UTF-8 text"))),
        }
    });
    files.collect()
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// A path, as a folder that is there now and the rest, which may not be.
struct Place {
    folder: PathBuf,
    /// `.`: the folder itself.
    within: String,
}

/// A file or folder in a revision.
struct Entry {
    is_folder: bool,
    object: String,
    /// Within the folder of the place.
    path: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Place {
        let (mut folder, mut within) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), PathBuf::from(name)),
            _ => (path.to_owned(), PathBuf::from(".")),
        };
        while !folder.as_os_str().is_empty() && !folder.is_dir() {
            let name = folder.file_name().map(PathBuf::from);
            within = name.unwrap_or_default().join(within);
            if !folder.pop() {
                break;
            }
        }
        Place {
            folder,
            within: within.to_string_lossy().into_owned(),
        }
    }

    /// As the user would name it.
    fn shown(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn git(&self, args: &[&str]) -> Result<Output, Diagnostic> {
        let output = self.command(args).stdin(Stdio::null()).output();
        output.map_err(|error| Diagnostic::error(format!("git cannot be run: {error}")))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        if !self.folder.as_os_str().is_empty() {
            command.arg("-C").arg(&self.folder);
        }
        command.args(args);
        command
    }

    fn commit(&self, revision: &str) -> Result<String, Diagnostic> {
        let wanted = format!("{revision}^{{commit}}");
        let args = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &wanted,
        ];
        let output = self.git(&args)?;
        if output.status.success() {
            return Ok(text(&output.stdout).trim().to_owned());
        }
        let inside = self.git(&["rev-parse", "--is-inside-work-tree"])?;
        if !inside.status.success() {
            let folder = match self.folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => &self.folder,
            };
            let message = format!("{}: not in a git repository", folder.display());
            return Err(Diagnostic::error(message));
        }
        let names = self.git(&["for-each-ref", "--format=%(refname:short)"])?;
        let names = text(&names.stdout);
        let message = format!("git has no revision `{revision}`");
        Err(Diagnostic::error(message).nearest(revision, names.lines()))
    }

    fn entries(&self, commit: &str, within: &str) -> Result<Vec<Entry>, Diagnostic> {
        let mut args = vec!["ls-tree", "-z", commit];
        if within != "." {
            args.extend(["--", within]);
        }
        let output = self.git(&args)?;
        if !output.status.success() {
            let problem = text(&output.stderr);
            return Err(Diagnostic::error(format!("git: {}", problem.trim())));
        }
        let lines = text(&output.stdout);
        let entries = lines.split('\0').filter_map(|line| {
            // MODE TYPE OBJECT, a tab, PATH.
            let (about, path) = line.split_once('\t')?;
            let mut about = about.split(' ').skip(1);
            Some(Entry {
                is_folder: about.next()? == "tree",
                object: about.next()?.to_owned(),
                path: path.into(),
            })
        });
        Ok(entries.collect())
    }

    /// The names in the folder where the path should be.
    fn beside(&self, commit: &str) -> Vec<String> {
        let parent = Path::new(&self.within).parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let within = match parent {
            Some(parent) => format!("{}/", parent.display()),
            None => ".".to_owned(),
        };
        let entries = self.entries(commit, &within).unwrap_or_default();
        let names = entries.iter().filter_map(|entry| entry.path.file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Of each entry, in one go.
    fn contents(&self, entries: &[Entry]) -> Result<Vec<Vec<u8>>, Diagnostic> {
        let failed =
            |error: std::io::Error| Diagnostic::error(format!("git cannot be run: {error}"));
        let mut command = self.command(&["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let wanted: String = entries
            .iter()
            .map(|entry| format!("{}\n", entry.object))
            .collect();
        let input = child.stdin.take();
        // Git answers while it is still being asked.
        let asking =
            std::thread::spawn(move || input.map(|mut input| input.write_all(wanted.as_bytes())));
        let output = child.wait_with_output().map_err(failed)?;
        let _ = asking.join();
        let mut rest = &output.stdout[..];
        let mut next = || {
            // OBJECT TYPE SIZE, a line's end, the content, a line's end.
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let (head, after) = rest.split_at(end);
            let size: usize = text(head).rsplit(' ').next()?.parse().ok()?;
            let content = after.get(1..=size)?;
            rest = after.get(size + 2..)?;
            Some(content.to_vec())
        };
        let contents = entries.iter().map(|entry| {
            let missing =
                || Diagnostic::error(format!("git has no content of {}", entry.path.display()));
            next().ok_or_else(missing)
        });
        contents.collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
