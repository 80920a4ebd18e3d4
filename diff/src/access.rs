//! What a connection manager, or the network filters of a chain, do before anything is routed.

use crate::labels::json;
use crate::outcome::local_rate_limit;
use crate::report::Kind;
use crate::settings::{Settings, limit};
use proxy_core::xds::{
    Condition, ConfigRef, HttpConnectionManager, JwtAuthentication, JwtProvider, Rbac, RbacAction,
    RbacPolicy,
};

/// Everything but the routes and the RBAC filters.
pub(crate) fn of_manager(manager: &HttpConnectionManager) -> Settings {
    let HttpConnectionManager {
        routes: _,
        normalize_path,
        merge_slashes,
        escaped_slashes,
        stream_idle_timeout,
        local_rate_limits,
        use_remote_address,
        mixer,
        jwt,
        rbac: _,
    } = manager;
    let mut settings = Settings::default();
    let paths = format!(
        "{}, slashes {}, escaped slashes {}",
        if *normalize_path {
            "normalized"
        } else {
            "kept"
        },
        if *merge_slashes { "merged" } else { "kept" },
        json(escaped_slashes),
    );
    settings.set(Kind::Rewrite, "paths", paths);
    settings.set_some(
        Kind::Timeout,
        "streamIdleTimeout",
        limit(*stream_idle_timeout),
    );
    for filter in local_rate_limits {
        let name = format!("local rate limit ({})", json(&filter.place));
        settings.set(Kind::RateLimits, &name, local_rate_limit(&filter.config));
    }
    settings.set_flag(Kind::Other, "useRemoteAddress", *use_remote_address);
    settings.set_some(Kind::Access, "Mixer", mixer.as_ref().map(json));
    if let Some(JwtAuthentication {
        providers,
        clear_route_cache,
    }) = jwt
    {
        for (at, provider) in providers.iter().enumerate() {
            let plain = JwtProvider {
                origin: None,
                ..provider.clone()
            };
            let issuer = &provider.issuer;
            settings.set(
                Kind::Access,
                &format!("tokens of {issuer} (rule {at})"),
                json(&plain),
            );
        }
        settings.set_flag(Kind::Other, "routed by claims", *clear_route_cache);
    }
    settings
}

/// The rules behind [`of_manager`].
pub(crate) fn rules_of_manager(manager: &HttpConnectionManager) -> Vec<ConfigRef> {
    let providers = manager.jwt.iter().flat_map(|jwt| &jwt.providers);
    providers
        .filter_map(|provider| provider.origin.clone())
        .collect()
}

/// RBAC filters without names and origins, which decide nothing.
pub(crate) fn bare(filters: &[Rbac]) -> Vec<Rbac> {
    let policy = |policy: &RbacPolicy| RbacPolicy {
        name: "".into(),
        origin: None,
        ..policy.clone()
    };
    let bare = filters.iter().map(|filter| {
        let mut policies: Vec<RbacPolicy> = filter.policies.iter().map(policy).collect();
        policies.sort_by_cached_key(json);
        policies.dedup();
        Rbac {
            action: filter.action,
            policies,
        }
    });
    bare.collect()
}

/// The rules behind RBAC filters.
pub(crate) fn rules_of(filters: &[Rbac]) -> Vec<ConfigRef> {
    let policies = filters.iter().flat_map(|filter| &filter.policies);
    policies
        .filter_map(|policy| policy.origin.clone())
        .collect()
}

/// Each policy as a setting, so that those on one side only are told.
pub(crate) fn of_rbac(filters: &[Rbac]) -> Settings {
    let mut settings = Settings::default();
    for filter in filters {
        let action = match filter.action {
            RbacAction::Allow => "allow",
            RbacAction::Deny => "deny",
        };
        if filter.policies.is_empty() {
            settings.set(Kind::Access, &format!("{action} nothing"), "true");
        }
        for policy in &filter.policies {
            let what = alternatives(&policy.permissions);
            let who = alternatives(&policy.principals);
            settings.set(Kind::Access, &format!("{action} {what} from {who}"), "true");
        }
    }
    settings
}

fn alternatives(conditions: &[Condition]) -> String {
    let each: Vec<String> = conditions.iter().map(told).collect();
    each.join(" or ")
}

fn told(condition: &Condition) -> String {
    let all = |conditions: &[Condition], between: &str| match conditions {
        [one] => told(one),
        several => {
            let each: Vec<String> = several.iter().map(told).collect();
            format!("({})", each.join(between))
        }
    };
    match condition {
        Condition::Any => "anything".to_owned(),
        Condition::And(conditions) => all(conditions, " and "),
        Condition::Or(conditions) => all(conditions, " or "),
        Condition::Not(one) => format!("not {}", told(one)),
        Condition::DestinationPort(port) => format!("port {port}"),
        other => json(other),
    }
}
