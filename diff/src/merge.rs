//! From what was found proxy by proxy and host by host to few classes.

use crate::compare::Found;
use crate::report::{Change, Kind, Undecided};
use crate::settings::summary;
use proxy_core::xds::ConfigRef;
use std::collections::BTreeMap;

/// Kinds of objects that say what there is; what happens without any rule is told of by their places.
const NO_RULES: [&str; 4] = ["Service", "ServiceEntry", "Pod", "WorkloadEntry"];

/// Classes under way.
#[derive(Default)]
pub(crate) struct Merged {
    changes: Vec<Change>,
    undecided: Vec<Undecided>,
    known: BTreeMap<String, usize>,
    known_undecided: BTreeMap<String, usize>,
}

impl Merged {
    /// Adds what was found, as seen by `proxy`.
    pub(crate) fn add(&mut self, found: &Found, proxy: &str) {
        for change in &found.changes {
            match self.known.get(&key(change)) {
                Some(&at) => join(&mut self.changes[at], change, proxy),
                None => {
                    self.known.insert(key(change), self.changes.len());
                    let proxies = vec![proxy.to_owned()];
                    self.changes.push(Change {
                        proxies,
                        ..change.clone()
                    });
                }
            }
        }
        for one in &found.undecided {
            let key = format!("{}\n{}", one.about, one.reason);
            match self.known_undecided.get(&key) {
                Some(&at) => add_once(&mut self.undecided[at].proxies, proxy),
                None => {
                    self.known_undecided.insert(key, self.undecided.len());
                    let proxies = vec![proxy.to_owned()];
                    self.undecided.push(Undecided {
                        proxies,
                        ..one.clone()
                    });
                }
            }
        }
    }

    /// The most important first, then by the rules' places.
    pub(crate) fn finish(mut self) -> (Vec<Change>, Vec<Undecided>) {
        for change in &mut self.changes {
            change.hosts.sort();
        }
        let place = |rules: &[ConfigRef]| rules.first().map(|rule| (rule.file.clone(), rule.line));
        self.changes.sort_by_cached_key(|change| {
            let (old, new) = (place(&change.old.rules), place(&change.new.rules));
            (change.kinds.first().copied(), new, old)
        });
        (self.changes, self.undecided)
    }
}

fn join(class: &mut Change, change: &Change, proxy: &str) {
    for host in &change.hosts {
        add_once(&mut class.hosts, host);
    }
    add_once(&mut class.proxies, proxy);
    for (side, other) in [(&mut class.old, &change.old), (&mut class.new, &change.new)] {
        for rule in &other.rules {
            if !side.rules.contains(rule) {
                side.rules.push(rule.clone());
            }
        }
    }
    if class.old.summary != change.old.summary || class.new.summary != change.new.summary {
        // What they have in common.
        class.old.summary = summary("", &class.settings, |one| &one.old);
        class.new.summary = summary("", &class.settings, |one| &one.new);
    }
}

fn add_once(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|known| known == text) {
        list.push(text.to_owned());
    }
}

/// Changes with the same key are one class: the same settings change by the same rules. Where there is
/// no rule, and what changes is a default, it is the same wherever it holds.
fn key(change: &Change) -> String {
    let default = |rule: &ConfigRef| NO_RULES.contains(&&*rule.kind);
    let mut rules = change.old.rules.iter().chain(&change.new.rules);
    let moves = change.kinds.contains(&Kind::Destination);
    let of_rules = match rules.all(default) && !moves {
        true => String::new(),
        false => format!("{:?} {:?}", change.old.rules, change.new.rules),
    };
    format!("{of_rules} {:?}", change.settings)
}
