//! `meshsim test`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Tests: files, folders with all that is below them, or - for standard input. With `--test-path`:
    /// configuration
    #[arg(required_unless_present = "tests", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Tests
    #[arg(short, long = "test-path", value_name = "PATH")]
    pub(crate) tests: Vec<PathBuf>,
    /// Istio configuration, or Envoy's RouteConfiguration, for tests whose files name none. Default: what
    /// is found beside the tests
    #[arg(
        short,
        long,
        visible_alias = "config-path",
        alias = "config-dir",
        value_name = "PATH"
    )]
    pub(crate) config: Vec<PathBuf>,
    /// MeshConfig, as a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// The proxy that is asked where a test names none, as for `explain`. Other tools' tests are then
    /// decided as by this proxy
    #[arg(long = "as", value_name = "PROXY")]
    pub(crate) proxy: Option<String>,
    /// Leave invalid objects out, each with a warning, as Istio's webhook would; without this they are
    /// errors
    #[arg(long)]
    pub(crate) allow_invalid: bool,
    /// Fail if the tests reach less of all rules, matches and destinations than this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) min_coverage: Option<f64>,
    /// Fail if route table check tests cover less of their RouteConfiguration than this, as Envoy's tool
    /// counts
    #[arg(short, long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) fail_under: Option<f64>,
    /// For `--fail-under`, count a route by the share of its fields that are verified
    #[arg(long)]
    pub(crate) covall: bool,
    /// Name the tests that passed, too
    #[arg(short, long)]
    pub(crate) details: bool,
    /// Say nothing of coverage
    #[arg(short, long)]
    pub(crate) summary: bool,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: TestFormat,
    /// For those who come from istio-config-validator: unknown keys are errors always
    #[arg(long, hide = true)]
    pub(crate) strict: bool,
    /// For those who come from router_check_tool, as are the next two: it is so always
    #[arg(long, hide = true)]
    pub(crate) only_show_failures: bool,
    #[arg(long, hide = true)]
    pub(crate) detailed_coverage: bool,
    #[arg(long, hide = true)]
    pub(crate) disable_deprecation_check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestFormat {
    Text,
    Json,
    Junit,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse();
    let number = number.ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a percentage from 0 to 100"))
}
