//! Selectors of namespaces by label.

use super::{Labels, choice, label, labels};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// Kubernetes `LabelSelector`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LabelSelector {
    labels: Labels,
    expressions: Vec<(Name, Operator, Vec<Name>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<LabelSelector> {
        let mut fields = Fields::of(node, "a label selector", diagnostics)?;
        let wanted = labels(&mut fields, "matchLabels");
        let mut expressions = Vec::new();
        for node in fields.list("matchExpressions") {
            let mut inner = Fields::of(node, "a match expression", fields.diagnostics)?;
            let key = inner.required_text("key");
            inner.required("operator");
            let operators = [
                ("In", Operator::In),
                ("NotIn", Operator::NotIn),
                ("Exists", Operator::Exists),
                ("DoesNotExist", Operator::DoesNotExist),
            ];
            let operator = choice(&mut inner, "operator", &operators);
            let values = inner.texts("values").into_iter().map(Name::from).collect();
            inner.finish();
            expressions.push((key?.into(), operator?, values));
        }
        fields.finish();
        Some(LabelSelector {
            labels: wanted,
            expressions,
        })
    }

    /// Whether it selects a pod with those labels; an empty one selects none.
    pub(crate) fn selects(&self, labels: &[(Name, Name)]) -> bool {
        let empty = self.labels.is_empty() && self.expressions.is_empty();
        !empty && self.holds(|key| label(labels, key).map(|value| &**value))
    }

    /// Whether it is for the namespace `name`; every namespace has its name as a label.
    pub(crate) fn matches<'l>(&self, name: &'l str, labels: &'l [(Name, Name)]) -> bool {
        let value = |key: &str| match key {
            "kubernetes.io/metadata.name" => Some(name),
            _ => label(labels, key).map(|value| &**value),
        };
        self.holds(value)
    }

    fn holds<'l>(&self, value: impl Fn(&str) -> Option<&'l str>) -> bool {
        let wanted = self.labels.iter();
        let mut wanted = wanted.map(|(key, want)| value(key) == Some(&**want));
        let mut expressions = self.expressions.iter().map(|(key, operator, values)| {
            let found = value(key);
            let listed = found.is_some_and(|found| values.iter().any(|v| **v == *found));
            match operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => found.is_some(),
                Operator::DoesNotExist => found.is_none(),
            }
        });
        wanted.all(|holds| holds) && expressions.all(|holds| holds)
    }
}
