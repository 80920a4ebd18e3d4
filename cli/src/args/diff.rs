//! What may be typed after `meshsim diff`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// What there was: a file, a folder, a scenario, - for standard input, git:REVISION:PATH, or
    /// git:REVISION for the paths of the other side as they were then
    #[arg(value_name = "OLD", required_unless_present = "old", requires = "to")]
    pub(crate) from: Option<String>,
    /// What there is to be, in the same ways
    #[arg(value_name = "NEW")]
    pub(crate) to: Option<String>,
    /// Instead of OLD: several paths
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with = "from", requires = "new")]
    pub(crate) old: Vec<String>,
    /// Instead of NEW: several paths
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with = "to", requires = "old")]
    pub(crate) new: Vec<String>,
    /// MeshConfig of both sides, as a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// Leave invalid objects out, each with a warning, as Istio's webhook would; without this they are
    /// errors
    #[arg(long)]
    pub(crate) allow_invalid: bool,
    /// End with 1 if something changes, or may change
    #[arg(long)]
    pub(crate) exit_code: bool,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: DiffFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    Text,
    Json,
    /// For a comment on a pull request
    Markdown,
}
