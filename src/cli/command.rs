//! The verbs of the plugin, and the flags that all of them have.

use std::io::{self, Write};

use clap::{Parser, Subcommand};
use serde_json::json;

use super::connection::{Connection, ConnectionArgs};
use super::exit::{self, Exit};
use super::output::{Format, Output};
use crate::text::{self, Shown};

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
    Approve(super::decide::ApproveArgs),
    Artifact(super::artifact::ArtifactArgs),
    Cancel(super::cancel::CancelArgs),
    Check(super::check::CheckArgs),
    Completion(super::completion::CompletionArgs),
    Deploy(Box<super::deploy::DeployArgs>),
    Diff(super::diff::DiffArgs),
    Grant(Box<super::grant::GrantArgs>),
    History(Box<super::history::HistoryArgs>),
    Inbox(super::inbox::InboxArgs),
    Init(Box<super::init::InitArgs>),
    Lint(super::lint::LintArgs),
    Purge(super::purge::PurgeArgs),
    Redeploy(Box<super::redeploy::RedeployArgs>),
    Reject(super::decide::RejectArgs),
    Report(super::report::ReportArgs),
    Retention(super::retention::RetentionArgs),
    Retry(Box<super::retry::RetryArgs>),
    Rollback(Box<super::rollback::RollbackArgs>),
    Share(super::share::ShareArgs),
    Status(super::status::StatusArgs),
    Tree(super::tree::TreeArgs),
    /// Print the version of the plugin.
    Version,
    Watch(Box<super::watch::WatchArgs>),
    Where(super::locate::WhereArgs),
}

impl Cli {
    /// Reads the arguments. Who asks for the help gets it.
    ///
    /// # Errors
    /// How the program ends if there is nothing more to do.
    pub fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                let _ = error.print();
                return Exit::Done;
            }
            // It quotes the arguments, and who wrote these is not known.
            let _ = write!(Shown::new(io::stderr()), "{}", error.render());
            Exit::Usage
        })
    }

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
    async fn run(self, connection_args: &ConnectionArgs, out: &mut Output<std::io::Stdout>) -> anyhow::Result<()> {
        // What needs no cluster.
        match &self {
            Self::Completion(args) => return super::completion::run(args, out),
            Self::Version => {
                let version = env!("CARGO_PKG_VERSION");
                return out.one(&json!({"version": version}), version, &format!("kubectl-pilotage {version}"));
            }
            _ => {}
        }
        if let Self::Init(args) = self {
            let connection = if args.needs_cluster() { Some(Connection::open(connection_args).await?) } else { None };
            return super::init::run(connection.as_ref(), *args, out).await;
        }
        if let Self::Lint(args) = self {
            let connection = if args.needs_cluster() { Some(Connection::open(connection_args).await?) } else { None };
            return super::lint::run(connection.as_ref(), args, out).await;
        }
        let connection = &Connection::open(connection_args).await?;
        out.of_all_namespaces(connection.is_everywhere());
        match self {
            Self::Approve(args) => super::decide::approve(connection, args, out).await,
            Self::Artifact(args) => super::artifact::run(connection, args, out).await,
            Self::Cancel(args) => super::cancel::run(connection, args, out).await,
            Self::Check(args) => super::check::run(connection, args, out).await,
            Self::Deploy(args) => super::deploy::run(connection, *args, out).await,
            Self::Diff(args) => super::diff::run(connection, args, out).await,
            Self::Grant(args) => super::grant::run(connection, *args, out).await,
            Self::History(args) => super::history::run(connection, *args, out).await,
            Self::Inbox(args) => super::inbox::run(connection, args, out).await,
            Self::Purge(args) => super::purge::run(connection, args, out).await,
            Self::Redeploy(args) => super::redeploy::run(connection, *args, out).await,
            Self::Report(args) => super::report::run(connection, args, out).await,
            Self::Retention(args) => super::retention::run(connection, args, out).await,
            Self::Reject(args) => super::decide::reject(connection, args, out).await,
            Self::Retry(args) => super::retry::run(connection, *args, out).await,
            Self::Rollback(args) => super::rollback::run(connection, *args, out).await,
            Self::Share(args) => super::share::run(connection, args, out).await,
            Self::Status(args) => super::status::run(connection, args, out).await,
            Self::Tree(args) => super::tree::run(connection, args, out).await,
            Self::Watch(args) => super::watch::run(connection, *args, out).await,
            Self::Where(args) => super::locate::run(connection, args, out).await,
            Self::Completion(_) | Self::Init(_) | Self::Lint(_) | Self::Version => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    fn own(command: &clap::Command, path: &str, globals: &BTreeSet<String>) {
        for verb in command.get_subcommands() {
            let path = format!("{path} {}", verb.get_name());
            for arg in verb.get_arguments() {
                assert!(
                    !globals.contains(arg.get_id().as_str()),
                    "{path} has an argument {} of its own, and so have all verbs",
                    arg.get_id()
                );
            }
            own(verb, &path, globals);
        }
    }

    #[test]
    fn no_verb_has_an_argument_that_is_taken_for_one_of_all_verbs() {
        let command = Cli::command();
        command.clone().debug_assert();
        let globals = command.get_arguments().map(|arg| arg.get_id().to_string()).filter(|id| id != "help" && id != "version").collect();
        own(&command, "kubectl pilotage", &globals);
    }

    #[test]
    fn every_verb_and_flag_says_what_it_does() {
        fn told(command: &clap::Command) {
            for verb in command.get_subcommands() {
                assert!(verb.get_about().is_some(), "{} says nothing", verb.get_name());
                for arg in verb.get_arguments() {
                    assert!(arg.get_help().is_some(), "{} of {} says nothing", arg.get_id(), verb.get_name());
                }
                told(verb);
            }
        }
        told(&Cli::command());
    }
}
