//! Pods by their labels, for many selectors.

use super::input::{Input, Pods};
use crate::selector::Selector;
use std::collections::BTreeMap;

/// The labels of pods.
pub(super) type Labels<'n> = BTreeMap<&'n str, &'n str>;

/// All pods, and those that workloads will make.
pub(super) struct PodIndex<'n> {
    pods: Vec<(Pods<'n>, Labels<'n>)>,
    /// Places in `pods`, by label and value.
    with: BTreeMap<(&'n str, &'n str), Vec<usize>>,
}

impl<'n> PodIndex<'n> {
    pub(super) fn new(input: &'n Input<'_>) -> PodIndex<'n> {
        PodIndex::with_more(input, |_, _| ())
    }

    /// With the labels that `add` adds to their own.
    pub(super) fn with_more(
        input: &'n Input<'_>,
        add: impl Fn(Pods<'n>, &mut Labels<'n>),
    ) -> PodIndex<'n> {
        let mut index = PodIndex {
            pods: Vec::new(),
            with: BTreeMap::new(),
        };
        for pods in input.pods() {
            let own = pods.labels.iter();
            let own = own.map(|entry| (&*entry.key, entry.value.as_scalar().unwrap_or_default()));
            let mut labels: Labels<'n> = own.collect();
            add(pods, &mut labels);
            for (key, value) in &labels {
                let with = index.with.entry((key, value)).or_default();
                with.push(index.pods.len());
            }
            index.pods.push((pods, labels));
        }
        index
    }

    /// The pods that a selector takes: all, if it is empty.
    pub(super) fn selected<'s>(
        &'s self,
        selector: &'s Selector<'_>,
    ) -> impl Iterator<Item = Pods<'n>> + 's {
        let with = |label| self.with.get(&label).map_or(&[][..], Vec::as_slice);
        let rarest = selector.iter().map(with).min_by_key(|places| places.len());
        let places: Box<dyn Iterator<Item = usize> + 's> = match rarest {
            Some(places) => Box::new(places.iter().copied()),
            None => Box::new(0..self.pods.len()),
        };
        places
            .map(|at| &self.pods[at])
            .filter(|(_, labels)| selector.takes(|key| labels.get(key).copied()))
            .map(|(pods, _)| *pods)
    }
}
