//! The volumes of a sidecar.

use serde_json::{Value, json};

/// Where the sidecar has them.
pub(crate) fn mounts() -> Value {
    let mounts = [
        ("/var/run/secrets/workload-spiffe-uds", "workload-socket"),
        ("/var/run/secrets/credential-uds", "credential-socket"),
        (
            "/var/run/secrets/workload-spiffe-credentials",
            "workload-certs",
        ),
        ("/var/run/secrets/istio", "istiod-ca-cert"),
        ("/var/run/secrets/istio/crl", "istio-ca-crl"),
        ("/var/lib/istio/data", "istio-data"),
        ("/etc/istio/proxy", "istio-envoy"),
        ("/var/run/secrets/tokens", "istio-token"),
        ("/etc/istio/pod", "istio-podinfo"),
    ];
    let mounts = mounts.map(|(path, name)| json!({"mountPath": path, "name": name}));
    Value::Array(mounts.to_vec())
}

/// What they are.
pub(crate) fn volumes() -> Vec<Value> {
    let item =
        |path: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.{path}")}});
    vec![
        json!({"name": "workload-socket", "emptyDir": {}}),
        json!({"name": "credential-socket", "emptyDir": {}}),
        json!({"name": "workload-certs", "emptyDir": {}}),
        json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
        json!({"name": "istio-data", "emptyDir": {}}),
        json!({"name": "istio-podinfo", "downwardAPI": {"items": [item("labels"), item("annotations")]}}),
        json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {
            "audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}]}}),
        json!({"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}}),
        json!({"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": true}}),
    ]
}
