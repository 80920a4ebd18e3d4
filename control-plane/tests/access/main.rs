//! Who is let in: policies and requests, and what `explain` says of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod authorization;
mod modes;
mod tokens;

use control_plane::{ControlPlane, Explanation, Objects, PushSettings, Request, explain};
use source::SourceFile;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.8.0.1
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 3306}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web, containers: [{name: app}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: front-0, namespace: shop, labels: {security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: front, containers: [{name: app}]}
status: {podIP: 10.9.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: job-0, namespace: batch}
spec: {serviceAccountName: job, containers: [{name: app}]}
status: {podIP: 10.9.0.3}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, namespace: istio-system, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.9.0.9}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  gateways: [istio-system/edge]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
";

/// A policy of the kind with that spec, in the namespace.
fn policy(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}"
    )
}

fn allow(spec: &str) -> String {
    policy("AuthorizationPolicy", "shop", "allow", spec)
}

fn deny(spec: &str) -> String {
    let spec = spec.replacen('{', "{action: DENY, ", 1);
    policy("AuthorizationPolicy", "shop", "deny", &spec)
}

/// What the proxy of `to` makes of a request from the pod called `from`.
fn ask(policies: &[String], to: &str, from: &str, request: &Request) -> Explanation {
    let text = format!("{MESH}\n---\n{}", policies.join("\n---\n"));
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("mesh.yaml", &text), &mut diagnostics);
    let errors = diagnostics
        .iter()
        .filter(|d| d.level == source::Level::Error);
    assert_eq!(errors.count(), 0, "{}", source::render(&diagnostics, false));
    let proxy = objects.proxy(to).unwrap();
    let mut request = request.clone();
    request.come_from(&objects.pod(from).unwrap(), &proxy);
    request.resolve(&objects, &proxy);
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods);
    explain(&plane.resources(&proxy), &request)
}

fn get(url: &str) -> Request {
    Request::to_url(url).unwrap()
}

fn with(request: &Request, header: &str) -> Request {
    let mut request = request.clone();
    request.add_header(header).unwrap();
    request
}

/// 200 if it is forwarded.
fn status(policies: &[String], from: &str, request: &Request) -> u16 {
    let answer = ask(policies, "shop/web-0", from, request);
    match answer.status {
        Some(status) => status,
        None if answer.clusters.is_empty() => 0,
        None => 200,
    }
}
