//! `kubectl pilotage cancel`: withdraws a request, in the way that its requester has the right to.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::ask::makers_view::{self, MakersView};
use super::ask::{self, is_forbidden};
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use crate::api::DeploymentRequest;
use crate::api::phase::Phase;

/// Withdraw a request before it deploys. It can't be taken back. The namespace (-n) is the host, or that of the Solution that tells of it.
#[derive(Args, Debug)]
pub struct CancelArgs {
    /// The request.
    #[arg(value_parser = object_name)]
    request: String,
    /// The namespace of the Solution. Its status shows what you may not read in the host. Default: the namespace of the current context.
    #[arg(long, value_name = "NAMESPACE", value_parser = object_name)]
    from: Option<String>,
}

/// Withdraws the request: by its field if the caller may patch it, otherwise by deleting it. Before it deploys, both have the same effect.
///
/// # Errors
/// If it has started or has ended, or is not the caller's.
pub async fn run(connection: &Connection, args: CancelArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let name = &args.request;
    let (client, mut namespace) = (connection.client(), connection.named()?);
    let mut from = args.from.clone();
    let host = connection.namespace().to_owned();
    let requests = Api::<DeploymentRequest>::namespaced(client.clone(), &host);
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    match requests.patch(name, &PatchParams::default(), &patch).await {
        Ok(request) => return out.one(&request, &ask::full_name(name), &format!("request {name} of host {host} is withdrawn")),
        // The namespace that is named may be the maker's own.
        Err(kube::Error::Api(status))
            if matches!(status.code, 403 | 404) && from.is_none() && makers_view::tells_of(&client, namespace, name).await? =>
        {
            from = namespace.take().map(str::to_owned);
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(Exit::NotFound.because(format!("request {name} of host {host} was not canceled: {}", status.message)));
        }
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("cannot patch resource") => {
            reads_alone(connection, &host, name).await?;
        }
        Err(kube::Error::Api(status)) => bail!("request {name} of host {host} was not canceled: {}", status.message),
        Err(error) => return Err(error).with_context(|| format!("canceling request {name} of host {host}")),
    }
    // Deleting a request that has ended would withdraw nothing, and its record would be lost.
    let unseen = || {
        format!(
            "you may not read request {name} in host {host}: name the host with -n, and the namespace of your Solution, whose status tells of it, with --from"
        )
    };
    let view = MakersView::open_all(&client, from.as_deref()).await.with_context(unseen)?;
    let Some(entry) = view.of_request(namespace, name) else {
        if view.of_request(None, name).is_some() {
            let hint = makers_view::whereabouts(&client, &host, from.as_deref(), |e| e.request == *name).await;
            return Err(Exit::NotFound.because(format!("request {name} is not one of host {host}: {hint}")));
        }
        bail!(
            "{}. It is not among the newest requests of each stage in namespace {}; what waits still is deleted, which cancels it, with: kubectl delete dr {name} -n {host}",
            unseen(),
            view.namespace
        );
    };
    if Phase::has_ended(&entry.phase) {
        bail!("request {name} of host {} has ended, {}: there is nothing to cancel", entry.host, entry.phase);
    }
    let requests = Api::<DeploymentRequest>::namespaced(client, &entry.host);
    match requests.delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            let done = format!("request {name} of host {} is deleted, which withdraws it", entry.host);
            let what = json!({"metadata": {"name": name, "namespace": entry.host}, "deleted": true});
            out.one(&what, &ask::full_name(name), &done)
        }
        Err(error) if is_forbidden(&error) => Err(error).with_context(|| format!("request {name} of host {} was not canceled", entry.host)),
        Err(kube::Error::Api(status)) => bail!("request {name} of host {} was not canceled: {}", entry.host, status.message),
        Err(error) => Err(error).with_context(|| format!("canceling request {name} of host {}", entry.host)),
    }
}

/// Refuses whoever may read the request, and is not the one who asked for it: they need no Solution that tells of it.
async fn reads_alone(connection: &Connection, host: &str, name: &str) -> anyhow::Result<()> {
    let Ok(Some(request)) = Api::<DeploymentRequest>::namespaced(connection.client(), host).get_opt(name).await else { return Ok(()) };
    let (asked, caller) = (request.spec.requested_by.map(|who| who.username).unwrap_or_default(), connection.caller().await?.username);
    if asked == caller {
        return Ok(());
    }
    Err(Exit::NotAllowed.because(format!(
        "request {name} of host {host} was not canceled: {asked} asked for it, and may withdraw it, and so may an administrator of the host; you are \
         {caller}"
    )))
}
