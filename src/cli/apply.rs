//! Applies manifests exactly as they are printed, as the caller.

use std::fmt::Write as _;

use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};

use super::connection;
use super::exit::Exit;
use crate::api::reference::Identity;

/// The field manager of what is granted.
const FIELD_MANAGER: &str = "kubectl-pilotage";

/// How the policy `pilotage-stage` refuses a stage that does not say who owns it. Newer API servers fill that in.
const OWNER_NOT_FILLED_IN: &str = "spec.owner is not you";

/// The caller as the owner of a stage: without the groups that the API server assigns itself.
async fn owner(client: &Client) -> anyhow::Result<Identity> {
    let mut caller = connection::caller(client).await?;
    caller.groups.retain(|group| !group.starts_with("system:"));
    Ok(caller)
}

/// Applies all objects of `text` in order.
pub(super) async fn all(client: &Client, text: &str) -> anyhow::Result<String> {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(text).context("reading what is to be applied")?;
    let mut done = String::new();
    for mut object in objects {
        let types = object.types.clone().unwrap_or_default();
        let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.name_any();
        let place = object.metadata.namespace.as_ref().map(|n| format!(" of namespace {n}")).unwrap_or_default();
        let what = format!("{} {name}{place}", types.kind);
        // It is forced: somebody may have applied the grant that a condition printed with kubectl, under another field manager. The printed
        // grant now counts.
        let forced = PatchParams::apply(FIELD_MANAGER).force();
        let applied = match api.patch(&name, &forced, &Patch::Apply(&object)).await {
            Err(kube::Error::Api(status)) if object.data["spec"]["owner"].is_null() && status.message.contains(OWNER_NOT_FILLED_IN) => {
                // A stage keeps its owner, whoever writes it.
                let kept = api.get_opt(&name).await.ok().flatten().map(|mut found| found.data["spec"]["owner"].take());
                object.data["spec"]["owner"] = match kept.filter(|owner| !owner.is_null()) {
                    Some(kept) => kept,
                    None => serde_json::to_value(owner(client).await?)?,
                };
                api.patch(&name, &forced, &Patch::Apply(&object)).await
            }
            applied => applied,
        };
        applied.map_err(|error| refused(&done, &what, &error))?;
        let _ = writeln!(done, "{what} applied");
    }
    Ok(done)
}

/// The error if something was refused after other objects were applied. Somebody with the right can run the command again.
fn refused(done: &str, what: &str, error: &kube::Error) -> anyhow::Error {
    let why = match error {
        kube::Error::Api(status) if status.code == 403 && status.message.contains("attempting to grant") => {
            "you can hand on only what you hold yourself: let a cluster administrator run this".to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => format!("you may not write it: {}", status.message),
        other => other.to_string(),
    };
    let code = if matches!(error, kube::Error::Api(status) if status.code == 403) { Exit::NotAllowed } else { Exit::Failed };
    code.because(format!("{done}{what} was refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_says_nobody_is_known_by_how_it_is_refused() {
        assert!(include_str!("../../deploy/admission/stage.yaml").contains(OWNER_NOT_FILLED_IN));
    }
}
