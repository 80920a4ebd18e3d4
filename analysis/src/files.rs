//! Which of Istio's analyzers have what they need in files.

use crate::documents::{Documents, Kind, POD, SECRET, SERVICE};
use crate::istio::ANALYZERS;

/// What is seldom in the files of one application: without any, things would be missed that are there.
const ELSEWHERE: [Kind; 3] = [SERVICE, POD, SECRET];
/// They look at each object by itself.
const BY_ITSELF: [&str; 3] = [
    "annotations.K8sAnalyzer",
    "applicationUID.Analyzer",
    "injection.ImageAutoAnalyzer",
];

/// The names of the analyzers that can judge `documents`. `whole`: these may be all that there is in a
/// cluster; otherwise, as for `istioctl analyze --use-kube=false`, only analyzers are run that never
/// look at what is in a cluster.
pub fn able_analyzers(documents: &Documents, whole: bool) -> Vec<String> {
    let able = ANALYZERS.iter().filter(|one| {
        let mut needed = one.reads.iter().filter(|kind| ELSEWHERE.contains(kind));
        match whole {
            true => BY_ITSELF.contains(&one.name) || needed.all(|kind| documents.has(*kind)),
            false => !one.needs_cluster(),
        }
    });
    able.map(|one| one.name.to_owned()).collect()
}
