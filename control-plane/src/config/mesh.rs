//! The part of the mesh configuration that is modelled.

use super::http_extras::Retries;
use super::{Destination, LocalitySetting, refuse};
use proxy_core::xds::Name;
use source::{Diagnostic, Dialect, Fields, Node, SourceFile, parse};

/// Istio `MeshConfig`, as far as it is modelled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    pub outbound_traffic_policy: OutboundTrafficMode,
    pub(crate) default_http_retry_policy: Option<Retries>,
    /// Where no rule has one.
    pub(crate) locality: LocalitySetting,
    pub(crate) ingress: IngressSettings,
}

/// Which Ingresses Istio serves, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressSettings {
    pub(crate) mode: IngressMode,
    pub(crate) class: Name,
    /// The value of the label `istio` of the pods that serve them.
    pub(crate) selector: Name,
}

/// Istio `MeshConfig.IngressControllerMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngressMode {
    Off,
    /// Those without a class too.
    Default,
    Strict,
}

impl Default for IngressSettings {
    /// Istio's where nothing is configured.
    fn default() -> IngressSettings {
        IngressSettings {
            mode: IngressMode::Strict,
            class: "istio".into(),
            selector: "ingressgateway".into(),
        }
    }
}

impl IngressSettings {
    fn read(fields: &mut Fields<'_, '_>) -> IngressSettings {
        let default = IngressSettings::default();
        let modes = [
            ("OFF", IngressMode::Off),
            ("DEFAULT", IngressMode::Default),
            ("STRICT", IngressMode::Strict),
        ];
        let mode = super::choice(fields, "ingressControllerMode", &modes);
        let mut text = |key| fields.text(key).filter(|text: &String| !text.is_empty());
        let service = text("ingressService").filter(|name| name != "istio-ingressgateway");
        let selector = text("ingressSelector").or(service);
        IngressSettings {
            mode: mode.unwrap_or(default.mode),
            class: text("ingressClass").map_or(default.class, Name::from),
            selector: selector.map_or(default.selector, Name::from),
        }
    }
}

/// Istio `MeshConfig.outboundTrafficPolicy.mode`: what happens to traffic to unknown destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTrafficMode {
    #[default]
    AllowAny,
    RegistryOnly,
}

impl MeshConfig {
    /// Reads the text of a MeshConfig (`mesh` in the `istio` ConfigMap).
    pub fn parse(name: &str, text: &str, diagnostics: &mut Vec<Diagnostic>) -> MeshConfig {
        let file = SourceFile::new(name, text);
        let (documents, problems) = parse(&file, Dialect::Kubernetes);
        diagnostics.extend(problems);
        match documents.first() {
            Some(node) => MeshConfig::read(node, diagnostics).unwrap_or_default(),
            None => MeshConfig::default(),
        }
    }

    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<MeshConfig> {
        let mut fields = Fields::of(node, "a MeshConfig", diagnostics)?;
        let mut mesh = MeshConfig::default();
        if let Some(node) = fields.optional("outboundTrafficPolicy") {
            mesh.outbound_traffic_policy = read_outbound_policy(node, fields.diagnostics)?;
        }
        if let Some(node) = fields.optional("defaultHttpRetryPolicy") {
            mesh.default_http_retry_policy = Retries::read(node, fields.diagnostics);
        }
        if let Some(node) = fields.optional("localityLbSetting") {
            mesh.locality = LocalitySetting::read(node, None, fields.diagnostics)?;
        }
        mesh.ingress = IngressSettings::read(&mut fields);
        fields.ignore(&[
            "accessLogFile",
            "accessLogFormat",
            "accessLogEncoding",
            "rootNamespace",
        ]);
        for entry in fields.rest() {
            fields.diagnostics.push(
                Diagnostic::warning(format!(
                    "`{}` of a MeshConfig is not supported yet",
                    entry.key
                ))
                .at(&entry.key_span, "has no effect here"),
            );
        }
        Some(mesh)
    }
}

/// Istio `OutboundTrafficPolicy`, of the mesh or of a Sidecar.
pub(super) fn read_outbound_policy(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<OutboundTrafficMode> {
    let mut fields = Fields::of(node, "an outboundTrafficPolicy", diagnostics)?;
    let choices = [
        ("ALLOW_ANY", OutboundTrafficMode::AllowAny),
        ("REGISTRY_ONLY", OutboundTrafficMode::RegistryOnly),
    ];
    let mode = super::choice(&mut fields, "mode", &choices);
    if let Some(node) = fields.optional("egressProxy") {
        Destination::read(node, fields.diagnostics);
        let complaint = match (mode, node.at(&["port"])) {
            (Some(OutboundTrafficMode::AllowAny), Some(_)) => None,
            (Some(OutboundTrafficMode::AllowAny), None) => Some("an `egressProxy` has a port"),
            _ => Some("`egressProxy` goes with mode ALLOW_ANY only"),
        };
        if let Some(message) = complaint {
            refuse(fields.diagnostics, &node.span, message, "where to go");
        }
    }
    fields.unsupported(&["egressProxy"]);
    fields.finish();
    // The zero of the enumeration.
    Some(mode.unwrap_or(OutboundTrafficMode::RegistryOnly))
}
