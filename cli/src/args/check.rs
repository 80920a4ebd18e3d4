//! `meshsim check`.

use super::data_plane;
use analysis::Suppression;
use clap::{Args, ValueEnum};
use control_plane::DataPlane;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Scenarios, Istio or Kubernetes files, folders, or - for standard input
    #[arg(required_unless_present = "list", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// MeshConfig, as a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// MeshNetworks, as a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_networks: Option<PathBuf>,
    /// Make it a mesh of 2017 with this data plane, as for `explain`; a scenario says so itself
    #[arg(long, value_name = "NAME", value_parser = data_plane)]
    pub(crate) data_plane: Option<DataPlane>,
    /// Do not tell a code of some objects, such as "IST0102=Namespace staging" or
    /// "MSH0014=VirtualService shop/*"; may be repeated. An object's annotation
    /// galley.istio.io/analyze-suppress does the same, with a list of codes or *
    #[arg(short = 'S', long, value_name = "CODE=RESOURCE", value_parser = Suppression::parse)]
    pub(crate) suppress: Vec<Suppression>,
    /// End with 1 if something of this level is found, or worse
    #[arg(
        long,
        value_enum,
        default_value = "error",
        ignore_case = true,
        value_name = "LEVEL"
    )]
    pub(crate) failure_threshold: Threshold,
    /// Print all codes instead, with what they mean
    #[arg(long, conflicts_with_all = ["paths", "mesh_config", "mesh_networks", "data_plane", "suppress", "status"])]
    pub(crate) list: bool,
    /// Also print the status that Istio's controller would give each object of the Gateway API
    #[arg(long)]
    pub(crate) status: bool,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: CheckFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    Text,
    Json,
    /// SARIF 2.1.0, for code scanners
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Threshold {
    #[value(alias = "info")]
    Note,
    Warning,
    Error,
}
