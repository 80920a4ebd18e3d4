//! What applies to a request: whether it may pass, and what is counted of it.

use super::RULE_FILE_KIND;
use super::attributes::{MixerAttributes, Value};
use super::expression::Expression;
use super::parts::{List, Part, RuleObject};
use super::quota::{Amount, Quotas};
use crate::config::Named;
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::rpc_code::{self, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED};
use proxy_core::contract::Verdict;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use source::{Diagnostic, SourceFile};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rules in it are for all services.
const CONFIG_NAMESPACE: &str = "istio-system";
/// What Istio's proxies ask for, one for each request.
const REQUEST_COUNT: &str = "RequestCount";

/// Mixer's configuration, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct MixerPolicy {
    rules: Vec<Rule>,
}

/// Where its condition holds, its actions are taken.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) scope: Scope,
    pub(super) condition: Option<Expression>,
    pub(super) actions: Vec<Action>,
}

/// Which requests a rule looks at, by where they go.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scope {
    Everything,
    Namespace(Name),
    Service(Name),
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Deny {
        code: u32,
        message: String,
    },
    LookUp {
        handler: Name,
        value: Expression,
        list: List,
    },
    Quota(QuotaAction),
    Metric(Metric),
}

#[derive(Clone, Debug)]
pub(super) struct QuotaAction {
    pub(super) name: Name,
    pub(super) dimensions: Vec<(Name, Expression)>,
    pub(super) amount: Amount,
    /// The first whose dimensions all are the request's counts instead.
    pub(super) overrides: Vec<Override>,
}

/// Another amount for some dimensions.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pub(super) dimensions: Vec<(Name, String)>,
    pub(super) amount: Amount,
}

#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) name: Name,
    pub(super) value: Expression,
    pub(super) labels: Vec<(Name, Expression)>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    pub name: Name,
    pub labels: Vec<(Name, String)>,
    /// Durations in seconds.
    pub value: f64,
}

impl MixerPolicy {
    /// Of the objects there are, and of what comes with Mixer. Actions that name a handler or an
    /// instance that is not there are left out, with a warning.
    pub fn of(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) -> MixerPolicy {
        let shipped = Objects::read(
            &SourceFile::new("shipped with Mixer", include_str!("shipped.yaml")),
            &mut Vec::new(),
        );
        let mut parts = Parts(BTreeMap::new());
        for object in shipped.stored().chain(objects.stored()) {
            parts.add(object);
        }
        let mut rules = Vec::new();
        for object in objects.of_kind(RULE_FILE_KIND) {
            if let Body::MixerRules(file) = &object.body {
                rules.extend(file.rules.iter().cloned());
            }
        }
        for object in parts.0.values() {
            if let Body::Mixer(Part::Rule(rule)) = &object.body {
                rules.push(parts.rule(object, rule, diagnostics));
            }
        }
        MixerPolicy { rules }
    }

    /// What Mixer says of a request. Quotas are taken from if nothing else denies it.
    pub fn check(&self, quotas: &mut Quotas, now: Nanos, of: &MixerAttributes<'_>) -> Verdict {
        let mut denied: Option<(u32, String)> = None;
        for action in self.actions(of) {
            let Some((code, text)) = denial(action, of) else {
                continue;
            };
            match &mut denied {
                None => denied = Some((code, text)),
                Some((_, all)) => {
                    all.push_str(", ");
                    all.push_str(&text);
                }
            }
        }
        let exhausted = || {
            let mut actions = self.actions(of);
            let short = actions.any(|action| match action {
                Action::Quota(quota) => !quota.take(quotas, now, of),
                _ => false,
            });
            let text = format!("Quota is exhausted for: {REQUEST_COUNT}");
            short.then_some((RESOURCE_EXHAUSTED, text))
        };
        match denied.or_else(exhausted) {
            None => Verdict::Allowed,
            Some((code, text)) => Verdict::Denied {
                code,
                message: format!("{}:{text}", rpc_code::name(code)).into(),
            },
        }
    }

    /// What is counted of a response.
    pub fn report(&self, of: &MixerAttributes<'_>) -> Vec<MetricSample> {
        let metrics = self.actions(of).filter_map(|action| match action {
            Action::Metric(metric) => metric.sample(of),
            _ => None,
        });
        metrics.collect()
    }

    /// Of the rules that apply. A rule whose condition looks at what the request has not does not.
    fn actions<'a>(&'a self, of: &'a MixerAttributes<'_>) -> impl Iterator<Item = &'a Action> {
        let applies = |rule: &&Rule| {
            let condition = rule.condition.as_ref();
            rule.scope.covers(of) && condition.is_none_or(|c| c.holds(of) == Ok(true))
        };
        self.rules
            .iter()
            .filter(applies)
            .flat_map(|rule| &rule.actions)
    }
}

impl Scope {
    fn covers(&self, of: &MixerAttributes<'_>) -> bool {
        let host = of.destination.service.as_deref();
        match self {
            Scope::Everything => true,
            Scope::Service(name) => host == Some(&**name),
            Scope::Namespace(name) => host.and_then(|host| host.split('.').nth(1)) == Some(&**name),
        }
    }
}

/// The code and text of an action that denies the request.
fn denial(action: &Action, of: &MixerAttributes<'_>) -> Option<(u32, String)> {
    match action {
        Action::Deny { code: 0, .. } | Action::Quota(_) | Action::Metric(_) => None,
        Action::Deny { code, message } => Some((*code, message.clone())),
        Action::LookUp {
            handler,
            value,
            list,
        } => {
            let value = value.text(of)?;
            match (list.holds(&value), list.blacklist) {
                (true, true) => {
                    let text = format!("{handler}:{value} is blacklisted");
                    Some((PERMISSION_DENIED, text))
                }
                (false, false) => {
                    Some((NOT_FOUND, format!("{handler}:{value} is not whitelisted")))
                }
                _ => None,
            }
        }
    }
}

impl List {
    fn holds(&self, value: &str) -> bool {
        self.entries.iter().any(|entry| match self.ignores_case {
            true => entry.eq_ignore_ascii_case(value),
            false => entry == value,
        })
    }
}

impl QuotaAction {
    /// Of 0.1 where nothing is stated: five requests a second.
    pub(super) fn of_0_1() -> QuotaAction {
        QuotaAction {
            name: REQUEST_COUNT.into(),
            dimensions: Vec::new(),
            amount: Amount {
                max: 5,
                valid_for: Nanos::from_secs(1),
            },
            overrides: Vec::new(),
        }
    }

    /// Each set of dimensions has an amount of its own.
    fn take(&self, quotas: &mut Quotas, now: Nanos, of: &MixerAttributes<'_>) -> bool {
        let value = |(name, expression): &(Name, Expression)| {
            (name.clone(), expression.text(of).unwrap_or_default())
        };
        let values: Vec<(Name, String)> = self.dimensions.iter().map(value).collect();
        let fits = |one: &&Override| one.dimensions.iter().all(|wanted| values.contains(wanted));
        let other = self.overrides.iter().find(fits);
        let amount = other.map_or(self.amount, |other| other.amount);
        let mut key = self.name.to_string();
        for (name, value) in &values {
            key.push_str(&format!(";{name}={value}"));
        }
        quotas.take(key, amount, now)
    }
}

impl Metric {
    /// `None`: the request has not all that it looks at.
    fn sample(&self, of: &MixerAttributes<'_>) -> Option<MetricSample> {
        let value = match self.value.value(of).ok()?? {
            Value::Number(number) => number as f64,
            Value::Duration(duration) => duration.as_secs_f64(),
            Value::Text(_) | Value::Boolean(_) => return None,
        };
        let label =
            |(name, expression): &(Name, Expression)| Some((name.clone(), expression.text(of)?));
        Some(MetricSample {
            name: self.name.clone(),
            labels: self.labels.iter().map(label).collect::<Option<_>>()?,
            value,
        })
    }
}

/// Handlers, instances and rules, by `NAME.KIND.NAMESPACE`.
struct Parts<'a>(BTreeMap<String, &'a Arc<Object>>);

impl<'a> Parts<'a> {
    fn add(&mut self, object: &'a Arc<Object>) {
        if let Body::Mixer(_) = &object.body {
            let of = &object.reference;
            let name = format!("{}.{}.{}", of.name, of.kind, of.namespace);
            self.0.insert(name, object);
        }
    }

    fn rule(&self, object: &Object, rule: &RuleObject, diagnostics: &mut Vec<Diagnostic>) -> Rule {
        let namespace = &object.reference.namespace;
        let mut actions = Vec::new();
        for (handler, instances) in &rule.actions {
            let Some((full, part)) = self.find(handler, namespace, "handler", diagnostics) else {
                continue;
            };
            for instance in instances {
                let found = self.find(instance, namespace, "instance", diagnostics);
                let Some((name, of)) = found else { continue };
                match action((&full, part), (&name, of)) {
                    Some(made) => actions.extend(made),
                    None => {
                        let kind = full.split('.').nth(1).unwrap_or_default();
                        let message = format!("a {kind} has no use for `{}`", instance.text);
                        let warning = Diagnostic::warning(message);
                        diagnostics.push(warning.at(&instance.span, "left out, as by Mixer"));
                    }
                }
            }
        }
        Rule {
            scope: match &**namespace {
                CONFIG_NAMESPACE => Scope::Everything,
                _ => Scope::Namespace(namespace.clone()),
            },
            condition: rule.condition.clone(),
            actions,
        }
    }

    /// What `name` names for an object in `namespace`, and its whole name.
    fn find(
        &self,
        name: &Named,
        namespace: &Name,
        what: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<(Name, &'a Part)> {
        let full = match name.text.split('.').count() {
            2 => format!("{}.{namespace}", name.text),
            _ => name.text.to_string(),
        };
        if let Some(object) = self.0.get(&full)
            && let Body::Mixer(part) = &object.body
        {
            return Some((full.into(), part));
        }
        let message = format!("Mixer has no {what} `{full}`");
        let warning = Diagnostic::warning(message).at(&name.span, "left out, as by Mixer");
        diagnostics.push(warning.nearest(&full, self.0.keys().map(String::as_str)));
        None
    }
}

/// What a handler does with an instance; `None`: it takes no such instances.
fn action(
    (handler, part): (&Name, &Part),
    (name, instance): (&Name, &Part),
) -> Option<Vec<Action>> {
    Some(match (part, instance) {
        (Part::Denier { code, message }, Part::CheckNothing | Part::ListEntry(_)) => {
            let message = format!("{handler}:{message}");
            let code = *code;
            vec![Action::Deny { code, message }]
        }
        (Part::ListChecker(list), Part::ListEntry(value)) => vec![Action::LookUp {
            handler: handler.clone(),
            value: value.clone(),
            list: list.clone(),
        }],
        (Part::MemQuota(limits), Part::Quota(dimensions)) => {
            let mine = limits.iter().filter(|limit| limit.instance.text == *name);
            let quota = mine.map(|limit| QuotaAction {
                name: name.clone(),
                dimensions: dimensions.clone(),
                amount: limit.amount,
                overrides: limit.overrides.clone(),
            });
            quota.map(Action::Quota).collect()
        }
        (Part::Prometheus(exposed), Part::Metric { value, dimensions }) => {
            let mine = exposed.iter().filter(|shown| shown.instance.text == *name);
            let metric = mine.map(|shown| Metric {
                name: shown.name.clone(),
                value: value.clone(),
                labels: dimensions
                    .iter()
                    .filter(|(label, _)| shown.labels.contains(label))
                    .cloned()
                    .collect(),
            });
            metric.map(Action::Metric).collect()
        }
        // A denier has as much of a quota as anybody wants.
        (Part::Denier { .. }, Part::Quota(_)) | (Part::WithoutEffect, _) => Vec::new(),
        (_, Part::WithoutEffect) => Vec::new(),
        _ => return None,
    })
}
