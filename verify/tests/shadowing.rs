//! The requests that are shown for matches, reached and never reached, of random rule sets: a real Envoy
//! sends them where it is said. Needs one: MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud otherwise.

#![allow(clippy::unwrap_used)]

// Shared with the crate that decides what is never reached.
#[allow(dead_code)]
#[path = "../../analysis/tests/shadowing/rules.rs"]
mod rules;

use control_plane::{Request, explain};
use request_set::Reach;
use rules::{Set, claims};
use verify::{Config, Settings};

const SETS: u64 = 60;

/// The requests to each proxy of a set, and the statuses that they are said to be answered with.
fn asked(set: &Set) -> Vec<Vec<(Request, u16)>> {
    let mut asked = vec![Vec::new(); set.resources.len()];
    let all = set.matches();
    for (at, claim) in claims(&all).iter().enumerate() {
        let (witness, status) = match claim {
            Reach::Reached(witness) => (witness, all[at].0),
            Reach::Never { asks, taken_by, .. } => (asks, all[*taken_by].0),
            Reach::Impossible(_) | Reach::Undecided(_) => continue,
        };
        let (pod, request) = set.request(witness);
        asked[pod].push((request, status));
    }
    asked
}

#[test]
fn a_real_envoy_answers_the_shown_requests_as_is_said() {
    let Some(envoy) = verify::find_envoy() else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let mut configs = Vec::new();
    for number in 0..SETS {
        let set = Set::new(number);
        let pods = set.objects.pods();
        for ((pod, resources), asked) in pods.iter().zip(&set.resources).zip(asked(&set)) {
            for (request, status) in &asked {
                assert_eq!(
                    explain(resources, request).status,
                    Some(*status),
                    "{request:?}"
                );
            }
            let requests: Vec<Request> = asked.into_iter().map(|(request, _)| request).collect();
            if !requests.is_empty() {
                configs.push(Config {
                    name: format!("set-{number}, {}", pod.name),
                    proxy: pod.identity(),
                    resources: resources.clone(),
                    requests,
                });
            }
        }
    }
    let settings = Settings {
        sample_size: 0,
        ..Settings::new(envoy)
    };
    let report = verify::configs(&configs, &settings).unwrap();
    println!("{report}");
    assert!(report.agrees());
    assert!(report.requests > 400);
}
