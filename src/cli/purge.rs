//! `kubectl pilotage purge`: deletes one record, as the caller.

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use kube::api::{DeleteParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use super::prompt;
use crate::api::{Artifact, DeploymentRequest};

/// Delete a record that retention would keep longer: a request that has ended, or an artifact that runs nowhere. It can't be taken back. You
/// need the verb purge on the pipeline, and for an artifact on all pipelines of the host. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct PurgeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Delete a request that has ended, with its settings, plan and decisions. What it deployed stays on record in the artifact.
    Request(Named),
    /// Delete an artifact that runs nowhere, with its bytes and the record of who deployed it.
    Artifact(Named),
}

#[derive(Args, Debug)]
struct Named {
    /// Its name.
    #[arg(value_parser = object_name)]
    name: String,
    /// Delete it without being asked. Needed where there is no terminal.
    #[arg(long)]
    yes: bool,
}

/// Says what would be lost, and deletes it if that is confirmed.
///
/// # Errors
/// If it does not exist, is still needed, or the caller may not purge it.
pub async fn run(connection: &Connection, args: PurgeArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let host = connection.namespace().to_owned();
    match args.what {
        What::Request(named) => {
            let request: DeploymentRequest = found(connection, &host, &named.name).await?;
            let run = request.status.as_ref().map(|s| &s.run);
            let Some(ended) = run.and_then(|run| run.end_time) else {
                let go_on =
                    format!("request {0} of host {host} has not ended: cancel it with kubectl pilotage cancel {0} -n {host}", named.name);
                return Err(Exit::Failed.because(go_on));
            };
            let solution = &request.spec.solution;
            let phase = run.map(|run| run.phase.as_str()).unwrap_or_default();
            let what = format!(
                "request {} for {} {} to stage {}, {phase} at {ended}",
                named.name, solution.name, solution.version, request.spec.stage
            );
            remove(connection, &host, &request, &named, &what, out).await
        }
        What::Artifact(named) => {
            let artifact: Artifact = found(connection, &host, &named.name).await?;
            let records = artifact.status.as_ref().map_or(0, |s| s.deployments.len());
            let what = format!("artifact {} with its bytes and {records} records of deployments", named.name);
            remove(connection, &host, &artifact, &named, &what, out).await
        }
    }
}

async fn found<K>(connection: &Connection, host: &str, name: &str) -> anyhow::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::kind(&());
    let found = Api::<K>::namespaced(connection.client(), host).get_opt(name).await;
    let found = found.with_context(|| format!("reading {kind} {name} of host {host}"))?;
    found.ok_or_else(|| Exit::NotFound.because(format!("{kind} {name} does not exist in host {host}")))
}

/// Deletes exactly what was shown.
async fn remove<K>(
    connection: &Connection,
    host: &str,
    object: &K,
    named: &Named,
    what: &str,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let otherwise = format!("this deletes {what}, for ever; repeat it with --yes");
    if !named.yes && !prompt::confirm(&format!("Delete {what}, for ever?"), &otherwise)? {
        bail!("nothing was deleted");
    }
    let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
    let api = Api::<K>::namespaced(connection.client(), host);
    let deleted = api.delete(&named.name, &DeleteParams::background().preconditions(preconditions)).await;
    deleted.with_context(|| format!("{what} was not deleted"))?;
    let name = format!("{}.pilotage.dev/{}", K::kind(&()).to_lowercase(), named.name);
    let value = json!({"metadata": {"name": named.name, "namespace": host, "uid": object.uid()}, "deleted": true});
    out.one(&value, &name, &format!("deleted {what}"))
}
