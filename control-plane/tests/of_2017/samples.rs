//! Bookinfo as Istio 0.1.6 and 0.2.12 shipped it.

use super::{clusters, get, resources};
use control_plane::{DataPlane, Objects};
use source::{Level, SourceFile};
use std::path::PathBuf;
use std::sync::Arc;

/// The folders of samples; `None` where they are not there.
pub fn folders() -> Option<[PathBuf; 2]> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/samples-2017");
    if !root.is_dir() {
        eprintln!("SKIPPED: no {}", root.display());
        return None;
    }
    Some([
        root.join("0.1.6/apps/bookinfo"),
        root.join("0.2.12/bookinfo/kube"),
    ])
}

pub fn files(folder: &PathBuf) -> Vec<Arc<SourceFile>> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        SourceFile::new(&name, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

/// The applications: Services and Deployments.
pub fn applications(files: &[Arc<SourceFile>]) -> Objects {
    let mut objects = Objects::default();
    for file in files.iter().filter(|file| is_application(file)) {
        let mut diagnostics = Vec::new();
        objects.apply(&Objects::read(file, &mut diagnostics));
    }
    objects
}

fn is_application(file: &SourceFile) -> bool {
    [
        "bookinfo.yaml",
        "bookinfo-v1.yaml",
        "bookinfo-ratings-v2.yaml",
        "bookinfo-ratings-v2-mysql-vm.yaml",
    ]
    .contains(&&*file.name)
}

fn named(files: &[Arc<SourceFile>], name: &str) -> Objects {
    let file = files.iter().find(|file| &*file.name == name).unwrap();
    let mut diagnostics = Vec::new();
    let objects = Objects::read(file, &mut diagnostics);
    diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

#[test]
fn every_file_loads_alone_over_its_bookinfo() {
    let Some(folders) = folders() else {
        return;
    };
    for folder in &folders {
        let files = files(folder);
        let mut rules = 0;
        for file in &files {
            let mut objects = applications(&files);
            let before = objects.refs().len();
            let mut diagnostics = Vec::new();
            let read = Objects::read(file, &mut diagnostics);
            objects.apply(&read);
            objects.check_references(&mut diagnostics);
            // Of Mixer's metrics some are not modelled, which is said.
            let least = match file.name.starts_with("mixer") {
                true => Level::Error,
                false => Level::Warning,
            };
            diagnostics.retain(|diagnostic| diagnostic.level >= least);
            assert_eq!(source::render(&diagnostics, false), "", "{}", file.name);
            let rule = |kind: &str| ["RouteRule", "DestinationPolicy"].contains(&kind);
            rules += usize::from(read.refs().iter().any(|object| rule(&object.kind)));
            if file.name.starts_with("route-rule") {
                assert!(objects.refs().len() > before, "{}", file.name);
                resources(&objects, "productpage-v1");
            }
        }
        println!(
            "{}: {} files, {rules} with rules",
            folder.display(),
            files.len()
        );
        assert!(rules >= 8);
    }
}

#[test]
fn the_walkthrough_of_request_routing() {
    let Some(folders) = folders() else {
        return;
    };
    for (folder, delay) in folders.iter().zip([
        "destination-ratings-test-delay.yaml",
        "route-rule-ratings-test-delay.yaml",
    ]) {
        for data_plane in [DataPlane::Envoy2017, DataPlane::Linkerd111] {
            let files = files(folder);
            let mut objects = applications(&files);
            objects.set_data_plane(data_plane);
            let jason = [("cookie", "foo=bar;user=jason")];
            // Versions of reviews for jason and for others, with their shares.
            let reviews = |objects: &Objects| {
                let told = resources(objects, "productpage-v1");
                [&jason[..], &[]].map(|headers| {
                    let found = clusters(&told, &get("reviews:9080", "/reviews/0", headers));
                    let version = |name: &str| name.split('|').nth(2).unwrap().to_owned();
                    found
                        .iter()
                        .map(|(name, share)| format!("{} {share}", version(name)))
                        .collect::<Vec<_>>()
                })
            };
            objects.apply(&named(&files, "route-rule-all-v1.yaml"));
            assert_eq!(reviews(&objects), [["version=v1 100"], ["version=v1 100"]]);
            objects.apply(&named(&files, "route-rule-reviews-test-v2.yaml"));
            assert_eq!(reviews(&objects), [["version=v2 100"], ["version=v1 100"]]);
            objects.apply(&named(&files, delay));
            let told = resources(&objects, "reviews-v2");
            let answer = control_plane::explain(&told, &get("ratings:9080", "/", &jason));
            let fault = answer.matched.unwrap().fault.clone();
            assert_eq!(fault.is_some(), data_plane == DataPlane::Envoy2017);
            objects.apply(&named(&files, "route-rule-reviews-50-v3.yaml"));
            let both = vec!["version=v1 50".to_owned(), "version=v3 50".to_owned()];
            assert_eq!(reviews(&objects), [vec!["version=v2 100".to_owned()], both]);
            objects.apply(&named(&files, "route-rule-reviews-v3.yaml"));
            assert_eq!(reviews(&objects), [["version=v2 100"], ["version=v3 100"]]);
        }
    }
}
