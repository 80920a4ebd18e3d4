//! VirtualServices by the hosts that they are for.

use crate::configuration::Configuration;
use proxy_core::xds::Name;
use std::collections::BTreeMap;

/// Numbers of rules, in the order of their files.
#[derive(Default)]
pub(super) struct Hosts {
    /// By the very name.
    exact: BTreeMap<Name, Vec<usize>>,
    /// By what stands after the `*`.
    wildcards: BTreeMap<Name, Vec<usize>>,
    /// Of VirtualServices without hosts, to which others delegate.
    delegates: Vec<usize>,
}

impl Hosts {
    pub(super) fn of(configuration: &Configuration) -> Hosts {
        let mut hosts = Hosts::default();
        for &at in configuration.in_order() {
            let rule = configuration.rules.get(at);
            if &*rule.origin.kind != "VirtualService" {
                continue;
            }
            if rule.hosts.is_empty() {
                hosts.delegates.push(at);
            }
            for host in &rule.hosts {
                let (map, name) = match host.strip_prefix('*') {
                    None => (&mut hosts.exact, host.clone()),
                    Some(end) => (&mut hosts.wildcards, end.into()),
                };
                map.entry(name).or_default().push(at);
            }
        }
        hosts
    }

    /// The rules for `authority`, with or without its port: those of the very host, else of the longest
    /// wildcard.
    pub(super) fn rules(&self, authority: &str) -> &[usize] {
        let name = authority
            .rsplit_once(':')
            .map_or(authority, |(name, _)| name);
        let exact = self.exact.get(authority).or_else(|| self.exact.get(name));
        // The wildcard stands for one character at least.
        let ends = name.char_indices().skip(1).map(|(at, _)| &name[at..]);
        let mut wildcards = ends.chain([""]).filter_map(|end| self.wildcards.get(end));
        exact
            .or_else(|| wildcards.next())
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn delegates(&self) -> &[usize] {
        &self.delegates
    }
}
