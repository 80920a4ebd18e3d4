//! AuthorizationPolicy.

use super::selection::label;
use super::{
    Attribute, AttributeKey, Named, Target, choice, named_node, required_named, schema_warning,
};
use proxy_core::xds::Name;
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Istio `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuthorizationPolicy {
    pub(crate) target: Target,
    pub(crate) action: AuthorizationAction,
    pub(crate) rules: Vec<AccessRule>,
    /// Decides nothing (annotation `istio.io/dry-run`).
    pub(crate) dry_run: bool,
}

/// Istio `AuthorizationPolicy.Action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthorizationAction {
    Allow,
    Deny,
    Audit,
    /// By a provider of that name.
    Custom(Name),
}

/// Istio `Rule`: one of `from`, one of `to`, and all of `when`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AccessRule {
    /// Attributes that hold together; empty: any.
    pub(crate) from: Vec<Vec<Attribute>>,
    pub(crate) to: Vec<Vec<Attribute>>,
    pub(crate) when: Vec<Attribute>,
    /// Line in its file, from 1.
    pub(crate) line: u32,
}

/// A field with a list of values, and what those are.
type Field = (&'static str, &'static str, AttributeKey);

const SOURCE: [Field; 7] = [
    ("principals", "notPrincipals", AttributeKey::Principal),
    (
        "requestPrincipals",
        "notRequestPrincipals",
        AttributeKey::RequestPrincipal,
    ),
    ("namespaces", "notNamespaces", AttributeKey::Namespace),
    (
        "serviceAccounts",
        "notServiceAccounts",
        AttributeKey::ServiceAccount,
    ),
    ("trustDomains", "notTrustDomains", AttributeKey::TrustDomain),
    ("ipBlocks", "notIpBlocks", AttributeKey::SourceIp),
    (
        "remoteIpBlocks",
        "notRemoteIpBlocks",
        AttributeKey::RemoteIp,
    ),
];

const OPERATION: [Field; 4] = [
    ("hosts", "notHosts", AttributeKey::Host),
    ("ports", "notPorts", AttributeKey::DestinationPort),
    ("methods", "notMethods", AttributeKey::Method),
    ("paths", "notPaths", AttributeKey::Path),
];

impl AuthorizationPolicy {
    pub(crate) fn read(
        node: &Node,
        annotations: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<AuthorizationPolicy> {
        let mut fields = Fields::of(node, "an AuthorizationPolicy", diagnostics)?;
        let target = Target::read(&mut fields);
        let actions = [
            ("ALLOW", AuthorizationAction::Allow),
            ("DENY", AuthorizationAction::Deny),
            ("AUDIT", AuthorizationAction::Audit),
            ("CUSTOM", AuthorizationAction::Custom("".into())),
        ];
        let choices: Vec<(&str, usize)> = actions
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (*name, at))
            .collect();
        let chosen = choice(&mut fields, "action", &choices).unwrap_or_default();
        let mut action = actions[chosen].1.clone();
        let provider = fields.optional("provider");
        let rules = fields.list("rules");
        let missing = rules.is_empty();
        if let AuthorizationAction::Custom(name) = &mut action {
            *name = read_provider(&mut fields, provider).unwrap_or_default();
        } else if let Some(node) = provider {
            fields.diagnostics.push(
                Diagnostic::error("only CUSTOM has a `provider`").at(&node.span, "leave it out"),
            );
        }
        let needs_rules = matches!(
            action,
            AuthorizationAction::Deny | AuthorizationAction::Custom(_)
        );
        if needs_rules && missing {
            fields.diagnostics.push(
                Diagnostic::error("without `rules` the policy never holds")
                    .at(fields.span(), "an empty rule `{}` holds for every request"),
            );
        }
        let dry_run = read_dry_run(&mut fields, annotations, &action);
        let rules = rules
            .iter()
            .filter_map(|rule| AccessRule::read(rule, &action, fields.diagnostics))
            .collect();
        fields.finish();
        Some(AuthorizationPolicy {
            target,
            action,
            rules,
            dry_run,
        })
    }
}

fn read_provider(fields: &mut Fields<'_, '_>, provider: Option<&Node>) -> Option<Name> {
    let Some(node) = provider else {
        fields.diagnostics.push(
            Diagnostic::error("CUSTOM needs a `provider`").at(fields.span(), "who is to be asked?"),
        );
        return None;
    };
    let mut inner = Fields::of(node, "a provider", fields.diagnostics)?;
    let name = required_named(&mut inner, "name")?;
    if name.text.is_empty() {
        inner.diagnostics.push(
            Diagnostic::error("CUSTOM needs the name of a provider")
                .at(&name.span, "who is to be asked?"),
        );
    } else {
        inner.diagnostics.push(
            Diagnostic::warning("external authorization is not supported yet").at(
                &name.span,
                "unknown here: what its rules match is denied, as Istio does without the provider",
            ),
        );
    }
    inner.finish();
    Some(name.text)
}

fn read_dry_run(
    fields: &mut Fields<'_, '_>,
    annotations: &[(Name, Name)],
    action: &AuthorizationAction,
) -> bool {
    let key = "istio.io/dry-run";
    let Some(value) = label(annotations, key) else {
        return false;
    };
    let plain = matches!(
        action,
        AuthorizationAction::Allow | AuthorizationAction::Deny
    );
    // What Go's `strconv.ParseBool` reads.
    let found = match &**value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    };
    if !plain || found.is_none() {
        let message = match plain {
            true => format!("the annotation `{key}` is true or false"),
            false => format!("the annotation `{key}` is for ALLOW and DENY only"),
        };
        let diagnostic = Diagnostic::error(message).at(fields.span(), format!("found `{value}`"));
        fields.diagnostics.push(diagnostic);
    }
    found.unwrap_or(false)
}

impl AccessRule {
    fn read(
        node: &Node,
        action: &AuthorizationAction,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<AccessRule> {
        let mut fields = Fields::of(node, "a rule", diagnostics)?;
        let from = alternatives(&mut fields, "from", "source", &SOURCE);
        let to = alternatives(&mut fields, "to", "operation", &OPERATION);
        let when: Vec<Attribute> = fields
            .list("when")
            .iter()
            .filter_map(|node| read_condition(node, fields.diagnostics))
            .collect();
        let rule = AccessRule {
            from,
            to,
            when,
            line: node.span.line(),
        };
        match action {
            AuthorizationAction::Custom(_) => rule.check_custom(node, fields.diagnostics),
            AuthorizationAction::Deny if rule.is_for_http_only() => {
                fields.diagnostics.push(
                    schema_warning("the rule denies all traffic to TCP ports").at(
                        &node.span,
                        "connections have none of these attributes: name the ports that are meant",
                    ),
                );
            }
            _ => {}
        }
        fields.finish();
        Some(rule)
    }

    /// Whether a DENY of it leaves nothing to ask of a connection, as Istio's webhook sees it.
    fn is_for_http_only(&self) -> bool {
        let asks = |alternatives: &[Vec<Attribute>]| {
            let mut attributes = alternatives.iter().flatten();
            attributes.any(|attribute| {
                !attribute.key.is_http_only() && attribute.key != AttributeKey::TrustDomain
            })
        };
        let (from, to) = (!self.from.is_empty(), !self.to.is_empty());
        (from && !to && !asks(&self.from)) || (to && !asks(&self.to))
    }

    /// External authorization is asked before anybody is known.
    fn check_custom(&self, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
        use AttributeKey::{
            Audiences, Claim, Namespace, Presenter, Principal, RequestPrincipal, ServiceAccount,
            TrustDomain,
        };
        let attributes = self.from.iter().flatten().chain(&self.when);
        for attribute in attributes {
            if matches!(
                attribute.key,
                Namespace
                    | ServiceAccount
                    | TrustDomain
                    | Principal
                    | RequestPrincipal
                    | Audiences
                    | Presenter
                    | Claim(_)
            ) {
                diagnostics.push(
                    Diagnostic::error("CUSTOM cannot ask who sends a request")
                        .at(&node.span, format!("asks for {:?}", attribute.key)),
                );
            }
        }
    }
}

/// The items of `from` or `to`, each below its own key.
fn alternatives(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    inner_key: &'static str,
    known: &[Field],
) -> Vec<Vec<Attribute>> {
    let Some(node) = fields.optional(key) else {
        return Vec::new();
    };
    let items = fields.list(key);
    if items.is_empty() {
        let diagnostic = expected(node, &format!("`{key}` has at least one item"));
        fields.diagnostics.push(diagnostic);
    }
    let mut read = Vec::new();
    for item in items {
        let Some(mut outer) = Fields::of(item, "an alternative", fields.diagnostics) else {
            continue;
        };
        if let Some(node) = outer.required(inner_key) {
            read.extend(read_attributes(node, inner_key, known, outer.diagnostics));
        }
        outer.finish();
    }
    read
}

fn read_attributes(
    node: &Node,
    what: &'static str,
    known: &[Field],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Attribute>> {
    let mut fields = Fields::of(node, what, diagnostics)?;
    let mut attributes = Vec::new();
    for (field, not_field, key) in known {
        let values = read_values(&mut fields, field, key);
        let not_values = read_values(&mut fields, not_field, key);
        if !values.is_empty() || !not_values.is_empty() {
            attributes.push(Attribute {
                key: key.clone(),
                values,
                not_values,
            });
        }
    }
    let has = |key: &AttributeKey| attributes.iter().any(|one| one.key == *key);
    if attributes.is_empty() {
        let diagnostic = Diagnostic::error(format!("`{what}` is not empty"))
            .at(&node.span, "any is said by leaving it out");
        fields.diagnostics.push(diagnostic);
    }
    if has(&AttributeKey::ServiceAccount)
        && (has(&AttributeKey::Principal) || has(&AttributeKey::Namespace))
    {
        fields.diagnostics.push(
            Diagnostic::error("`serviceAccounts` cannot stand beside `namespaces` or `principals`")
                .at(&node.span, "say it with one of them"),
        );
    }
    fields.finish();
    Some(attributes)
}

fn read_values(fields: &mut Fields<'_, '_>, field: &'static str, key: &AttributeKey) -> Vec<Name> {
    let mut values = Vec::new();
    let items = fields.list(field);
    if *key == AttributeKey::ServiceAccount && items.len() > 16 {
        let diagnostic = Diagnostic::error(format!("`{field}` has 16 values at most"))
            .at(&items[16].span, "one too many");
        fields.diagnostics.push(diagnostic);
    }
    for item in items {
        let Some(Named { text, .. }) = named_node(item, field, fields.diagnostics) else {
            continue;
        };
        if let Some(why) = key.refuses(&text) {
            let diagnostic = Diagnostic::error(format!("`{field}`: {why}"))
                .at(&item.span, format!("found `{text}`"));
            fields.diagnostics.push(diagnostic);
        }
        values.push(text);
    }
    values
}

/// Istio `Condition`.
fn read_condition(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Attribute> {
    let mut fields = Fields::of(node, "a condition", diagnostics)?;
    let named = required_named(&mut fields, "key")?;
    let key = match AttributeKey::of_condition(&named.text) {
        Ok(key) => key,
        Err(why) => {
            let diagnostic = Diagnostic::error(why).at(&named.span, "not known");
            fields.diagnostics.push(diagnostic);
            return None;
        }
    };
    if key == AttributeKey::Metadata {
        fields.diagnostics.push(
            Diagnostic::warning("metadata of Envoy's filters is not supported yet")
                .at(&named.span, "taken to be missing"),
        );
    }
    let values = read_values(&mut fields, "values", &key);
    let not_values = read_values(&mut fields, "notValues", &key);
    if values.is_empty() && not_values.is_empty() {
        fields.diagnostics.push(
            Diagnostic::error("a condition has `values` or `notValues`")
                .at(&node.span, format!("`{}` may be anything", named.text)),
        );
    }
    fields.finish();
    Some(Attribute {
        key,
        values,
        not_values,
    })
}
