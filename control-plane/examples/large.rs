//! Times reading, translation and an incremental push of one YAML file: `large FILE`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use control_plane::{ControlPlane, Objects, PushSettings};
use proxy_core::time::Nanos;
use source::SourceFile;
use std::time::Instant;

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let file = SourceFile::new(&path, &std::fs::read_to_string(&path).unwrap());
    let mut diagnostics = Vec::new();
    let start = Instant::now();
    let objects = Objects::read(&file, &mut diagnostics);
    println!(
        "read {:?}, {} diagnostics",
        start.elapsed(),
        diagnostics.len()
    );
    let start = Instant::now();
    let pods = objects.pods();
    println!("{} pods {:?}", pods.len(), start.elapsed());
    let start = Instant::now();
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods.clone());
    println!("index {:?}", start.elapsed());
    let start = Instant::now();
    plane.connect(Nanos::ZERO, pods[0].identity());
    println!("first sidecar {:?}", start.elapsed());
    let start = Instant::now();
    plane.connect(Nanos::ZERO, pods[1].identity());
    println!("second sidecar {:?}", start.elapsed());
    let start = Instant::now();
    let mut pod = pods[7].clone();
    pod.ready = false;
    plane.set_pod(Nanos::ZERO, pod);
    let pushes = plane.tick(Nanos::from_secs(1));
    println!("one pod: {} pushes {:?}", pushes.len(), start.elapsed());
    let start = Instant::now();
    plane.set_objects(Nanos::ZERO, objects);
    let pushes = plane.tick(Nanos::from_secs(100));
    println!("objects: {} pushes {:?}", pushes.len(), start.elapsed());
}
