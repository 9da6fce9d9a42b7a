//! The requested version is stored, but from another source than the request means. What somebody pushed to a registry is not deployed in
//! the name of the solution's developers, and it does not block their version.

use kube::ResourceExt;
use kube::api::ListParams;
use kube::{Api, Client};

use super::export::{self, ExportFound};
use super::observe;
use super::origin::was_deployed;
use super::scope::Scope;
use crate::api::reason::Reason;
use crate::api::{Artifact, DeploymentRequest, GROUP};
use crate::cluster::blocked::{Blocked, Until};
use crate::identity::access::{self, Right};
use crate::policy::request::observed::{ExportOutcome, Observed};
use crate::runtime::controller::ReconcileError;
use crate::runtime::open_requests::is_open;

/// Whether the request means a development environment: the one that it names, or, if it names none, one of the pipeline's that has the
/// Solution.
pub(super) fn means_development(scope: Scope<'_>, observed: &Observed) -> bool {
    let spec = &scope.request.spec;
    spec.artifact.is_none() && (spec.source_environment.is_some() || !observed.developed_in.is_empty())
}

/// Exports over what is stored from a registry, if nothing was ever deployed from that, no request is about it, and the requester may
/// update the Solution, so that it is theirs. Otherwise the request is refused.
pub(super) async fn instead_of_foreign(scope: Scope<'_>, observed: &Observed) -> Result<ExportFound, ReconcileError> {
    // It is read live, because what is stored is dropped on the basis of it.
    let mut related = observe::live(scope.cluster, scope.request).await?;
    let Some(artifact) = related.artifact.clone() else {
        return Ok(export::export_anew(scope.with(&related), observed).await?.having_read(related));
    };
    let Some(origin) = artifact.spec.source.oci.clone() else { return Err(ReconcileError::Overtaken) };
    if let Some(refused) = kept(scope.with(&related), observed, &artifact, &origin).await? {
        return Ok(ExportFound::from(refused).having_read(related));
    }
    // What only plans takes no version from anybody.
    if !scope.request.spec.plan_only {
        tracing::info!(artifact = artifact.name_any(), origin, "a version that was stored from a registry and never deployed is given up");
    }
    if !scope.request.spec.plan_only
        && let Err(error) = scope.cluster.artifacts.give_up(&artifact).await
    {
        return Ok(ExportFound::from(ExportOutcome::Blocked(export::unreadable(&error)?)).having_read(related));
    }
    related.artifact = None;
    Ok(export::export_anew(scope.with(&related), observed).await?.having_read(related))
}

/// Why what is stored from a registry is kept.
async fn kept(scope: Scope<'_>, observed: &Observed, artifact: &Artifact, origin: &str) -> Result<Option<ExportOutcome>, ReconcileError> {
    if was_deployed(artifact) {
        return Ok(Some(foreign(scope, artifact, origin, "")));
    }
    let wanted = &scope.request.spec.solution;
    let developed = scope.related.solution.as_ref().zip(scope.related.source.as_ref());
    let Some((solution, source)) = developed.filter(|(solution, _)| solution.spec.version == wanted.version) else {
        return Ok(Some(foreign(scope, artifact, origin, "")));
    };
    let right = Right::on("update", GROUP, "solutions", &source.spec.namespace).named(&solution.name_any());
    let requester = access::as_authenticated(&observed.request.requester.clone().unwrap_or_default());
    if !scope.cluster.access.may(&requester, &right).await? {
        return Ok(Some(foreign(scope, artifact, origin, "")));
    }
    let others = open_for(&scope.cluster.clients.operator(), scope.request).await?;
    if let Some(holder) = others.first() {
        let holds =
            format!(" Request {} is about it: once that has ended without a deployment, the version is free again.", holder.name_any());
        return Ok(Some(foreign(scope, artifact, origin, &holds)));
    }
    Ok(None)
}

/// Says that the version is taken, by what, and what to do.
pub(super) fn foreign(scope: Scope<'_>, artifact: &Artifact, origin: &str, holds: &str) -> ExportOutcome {
    let what = format!("{} {}", artifact.spec.solution.name, artifact.spec.solution.version);
    let place = scope.related.source.as_ref().map(|environment| environment.name_any()).unwrap_or_default();
    let by = &artifact.spec.exported_by.username;
    let (url, digest) = origin.split_once('@').unwrap_or((origin, ""));
    if let Some(named) = &scope.request.spec.source_environment {
        return ExportOutcome::Blocked(Blocked {
            until: Until::End,
            reason: Reason::ExportedElsewhere,
            message: format!(
                "{what} was taken from {origin}, as {by} asked: a version has one source for ever.{holds} Raise the version to ship it from {named}"
            ),
        });
    }
    ExportOutcome::Blocked(Blocked {
        until: Until::End,
        reason: Reason::SourceDiffers,
        message: format!(
            "{what} was taken from {origin}, as {by} asked, and this request, which names no source, means what is developed in environment \
             {place}.{holds} Raise the Solution's version to ship that; or, if what is stored is meant, make a request that names it: \
             spec.artifact.oci with url {url} and digest {digest}"
        ),
    })
}

/// Other requests for this version that have not ended, read live.
async fn open_for(client: &Client, request: &DeploymentRequest) -> kube::Result<Vec<DeploymentRequest>> {
    let solution = &request.spec.solution;
    let selector = format!("spec.solution.name={}", solution.name);
    let host = request.namespace().unwrap_or_default();
    let all = Api::<DeploymentRequest>::namespaced(client.clone(), &host).list(&ListParams::default().fields(&selector)).await?;
    let is_about_it = |other: &DeploymentRequest| {
        // A request that means a development environment too is about what will be exported, unless it already uses what is stored.
        let has_it = other.spec.artifact.is_some() || other.status.as_ref().is_some_and(|status| status.run.artifact.is_some());
        other.uid() != request.uid() && is_open(other) && !other.spec.plan_only && other.spec.solution.version == solution.version && has_it
    };
    Ok(all.items.into_iter().filter(is_about_it).collect())
}
