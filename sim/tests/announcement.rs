//! The shipped scenarios of 2017: what the tours of the time show at each step, and that it is their
//! rules that show it.

#![allow(clippy::unwrap_used)]

mod support;

use record::RunRecord;
use sim::{Observers, event};
use std::fs;
use std::path::{Path, PathBuf};
use support::{plan_of, root};

/// Those of the broken rules that are always tried; the others with `MESHSIM_SLOW=1`.
const ALWAYS: [&str; 4] = ["precedence", "denial", "egress", "mixer"];

/// A copy of both scenarios' folders with one text replaced in one file.
fn changed(case: &str, file: &str, from: &str, to: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(case);
    let _ = fs::remove_dir_all(&copy);
    let library = root().join("scenarios/library");
    for folder in ["announcement-2017", "request-routing-2017"] {
        for inner in ["", "rules", "mixer"] {
            let Ok(entries) = fs::read_dir(library.join(folder).join(inner)) else {
                continue;
            };
            let target = copy.join(folder).join(inner);
            fs::create_dir_all(&target).unwrap();
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_file() {
                    fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
                }
            }
        }
    }
    let path = copy.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    copy
}

fn run(folder: &Path) -> RunRecord {
    let text = fs::read_to_string(folder.join("scenario.yaml")).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let plan = plan_of(&name, &text, folder, &[]);
    event::run(&plan, 1, Observers::default()).record
}

/// The expectations that do not hold, with what was seen.
fn broken(run: &RunRecord) -> Vec<String> {
    let broken = run.expectations.iter().filter(|verdict| !verdict.passed);
    broken
        .map(|verdict| format!("{}: {}", verdict.name, verdict.observed))
        .collect()
}

#[test]
fn each_step_comes_out_as_documented() {
    let library = root().join("scenarios/library");
    for name in ["announcement-2017", "request-routing-2017"] {
        let first = run(&library.join(name));
        assert_eq!(broken(&first), Vec::<String>::new(), "{name}");
        assert_eq!(run(&library.join(name)).digest, first.digest, "{name}");
    }
}

#[test]
fn a_broken_rule_breaks_what_it_is_for() {
    for (case, scenario, file, from, to, of_it) in [
        // Behind the rule for everybody nobody comes to Jason's.
        (
            "precedence",
            "announcement-2017",
            "announcement-2017/rules/reviews-jason-v2.yaml",
            "precedence: 2",
            "precedence: 0",
            "share_of: v2, between: 16%..24%",
        ),
        (
            "cookie",
            "announcement-2017",
            "announcement-2017/rules/reviews-jason-v2.yaml",
            "user=jason",
            "user=joan",
            "share_of: v2, between: 16%..24%",
        ),
        (
            "weights",
            "announcement-2017",
            "announcement-2017/rules/reviews-half-v3.yaml",
            "version: v1}, weight: 50}\n    - {tags: {version: v3}, weight: 50",
            "version: v1}, weight: 90}\n    - {tags: {version: v3}, weight: 10",
            "share_of: v3, between: 45%..55%",
        ),
        (
            "ingress",
            "announcement-2017",
            "announcement-2017/ingress.yaml",
            "/productpage",
            "/page",
            "to: reviews, reports",
        ),
        (
            "delay",
            "request-routing-2017",
            "announcement-2017/rules/ratings-jason-delay.yaml",
            "fixedDelay: 7s",
            "fixedDelay: 1s",
            "traffic: jason, p50: {between: 6s..6.2s}",
        ),
        (
            "denial",
            "request-routing-2017",
            "request-routing-2017/mixer/ratings-denied.yaml",
            "== \"v3\"",
            "== \"v2\"",
            "code_share: {code: 400",
        ),
        (
            "quota",
            "request-routing-2017",
            "request-routing-2017/mixer/ratings-limited.yaml",
            "maxAmount: 5",
            "maxAmount: 50",
            "code_share: {code: 429",
        ),
        (
            "egress",
            "request-routing-2017",
            "request-routing-2017/isbn.yaml",
            "service: isbn.example.com",
            "service: isbn.example.org",
            "traffic: isbn, code_share: {code: 200",
        ),
        (
            "mixer",
            "announcement-2017",
            "announcement-2017/mesh.yaml",
            "mixerAddress: istio-mixer:9091",
            "enableTracing: true",
            "to: reviews, reports: {at_least",
        ),
    ] {
        if !ALWAYS.contains(&case) && std::env::var_os("MESHSIM_SLOW").is_none() {
            continue;
        }
        let library = changed(case, file, from, to);
        let run = run(&library.join(scenario));
        let broken = broken(&run);
        assert!(
            broken.iter().any(|name| name.contains(of_it)),
            "{case}: {broken:?}"
        );
    }
}
