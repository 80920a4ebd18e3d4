//! `proxy-config` on a mesh with one of everything: plain HTTP, subsets, TCP, TLS by SNI, headless
//! services, names that are looked up, mutual TLS alone inbound, and a gateway.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn meshsim(config: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshsim"));
    command.args(args).arg("--config").arg(config);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy_config");
    command.current_dir(folder).output().unwrap()
}

/// What `proxy-config` says of the mesh.
fn told(args: &[&str]) -> String {
    let done = meshsim("mesh.yaml", &[&["proxy-config"], args].concat());
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), &*said), (Some(0), ""), "{args:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&told(&[args, &["-o", "json"]].concat())).unwrap()
}

/// The lines under the headings.
fn rows(args: &[&str]) -> Vec<String> {
    told(args).lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn tables_have_the_columns_of_istioctl() {
    insta::assert_snapshot!("sidecar_listeners", told(&["listeners", "web.shop"]));
    insta::assert_snapshot!("sidecar_routes", told(&["routes", "web.shop"]));
    insta::assert_snapshot!("sidecar_clusters", told(&["clusters", "web.shop"]));
    insta::assert_snapshot!("sidecar_endpoints", told(&["endpoints", "web.shop"]));
    insta::assert_snapshot!("gateway", told(&["all", "edge.shop"]));
}

#[test]
fn verbose_leaves_nothing_out() {
    let routes = told(&["routes", "web", "--verbose", "--name", "8080"]);
    insta::assert_snapshot!("verbose_routes", routes);
    let listeners = told(&["listeners", "ledger", "--verbose", "--port", "15006"]);
    insta::assert_snapshot!("verbose_listeners", listeners);
}

#[test]
fn json_is_envoys() {
    let subset = ["clusters", "web", "--fqdn", "stock", "--subset", "v1"];
    insta::assert_snapshot!("cluster_json", format!("{:#}", json(&subset)));
    let named = ["clusters", "web", "--fqdn", "rates.example"];
    insta::assert_snapshot!("named_cluster_json", format!("{:#}", json(&named)));
    let routes = ["routes", "edge", "--name", "http.80"];
    insta::assert_snapshot!("routes_json", format!("{:#}", json(&routes)));
    let tcp = ["listeners", "ledger", "--port", "15006"];
    insta::assert_snapshot!(
        "inbound_json",
        format!("{:#}", json(&tcp)[0]["filter_chains"])
    );
    let endpoints = ["endpoints", "web", "--address", "192.0.2.2"];
    insta::assert_snapshot!("endpoints_json", format!("{:#}", json(&endpoints)));
    let secured = json(&["listeners", "edge", "--port", "443"]);
    let socket = &secured[0]["filter_chains"][0]["transport_socket"]["typed_config"]["@type"];
    assert!(socket.as_str().unwrap().ends_with(".DownstreamTlsContext"));
}

#[test]
fn filters_leave_the_rest_out() {
    for (args, count) in [
        (&["listeners", "web", "--port", "8080"][..], 2),
        (&["listeners", "web", "--address", "192.0.2.10"], 1),
        (&["listeners", "web", "--type", "TCP"], 8),
        (&["listeners", "web", "--type", "http+tcp"], 8),
        (&["routes", "web", "--name", "80"], 6),
        (&["clusters", "web", "--direction", "inbound"], 1),
        (&["clusters", "web", "--fqdn", "stock", "--port", "8080"], 3),
        (&["clusters", "web", "--subset", "v"], 2),
        (&["endpoints", "web", "--port", "3306"], 2),
        (&["endpoints", "web", "--address", "RATES.example"], 1),
        (
            &[
                "endpoints",
                "web",
                "--cluster",
                "outbound|80||web.shop.svc.cluster.local",
            ],
            1,
        ),
        (&["endpoints", "web", "--status", "healthy"], 9),
        (&["endpoints", "web", "--status", "UNHEALTHY"], 0),
    ] {
        let rows = rows(args);
        assert_eq!(rows.len(), count, "{args:?}: {rows:#?}");
    }
    assert_eq!(
        json(&["endpoints", "web", "--port", "1"]),
        Value::Array(Vec::new())
    );
}

#[test]
fn all_as_json_is_a_dump_that_agrees_with_itself() {
    for pod in ["web", "ledger", "edge"] {
        let dump = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-config-{pod}.json"));
        std::fs::write(&dump, told(&["all", pod, "-o", "json"])).unwrap();
        let against = ["verify", "--as", pod, "--against", dump.to_str().unwrap()];
        let done = meshsim("mesh.yaml", &against);
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(said.ends_with("0 unexplained differences\n"), "{said}");
    }
}

#[test]
fn names_and_aliases_are_those_of_istioctl() {
    let listeners = told(&["listeners", "web"]);
    for pod in ["web.shop", "shop/web", "web-0", "web-0.shop"] {
        assert_eq!(told(&["l", pod]), listeners, "{pod}");
    }
    let done = meshsim("mesh.yaml", &["pc", "listener", "web"]);
    assert_eq!(String::from_utf8(done.stdout).unwrap(), listeners);
    let described = told(&["listeners", "kind=gateway,namespace=shop,labels=istio=edge"]);
    assert_eq!(described, told(&["listeners", "edge"]));
}

#[test]
fn a_name_with_a_dot_is_not_taken_for_a_namespace() {
    let deployment = |namespace: &str, name: &str, port: u16| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{namespace: {namespace}, name: {name}}}\n\
             spec: {{template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: app}}]}}}}}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: web}}\n\
             spec: {{selector: {{app: {name}}}, ports: [{{port: {port}}}]}}\n"
        )
    };
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxy-config-dots.yaml");
    let both = deployment("shop", "web.v1", 81) + &deployment("v1", "web", 82);
    std::fs::write(&config, both).unwrap();
    for (pod, port) in [
        ("web.v1", 81),
        ("web.v1.shop", 81),
        ("web", 82),
        ("v1/web", 82),
    ] {
        let args = ["pc", "clusters", pod, "--direction", "inbound"];
        let done = meshsim(config.to_str().unwrap(), &args);
        let table = String::from_utf8(done.stdout).unwrap();
        assert!(table.contains(&format!(" {port}  ")), "{pod}: {table}");
    }
}

#[test]
fn a_scenario_stands_for_what_it_starts_with() {
    let canary = "../../../scenarios/library/bookinfo-canary";
    let clusters = |config: &str| {
        let done = meshsim(config, &["pc", "clusters", "productpage-v1"]);
        assert!(done.stderr.is_empty(), "{config}");
        String::from_utf8(done.stdout).unwrap()
    };
    let whole = clusters(canary);
    assert!(
        whole.contains("reviews.default.svc.cluster.local"),
        "{whole}"
    );
    assert_eq!(clusters(&format!("{canary}/scenario.yaml")), whole);
}

#[test]
fn a_scenario_may_have_any_name_and_be_json() {
    let named = std::env::temp_dir().join(format!("meshsim-{}.json", std::process::id()));
    let text = r#"{"name":"one","duration":"1s","topology":{"services":{"a":{"port":80}}},"traffic":{"t":{"get":"http://a","from":"a","rate":"1/s"}}}"#;
    std::fs::write(&named, text).unwrap();
    let config = named.to_str().unwrap();
    let done = meshsim(config, &["pc", "clusters", "a"]);
    let shown = String::from_utf8(done.stdout).unwrap();
    std::fs::remove_file(&named).unwrap();
    assert!(shown.contains("a.default.svc.cluster.local"), "{shown}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let mut said = String::new();
    for args in [
        &["routes", "wbe"][..],
        &["routes", "web.shp"],
        &["routes", "web.shop.svc"],
        &["endpoints", "web", "--status", "sick"],
        &["clusters", "web", "--direction", "sideways"],
        &["listeners", "web", "--address", "10.0.0"],
        &["listeners", "web", "-o", "yaml"],
    ] {
        let done = meshsim("mesh.yaml", &[&["proxy-config"], args].concat());
        assert_eq!(
            (done.status.code(), done.stdout.len()),
            (Some(2), 0),
            "{args:?}"
        );
        let error = String::from_utf8(done.stderr).unwrap();
        said += &format!("{}\n{error}\n", args.join(" "));
    }
    insta::assert_snapshot!(said);
}
