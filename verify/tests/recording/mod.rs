//! What a real Envoy did in a rehearsal, in a file beside the scenario.

use proxy_core::time::Nanos;
use serde::{Deserialize, Serialize};
use std::path::Path;
use verify::rehearse::Rehearsal;
use verify::rehearse::runs::{Ejection, Exchange, Run};

#[derive(Serialize, Deserialize)]
pub struct Recording {
    /// What passes through it took longer than in the scenario, at most.
    pub slowest: Nanos,
    ejections: Vec<Ejection>,
    /// The first exchange of each outcome, and when all with that outcome began.
    outcomes: Vec<(Exchange, Vec<Nanos>)>,
}

impl Recording {
    pub fn of(rehearsal: &Rehearsal) -> Recording {
        let mut outcomes: Vec<(Exchange, Vec<Nanos>)> = Vec::new();
        for exchange in &rehearsal.envoy.exchanges {
            let alike = |first: &Exchange| {
                let at = exchange.at;
                *exchange
                    == Exchange {
                        at,
                        ..first.clone()
                    }
            };
            match outcomes.iter_mut().find(|(first, _)| alike(first)) {
                Some((_, begun)) => begun.push(exchange.at),
                None => outcomes.push((exchange.clone(), vec![exchange.at])),
            }
        }
        Recording {
            slowest: rehearsal.slowest(),
            ejections: rehearsal.envoy.ejections.clone(),
            outcomes,
        }
    }

    pub fn run(&self) -> Run {
        let alike = |(first, begun): &(Exchange, Vec<Nanos>)| {
            let first = first.clone();
            let exchange = move |&at: &Nanos| Exchange {
                at,
                ..first.clone()
            };
            begun.iter().map(exchange).collect::<Vec<_>>()
        };
        Run {
            exchanges: self.outcomes.iter().flat_map(alike).collect(),
            ejections: self.ejections.clone(),
        }
    }

    pub fn read(path: &Path) -> Recording {
        let text = std::fs::read_to_string(path).expect("a recording beside each scenario");
        serde_json::from_str(&text).expect("written by `write`")
    }

    pub fn write(&self, path: &Path) {
        let text = serde_json::to_string(self).expect("no maps with odd keys");
        std::fs::write(path, text + "\n").expect("a writable folder");
    }
}
