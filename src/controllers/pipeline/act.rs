//! Writes the Role and the `RoleBindings` of a shared pipeline, and deletes them.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sharing::{self, Sharing, same_metadata};
use crate::api::Pipeline;
use crate::api::names::FIELD_MANAGER;
use crate::api::reason::Reason;
use crate::identity::grants;
use crate::policy::check::{Check, polled};

/// Makes the generated Roles match the pipeline. What matches already is not written. If the operator lacks a right, the returned check
/// fails.
pub(crate) async fn share(client: &Client, pipeline: &Pipeline) -> kube::Result<Check> {
    let host = pipeline.namespace().unwrap_or_default();
    let writer = Writer { roles: Api::namespaced(client.clone(), &host), bindings: Api::namespaced(client.clone(), &host), pipeline };
    let outcome = match sharing::desired(pipeline) {
        Some(sharing) => writer.grant(&sharing).await,
        None => writer.take_back().await,
    };
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(Stop::NotOurs(what)) => Ok(polled(
            Reason::NameTaken,
            format!(
                "{what} in namespace {host} was not made by Pilotage for this pipeline, so Pilotage does not change it: delete or rename it"
            ),
        )),
        Err(Stop::Api(Error::Api(status))) if status.code == 403 => Ok(polled(
            Reason::OperatorLacksHostRole,
            format!(
                "the operator may not share pipelines in namespace {host}; an administrator applies:\n{}",
                grants::operator_in_host(&host)
            ),
        )),
        // The pipeline's status says it, or nobody would learn of it: for example that an admission policy refuses.
        Err(Stop::Api(Error::Api(status)))
            if status.is_failure() && matches!(status.code, 400..=499) && !matches!(status.code, 409 | 429) =>
        {
            Ok(polled(
                Reason::SharingRefused,
                format!("the API server refused to share the pipeline in namespace {host}: {}", status.message),
            ))
        }
        Err(Stop::Api(error)) => Err(error),
    }
}

/// Why sharing stopped.
enum Stop {
    /// An object of that name belongs to somebody else.
    NotOurs(String),
    /// The API server refused, or could not be reached.
    Api(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

struct Writer<'a> {
    roles: Api<Role>,
    bindings: Api<RoleBinding>,
    pipeline: &'a Pipeline,
}

impl Writer<'_> {
    async fn grant(&self, sharing: &Sharing) -> Result<(), Stop> {
        // The Role is written first: a binding to a Role that does not exist grants nothing and gives no error.
        let live = self.find(&self.roles, &sharing.role).await?;
        if !live.is_some_and(|live| same_metadata(&live.metadata, &sharing.role.metadata) && live.rules == sharing.role.rules) {
            apply(&self.roles, &sharing.role).await?;
        }
        futures::try_join!(self.bind(&sharing.binding), self.bind(&sharing.requests))?;
        Ok(())
    }

    async fn bind(&self, desired: &RoleBinding) -> Result<(), Stop> {
        if let Some(live) = self.find(&self.bindings, desired).await? {
            if live.role_ref != desired.role_ref {
                // The role of a binding can't be changed.
                delete(&self.bindings, &live).await?;
            } else if same_metadata(&live.metadata, &desired.metadata) && live.subjects == desired.subjects {
                return Ok(());
            }
        }
        Ok(apply(&self.bindings, desired).await?)
    }

    async fn take_back(&self) -> Result<(), Stop> {
        let (name, requests) = sharing::names(self.pipeline);
        futures::try_join!(self.remove(&self.bindings, &name), self.remove(&self.bindings, &requests), self.remove(&self.roles, &name))?;
        Ok(())
    }

    async fn remove<K>(&self, api: &Api<K>, name: &str) -> Result<(), Stop>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        match api.get_opt(name).await? {
            Some(live) if sharing::is_ours(&live, self.pipeline) => Ok(delete(api, &live).await?),
            // An object of somebody else is left alone: there is nothing to share.
            Some(_) | None => Ok(()),
        }
    }

    async fn find<K>(&self, api: &Api<K>, desired: &K) -> Result<Option<K>, Stop>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        match api.get_opt(&desired.name_any()).await? {
            Some(live) if !sharing::is_ours(&live, self.pipeline) => Err(Stop::NotOurs(format!("{} {}", K::kind(&()), live.name_any()))),
            live => Ok(live),
        }
    }
}

async fn apply<K>(api: &Api<K>, desired: &K) -> kube::Result<()>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    // It is forced: what somebody changed in a generated object is corrected.
    api.patch(&desired.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(desired)).await.map(|_| ())
}

async fn delete<K>(api: &Api<K>, live: &K) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let preconditions = Preconditions { uid: live.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&live.name_any(), &params).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}
