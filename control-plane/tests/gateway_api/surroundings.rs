//! What the tests of Istio's controller take to be there.

use super::goldens::{list, text};
use control_plane::Objects;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Services that are there, with the ports 80, 34000 and 34001.
const SERVICES: &str = "
httpbin.default httpbin-apple.apple httpbin-banana.banana httpbin-second.default
httpbin-wildcard.default foo-svc.default httpbin-other.default example.default echo.default
httpbin.cert my-svc.service a-example.allowed-1 a-example.allowed-2 b-example.allowed-1
svc2.allowed-1 svc2.allowed-2 svc1.allowed-1 svc3.allowed-2 svc4.default httpbin.group-namespace1
httpbin.group-namespace2 httpbin-zero.default httpbin.istio-system httpbin-mirror.default
httpbin-foo.default httpbin-alt.default istiod.istio-system echo.istio-system httpbin-bad.default
echo-1.default echo-2.default echo-port.default not-found.default
";
/// Hosts outside the cluster, with the namespace that knows them.
const HOSTS: [(&str, &str); 6] = [
    ("example.com", "istio-system"),
    ("google.com", "default"),
    ("secure.example.net", "default"),
    ("cross.example.net", "allowed-1"),
    ("plaintext.example.net", "default"),
    ("tcp.example.net", "default"),
];
const SECRETS: [(&str, &str); 9] = [
    ("istio-system", "my-cert-http"),
    ("ns2", "ns2-cert"),
    ("ns3", "ns3-cert"),
    ("ns4", "ns4-cert"),
    ("istio-system", "my-cert"),
    ("istio-system", "my-cert-http2"),
    ("cert", "cert"),
    ("bookinfo", "bookinfo-secret"),
    ("bookinfo", "another-secret"),
];
pub(crate) const PORTS: [(&str, u16); 3] = [("http", 80), ("tcp", 34000), ("tcp-other", 34001)];

fn service(name: &str, namespace: &str, ports: &[(String, u16)], external: Option<&str>) -> String {
    let ports: Vec<String> = ports
        .iter()
        .map(|(name, port)| format!("{{name: {name}, port: {port}}}"))
        .collect();
    let status = external.map_or(String::new(), |ip| {
        format!("status: {{loadBalancer: {{ingress: [{{ip: {ip}}}]}}}}\n")
    });
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{app: {name}}}\n  ports: [{}]\n{status}",
        ports.join(", ")
    )
}

/// A pod with that label, a gateway or with a sidecar.
fn pod(name: &str, namespace: &str, gateway: bool) -> String {
    let containers = if gateway {
        "[{name: istio-proxy}]"
    } else {
        "[{name: app}, {name: istio-proxy}]"
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-0, namespace: {namespace}, \
         labels: {{app: {name}}}}}\nspec: {{containers: {containers}}}\n"
    )
}

/// What the tests of Istio's controller take to be there.
pub(crate) fn surroundings() -> String {
    let block = |label: &str| format!("-----BEGIN {label}-----\\nAAAA\\n-----END {label}-----\\n");
    let (certificate, key) = (block("CERTIFICATE"), block("RSA PRIVATE KEY"));
    let named = |ports: &[(&str, u16)]| -> Vec<(String, u16)> {
        ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect()
    };
    let mut text = String::new();
    for full in SERVICES.split_whitespace() {
        let (name, namespace) = full.split_once('.').unwrap();
        text += &service(name, namespace, &named(&PORTS), None);
        text += &pod(name, namespace, false);
    }
    let ports = [&[("https", 443)], &PORTS[..]].concat();
    text += &service(
        "istio-ingressgateway",
        "istio-system",
        &named(&ports),
        Some("1.2.3.4"),
    );
    text += &pod("istio-ingressgateway", "istio-system", true);
    for (host, namespace) in HOSTS {
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: known-{}, \
             namespace: {namespace}}}\nspec:\n  hosts: [{host}]\n  resolution: DNS\n  ports:\n  - \
             {{name: http, number: 80, protocol: HTTP}}\n  - {{name: tcp, number: 34000, protocol: \
             TCP}}\n  - {{name: tcp-other, number: 34001, protocol: TCP}}\n",
            host.replace('.', "-")
        );
    }
    for (namespace, name) in SECRETS {
        let authority = match name {
            "my-cert-http" => format!(", ca.crt: \"{certificate}\""),
            _ => String::new(),
        };
        text += &format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             stringData: {{tls.crt: \"{certificate}\", tls.key: \"{key}\"{authority}}}\n"
        );
    }
    text += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: malformed, namespace: istio-system}\n\
             stringData: {tls.crt: hello, tls.key: hello}\n";
    for (namespace, name, key, value) in [
        ("istio-system", "malformed", "not-ca.crt", "hello"),
        ("istio-system", "malformed-trustbundle", "ca.crt", "hello"),
        ("istio-system", "my-cert-http", "ca.crt", &*certificate),
        ("default", "malformed", "not-ca.crt", "hello"),
        ("default", "auth-cert", "ca.crt", &*certificate),
    ] {
        text += &format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\ndata: {{{key}: \"{value}\"}}\n"
        );
    }
    text
}

/// The namespaces of the objects, with a label by which tests select them.
pub(crate) fn namespaces(objects: &Objects) -> String {
    let names: BTreeSet<String> = objects
        .refs()
        .iter()
        .map(|object| object.namespace.to_string())
        .filter(|name| !name.is_empty())
        .collect();
    let mut text = String::new();
    for name in names {
        let part = name.split('-').next().unwrap_or_default();
        text += &format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: \
             {{istio.io/test-name-part: {part}}}}}\n"
        );
    }
    text
}

/// Services and pods of the Gateways that the controller deploys, which its tests leave out.
pub(crate) fn deployments(golden: &[Value]) -> String {
    let mut ports: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
    for gateway in golden.iter().filter(|object| object["kind"] == "Gateway") {
        let annotation = "/metadata/annotations/internal.istio.io~1gateway-service";
        for host in text(gateway, annotation).split(',') {
            let Some(full) = host.strip_suffix(".svc.cluster.local") else {
                continue;
            };
            let (name, namespace) = full.split_once('.').unwrap();
            let entry = ports
                .entry((name.to_owned(), namespace.to_owned()))
                .or_default();
            for server in list(gateway, "/spec/servers") {
                entry.extend(server["port"]["number"].as_u64().map(|port| port as u16));
            }
        }
    }
    ports.remove(&("istio-ingressgateway".to_owned(), "istio-system".to_owned()));
    let mut all = String::new();
    for ((name, namespace), ports) in ports {
        if SERVICES
            .split_whitespace()
            .any(|known| known == format!("{name}.{namespace}"))
        {
            continue;
        }
        let ports: Vec<(String, u16)> = ports
            .iter()
            .map(|port| (format!("port-{port}"), *port))
            .collect();
        all += &service(&name, &namespace, &ports, None);
        all += &pod(&name, &namespace, true);
    }
    all
}
