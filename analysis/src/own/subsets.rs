//! Subsets that requests are sent to and that no endpoint belongs to.

use super::blocks::Rules;
use super::read::text;
use super::views::{Outbound, View};
use crate::codes::{IST0173, MSH0017};
use crate::documents::Document;
use control_plane::{Objects, Pod};
use proxy_core::xds::Name;
use source::node::Entry;
use source::{Diagnostic, Node, nearest};
use std::collections::BTreeSet;

/// What Istio's analyzers `said` of a subset is not said again; it gets the help.
pub(super) fn check(
    rules: &Rules<'_>,
    objects: &Objects,
    pods: &[Pod],
    views: &[View],
    said: &mut [Diagnostic],
    found: &mut Vec<Diagnostic>,
) {
    for view in views {
        for cluster in view.used() {
            if view.endpoints(cluster) != Some(0) {
                continue;
            }
            let Some(of) = Outbound::of(&cluster.name).filter(|of| !of.subset.is_empty()) else {
                continue;
            };
            let whole = view.cluster(&format!("outbound|{}||{}", of.port, of.host));
            // Without any endpoint the pods are not among the files.
            if whole.and_then(|whole| view.endpoints(whole)).unwrap_or(0) == 0 {
                continue;
            }
            let Some((rule, subset)) = rules.subset(cluster, of.subset) else {
                continue;
            };
            let of_it = |one: &Diagnostic| {
                let place = one.span.as_ref();
                one.code == Some(IST0173.code)
                    && place.is_some_and(|place| is_within(place, &subset.span))
            };
            let diagnostic = empty(rule, subset, &of, &behind(objects, pods, of.host));
            match said.iter_mut().find(|one| of_it(one)) {
                Some(said) => said.help = diagnostic.help,
                None => found.push(diagnostic),
            }
        }
    }
}

fn is_within(place: &source::Span, whole: &source::Span) -> bool {
    let (inner, outer) = (place.range(), whole.range());
    place.file.name == whole.file.name && inner.start >= outer.start && inner.end <= outer.end
}

/// The pods that the service selects.
fn behind<'p>(objects: &Objects, pods: &'p [Pod], host: &str) -> Vec<&'p Pod> {
    let service = objects
        .services()
        .into_iter()
        .find(|service| *service.host == *host);
    let Some(service) = service.filter(|service| !service.selector.is_empty()) else {
        return Vec::new();
    };
    let selected = |pod: &&Pod| {
        let mut wanted = service.selector.iter();
        pod.namespace == service.namespace && wanted.all(|label| pod.labels.contains(label))
    };
    pods.iter().filter(selected).collect()
}

fn empty(rule: &Document, subset: &Node, of: &Outbound<'_>, pods: &[&Pod]) -> Diagnostic {
    let wanted = subset.at(&["labels"]).and_then(Node::as_map);
    let wanted = wanted.map_or(&[][..], |map| &map.entries);
    let missing = wanted
        .iter()
        .find(|label| !pods.iter().any(|pod| has(pod, label)));
    let message = format!("no endpoint of {} is in subset `{}`", of.host, of.subset);
    let consequence = "requests that are sent there are answered 503";
    let diagnostic = MSH0017.says(message);
    let mut diagnostic = match missing {
        Some(label) => {
            let value = text(&label.value, &[]).unwrap_or_default();
            let why = format!(
                "no pod of the service has the label `{}: {value}`: {consequence}",
                label.key
            );
            diagnostic
                .at(&label.value.span, why)
                .help(instead(label, value, pods))
        }
        None => diagnostic
            .at(
                &subset.span,
                format!("no pod of the service has all of its labels: {consequence}"),
            )
            .help("leave out the label that does not go with the others"),
    };
    diagnostic.resource = Some(rule.resource());
    diagnostic
}

fn has(pod: &Pod, label: &Entry) -> bool {
    let value = text(&label.value, &[]).unwrap_or_default();
    pod.labels
        .iter()
        .any(|(key, own)| **key == *label.key && **own == *value)
}

/// The nearest value or key that the pods have.
fn instead(label: &Entry, value: &str, pods: &[&Pod]) -> String {
    let all = || pods.iter().flat_map(|pod| &pod.labels);
    let values: BTreeSet<&Name> = all()
        .filter(|(key, _)| **key == *label.key)
        .map(|(_, value)| value)
        .collect();
    let keys: BTreeSet<&Name> = all().map(|(key, _)| key).collect();
    if let Some(near) = nearest(value, values.iter().map(|value| &***value)) {
        return format!("did you mean `{}: {near}`?", label.key);
    }
    match nearest(&label.key, keys.iter().map(|key| &***key)) {
        _ if !values.is_empty() => {
            let listed: Vec<&str> = values.iter().map(|value| &***value).collect();
            format!("its pods have `{}`: {}", label.key, listed.join(", "))
        }
        Some(near) => format!("did you mean the label `{near}`?"),
        None => {
            let listed: Vec<&str> = keys.iter().map(|key| &***key).collect();
            format!("its pods have the labels {}", listed.join(", "))
        }
    }
}
