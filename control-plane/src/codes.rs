//! Istio's codes of analyzer messages, as far as they are used.

/// A rule names a thing that is not there.
pub(crate) const NOT_FOUND: &str = "IST0101";
/// An object that Istio's validation refuses.
pub(crate) const INVALID: &str = "IST0106";
/// A rule of a VirtualService that no request reaches.
pub(crate) const UNREACHABLE_RULE: &str = "IST0130";
/// A match of a VirtualService that an earlier one covers.
pub(crate) const INEFFECTIVE_MATCH: &str = "IST0131";
/// What Istio's validation warns of.
pub(crate) const SCHEMA_WARNING: &str = "IST0133";
/// A DestinationRule for a host that no service has.
pub(crate) const UNKNOWN_RULE_HOST: &str = "IST0174";

/// Istio's name of a message code, as `istioctl analyze` prints it; `None` for a code that is not
/// used here.
pub fn code_name(code: &str) -> Option<&'static str> {
    match code {
        NOT_FOUND => Some("ReferencedResourceNotFound"),
        INVALID => Some("SchemaValidationError"),
        UNREACHABLE_RULE => Some("VirtualServiceUnreachableRule"),
        INEFFECTIVE_MATCH => Some("VirtualServiceIneffectiveMatch"),
        SCHEMA_WARNING => Some("SchemaWarning"),
        UNKNOWN_RULE_HOST => Some("UnknownDestinationRuleHost"),
        _ => None,
    }
}
