//! What may be typed.

mod check;
mod diff;
mod import;
mod inject;
mod test;

pub(crate) use check::{CheckArgs, CheckFormat, Threshold};
use clap::{Args, Parser, Subcommand, ValueEnum};
use control_plane::DataPlane;
pub(crate) use diff::{DiffArgs, DiffFormat};
pub(crate) use import::{ImportArgs, ImportSource};
pub(crate) use inject::{InjectArgs, InjectDialect, InjectOutput};
use std::net::IpAddr;
use std::path::PathBuf;
pub(crate) use test::{TestArgs, TestFormat};

/// Rehearse a service mesh on a laptop: real Istio configuration, a real routing core, simulated
/// traffic and failures; deterministic, no cluster.
#[derive(Debug, Parser)]
#[command(name = "meshsim", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run scenarios and judge their expectations
    Run(RunArgs),
    /// Would this load? Reports everything wrong with scenarios or configuration
    Check(CheckArgs),
    /// Where would this request go, and why?
    Explain(Box<ExplainArgs>),
    /// Which requests do two configurations treat differently?
    Diff(DiffArgs),
    /// Show what a proxy is told: its listeners, routes, clusters and endpoints
    #[command(visible_alias = "pc", subcommand)]
    ProxyConfig(ProxyConfigTarget),
    /// Which pods have a sidecar, and why? Or the manifests that injection leaves
    Inject(InjectArgs),
    /// Write a proxy's resources for a real proxy
    #[command(subcommand)]
    Export(ExportTarget),
    /// Does a real Envoy decide as meshsim does? Asks both the same, on loopback
    #[command(mut_arg("config", |config| config.required(false).required_unless_present("rehearse")))]
    Verify(Box<VerifyArgs>),
    /// Run route tests and scenarios, and say which rules none of them reaches
    Test(Box<TestArgs>),
    /// Write other configuration in today's words
    #[command(subcommand)]
    Import(ImportSource),
    /// Print a JSON Schema
    Schema {
        /// Which one
        name: SchemaName,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SchemaName {
    /// The scenario file format
    Scenario,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Discrete events at nanosecond resolution
    Event,
    /// Real HTTP/1.1 bytes over a simulated network, at most thirty hosts, whole milliseconds
    Turmoil,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Scenario files, or folders that hold a scenario.yaml
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Seed of the run; the scenario's own by default
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Several seeds, first and last
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(crate) seeds: Option<SeedRange>,
    /// Write over a value of the scenario, such as traffic.web.rate=800/s
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) sets: Vec<(String, String)>,
    /// Use this Istio configuration (files, folders, or - for standard input) instead of the
    /// scenario's own
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    /// Leave invalid objects out, each with a warning, as Istio's webhook would; without this they are
    /// errors
    #[arg(long)]
    pub(crate) allow_invalid: bool,
    #[arg(long, value_enum, default_value = "event")]
    pub(crate) engine: Engine,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Write the record, the access log and the journal of every proxy into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Threads for several seeds; all cores by default
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Show every access-log record, stamped with virtual time (on standard error)
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Configuration from files.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Istio and Kubernetes files, folders, a scenario (for what it starts with), or - for standard
    /// input
    #[arg(long, required = true, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    /// MeshConfig, as a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// Make it a mesh of 2017: rules of Istio 0.1 and 0.2 as this data plane took them, its defaults for
    /// hosts without rules
    #[arg(long, value_name = "NAME", value_parser = data_plane)]
    pub(crate) data_plane: Option<DataPlane>,
    /// Leave invalid objects out, each with a warning, as Istio's webhook would; without this they are
    /// errors
    #[arg(long)]
    pub(crate) allow_invalid: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportTarget {
    /// A bootstrap for Envoy, as JSON
    Envoy(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The proxy, as for `explain`
    #[arg(long = "as", value_name = "PROXY")]
    pub(crate) proxy: String,
    /// Write files that Envoy watches below this folder, instead of one static file: start it with
    /// DIR/bootstrap.json, and replace files by moving new ones over them
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) xds: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProxyConfigTarget {
    /// Where connections are taken, how they are told apart and where they go
    #[command(visible_aliases = ["listener", "l"])]
    Listeners(ListenersArgs),
    /// Which requests the route tables tell apart, and whose rule does so
    #[command(visible_aliases = ["route", "r"])]
    Routes(RoutesArgs),
    /// The services and subsets that requests may go to, and whose policy they have
    #[command(visible_aliases = ["cluster", "c"])]
    Clusters(ClustersArgs),
    /// The addresses behind clusters
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(EndpointsArgs),
    /// All four; as JSON, in the form of Envoy's config_dump
    #[command(visible_alias = "a")]
    All(AllArgs),
}

/// A proxy, and how to show what it is told.
#[derive(Debug, Args)]
pub(crate) struct ShownProxy {
    /// The proxy: a pod or workload of the configuration (NAME[.NAMESPACE] or [NAMESPACE/]NAME), or a
    /// description, as for `explain`
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// A table, or Envoy's own JSON
    #[arg(
        short,
        long,
        value_enum,
        default_value = "short",
        value_name = "FORMAT"
    )]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Short,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ListenersArgs {
    #[command(flatten)]
    pub(crate) proxy: ShownProxy,
    #[command(flatten)]
    pub(crate) filter: ListenerFilter,
    /// Say which protocols an application protocol stands for, and what a black hole is called
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ListenerFilter {
    /// Only those at this address
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// Only those at this port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Only those that speak this
    #[arg(long = "type", value_enum, ignore_case = true, value_name = "TYPE")]
    pub(crate) kind: Option<ListenerType>,
}

/// What the filter chains of a listener speak; in the order of istioctl, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum ListenerType {
    Http,
    #[value(name = "http+tcp")]
    HttpAndTcp,
    Tcp,
    /// Nothing is passed on
    Unknown,
}

#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    pub(crate) proxy: ShownProxy,
    /// Only the table of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Show every domain, and conditions besides the path
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClustersArgs {
    #[command(flatten)]
    pub(crate) proxy: ShownProxy,
    #[command(flatten)]
    pub(crate) filter: ClusterFilter,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ClusterFilter {
    /// Only those with this in the service's name
    #[arg(long, value_name = "TEXT")]
    pub(crate) fqdn: Option<String>,
    /// Only those of this port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Only those with this in the subset's name
    #[arg(long, value_name = "TEXT")]
    pub(crate) subset: Option<String>,
    /// Only those of this direction
    #[arg(long, value_enum, ignore_case = true, value_name = "DIRECTION")]
    pub(crate) direction: Option<TrafficDirection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrafficDirection {
    Inbound,
    Outbound,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointsArgs {
    #[command(flatten)]
    pub(crate) proxy: ShownProxy,
    #[command(flatten)]
    pub(crate) filter: EndpointFilter,
}

#[derive(Debug, Default, Args)]
pub(crate) struct EndpointFilter {
    /// Only those at this address or name
    #[arg(long, value_name = "HOST")]
    pub(crate) address: Option<String>,
    /// Only those at this port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Only those of the cluster of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Only those of this health
    #[arg(long, value_enum, ignore_case = true, value_name = "STATUS")]
    pub(crate) status: Option<EndpointStatus>,
}

/// Health as the control plane states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EndpointStatus {
    Healthy,
    Unhealthy,
    Draining,
    Degraded,
}

#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    pub(crate) proxy: ShownProxy,
    /// Leave nothing out of domains and conditions
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The proxy: a workload or pod of the configuration ([NAMESPACE/]NAME or NAME.NAMESPACE), or
    /// kind=sidecar|gateway,namespace=NS,labels=k=v;k=v,ip=A.B.C.D,locality=REGION/ZONE
    #[arg(long = "as", value_name = "PROXY")]
    pub(crate) proxy: String,
    /// The request's method
    #[arg(short = 'X', long, default_value = "GET", value_name = "METHOD")]
    pub(crate) method: String,
    /// A request header, as NAME: VALUE
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// Ask a sidecar about a request to its own application instead, from this workload or pod
    /// ([NAMESPACE/]NAME): with its address, and by mutual TLS with its identity if it has a proxy. At
    /// a gateway: from there
    #[arg(long, value_name = "POD")]
    pub(crate) from: Option<String>,
    /// How the client secures the connection. Default: by the URL and `--from`
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) tls: Option<Secured>,
    /// Requests from a file, one JSON object a line; one answer for each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "method", "headers", "from", "tls"])]
    pub(crate) requests: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// The request's URL
    #[arg(required_unless_present = "requests")]
    pub(crate) url: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Secured {
    None,
    Tls,
    /// Istio's mutual TLS
    Mtls,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Play the timeline of this scenario in real time instead, as one proxy lives through it
    #[arg(long, value_name = "SCENARIO", conflicts_with_all = ["config", "mesh_config", "requests"])]
    pub(crate) rehearse: Option<PathBuf>,
    /// Compare the resources themselves instead: with those that a real control plane sent one proxy,
    /// in the form of Envoy's config_dump
    #[arg(long, value_name = "CONFIG_DUMP", requires = "proxies", conflicts_with_all = ["rehearse", "requests", "envoy"])]
    pub(crate) against: Option<PathBuf>,
    /// Seed of the rehearsal; the scenario's own by default
    #[arg(long, value_name = "N", requires = "rehearse")]
    pub(crate) seed: Option<u64>,
    /// Write over a value of the scenario, such as traffic.web.rate=800/s
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, requires = "rehearse")]
    pub(crate) sets: Vec<(String, String)>,
    /// A proxy, as for `explain`; may be repeated. Default: that of the first pod of every workload. Of
    /// a rehearsal: one pod or workload; default: the proxy that sends most requests
    #[arg(long = "as", value_name = "PROXY")]
    pub(crate) proxies: Vec<String>,
    /// Requests from a file, as for `explain`. Default: made up for everything that is matched
    #[arg(long, value_name = "FILE")]
    pub(crate) requests: Option<PathBuf>,
    /// The Envoy to start. Default: what MESHSIM_ENVOY names, or the one in PATH
    #[arg(long, value_name = "BIN")]
    pub(crate) envoy: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// First and last seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeedRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// So many records still fit into memory.
const SEEDS_MAX: u64 = 100_000;

fn seeds(text: &str) -> Result<SeedRange, String> {
    let wrong = || format!("`{text}` is not FIRST..LAST, such as 1..100");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!(
            "the first seed, {first}, is beyond the last, {last}"
        ));
    }
    if last - first >= SEEDS_MAX {
        return Err(format!("more than {SEEDS_MAX} seeds"));
    }
    Ok(SeedRange { first, last })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!(
            "`{text}` is not KEY=VALUE, such as traffic.web.rate=800/s"
        )),
    }
}

fn data_plane(text: &str) -> Result<DataPlane, String> {
    let found = DataPlane::NAMES.iter().find(|(name, _)| *name == text);
    let names: Vec<&str> = DataPlane::NAMES.iter().map(|(name, _)| *name).collect();
    found
        .map(|(_, data_plane)| *data_plane)
        .ok_or_else(|| format!("one of {}", names.join(", ")))
}
