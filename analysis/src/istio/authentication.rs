//! Where istiod may fetch the keys of tokens from (IST0175).

use super::input::{Input, Report};
use crate::codes::IST0175;
use crate::documents::{DEPLOYMENT, REQUEST_AUTHENTICATION};
use crate::read::{items, text};

const BLOCKED: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let count = input.of(REQUEST_AUTHENTICATION).count();
    if count == 0 {
        return;
    }
    for document in input.of(DEPLOYMENT) {
        let containers = items(&document.node, &["spec", "template", "spec", "containers"]);
        let mut variables = containers
            .iter()
            .flat_map(|container| items(container, &["env"]));
        let blocks = variables
            .any(|one| text(one, &["name"]) == BLOCKED && !text(one, &["value"]).is_empty());
        if document.label("app") != Some("istiod") || blocks {
            continue;
        }
        let diagnostic = IST0175
            .says(format!(
                "istiod fetches keys for RequestAuthentications ({count}) from any address"
            ))
            .at(document.place(), format!("{BLOCKED} is not set"))
            .help(format!(
                "set {BLOCKED} to the address ranges that it must not ask, such as the cluster's own"
            ));
        report.say(document, diagnostic);
    }
}
