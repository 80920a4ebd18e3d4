//! Istio's analyzers, as `istioctl analyze` runs them: what they look at and when they speak is Istio's
//! (`pkg/config/analysis/analyzers`), the words and places are ours.
//!
//! | module | holds |
//! |---|---|
//! | `input` | objects and mesh settings that analyzers look at |
//! | `annotations`, `annotation_values` | annotations of Istio's |
//! | `authorization`, `authentication` | policies |
//! | `conditions` | statuses |
//! | `deployments` | Deployments with their Services, users of containers |
//! | `deprecation` | fields and kinds that are no longer |
//! | `destination_rules`, `subsets` | DestinationRules |
//! | `destinations`, `claims`, `mesh_hosts`, `virtual_service_gateways` | VirtualServices |
//! | `envoy_filters` | EnvoyFilters |
//! | `gateways`, `gateway_ports`, `credentials` | Gateways |
//! | `gateway_api` | kinds and pods of the Gateway API |
//! | `injection`, `proxy_images` | sidecar injection |
//! | `port_names` | ports of Services |
//! | `mesh_networks` | MeshNetworks |
//! | `service_entries`, `service_hosts` | ServiceEntries; the hosts that there are |
//! | `sidecars`, `telemetry` | Sidecars, Telemetries |
//! | `webhooks`, `external_control_plane` | webhooks that inject and validate |
//! | `workloads`, `pod_index` | which pods are in the mesh; pods by their labels |

mod annotation_values;
mod annotations;
mod authentication;
mod authorization;
mod claims;
mod conditions;
mod credentials;
mod deployments;
mod deprecation;
mod destination_rules;
mod destinations;
mod envoy_filters;
mod external_control_plane;
mod gateway_api;
mod gateway_ports;
mod gateways;
mod injection;
mod input;
mod mesh_hosts;
mod mesh_networks;
mod pod_index;
mod port_names;
mod proxy_images;
mod service_entries;
mod service_hosts;
mod sidecars;
mod subsets;
mod telemetry;
mod virtual_service_gateways;
mod webhooks;
mod workloads;

use crate::documents::*;
use input::{Input, Report};
use source::{Diagnostic, Node};

/// One analyzer of Istio's.
pub struct Analyzer {
    /// As `istioctl analyze --analyzer` names it.
    pub name: &'static str,
    /// The kinds that it looks at.
    pub reads: &'static [Kind],
    run: fn(&Input<'_>, &mut Report<'_>),
}

impl Analyzer {
    /// Whether it looks at what runs in a cluster. `istioctl analyze` leaves such out when it sees files
    /// only.
    pub fn needs_cluster(&self) -> bool {
        let of_cluster = [SERVICE, NAMESPACE, NODE, POD, SECRET];
        self.reads.iter().any(|kind| of_cluster.contains(kind))
    }
}

/// Which analyzers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection<'a> {
    /// On what was taken from a running cluster (it has pods with addresses) those that need none, as
    /// `istioctl analyze` does with files; on manifests all, where the objects that they would miss are
    /// there at all.
    #[default]
    Automatic,
    /// Those that need no cluster.
    OfFiles,
    /// All, as `istioctl analyze` does with a cluster.
    All,
    /// Those of these names.
    Named(&'a [String]),
}

impl Selection<'_> {
    fn takes(self, analyzer: &Analyzer) -> bool {
        match self {
            Selection::Automatic | Selection::All => true,
            Selection::OfFiles => !analyzer.needs_cluster(),
            Selection::Named(names) => names.iter().any(|name| name == analyzer.name),
        }
    }
}

/// What there is besides the objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// The MeshConfig; else that of the `istio` ConfigMap among the objects, else Istio's defaults.
    pub mesh_config: Option<&'a Node>,
    /// The MeshNetworks, in the same way.
    pub mesh_networks: Option<&'a Node>,
    pub analyzers: Selection<'a>,
}

/// Every analyzer that speaks of files, in Istio's order. Those for several clusters at once are left
/// out; what else validation says (IST0106, IST0130, IST0131, IST0133) comes from reading the objects:
/// `control_plane::Objects::read`.
pub const ANALYZERS: &[Analyzer] = &[
    Analyzer {
        name: "annotations.K8sAnalyzer",
        reads: &[NAMESPACE, SERVICE, POD, DEPLOYMENT],
        run: annotations::analyze,
    },
    Analyzer {
        name: "authn.BlockedCIDRsAnalyzer",
        reads: &[REQUEST_AUTHENTICATION, DEPLOYMENT],
        run: authentication::analyze,
    },
    Analyzer {
        name: "auth.AuthorizationPoliciesAnalyzer",
        reads: &[AUTHORIZATION_POLICY, NAMESPACE, POD],
        run: authorization::analyze,
    },
    Analyzer {
        name: "conditions.ConditionAnalyzer",
        reads: conditions::KINDS,
        run: conditions::analyze,
    },
    Analyzer {
        name: "deployment.MultiServiceAnalyzer",
        reads: &[SERVICE, DEPLOYMENT, NAMESPACE],
        run: deployments::analyze_services,
    },
    Analyzer {
        name: "applicationUID.Analyzer",
        reads: &[POD, DEPLOYMENT],
        run: deployments::analyze_users,
    },
    Analyzer {
        name: "destinationrule.CaCertificateAnalyzer",
        reads: &[DESTINATION_RULE],
        run: destination_rules::analyze,
    },
    Analyzer {
        name: "destinationrule.SubsetSelectPodAnalyzer",
        reads: &[DESTINATION_RULE, POD, SERVICE, SERVICE_ENTRY, NODE],
        run: subsets::analyze,
    },
    Analyzer {
        name: "deprecation.DeprecationAnalyzer",
        reads: &[VIRTUAL_SERVICE, SIDECAR, CUSTOM_RESOURCE_DEFINITION],
        run: deprecation::analyze,
    },
    Analyzer {
        name: "envoyfilter.EnvoyPatchAnalyzer",
        reads: &[ENVOY_FILTER],
        run: envoy_filters::analyze,
    },
    Analyzer {
        name: "externalcontrolplane.ExternalControlPlaneAnalyzer",
        reads: &[VALIDATING_WEBHOOK, MUTATING_WEBHOOK],
        run: external_control_plane::analyze,
    },
    Analyzer {
        name: "gateway.IngressGatewayPortAnalyzer",
        reads: &[GATEWAY, POD, SERVICE],
        run: gateway_ports::analyze,
    },
    Analyzer {
        name: "gateway.CertificateAnalyzer",
        reads: &[GATEWAY],
        run: gateways::analyze_certificates,
    },
    Analyzer {
        name: "gateway.SecretAnalyzer",
        reads: &[GATEWAY, POD, SECRET],
        run: credentials::analyze,
    },
    Analyzer {
        name: "gateway.ConflictingGatewayAnalyzer",
        reads: &[GATEWAY, POD],
        run: gateways::analyze_conflicts,
    },
    Analyzer {
        name: "injection.Analyzer",
        reads: &[NAMESPACE, POD, CONFIG_MAP],
        run: injection::analyze,
    },
    Analyzer {
        name: "injection.ImageAnalyzer",
        reads: &[NAMESPACE, POD, CONFIG_MAP, PROXY_CONFIG],
        run: proxy_images::analyze,
    },
    Analyzer {
        name: "injection.ImageAutoAnalyzer",
        reads: &[NAMESPACE, POD, DEPLOYMENT, MUTATING_WEBHOOK],
        run: injection::analyze_automatic_images,
    },
    Analyzer {
        name: "k8sgateway.SelectorAnalyzer",
        reads: &[
            AUTHORIZATION_POLICY,
            REQUEST_AUTHENTICATION,
            TELEMETRY,
            WASM_PLUGIN,
            POD,
        ],
        run: gateway_api::analyze_selectors,
    },
    Analyzer {
        name: "k8sgateway.CRDVersionAnalyzer",
        reads: &[CUSTOM_RESOURCE_DEFINITION],
        run: gateway_api::analyze_versions,
    },
    Analyzer {
        name: "meshnetworks.MeshNetworksAnalyzer",
        reads: &[SECRET],
        run: mesh_networks::analyze,
    },
    Analyzer {
        name: "service.PortNameAnalyzer",
        reads: &[SERVICE],
        run: port_names::analyze,
    },
    Analyzer {
        name: "sidecar.SelectorAnalyzer",
        reads: &[SIDECAR, POD, NAMESPACE],
        run: sidecars::analyze,
    },
    Analyzer {
        name: "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        reads: &[VIRTUAL_SERVICE],
        run: mesh_hosts::analyze,
    },
    Analyzer {
        name: "virtualservice.DestinationHostAnalyzer",
        reads: &[SERVICE_ENTRY, VIRTUAL_SERVICE, SERVICE],
        run: destinations::analyze_hosts,
    },
    Analyzer {
        name: "virtualservice.DestinationRuleAnalyzer",
        reads: &[VIRTUAL_SERVICE, DESTINATION_RULE],
        run: destinations::analyze_subsets,
    },
    Analyzer {
        name: "virtualservice.GatewayAnalyzer",
        reads: &[GATEWAY, KUBERNETES_GATEWAY, VIRTUAL_SERVICE],
        run: virtual_service_gateways::analyze,
    },
    Analyzer {
        name: "virtualservice.JWTClaimRouteAnalyzer",
        reads: &[VIRTUAL_SERVICE, REQUEST_AUTHENTICATION, GATEWAY, POD],
        run: claims::analyze,
    },
    Analyzer {
        name: "serviceentry.Analyzer",
        reads: &[SERVICE_ENTRY],
        run: service_entries::analyze_addresses,
    },
    Analyzer {
        name: "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        reads: &[SERVICE_ENTRY],
        run: service_entries::analyze_protocols,
    },
    Analyzer {
        name: "schema.ValidationAnalyzer.EnvoyFilter",
        reads: &[ENVOY_FILTER],
        run: envoy_filters::warn,
    },
    Analyzer {
        name: "webhook.Analyzer",
        reads: &[MUTATING_WEBHOOK, SERVICE],
        run: webhooks::analyze,
    },
    Analyzer {
        name: "telemetry.ProviderAnalyzer",
        reads: &[TELEMETRY],
        run: telemetry::analyze_providers,
    },
    Analyzer {
        name: "telemetry.SelectorAnalyzer",
        reads: &[TELEMETRY, POD],
        run: telemetry::analyze_selectors,
    },
    Analyzer {
        name: "telemetry.DefaultSelectorAnalyzer",
        reads: &[TELEMETRY],
        run: telemetry::analyze_defaults,
    },
    Analyzer {
        name: "telemetry.LightstepAnalyzer",
        reads: &[TELEMETRY],
        run: telemetry::analyze_lightstep,
    },
];

/// What Istio's analyzers say of the objects, each thing once.
pub fn analyze(documents: &Documents, settings: &Settings<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let input = Input::new(documents, settings);
    let mut report = Report::new(diagnostics);
    let selection = match settings.analyzers {
        Selection::Automatic if input.is_of_cluster() => Selection::OfFiles,
        selection => selection,
    };
    for analyzer in ANALYZERS.iter().filter(|one| selection.takes(one)) {
        (analyzer.run)(&input, &mut report);
    }
}
