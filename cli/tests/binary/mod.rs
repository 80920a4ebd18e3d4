//! Starts the binary beside a small scenario.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small mesh; one of its expectations can be made to fail.
pub const SCENARIO: &str = r#"name: small
duration: 3s
warmup: 1s
topology:
  services:
    gateway: {port: 80, proxy: gateway}
    shop: {port: 8080, versions: {v1: 1, v2: 1}}
config: [rules.yaml]
behavior:
  default: {workers: 8, service_time: 2ms}
traffic:
  web: {get: "http://shop.example/", via: gateway, rate: 100/s}
expect:
  - {traffic: web, success_rate: {at_least: 99%}}
  - {to: shop, share_of: v2, at_most: 100%}
"#;

pub const RULES: &str = r#"apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ["*"]
  gateways: [gateway]
  http: [{route: [{destination: {host: shop, port: {number: 8080}}}]}]
"#;

/// How the binary ended and what it said.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Every line of standard output as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

pub fn meshsim(folder: &Path, args: &[&str], input: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshsim"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Those that do not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A fresh folder with the scenario and its rules.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("scenario.yaml"), SCENARIO).unwrap();
    std::fs::write(folder.join("rules.yaml"), RULES).unwrap();
    folder
}
