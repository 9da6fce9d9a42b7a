//! Reads the prerequisites of an environment. It uses the operator's own client, or that of a kubeconfig, with the rights that the
//! namespace granted.

use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::{Client, Error};

use crate::api::environment::Prerequisite;
use crate::cluster::discovery::Discovery;
use crate::cluster::object;
use crate::identity::access::Right;
use crate::policy::environment::{PrerequisiteState, PrerequisiteView};
use crate::policy::readiness;

/// Reads one prerequisite. What the API server says about it is its state. It is an error only if nothing could be learned.
pub(crate) async fn read(
    discovery: &Discovery,
    client: &Client,
    namespace: &str,
    prerequisite: &Prerequisite,
) -> kube::Result<PrerequisiteView> {
    let Prerequisite { api_version, kind, name, .. } = prerequisite;
    let state = if !object::is_plain_name(name) {
        PrerequisiteState::Unserved(format!("no object can be called {name:?}: correct spec.prerequisites"))
    } else if api_version == "v1" && kind == "Secret" {
        // Reading an object means reading its content, and the operator must not get the Secrets of environments.
        PrerequisiteState::NotAllowed("the operator does not read Secrets; name the object that makes the Secret".to_owned())
    } else {
        match discovery.resource_for(api_version, kind).await? {
            Some(resource) => get(client, &resource, namespace, prerequisite).await?,
            None => PrerequisiteState::Unserved(format!("the cluster has no kind {kind} in {api_version}")),
        }
    };
    Ok(PrerequisiteView { kind: kind.clone(), name: name.clone(), state })
}

async fn get(client: &Client, resource: &ApiResource, namespace: &str, prerequisite: &Prerequisite) -> kube::Result<PrerequisiteState> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    Ok(match api.get_opt(&prerequisite.name).await {
        Ok(None) => PrerequisiteState::Absent,
        Ok(Some(object)) => {
            let object = serde_json::to_value(&object).map_err(Error::SerdeError)?;
            match readiness::of(&object, prerequisite.condition.as_deref()) {
                Ok(()) => PrerequisiteState::Ready,
                Err(why) => PrerequisiteState::NotReady(why),
            }
        }
        Err(Error::Api(status)) if status.code == 403 => {
            PrerequisiteState::Forbidden(Right::on("get", &resource.group, &resource.plural, namespace).named(&prerequisite.name))
        }
        Err(Error::Api(status)) => PrerequisiteState::NotReady(format!("could not be read ({} {})", status.code, status.reason)),
        Err(Error::SerdeError(error)) => PrerequisiteState::NotReady(format!("can't be read: {error}")),
        Err(error) => return Err(error),
    })
}
