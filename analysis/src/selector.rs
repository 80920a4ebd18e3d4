//! Selectors of labels.

use crate::read::{entries, items, text, texts, value_of};
use source::Node;
use source::node::Entry;
use std::collections::BTreeMap;
use std::fmt;

/// Labels that must all be there with these values; an empty one takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector<'n> {
    wanted: BTreeMap<&'n str, &'n str>,
}

impl<'n> Selector<'n> {
    /// Of a map from label to value.
    pub(crate) fn of(labels: &'n [Entry]) -> Selector<'n> {
        let value = |entry: &'n Entry| entry.value.as_scalar().unwrap_or_default();
        Selector {
            wanted: labels
                .iter()
                .map(|entry| (&*entry.key, value(entry)))
                .collect(),
        }
    }

    /// Of both; `other` decides where both have a label.
    pub(crate) fn and(mut self, other: Selector<'n>) -> Selector<'n> {
        self.wanted.extend(other.wanted);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &[Entry]) -> bool {
        self.takes(|key| value_of(labels, key))
    }

    /// Whether an object is selected of whose labels `value` tells the values.
    pub(crate) fn takes<'l>(&self, value: impl Fn(&str) -> Option<&'l str>) -> bool {
        let mut wanted = self.wanted.iter();
        wanted.all(|(key, wanted)| value(key) == Some(*wanted))
    }

    /// Whether every label of it is one of `other`'s.
    pub(crate) fn is_within(&self, other: &Selector<'_>) -> bool {
        self.takes(|key| other.wanted.get(key).copied())
    }

    /// The labels and their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'n str, &'n str)> {
        self.wanted.iter().map(|(key, value)| (*key, *value))
    }
}

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.wanted.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// Whether a Kubernetes `LabelSelector` takes an object with these labels. A missing one takes
/// everything, an invalid one nothing.
pub(crate) fn label_selector_matches(
    selector: Option<&Node>,
    labels: &BTreeMap<&str, &str>,
) -> bool {
    let Some(selector) = selector else {
        return true;
    };
    let expressions = items(selector, &["matchExpressions"]);
    let exact = Selector::of(entries(selector, &["matchLabels"]));
    exact.takes(|key| labels.get(key).copied())
        && expressions.iter().all(|one| expression_holds(one, labels))
}

fn expression_holds(expression: &Node, labels: &BTreeMap<&str, &str>) -> bool {
    let value = labels.get(text(expression, &["key"]));
    let values = texts(expression, &["values"]);
    match text(expression, &["operator"]) {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => !values.is_empty() && value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some() && values.is_empty(),
        "DoesNotExist" => value.is_none() && values.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use source::{Dialect, SourceFile, parse};

    fn node(text: &str) -> Node {
        let file = SourceFile::new("a.yaml", text);
        parse(&file, Dialect::Kubernetes).0.remove(0)
    }

    #[test]
    fn exact_labels() {
        let pod = node("a: x\nb: y\n");
        let labels = entries(&pod, &[]);
        let takes = |text: &str| {
            let wanted = node(text);
            Selector::of(entries(&wanted, &[])).matches(labels)
        };
        assert!(takes("a: x"));
        assert!(takes("{}"));
        assert!(!takes("a: y"));
        assert!(!takes("c: y"));
        let both = node("b: y\na: x\n");
        assert_eq!(Selector::of(entries(&both, &[])).to_string(), "a=x,b=y");
    }

    #[test]
    fn expressions() {
        let labels = BTreeMap::from([("a", "x")]);
        let takes = |key: &str, operator: &str, values: &str| {
            let text = format!(
                "matchExpressions:\n- {{key: {key}, operator: {operator}, values: {values}}}\n"
            );
            label_selector_matches(Some(&node(&text)), &labels)
        };
        assert!(takes("a", "In", "[x, y]"));
        assert!(!takes("b", "In", "[x]"));
        assert!(takes("b", "NotIn", "[x]"));
        assert!(!takes("a", "NotIn", "[x]"));
        assert!(!takes("a", "NotIn", "[]"));
        assert!(takes("a", "Exists", "[]"));
        assert!(takes("b", "DoesNotExist", "[]"));
        assert!(!takes("a", "Like", "[x]"));
        assert!(label_selector_matches(None, &labels));
    }
}
