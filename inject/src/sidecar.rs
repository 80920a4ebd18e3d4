//! What Istio 1.32 adds to a pod that gets a sidecar: its own template, with the values of the
//! default installation and the annotations of the pod.

use crate::captured::{Captured, annotation};
use crate::documents::PodManifest;
use crate::edit::Edits;
use crate::volumes::{mounts, volumes};
use serde_json::{Value, json};
use source::{Diagnostic, Node};

const IMAGE: &str = "registry.istio.io/release/proxyv2:1.32.0";
const STATUS_PORT: &str = "15020";

/// Adds the sidecar, and what comes with it. What of the manifest Istio would change besides is
/// warned of.
pub(crate) fn inject(
    pod: &PodManifest,
    spec: &Node,
    cni: bool,
    edits: &mut Edits<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let sidecar = Sidecar {
        pod,
        cni,
        captured: Captured::of(&pod.pod, diagnostics),
        native: text(&pod.pod, "sidecar.istio.io/nativeSidecar") != Some("false"),
    };
    sidecar.warn_of_probes(diagnostics);
    crate::manifest::annotate(&pod.pod, &sidecar.annotations(), &sidecar.labels(), edits);
    let redirecting = sidecar.redirecting();
    let proxy = sidecar.proxy();
    if sidecar.native {
        let first: Vec<Value> = redirecting.into_iter().chain([proxy]).collect();
        edits.list_in(spec, "initContainers", true, &first);
    } else {
        // So that other init containers have a network before.
        let redirecting: Vec<Value> = redirecting.into_iter().collect();
        edits.list_in(spec, "initContainers", cni, &redirecting);
        edits.list_in(spec, "containers", false, &[proxy]);
    }
    edits.list_in(spec, "volumes", true, &volumes());
}

/// What is added to one pod.
pub(crate) struct Sidecar<'p> {
    pod: &'p PodManifest,
    pub(crate) cni: bool,
    pub(crate) captured: Captured,
    /// An init container that goes on running.
    native: bool,
}

/// An annotation.
fn text<'n>(pod: &'n Node, key: &str) -> Option<&'n str> {
    annotation(pod, key).and_then(Node::as_scalar)
}

impl Sidecar<'_> {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        text(&self.pod.pod, key)
    }

    fn or<'s>(&'s self, key: &str, default: &'s str) -> &'s str {
        self.annotation(key).unwrap_or(default)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.pod.pod.at(&["metadata", "labels", key])?.as_scalar()
    }

    pub(crate) fn status_port(&self) -> &str {
        self.or("status.sidecar.istio.io/port", STATUS_PORT)
    }

    fn containers(&self) -> &[Node] {
        let containers = self.pod.pod.at(&["spec", "containers"]);
        containers.and_then(Node::as_seq).unwrap_or_default()
    }

    /// Names of the application's containers.
    fn names(&self) -> Vec<&str> {
        let names = self.containers().iter();
        let names = names.filter_map(|one| one.at(&["name"])?.as_scalar());
        names.filter(|name| *name != "istio-proxy").collect()
    }

    fn labels(&self) -> Vec<(String, Value)> {
        let name = ["app.kubernetes.io/name", "app"];
        let name = name.iter().find_map(|key| self.label(key));
        let version = ["app.kubernetes.io/version", "version"];
        let version = version.iter().find_map(|key| self.label(key));
        let name: String = name.unwrap_or(&self.pod.name).chars().take(63).collect();
        let all = [
            ("security.istio.io/tlsMode", "istio"),
            (
                "service.istio.io/canonical-name",
                name.trim_matches(['-', '_', '.']),
            ),
            (
                "service.istio.io/canonical-revision",
                version.unwrap_or("latest"),
            ),
        ];
        let missing = all.iter().filter(|(key, _)| self.label(key).is_none());
        missing
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect()
    }

    fn annotations(&self) -> Vec<(String, Value)> {
        let mut all: Vec<(String, Value)> = Vec::new();
        let mut add = |key: &str, value: &str| all.push((key.to_owned(), json!(value)));
        if let Some(first) = self.names().first() {
            for key in ["default-container", "default-logs-container"] {
                let key = format!("kubectl.kubernetes.io/{key}");
                if self.annotation(&key).is_none() {
                    add(&key, first);
                }
            }
        }
        add("istio.io/rev", "default");
        if self.annotation("prometheus.io/scrape") != Some("false") {
            add("prometheus.io/path", "/stats/prometheus");
            add("prometheus.io/port", STATUS_PORT);
            add("prometheus.io/scrape", "true");
        }
        add("sidecar.istio.io/status", &self.status());
        if self.cni {
            let captured = &self.captured;
            for (name, value) in [
                (
                    "includeOutboundIPRanges",
                    &captured.include_outbound_ip_ranges,
                ),
                ("includeInboundPorts", &captured.include_inbound_ports),
            ] {
                add(&format!("traffic.sidecar.istio.io/{name}"), &value.value);
            }
            let excluded = self.excluded_inbound();
            add("traffic.sidecar.istio.io/excludeInboundPorts", &excluded);
            add("sidecar.istio.io/interceptionMode", &captured.mode.value);
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What injection says of itself.
    fn status(&self) -> String {
        let redirecting = self.redirecting_name().map(|name| format!("{name:?}"));
        let proxy = "\"istio-proxy\"".to_owned();
        let list = |names: Vec<String>| match names.is_empty() {
            true => "null".to_owned(),
            false => format!("[{}]", names.join(",")),
        };
        let native = Some(proxy.clone()).filter(|_| self.native);
        let initial = list(redirecting.into_iter().chain(native).collect());
        let running = list(Some(proxy).filter(|_| !self.native).into_iter().collect());
        let volumes = volumes();
        let volumes = volumes.iter().map(|volume| volume["name"].to_string());
        let volumes = list(volumes.collect());
        format!(
            r#"{{"initContainers":{initial},"containers":{running},"volumes":{volumes},"imagePullSecrets":null,"revision":"default"}}"#
        )
    }

    fn proxy(&self) -> Value {
        let level = |key: &str, default: &str| self.or(key, default).to_owned();
        let mut proxy = json!({
            "name": "istio-proxy",
            "image": self.image(),
            "args": [
                "proxy",
                "sidecar",
                "--domain",
                "$(POD_NAMESPACE).svc.cluster.local",
                format!("--proxyLogLevel={}", level("sidecar.istio.io/logLevel", "warning")),
                format!(
                    "--proxyComponentLogLevel={}",
                    level("sidecar.istio.io/componentLogLevel", "misc:error")
                ),
                self.log_level(),
            ],
            "env": self.env(),
            "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
            "resources": self.resources(),
            "securityContext": self.security(),
            "volumeMounts": mounts(),
        });
        if self.native {
            let debug = format!("--debug-port={}", self.status_port());
            let drain = ["pilot-agent", "request", &debug, "POST", "drain"];
            proxy["restartPolicy"] = json!("Always");
            proxy["lifecycle"] = json!({"preStop": {"exec": {"command": drain}}});
        }
        if self.status_port() != "0" {
            let number = |key: &str, default: u64| {
                let key = format!("readiness.status.sidecar.istio.io/{key}");
                let stated = self.annotation(&key).and_then(|text| text.parse().ok());
                stated.unwrap_or(default)
            };
            let get = json!({"path": "/healthz/ready", "port": 15021});
            proxy["startupProbe"] = json!({
                "httpGet": get, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600,
            });
            proxy["readinessProbe"] = json!({
                "httpGet": get,
                "periodSeconds": number("periodSeconds", 15),
                "timeoutSeconds": 3,
                "failureThreshold": number("failureThreshold", 4),
            });
            let delay = number("initialDelaySeconds", 0);
            if delay > 0 {
                proxy["readinessProbe"]["initialDelaySeconds"] = json!(delay);
            }
        }
        proxy
    }

    pub(crate) fn image(&self) -> String {
        let own = self.annotation("sidecar.istio.io/proxyImage");
        if let Some(own) = own.filter(|image| image.contains('/')) {
            return own.to_owned();
        }
        match self.annotation("sidecar.istio.io/proxyImageType") {
            None | Some("default") => IMAGE.to_owned(),
            Some(kind) => format!("{IMAGE}-{kind}"),
        }
    }

    pub(crate) fn log_level(&self) -> String {
        let level = self.or("sidecar.istio.io/agentLogLevel", "default:info");
        format!("--log_output_level={level}")
    }

    /// Those stated; with none stated Istio's.
    pub(crate) fn resources(&self) -> Value {
        let stated = |cpu: &str, memory: &str| {
            let mut map = json!({});
            for (name, key) in [("cpu", cpu), ("memory", memory)] {
                if let Some(value) = self.annotation(&format!("sidecar.istio.io/{key}")) {
                    map[name] = json!(value);
                }
            }
            map
        };
        let mut all = json!({});
        for (name, map) in [
            ("requests", stated("proxyCPU", "proxyMemory")),
            ("limits", stated("proxyCPULimit", "proxyMemoryLimit")),
        ] {
            if map != json!({}) {
                all[name] = map;
            }
        }
        match all == json!({}) {
            true => json!({
                "limits": {"cpu": "2", "memory": "1Gi"},
                "requests": {"cpu": "100m", "memory": "128Mi"},
            }),
            false => all,
        }
    }

    fn security(&self) -> Value {
        let transparent = self.captured.mode.value == "TPROXY";
        let bind = self.annotation("sidecar.istio.io/capNetBindService") == Some("true");
        let mut capabilities = json!({"drop": ["ALL"]});
        let added = [(transparent, "NET_ADMIN"), (bind, "NET_BIND_SERVICE")];
        let added: Vec<&str> = added
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, n)| *n)
            .collect();
        let root = !added.is_empty();
        if root {
            capabilities["add"] = json!(added);
        }
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": capabilities,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 1337,
            "runAsNonRoot": !root,
            "runAsUser": if root { 0 } else { 1337 },
        })
    }

    fn env(&self) -> Vec<Value> {
        let value = |name: &str, value: &str| json!({"name": name, "value": value});
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let limit = |name: &str, of: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"divisor": "1", "resource": of}}});
        let mut env = vec![
            value("PILOT_CERT_PROVIDER", "istiod"),
            value("CA_ADDR", "istiod.istio-system.svc:15012"),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
            limit("ISTIO_CPU_LIMIT", "limits.cpu"),
            value("PROXY_CONFIG", "{}\n"),
            value("ISTIO_META_POD_PORTS", &self.pod_ports()),
            value("ISTIO_META_APP_CONTAINERS", &self.names().join(",")),
            limit("GOMEMLIMIT", "limits.memory"),
            value("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            field("ISTIO_META_NODE_NAME", "spec.nodeName"),
            value("ISTIO_META_INTERCEPTION_MODE", &self.captured.mode.value),
        ];
        let workload = self.label("service.istio.io/workload-name");
        let workload = workload.unwrap_or(&self.pod.name);
        if !workload.is_empty() {
            env.push(value("ISTIO_META_WORKLOAD_NAME", workload));
        }
        let PodManifest {
            api_version,
            kind,
            namespace,
            name,
            ..
        } = self.pod;
        if !api_version.is_empty() && !name.is_empty() {
            let kinds = format!("{}s", kind.to_lowercase());
            let owner =
                format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{kinds}/{name}");
            env.push(value("ISTIO_META_OWNER", &owner));
        }
        env.push(value("ISTIO_META_MESH_ID", "cluster.local"));
        env.push(value("TRUST_DOMAIN", "cluster.local"));
        env.extend(self.scraped());
        env
    }

    /// Ports of the application's containers, as Istio's template writes them.
    fn pod_ports(&self) -> String {
        let keys = ["name", "hostPort", "containerPort", "protocol", "hostIP"];
        let mut texts = Vec::new();
        for container in self.containers() {
            let ports = container.at(&["ports"]).and_then(Node::as_seq);
            for port in ports.unwrap_or_default() {
                let fields = keys.iter().filter_map(|key| {
                    let node = port.at(&[key])?;
                    let text = node.as_scalar()?;
                    let number = key.ends_with("Port");
                    let value = if number {
                        text.to_owned()
                    } else {
                        json!(text).to_string()
                    };
                    Some(format!("{key:?}:{value}"))
                });
                let fields: Vec<String> = fields.collect();
                texts.push(format!("{{{}}}", fields.join(",")));
            }
        }
        match texts.is_empty() {
            true => "[\n]".to_owned(),
            false => format!("[\n    {}\n]", texts.join("\n    ,")),
        }
    }

    /// What of the pod Prometheus was to scrape, which the agent now does.
    fn scraped(&self) -> Option<Value> {
        let key = |name: &str| format!("prometheus.io/{name}");
        let stated = |name: &str| self.annotation(&key(name)).unwrap_or_default();
        let (scrape, path, port) = (stated("scrape"), stated("path"), stated("port"));
        if scrape == "false" || port == STATUS_PORT || [scrape, path, port] == [""; 3] {
            return None;
        }
        let text = format!(
            r#"{{"scrape":{},"path":{},"port":{}}}"#,
            json!(scrape),
            json!(path),
            json!(port)
        );
        Some(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": text}))
    }

    /// Istio sends the kubelet's probes through its agent.
    fn warn_of_probes(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.annotation("sidecar.istio.io/rewriteAppHTTPProbers") == Some("false") {
            return;
        }
        let probes = ["readinessProbe", "livenessProbe", "startupProbe"];
        for container in self.containers() {
            let probe = probes.iter().find_map(|key| container.at(&[key]));
            let Some(probe) = probe.filter(|probe| probe.at(&["exec"]).is_none()) else {
                continue;
            };
            diagnostics.push(
                Diagnostic::warning("probes are left as they are")
                    .at(&probe.span, "Istio would send this one through port 15020"),
            );
        }
    }
}
