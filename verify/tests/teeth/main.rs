//! One mesh in which every decision has a part, beside a real Envoy: what changes of the core are
//! tried against (see docs/testing.md). Needs an Envoy: MESHSIM_ENVOY, or `envoy` in PATH; skipped
//! aloud otherwise.
//!
//! | file | holds |
//! |---|---|
//! | `mesh.yaml`, `rules.yaml` | the mesh, and rules of every kind |
//! | `loads.rs` | clusters whose endpoints differ in health, weight and priority |
//! | `tries.yaml`, `tries.rs`, `by_hand.rs` | what fails, is tried again, ejected, limited and refused |
//! | `gateway.yaml`, `gateway.rs` | a gateway: wildcards, redirects, paths in need of cleaning |

#![allow(clippy::unwrap_used, clippy::panic)]

mod by_hand;
mod gateway;
mod loads;
mod tries;

use control_plane::{ControlPlane, Objects, ProxyIdentity, PushSettings, Request, Resources};
use proxy_core::xds::{Cluster, LoadAssignment, Name, RouteTable};
use source::{Level, SourceFile};
use std::sync::Arc;
use verify::{Config, Settings};

/// What each service is asked, so that every kind of hash has something to hash.
const KEYS: std::ops::Range<u32> = 0..24;

/// Configurations with the rules.
const PARTS: usize = 4;

fn objects(texts: &[(&str, &str)]) -> Objects {
    let mut objects = Objects::default();
    for (name, text) in texts {
        let mut diagnostics = Vec::new();
        objects.apply(&Objects::read(
            &SourceFile::new(name, text),
            &mut diagnostics,
        ));
        let wrong: Vec<_> = diagnostics
            .into_iter()
            .filter(|d| d.level == Level::Error)
            .collect();
        assert!(wrong.is_empty(), "{}", source::render(&wrong, false));
    }
    objects
}

/// Services of all app pods, each on a port of its own, with the policies of their DestinationRules.
fn services(first_port: usize, services: &[(&str, &str)]) -> String {
    let text = |(at, (name, policy)): (usize, &(&str, &str))| {
        let port = first_port + at;
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{app: app}}, ports: [{{name: http, port: 80, targetPort: {port}}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: default}}
spec: {{host: {name}, trafficPolicy: {}}}
---
",
            // Istio allows no policy that says nothing.
            if *policy == "{}" { "null" } else { policy }
        )
    };
    services.iter().enumerate().map(text).collect()
}

/// A proxy, and what it is told.
fn proxy(objects: &Objects, name: &str) -> (ProxyIdentity, Resources) {
    let proxy = objects
        .proxy(name)
        .unwrap_or_else(|e| panic!("{}", e.message));
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods);
    let resources = plane.resources(&proxy);
    (proxy, resources)
}

/// The short name of an outbound cluster's service.
fn service(cluster: &str) -> Option<&str> {
    cluster.strip_prefix("outbound|80||")?.split('.').next()
}

/// `resources` with the clusters and endpoints of services changed.
fn changed(
    mut resources: Resources,
    change: fn(&str, &mut Cluster),
    assignment: fn(&str, &LoadAssignment) -> LoadAssignment,
) -> Resources {
    for cluster in &mut resources.clusters {
        let cluster = Arc::make_mut(cluster);
        let name = cluster.name.clone();
        if let Some(service) = service(&name) {
            change(service, cluster);
        }
    }
    for endpoints in &mut resources.endpoints {
        if let Some(service) = service(&endpoints.cluster) {
            *endpoints = Arc::new(assignment(service, endpoints));
        }
    }
    resources
}

/// The app has domains with wildcards as well: Istio allows no rule one at the end, or one that
/// covers another host of the rule.
fn with_wildcards(mut resources: Resources) -> Resources {
    for table in &mut resources.routes {
        let mut hosts = table.virtual_hosts.clone();
        let of_app = hosts
            .iter_mut()
            .filter(|host| host.domains.iter().any(|domain| **domain == *"app"));
        let wildcards = ["*.app.example", "app.*"].map(Name::from);
        of_app.for_each(|host| Arc::make_mut(host).domains.extend(wildcards.clone()));
        let changed = RouteTable::sharing(table.name.clone(), hosts, table.ignore_port_in_host);
        *table = Arc::new(changed);
    }
    resources
}

/// In a few parts: the requests of one are sent one after another.
fn rules() -> Vec<Config> {
    let objects = objects(&[
        ("mesh.yaml", include_str!("mesh.yaml")),
        ("rules.yaml", include_str!("rules.yaml")),
    ]);
    let (proxy, resources) = proxy(&objects, "client-0");
    let resources = with_wildcards(resources);
    let mut requests = verify::requests(&resources, proxy.ip);
    for key in KEYS {
        for url in [
            format!("http://ring/{key}"),
            format!("http://maglev/{key}"),
            format!("http://cookie/{key}"),
            format!("http://query/?user=k%20{key}&x"),
            format!("http://source/{key}"),
        ] {
            let mut request = Request::to_url(&url).unwrap();
            request.add_header(&format!("x-user: user-{key}")).unwrap();
            if key % 3 > 0 {
                request
                    .add_header(&format!("cookie: a=b; user=c{key}"))
                    .unwrap();
            }
            request.resolve(&objects, &proxy);
            requests.push(request);
        }
    }
    let of_app = requests
        .iter()
        .find(|r| r.authority == "app")
        .and_then(|r| r.address);
    for proto in ["http", "https", "ftp"] {
        for url in [
            "www.app.example/auth",
            "app/secure",
            "app/exact",
            "app:80/secure",
        ] {
            let mut request = Request::to_url(&format!("http://{url}")).unwrap();
            let header = format!("x-forwarded-proto: {proto}");
            request.add_header(&header).unwrap();
            request.address = of_app;
            request.resolve(&objects, &proxy);
            requests.push(request);
        }
    }
    let part = requests.len().div_ceil(PARTS);
    let config = |(number, requests): (usize, &[Request])| Config {
        name: format!("rules {number}"),
        proxy: proxy.clone(),
        resources: resources.clone(),
        requests: requests.into(),
    };
    requests.chunks(part).enumerate().map(config).collect()
}

#[test]
fn every_decision_agrees() {
    let Some(envoy) = verify::find_envoy() else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let settings = Settings {
        sample_size: 1000,
        ..Settings::new(envoy)
    };
    let mut configs = rules();
    configs.extend(loads::configs());
    configs.extend(tries::configs());
    configs.extend(gateway::configs());
    let report = verify::configs(&configs, &settings).unwrap();
    println!("{report}");
    assert!(report.agrees());
}
