//! Connect timeouts that were stated and that no request can wait for.

use super::blocks::Rules;
use super::read::span_of;
use super::views::{View, routes};
use crate::codes::MSH0008;
use proxy_core::xds::RouteAction;
use source::Diagnostic;

pub(super) fn check(rules: &Rules<'_>, views: &[View], found: &mut Vec<Diagnostic>) {
    for view in views {
        for route in routes(&view.resources) {
            let RouteAction::Forward(forward) = &route.action else {
                continue;
            };
            let Some(timeout) = forward.timeout.filter(|timeout| timeout.0 > 0) else {
                continue;
            };
            for to in &forward.clusters {
                let Some(cluster) = view.cluster(&to.cluster) else {
                    continue;
                };
                if cluster.connect_timeout < timeout {
                    continue;
                }
                let block = rules.block(cluster, "connectionPool");
                let stated = block.and_then(|block| {
                    Some((block.rule, block.node.at(&["tcp", "connectTimeout"])?))
                });
                let (Some((rule, node)), Some(origin)) = (stated, &route.origin) else {
                    continue;
                };
                let (connect, timeout) = (span_of(cluster.connect_timeout), span_of(timeout));
                let message = format!(
                    "a connection may take {connect}, but requests of {} {}/{} end after {timeout}",
                    origin.kind, origin.namespace, origin.name
                );
                let label = format!(
                    "longer than the `timeout` at {}:{}",
                    origin.file, origin.line
                );
                let mut diagnostic = MSH0008.says(message).at(&node.span, label).help(
                    "a `connectTimeout` well below the timeout, so that another endpoint can be tried",
                );
                diagnostic.resource = Some(rule.resource());
                found.push(diagnostic);
            }
        }
    }
}
