//! Where the content of a request comes from: who develops it, and whether the requester may read that.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::export::unreadable;
use super::observe::get;
use super::scope::Scope;
use crate::api::reference::Identity;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Stage};
use crate::artifact::bundle::Bundle;
use crate::artifact::export::{self, ExportError};
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::cluster::discovery::Discovery;
use crate::identity::access::{Access, Right};
use crate::policy::request::observed::{ExportOutcome, Observed, Place};
use crate::policy::request::rights;
use crate::runtime::controller::ReconcileError;
use crate::runtime::stores::Stores;

/// A stage and its Environment, in the form in which records are compared with them.
pub(crate) fn place(stage: &Stage, environment: &Environment) -> Place {
    Place {
        stage_uid: stage.uid().unwrap_or_default(),
        environment_uid: environment.uid().unwrap_or_default(),
        pipeline: stage.spec.pipeline.clone(),
        stage: stage.name_any(),
        environment: environment.name_any(),
        environment_id: environment.status.as_ref().and_then(|s| s.environment_id.clone()).unwrap_or_default(),
        cluster: environment.cluster_name(),
    }
}

/// The development environments to look into: those of the pipeline, if the request is for a first stage.
pub(super) fn candidates<'a>(pipeline: Option<&'a Pipeline>, stage: Option<&Stage>) -> &'a [String] {
    let is_first = stage.is_some_and(|stage| stage.spec.previous_stage.is_none());
    pipeline.filter(|_| is_first).map(|pipeline| pipeline.spec.development_environments.as_slice()).unwrap_or_default()
}

/// A request that brings a solution which this artifact depends on to the same target, and that was accepted. It ends by itself.
pub(super) fn dependency(
    stores: &Stores,
    host: &str,
    stage: Option<&Stage>,
    artifact: Option<&Artifact>,
) -> Option<Arc<DeploymentRequest>> {
    let target = &stage?.spec.target_environment;
    let leads_there = |other: &DeploymentRequest| {
        let stage = stores.stages.get(&ObjectRef::new(&other.spec.stage).within(host));
        stage.is_some_and(|stage| stage.spec.target_environment == *target)
    };
    let accepted = |other: &DeploymentRequest| other.status.as_ref().is_some_and(|status| status.run.plan.is_some());
    artifact?
        .spec
        .dependencies
        .iter()
        .find_map(|dependency| stores.open_requests_for(host, &dependency.name).find(|other| leads_there(other) && accepted(other)))
}

/// Which rights of the requester are checked before anything is deployed for them.
#[derive(Default)]
pub(super) struct Origin {
    discovery: Option<Arc<Discovery>>,
    /// What was exported, and the namespace that it was exported from.
    exported: Option<(String, Arc<Bundle>)>,
    /// The namespaces with a Solution of that name whose version this request would store from another source.
    developed: Vec<(String, String)>,
    solution: String,
    version: String,
    /// Why what was exported can't be read.
    unusable: Option<Blocked>,
}

impl Origin {
    /// What the requester lacks. `Err` says why it could not be found out.
    pub(super) async fn lacking(&self, access: &Access, requester: &Identity, age: Duration) -> Result<Vec<Blocked>, ReconcileError> {
        let mut lacking = Vec::new();
        for (environment, namespace) in &self.developed {
            let right = Right::on("update", crate::api::GROUP, "solutions", namespace).named(&self.solution);
            if !access.lately(requester, &right, true, age).await? {
                lacking.push(rights::developed_elsewhere(&self.solution, &self.version, environment, requester, &right));
            }
        }
        if let (Some((namespace, bundle)), Some(discovery)) = (&self.exported, &self.discovery) {
            match export::readable(discovery, access, requester, namespace, bundle, age).await {
                Ok(()) => {}
                Err(error @ ExportError::RequesterMayNotRead { .. }) => {
                    lacking.push(Blocked::waits(Wait::Right, error.reason(), error.to_string()));
                }
                Err(error) if error.until() == Until::Wait(Wait::Server) => return Err(ReconcileError::Other(error.to_string())),
                Err(error) => lacking.push(Blocked::waits(Wait::Right, error.reason(), error.to_string())),
            }
        }
        Ok(lacking)
    }

    /// Why there is nothing to check, and whether the request waits for that.
    pub(super) fn unusable(&self) -> Option<&Blocked> {
        self.unusable.as_ref()
    }
}

/// Which rights of the requester are checked: to what was exported, in the namespace that it was exported from, at every stage alike. And
/// whether they may take the next version of what others develop.
pub(super) async fn origin(scope: Scope<'_>, observed: &Observed) -> Result<Origin, ReconcileError> {
    let wanted = &scope.request.spec.solution;
    let mut origin = Origin { solution: wanted.name.clone(), version: wanted.version.clone(), ..Origin::default() };
    let artifact = scope.related.artifact.clone();
    let never_deployed = artifact.as_ref().is_none_or(|artifact| !was_deployed(artifact));
    if observed.request.repository.is_some() && never_deployed {
        origin.developed = scope.related.developed_in.iter().map(|e| (e.name_any(), e.spec.namespace.clone())).collect();
    }
    // The export of this reconciliation has just checked it.
    let asked = matches!(observed.outcomes.export, Some(ExportOutcome::Stored { .. }));
    let Some(artifact) = artifact.filter(|_| !asked) else { return Ok(origin) };
    let Some(namespace) = exported_from(scope, &artifact).await? else { return Ok(origin) };
    match scope.bundle(&artifact).await {
        Ok(bundle) => {
            origin.discovery = Some(scope.cluster.discovery.clone());
            origin.exported = Some((namespace, bundle));
        }
        Err(error) => origin.unusable = Some(unreadable(&error)?),
    }
    Ok(origin)
}

/// The namespace that a stored version was exported from: that of its Environment, or the same namespace if the Environment is gone. If
/// that is gone too, nobody can read it any more. An artifact from a registry was in no namespace. Then the pipeline's `sharedWith`
/// decides.
async fn exported_from(scope: Scope<'_>, artifact: &Artifact) -> Result<Option<String>, ReconcileError> {
    let source = &artifact.spec.source;
    let Some(name) = source.environment.as_deref() else { return Ok(None) };
    let known = scope.related.source.clone().filter(|environment| environment.name_any() == name);
    let environment = match known {
        Some(environment) => Some(environment),
        None => get::<Environment>(scope.cluster, &scope.host(), Some(name)).await?,
    };
    if let Some(environment) = environment {
        return Ok(Some(environment.spec.namespace.clone()));
    }
    let is_it = |namespace: &kube::core::PartialObjectMeta<k8s_openapi::api::core::v1::Namespace>| {
        source.environment_id.is_some() && namespace.metadata.uid == source.environment_id
    };
    Ok(scope.cluster.stores.namespaces.find(is_it).map(|namespace| namespace.name_any()))
}

/// Whether the deployment of an artifact to a target has ever begun.
pub(super) fn was_deployed(artifact: &Artifact) -> bool {
    artifact.status.as_ref().is_some_and(|status| !status.deployments.is_empty())
}
