//! `kubectl pilotage artifact`: the stored versions, their records and their objects.

mod list;
mod pull;
mod show;

use std::io::Write;

use clap::{Args, Subcommand};
use kube::Api;

use super::ask::is_forbidden;
use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use crate::api::{Artifact, names};

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
    }
}

/// An artifact by its name, or by SOLUTION@VERSION.
async fn named(connection: &Connection, what: &str) -> anyhow::Result<Artifact> {
    connection.named()?;
    let name = match what.split_once('@') {
        Some((solution, version)) => names::artifact_name(solution, version),
        None => what.to_owned(),
    };
    let host = connection.namespace();
    match Api::<Artifact>::namespaced(connection.client(), host).get_opt(&name).await {
        Ok(Some(artifact)) => Ok(artifact),
        Ok(None) => Err(Exit::NotFound.because(format!(
            "artifact {name} does not exist in namespace {host}: -n names the host; see kubectl pilotage artifact list -n {host}"
        ))),
        Err(error) if is_forbidden(&error) => Err(Exit::NotAllowed.because(format!(
            "you may not read artifact {name} in namespace {host}: -n names the host; its viewers may (ClusterRole pilotage-viewer)"
        ))),
        Err(error) => Err(error.into()),
    }
}
