//! Parts of resources in a few words.

use proxy_core::xds::{Name, StringMatch};
use serde::Serialize;

/// A cluster as people call it: `reviews.default:9080 subset v1`.
pub(crate) fn cluster_label(name: &str) -> String {
    let parts: Vec<&str> = name.split('|').collect();
    match parts[..] {
        ["outbound", port, subset, host] => {
            let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
            match subset {
                "" => format!("{host}:{port}"),
                _ => format!("{host}:{port} subset {subset}"),
            }
        }
        ["inbound", port, ..] => format!("the application at port {port}"),
        _ => name.to_owned(),
    }
}

pub(crate) fn string_match(matcher: &StringMatch) -> String {
    match matcher {
        StringMatch::Exact(text) if text.contains(['*', '~']) => format!("{text:?}"),
        StringMatch::Exact(text) => text.to_string(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Suffix(text) => format!("*{text}"),
        StringMatch::Contains(text) => format!("*{text}*"),
        StringMatch::Regex(regex) => format!("~{}", regex.source()),
    }
}

pub(crate) fn pairs(labels: &[(Name, Name)]) -> String {
    let each = labels.iter().map(|(key, value)| format!("{key}={value}"));
    each.collect::<Vec<_>>().join(",")
}

/// What has no shorter form.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
