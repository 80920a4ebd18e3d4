//! Proxies, by name or by description.

use crate::model::{Pod, ProxyIdentity, ProxyKind};
use crate::objects::Objects;
use source::Diagnostic;
use std::net::IpAddr;

impl Objects {
    /// The proxy that `text` means: a workload or pod (as for [`Objects::pod`]), or a description
    /// (`kind=sidecar|gateway,namespace=NS,labels=k=v;k=v,ip=A.B.C.D,locality=REGION/ZONE`, all of
    /// them optional). Of a workload it is that of the first pod. Fails if there is none, if pods in
    /// several namespaces may be meant, and for a description that cannot be read.
    pub fn proxy(&self, text: &str) -> Result<ProxyIdentity, Diagnostic> {
        match text.contains('=') {
            true => described(text).map_err(Diagnostic::error),
            false => before(text, &self.pod(text)?),
        }
    }

    /// The pod that `text` means: `NAME`, `NAMESPACE/NAME` or `NAME.NAMESPACE`, of the pod or of its
    /// workload, which then is the first. Fails if there is none, and if pods in several namespaces may
    /// be meant.
    pub fn pod(&self, text: &str) -> Result<Pod, Diagnostic> {
        named(text, &self.pods())
    }
}

fn before(text: &str, pod: &Pod) -> Result<ProxyIdentity, Diagnostic> {
    match pod.proxy {
        ProxyKind::None => Err(Diagnostic::error(format!("`{text}` has no proxy"))
            .help("label its pods `sidecar.istio.io/inject: \"true\"`, or its namespace")),
        ProxyKind::Node => Err(
            Diagnostic::error(format!("`{text}` has no proxy of its own"))
                .help("it uses that of its node"),
        ),
        _ => Ok(pod.identity()),
    }
}

fn named(text: &str, pods: &[Pod]) -> Result<Pod, Diagnostic> {
    let is_called = |pod: &&Pod, name: &str| *pod.name == *name || *pod.workload == *name;
    let (namespace, name) = match (text.split_once('/'), text.rsplit_once('.')) {
        (Some((namespace, name)), _) => (Some(namespace), name),
        // A name may have dots in it.
        (None, Some((name, namespace))) if !pods.iter().any(|pod| is_called(&pod, text)) => {
            (Some(namespace), name)
        }
        (None, _) => (None, text),
    };
    let meant: Vec<&Pod> = pods.iter().filter(|pod| is_called(pod, name)).collect();
    let within: Vec<&Pod> = meant
        .iter()
        .copied()
        .filter(|pod| namespace.is_none_or(|namespace| *pod.namespace == *namespace))
        .collect();
    let Some(pod) = within.first() else {
        let missing = Diagnostic::error(format!("no workload or pod is called `{text}`"));
        return Err(match meant.first() {
            Some(pod) => missing.help(format!("there is `{}/{name}`", pod.namespace)),
            None => {
                let known = pods.iter().flat_map(|pod| [&*pod.workload, &*pod.name]);
                missing.nearest(name, known)
            }
        });
    };
    if let Some(other) = within.iter().find(|other| other.namespace != pod.namespace) {
        let (one, two) = (&pod.namespace, &other.namespace);
        return Err(
            Diagnostic::error(format!("`{name}` is in more than one namespace"))
                .help(format!("say which: `{one}/{name}` or `{two}/{name}`")),
        );
    }
    Ok(Pod::clone(pod))
}

fn described(text: &str) -> Result<ProxyIdentity, String> {
    let mut proxy = ProxyIdentity {
        name: "described".into(),
        kind: ProxyKind::Sidecar,
        namespace: "default".into(),
        labels: Vec::new(),
        ip: IpAddr::from([10, 0, 0, 1]),
        locality: "".into(),
    };
    for part in text.split(',') {
        let (key, value) = key_value(part)?;
        match key {
            "kind" => {
                proxy.kind = match value {
                    "sidecar" => ProxyKind::Sidecar,
                    "gateway" => ProxyKind::Gateway,
                    _ => return Err(format!("kind `{value}` is neither sidecar nor gateway")),
                }
            }
            "namespace" => proxy.namespace = value.into(),
            "locality" => proxy.locality = value.into(),
            "ip" => {
                let ip = value.parse();
                proxy.ip = ip.map_err(|_| format!("`{value}` is not an IP address"))?;
            }
            "labels" => {
                for label in value.split(';').filter(|label| !label.is_empty()) {
                    let (key, value) = key_value(label)?;
                    proxy.labels.push((key.into(), value.into()));
                }
            }
            _ => {
                let known = "kind, namespace, labels, ip and locality";
                return Err(format!("`{key}` is not one of {known}"));
            }
        }
    }
    Ok(proxy)
}

fn key_value(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .ok_or_else(|| format!("`{text}` is not KEY=VALUE"))
}
