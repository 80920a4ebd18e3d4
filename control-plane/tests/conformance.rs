//! Istio's own tests of its route generation, kept as data: who owns a host on a sidecar, and calls
//! with the listener, virtual host and cluster that they meet. `SHOW=1` prints what differs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{
    Action, ControlPlane, Explanation, Objects, ProxyIdentity, ProxyKind, PushSettings, Request,
    RequestDirection, RequestProtocol, RequestTls, Resources, explain,
};
use proxy_core::xds::{Name, RouteAction, VirtualHost};
use serde_json::Value;
use source::SourceFile;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

fn cases(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(text) = std::fs::read_to_string(path.join(file)) else {
        eprintln!("skipped: {}/{file} is not there", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn resources(texts: &[String], proxy: &ProxyIdentity) -> Resources {
    let mut objects = Objects::default();
    for text in texts {
        let file = SourceFile::new("case.yaml", text);
        objects.apply(&Objects::read(&file, &mut Vec::new()));
    }
    let pods = objects.pods();
    ControlPlane::new(PushSettings::default(), objects, pods).resources(proxy)
}

fn sidecar(namespace: &str) -> ProxyIdentity {
    ProxyIdentity {
        name: "client".into(),
        kind: ProxyKind::Sidecar,
        namespace: namespace.into(),
        labels: Vec::new(),
        ip: [1, 1, 1, 1].into(),
        locality: "".into(),
    }
}

/// The clusters of a virtual host's routes, in order.
fn clusters(host: &VirtualHost) -> Vec<Value> {
    let forwards = host.routes.iter().flat_map(|route| match &route.action {
        RouteAction::Forward(forward) => &forward.clusters[..],
        RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => &[],
    });
    forwards.map(|entry| Value::from(&*entry.cluster)).collect()
}

/// Whether each host leads to the clusters that are wanted, in both forms that a case may have.
#[test]
fn hosts_belong_to_the_rules_that_istio_gives_them_to() {
    let Some(cases) = cases("sidecar-routes-cases.json") else {
        return;
    };
    let known = cases["knownServices"].as_str().unwrap();
    let (mut all, mut wrong) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        for (configs, wanted) in [
            ("configs", "expectedVhosts"),
            ("configsHTTPRoute", "expectedVhostsHTTPRoute"),
        ] {
            let Some(configs) = case[configs].as_array() else {
                continue;
            };
            let texts = configs.iter().map(Value::to_string);
            let texts: Vec<String> = [known.to_owned()].into_iter().chain(texts).collect();
            let proxy = sidecar(case["proxyNamespace"].as_str().unwrap());
            let resources = resources(&texts, &proxy);
            let mut tables = resources.routes.iter();
            let table = tables.find(|table| *table.name == *case["routeName"].as_str().unwrap());
            let hosts = table.map_or(&[][..], |table| &table.virtual_hosts);
            let of_host = |host: &str| {
                let mut hosts = hosts.iter();
                hosts.find(|one| one.domains.iter().any(|domain| **domain == *host))
            };
            all += 1;
            let wanted = case[wanted].as_object();
            for (host, want) in wanted.into_iter().flatten() {
                let got = of_host(host).map_or(Value::Null, |host| clusters(host).into());
                if got != *want {
                    wrong.push(format!(
                        "{}: {host}\n  want {want}\n  got  {got}",
                        case["name"]
                    ));
                }
            }
        }
    }
    eprintln!("sidecar routes: {all} cases, {} hosts wrong", wrong.len());
    assert_eq!(wrong, Vec::<String>::new());
}

fn request(call: &Value, gateway: bool) -> Request {
    let text = |key: &str| call[key].as_str();
    let address: IpAddr = text("address").unwrap_or("1.3.3.7").parse().unwrap();
    let port = u16::try_from(call["port"].as_u64().unwrap()).unwrap();
    Request {
        protocol: match text("protocol") {
            Some("tcp") => RequestProtocol::Tcp,
            _ => RequestProtocol::Http,
        },
        tls: match text("tLS") {
            Some("mtls") => RequestTls::Mtls,
            Some(_) => RequestTls::Tls,
            None => RequestTls::None,
        },
        sni: text("sni").or(text("hostHeader")).map(str::to_owned),
        direction: Some(match gateway {
            true => RequestDirection::Gateway,
            false => RequestDirection::Outbound,
        }),
        address: Some(SocketAddr::new(address, port)),
        authority: text("hostHeader").unwrap_or_default().to_owned(),
        path: text("path").unwrap_or("/").to_owned(),
        ..Request::default()
    }
}

/// What is wrong with `answer`, if it is not what Istio's test wants.
fn complaint(answer: &Explanation, want: &Value) -> Option<String> {
    let error = match (answer.status, answer.action) {
        _ if answer.listener.is_none() => "ErrNoListener",
        (Some(404), _) if answer.virtual_host.is_none() => "ErrNoVirtualHost",
        (Some(404), _) => "ErrNoRoute",
        (Some(301), Action::Redirect) => "ErrTLSRedirect",
        _ if answer.details.as_deref() == Some("filter_chain_not_found") => "ErrNoFilterChain",
        _ if answer.details.as_deref() == Some("listener_refused") => "ErrMultipleFilterChain",
        _ => "",
    };
    if want["error"].as_str().unwrap_or_default() != error {
        return Some(format!("error `{error}` instead of {}", want["error"]));
    }
    // Its services are in no domain.
    let cluster = answer.clusters.first();
    let cluster = cluster.map(|share| share.name.replace(".svc.cluster.local", ""));
    for (key, got) in [
        ("listenerMatched", answer.listener.as_ref()),
        ("virtualHostMatched", answer.virtual_host.as_ref()),
        ("clusterMatched", cluster.map(Name::from).as_ref()),
    ] {
        let want = want[key]
            .as_str()
            .map(|name| name.replace(".svc.cluster.local", ""));
        if want.is_some() && want.as_deref() != got.map(|name| &**name) {
            return Some(format!("{key} {got:?} instead of {want:?}"));
        }
    }
    None
}

/// Differ, and why.
const KNOWN: [(&str, &str); 1] = [(
    "HTTPS call",
    "addresses of ServiceEntries are allocated only for proxies that capture DNS, which is off by default",
)];

#[test]
fn calls_go_where_istio_sends_them() {
    let Some(cases) = cases("simulation-cases.json") else {
        return;
    };
    let (mut all, mut wrong) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let gateway = case["proxy"]["type"] == "router";
        let mut proxy = sidecar(case["proxy"]["namespace"].as_str().unwrap_or("default"));
        if gateway {
            proxy.kind = ProxyKind::Gateway;
            proxy.labels = vec![("istio".into(), "ingressgateway".into())];
        }
        let resources = resources(&[text("kubeConfig"), text("config")], &proxy);
        for call in case["calls"].as_array().unwrap() {
            all += 1;
            let answer = explain(&resources, &request(&call["call"], gateway));
            let name = call["name"].as_str().unwrap();
            if let Some(complaint) = complaint(&answer, &call["result"]) {
                wrong.push((name, format!("{}, {name}: {complaint}", case["name"])));
            }
        }
    }
    eprintln!("simulation: {} of {all} calls agree", all - wrong.len());
    let unknown = wrong.iter();
    let unknown = unknown.filter(|(name, _)| !KNOWN.iter().any(|(known, _)| known == name));
    let unknown: Vec<&String> = unknown.map(|(_, complaint)| complaint).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    assert!((all - wrong.len()) * 100 >= all * 95);
}
