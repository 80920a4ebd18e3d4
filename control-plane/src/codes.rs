//! Istio's codes of analyzer messages, as far as they are used.

/// A rule names a thing that is not there.
pub(crate) const NOT_FOUND: &str = "IST0101";
/// An object that Istio's validation refuses.
pub(crate) const INVALID: &str = "IST0106";
/// A DestinationRule for a host that no service has.
pub(crate) const UNKNOWN_RULE_HOST: &str = "IST0174";

/// Istio's name of a message code, as `istioctl analyze` prints it; `None` for a code that is not
/// used here.
pub fn code_name(code: &str) -> Option<&'static str> {
    match code {
        NOT_FOUND => Some("ReferencedResourceNotFound"),
        INVALID => Some("SchemaValidationError"),
        UNKNOWN_RULE_HOST => Some("UnknownDestinationRuleHost"),
        _ => None,
    }
}
