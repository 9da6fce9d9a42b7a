//! The verbs of the plugin, and the flags that all of them have.

use std::io::Write as _;

use clap::{Parser, Subcommand};

use super::connection::{Connection, ConnectionArgs};
use super::exit::{self, Exit};
use super::output::{Format, Output};
use crate::text;

/// Delegated deployments: ask, watch, understand.
#[derive(Parser)]
#[command(name = "kubectl-pilotage", bin_name = "kubectl pilotage", version, after_help = Exit::help())]
pub struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

/// The verbs. Each has a file, and a line here and in `run`.
#[derive(Subcommand)]
enum Command {
    Cancel(super::cancel::CancelArgs),
    Deploy(Box<super::deploy::DeployArgs>),
    Grant(Box<super::grant::GrantArgs>),
    Redeploy(Box<super::redeploy::RedeployArgs>),
    Retry(Box<super::retry::RetryArgs>),
    Status(super::status::StatusArgs),
    /// Print the version of the plugin.
    Version,
}

impl Cli {
    /// Does what was asked for, and says how that ended.
    pub async fn run(self) -> Exit {
        let mut out = Output::standard(self.output);
        let Err(error) = self.command.run(&self.connection, &mut out).await else { return Exit::Done };
        let code = Exit::of(&error);
        if code != Exit::Done {
            // There is nobody to tell if this can't be written either.
            let _ = out.note(&format!("error: {}", text::plain(&exit::said(&error))));
        }
        code
    }
}

impl Command {
    async fn run(self, args: &ConnectionArgs, out: &mut Output<std::io::Stdout>) -> anyhow::Result<()> {
        // What needs no cluster.
        if let Self::Version = self {
            writeln!(out, "kubectl-pilotage {}", env!("CARGO_PKG_VERSION"))?;
            return Ok(());
        }
        let connection = &Connection::open(args).await?;
        out.of_all_namespaces(connection.is_everywhere());
        match self {
            Self::Cancel(args) => super::cancel::run(connection, args, out).await,
            Self::Deploy(args) => super::deploy::run(connection, *args, out).await,
            Self::Grant(args) => super::grant::run(connection, *args, out).await,
            Self::Redeploy(args) => super::redeploy::run(connection, *args, out).await,
            Self::Retry(args) => super::retry::run(connection, *args, out).await,
            Self::Status(args) => super::status::run(connection, args, out).await,
            Self::Version => Ok(()),
        }
    }
}
