//! Step `Export`: the artifact is stored, and this requester may use it.

use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;

use super::observe;
use super::reconciliation::Reconciliation;
use crate::api::artifact::ArtifactOrigin;
use crate::api::reference::Identity;
use crate::api::{Artifact, Environment, Solution};
use crate::artifact::bundle::Bundle;
use crate::artifact::export::{self, ExportError, Exported, Source};
use crate::artifact::store::{NewArtifact, StoreError, Stored};
use crate::cluster::failure::Failure;
use crate::identity::answers::RECENT;
use crate::policy::request::observed::{ExportOutcome, Observed, Obstacle};
use crate::policy::storage::STORAGE_FULL;
use crate::runtime::controller::ReconcileError;
use crate::runtime::trimmed;

impl Reconciliation {
    /// The artifact's objects: read from the store once in a pass, and verified there.
    pub(super) async fn bundle(&mut self, artifact: &Artifact) -> Result<Arc<Bundle>, StoreError> {
        if let Some((digest, bundle)) = &self.bundle
            && *digest == artifact.spec.digest
        {
            return Ok(bundle.clone());
        }
        let bundle = self.cluster.artifacts.load(artifact).await?;
        self.bundle = Some((artifact.spec.digest.clone(), bundle.clone()));
        Ok(bundle)
    }

    /// Whether a version is about to be exported, and the Solution is known as the cache keeps it.
    pub(super) fn lacks_solution(&self) -> bool {
        self.related.artifact.is_none() && self.related.solution.as_deref().is_some_and(trimmed::is_shortened)
    }

    /// Reads the Solution live: its version is judged once more on what is then exported.
    pub(super) async fn read_solution(&mut self) -> Result<(), ReconcileError> {
        let Some(known) = self.related.solution.take() else { return Ok(()) };
        let namespace = known.namespace().unwrap_or_default();
        self.related.solution = observe::get::<Solution>(&self.cluster, &namespace, Some(&known.name_any())).await?;
        Ok(())
    }

    /// Exports, or finds the version stored already.
    pub(super) async fn export(&mut self, observed: &Observed) -> Result<ExportOutcome, ReconcileError> {
        if let Some(refused) = self.cluster.artifacts.refused(&self.host(), &self.request.spec.solution) {
            return Ok(Unusable::of(&refused)?.into());
        }
        let Some(artifact) = self.related.artifact.clone() else { return self.export_anew(observed).await };
        if self.means_development(observed) && artifact.spec.source.oci.is_some() {
            return self.instead_of_foreign(observed).await;
        }
        match self.bundle(&artifact).await {
            Ok(_) => {
                if let Err(error) = self.cluster.artifacts.tagged(&artifact).await {
                    return Ok(Unusable::of(&error)?.into());
                }
                self.reuse(observed, &artifact).await
            }
            // Altered bytes are not exported over: the plan refuses them and says so.
            Err(StoreError::Altered { .. }) => self.reuse(observed, &artifact).await,
            Err(missing @ (StoreError::Incomplete { .. } | StoreError::Lost { .. })) => {
                self.export_again(observed, &artifact, &missing).await
            }
            Err(error) => Ok(Unusable::of(&error)?.into()),
        }
    }

    /// What is missing of a stored version is exported again from where it came, while that is still at this version: a crash left the
    /// record without its chunks, and nobody was shown its digest, or a registry lost what people may have approved.
    async fn export_again(
        &mut self,
        observed: &Observed,
        artifact: &Artifact,
        missing: &StoreError,
    ) -> Result<ExportOutcome, ReconcileError> {
        let other = match &artifact.spec.source.oci {
            Some(origin) => self.taken_elsewhere(observed, artifact, origin),
            None => self.source_of(observed, artifact).err(),
        };
        if let Some(other) = other {
            return Ok(other);
        }
        if artifact.spec.source.oci.is_none() {
            // Read live: what is stored under a version is what it was raised for.
            self.related = observe::live(&self.cluster, &self.request).await?;
            let wanted = &self.request.spec.solution;
            if let Some(solution) = self.related.solution.as_ref().filter(|s| s.spec.version != wanted.version) {
                return match Unusable::of(missing)? {
                    waits @ Unusable::Waits(_) => Ok(waits.into()),
                    Unusable::Ends(_) => Ok(ExportOutcome::Refused(Obstacle {
                        reason: "VersionDiffers".into(),
                        message: format!(
                            "{missing}: solution {} in development environment {} is at version {} now, so that {} can't be exported again. Set the \
                             Solution's spec.version back, or ask for {}",
                            wanted.name,
                            self.related.source.as_ref().map(|s| s.name_any()).unwrap_or_default(),
                            solution.spec.version,
                            wanted.version,
                            solution.spec.version
                        ),
                    })),
                };
            }
        }
        self.export_anew(observed).await
    }

    /// A stored version is used by whoever may read what it was exported from.
    async fn reuse(&mut self, observed: &Observed, artifact: &Artifact) -> Result<ExportOutcome, ReconcileError> {
        if let Some(origin) = &artifact.spec.source.oci {
            return self.reuse_of_registry(observed, artifact, origin).await;
        }
        let (source, requester) = match self.source_of(observed, artifact) {
            Ok(found) => found,
            Err(fact) => return Ok(fact),
        };
        let bundle = match self.bundle(artifact).await {
            Ok(bundle) => bundle,
            Err(error) => return Ok(Unusable::of(&error)?.into()),
        };
        if let Err(error) =
            export::readable(&self.cluster.discovery, &self.cluster.access, &requester, &source.spec.namespace, &bundle, RECENT).await
        {
            return export_obstacle(&error);
        }
        Ok(ExportOutcome::Stored { digest: artifact.spec.digest.clone() })
    }

    /// The development environment that a stored version was exported from, and who asks for it; else why it is not for this request.
    fn source_of(&self, observed: &Observed, artifact: &Artifact) -> Result<(Arc<Environment>, Identity), ExportOutcome> {
        let what = format!("{} {}", artifact.spec.solution.name, artifact.spec.solution.version);
        let elsewhere = |message: String| Err(ExportOutcome::Refused(Obstacle { reason: "ExportedElsewhere".into(), message }));
        let named = self.request.spec.source_environment.as_ref();
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
        let (Some(source), Some(requester)) = (self.related.source.clone(), observed.request.requester.clone()) else {
            return Err(ExportOutcome::Missing(Obstacle {
                reason: "EnvironmentNotFound".into(),
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

    /// Stores a version, as far as there is room for it.
    pub(super) async fn save(&self, new: NewArtifact) -> Result<Stored, StoreError> {
        let (host, environment) = (self.host(), new.source.environment.clone());
        let name = observe::artifact_name(&self.request);
        let full = |bytes| self.cluster.rooms.take(&host, &name, environment.as_deref(), bytes);
        self.cluster.artifacts.save_within(&full, &host, new, Timestamp::now()).await
    }

    /// Why there is no room for anything new, where that is known before it is read. A registry takes what is large.
    pub(super) fn no_room(&self, environment: Option<&str>) -> Option<ExportOutcome> {
        if self.related.artifact.is_some() || self.cluster.options.artifact_store.is_some() {
            return None;
        }
        let message = self.cluster.rooms.full(&self.host(), environment)?;
        Some(ExportOutcome::Missing(Obstacle { reason: STORAGE_FULL.into(), message }))
    }

    pub(super) async fn export_anew(&mut self, observed: &Observed) -> Result<ExportOutcome, ReconcileError> {
        // What is missing of a stored version is fetched again from where it came.
        let left = self.related.artifact.as_ref().filter(|_| self.request.spec.source_environment.is_none());
        let left = left.and_then(|artifact| artifact.spec.source.oci.clone());
        if let Some(source) = observed.request.registry_source.clone().or(left) {
            return self.fetch(observed, &source).await;
        }
        let (Some(source), Some(solution), Some(requester)) =
            (self.related.source.clone(), self.related.solution.clone(), observed.request.requester.clone())
        else {
            return Ok(ExportOutcome::Missing(Obstacle {
                reason: "SolutionNotFound".into(),
                message: "the solution does not exist in the development environment any more".into(),
            }));
        };
        if let Some(full) = self.no_room(Some(&source.name_any())) {
            return Ok(full);
        }
        if trimmed::is_shortened(solution.as_ref()) {
            // Decided again on the Solution as it is.
            return Err(ReconcileError::Overtaken);
        }
        let selector = match export::selector_text(&solution.name_any(), &solution.spec) {
            Ok(selector) => selector,
            Err(error) => return export_obstacle(&error),
        };
        let from = Source {
            client: self.cluster.clients.operator(),
            discovery: &self.cluster.discovery,
            access: &self.cluster.access,
            namespace: &source.spec.namespace,
            environment: &source.name_any(),
            cluster_scoped: &source.spec.cluster_scoped,
            selector: &selector,
            components: &solution.spec.components,
            requester: &requester,
        };
        let Exported { bundle, cluster_scoped, not_listed, reported_on } = match export::export(&from).await {
            Ok(exported) => exported,
            Err(error) => return export_obstacle(&error),
        };
        let bundle = Arc::new(bundle);
        let origin = ArtifactOrigin {
            environment: Some(source.name_any()),
            environment_id: source.status.as_ref().and_then(|s| s.environment_id.clone()),
            oci: None,
        };
        let new = NewArtifact {
            solution: self.request.spec.solution.clone(),
            source: origin.clone(),
            exported_by: requester,
            bundle: bundle.clone(),
            cluster_scoped,
            not_listed,
            reported_on,
            environment_variables: solution.spec.environment_variables.clone(),
            connection_references: solution.spec.connection_references.clone(),
            dependencies: solution.spec.dependencies.clone(),
        };
        let stored = self.save(new).await;
        self.stored(observed, stored, &origin, bundle).await
    }

    /// What became of storing a bundle that came from there.
    pub(super) async fn stored(
        &mut self,
        observed: &Observed,
        stored: Result<Stored, StoreError>,
        source: &ArtifactOrigin,
        bundle: Arc<Bundle>,
    ) -> Result<ExportOutcome, ReconcileError> {
        let Stored { artifact, is_same } = match stored {
            Ok(stored) => stored,
            Err(error) if error.failure() == Failure::Refused && error.of_place().is_none() => {
                return Ok(ExportOutcome::Refused(Obstacle { reason: "ArtifactRefused".into(), message: error.to_string() }));
            }
            Err(error) => return Ok(Unusable::of(&error)?.into()),
        };
        let digest = artifact.spec.digest.clone();
        if !is_same || artifact.spec.source != *source {
            // Somebody else stored this version first: what is deployed is theirs, by the rules for what is stored.
            self.related = observe::live(&self.cluster, &self.request).await?;
            if self.means_development(observed)
                && let Some(origin) = &artifact.spec.source.oci
            {
                return Ok(self.foreign(&artifact, origin, ""));
            }
            return self.reuse(observed, &artifact).await;
        }
        self.bundle = Some((digest.clone(), bundle));
        self.related.artifact = Some(Arc::new(artifact));
        Ok(ExportOutcome::Stored { digest })
    }
}

/// What becomes of a request whose artifact can't be read or stored.
pub(super) enum Unusable {
    /// It is waited for: the registry that it is kept in can't be used now.
    Waits(Obstacle),
    /// It never will be as it is.
    Ends(Obstacle),
}

impl Unusable {
    /// `Err` is what the pass is repeated for.
    pub(super) fn of(error: &StoreError) -> Result<Self, ReconcileError> {
        let obstacle = |reason: &str| Obstacle { reason: reason.into(), message: error.to_string() };
        match (error.failure(), error.of_place()) {
            (Failure::Refused, reason) => Ok(Self::Ends(obstacle(reason.unwrap_or("ArtifactAltered")))),
            (_, Some(reason)) => Ok(Self::Waits(obstacle(reason))),
            (_, None) => Err(ReconcileError::Transient(error.to_string())),
        }
    }
}

impl From<Unusable> for ExportOutcome {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Waits(obstacle) => Self::Missing(obstacle),
            Unusable::Ends(obstacle) => Self::Refused(obstacle),
        }
    }
}

fn export_obstacle(error: &ExportError) -> Result<ExportOutcome, ReconcileError> {
    let obstacle = Obstacle { reason: error.reason().into(), message: error.to_string() };
    match error.failure() {
        Failure::Transient => Err(ReconcileError::Transient(error.to_string())),
        Failure::MissingRight => Ok(ExportOutcome::Missing(obstacle)),
        Failure::Refused => Ok(ExportOutcome::Refused(obstacle)),
    }
}
