//! A large mesh, simulated for a minute: `cargo bench -p sim --bench mesh` (and `-- 6` for six
//! seconds). The seconds that pass while one second is simulated are the figure to keep; under
//! `/usr/bin/time -v` the process tells its peak memory.
//!
//! The scenario: 300 services of ten pods, each with a sidecar, and a gateway of four. 5,010
//! requests a second enter through the gateway and cause twenty proxy passes each: a front calls
//! three services, each of which calls two. Every service in the middle has a VirtualService and a
//! DestinationRule, one of which changes in mid-run and is pushed to every proxy.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // A bench measures wall time.

use sim::{Observers, Overrides, Plan, event};
use source::SourceFile;
use std::fmt::{self, Write};
use std::path::Path;
use std::time::Instant;

const GROUPS: usize = 30;

fn main() {
    let asked = std::env::args().find_map(|arg| arg.parse().ok());
    let seconds: u64 = asked.unwrap_or(60);
    let start = Instant::now();
    let plan = plan(seconds);
    let outcome = event::run(&plan, 1, Observers::default());
    let wall_s = start.elapsed().as_secs_f64();
    println!("{seconds} s simulated in {wall_s:.1} s, translation included");
    println!(
        "{:.3} s for each simulated second, {:.0} passes/s",
        wall_s / seconds as f64,
        outcome.passes as f64 / wall_s
    );
}

#[allow(clippy::expect_used)] // The scenario is a constant of this file.
fn plan(seconds: u64) -> Plan {
    let text = scenario(seconds).expect("a String takes what is written");
    let file = SourceFile::new("mesh.yaml", &text);
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(&file, Path::new("."), &[], &mut diagnostics);
    let plan = scenario.and_then(|s| Plan::new(&s, Overrides::default(), &mut diagnostics));
    plan.unwrap_or_else(|| {
        eprintln!("{}", source::render(&diagnostics, false));
        std::process::exit(2);
    })
}

fn scenario(seconds: u64) -> Result<String, fmt::Error> {
    let mut out = format!(
        r#"
name: mesh
duration: {seconds}s
warmup: 1s
topology:
  services:
    edge: {{port: 80, proxy: gateway, versions: {{v1: 4}}}}
"#
    );
    let (middles, leaves) = (3 * GROUPS, 6 * GROUPS);
    for (role, count) in [("front", GROUPS), ("middle", middles), ("leaf", leaves)] {
        for n in 0..count {
            writeln!(out, "    {role}-{n}: {{port: 80, versions: {{v1: 10}}}}")?;
        }
    }
    out.push_str("behavior:\n  default: {workers: 32, service_time: {exponential: 3ms}}\n");
    for n in 0..GROUPS {
        calls(&mut out, "front", n, "middle", 3)?;
    }
    for n in 0..middles {
        calls(&mut out, "middle", n, "leaf", 2)?;
    }
    out.push_str("traffic:\n");
    for n in 0..GROUPS {
        let get = format!("http://shop.example/{n}/");
        writeln!(out, "  web-{n}: {{get: \"{get}\", via: edge, rate: 167/s}}")?;
    }
    writeln!(
        out,
        "timeline:\n  change:\n    at: {}s\n    apply:",
        seconds / 2
    )?;
    virtual_service(&mut out, 7, 1)?;
    out.push_str("config:\n");
    gateway(&mut out)?;
    for n in 0..middles {
        virtual_service(&mut out, n, 2)?;
        writeln!(
            out,
            r#"      - apiVersion: networking.istio.io/v1
        kind: DestinationRule
        metadata: {{name: middle-{n}, namespace: default}}
        spec:
          host: middle-{n}
          trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: 1000}}}}}}
          subsets: [{{name: v1, labels: {{version: v1}}}}]"#
        )?;
    }
    Ok(out)
}

/// Each pod of `caller` calls `each` services of its own.
fn calls(out: &mut String, caller: &str, n: usize, called: &str, each: usize) -> fmt::Result {
    let calls: Vec<String> = (n * each..(n + 1) * each)
        .map(|service| format!("{{get: \"{called}-{service}:80/\"}}"))
        .collect();
    writeln!(out, "  {caller}-{n}-v1: {{calls: [{}]}}", calls.join(", "))
}

fn gateway(out: &mut String) -> fmt::Result {
    out.push_str(
        r#"      - apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: default}
        spec:
          selector: {app: edge}
          servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
      - apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: edge, namespace: default}
        spec:
          hosts: ["*"]
          gateways: [edge]
          http:
"#,
    );
    for n in 0..GROUPS {
        writeln!(
            out,
            "          - {{match: [{{uri: {{prefix: /{n}/}}}}], route: [{{destination: {{host: front-{n}}}}}]}}"
        )?;
    }
    Ok(())
}

fn virtual_service(out: &mut String, n: usize, attempts: u32) -> fmt::Result {
    writeln!(
        out,
        r#"      - apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {{name: middle-{n}, namespace: default}}
        spec:
          hosts: [middle-{n}]
          http: [{{route: [{{destination: {{host: middle-{n}, subset: v1}}}}], timeout: 2s, retries: {{attempts: {attempts}}}}}]"#
    )
}
