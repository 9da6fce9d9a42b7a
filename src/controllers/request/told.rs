//! What an approver is told about a plan besides its changes: the most important first, and other surprises last.

use super::scope::Scope;
use crate::api::artifact::ArtifactObject;
use crate::api::names;
use crate::api::plan::PlanResult;
use crate::deploy::plan::planned::Planned;
use crate::policy::request::observed::Observed;
use crate::policy::request::{not_looked_for, vanished};

/// What may be missing in the version, and what loses data.
pub(super) fn first(observed: &Observed, planned: &Planned) -> Vec<PlanResult> {
    let missing = observed.artifact.present().and_then(|artifact| not_looked_for::result(&observed.request.solution, artifact));
    missing.into_iter().chain(planned.data_lost()).collect()
}

/// Warnings of the target's API server, what is held back, and Jobs of the replaced version that the new one lacks.
pub(super) async fn last(scope: Scope<'_>, observed: &Observed, planned: &Planned) -> Vec<PlanResult> {
    let mut told = planned.warnings();
    told.extend(planned.held_back());
    let current = observed.target.present().and_then(|target| target.current.as_ref());
    if let Some(current) = current.filter(|current| current.version != observed.request.version) {
        let name = names::artifact_name(&observed.request.solution, &current.version.to_string());
        if let Some(former) = scope.cluster.records.artifacts.newest(&scope.host(), &name).await
            && former.spec.digest == current.digest
        {
            let (solution, version) = (&observed.request.solution, &observed.request.version.to_string());
            let gone = |object: &ArtifactObject| !planned.has(object);
            told.extend(vanished::jobs(solution, version, &current.version.to_string(), &former.spec.objects, gone));
        }
    }
    told
}
