//! Routing alone: virtual hosts by name, and the routes of a large virtual host beside a scan.

use crate::random::mix;
use crate::xds::*;
use crate::{Batch, measure};
use proxy_core::head::{Headers, RequestHead};
use proxy_core::router::{matches, path_of};
use std::hint::black_box;
use std::sync::Arc;

const VIRTUAL_HOSTS: u64 = 10_000;
const ROUTES: u64 = 1_000;

fn head(authority: &str, path: &str) -> RequestHead {
    let mut headers = Headers::default();
    headers.append("user-agent".into(), b"comparison");
    RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: authority.into(),
        path: path.into(),
        headers,
        id: None,
    }
}

fn virtual_host(domains: &[String], routes: Vec<RouteMatch>) -> VirtualHost {
    let to_c = || RouteAction::Forward(Forward::to("c".into()));
    VirtualHost {
        name: domains[0].as_str().into(),
        domains: domains.iter().map(|name| name.as_str().into()).collect(),
        routes: routes
            .into_iter()
            .map(|matches| Arc::new(Route::new(matches, to_c())))
            .collect(),
        ..VirtualHost::default()
    }
}

fn by_path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        ..RouteMatch::default()
    }
}

/// The table of a sidecar in a small mesh, and requests for it.
pub fn bookinfo() -> (RouteTable, Vec<RequestHead>) {
    let names = ["productpage", "details", "ratings", "reviews"];
    let hosts = names.map(|name| {
        let domains = ["", ".default", ".default.svc", ".default.svc.cluster.local"]
            .map(|rest| format!("{name}{rest}"));
        let canary = RouteMatch {
            headers: vec![HeaderMatch {
                name: "end-user".into(),
                value: StringMatch::Exact("jason".into()).into(),
                invert: false,
                treat_missing_as_empty: false,
            }],
            ..RouteMatch::default()
        };
        let routes = vec![
            canary,
            by_path(PathMatch::SeparatedPrefix("/api/v1".into())),
            RouteMatch::default(),
        ];
        virtual_host(&domains, routes)
    });
    let heads = names.map(|name| head(&format!("{name}:9080"), "/products/0"));
    (
        RouteTable::new("9080".into(), hosts.into(), true),
        heads.into(),
    )
}

/// What is asked for, in no order.
fn numbers(among: u64) -> impl Iterator<Item = u64> {
    (0..10_000).map(move |n| mix(n) % among)
}

/// Does `find` for one of `requests` after another.
fn batch<T: 'static>(
    table: &Arc<RouteTable>,
    requests: Vec<T>,
    find: impl Fn(&RouteTable, &T) + 'static,
) -> Batch {
    let table = Arc::clone(table);
    Box::new(move |choices| {
        for request in requests.iter().cycle().take(choices as usize) {
            find(&table, request);
        }
    })
}

pub fn report() {
    println!("\nns to find one of {VIRTUAL_HOSTS} virtual hosts");
    let service = |n| format!("service-{n}.namespace-{}.svc.cluster.local", n % 97);
    virtual_hosts("exact", service, service);
    virtual_hosts(
        "*suffix",
        |n| format!("*.{}", service(n)),
        |n| format!("www.{}", service(n)),
    );
    virtual_hosts(
        "prefix*",
        |n| format!("{}.*", service(n)),
        |n| format!("{}.org", service(n)),
    );

    println!("\nns to find one of {ROUTES} routes of a virtual host, and to scan for it");
    let path = |n| format!("/team-{}/service-{n}", n % 31);
    let exact = |n| PathMatch::Exact(path(n).into());
    let prefix = |n| PathMatch::SeparatedPrefix(path(n).into());
    let regex = |n| {
        let pattern = format!("{}(/[0-9]+)?", path(n));
        PathMatch::Regex(Regex::new(&pattern).expect("a pattern of this file"))
    };
    routes("exact", |n| by_path(exact(n)), |n| path(n) + "?q=1");
    routes("prefix", |n| by_path(prefix(n)), |n| path(n) + "/17");
    routes("regex", |n| by_path(regex(n)), |n| path(n) + "/17");
    let mixed = |n| match n % 4 {
        0 => by_path(exact(n)),
        1 if n % 100 == 1 => by_path(regex(n)),
        2 => RouteMatch {
            case_sensitive: false,
            ..by_path(prefix(n))
        },
        _ => by_path(prefix(n)),
    };
    routes("mixed", mixed, path);
}

fn virtual_hosts(name: &str, domain: impl Fn(u64) -> String, host: impl Fn(u64) -> String) {
    let hosts = (0..VIRTUAL_HOSTS)
        .map(|n| virtual_host(&[domain(n)], Vec::new()))
        .collect();
    let table = Arc::new(RouteTable::new("t".into(), hosts, true));
    let asking = |host: &dyn Fn(u64) -> String| {
        let hosts: Vec<String> = numbers(VIRTUAL_HOSTS).map(host).collect();
        batch(&table, hosts, |table, host| {
            black_box(table.virtual_host(host));
        })
    };
    let ns = measure(&mut [
        asking(&host),
        asking(&|n| host(n).to_uppercase() + ":8080"),
        asking(&|n| format!("www.service-{n}.example.com")),
    ]);
    println!(
        "{name:>14}  hit {:.1}  in upper case with port {:.1}  miss {:.1}",
        ns[0], ns[1], ns[2]
    );
}

fn routes(name: &str, route: impl Fn(u64) -> RouteMatch, path: impl Fn(u64) -> String) {
    let all = std::iter::once(RouteMatch::default());
    let routes = (1..ROUTES).map(route).chain(all).collect();
    let hosts = vec![virtual_host(&["*".into()], routes)];
    let table = Arc::new(RouteTable::new("t".into(), hosts, true));
    let heads = || numbers(ROUTES).map(|n| head("a", &path(n))).collect();
    let find = batch(&table, heads(), |table, head| {
        black_box(table.find(head, 0));
    });
    let scan = batch(&table, heads(), |table, head| {
        let path = path_of(&head.path);
        let holds = |route: &&Arc<Route>| matches(&route.matches, path, head);
        let host = table.virtual_host(&head.authority);
        black_box(host.and_then(|host| host.routes.iter().find(holds)));
    });
    let ns = measure(&mut [find, scan]);
    println!(
        "{name:>14}  found {:.1}  scanned {:.1} ({:.1} times)",
        ns[0],
        ns[1],
        ns[1] / ns[0]
    );
}
