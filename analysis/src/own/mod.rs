//! Checks beyond Istio's: settings that are valid and do not do what they seem to. Each says only what
//! is certain from the files.
//!
//! | module | holds |
//! |---|---|
//! | `timeouts` | tries, delays and faults of one rule that do not fit together |
//! | `weights` | destinations that get no request, or all |
//! | `owners` | several DestinationRules for one host |
//! | `delegates` | VirtualServices to delegate to that are not there |
//! | `views`, `blocks` | what proxies make of the rules, and where each setting was written |
//! | `outliers`, `subsets`, `connects` | outlier detection, subsets and connect timeouts, by endpoints and routes |
//! | `calls`, `chains` | who calls whom in a scenario; retries, timeouts and limits along the way |
//! | `read` | fields as they were written |

mod blocks;
mod calls;
mod chains;
mod connects;
mod delegates;
mod outliers;
mod owners;
mod read;
mod subsets;
mod timeouts;
mod views;
mod weights;

use crate::documents::Documents;
use blocks::Rules;
use calls::Calls;
use control_plane::Objects;
use scenarios::model::Scenario;
use source::Diagnostic;
use std::collections::BTreeSet;

/// Adds what our own checks find. `objects` are those of `documents` that are valid; `scenario` says
/// who calls whom. `found` has what was said before, which is not said again.
pub fn check(
    documents: &Documents,
    objects: &Objects,
    scenario: Option<&Scenario>,
    found: &mut Vec<Diagnostic>,
) {
    let pods = objects.pods();
    let mut own = Vec::new();
    timeouts::check(documents, &mut own);
    weights::check(documents, &mut own);
    let rules = Rules::new(documents);
    owners::check(&rules, &mut own);
    delegates::check(documents, &mut own);
    let views = views::all(documents, objects, &pods);
    outliers::check(documents, &rules, &views, &mut own);
    subsets::check(&rules, objects, &pods, &views, found, &mut own);
    connects::check(&rules, &views, &mut own);
    if let Some(scenario) = scenario {
        let calls = Calls::of(scenario, objects, &pods);
        chains::check(documents, &rules, &calls, &mut own);
    }
    // Several views may show the same.
    let mut said = BTreeSet::new();
    own.retain(|one| {
        let place = one
            .span
            .as_ref()
            .map(|span| (span.file.name.clone(), span.range().start));
        said.insert((one.code, place))
    });
    found.append(&mut own);
}
