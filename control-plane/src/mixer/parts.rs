//! The kinds of Mixer in Istio 0.2 (`config.istio.io/v1alpha2`): rules, handlers, which decide or
//! count, and instances, which say about what.

use super::expression::Expression;
use super::policy::Override;
use super::quota::Amount;
use crate::config::{Named, choice, named_list, parse_duration};
use crate::rpc_code::FAILED_PRECONDITION;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// All of them, with what an object of the kind is.
pub(crate) const KINDS: [&str; 24] = [
    "rule",
    // Handlers.
    "denier",
    "listchecker",
    "memquota",
    "prometheus",
    "stdio",
    "statsd",
    "fluentd",
    "stackdriver",
    "svcctrl",
    "opa",
    "noop",
    "kubernetesenv",
    "redisquota",
    // Instances.
    "checknothing",
    "listentry",
    "quota",
    "metric",
    "logentry",
    "reportnothing",
    "apikey",
    "authorization",
    "kubernetes",
    "attributemanifest",
];

/// One object.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Rule(RuleObject),
    Denier {
        code: u32,
        message: String,
    },
    ListChecker(List),
    MemQuota(Vec<Limit>),
    Prometheus(Vec<Exposed>),
    CheckNothing,
    /// What is looked for in a list.
    ListEntry(Expression),
    /// Its dimensions.
    Quota(Vec<(Name, Expression)>),
    Metric {
        value: Expression,
        dimensions: Vec<(Name, Expression)>,
    },
    /// Logs, other back-ends: Mixer has it, and nothing comes of it here.
    WithoutEffect,
}

/// A rule: where its condition holds, handlers get instances.
#[derive(Clone, Debug)]
pub(crate) struct RuleObject {
    pub(super) condition: Option<Expression>,
    /// `NAME.KIND` or `NAME.KIND.NAMESPACE` of a handler, and the same of instances.
    pub(super) actions: Vec<(Named, Vec<Named>)>,
}

/// The adapter `list`.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(super) entries: Vec<String>,
    pub(super) blacklist: bool,
    pub(super) ignores_case: bool,
}

/// How much there is of a quota.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// `NAME.quota.NAMESPACE`.
    pub(super) instance: Named,
    pub(super) amount: Amount,
    pub(super) overrides: Vec<Override>,
}

/// A metric that Prometheus is shown.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(super) name: Name,
    pub(super) instance: Named,
    /// Of the instance's dimensions.
    pub(super) labels: Vec<Name>,
}

impl Part {
    pub(crate) fn read(kind: &str, spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Part> {
        match kind {
            "rule" => read_rule(spec, diagnostics).map(Part::Rule),
            "denier" => read_denier(spec, diagnostics),
            "listchecker" => read_list(spec, diagnostics).map(Part::ListChecker),
            "memquota" => read_mem_quota(spec, diagnostics).map(Part::MemQuota),
            "prometheus" => read_prometheus(spec, diagnostics).map(Part::Prometheus),
            "checknothing" => {
                Fields::of(spec, "a checknothing", diagnostics)?.finish();
                Some(Part::CheckNothing)
            }
            "listentry" => {
                let mut fields = Fields::of(spec, "a listentry", diagnostics)?;
                let value = fields.required("value");
                let value = value.and_then(|node| Expression::read(node, fields.diagnostics));
                fields.finish();
                value.map(Part::ListEntry)
            }
            "quota" => {
                let mut fields = Fields::of(spec, "a quota", diagnostics)?;
                let dimensions = expressions(&mut fields, "dimensions");
                fields.finish();
                Some(Part::Quota(dimensions))
            }
            "metric" => read_metric(spec, diagnostics),
            _ => Some(Part::WithoutEffect),
        }
    }
}

fn read_rule(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RuleObject> {
    let mut fields = Fields::of(spec, "a rule of Mixer", diagnostics)?;
    let condition = fields.optional("match");
    // Everything, where it is empty.
    let condition = condition.filter(|node| node.as_scalar() != Some(""));
    let condition = match condition {
        None => None,
        Some(node) => Some(Expression::read_condition(node, fields.diagnostics)?),
    };
    let mut actions = Vec::new();
    for node in fields.list("actions") {
        let mut inner = Fields::of(node, "an action", fields.diagnostics)?;
        let handler = crate::config::required_named(&mut inner, "handler");
        let instances = named_list(&mut inner, "instances");
        inner.finish();
        actions.push((handler?, instances));
    }
    fields.finish();
    Some(RuleObject { condition, actions })
}

fn read_denier(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Part> {
    let mut fields = Fields::of(spec, "a denier", diagnostics)?;
    let (mut code, mut message) = (Some(FAILED_PRECONDITION), String::new());
    if let Some(node) = fields.optional("status") {
        let mut status = Fields::of(node, "a status", fields.diagnostics)?;
        if status.optional("code").is_some() {
            code = status
                .integer("code", 0..=16)
                .and_then(|n| u32::try_from(n).ok());
        }
        message = status.text("message").unwrap_or_default();
        status.unsupported(&["details"]);
        status.finish();
    }
    // How long answers may be remembered, which they are not.
    fields.ignore(&["validDuration", "validUseCount"]);
    fields.finish();
    Some(Part::Denier {
        code: code?,
        message,
    })
}

fn read_list(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<List> {
    let mut fields = Fields::of(spec, "a listchecker", diagnostics)?;
    let types = [("STRINGS", false), ("CASE_INSENSITIVE_STRINGS", true)];
    let list = List {
        entries: fields.texts("overrides"),
        blacklist: fields.boolean("blacklist").unwrap_or(false),
        ignores_case: choice(&mut fields, "entryType", &types).unwrap_or(false),
    };
    fields.ignore(&[
        "refreshInterval",
        "ttl",
        "cachingInterval",
        "cachingUseCount",
    ]);
    fields.unsupported(&["providerUrl"]);
    fields.finish();
    Some(list)
}

fn read_mem_quota(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Limit>> {
    let mut fields = Fields::of(spec, "a memquota", diagnostics)?;
    let mut limits = Vec::new();
    for node in fields.list("quotas") {
        let mut inner = Fields::of(node, "a quota", fields.diagnostics)?;
        let instance = crate::config::required_named(&mut inner, "name");
        let amount = amount(&mut inner, "validDuration");
        let mut overrides = Vec::new();
        for node in inner.list("overrides") {
            overrides.extend(read_override(node, inner.diagnostics));
        }
        inner.finish();
        limits.push(Limit {
            instance: instance?,
            amount: amount?,
            overrides,
        });
    }
    fields.ignore(&["minDeduplicationDuration"]);
    fields.finish();
    Some(limits)
}

fn read_override(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Override> {
    let mut fields = Fields::of(node, "an override", diagnostics)?;
    let dimensions = fields.text_map("dimensions").into_iter();
    let dimensions = dimensions
        .map(|(name, value)| (name.into(), value))
        .collect();
    let amount = amount(&mut fields, "validDuration");
    fields.finish();
    Some(Override {
        dimensions,
        amount: amount?,
    })
}

fn read_prometheus(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Exposed>> {
    let mut fields = Fields::of(spec, "a prometheus", diagnostics)?;
    let mut exposed = Vec::new();
    for node in fields.list("metrics") {
        let mut inner = Fields::of(node, "a metric", fields.diagnostics)?;
        let name = inner.required_text("name");
        let instance = crate::config::required_named(&mut inner, "instance_name");
        let labels = inner.texts("label_names");
        inner.ignore(&["kind", "buckets", "description"]);
        inner.finish();
        exposed.push(Exposed {
            name: name?.into(),
            instance: instance?,
            labels: labels.into_iter().map(Name::from).collect(),
        });
    }
    fields.finish();
    Some(exposed)
}

fn read_metric(spec: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Part> {
    let mut fields = Fields::of(spec, "a metric", diagnostics)?;
    let value = fields.required("value");
    let value = value.and_then(|node| Expression::read(node, fields.diagnostics));
    let dimensions = expressions(&mut fields, "dimensions");
    fields.ignore(&["monitored_resource_type", "monitored_resource_dimensions"]);
    fields.finish();
    Some(Part::Metric {
        value: value?,
        dimensions,
    })
}

/// Names with expressions, by name.
pub(super) fn expressions(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<(Name, Expression)> {
    let Some(node) = fields.optional(key) else {
        return Vec::new();
    };
    let Some(map) = node.as_map() else {
        let message = format!("`{key}` is a map");
        let diagnostic = source::fields::expected(node, &message);
        fields.diagnostics.push(diagnostic);
        return Vec::new();
    };
    let entries = map.entries.iter();
    let found = entries.filter_map(|entry| {
        let expression = Expression::read(&entry.value, fields.diagnostics)?;
        Some((Name::from(entry.key.as_str()), expression))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// A quota's windows are kept, so they do not last for ever.
const VALID_FOR_MAX: Nanos = Nanos::from_secs(24 * 3600);

/// `maxAmount`, for the time under `key`.
pub(super) fn amount(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Amount> {
    let max = match fields.optional("maxAmount") {
        None => Some(0),
        Some(_) => fields.integer("maxAmount", 0..=i64::MAX),
    };
    let valid_for = match fields.optional(key) {
        None => Some(Nanos::ZERO),
        Some(node) => {
            let stated = node.as_scalar().and_then(parse_duration);
            let found = stated.filter(|time| *time <= VALID_FOR_MAX);
            if found.is_none() {
                let message = format!("`{key}` is a duration up to 24h");
                let label = format!("found {}", node.span.text());
                let diagnostic = Diagnostic::error(message).at(&node.span, label);
                fields.diagnostics.push(diagnostic);
            }
            found
        }
    };
    Some(Amount {
        max: max.and_then(|max| u64::try_from(max).ok())?,
        valid_for: valid_for?,
    })
}
