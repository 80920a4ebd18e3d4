//! Istio's codes of analyzer messages, as far as they are used.

use source::{Diagnostic, Level};

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

/// Makes a warning of every error about an object: one that is invalid has been left out, as in a
/// cluster where Istio's webhook or the API server refuses it; one that names things that are not
/// there is used, as Istio uses it.
pub fn allow_invalid(diagnostics: &mut [Diagnostic]) {
    for diagnostic in diagnostics {
        let Some(resource) = &diagnostic.resource else {
            continue;
        };
        if diagnostic.level == Level::Error {
            diagnostic.level = Level::Warning;
            if diagnostic.code != Some(NOT_FOUND) {
                diagnostic.message = format!("{resource} is left out: {}", diagnostic.message);
            }
        }
    }
}
