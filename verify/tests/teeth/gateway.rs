//! A gateway: wildcards, a long list of routes, redirects, headers made of parts, and paths in need of
//! cleaning in each way there is.

use crate::{objects, proxy};
use control_plane::{Request, Resources};
use proxy_core::xds::{EscapedSlashes, HttpConnectionManager, NetworkFilter, RouteTable};
use std::sync::Arc;
use verify::Config;

/// Paths that some normalisation changes, and ones near them.
const PATHS: &[&str] = &[
    "/path/a/./b",
    "/path/a/../b",
    "/path/../one",
    "/path/a/..",
    "/path/a/.",
    "/path/.../a",
    "/path/a.b/.c",
    "/../path/a",
    "/path//a///b",
    "//path/a",
    "/path/a%2Fb%2fc",
    "/path/a%5Cb",
    "/path/a\\b",
    "/path/%61%2d%2E%5f%7E%41",
    "/path/%2e%2e/one",
    "/path/%00a",
    "/path/a%",
    "/path/a%2",
    "/path/a%zz%4x",
    "/path/%25%20%3f%C3%A9",
    "/path/a?b=/../c//d%2F",
    "/path/a#b",
    "/path/a?b#c",
    "/path/%2e/%2E%2e",
    "/%70ath/a",
    "/path/a%2F..%2Fb",
];

const SHOP: &[&str] = &[
    "/one",
    "/one?q",
    "/One",
    "/onex",
    "/two/",
    "/two/x",
    "/two",
    "/three/1",
    "/three/x",
    "/three",
    "/four",
    "/FOUR",
    "/five/x",
    "/FIVE/six",
    "/five/six",
    "/fiv",
    "/keep/x?q=1",
    "/https/x",
    "/derived",
    "/asked?q=2",
    "/asked",
    "/replaced?q=3",
    "/formatted/x",
    "/seven",
    "/eight",
    "/nine",
    "/ten",
    "/direct",
    "/last/x",
    "/lost",
    "/",
];

const AUTHORITIES: &[&str] = &[
    "shop.example",
    "shop.example:80",
    "shop.example:8080",
    "SHOP.example",
    "x.a.example",
    "x.y.a.example",
    "x.b.example",
    "y-x.b.example",
    "x.c.a.example",
    "c.a.example",
    "a.example",
    "example",
    "other.test",
    "secure.test",
    "secure.test:80",
];

const ADDRESSES: &[&str] = &["[::1]", "[::1]:80", "[::1]:443"];

fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    let mut ask = |authority: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request {
            authority: authority.into(),
            path: path.into(),
            address: Some(([10, 0, 0, 200], 8080).into()),
            ..Request::default()
        };
        let own = headers
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        request.headers.extend(own);
        requests.push(request);
    };
    for path in SHOP {
        ask(
            "shop.example",
            path,
            &[("x-user", "somebody"), ("x-gone", "yes")],
        );
        for proto in ["https", "http", "HTTPS", "ftp"] {
            ask("shop.example:80", path, &[("x-forwarded-proto", proto)]);
        }
    }
    for authority in AUTHORITIES.iter().chain(ADDRESSES) {
        ask(authority, "/one?q", &[]);
        ask(authority, "/one?q", &[("x-forwarded-proto", "https")]);
    }
    for authority in ADDRESSES {
        for proto in ["http", "https"] {
            ask(authority, "/https/x", &[("x-forwarded-proto", proto)]);
        }
    }
    let told = [
        ("x-envoy-retry-on", "5xx"),
        ("x-verify-upstream", "503,200"),
    ];
    ask("shop.example", "/path/a", &told);
    let told = [
        ("x-envoy-upstream-rq-timeout-ms", "50"),
        ("x-verify-upstream", "200@200"),
    ];
    ask("shop.example", "/path/a", &told);
    for path in PATHS {
        ask("shop.example", path, &[]);
    }
    requests
}

fn change_managers(
    resources: &Resources,
    change: impl Fn(&mut HttpConnectionManager),
) -> Resources {
    let mut resources = resources.clone();
    for listener in &mut resources.listeners {
        let listener = Arc::make_mut(listener);
        let chains = listener.filter_chains.iter_mut();
        for chain in chains.chain(&mut listener.default_filter_chain) {
            if let NetworkFilter::Http(manager) = &mut chain.filter {
                change(manager);
            }
        }
    }
    resources
}

/// The shop answers at addresses as well, as no rule can say.
fn at_addresses(resources: &Resources) -> Resources {
    let mut resources = resources.clone();
    for table in &mut resources.routes {
        let mut hosts = table.virtual_hosts.clone();
        for host in &mut hosts {
            if host
                .domains
                .iter()
                .any(|domain| **domain == *"shop.example")
            {
                let addresses = ADDRESSES.iter().map(|&address| address.into());
                Arc::make_mut(host).domains.extend(addresses);
            }
        }
        let changed = RouteTable::sharing(table.name.clone(), hosts, table.ignore_port_in_host);
        *table = Arc::new(changed);
    }
    resources
}

/// One header is cut to three characters, as Istio allows no rule to say.
fn shortened(mut resources: Resources) -> Resources {
    for table in &mut resources.routes {
        let mut hosts = table.virtual_hosts.clone();
        let routes = hosts
            .iter_mut()
            .flat_map(|host| &mut Arc::make_mut(host).routes);
        for route in routes {
            let headers = &mut Arc::make_mut(route).request_headers;
            for header in &mut headers.add {
                if *header.name == *"x-short" {
                    header.value = "%REQ(x-user):3%".into();
                }
            }
        }
        let changed = RouteTable::sharing(table.name.clone(), hosts, table.ignore_port_in_host);
        *table = Arc::new(changed);
    }
    resources
}

pub fn configs() -> Vec<Config> {
    let objects = objects(&[
        ("mesh.yaml", include_str!("mesh.yaml")),
        ("gateway.yaml", include_str!("gateway.yaml")),
    ]);
    let (proxy, resources) = proxy(&objects, "edge-0");
    let resources = shortened(resources);
    let config = |name: &str, resources| Config {
        name: name.into(),
        proxy: proxy.clone(),
        resources,
        requests: requests(),
    };
    let cleaned = |name, normalize, merge, slashes| {
        let resources = change_managers(&resources, |manager| {
            manager.normalize_path = normalize;
            manager.merge_slashes = merge;
            manager.escaped_slashes = slashes;
        });
        config(name, resources)
    };
    vec![
        config("gateway", resources.clone()),
        config("addresses", at_addresses(&resources)),
        cleaned("paths as they come", false, false, EscapedSlashes::Keep),
        cleaned("slashes merged", true, true, EscapedSlashes::Keep),
        cleaned(
            "slashes decoded",
            true,
            true,
            EscapedSlashes::UnescapeAndForward,
        ),
        cleaned("slashes refused", true, false, EscapedSlashes::Reject),
        cleaned(
            "slashes redirected",
            true,
            true,
            EscapedSlashes::UnescapeAndRedirect,
        ),
    ]
}
