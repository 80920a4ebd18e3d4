//! `diff` as people and programs meet it: sides, exit codes, formats.

#![allow(clippy::unwrap_used)]

mod binary;

use binary::{RULES, folder, meshsim};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The rules of the scenario, with requests to an address of its own.
fn changed() -> String {
    RULES.replace(
        "http: [{route:",
        "http: [{match: [{uri: {prefix: /old}}], redirect: {uri: /new}}, {route:",
    )
}

fn git(folder: &Path, args: &[&str]) -> bool {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let mut command = Command::new("git");
    let output = command
        .arg("-C")
        .arg(folder)
        .args(identity)
        .args(args)
        .output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn what_changes_decides_the_exit_code_where_that_is_asked_for() {
    let folder = folder("diff-codes");
    std::fs::write(folder.join("new.yaml"), changed()).unwrap();
    let ended = |args: &[&str]| {
        let ended = meshsim(&folder, &[&["diff"], args].concat(), &changed());
        (ended.code, ended.out)
    };
    let (code, out) = ended(&["rules.yaml", "rules.yaml", "--exit-code"]);
    assert_eq!(code, 0);
    assert!(
        out.ends_with("no request changes (2 proxies compared)\n"),
        "{out}"
    );
    assert_eq!(ended(&["rules.yaml", "new.yaml"]).0, 0);
    let (code, out) = ended(&["rules.yaml", "new.yaml", "--exit-code"]);
    assert!(
        code == 1 && out.contains("GET http://any.example/old changes "),
        "{out}"
    );
    assert_eq!(
        ended(&["rules.yaml", "-", "--exit-code"]),
        (1, out.clone().replace("new.yaml", "<stdin>"))
    );
    assert_eq!(
        ended(&["--old", "rules.yaml", "--new", "new.yaml", "--exit-code"]),
        (1, out)
    );
    for bad in [
        &["rules.yaml", "missing.yaml"][..],
        &["rules.yaml"],
        &["--old", "rules.yaml"],
        &["rules.yaml", "git:main:rules.yaml:"],
    ] {
        let (code, out) = ended(bad);
        assert_eq!((code, out.as_str()), (2, ""), "{bad:?}");
    }
}

#[test]
fn a_revision_stands_for_the_files_as_they_were() {
    let folder = folder("diff-git");
    if !git(&folder, &["init", "-q", "-b", "main"]) {
        eprintln!("SKIPPED: no git");
        return;
    }
    assert!(git(&folder, &["add", "-A"]) && git(&folder, &["commit", "-q", "-m", "one"]));
    std::fs::write(folder.join("rules.yaml"), changed()).unwrap();
    for (old, new) in [
        ("git:main", "rules.yaml"),
        ("git:main:rules.yaml", "rules.yaml"),
        // A scenario names its other files.
        ("git:main", "."),
        ("git:main", "scenario.yaml"),
    ] {
        let ended = meshsim(&folder, &["diff", old, new, "--exit-code"], "");
        assert_eq!(ended.code, 1, "{old} {new}: {}{}", ended.out, ended.err);
        assert!(
            ["(VirtualService default/shop, main:", "rules.yaml:14)"]
                .iter()
                .all(|text| ended.out.contains(text)),
            "{old} {new}: {}",
            ended.out
        );
    }
    let ended = meshsim(&folder, &["diff", "git:mian", "rules.yaml"], "");
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("git has no revision `mian`"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("did you mean `main`?"), "{}", ended.err);
    let ended = meshsim(&folder, &["diff", "git:main", "-"], "");
    assert!(
        ended.code == 2 && ended.err.contains("standard input"),
        "{}",
        ended.err
    );
}

#[test]
fn json_has_every_change_with_its_witness_and_rules() {
    let folder = folder("diff-json");
    std::fs::write(folder.join("new.yaml"), changed()).unwrap();
    let ended = meshsim(
        &folder,
        &["diff", "rules.yaml", "new.yaml", "--format", "json"],
        "",
    );
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(answer["schema"], "meshsim.diff/1");
    assert!(answer["version"].is_string() && answer["undecided"].as_array().unwrap().is_empty());
    let change = &answer["changes"][0];
    assert_eq!(change["kinds"][0], "destination");
    assert_eq!(change["witness"]["request"]["path"], "/old");
    assert_eq!(change["new"]["rules"][0]["file"], "new.yaml");
    // A witness is a request that `explain` takes.
    std::fs::write(
        folder.join("requests.json"),
        change["witness"]["request"].to_string(),
    )
    .unwrap();
    let proxy = change["witness"]["proxy"].as_str().unwrap();
    let args = [
        "explain",
        "--config",
        "new.yaml",
        "--as",
        proxy,
        "--requests",
        "requests.json",
        "--format",
        "json",
    ];
    let explained = meshsim(&folder, &args, "");
    assert_eq!(
        explained.lines()[0]["action"],
        "redirect",
        "{}",
        explained.err
    );
    let markdown = meshsim(
        &folder,
        &["diff", "rules.yaml", "new.yaml", "--format", "markdown"],
        "",
    );
    assert!(
        markdown
            .out
            .contains("| destination | `GET http://any.example/old`"),
        "{}",
        markdown.out
    );
}
