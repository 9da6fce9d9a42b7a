//! `kubectl pilotage artifact`: the stored versions, their records and their objects.

mod diff;
mod list;
mod pull;
mod show;
pub(crate) mod stored;

use std::io::Write;

use clap::{Args, Subcommand};

pub(super) use list::higher_first;

use super::connection::Connection;
use super::output::Output;

/// The stored versions of solutions: which there are, where they were deployed, and their objects. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct ArtifactArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Pull(pull::PullArgs),
    Diff(diff::DiffArgs),
}

/// Does what is asked with artifacts.
///
/// # Errors
/// If there is no such artifact, or the caller may not read it.
pub async fn run(connection: &Connection, args: ArtifactArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    match args.what {
        What::List(args) => list::run(connection, args, out).await,
        What::Show(args) => show::run(connection, &args, out).await,
        What::Pull(args) => pull::run(connection, &args, out).await,
        What::Diff(args) => diff::run(connection, &args, out).await,
    }
}
