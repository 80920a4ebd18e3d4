//! Configurations from text, and what both cores say of the witnesses.

#![allow(dead_code)]

use control_plane::{
    ControlPlane, Explanation, Objects, ProxyIdentity, ProxyKind, PushSettings, Request, Resources,
    explain,
};
use diff::{Change, Kind, Report, Treatment};
use proxy_core::xds::{ConfigRef, PathRewrite, RouteAction};
use source::{Level, SourceFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Services with one pod of each version, all with sidecars.
pub(crate) fn mesh(services: &[(&str, &[&str])]) -> String {
    let mut text = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: \
        {istio-injection: enabled}}}\n"
        .to_owned();
    for (name, versions) in services {
        text += &format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, \
             spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 9080}}]}}}}\n"
        );
        for version in *versions {
            text += &format!(
                "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}-{version}, \
                 namespace: default}}, spec: {{selector: {{matchLabels: {{app: {name}, version: \
                 {version}}}}}, template: {{metadata: {{labels: {{app: {name}, version: {version}}}}}, \
                 spec: {{containers: [{{name: app, ports: [{{containerPort: 9080}}]}}]}}}}}}}}\n"
            );
        }
    }
    text
}

pub(crate) fn objects(files: &[(&str, &str)]) -> Objects {
    let mut diagnostics = Vec::new();
    let mut objects = Objects::default();
    for (name, text) in files {
        let file = SourceFile::new(name, text);
        objects.apply(&Objects::read(&file, &mut diagnostics));
    }
    let errors: Vec<_> = diagnostics
        .iter()
        .filter(|one| one.level == Level::Error)
        .collect();
    assert!(errors.is_empty(), "{}", source::render(&diagnostics, false));
    objects
}

/// A side, to be asked.
pub(crate) struct Asked {
    control_plane: ControlPlane,
    objects: Objects,
    resources: BTreeMap<String, Resources>,
}

impl Asked {
    pub(crate) fn new(objects: &Objects) -> Asked {
        let settings = PushSettings::default();
        Asked {
            control_plane: ControlPlane::new(settings, objects.clone(), objects.pods()),
            objects: objects.clone(),
            resources: BTreeMap::new(),
        }
    }

    pub(crate) fn resources(&mut self, proxy: &str) -> &Resources {
        let identity = self.identity(proxy);
        let made = || self.control_plane.resources(&identity);
        self.resources.entry(proxy.to_owned()).or_insert_with(made)
    }

    /// As `--as` means it; a workload without proxy is taken to have a sidecar.
    fn identity(&self, proxy: &str) -> ProxyIdentity {
        if let Ok(identity) = self.objects.proxy(proxy) {
            return identity;
        }
        let mut pod = self.objects.pod(proxy).unwrap();
        pod.proxy = ProxyKind::Sidecar;
        pod.identity()
    }

    pub(crate) fn answer(&mut self, proxy: &str, request: &Request) -> Explanation {
        explain(self.resources(proxy), request)
    }
}

/// Both cores answer every witness as claimed.
pub(crate) fn check_witnesses(report: &Report, old: &mut Asked, new: &mut Asked) {
    for change in &report.changes {
        let (proxy, request) = (&change.witness.proxy, &change.witness.request);
        let (was, is) = (old.answer(proxy, request), new.answer(proxy, request));
        let values = |side: fn(&diff::SettingChange) -> &String| {
            let found = change
                .settings
                .iter()
                .find(|one| one.setting == "destination");
            found.map(side)
        };
        claimed(change, &change.old, values(|one| &one.old), &was);
        claimed(change, &change.new, values(|one| &one.new), &is);
        // Of a share of the requests `explain` does not say so.
        let no_cluster = change.settings.iter().any(|one| one.setting == "cluster");
        if change.kinds != [Kind::Policy] && change.kinds != [Kind::Access] && !no_cluster {
            assert_ne!(effect(&was), effect(&is), "{change:#?}");
        }
        if change.kinds == [Kind::Access] {
            assert_ne!(
                (&was.details, was.action),
                (&is.details, is.action),
                "{change:#?}\n{was:#?}"
            );
        }
    }
}

fn claimed(change: &Change, side: &Treatment, destination: Option<&String>, answer: &Explanation) {
    let shown = || format!("{change:#?}\n{answer:#?}");
    if let Some(destination) = destination {
        for cluster in &answer.clusters {
            let mut parts = cluster.name.split('|').skip(2);
            let (subset, host) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let host = host.split('.').next().unwrap_or("");
            assert!(
                destination.contains(host) && destination.contains(subset),
                "{}",
                shown()
            );
        }
        assert_eq!(
            answer.clusters.is_empty(),
            !goes(destination),
            "{}",
            shown()
        );
    }
    let of_route = answer
        .matched
        .as_ref()
        .and_then(|route| route.origin.as_ref());
    let no_cluster = change.settings.iter().any(|one| one.setting == "cluster");
    let policy = no_cluster || change.kinds == [Kind::Policy];
    if let Some(origin) = of_route.filter(|_| !policy && change.kinds != [Kind::Access]) {
        assert!(side.rules.contains(origin), "{}", shown());
    }
    if policy {
        // What happens to copies is not told by `explain`.
        let copied = answer.matched.as_ref().is_some_and(|route| {
            matches!(&route.action, RouteAction::Forward(forward) if !forward.mirrors.is_empty())
        });
        let known = side.rules.iter().any(|rule| answer.config.contains(rule));
        assert!(known || copied || side.rules.is_empty(), "{}", shown());
    }
}

fn goes(destination: &str) -> bool {
    let answers = [
        "redirected",
        "answered",
        "no route",
        "no virtual host",
        "nothing",
        "no filter",
        "two filter",
    ];
    let closed = ["the TLS handshake", "the bytes are not"];
    !answers
        .iter()
        .chain(&closed)
        .any(|text| destination.starts_with(text))
}

/// All that one can see of what becomes of a request, but for which rules made it so.
pub(crate) fn effect(answer: &Explanation) -> String {
    let action = answer.matched.as_ref().map(|route| {
        let mut route = (**route).clone();
        route.name = "".into();
        route.origin = None;
        route.matches = Default::default();
        if let RouteAction::Forward(forward) = &mut route.action {
            // What the request looks like after it is seen below.
            forward.path_rewrite = PathRewrite::None;
            for cluster in &mut forward.clusters {
                cluster.weight = 0;
            }
        }
        route
    });
    let total: u32 = answer.clusters.iter().map(|share| share.weight).sum();
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for share in &answer.clusters {
        *shares.entry(&share.name).or_default() +=
            f64::from(share.weight) / f64::from(total.max(1));
    }
    format!(
        "{:?} {shares:?} {:?} {:?} {:?} {:?} {action:?}",
        answer.action, answer.status, answer.details, answer.upstream, answer.response_headers
    )
}

/// Whether some class tells of what `proxy` does differently with a request that is answered so.
pub(crate) fn is_told(report: &Report, proxy: &str, old: &Explanation, new: &Explanation) -> bool {
    let covers =
        |rules: &[ConfigRef], by: Option<ConfigRef>| by.is_none_or(|by| rules.contains(&by));
    report.changes.iter().any(|change| {
        let of_clusters = change.settings.iter().any(|one| one.setting == "cluster");
        let by_cluster = || {
            let mut clusters = old.clusters.iter();
            clusters.any(|share| change.hosts.contains(&label(&share.name)))
        };
        let by_rules =
            || covers(&change.old.rules, origin(old)) && covers(&change.new.rules, origin(new));
        change.proxies.iter().any(|known| known == proxy)
            && if of_clusters {
                by_cluster()
            } else {
                by_rules()
            }
    })
}

/// A cluster as reports call it.
fn label(name: &str) -> String {
    let parts: Vec<&str> = name.split('|').collect();
    let host = parts[3].trim_end_matches(".svc.cluster.local");
    match parts[2] {
        "" => format!("{host}:{}", parts[1]),
        subset => format!("{host}:{} subset {subset}", parts[1]),
    }
}

/// The rule that decides where a request goes.
pub(crate) fn origin(answer: &Explanation) -> Option<ConfigRef> {
    answer
        .matched
        .as_ref()
        .and_then(|route| route.origin.clone())
}

pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {}", path.display());
    None
}
