//! Step `Export`: the artifact is stored, and this requester may use it.

use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;

use super::foreign::{self, means_development};
use super::observe::{self, RelatedObjects};
use super::registry;
use super::scope::Scope;
use crate::api::artifact::ArtifactOrigin;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::api::{Artifact, Environment, Solution};
use crate::artifact::bundle::Bundle;
use crate::artifact::export::{self, ExportError, Exported, Source};
use crate::artifact::store::{NewArtifact, StoreError, Stored};
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::identity::answers::RECENT;
use crate::policy::request::observed::{ExportOutcome, Observed};
use crate::policy::versions;
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;
use crate::runtime::trimmed;

/// The result of an export, and the related objects if they were read again or stored.
pub(super) struct ExportFound {
    pub(super) outcome: ExportOutcome,
    pub(super) related: Option<RelatedObjects>,
}

impl From<ExportOutcome> for ExportFound {
    fn from(outcome: ExportOutcome) -> Self {
        Self { outcome, related: None }
    }
}

impl ExportFound {
    /// The result, if objects were read live before. Objects that a later read found count more.
    pub(super) fn having_read(self, related: RelatedObjects) -> Self {
        Self { related: self.related.or(Some(related)), ..self }
    }
}

/// Whether a version is about to be exported and the Solution is only known from the cache.
pub(super) fn lacks_solution(related: &RelatedObjects) -> bool {
    related.artifact.is_none() && related.solution.as_deref().is_some_and(trimmed::is_shortened)
}

/// Reads the Solution live. Its version is checked again, on exactly what is then exported.
pub(super) async fn read_solution(cluster: &Cluster, mut related: RelatedObjects) -> Result<RelatedObjects, ReconcileError> {
    if let Some(known) = related.solution.take() {
        let namespace = known.namespace().unwrap_or_default();
        related.solution = observe::get::<Solution>(cluster, &namespace, Some(&known.name_any())).await?;
    }
    Ok(related)
}

/// Exports the version, or finds that it is stored already.
pub(super) async fn export(scope: Scope<'_>, observed: &Observed) -> Result<ExportFound, ReconcileError> {
    if let Some(refused) = scope.cluster.artifacts.refused(&scope.host(), &scope.request.spec.solution) {
        return unusable(&refused);
    }
    let Some(artifact) = &scope.related.artifact else { return export_anew(scope, observed).await };
    if means_development(scope, observed) && artifact.spec.source.oci.is_some() {
        return foreign::instead_of_foreign(scope, observed).await;
    }
    match scope.bundle(artifact).await {
        Ok(_) => {
            if let Err(error) = scope.cluster.artifacts.tagged(artifact).await {
                return unusable(&error);
            }
            Ok(reuse(scope, observed, artifact).await?.into())
        }
        // Altered bytes are not exported again: the plan refuses them and says so.
        Err(StoreError::Altered { .. }) => Ok(reuse(scope, observed, artifact).await?.into()),
        Err(missing @ (StoreError::Incomplete { .. } | StoreError::Lost { .. })) => export_again(scope, observed, artifact, &missing).await,
        Err(error) => unusable(&error),
    }
}

fn unusable(error: &StoreError) -> Result<ExportFound, ReconcileError> {
    Ok(ExportOutcome::Blocked(unreadable(error)?).into())
}

/// If parts of a stored version are missing, it is exported again from where it came, as long as the Solution is still at this version.
/// A crash may have left the record without its chunks: then nobody has seen its digest. Or a registry may have lost what people approved.
async fn export_again(
    scope: Scope<'_>,
    observed: &Observed,
    artifact: &Artifact,
    missing: &StoreError,
) -> Result<ExportFound, ReconcileError> {
    let other = match &artifact.spec.source.oci {
        Some(origin) => registry::taken_elsewhere(scope, observed, artifact, origin),
        None => source_of(scope, observed, artifact).err(),
    };
    if let Some(other) = other {
        return Ok(other.into());
    }
    if artifact.spec.source.oci.is_some() {
        return export_anew(scope, observed).await;
    }
    // It is read live, because the version was raised for exactly what is stored under it.
    let related = observe::live(scope.cluster, scope.request).await?;
    let wanted = &scope.request.spec.solution;
    let found = match related.solution.as_ref().filter(|s| s.spec.version != wanted.version) {
        None => export_anew(scope.with(&related), observed).await?,
        Some(solution) => match unreadable(missing)? {
            waits if waits.may_pass() => ExportOutcome::Blocked(waits).into(),
            _ => ExportOutcome::Blocked(Blocked { until: Until::End,
                    reason: Reason::VersionDiffers,
                    message: format!(
                        "{missing}: solution {} in development environment {} is at version {} now, so that {} can't be exported again. Set the \
                         Solution's spec.version back, or ask for {}",
                        wanted.name,
                        related.source.as_ref().map(|s| s.name_any()).unwrap_or_default(),
                        solution.spec.version,
                        wanted.version,
                        solution.spec.version
                    ),
                }).into(),
        },
    };
    Ok(found.having_read(related))
}

/// A stored version may be used by everybody who may read what it was exported from.
async fn reuse(scope: Scope<'_>, observed: &Observed, artifact: &Artifact) -> Result<ExportOutcome, ReconcileError> {
    if let Some(origin) = &artifact.spec.source.oci {
        return registry::reuse(scope, observed, artifact, origin).await;
    }
    let (source, requester) = match source_of(scope, observed, artifact) {
        Ok(found) => found,
        Err(fact) => return Ok(fact),
    };
    let bundle = match scope.bundle(artifact).await {
        Ok(bundle) => bundle,
        Err(error) => return Ok(ExportOutcome::Blocked(unreadable(&error)?)),
    };
    if let Err(error) =
        export::readable(&scope.cluster.discovery, &scope.cluster.access, &requester, &source.spec.namespace, &bundle, RECENT).await
    {
        return not_exported(&error);
    }
    Ok(ExportOutcome::Stored { digest: artifact.spec.digest.clone() })
}

/// The development environment that a stored version was exported from, and the requester. Otherwise why this request can't use it.
fn source_of(scope: Scope<'_>, observed: &Observed, artifact: &Artifact) -> Result<(Arc<Environment>, Identity), ExportOutcome> {
    let what = format!("{} {}", artifact.spec.solution.name, artifact.spec.solution.version);
    let elsewhere =
        |message: String| Err(ExportOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ExportedElsewhere, message }));
    let named = scope.request.spec.source_environment.as_ref();
    let origin = artifact.spec.source.environment.as_ref();
    if let Some(wanted) = &observed.request.registry_source {
        return elsewhere(format!(
            "{what} was exported from environment {}: a version has one source for ever. Raise the version to ship {wanted}",
            origin.map_or("that is not known", String::as_str)
        ));
    }
    if let (Some(named), Some(origin)) = (named, origin)
        && named != origin
    {
        return elsewhere(format!(
            "{what} was exported from environment {origin}: a version has one source for ever. Raise the version to ship it from {named}"
        ));
    }
    let (Some(source), Some(requester)) = (scope.related.source.clone(), observed.request.requester.clone()) else {
        return Err(ExportOutcome::Blocked(Blocked {
            until: Until::Wait(Wait::Somebody),
            reason: Reason::EnvironmentNotFound,
            message: "the development environment that the version was exported from does not exist any more".into(),
        }));
    };
    if !observed.pipeline.present().is_some_and(|p| p.development_environments.contains(&source.name_any())) {
        return elsewhere(format!(
            "{what} was exported from environment {}, which is not a development environment of pipeline {}. Raise the version",
            source.name_any(),
            observed.request.pipeline
        ));
    }
    Ok((source, requester))
}

/// Stores a version if there is room for it. What only plans gets it as it would be stored.
pub(super) async fn save(scope: Scope<'_>, new: NewArtifact) -> Result<Stored, StoreError> {
    let (host, environment) = (scope.host(), new.source.environment.clone());
    if scope.request.spec.plan_only {
        // The version stays open until it is deployed.
        let artifact = scope.cluster.artifacts.unsaved(&host, new, Timestamp::now()).await?;
        return Ok(Stored { artifact, is_same: true });
    }
    let name = observe::artifact_name(scope.request);
    let full = |bytes| scope.cluster.rooms.take(&host, &name, environment.as_deref(), bytes);
    scope.cluster.artifacts.save_within(&full, &host, new, Timestamp::now()).await
}

/// Why there is no room for anything new, if that is known before the content is read. Large content goes to a registry.
pub(super) fn no_room(scope: Scope<'_>, environment: Option<&str>) -> Option<ExportOutcome> {
    if scope.related.artifact.is_some() || scope.request.spec.plan_only || scope.cluster.options.artifact_store.is_some() {
        return None;
    }
    let message = scope.cluster.rooms.full(&scope.host(), environment)?;
    Some(ExportOutcome::Blocked(Blocked { until: Until::Wait(Wait::Somebody), reason: Reason::StorageFull, message }))
}

pub(super) async fn export_anew(scope: Scope<'_>, observed: &Observed) -> Result<ExportFound, ReconcileError> {
    // Missing parts of a stored version are fetched again from where they came.
    let left = scope.related.artifact.as_ref().filter(|_| scope.request.spec.source_environment.is_none());
    let left = left.and_then(|artifact| artifact.spec.source.oci.clone());
    if let Some(source) = observed.request.registry_source.clone().or(left) {
        return registry::fetch(scope, observed, &source).await;
    }
    let (Some(source), Some(solution), Some(requester)) =
        (scope.related.source.clone(), scope.related.solution.clone(), observed.request.requester.clone())
    else {
        return Ok(ExportOutcome::Blocked(Blocked {
            until: Until::Wait(Wait::Somebody),
            reason: Reason::SolutionNotFound,
            message: "the solution does not exist in the development environment any more".into(),
        })
        .into());
    };
    if let Some(full) = no_room(scope, Some(&source.name_any())) {
        return Ok(full.into());
    }
    if trimmed::is_shortened(solution.as_ref()) {
        // The next decision is made on the current Solution.
        return Err(ReconcileError::Overtaken);
    }
    let selector = match export::selector_text(&solution.name_any(), &solution.spec) {
        Ok(selector) => selector,
        Err(error) => return Ok(not_exported(&error)?.into()),
    };
    let from = Source {
        client: scope.cluster.clients.operator(),
        discovery: &scope.cluster.discovery,
        access: &scope.cluster.access,
        namespace: &source.spec.namespace,
        environment: &source.name_any(),
        cluster_scoped: &source.spec.cluster_scoped,
        selector: &selector,
        components: &solution.spec.components,
        requester: &requester,
    };
    let Exported { bundle, cluster_scoped, not_listed, reported_on } = match export::export(&from).await {
        Ok(exported) => exported,
        Err(error) => return Ok(not_exported(&error)?.into()),
    };
    let bundle = Arc::new(bundle);
    let origin = ArtifactOrigin {
        environment: Some(source.name_any()),
        environment_id: source.status.as_ref().and_then(|s| s.environment_id.clone()),
        oci: None,
    };
    let new = NewArtifact {
        solution: scope.request.spec.solution.clone(),
        source: origin.clone(),
        exported_by: requester,
        developed_at: Some(
            versions::first_seen(&solution, &solution.spec.version).unwrap_or_else(|| versions::appeared(&solution, Timestamp::now())),
        ),
        bundle: bundle.clone(),
        cluster_scoped,
        not_listed,
        reported_on,
        environment_variables: solution.spec.environment_variables.clone(),
        connection_references: solution.spec.connection_references.clone(),
        dependencies: solution.spec.dependencies.clone(),
    };
    let stored = save(scope, new).await;
    found_stored(scope, observed, stored, &origin, bundle).await
}

/// The result of storing a bundle that came from `source`.
pub(super) async fn found_stored(
    scope: Scope<'_>,
    observed: &Observed,
    stored: Result<Stored, StoreError>,
    source: &ArtifactOrigin,
    bundle: Arc<Bundle>,
) -> Result<ExportFound, ReconcileError> {
    let Stored { artifact, is_same } = match stored {
        Ok(stored) => stored,
        Err(error) if error.until() == Until::End && error.of_place().is_none() => {
            return Ok(
                ExportOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ArtifactRefused, message: error.to_string() }).into()
            );
        }
        Err(error) => return unusable(&error),
    };
    let digest = artifact.spec.digest.clone();
    if !is_same || artifact.spec.source != *source {
        // Somebody else stored this version first. Then theirs is deployed, by the rules for stored versions.
        let related = observe::live(scope.cluster, scope.request).await?;
        let scope = scope.with(&related);
        let outcome = match &artifact.spec.source.oci {
            Some(origin) if means_development(scope, observed) => foreign::foreign(scope, &artifact, origin, ""),
            _ => reuse(scope, observed, &artifact).await?,
        };
        return Ok(ExportFound { outcome, related: Some(related) });
    }
    scope.bundles.keep(&digest, bundle);
    let related = RelatedObjects { artifact: Some(Arc::new(artifact)), ..scope.related.clone() };
    Ok(ExportFound { outcome: ExportOutcome::Stored { digest }, related: Some(related) })
}

/// Why the artifact can't be read or stored. If its registry can't be used now, the request waits. `Err` is an error after which the
/// reconciliation is repeated.
pub(super) fn unreadable(error: &StoreError) -> Result<Blocked, ReconcileError> {
    match (error.until(), error.of_place()) {
        (Until::End, reason) => Ok(Blocked::ends(reason.unwrap_or(Reason::ArtifactAltered), error.to_string())),
        (until, Some(reason)) => Ok(Blocked { reason, message: error.to_string(), until }),
        (_, None) => Err(ReconcileError::Transient(error.to_string())),
    }
}

fn not_exported(error: &ExportError) -> Result<ExportOutcome, ReconcileError> {
    match error.until() {
        Until::Wait(Wait::Server) => Err(ReconcileError::Transient(error.to_string())),
        until => Ok(ExportOutcome::Blocked(Blocked { reason: error.reason(), message: error.to_string(), until })),
    }
}
