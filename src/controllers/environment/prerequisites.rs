//! Reads the prerequisites of an environment, with the operator's own client and what the namespace granted it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersion, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, Error};

use crate::api::environment::Prerequisite;
use crate::identity::access::Right;
use crate::policy::environment::{PrerequisiteState, PrerequisiteView};
use crate::policy::readiness;

/// The kinds that prerequisites were of, as the cluster serves them.
#[derive(Default)]
pub struct Kinds {
    known: Mutex<HashMap<GroupVersionKind, ApiResource>>,
}

/// How a kind can be read.
enum Kind {
    Served(ApiResource),
    Not(PrerequisiteState),
}

/// Reads one prerequisite. What the API server says about it is its state; only where nothing could be learned it is an error.
pub async fn read(client: &Client, kinds: &Kinds, namespace: &str, prerequisite: &Prerequisite) -> kube::Result<PrerequisiteView> {
    let state = match kinds.find(client, prerequisite).await? {
        Kind::Served(resource) => get(client, &resource, namespace, prerequisite).await?,
        Kind::Not(state) => state,
    };
    Ok(PrerequisiteView { kind: prerequisite.kind.clone(), name: prerequisite.name.clone(), state })
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
        Err(error) => return Err(error),
    })
}

impl Kinds {
    async fn find(&self, client: &Client, prerequisite: &Prerequisite) -> kube::Result<Kind> {
        let Prerequisite { api_version, kind, .. } = prerequisite;
        let Ok(version) = api_version.parse::<GroupVersion>() else {
            return Ok(Kind::Not(PrerequisiteState::Unserved(format!("{api_version} is not an API version"))));
        };
        if version.group.is_empty() && kind == "Secret" {
            // To read one object is to read its content, and the operator shall not hold the Secrets of environments.
            let why = "the operator does not read Secrets; name the object that makes the Secret".to_owned();
            return Ok(Kind::Not(PrerequisiteState::NotAllowed(why)));
        }
        let gvk = version.with_kind(kind);
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&gvk) {
            return Ok(Kind::Served(known.clone()));
        }
        Ok(match pinned_kind(client, &gvk).await {
            Ok((resource, capabilities)) if capabilities.scope == Scope::Namespaced => {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(gvk, resource.clone());
                Kind::Served(resource)
            }
            Ok(_) => Kind::Not(PrerequisiteState::NotAllowed("it lies in no namespace".to_owned())),
            Err(Error::Discovery(_)) => Kind::Not(unserved(prerequisite)),
            Err(Error::Api(status)) if status.code == 404 => Kind::Not(unserved(prerequisite)),
            Err(Error::Api(status)) => {
                Kind::Not(PrerequisiteState::NotReady(format!("could not be looked up ({} {})", status.code, status.reason)))
            }
            Err(error) => return Err(error),
        })
    }
}

fn unserved(prerequisite: &Prerequisite) -> PrerequisiteState {
    PrerequisiteState::Unserved(format!("the cluster has no kind {} in {}", prerequisite.kind, prerequisite.api_version))
}
