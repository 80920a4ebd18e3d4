//! Files of a revision in git.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use diff::read_revision;
use source::Diagnostic;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository of two commits; its folder. `None`, aloud, without git.
fn repository(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("mesh/other")).unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&folder).args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
        ]);
        let output = command.args(args).output().ok()?;
        assert!(output.status.success(), "{output:?}");
        Some(())
    };
    if git(&["init", "-q", "-b", "main"]).is_none() {
        eprintln!("SKIPPED: no git");
        return None;
    }
    let write = |path: &str, text: &str| std::fs::write(folder.join(path), text).unwrap();
    write("mesh/b.yaml", "b: old\n");
    write("mesh/a.yaml", "a: old\n");
    write("mesh/readme.txt", "no YAML");
    write("mesh/other/c.yaml", "c: old\n");
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1.0"]);
    write("mesh/a.yaml", "a: new\n");
    std::fs::remove_dir_all(folder.join("mesh/other")).unwrap();
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "two"]);
    Some(folder)
}

fn read(revision: &str, path: &Path) -> Result<Vec<(String, String)>, Diagnostic> {
    let mut diagnostics = Vec::new();
    let files = read_revision(revision, path, &mut diagnostics);
    match diagnostics.pop() {
        Some(problem) => Err(problem),
        None => Ok(files
            .iter()
            .map(|file| (file.name.to_string(), file.text.to_string()))
            .collect()),
    }
}

#[test]
fn files_and_folders_as_they_were() {
    let Some(folder) = repository("revision-files") else {
        return;
    };
    let mesh = folder.join("mesh");
    let named = |name: &str, text: &str| {
        (
            format!("v1.0:{}", mesh.join(name).display()),
            text.to_owned(),
        )
    };
    assert_eq!(
        read("v1.0", &mesh).unwrap(),
        [named("a.yaml", "a: old\n"), named("b.yaml", "b: old\n")]
    );
    assert_eq!(
        read("v1.0", &mesh.join("a.yaml")).unwrap(),
        [named("a.yaml", "a: old\n")]
    );
    assert_eq!(read("HEAD", &mesh.join("a.yaml")).unwrap()[0].1, "a: new\n");
    // A folder that is there no more.
    assert_eq!(
        read("v1.0", &mesh.join("other")).unwrap(),
        [named("other/c.yaml", "c: old\n")]
    );
}

#[test]
fn what_is_not_there_is_said() {
    let Some(folder) = repository("revision-missing") else {
        return;
    };
    let problem = |revision: &str, path: &str| {
        let problem = read(revision, &folder.join(path)).unwrap_err();
        let message = problem
            .message
            .replace(&*folder.to_string_lossy(), "FOLDER");
        (message, problem.help.unwrap_or_default())
    };
    let text = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
    assert_eq!(
        problem("mian", "mesh"),
        text(("git has no revision `mian`", "did you mean `main`?"))
    );
    assert_eq!(
        problem("HEAD", "mesh/other"),
        text(("FOLDER/mesh/other: no such file or folder at HEAD", ""))
    );
    assert_eq!(
        problem("v1.0", "mesh/aa.yaml"),
        text((
            "FOLDER/mesh/aa.yaml: no such file or folder at v1.0",
            "did you mean `a.yaml`?"
        ))
    );
    assert_eq!(
        problem("--output=x", "mesh").0,
        "git has no revision `--output=x`"
    );
}
