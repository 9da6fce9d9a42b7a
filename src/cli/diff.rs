//! `kubectl pilotage diff`: what a request changes, by its plan; what a solution would change on a stage; what differs between two
//! versions.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use kube::Api;
use serde_json::{Value, json};

use super::artifact::stored;
use super::ask::place::Place;
use super::connection::Connection;
use super::difference::{self, Compared};
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use super::{grant, plan};
use crate::api::{DeploymentRequest, GROUP, Solution, names};
use crate::artifact::bundle::Bundle;

/// Show what changes, with old and new values: by a request, from what a stage runs to a version, or between two versions. Nothing of
/// Secrets is shown. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// A request; or, with --to or versions, a solution.
    #[arg(value_parser = object_name)]
    name: String,
    /// A version of the solution, and what differs from it: another version. With --to: the version that would be deployed.
    #[arg(value_name = "VERSION", num_args = 0..=2, value_parser = object_name)]
    versions: Vec<String>,
    /// The stage whose version is compared. Without a version, it is compared with the solution as it is in development now.
    #[arg(long, value_name = "STAGE", value_parser = object_name)]
    to: Option<String>,
    /// The namespace of the Solution. Default: the namespace of the current context.
    #[arg(long, value_name = "NAMESPACE", value_parser = object_name)]
    from: Option<String>,
}

/// Prints the difference.
///
/// # Errors
/// If something that is named does not exist, or the caller may not read it.
pub async fn run(connection: &Connection, args: DiffArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let compared = match (&args.to, args.versions.as_slice()) {
        (None, []) => return of_request(connection, &args.name, out).await,
        (None, [before, after]) => between_versions(connection, &args.name, before, after).await?,
        (Some(stage), [] | [_]) => against_stage(connection, &args, stage).await?,
        _ => {
            return Err(
                Exit::Usage.because("name a request; or a solution and two versions; or a solution, --to a stage, and at most one version")
            );
        }
    };
    compared.print(&args.name, out)
}

async fn of_request(connection: &Connection, name: &str, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let host = connection.namespace();
    let request = Api::<DeploymentRequest>::namespaced(connection.client(), host).get(name).await;
    let request = request.with_context(|| format!("reading request {name} of host {host} (-n names the host)"))?;
    let plan = request.status.as_ref().and_then(|status| status.run.plan.clone());
    let document = json!({"request": name, "host": host, "plan": plan});
    out.one(&document, &format!("deploymentrequest.{GROUP}/{name}"), &plan::said(&request))
}

async fn between_versions(connection: &Connection, solution: &str, before: &str, after: &str) -> anyhow::Result<Compared> {
    let host = connection.namespace();
    let (old, new) = (stored(connection, host, solution, before).await?, stored(connection, host, solution, after).await?);
    let objects = difference::between(old.objects(), new.objects());
    Ok(Compared { before: format!("{solution} {before}"), after: format!("{solution} {after}"), objects })
}

/// From the version that a stage runs. Settings are not in it: they are put into a version when it is deployed.
async fn against_stage(connection: &Connection, args: &DiffArgs, stage: &str) -> anyhow::Result<Compared> {
    let (client, solution) = (connection.client(), args.name.as_str());
    let place = Place::find(&client, connection.named()?, args.from.as_deref(), solution, stage, None).await?;
    let running = place.running.and_then(|running| running.version);
    let (before, old) = match running {
        Some(version) => {
            let bundle = stored(connection, &place.host, solution, &version).await?;
            (format!("{solution} {version}, which stage {stage} runs"), bundle.objects().to_vec())
        }
        None => (format!("nothing of {solution} on stage {stage}, as far as you may know"), Vec::new()),
    };
    let (after, new) = match args.versions.first() {
        Some(version) => (format!("{solution} {version}"), stored(connection, &place.host, solution, version).await?.objects().to_vec()),
        None => developed(connection, args).await?,
    };
    Ok(Compared { before, after, objects: difference::between(&old, &new) })
}

/// The solution as it would be exported now, as far as the caller may read it.
async fn developed(connection: &Connection, args: &DiffArgs) -> anyhow::Result<(String, Vec<Value>)> {
    let client = connection.client();
    let namespace = args.from.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let found = Api::<Solution>::namespaced(client.clone(), &namespace).get(&args.name).await;
    let found = found.with_context(|| {
        format!("reading Solution {} of namespace {namespace} (--from names its namespace; a version is compared without it)", args.name)
    })?;
    let objects = grant::exported(&client, &found, &namespace).await?;
    Ok((format!("{} {} as it is in namespace {namespace} now", args.name, found.spec.version), objects))
}

/// The objects of a stored version.
async fn stored(connection: &Connection, host: &str, solution: &str, version: &str) -> anyhow::Result<Arc<Bundle>> {
    let artifact = stored::named(connection, host, &names::artifact_name(solution, version)).await?;
    stored::objects(connection, &artifact).await
}
