//! The `meshsim` binary: arguments in, results on standard output, everything else on standard
//! error. Exit codes: 0 all held, 1 something did not hold, 2 the input cannot be used.

mod against;
mod args;
mod check;
mod config;
mod diff;
mod explain;
mod export;
mod import;
mod inject;
mod progress;
mod proxy_config;
mod rehearse;
mod run;
mod status;
mod test;
mod verify;

use anstream::{eprint, eprintln, print};
use args::{Cli, Command, ExportTarget, SchemaName};
use clap::Parser;
use source::{Diagnostic, Level};
use std::io::IsTerminal;
use std::process::ExitCode;

/// How a verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Held = 0,
    DidNotHold = 1,
    BadInput = 2,
}

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain_requests(&args),
        Command::Diff(args) => diff::compare(&args),
        Command::ProxyConfig(target) => proxy_config::proxy_config(&target),
        Command::Inject(args) => inject::inject(&args),
        Command::Export(ExportTarget::Envoy(args)) => export::export(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Test(args) => test::test(&args),
        Command::Import(source) => import::import(&source),
        Command::Schema {
            name: SchemaName::Scenario,
        } => {
            print!("{:#}\n", scenarios::json_schema());
            Exit::Held
        }
    };
    ExitCode::from(exit as u8)
}

/// Shows diagnostics on standard error; true if there is an error among them.
pub(crate) fn report(diagnostics: &[Diagnostic]) -> bool {
    if !diagnostics.is_empty() {
        let color = std::io::stderr().is_terminal();
        eprint!("{}", source::render(diagnostics, color));
    }
    let failed = has_error(diagnostics);
    if failed {
        let mut allowed = diagnostics.to_vec();
        control_plane::allow_invalid(&mut allowed);
        if !has_error(&allowed) {
            eprintln!(
                "with --allow-invalid, invalid objects are left out, as Istio leaves them out"
            );
        }
    }
    failed
}

/// Whether the input cannot be used.
pub(crate) fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error)
}
