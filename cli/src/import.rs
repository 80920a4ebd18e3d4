//! `meshsim import`.

use crate::args::{ImportArgs, ImportSource};
use crate::config::sources;
use crate::{Exit, report};
use anstream::{eprintln, print};
use control_plane::{Converted, Objects};
use std::path::Path;

pub(crate) fn import(source: &ImportSource) -> Exit {
    let ImportSource::IstioV1alpha2(args) = source;
    import_v1alpha2(args)
}

fn import_v1alpha2(args: &ImportArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let mut objects = Objects::default();
    for file in sources(&args.paths, &mut diagnostics) {
        objects.apply(&Objects::read(&file, &mut diagnostics));
    }
    let converted = objects.converted(&mut diagnostics);
    if report(&diagnostics) {
        return Exit::BadInput;
    }
    if converted.is_empty() {
        eprintln!("there is no rule of Istio 0.1 or 0.2 to import");
    }
    match &args.output {
        None => {
            let documents: Vec<&str> = converted.iter().map(|object| &*object.text).collect();
            print!("{}", documents.join("---\n"));
            Exit::Held
        }
        Some(folder) => match write_files(folder, &converted) {
            Ok(()) => Exit::Held,
            Err(problem) => {
                eprintln!("error: {problem}");
                Exit::BadInput
            }
        },
    }
}

/// One file for each object, called after its kind, namespace and name.
fn write_files(folder: &Path, converted: &[Converted]) -> Result<(), String> {
    let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| told(folder, error))?;
    for object in converted {
        let of = &object.reference;
        let kind = of.kind.to_lowercase();
        let path = folder.join(format!("{kind}-{}-{}.yaml", of.namespace, of.name));
        std::fs::write(&path, &object.text).map_err(|error| told(&path, error))?;
    }
    Ok(())
}
