//! The Istio configurations that tests are held against, each read once.

use crate::coverage::{Coverage, Rules};
use crate::find::{Found, Kind, find};
use control_plane::{ControlPlane, Objects, ProxyIdentity, PushSettings, Resources, allow_invalid};
use source::{Diagnostic, Level, Span};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What the command line says of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) found: Vec<Found>,
    pub(crate) mesh_config: Option<PathBuf>,
    /// As for `explain --as`.
    pub(crate) proxy: Option<String>,
    pub(crate) allow_invalid: bool,
}

/// Where a configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Places {
    /// `None`: that of the command line.
    pub(crate) config: Option<Vec<PathBuf>>,
    pub(crate) mesh_config: Option<PathBuf>,
}

/// Everything loaded so far; `None` where there was an error.
#[derive(Default)]
pub(crate) struct Configurations {
    loaded: BTreeMap<Places, Option<Configuration>>,
}

/// One configuration.
pub(crate) struct Configuration {
    pub(crate) rules: Rules,
    control_plane: ControlPlane,
    proxies: BTreeMap<String, Option<Arc<Proxy>>>,
    /// The rules in the order of their files, and in them.
    in_order: Vec<usize>,
}

/// A proxy, and what it is told.
pub(crate) struct Proxy {
    pub(crate) identity: ProxyIdentity,
    pub(crate) resources: Resources,
}

impl Configurations {
    /// The configuration of `places`; `place` is where a file of tests asks for it.
    pub(crate) fn load(
        &mut self,
        places: &Places,
        place: Option<&Span>,
        given: &Given,
        coverage: &mut Coverage,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<&mut Configuration> {
        if !self.loaded.contains_key(places) {
            let before = diagnostics.len();
            let configuration = load(places, given, coverage, diagnostics);
            for diagnostic in &mut diagnostics[before..] {
                if let (None, Some(place)) = (&diagnostic.span, place) {
                    diagnostic.span = Some(place.clone());
                }
            }
            let configuration = configuration.filter(|_| !has_error(&diagnostics[before..]));
            self.loaded.insert(places.clone(), configuration);
        }
        self.loaded.get_mut(places)?.as_mut()
    }
}

fn load(
    places: &Places,
    given: &Given,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Configuration> {
    let before = diagnostics.len();
    let read;
    let found = match &places.config {
        None => &given.found,
        Some(paths) => {
            read = paths.iter().flat_map(|path| find(path, diagnostics));
            &read.collect()
        }
    };
    let mut objects = Objects::default();
    let mut any = false;
    for one in found {
        any |= matches!(one.kind, Kind::Objects | Kind::Scenario);
        match one.kind {
            Kind::Objects => objects.apply(&Objects::read(&one.file, diagnostics)),
            Kind::Scenario => {
                let folder = Path::new(&*one.file.name).parent().unwrap_or(Path::new(""));
                if let Some(scenario) = scenarios::parse(&one.file, folder, diagnostics) {
                    objects.apply(&sim::plan::objects(&scenario, diagnostics));
                }
            }
            _ => {}
        }
    }
    if given.allow_invalid {
        allow_invalid(&mut diagnostics[before..]);
    }
    if let Some(path) = places.mesh_config.as_ref().or(given.mesh_config.as_ref()) {
        sim::plan::set_mesh_config(&mut objects, path, diagnostics);
    }
    if !any {
        if has_error(&diagnostics[before..]) {
            return None;
        }
        let message = "there is no Istio configuration to hold the tests against";
        let help = "name it with `-c`, or in the file of tests where its format can";
        diagnostics.push(Diagnostic::error(message).help(help));
        return None;
    }
    let rules = Rules::new(objects.stated_rules(), coverage);
    let place = |file: &str| found.iter().position(|one| *one.file.name == *file);
    let mut in_order: Vec<usize> = (0..rules.iter().count()).collect();
    in_order.sort_by_cached_key(|&rule| {
        let origin = &rules.get(rule).origin;
        (place(&origin.file), origin.line)
    });
    let pods = objects.pods();
    Some(Configuration {
        rules,
        control_plane: ControlPlane::new(PushSettings::default(), objects, pods),
        proxies: BTreeMap::new(),
        in_order,
    })
}

impl Configuration {
    pub(crate) fn objects(&self) -> &Objects {
        self.control_plane.objects()
    }

    /// The numbers of the rules, in the order of their files.
    pub(crate) fn in_order(&self) -> &[usize] {
        &self.in_order
    }

    /// The proxy of that name; `place` is where a file of tests names it. One that is not there is
    /// reported once.
    pub(crate) fn proxy(
        &mut self,
        name: &str,
        place: Option<&Span>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Proxy>> {
        if !self.proxies.contains_key(name) {
            let proxy = match self.objects().proxy(name) {
                Ok(identity) => Some(Arc::new(Proxy {
                    resources: self.control_plane.resources(&identity),
                    identity,
                })),
                Err(problem) => {
                    diagnostics.push(match place {
                        Some(place) => problem.at(place, "names no proxy"),
                        None => problem,
                    });
                    None
                }
            };
            self.proxies.insert(name.to_owned(), proxy);
        }
        self.proxies.get(name)?.clone()
    }
}

/// `path` without the `..` and `.` that can be left out, so that one file has one name.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(clean.components().next_back(), Some(Component::Normal(_))) =>
            {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    match clean.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => clean,
    }
}

pub(crate) fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|one| one.level == Level::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_one_name() {
        for (path, clean) in [
            ("a/../b/./c", "b/c"),
            ("../a/../../b", "../../b"),
            ("/a/../../b", "/../b"),
            ("./a", "a"),
            ("a/..", "."),
            ("-", "-"),
        ] {
            assert_eq!(cleaned(Path::new(path)), Path::new(clean), "{path}");
        }
    }
}
