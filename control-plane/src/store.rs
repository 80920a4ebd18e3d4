//! Objects by name: cheap to clone, and to compare with what they were cloned from.

use crate::object::{Body, Object};
use crate::objects::ObjectRef;
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The objects of one kind, by namespace and name.
type OfKind = BTreeMap<(Name, Name), Arc<Object>>;

/// All objects, those of one kind shared until one of them changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    kinds: BTreeMap<Name, Arc<OfKind>>,
}

/// An object as it was and as it is; one of them may be missing.
pub(crate) struct Difference<'a> {
    pub(crate) old: Option<&'a Arc<Object>>,
    pub(crate) new: Option<&'a Arc<Object>>,
}

impl Difference<'_> {
    /// Whether it is one of such objects.
    pub(crate) fn is_of(&self, such: impl Fn(&Body) -> bool) -> bool {
        let mut objects = self.old.into_iter().chain(self.new);
        objects.any(|object| such(&object.body))
    }
}

impl Items {
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(crate) fn get(&self, reference: &ObjectRef) -> Option<&Arc<Object>> {
        let key = (reference.namespace.clone(), reference.name.clone());
        self.kinds.get(&reference.kind)?.get(&key)
    }

    /// By kind, namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.kinds.values().flat_map(|of_kind| of_kind.values())
    }

    /// By namespace and name.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.kinds.get(kind).into_iter().flat_map(|k| k.values())
    }

    /// By name.
    pub(crate) fn of_namespace(
        &self,
        kind: &str,
        namespace: &Name,
    ) -> impl Iterator<Item = &Arc<Object>> {
        let first = (namespace.clone(), Name::from(""));
        let of_kind = self.kinds.get(kind).into_iter();
        let from = of_kind.flat_map(move |of_kind| of_kind.range(first.clone()..));
        from.take_while(move |((of, _), _)| of == namespace)
            .map(|(_, object)| object)
    }

    /// Adds or replaces; returns what was there.
    pub(crate) fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let reference = &object.reference;
        let key = (reference.namespace.clone(), reference.name.clone());
        let of_kind = self.kinds.entry(reference.kind.clone()).or_default();
        Arc::make_mut(of_kind).insert(key, object)
    }

    pub(crate) fn remove(&mut self, reference: &ObjectRef) -> Option<Arc<Object>> {
        let Entry::Occupied(mut entry) = self.kinds.entry(reference.kind.clone()) else {
            return None;
        };
        let key = (reference.namespace.clone(), reference.name.clone());
        let removed = Arc::make_mut(entry.get_mut()).remove(&key);
        if entry.get().is_empty() {
            entry.remove();
        }
        removed
    }

    /// Without the objects that are not `wanted`.
    pub(crate) fn retained(&self, wanted: impl Fn(&ObjectRef) -> bool) -> Items {
        let mut kept = Items::default();
        for object in self.iter().filter(|object| wanted(&object.reference)) {
            kept.insert(Arc::clone(object));
        }
        kept
    }

    /// What `self` has that `old` has not, and the other way round. Objects are the same if they are
    /// shared.
    pub(crate) fn differences<'a>(&'a self, old: &'a Items) -> Vec<Difference<'a>> {
        let kinds = old.kinds.keys().chain(self.kinds.keys());
        let mut kinds: Vec<&Name> = kinds.collect();
        kinds.sort();
        kinds.dedup();
        let mut differences = Vec::new();
        for kind in kinds {
            match (old.kinds.get(kind), self.kinds.get(kind)) {
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
                (old, new) => of_kind(old, new, &mut differences),
            }
        }
        differences
    }
}

fn of_kind<'a>(
    old: Option<&'a Arc<OfKind>>,
    new: Option<&'a Arc<OfKind>>,
    differences: &mut Vec<Difference<'a>>,
) {
    let mut old = old
        .into_iter()
        .flat_map(|of_kind| of_kind.iter())
        .peekable();
    let mut new = new
        .into_iter()
        .flat_map(|of_kind| of_kind.iter())
        .peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let gone = old.next_if(|_| order.is_le()).map(|(_, object)| object);
        let come = new.next_if(|_| order.is_ge()).map(|(_, object)| object);
        let same = gone.zip(come).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            differences.push(Difference {
                old: gone,
                new: come,
            });
        }
    }
}
