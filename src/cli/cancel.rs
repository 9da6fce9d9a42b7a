//! `kubectl pilotage cancel`: a request is withdrawn, by whichever way its requester has.

use anyhow::{Context, bail};
use clap::Args;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::ask::is_forbidden;
use super::ask::window::{self, Window};
use crate::api::DeploymentRequest;
use crate::api::phase::Phase;

/// Withdraw a request before it deploys. It can't be taken back. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct CancelArgs {
    /// The request.
    request: String,
    /// The namespace of the Solution, whose status says what you may not read in the host; left out, that of the current context.
    #[arg(long, value_name = "NAMESPACE")]
    from: Option<String>,
}

/// Withdraws it: by its field where the caller may patch, else by deleting it, which does the same before it deploys.
///
/// # Errors
/// Where it has started or has ended, or is not the caller's.
pub async fn run(client: Client, namespace: Option<String>, args: CancelArgs) -> anyhow::Result<String> {
    let name = &args.request;
    let host = namespace.as_deref().unwrap_or_else(|| client.default_namespace()).to_owned();
    let requests = Api::<DeploymentRequest>::namespaced(client.clone(), &host);
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    match requests.patch(name, &PatchParams::default(), &patch).await {
        Ok(_) => return Ok(format!("request {name} of host {host} is withdrawn\n")),
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("cannot patch resource") => {}
        Err(kube::Error::Api(status)) => bail!("request {name} of host {host} was not canceled: {}", status.message),
        Err(error) => return Err(error).with_context(|| format!("canceling request {name} of host {host}")),
    }
    // To delete what has ended would withdraw nothing, and lose it.
    let unseen = || {
        format!(
            "you may not read request {name} in host {host}: name the host with -n, and the namespace of your Solution, whose status tells of it, with --from"
        )
    };
    let window = Window::open_all(&client, args.from.as_deref()).await.with_context(unseen)?;
    let Some(entry) = window.of_request(namespace.as_deref(), name) else {
        if window.of_request(None, name).is_some() {
            let hint = window::whereabouts(&client, &host, args.from.as_deref(), |e| e.request == *name).await;
            bail!("request {name} is not one of host {host}: {hint}");
        }
        bail!(
            "{}. It is not among the newest requests of each stage in namespace {}; what waits still is deleted, which cancels it, with: kubectl delete dr {name} -n {host}",
            unseen(),
            window.namespace
        );
    };
    if Phase::has_ended(&entry.phase) {
        bail!("request {name} of host {} has ended, {}: there is nothing to cancel", entry.host, entry.phase);
    }
    let requests = Api::<DeploymentRequest>::namespaced(client, &entry.host);
    match requests.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(format!("request {name} of host {} is deleted, which withdraws it\n", entry.host)),
        Err(error) if is_forbidden(&error) => Err(error).with_context(|| format!("request {name} of host {} was not canceled", entry.host)),
        Err(kube::Error::Api(status)) => bail!("request {name} of host {} was not canceled: {}", entry.host, status.message),
        Err(error) => Err(error).with_context(|| format!("canceling request {name} of host {}", entry.host)),
    }
}
