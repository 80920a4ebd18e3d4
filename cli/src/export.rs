//! `meshsim export`.

use crate::args::ExportArgs;
use crate::{Exit, config, report};
use anstream::{eprintln, print};
use export::{Bootstrap, Unsupported};
use serde_json::Value;
use source::Diagnostic;
use std::path::{Path, PathBuf};

const ADMIN_PORT: u16 = 15000;

pub(crate) fn export(args: &ExportArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let files = files(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(files) = files.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    for (path, value) in files {
        let text = format!("{value:#}\n");
        match path {
            None => print!("{text}"),
            Some(path) => {
                if let Err(problem) = write(&path, &text) {
                    report(&[Diagnostic::error(format!("{}: {problem}", path.display()))]);
                    return Exit::BadInput;
                }
            }
        }
    }
    Exit::Held
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

/// What to write where; `None` is standard output.
fn files(
    args: &ExportArgs,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(Option<PathBuf>, Value)>> {
    let objects = config::objects(&args.config, diagnostics);
    let proxy = config::proxy(&objects, &args.proxy, diagnostics)?;
    let resources = config::resources(objects, &proxy);
    let resources = export::Resources {
        clusters: &resources.clusters,
        endpoints: &resources.endpoints,
        listeners: &resources.listeners,
        routes: &resources.routes,
    };
    for line in export::left_out(&resources) {
        eprintln!("note: {line}");
    }
    let bootstrap = Bootstrap {
        node: proxy.name.to_string(),
        admin_port: Some(ADMIN_PORT),
        access_log: None,
    };
    let mut refused = |problems: Vec<Unsupported>| {
        let problems = problems.iter();
        diagnostics.extend(problems.map(|problem| Diagnostic::error(problem.to_string())));
    };
    match &args.xds {
        None => {
            let value = bootstrap
                .with_static(&resources)
                .map_err(&mut refused)
                .ok()?;
            Some(vec![(args.output.clone(), value)])
        }
        Some(folder) => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            let files = bootstrap.with_files(&resources, &folder);
            let files = files.map_err(&mut refused).ok()?.into_iter();
            Some(files.map(|(path, value)| (Some(path), value)).collect())
        }
    }
}
