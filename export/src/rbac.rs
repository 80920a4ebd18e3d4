//! RBAC filters.

use crate::matching::{header, string};
use crate::{Message, typed};
use proxy_core::xds::{ClaimMatch, Condition, IpRange, Rbac, RbacAction, RbacPolicy, StringMatch};
use serde_json::{Map, Value, json};

/// `envoy.extensions.filters.http.rbac.v3.RBAC`, as an HTTP filter.
pub(crate) fn http_filter(rbac: &Rbac) -> Value {
    let config = typed(
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        json!({ "rules": rules(rbac) }),
    );
    json!({ "name": "envoy.filters.http.rbac", "typed_config": config })
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC`, as a network filter.
pub(crate) fn network_filter(rbac: &Rbac) -> Value {
    let config = typed(
        "envoy.extensions.filters.network.rbac.v3.RBAC",
        json!({ "rules": rules(rbac), "stat_prefix": "tcp." }),
    );
    json!({ "name": "envoy.filters.network.rbac", "typed_config": config })
}

fn rules(rbac: &Rbac) -> Value {
    let action = match rbac.action {
        RbacAction::Allow => "ALLOW",
        RbacAction::Deny => "DENY",
    };
    let policies = rbac.policies.iter();
    let policies: Map<String, Value> = policies
        .map(|policy| (policy.name.to_string(), self::policy(policy)))
        .collect();
    json!({ "action": action, "policies": policies })
}

fn policy(policy: &RbacPolicy) -> Value {
    let all = |conditions: &[Condition], side: Side| -> Vec<Value> {
        conditions.iter().map(|one| condition(one, side)).collect()
    };
    json!({
        "permissions": all(&policy.permissions, Side::Permission),
        "principals": all(&policy.principals, Side::Principal),
    })
}

/// The two messages have other names for the same.
#[derive(Clone, Copy)]
enum Side {
    Permission,
    Principal,
}

fn condition(one: &Condition, side: Side) -> Value {
    let set = |conditions: &[Condition]| {
        let list: Vec<Value> = conditions.iter().map(|one| condition(one, side)).collect();
        match side {
            Side::Permission => json!({ "rules": list }),
            Side::Principal => json!({ "ids": list }),
        }
    };
    let named = |permission: &str, principal: &str, value: Value| match side {
        Side::Permission => json!({ permission: value }),
        Side::Principal => json!({ principal: value }),
    };
    match one {
        Condition::Any => json!({ "any": true }),
        Condition::And(all) => named("and_rules", "and_ids", set(all)),
        Condition::Or(some) => named("or_rules", "or_ids", set(some)),
        Condition::Not(one) => named("not_rule", "not_id", condition(one, side)),
        Condition::Header(matcher) => json!({ "header": header(matcher) }),
        Condition::Authority(matcher) => {
            let mut string = string(matcher);
            string["ignore_case"] = json!(true);
            json!({ "header": { "name": ":authority", "string_match": string } })
        }
        Condition::Path(matcher) => json!({ "url_path": { "path": string(matcher) } }),
        Condition::PathTemplate(template) => json!({ "uri_template": {
            "name": "uri-template",
            "typed_config": typed(
                "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                json!({ "path_template": template.text() }),
            ),
        } }),
        Condition::DestinationIp(within) => json!({ "destination_ip": range(within) }),
        Condition::DestinationPort(port) => json!({ "destination_port": port }),
        Condition::ServerName(matcher) => json!({ "requested_server_name": string(matcher) }),
        Condition::Authenticated(matcher) => {
            json!({ "authenticated": { "principal_name": string(matcher) } })
        }
        Condition::DirectRemoteIp(within) => json!({ "direct_remote_ip": range(within) }),
        Condition::RemoteIp(within) => json!({ "remote_ip": range(within) }),
        Condition::Claim(matcher) => json!({ "metadata": claim(matcher) }),
    }
}

fn range(range: &IpRange) -> Value {
    json!({ "address_prefix": range.address.to_string(), "prefix_len": range.prefix_length })
}

/// Where Istio has the JWT filter put the claims of a token.
pub(crate) fn claim(matcher: &ClaimMatch) -> Value {
    let keys = std::iter::once("payload").chain(matcher.path.iter().map(|key| &**key));
    let path: Vec<Value> = keys.map(|key| json!({ "key": key })).collect();
    let one = |text: &StringMatch| json!({ "string_match": string(text) });
    let value = match &matcher.values[..] {
        [only] => one(only),
        several => {
            let all: Vec<Value> = several.iter().map(one).collect();
            json!({ "or_match": { "value_matchers": all } })
        }
    };
    let value = match matcher.in_list {
        false => value,
        true => json!({ "or_match": { "value_matchers": [
            { "list_match": { "one_of": value } },
            value,
        ] } }),
    };
    let mut message = Message::default();
    message.set("filter", "envoy.filters.http.jwt_authn");
    message.set("path", path);
    message.set("value", value);
    message.set_flag("invert", matcher.invert);
    message.into()
}
