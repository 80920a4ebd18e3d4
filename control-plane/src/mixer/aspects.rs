//! A rule file of Istio 0.1, as `istioctl mixer rule create` took it: rules with aspects.

use super::expression::Expression;
use super::parts::{amount, expressions};
use super::policy::{Action, Metric, QuotaAction, Rule, Scope};
use crate::rpc_code::FAILED_PRECONDITION;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// What a rule file is called where objects have a kind.
pub(crate) const RULE_FILE_KIND: &str = "mixer-rule";

/// The rules for one subject.
#[derive(Clone, Debug)]
pub(crate) struct RuleFile {
    /// The host of a service; `None`: all (`global`).
    pub(crate) subject: Option<Name>,
    pub(super) rules: Vec<Rule>,
}

/// Whether a document is one: it has neither kind nor type.
pub(crate) fn is_rule_file(document: &Node) -> bool {
    let has = |key| document.as_map().is_some_and(|map| map.get(key).is_some());
    has("rules") && !["apiVersion", "kind", "type"].into_iter().any(has)
}

impl RuleFile {
    pub(crate) fn read(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RuleFile> {
        let mut fields = Fields::of(document, "a rule file of Mixer", diagnostics)?;
        // `istioctl` says it beside the file, which says it for itself here.
        let subject = fields.text("subject").filter(|subject| subject != "global");
        fields.ignore(&["revision", "version"]);
        let rules = fields.list("rules");
        let mut found = RuleFile {
            subject: subject.map(Name::from),
            rules: Vec::new(),
        };
        for rule in rules {
            found.read_rule(rule, None, fields.diagnostics);
        }
        fields.finish();
        Some(found)
    }

    /// A rule, and those within it, which apply where it does.
    fn read_rule(
        &mut self,
        node: &Node,
        within: Option<&Expression>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Some(mut fields) = Fields::of(node, "a rule of Mixer", diagnostics) else {
            return;
        };
        let selector = fields.optional("selector");
        let own = selector.and_then(|node| Expression::read_condition(node, fields.diagnostics));
        let condition = match (within.cloned(), own) {
            (Some(within), Some(own)) => Some(Expression::And(Box::new((within, own)))),
            (within, own) => within.or(own),
        };
        let mut actions = Vec::new();
        for aspect in fields.list("aspects") {
            read_aspect(aspect, &mut actions, fields.diagnostics);
        }
        self.rules.push(Rule {
            scope: match &self.subject {
                None => Scope::Everything,
                Some(subject) => Scope::Service(subject.clone()),
            },
            condition: condition.clone(),
            actions,
        });
        let inner = fields.list("rules");
        fields.finish();
        for rule in inner {
            self.read_rule(rule, condition.as_ref(), diagnostics);
        }
    }
}

fn read_aspect(node: &Node, actions: &mut Vec<Action>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "an aspect", diagnostics) else {
        return;
    };
    let kind_node = fields.required("kind");
    let kind = fields.text("kind");
    fields.ignore(&["adapter", "inputs"]);
    let params = fields.optional("params");
    let (Some(place), Some(kind)) = (kind_node, kind) else {
        return;
    };
    const KINDS: [&str; 7] = [
        "denials",
        "quotas",
        "metrics",
        "lists",
        "access-logs",
        "application-logs",
        "attributes",
    ];
    match kind.as_str() {
        "denials" => {
            without_effect(params, &kind, fields.diagnostics);
            // What the adapter denyChecker says where nothing else is configured.
            actions.push(Action::Deny {
                code: FAILED_PRECONDITION,
                message: String::new(),
            });
        }
        "quotas" => read_quotas(params, actions, fields.diagnostics),
        "metrics" => read_metrics(params, actions, fields.diagnostics),
        // Nothing is logged; of pods everything is known already.
        "access-logs" | "application-logs" | "attributes" => {
            without_effect(params, &kind, fields.diagnostics);
        }
        "lists" => fields.diagnostics.push(
            Diagnostic::warning("`lists` aspects are not supported yet").at(
                &place.span,
                "their lists are among Mixer's adapters, not in rule files",
            ),
        ),
        _ => fields.diagnostics.push(
            Diagnostic::error(format!("Mixer has no aspect `{kind}`"))
                .at(&place.span, format!("one of {}", KINDS.join(", ")))
                .nearest(&kind, KINDS),
        ),
    }
    fields.finish();
}

fn without_effect(params: Option<&Node>, kind: &str, diagnostics: &mut Vec<Diagnostic>) {
    let Some(node) = params else { return };
    let place = match node.as_map() {
        None => &node.span,
        Some(map) => match map.entries.first() {
            None => return,
            Some(entry) => &entry.key_span,
        },
    };
    let warning = Diagnostic::warning(format!("parameters of `{kind}` have no effect"));
    diagnostics.push(warning.at(place, "not modelled"));
}

/// Without parameters: five requests a second, as in Mixer.
fn read_quotas(
    params: Option<&Node>,
    actions: &mut Vec<Action>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(params) = params else {
        return actions.push(Action::Quota(QuotaAction::of_0_1()));
    };
    let Some(mut fields) = Fields::of(params, "parameters of quotas", diagnostics) else {
        return;
    };
    for node in fields.list("quotas") {
        let Some(mut inner) = Fields::of(node, "a quota", fields.diagnostics) else {
            continue;
        };
        let name = inner.required_text("descriptorName");
        let amount = amount(&mut inner, "expiration");
        let dimensions = expressions(&mut inner, "labels");
        inner.finish();
        if let (Some(name), Some(amount)) = (name, amount) {
            actions.push(Action::Quota(QuotaAction {
                name: name.into(),
                dimensions,
                amount,
                overrides: Vec::new(),
            }));
        }
    }
    fields.finish();
}

fn read_metrics(
    params: Option<&Node>,
    actions: &mut Vec<Action>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let fields = params.and_then(|node| Fields::of(node, "parameters of metrics", diagnostics));
    let Some(mut fields) = fields else { return };
    for node in fields.list("metrics") {
        let Some(mut inner) = Fields::of(node, "a metric", fields.diagnostics) else {
            continue;
        };
        let names = ["descriptor_name", "descriptorName"];
        let name = names.into_iter().find_map(|key| inner.text(key));
        if name.is_none() {
            inner.required("descriptor_name");
        }
        let value = inner.required("value");
        let value = value.and_then(|node| Expression::read(node, inner.diagnostics));
        let labels = expressions(&mut inner, "labels");
        inner.finish();
        if let (Some(name), Some(value)) = (name, value) {
            let name = name.into();
            actions.push(Action::Metric(Metric {
                name,
                value,
                labels,
            }));
        }
    }
    fields.finish();
}
