//! The part of the mesh configuration that is modelled.

use super::http_extras::Retries;
use super::{DataPlane, Destination, LabelSelector, LocalitySetting, choice, duration, refuse};
use proxy_core::time::Nanos;
use proxy_core::xds::{EscapedSlashes, FilterChain, HttpConnectionManager, Name, NetworkFilter};
use source::{Diagnostic, Dialect, Fields, Node, SourceFile, parse};

/// Istio `MeshConfig`, as far as it is modelled.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshConfig {
    pub outbound_traffic_policy: OutboundTrafficMode,
    /// Where rules for everybody live.
    pub(crate) root_namespace: Name,
    /// Of the namespaces that Istio looks at; none is all of them.
    pub(crate) discovery: Vec<LabelSelector>,
    /// Of the identities of workloads.
    pub(crate) trust_domain: Name,
    /// What policies may call it, too.
    pub(crate) trust_domain_aliases: Vec<Name>,
    pub(crate) default_http_retry_policy: Option<Retries>,
    /// Where no rule has one, as is the next.
    pub(crate) locality: LocalitySetting,
    pub(crate) connect_timeout: Nanos,
    /// Clients speak HTTP/2 to HTTP/1.1 ports, unless a rule says otherwise.
    pub(crate) h2_upgrade: bool,
    /// Without a rule, sidecars speak mutual TLS to each other.
    pub(crate) auto_mutual_tls: bool,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) exports: DefaultExports,
    pub(crate) ingress: IngressSettings,
    /// Not of the MeshConfig: see [`crate::Objects::set_data_plane`].
    pub(crate) data_plane: Option<DataPlane>,
    /// Of Istio 0.1 and 0.2; `None`: there is no Mixer.
    pub(crate) mixer: Option<MixerSettings>,
}

/// Istio 0.2 `mixerAddress`, `disablePolicyChecks`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MixerSettings {
    /// Requests wait for its verdict.
    pub(crate) checks: bool,
}

impl Default for MeshConfig {
    /// Istio's where nothing is configured.
    fn default() -> MeshConfig {
        MeshConfig {
            outbound_traffic_policy: OutboundTrafficMode::default(),
            root_namespace: "istio-system".into(),
            discovery: Vec::new(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            default_http_retry_policy: None,
            locality: LocalitySetting::default(),
            connect_timeout: Nanos::from_secs(10),
            h2_upgrade: false,
            auto_mutual_tls: true,
            path_normalization: PathNormalization::Base,
            exports: DefaultExports::default(),
            ingress: IngressSettings::default(),
            mixer: None,
            data_plane: None,
        }
    }
}

/// The `exportTo` of objects that do not state it; empty is everybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DefaultExports {
    pub(crate) services: Vec<Name>,
    pub(crate) virtual_services: Vec<Name>,
    pub(crate) destination_rules: Vec<Name>,
}

/// Istio `MeshConfig.ProxyPathNormalization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathNormalization {
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

impl PathNormalization {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<PathNormalization> {
        let mut fields = Fields::of(node, "a path normalization", diagnostics)?;
        let choices = [
            ("DEFAULT", PathNormalization::Base),
            ("NONE", PathNormalization::None),
            ("BASE", PathNormalization::Base),
            ("MERGE_SLASHES", PathNormalization::MergeSlashes),
            (
                "DECODE_AND_MERGE_SLASHES",
                PathNormalization::DecodeAndMergeSlashes,
            ),
        ];
        let found = choice(&mut fields, "normalization", &choices);
        fields.finish();
        found
    }

    /// Has the HTTP filters of `chains` do it.
    pub(crate) fn apply(self, chains: &mut [FilterChain]) {
        for chain in chains {
            if let NetworkFilter::Http(manager) = &mut chain.filter {
                self.set(manager);
            }
        }
    }

    fn set(self, manager: &mut HttpConnectionManager) {
        let decode = self == PathNormalization::DecodeAndMergeSlashes;
        manager.normalize_path = self != PathNormalization::None;
        manager.merge_slashes = decode || self == PathNormalization::MergeSlashes;
        manager.escaped_slashes = match decode {
            true => EscapedSlashes::UnescapeAndForward,
            false => EscapedSlashes::Keep,
        };
    }
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
    /// Has `manager` normalise paths as those of all proxies do (`pathNormalization`).
    pub fn set_path_normalization(&self, manager: &mut HttpConnectionManager) {
        self.path_normalization.set(manager);
    }

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

    /// Whether proxies ask a Mixer (`mixerAddress`).
    pub fn has_mixer(&self) -> bool {
        self.mixer.is_some()
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
        let unchecked = fields.boolean("disablePolicyChecks").unwrap_or(false);
        let mixer = fields
            .text("mixerAddress")
            .filter(|address| !address.is_empty());
        mesh.mixer = mixer.map(|_| MixerSettings { checks: !unchecked });
        mesh.read_defaults(&mut fields);
        // What is logged, counted and traced.
        fields.ignore(&[
            "accessLogFile",
            "accessLogFormat",
            "accessLogEncoding",
            "disableEnvoyListenerLog",
            "enableEnvoyAccessLogService",
            "enablePrometheusMerge",
            "enableTracing",
            "defaultProviders",
            "outboundClusterStatName",
            "inboundClusterStatName",
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

    fn read_defaults(&mut self, fields: &mut Fields<'_, '_>) {
        let mut text = |key| fields.text(key).filter(|text: &String| !text.is_empty());
        if let Some(root) = text("rootNamespace") {
            self.root_namespace = root.into();
        }
        if let Some(domain) = text("trustDomain") {
            self.trust_domain = domain.into();
        }
        if let Some(timeout) = duration(fields, "connectTimeout") {
            self.connect_timeout = timeout;
        }
        let upgrades = [("DO_NOT_UPGRADE", false), ("UPGRADE", true)];
        self.h2_upgrade = choice(fields, "h2UpgradePolicy", &upgrades).unwrap_or(false);
        self.auto_mutual_tls = fields.boolean("enableAutoMtls").unwrap_or(true);
        if let Some(node) = fields.optional("pathNormalization") {
            let stated = PathNormalization::read(node, fields.diagnostics);
            self.path_normalization = stated.unwrap_or(PathNormalization::Base);
        }
        let selectors = fields.list("discoverySelectors").iter();
        self.discovery = selectors
            .filter_map(|node| LabelSelector::read(node, fields.diagnostics))
            .collect();
        let mut names = |key| fields.texts(key).into_iter().map(Name::from).collect();
        self.trust_domain_aliases = names("trustDomainAliases");
        self.exports = DefaultExports {
            services: names("defaultServiceExportTo"),
            virtual_services: names("defaultVirtualServiceExportTo"),
            destination_rules: names("defaultDestinationRuleExportTo"),
        };
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
