//! Who may reach a workload (Istio `pilot/pkg/model/authorization.go`, `pilot/pkg/security/authz`).

use crate::config::{
    AccessRule, Attribute, AttributeKey, AuthorizationAction, AuthorizationPolicy, Labels,
    MeshConfig, parse_range,
};
use crate::object::{Body, Object};
use proxy_core::xds::{
    ClaimMatch, Condition, ConfigRef, HeaderMatch, IpRange, Name, PathTemplate, Rbac, RbacAction,
    RbacPolicy, Regex, StringMatch, ValueMatch,
};
use std::sync::Arc;

/// All AuthorizationPolicies, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorization {
    /// The root namespace.
    root: Name,
    /// The mesh's own, and its aliases.
    trust_domains: Vec<Name>,
    policies: Vec<Arc<Object>>,
}

/// What an RBAC filter is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Request,
    Connection,
}

impl Authorization {
    pub(crate) fn new(mesh: &MeshConfig) -> Authorization {
        let own = std::iter::once(&mesh.trust_domain);
        let trust_domains = own.chain(&mesh.trust_domain_aliases);
        Authorization {
            root: mesh.root_namespace.clone(),
            trust_domains: trust_domains.cloned().collect(),
            policies: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, object: &Arc<Object>) {
        self.policies.push(Arc::clone(object));
    }

    /// The RBAC filters before a workload, in Istio's order: CUSTOM, DENY, ALLOW. AUDIT decides
    /// nothing, and neither does a dry run.
    pub(crate) fn filters(&self, namespace: &str, labels: &Labels, level: Level) -> Vec<Rbac> {
        let (mut custom, mut deny, mut allow) = (None, None, None);
        for object in &self.policies {
            let Body::AuthorizationPolicy(policy) = &object.body else {
                continue;
            };
            let own = &object.reference.namespace;
            let covers = policy.target.covers(own, &self.root, (namespace, labels));
            if policy.dry_run || !covers {
                continue;
            }
            let (filter, action) = match &policy.action {
                AuthorizationAction::Custom(_) => (&mut custom, RbacAction::Deny),
                AuthorizationAction::Deny => (&mut deny, RbacAction::Deny),
                AuthorizationAction::Allow => (&mut allow, RbacAction::Allow),
                AuthorizationAction::Audit => continue,
            };
            let filter: &mut Rbac = filter.get_or_insert_with(|| Rbac {
                action,
                policies: Vec::new(),
            });
            filter
                .policies
                .extend(self.policies_of(object, policy, level));
        }
        let mut filters: Vec<Rbac> = [custom, deny, allow].into_iter().flatten().collect();
        for filter in &mut filters {
            filter.policies.sort_by(|a, b| a.name.cmp(&b.name));
        }
        filters
    }

    /// One for each rule that can be asked at that level.
    fn policies_of(
        &self,
        object: &Object,
        policy: &AuthorizationPolicy,
        level: Level,
    ) -> Vec<RbacPolicy> {
        let reference = &object.reference;
        let name = |rule: usize| -> Name {
            let (namespace, name) = (&reference.namespace, &reference.name);
            let plain = format!("ns[{namespace}]-policy[{name}]-rule[{rule}]");
            match &policy.action {
                // Nobody is there to be asked.
                AuthorizationAction::Custom(provider) => {
                    format!("istio-ext-authz-{provider}-{plain}-deny-due-to-bad-CUSTOM-action")
                        .into()
                }
                _ => plain.into(),
            }
        };
        if policy.rules.is_empty() {
            let never = || vec![Condition::Not(Box::new(Condition::Any))];
            return vec![RbacPolicy {
                name: name(0),
                permissions: never(),
                principals: never(),
                origin: Some(object.origin()),
            }];
        }
        let translation = Translation {
            namespace: &reference.namespace,
            level,
            strict: policy.action == AuthorizationAction::Allow,
            trust_domains: &self.trust_domains,
        };
        let rules = policy.rules.iter().enumerate();
        let made = rules.filter_map(|(number, rule)| {
            let (permissions, principals) = translation.rule(rule)?;
            Some(RbacPolicy {
                name: name(number),
                permissions,
                principals,
                origin: Some(ConfigRef {
                    line: rule.line,
                    ..object.origin()
                }),
            })
        });
        made.collect()
    }
}

/// How the rules of one policy become conditions.
struct Translation<'a> {
    /// Of the policy.
    namespace: &'a Name,
    level: Level,
    /// A rule that asks what cannot be answered is left out, so that less is allowed; otherwise only
    /// that question is, so that more is denied.
    strict: bool,
    trust_domains: &'a [Name],
}

impl Translation<'_> {
    /// Permissions and principals.
    fn rule(&self, rule: &AccessRule) -> Option<(Vec<Condition>, Vec<Condition>)> {
        let part = |alternatives: &[Vec<Attribute>], of_source: bool| {
            let when = || {
                let when = rule.when.iter();
                when.filter(move |attribute| attribute.key.is_of_source() == of_source)
            };
            match alternatives {
                [] => Some(vec![self.all(when())?]),
                some => some
                    .iter()
                    .map(|own| self.all(own.iter().chain(when())))
                    .collect(),
            }
        };
        Some((part(&rule.to, false)?, part(&rule.from, true)?))
    }

    /// All of the attributes; `None` if one of them cannot be asked for and that matters.
    fn all<'b>(&self, attributes: impl Iterator<Item = &'b Attribute>) -> Option<Condition> {
        let mut all = Vec::new();
        for attribute in attributes {
            let answerable = self.level == Level::Request || !attribute.key.is_http_only();
            if !answerable && self.strict {
                return None;
            }
            if !answerable {
                continue;
            }
            if !attribute.values.is_empty() {
                all.push(self.any(&attribute.key, &attribute.values));
            }
            if !attribute.not_values.is_empty() {
                let one = self.any(&attribute.key, &attribute.not_values);
                all.push(Condition::Not(Box::new(one)));
            }
        }
        Some(match all.is_empty() {
            true => Condition::Any,
            false => Condition::And(all),
        })
    }

    /// One of the values.
    fn any(&self, key: &AttributeKey, values: &[Name]) -> Condition {
        let claim = |path: &[Name]| {
            Condition::Claim(ClaimMatch {
                path: path.to_vec(),
                values: values.iter().map(|value| pattern("", value)).collect(),
                in_list: true,
                invert: false,
            })
        };
        match key {
            AttributeKey::Audiences => claim(&["aud".into()]),
            AttributeKey::Presenter => claim(&["azp".into()]),
            AttributeKey::Claim(path) => claim(path),
            AttributeKey::Principal | AttributeKey::TrustDomain => {
                let mut meant: Vec<Name> = Vec::new();
                for value in values {
                    for value in self.with_aliases(key, value) {
                        if !meant.contains(&value) {
                            meant.push(value);
                        }
                    }
                }
                Condition::Or(meant.iter().map(|value| self.one(key, value)).collect())
            }
            _ => Condition::Or(values.iter().map(|value| self.one(key, value)).collect()),
        }
    }

    /// A principal or trust domain as it is, or in all trust domains if it is of one of the mesh's;
    /// in principals `cluster.local` stands for those too (Istio `pilot/pkg/security/trustdomain`).
    fn with_aliases(&self, key: &AttributeKey, value: &Name) -> Vec<Name> {
        let domains = self.trust_domains;
        let kept = || vec![value.clone()];
        if *key == AttributeKey::TrustDomain {
            return match domains.contains(value) {
                true => domains.to_vec(),
                false => kept(),
            };
        }
        let Some((domain, identity)) = value.split_once('/') else {
            return kept();
        };
        let ends = |text: &str, pattern: &str| {
            let end = pattern.strip_prefix('*');
            end.is_some_and(|end| text.ends_with(end))
        };
        let starts = |text: &str, pattern: &str| {
            let start = pattern.strip_suffix('*');
            start.is_some_and(|start| text.starts_with(start))
        };
        let is_own = |own: &Name| {
            domain == &**own
                || ends(domain, own)
                || ends(own, domain)
                || starts(domain, own)
                || starts(own, domain)
        };
        let enforced = domain != "*" && identity.matches('/').count() == 3;
        if !enforced || (domain != "cluster.local" && !domains.iter().any(is_own)) {
            return kept();
        }
        let of = |own: &Name| match ends(own, domain) {
            true => value.clone(),
            false => format!("{own}/{identity}").into(),
        };
        domains.iter().map(of).collect()
    }

    fn one(&self, key: &AttributeKey, value: &Name) -> Condition {
        match key {
            AttributeKey::Host => match &**value {
                "*" => header(":authority", value),
                _ => Condition::Authority(pattern("", value)),
            },
            AttributeKey::Method => header(":method", value),
            AttributeKey::Header(name) => header(name, value),
            AttributeKey::Path if value.contains("{*}") || value.contains("{**}") => {
                let template = value.replace("{*}", "*").replace("{**}", "**");
                PathTemplate::new(&template).map_or_else(|_| never(), Condition::PathTemplate)
            }
            AttributeKey::Path => Condition::Path(pattern("", value)),
            AttributeKey::DestinationPort => value
                .parse()
                .map_or_else(|_| never(), Condition::DestinationPort),
            AttributeKey::ServerName => Condition::ServerName(pattern("", value)),
            AttributeKey::DestinationIp => range(value, Condition::DestinationIp),
            AttributeKey::SourceIp => range(value, Condition::DirectRemoteIp),
            AttributeKey::RemoteIp => range(value, Condition::RemoteIp),
            AttributeKey::Principal => Condition::Authenticated(pattern("spiffe://", value)),
            AttributeKey::Namespace => {
                let parts: Vec<String> = value.split('*').map(escaped).collect();
                authenticated(&format!(".*/ns/{}/.*", parts.join(".*")))
            }
            AttributeKey::ServiceAccount => {
                let (namespace, account) = value
                    .split_once('/')
                    .unwrap_or((&**self.namespace, &**value));
                let (namespace, account) = (escaped(namespace), escaped(account));
                authenticated(&format!(
                    "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
                ))
            }
            AttributeKey::TrustDomain => trust_domain(value),
            AttributeKey::RequestPrincipal => request_principal(value),
            // Claims are asked for all at once; of other filters nothing is known.
            AttributeKey::Audiences
            | AttributeKey::Presenter
            | AttributeKey::Claim(_)
            | AttributeKey::Metadata => never(),
        }
    }
}

fn never() -> Condition {
    Condition::Not(Box::new(Condition::Any))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if !c.is_alphanumeric() && c != '_' && c.is_ascii() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A pattern too large to be compiled matches nothing.
fn authenticated(pattern: &str) -> Condition {
    let made = Regex::new(pattern).map(StringMatch::Regex);
    made.map_or_else(|_| never(), Condition::Authenticated)
}

/// Istio's values: `*` is anything but nothing, `*END`, `START*`, or all of it; each after `before`.
fn pattern(before: &str, value: &str) -> StringMatch {
    let regex = |text: &str| Regex::new(text).map(StringMatch::Regex);
    let exact = || StringMatch::Exact(format!("{before}{value}").into());
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        _ if value == "*" => regex(".+").unwrap_or_else(|_| exact()),
        (Some(end), _) if before.is_empty() => StringMatch::Suffix(end.into()),
        (Some(end), _) => regex(&format!("{before}.*{}", escaped(end))).unwrap_or_else(|_| exact()),
        (None, Some(start)) => StringMatch::Prefix(format!("{before}{start}").into()),
        (None, None) => exact(),
    }
}

fn header(name: &str, value: &str) -> Condition {
    Condition::Header(HeaderMatch {
        name: name.into(),
        value: match value {
            "*" => ValueMatch::Present(true),
            _ => ValueMatch::String(pattern("", value)),
        },
        invert: false,
        treat_missing_as_empty: false,
    })
}

fn range(value: &str, condition: fn(IpRange) -> Condition) -> Condition {
    parse_range(value).map_or_else(never, condition)
}

fn trust_domain(value: &str) -> Condition {
    if value == "*" {
        return Condition::Authenticated(StringMatch::Prefix("spiffe://".into()));
    }
    match value.split_once('*') {
        None => Condition::Authenticated(StringMatch::Prefix(format!("spiffe://{value}/").into())),
        Some((start, end)) => {
            let (start, end) = (escaped(start), escaped(end));
            authenticated(&format!("spiffe://{start}[^/]*{end}/.*"))
        }
    }
}

/// `ISSUER/SUBJECT`; the last slash parts them, as issuers may be URLs.
fn request_principal(value: &str) -> Condition {
    let exact = |text: &str| StringMatch::Exact(text.into());
    let any = || pattern("", "*");
    let (issuer, subject) = match value.rsplit_once('/') {
        _ if value == "*" => (any(), any()),
        Some((issuer, subject)) if value.starts_with('*') => {
            let issuer = match issuer {
                "*" => any(),
                _ => StringMatch::Suffix(issuer.strip_prefix('*').unwrap_or(issuer).into()),
            };
            (issuer, exact(subject))
        }
        Some((issuer, "*")) => (exact(issuer), any()),
        Some((issuer, subject)) if value.ends_with('*') => {
            let start = subject.strip_suffix('*').unwrap_or(subject);
            (exact(issuer), StringMatch::Prefix(start.into()))
        }
        Some((issuer, subject)) => (exact(issuer), exact(subject)),
        None => match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(end), _) => (any(), StringMatch::Suffix(end.into())),
            (None, Some(start)) => (StringMatch::Prefix(start.into()), any()),
            (None, None) => (exact(value), exact("")),
        },
    };
    let claim = |key: &str, matcher| {
        Condition::Claim(ClaimMatch {
            path: vec![key.into()],
            values: vec![matcher],
            in_list: false,
            invert: false,
        })
    };
    Condition::And(vec![claim("iss", issuer), claim("sub", subject)])
}
