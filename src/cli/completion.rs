//! `kubectl pilotage completion`: what shells complete.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::command::Cli;
use super::output::Output;

/// Print the completion script of a shell, for the program `kubectl-pilotage`.
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script. It needs no cluster.
///
/// # Errors
/// If it can't be written.
pub fn run(args: &CompletionArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "kubectl-pilotage", &mut script);
    out.verbatim(&String::from_utf8_lossy(&script))
}
