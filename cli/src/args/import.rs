//! `meshsim import`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// Rules of Istio 0.1 and 0.2, and Ingresses, as VirtualServices, DestinationRules, ServiceEntries
    /// and Gateways
    IstioV1alpha2(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Files with the rules, folders, or - for standard input; Services among them tell what the
    /// `source` of a rule means
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Write a file for each object into this folder instead of all to standard output
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}
