//! All message codes: those of Istio's analyzers, under Istio's numbers and names.

use source::{Diagnostic, Level};

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `IST0101`.
    pub code: &'static str,
    /// `ReferencedResourceNotFound`.
    pub name: &'static str,
    /// How bad it is; a note is what Istio calls Info.
    pub level: Level,
    /// In one sentence.
    pub meaning: &'static str,
}

impl Code {
    /// A message of this kind.
    pub fn says(&self, message: impl Into<String>) -> Diagnostic {
        let diagnostic = match self.level {
            Level::Error => Diagnostic::error(message),
            Level::Warning => Diagnostic::warning(message),
            Level::Note => Diagnostic::note(message),
        };
        diagnostic.code(self.code)
    }
}

/// The code of that number.
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|known| known.code == code)
}

macro_rules! codes {
    ($($code:ident $name:ident $level:ident $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $code: Code = Code {
                code: stringify!($code),
                name: stringify!($name),
                level: Level::$level,
                meaning: $meaning,
            };
        )*
        /// Every code, by number.
        pub const ALL: &[Code] = &[$($code),*];
    };
}

codes! {
    IST0002 Deprecated Warning "A field is used that Istio has deprecated.";
    IST0101 ReferencedResourceNotFound Error "A thing is named that is not there.";
    IST0102 NamespaceNotInjected Note "A namespace does not say whether its pods get a sidecar.";
    IST0103 PodMissingProxy Warning "A pod should have a sidecar and has none.";
    IST0106 SchemaValidationError Error "Istio's validation refuses the object.";
    IST0107 MisplacedAnnotation Warning "An annotation of Istio's stands on a kind of object that it is not for.";
    IST0108 UnknownAnnotation Warning "Istio has no such annotation.";
    IST0109 ConflictingMeshGatewayVirtualServiceHosts Error "Several VirtualServices for sidecars have the same host.";
    IST0110 ConflictingSidecarWorkloadSelectors Error "Several Sidecars select the same pod.";
    IST0111 MultipleSidecarsWithoutWorkloadSelectors Error "A namespace has several Sidecars that select no pods in particular.";
    IST0112 VirtualServiceDestinationPortSelectorRequired Error "A destination needs its port: the service has several.";
    IST0116 DeploymentAssociatedToMultipleServices Warning "Services of one Deployment have the same port with different protocols.";
    IST0118 PortNameIsNotUnderNamingConvention Note "The name of a Service's port says no protocol, so it is detected.";
    IST0123 NamespaceMultipleInjectionLabels Warning "A namespace has both kinds of injection labels.";
    IST0125 InvalidAnnotation Warning "The value of an annotation of Istio's is not valid.";
    IST0126 UnknownMeshNetworksServiceRegistry Error "MeshNetworks name a registry that is not there.";
    IST0127 NoMatchingWorkloadsFound Warning "An AuthorizationPolicy applies to no pod.";
    IST0128 NoServerCertificateVerificationDestinationLevel Warning "TLS to a host without certificates to verify it by.";
    IST0129 NoServerCertificateVerificationPortLevel Warning "TLS to a port without certificates to verify it by.";
    IST0130 VirtualServiceUnreachableRule Warning "No request reaches a rule of a VirtualService: earlier ones take all.";
    IST0131 VirtualServiceIneffectiveMatch Note "A match of a VirtualService repeats an earlier one.";
    IST0132 VirtualServiceHostNotFoundInGateway Warning "A Gateway of a VirtualService serves none of its hosts.";
    IST0133 SchemaWarning Warning "Istio's validation warns of the object.";
    IST0134 ServiceEntryAddressesRequired Warning "A ServiceEntry with a TCP port has no address of its own.";
    IST0135 DeprecatedAnnotation Note "An annotation that Istio has deprecated.";
    IST0137 DeploymentConflictingPorts Warning "Services of one Deployment reach one target port by different ports.";
    IST0138 GatewayDuplicateCertificate Warning "Several Gateways serve the same certificate, so connections may be reused across them.";
    IST0139 InvalidWebhook Error "A webhook calls a service that is not there, or overlaps another.";
    IST0140 IngressRouteRulesNotAffected Warning "A rule has no effect on requests through an ingress gateway.";
    IST0144 InvalidApplicationUID Warning "An application runs as user 1337, which is the sidecar's.";
    IST0145 ConflictingGateways Error "Several Gateways of the same pods have the same port and host.";
    IST0146 ImageAutoWithoutInjectionWarning Warning "A Deployment with `image: auto` is not selected for injection.";
    IST0147 ImageAutoWithoutInjectionError Error "A Pod with `image: auto` is not selected for injection.";
    IST0148 NamespaceInjectionEnabledByDefault Note "A namespace gets sidecars because all namespaces do.";
    IST0149 JwtClaimBasedRoutingWithoutRequestAuthN Error "A route asks for claims of a token that nothing verifies.";
    IST0150 ExternalNameServiceTypeInvalidPortName Warning "A port of an ExternalName Service says no protocol, or TCP.";
    IST0151 EnvoyFilterUsesRelativeOperation Warning "An EnvoyFilter without priority patches what another may add.";
    IST0152 EnvoyFilterUsesReplaceOperationIncorrectly Error "An EnvoyFilter replaces what cannot be replaced.";
    IST0153 EnvoyFilterUsesAddOperationIncorrectly Error "An EnvoyFilter adds where nothing can be added.";
    IST0154 EnvoyFilterUsesRemoveOperationIncorrectly Error "An EnvoyFilter removes what cannot be removed.";
    IST0155 EnvoyFilterUsesRelativeOperationWithProxyVersion Warning "An EnvoyFilter without priority patches what another may add, for some versions of the proxy.";
    IST0157 InvalidTelemetryProvider Warning "A Telemetry names no provider, and the mesh has no default.";
    IST0158 PodsIstioProxyImageMismatchInNamespace Warning "Sidecars of a namespace are of another image than is injected.";
    IST0159 ConflictingTelemetryWorkloadSelectors Error "Several Telemetries select the same pod.";
    IST0160 MultipleTelemetriesWithoutWorkloadSelectors Error "A namespace has several Telemetries that select no pods in particular.";
    IST0161 InvalidGatewayCredential Error "The credential of a Gateway is not a valid certificate.";
    IST0162 GatewayPortNotDefinedOnService Warning "No Service of the gateway's pods exposes a port of the Gateway.";
    IST0163 InvalidExternalControlPlaneConfig Warning "A webhook's address of an external control plane is not valid.";
    IST0164 ExternalControlPlaneAddressIsNotAHostname Note "A webhook reaches an external control plane by IP address.";
    IST0165 ReferencedInternalGateway Warning "A VirtualService names a Gateway that Istio made itself.";
    IST0166 IneffectiveSelector Warning "A policy's selector has no effect on gateways of the Gateway API.";
    IST0167 IneffectivePolicy Warning "A policy has no effect.";
    IST0171 NegativeConditionStatus Warning "The status of an object has a condition that is not met.";
    IST0173 DestinationRuleSubsetNotSelectPods Error "A subset selects no pod.";
    IST0174 UnknownDestinationRuleHost Warning "A DestinationRule is for a host that no service has.";
    IST0175 JwksUriFetchUnrestricted Warning "istiod fetches signing keys from any address.";
    IST0176 GatewayAPICRDVersionBelowMinimum Warning "A kind of the Gateway API is of a version that Istio does not read.";
    IST0177 ConflictingServiceEntryProtocol Warning "ServiceEntries give one port of a host different protocols.";
    MSH0001 MatchNeverReached Warning "No request reaches a rule or match: earlier ones take all that it asks for, or there is no such request.";
    MSH0002 RetriesMultiply Warning "Retries of calls that lead to each other multiply: one request becomes many.";
    MSH0003 PerTryTimeoutWithoutEffect Warning "A try may take as long as the whole request, so its timeout never ends it.";
    MSH0004 TriesBeyondTimeout Note "The timeout of a request is over before its last tries can begin.";
    MSH0005 SlowTriesNotRepeated Warning "A try that runs into its timeout is not repeated: no condition of the retries is for that.";
    MSH0006 DelayBesideTimeout Warning "An injected delay is over before the timeout of its own rule begins.";
    MSH0007 FaultWithoutPercentage Warning "A fault is injected into 0 % of the requests, because no percentage is stated.";
    MSH0008 ConnectTimeoutWithoutEffect Note "A connection may take as long as the whole request, so its timeout never ends it.";
    MSH0009 CallerGivesUpFirst Warning "A caller gives up on a call while those whom it called still wait for theirs.";
    MSH0010 OutliersNeverEjected Warning "Outlier detection can never eject an endpoint.";
    MSH0011 AllEndpointsEjectable Note "Outlier detection can eject all endpoints, and then no request is served.";
    MSH0012 GatewayErrorsWithoutEffect Note "The threshold of gateway errors is never reached: that of all 5xx errors is, before.";
    MSH0013 DestinationWithoutWeight Warning "A destination gets no request because only the others state a weight.";
    MSH0014 ZeroWeight Note "A destination of weight 0 gets no request.";
    MSH0015 WeightWithoutEffect Warning "The weight of an only destination changes nothing: it gets every request.";
    MSH0016 AllWeightsZero Warning "All backends of a rule have weight 0, so requests are answered 500.";
    MSH0017 SubsetWithoutEndpoints Warning "Requests are sent to a subset that no endpoint belongs to.";
    MSH0018 DestinationRuleIgnored Warning "Part of a DestinationRule is ignored, because another one is for the same host.";
    MSH0019 BreakerBelowConcurrency Warning "A caller can have more requests under way than the circuit breaker of its proxy lets through.";
    MSH0020 DelegateNotFound Error "A rule delegates to a VirtualService that is not there, and is left out.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_without_repetition() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn agree_with_the_codes_of_validation() {
        for code in ALL {
            if let Some(name) = control_plane::code_name(code.code) {
                assert_eq!(name, code.name);
            }
        }
    }
}
