//! Delegation: the rules of a VirtualService without hosts in the place of a rule that names it
//! (Istio `pilot/pkg/model/virtualservice.go`).

use super::{Destination, HttpAction, HttpMatch, HttpRoute, Static, VirtualService};
use crate::names::{full_name, gateway_name};
use proxy_core::xds::{
    ClaimMatch, HeaderMatch, Name, PathMatch, PathRewrite, StringMatch, ValueMatch,
};

/// The rules that stand for `root`: those of `child`, each with the conditions of both. `namespace`
/// is the child's, in which its short names are meant.
pub(crate) fn delegated(
    root: &HttpRoute,
    child: &VirtualService,
    namespace: &Name,
) -> Vec<HttpRoute> {
    let rules = child.http.iter().filter(|rule| {
        // One level only.
        !matches!(rule.action, HttpAction::Delegate { .. })
    });
    rules
        .filter_map(|rule| merged(root, &at_home(rule, namespace)))
        .collect()
}

/// `rule` with its names in full.
fn at_home(rule: &HttpRoute, namespace: &Name) -> HttpRoute {
    let mut rule = rule.clone();
    let settle = |to: &mut Destination| to.host.text = full_name(&to.host.text, namespace);
    if let HttpAction::Route(destinations) = &mut rule.action {
        destinations
            .iter_mut()
            .for_each(|to| settle(&mut to.destination));
    }
    rule.mirrors
        .iter_mut()
        .for_each(|mirror| settle(&mut mirror.destination));
    for one in &mut rule.matches {
        for gateway in &mut one.statics.gateways {
            gateway.text = gateway_name(&gateway.text, namespace);
        }
    }
    rule
}

/// `None`: the conditions exclude each other.
fn merged(root: &HttpRoute, child: &HttpRoute) -> Option<HttpRoute> {
    let mut rule = child.clone();
    rule.name = joined(&root.name, &child.name);
    rule.matches = match (&root.matches[..], &child.matches[..]) {
        (_, []) => root.matches.clone(),
        ([], _) => child.matches.clone(),
        (of_root, of_child) => {
            let mut all = Vec::new();
            for inner in of_child {
                let before = all.len();
                all.extend(of_root.iter().filter_map(|outer| both(outer, inner)));
                if all.len() == before {
                    return None;
                }
            }
            all
        }
    };
    if rule.path_rewrite == PathRewrite::None && rule.authority_rewrite.is_none() {
        rule.path_rewrite.clone_from(&root.path_rewrite);
        rule.authority_rewrite.clone_from(&root.authority_rewrite);
    }
    rule.timeout = rule.timeout.or(root.timeout);
    rule.retries = rule.retries.or_else(|| root.retries.clone());
    rule.fault = rule.fault.or_else(|| root.fault.clone());
    rule.cors = rule.cors.or_else(|| root.cors.clone());
    if rule.mirrors.is_empty() {
        rule.mirrors.clone_from(&root.mirrors);
    }
    if rule.headers == Default::default() {
        rule.headers.clone_from(&root.headers);
    }
    Some(rule)
}

/// `root-child`, or the one that is not empty.
fn joined(root: &Name, child: &Name) -> Name {
    match (root.is_empty(), child.is_empty()) {
        (true, _) => child.clone(),
        (_, true) => root.clone(),
        _ => format!("{root}-{child}").into(),
    }
}

/// Both conditions at once; those of the child override.
fn both(root: &HttpMatch, child: &HttpMatch) -> Option<HttpMatch> {
    if root.request.case_sensitive != child.request.case_sensitive {
        return None;
    }
    let empty = Name::from("");
    let name = |one: &HttpMatch| one.name.clone().unwrap_or_else(|| empty.clone());
    let mut both = child.clone();
    both.name = Some(joined(&name(root), &name(child)));
    both.statics = statics(&root.statics, &child.statics)?;
    if !child.has_uri {
        both.has_uri = root.has_uri;
        both.request.path = root.request.path.clone();
    } else if root.has_uri && paths_conflict(&root.request.path, &child.request.path) {
        return None;
    }
    for header in &root.request.headers {
        let same =
            |other: &&HeaderMatch| other.name == header.name && other.invert == header.invert;
        match child.request.headers.iter().find(same) {
            Some(own) if values_conflict(&header.value, &own.value) => return None,
            Some(_) => {}
            None => both.request.headers.push(header.clone()),
        }
    }
    for claim in &root.request.claims {
        let same = |other: &&ClaimMatch| other.path == claim.path && other.invert == claim.invert;
        if child.request.claims.iter().find(same).is_none() {
            both.request.claims.push(claim.clone());
        }
    }
    for query in &root.request.query {
        match child
            .request
            .query
            .iter()
            .find(|other| other.name == query.name)
        {
            Some(own) if values_conflict(&query.value, &own.value) => return None,
            Some(_) => {}
            None => both.request.query.push(query.clone()),
        }
    }
    both.request.query.sort_by(|a, b| a.name.cmp(&b.name));
    both.request.headers.sort_by_key(|header| {
        let pseudo = [":method", ":authority", ":scheme"];
        let at = pseudo.iter().position(|name| **name == *header.name);
        (at.map_or(0, |at| at + 1), header.name.clone())
    });
    Some(both)
}

fn statics(root: &Static, child: &Static) -> Option<Static> {
    let mut both = child.clone();
    match (root.port, child.port) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => both.port = b.or(a),
    }
    if root.source_namespace.is_some() && root.source_namespace != child.source_namespace {
        return None;
    }
    for (key, value) in &root.source_labels {
        match child.source_labels.iter().find(|(name, _)| name == key) {
            Some((_, other)) if other != value => return None,
            Some(_) => {}
            None => both.source_labels.push((key.clone(), value.clone())),
        }
    }
    if both.gateways.is_empty() {
        both.gateways.clone_from(&root.gateways);
    } else if !root.gateways.is_empty() && !child.gateways.iter().all(|g| root.gateways.contains(g))
    {
        return None;
    }
    Some(both)
}

fn paths_conflict(root: &PathMatch, child: &PathMatch) -> bool {
    let text = |path: &PathMatch| match path {
        PathMatch::Exact(text) => StringMatch::Exact(text.clone()),
        PathMatch::Prefix(text) | PathMatch::SeparatedPrefix(text) => {
            StringMatch::Prefix(text.clone())
        }
        PathMatch::Regex(regex) => StringMatch::Regex(regex.clone()),
    };
    strings_conflict(&text(root), &text(child))
}

fn values_conflict(root: &ValueMatch, child: &ValueMatch) -> bool {
    match (root, child) {
        (ValueMatch::String(root), ValueMatch::String(child)) => strings_conflict(root, child),
        // Presence is an empty match on both sides; Istio lets neither meet anything else.
        (root, child) => root != child,
    }
}

/// A child must be within its root; expressions are not compared.
fn strings_conflict(root: &StringMatch, child: &StringMatch) -> bool {
    match (root, child) {
        (StringMatch::Exact(root), StringMatch::Exact(child)) => root != child,
        (StringMatch::Prefix(root), StringMatch::Exact(child) | StringMatch::Prefix(child)) => {
            !child.starts_with(&**root)
        }
        _ => true,
    }
}
