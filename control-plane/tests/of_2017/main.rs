//! The rules of Istio 0.1 and 0.2: how they are read, what Envoy and Linkerd of 2017 did with them, and
//! what they are today.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conversion;
mod envoy;
mod linkerd;
mod outcome;
mod random_rules;
mod reading;
mod samples;

use control_plane::{
    ControlPlane, DataPlane, Explanation, Objects, PushSettings, Request, Resources, explain,
};
use source::{Diagnostic, Level, SourceFile};

/// The services of Bookinfo with every version that rules of 2017 name, and an ingress proxy.
pub fn bookinfo() -> String {
    let mut text = String::new();
    for (name, versions) in [
        ("productpage", &["v1"][..]),
        ("details", &["v1"]),
        ("reviews", &["v1", "v2", "v3"]),
        ("ratings", &["v1", "v2", "v2-mysql-vm"]),
    ] {
        text.push_str(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 9080, name: http}}], selector: {{app: {name}}}}}\n---\n"
        ));
        for version in versions {
            text.push_str(&format!(
                "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {{name: {name}-{version}}}\nspec: {{replicas: 2, template: {{metadata: {{labels: {{app: {name}, version: {version}}}}}, spec: {{containers: [{{name: app, ports: [{{containerPort: 9080}}]}}]}}}}}}\n---\n"
            ));
        }
    }
    for istio in ["ingress", "ingressgateway"] {
        text.push_str(&format!(
            "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {{name: {istio}, namespace: istio-system}}\nspec: {{template: {{metadata: {{labels: {{istio: {istio}}}}}, spec: {{containers: [{{name: istio-proxy}}]}}}}}}\n---\n"
        ));
    }
    text
}

/// Objects of Bookinfo and `rules`, and what is said of them.
pub fn read(rules: &str) -> (Objects, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let apps = SourceFile::new("bookinfo.yaml", &bookinfo());
    let mut objects = Objects::read(&apps, &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    let file = SourceFile::new("rules.yaml", rules);
    objects.apply(&Objects::read(&file, &mut diagnostics));
    (objects, diagnostics)
}

/// The same of rules without an error.
pub fn valid(rules: &str) -> Objects {
    let (objects, mut diagnostics) = read(rules);
    diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    objects
}

/// What `check` says of rules as `data_plane` takes them.
pub fn checked(rules: &str, data_plane: Option<DataPlane>) -> String {
    let (mut objects, mut diagnostics) = read(rules);
    if let Some(data_plane) = data_plane {
        objects.set_data_plane(data_plane);
    }
    objects.check_references(&mut diagnostics);
    source::render(&diagnostics, false)
}

/// What a proxy, by its workload, is told.
pub fn resources(objects: &Objects, proxy: &str) -> Resources {
    let identity = objects.proxy(proxy).unwrap();
    let pods = objects.pods();
    ControlPlane::new(PushSettings::default(), objects.clone(), pods).resources(&identity)
}

/// A GET with headers.
pub fn get(host: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter();
    Request {
        method: "GET".into(),
        scheme: "http".into(),
        authority: host.into(),
        path: path.into(),
        headers: headers.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..Request::default()
    }
}

/// Where it goes: clusters with their shares.
pub fn clusters(resources: &Resources, request: &Request) -> Vec<(String, u32)> {
    let answer: Explanation = explain(resources, request);
    let shares = answer.clusters.iter();
    shares
        .map(|share| (share.name.to_string(), share.weight))
        .collect()
}

/// The only cluster, as `VERSION-LABELS HOST`.
pub fn version(resources: &Resources, request: &Request) -> String {
    let found = clusters(resources, request);
    let [(name, _)] = &found[..] else {
        panic!("{found:?}");
    };
    let parts: Vec<&str> = name.split('|').collect();
    format!("{} {}", parts[2], parts[3])
}
