//! Whether an answer is what the suite expects of a request.

use super::World;
use super::suite::text;
use control_plane::{Action, Explanation, Resources};
use proxy_core::xds::{
    EndpointHealth, Forward, HeaderMutations, RetryOn, RouteAction, Transport, WeightedCluster,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type Judged = Result<(), String>;

fn must(holds: bool, why: impl FnOnce() -> String) -> Judged {
    match holds {
        true => Ok(()),
        false => Err(why()),
    }
}

/// The workloads, as `NAMESPACE/NAME`, that pods behind a cluster are of.
fn workloads(world: &World, resources: &Resources, cluster: &str) -> BTreeSet<String> {
    let assignment = resources.endpoints.iter().find(|a| &*a.cluster == cluster);
    let localities = assignment.into_iter().flat_map(|a| &a.localities);
    let endpoints = localities.flat_map(|locality| &locality.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.health == EndpointHealth::Healthy);
    let of = |ip| world.pods.iter().find(|pod| pod.ip == ip);
    ready
        .filter_map(|endpoint| of(endpoint.address.ip()))
        .map(|pod| format!("{}/{}", pod.namespace, pod.workload))
        .collect()
}

/// The share of requests that each workload gets.
fn shares(world: &World, resources: &Resources, answer: &Explanation) -> BTreeMap<String, f64> {
    let total: u32 = answer.clusters.iter().map(|c| c.weight).sum();
    let mut shares = BTreeMap::new();
    if let Some(address) = answer.endpoint {
        let pod = world.pods.iter().find(|pod| pod.ip == address.ip());
        let name = pod.map(|pod| format!("{}/{}", pod.namespace, pod.workload));
        return name.into_iter().map(|name| (name, 1.0)).collect();
    }
    for cluster in &answer.clusters {
        let behind = workloads(world, resources, &cluster.name);
        for name in &behind {
            let share = f64::from(cluster.weight) / f64::from(total) / behind.len() as f64;
            *shares.entry(name.clone()).or_default() += share;
        }
    }
    shares
}

fn forward(answer: &Explanation) -> Option<&Forward> {
    match &answer.matched.as_ref()?.action {
        RouteAction::Forward(forward) => Some(forward),
        _ => None,
    }
}

/// What the client sees: the proxy's own answer, or that of the backend.
fn seen_status(answer: &Explanation, expect: &Value) -> u64 {
    let Some(simulated) = expect["backend_simulation"].as_object() else {
        return answer.status.map_or(200, u64::from);
    };
    let number = |key: &str| simulated.get(key)?.as_str()?.parse::<u32>().ok();
    let code = number("responseCode");
    let fails = number("succeedAfter").unwrap_or(0);
    let retry = forward(answer).and_then(|forward| forward.retry.as_ref());
    let retries = retry.filter(|retry| match code {
        Some(code) => retry.retriable_status_codes.contains(&(code as u16)),
        None => retry
            .retry_on
            .any(RetryOn::RESET | RetryOn::RESET_BEFORE_REQUEST),
    });
    match retries.map_or(0, |retry| retry.num_retries) >= fails {
        true => 200,
        false => u64::from(code.unwrap_or(503)),
    }
}

pub(crate) fn judge(
    world: &World,
    resources: &Resources,
    request: &Value,
    answer: &Explanation,
) -> Judged {
    let expect = &request["expect"];
    let none = answer.action == Action::None;
    if expect["connection"] == "rejected" {
        let reached = shares(world, resources, answer);
        return must(none || reached.is_empty(), || {
            format!("reached {reached:?}")
        });
    }
    if let Some(failure) = expect["failure"].as_str() {
        let status = answer.status.unwrap_or(200);
        let failed = none || (!failure.contains("TLS") && status != 200);
        return must(failed, || "certificates are not compared".to_owned());
    }
    if let Some(wanted) = expect["grpc_status"].as_u64() {
        // How gRPC clients read the answers of proxies.
        let got = match answer.status {
            None | Some(200) => 0,
            Some(404) => 12,
            Some(401) => 16,
            Some(403) => 7,
            Some(400) => 13,
            Some(429 | 502 | 503 | 504) => 14,
            Some(_) => 2,
        };
        must(got == wanted, || format!("gRPC status {got}, not {wanted}"))?;
    } else if let Some(wanted) = expect["status"].as_array() {
        let got = seen_status(answer, expect);
        let fits = wanted.iter().any(|status| status.as_u64() == Some(got));
        let why = || format!("status {got}, not {wanted:?} ({:?})", answer.trail);
        must(fits, why)?;
    }
    redirect(expect, answer)?;
    backend(world, resources, expect, answer)?;
    mirrors(world, resources, expect, answer)?;
    upstream(world, resources, expect, answer)?;
    response(request, answer)
}

fn redirect(expect: &Value, answer: &Explanation) -> Judged {
    let wanted = &expect["redirect"];
    if wanted.is_null() {
        return Ok(());
    }
    let mut headers = answer.response_headers.iter();
    let found = headers.find(|(name, _)| &**name == "location");
    let (_, location) = found.ok_or("no location")?;
    let (scheme, rest) = location.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.split('?').next().unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let why = || format!("{location} is not {wanted}");
    let resolved = &expect["redirect_resolved"];
    must(text(resolved, "scheme") == scheme, why)?;
    must(text(resolved, "path") == path, why)?;
    must(
        wanted["host"].is_null() || text(wanted, "host") == host,
        why,
    )?;
    let usual = if scheme == "https" { "443" } else { "80" };
    let wanted_port = match &wanted["port"] {
        Value::Null => String::new(),
        Value::String(port) => port.clone(),
        other => other.to_string(),
    };
    let without = |port: &str| {
        if port == usual {
            String::new()
        } else {
            port.to_owned()
        }
    };
    must(without(&wanted_port) == without(port), why)
}

fn backend(world: &World, resources: &Resources, expect: &Value, answer: &Explanation) -> Judged {
    let shares = shares(world, resources, answer);
    if expect["served_by"] == "gateway" {
        return must(answer.action != Action::Forward, || {
            format!("reached {shares:?}")
        });
    }
    let forwarded = answer.action == Action::Forward && answer.status.is_none();
    if let Some(weights) = expect["weights"].as_object() {
        let tolerance = expect["weight_tolerance"].as_f64().unwrap();
        for (name, share) in weights {
            let got = shares
                .iter()
                .filter(|(of, _)| of.ends_with(&format!("/{name}")));
            let got: f64 = got.map(|(_, share)| *share).sum();
            let near = (got - share.as_f64().unwrap()).abs() <= tolerance;
            must(near, || format!("{name} gets {got}"))?;
        }
        return Ok(());
    }
    let reaches = |name: &str, namespace: &str| {
        let fits = |of: &String| {
            let (in_namespace, workload) = of.split_once('/').unwrap();
            workload.starts_with(name) && (namespace.is_empty() || in_namespace == namespace)
        };
        forwarded && !shares.is_empty() && shares.keys().all(fits)
    };
    match expect["backend"].as_str() {
        Some(name) => must(reaches(name, text(expect, "namespace")), || {
            format!("reached {shares:?}, not {name} ({:?})", answer.trail)
        }),
        None if expect["request"].is_object() => {
            must(reaches("", text(expect, "namespace")), || {
                format!("reached {shares:?}")
            })
        }
        None => Ok(()),
    }?;
    let secure = |cluster: &str| {
        let mut clusters = resources.clusters.iter();
        let found = clusters.find(|c| &*c.name == cluster);
        found.is_some_and(|c| matches!(c.transport, Transport::Tls { .. }))
    };
    match expect["backend_connection"].as_str() {
        Some("plaintext") => {
            let plain = answer.clusters.iter().all(|c| !secure(&c.name));
            must(plain, || "TLS to the backend".to_owned())
        }
        _ => Ok(()),
    }
}

fn mirrors(world: &World, resources: &Resources, expect: &Value, answer: &Explanation) -> Judged {
    let Some(wanted) = expect["mirrored_to"].as_array() else {
        return Ok(());
    };
    let mirrors = forward(answer).map_or(&[][..], |forward| &forward.mirrors);
    must(mirrors.len() == wanted.len(), || {
        format!("{} mirrors", mirrors.len())
    })?;
    for (want, mirror) in wanted.iter().zip(mirrors) {
        let behind = workloads(world, resources, &mirror.cluster);
        let name = format!("{}/{}", text(want, "namespace"), text(want, "backend"));
        must(behind.iter().any(|of| of.starts_with(&name)), || {
            format!("mirrors to {behind:?}")
        })?;
        let percent = want["percent"].as_f64().unwrap_or(100.0);
        let fraction = &mirror.fraction;
        let got = 100.0 * f64::from(fraction.numerator) / f64::from(fraction.denominator);
        must((got - percent).abs() < 0.01, || {
            format!("{got} % are mirrored")
        })?;
    }
    Ok(())
}

/// What arrives at the backend.
fn upstream(world: &World, resources: &Resources, expect: &Value, answer: &Explanation) -> Judged {
    let wanted = &expect["request"];
    if wanted.is_null() {
        return Ok(());
    }
    if let Some(header) = wanted["header_equals_serving_backend"].as_str() {
        let forward = forward(answer).ok_or("not forwarded")?;
        let named = |to: &WeightedCluster| {
            let name = HeaderMutations::clone(&to.request_headers).add.into_iter();
            let mut name = name.filter(|h| h.name.eq_ignore_ascii_case(header));
            let value = name.next().map(|header| header.value);
            let behind = workloads(world, resources, &to.cluster);
            value.is_some_and(|value| behind.iter().all(|of| of.ends_with(&format!("/{value}"))))
        };
        return must(forward.clusters.iter().all(named), || {
            "other names".to_owned()
        });
    }
    if let Some(sni) = wanted["tls_sni"].as_str() {
        let mut clusters = answer.clusters.iter();
        let speaks = |name: &str| {
            let found = resources.clusters.iter().find(|c| &*c.name == name);
            found.is_some_and(|c| match &c.transport {
                Transport::Tls { sni: found } => found.as_deref() == Some(sni),
                _ => false,
            })
        };
        let passes = answer.upstream.is_none();
        must(passes || clusters.all(|c| speaks(&c.name)), || {
            format!("not TLS to {sni}")
        })?;
    }
    must(wanted["tls_client_certificate"].is_null(), || {
        "client certificates are not shown to backends".to_owned()
    })?;
    let Some(got) = &answer.upstream else {
        return Ok(());
    };
    // Of requests in the mesh the suite compares neither.
    let at_gateway = expect["mesh"] != true;
    if let Some(path) = wanted["path"].as_str().filter(|_| at_gateway) {
        must(*got.path == *path || path.is_empty(), || {
            format!("path {}", got.path)
        })?;
    }
    if let Some(host) = wanted["host"].as_str().filter(|_| at_gateway) {
        must(*got.authority == *host, || {
            format!("host {}", got.authority)
        })?;
    }
    let lines = |name: &str| {
        let values = got.headers.0.iter();
        let values = values.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<String> = values
            .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        values.join(",")
    };
    for (name, value) in wanted["headers"].as_object().into_iter().flatten() {
        let got = lines(name);
        must(*value == got, || format!("{name}: {got}, not {value}"))?;
    }
    for name in wanted["absentHeaders"].as_array().into_iter().flatten() {
        let got = lines(name.as_str().unwrap());
        must(got.is_empty(), || format!("{name}: {got}"))?;
    }
    Ok(())
}

/// What the client sees of the response.
fn response(request: &Value, answer: &Explanation) -> Judged {
    let wanted = &request["expect"]["responseHeaders"];
    if wanted.is_null() {
        return Ok(());
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in request["backend_sets_response_headers"]
        .as_object()
        .into_iter()
        .flatten()
    {
        headers.push((
            name.to_ascii_lowercase(),
            value.as_str().unwrap().to_owned(),
        ));
    }
    let own = answer.response_headers.iter();
    let mut changes: Vec<HeaderMutations> = Vec::new();
    if let Some(route) = &answer.matched {
        changes.push(route.response_headers.clone());
    }
    if let Some([single]) = forward(answer).map(|forward| &forward.clusters[..]) {
        changes.push(single.response_headers.clone());
    }
    for (name, value) in own {
        let name = name.to_ascii_lowercase();
        let mut changed = changes.iter().flat_map(|c| &c.add);
        if !changed.any(|header| *header.name == *name) {
            headers.push((name, value.clone()));
        }
    }
    for change in changes {
        headers.retain(|(name, _)| !change.remove.iter().any(|gone| **gone == *name));
        for header in &change.add {
            if !header.append {
                headers.retain(|(name, _)| **name != *header.name);
            }
            headers.push((header.name.to_string(), header.value.to_string()));
        }
    }
    let spaces = wanted["ignore_whitespace"] == true;
    let plain = |text: &str| match spaces {
        true => text.replace(' ', ""),
        false => text.to_owned(),
    };
    let lines = |name: &str| {
        let values = headers.iter();
        let values = values.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        values.join(",")
    };
    for (name, value) in wanted["set"].as_object().into_iter().flatten() {
        let got = lines(name);
        let fits = plain(value.as_str().unwrap()) == plain(&got);
        must(fits, || format!("response {name}: {got}, not {value}"))?;
    }
    for (name, values) in wanted["one_of"].as_object().into_iter().flatten() {
        let got = lines(name);
        let mut values = values.as_array().unwrap().iter();
        let fits = values.any(|value| plain(value.as_str().unwrap()) == plain(&got));
        must(fits, || format!("response {name}: {got}"))?;
    }
    for name in wanted["absent"].as_array().into_iter().flatten() {
        let got = lines(name.as_str().unwrap());
        must(got.is_empty(), || format!("response {name}: {got}"))?;
    }
    Ok(())
}
