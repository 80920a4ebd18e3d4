//! All that becomes of a request, without the names of clusters.

use control_plane::{Request, Resources, explain};
use proxy_core::xds::{Cluster, PathRewrite, RouteAction};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Status, where it goes (sets of endpoints with their shares, how they are balanced and broken), how it
/// goes there, how long it may take and how often it is tried.
pub fn outcome(resources: &Resources, request: &Request) -> String {
    let answer = explain(resources, request);
    let mut told = format!("{:?} {:?} {:?}", answer.action, answer.status, answer.flags);
    if let Some(upstream) = &answer.upstream {
        let _ = write!(told, "\nto {} {}", upstream.authority, upstream.path);
    }
    let Some(route) = &answer.matched else {
        return told;
    };
    let _ = write!(told, "\nfault {:?}", route.fault);
    match &route.action {
        RouteAction::Redirect(redirect) => {
            let _ = write!(told, "\nredirect {redirect:?}");
        }
        RouteAction::DirectResponse { status, .. } => {
            let _ = write!(told, "\ndirect {status}");
        }
        RouteAction::Forward(forward) => {
            let retry = forward.retry.as_ref().map(|retry| {
                let once = (retry.num_retries, retry.retry_on, retry.per_try_timeout);
                (
                    once,
                    retry.avoid_previous_hosts,
                    retry.retriable_status_codes.clone(),
                )
            });
            let rewrites = forward.path_rewrite != PathRewrite::None;
            let _ = write!(
                told,
                "\ntimeout {:?} retry {retry:?} rewrites {rewrites}",
                forward.timeout
            );
            let total: u32 = forward.clusters.iter().map(|share| share.weight).sum();
            let mut shares: BTreeMap<String, u32> = BTreeMap::new();
            for share in &forward.clusters {
                let behind = behind(resources, &share.cluster);
                *shares.entry(behind).or_default() += share.weight * 1000 / total.max(1);
            }
            for (behind, share) in shares {
                let _ = write!(told, "\n{share} to {behind}");
            }
        }
    }
    told
}

fn behind(resources: &Resources, name: &str) -> String {
    let Some(cluster) = resources
        .clusters
        .iter()
        .find(|cluster| &*cluster.name == name)
    else {
        return "no cluster".to_owned();
    };
    let assignment = resources.endpoints.iter().find(|of| &*of.cluster == name);
    let localities = assignment.iter().flat_map(|of| &of.localities);
    let mut addresses: Vec<String> = localities
        .flat_map(|locality| &locality.endpoints)
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    addresses.sort();
    format!("{addresses:?} {}", settings(cluster))
}

/// The success rate, which no DestinationRule speaks of, and the one host that may always be ejected are
/// left out.
fn settings(cluster: &Cluster) -> String {
    let outliers = cluster
        .outlier_detection
        .as_ref()
        .filter(|outliers| outliers.consecutive_5xx > 0);
    let outliers = outliers.map(|outliers| {
        (
            outliers.consecutive_5xx,
            outliers.enforcing_consecutive_5xx,
            outliers.interval,
            outliers.base_ejection_time,
            outliers.max_ejection_percent,
        )
    });
    format!(
        "{:?} {:?} {:?} {:?} {:?} {outliers:?} {}",
        cluster.lb_policy,
        cluster.circuit_breakers,
        cluster.max_requests_per_connection,
        cluster.transport,
        cluster.http_protocol,
        cluster.healthy_panic_threshold_percent,
    )
}
