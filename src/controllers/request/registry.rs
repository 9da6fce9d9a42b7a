//! Steps `Resolve` and `Export` for what another system pushed to a registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;

use super::export::{self, ExportFound};
use super::scope::Scope;
use super::stop::Stop;
use crate::api::Artifact;
use crate::api::artifact::ArtifactOrigin;
use crate::api::pipeline::ArtifactRepository;
use crate::api::reason::Reason;
use crate::api::repository::{self, Repository};
use crate::artifact::oci::credentials::{Credentials, KEY};
use crate::artifact::oci::{Access, Asker, OciError, Origin, Written};
use crate::artifact::store::NewArtifact;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::cluster::cluster_scope;
use crate::cluster::object;
use crate::cluster::resources::Resources;
use crate::identity::secrets::{self, Unreadable};
use crate::policy::request::observed::{ExportOutcome, Observed};
use crate::runtime::controller::ReconcileError;

/// What a registry said about a tag.
pub(super) enum Resolved {
    /// The repository and digest of the tag.
    Source(String),
    /// What prevents the answer.
    Not(Blocked),
}

/// Asks for the digest of the request's tag. `None` if it has no tag.
pub(super) async fn resolve(scope: Scope<'_>) -> Result<Option<Resolved>, ReconcileError> {
    let Some(source) = scope.request.spec.artifact.as_ref().map(|a| a.oci.clone()) else { return Ok(None) };
    let (Some(repository), Some(tag)) = (Repository::parse(&source.url), &source.tag) else { return Ok(None) };
    let (asker, access) = match way_to(scope, &repository).await {
        Ok(way) => way,
        Err(stop) => return stop.told(|blocked| Some(Resolved::Not(blocked))),
    };
    Ok(Some(match scope.cluster.registries.resolve(&asker, &repository, tag, &access).await {
        Ok(digest) => Resolved::Source(format!("{repository}@{digest}")),
        Err(error) => Resolved::Not(blocked(&error)),
    }))
}

/// Fetches what the request is about, and stores it.
pub(super) async fn fetch(scope: Scope<'_>, observed: &Observed, source: &str) -> Result<ExportFound, ReconcileError> {
    let (Some((repository, digest)), Some(requester)) = (repository::pinned(source), observed.request.requester.clone()) else {
        return Ok(ExportOutcome::Blocked(Blocked {
            until: Until::End,
            reason: Reason::SourceInvalid,
            message: format!("{source} does not name a repository and a digest: make a new request"),
        })
        .into());
    };
    let (asker, access) = match way_to(scope, &repository).await {
        Ok(way) => way,
        Err(stop) => return stop.told(|blocked| ExportOutcome::Blocked(blocked).into()),
    };
    if let Some(full) = export::no_room(scope, None) {
        return Ok(full.into());
    }
    let wanted = scope.request.spec.solution.clone();
    let written = match scope.cluster.registries.fetch(&asker, &repository, digest, &wanted, &access).await {
        Ok(written) => written,
        Err(error) => return Ok(ExportOutcome::Blocked(blocked(&error)).into()),
    };
    if let Some(unwelcome) = cluster_scoped(scope, source, &written).await? {
        return Ok(unwelcome.into());
    }
    let bundle = Arc::new(written.bundle);
    let origin = ArtifactOrigin { environment: None, environment_id: None, oci: Some(source.to_owned()) };
    let new = NewArtifact {
        solution: wanted,
        source: origin.clone(),
        exported_by: requester,
        developed_at: None,
        bundle: bundle.clone(),
        cluster_scoped: Vec::new(),
        not_listed: BTreeSet::new(),
        reported_on: BTreeSet::new(),
        environment_variables: written.environment_variables,
        connection_references: written.connection_references,
        dependencies: written.dependencies,
    };
    let stored = export::save(scope, new).await;
    export::found_stored(scope, observed, stored, &origin, bundle).await
}

/// A stored version from a registry may be used by everybody who may deploy through a pipeline that allows that repository.
pub(super) async fn reuse(
    scope: Scope<'_>,
    observed: &Observed,
    artifact: &Artifact,
    origin: &str,
) -> Result<ExportOutcome, ReconcileError> {
    if let Some(refusal) = taken_elsewhere(scope, observed, artifact, origin) {
        return Ok(refusal);
    }
    match scope.bundle(artifact).await {
        Ok(_) => Ok(ExportOutcome::Stored { digest: artifact.spec.digest.clone() }),
        Err(error) => Ok(ExportOutcome::Blocked(export::unreadable(&error)?)),
    }
}

/// Why a stored version from a registry is not the one that this request is about.
pub(super) fn taken_elsewhere(scope: Scope<'_>, observed: &Observed, artifact: &Artifact, origin: &str) -> Option<ExportOutcome> {
    let wanted = match (&scope.request.spec.source_environment, &observed.request.registry_source) {
        (Some(environment), _) => environment,
        (None, Some(source)) if source != origin => source,
        _ => return None,
    };
    let what = format!("{} {}", artifact.spec.solution.name, artifact.spec.solution.version);
    let message = format!("{what} was taken from {origin}: a version has one source for ever. Raise the version to ship it from {wanted}");
    Some(ExportOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ExportedElsewhere, message }))
}

/// How the pipeline lets the operator reach a repository, and on whose behalf.
async fn way_to(scope: Scope<'_>, wanted: &Repository) -> Result<(Asker, Access), Stop> {
    // If that registry lets everybody in, each host could use the operator to read what other hosts deploy.
    if let Some(store) = scope.cluster.options.artifact_store.as_ref().filter(|store| store.holds(wanted)) {
        return Err(Stop::Because(Blocked {
            until: Until::End,
            reason: Reason::RepositoryNotAllowed,
            message: format!(
                "{wanted} is where the operator itself keeps artifacts, those of other hosts among them ({}, its --artifact-store), and is the \
                 source of no pipeline; nothing was asked there. Push the artifact to a repository that is not below it, have pipeline {} take \
                 artifacts from there, and make a new request that names it",
                store.prefix(),
                scope.request.spec.pipeline
            ),
        }));
    }
    let pipeline = scope.related.pipeline.clone();
    let listed = pipeline.as_ref().map(|p| p.spec.artifact_repositories.as_slice()).unwrap_or_default();
    let url = repository::covering(listed.iter().map(|r| r.url.as_str()), wanted);
    let Some(entry) = listed.iter().find(|r| Some(r.url.as_str()) == url) else {
        return Err(Stop::Because(Blocked {
            until: Until::Wait(Wait::Somebody),
            reason: Reason::RepositoryNotAllowed,
            message: format!("pipeline {} takes no artifacts from {wanted} any more", scope.request.spec.pipeline),
        }));
    };
    let credentials = credentials(scope, entry).await?;
    let version = pipeline.as_ref().and_then(|p| p.metadata.generation).unwrap_or_default();
    let asker = Asker { host: scope.host(), entry: format!("{}/{}/{version}/{}", scope.host(), scope.request.spec.pipeline, entry.url) };
    Ok((
        asker,
        Access { credentials, authority: entry.certificate_authority.clone(), plain_http: entry.plain_http, origin: Origin::Pipeline },
    ))
}

/// The credentials of an entry. An administrator lets the operator read their Secrets one by one.
async fn credentials(scope: Scope<'_>, entry: &ArtifactRepository) -> Result<Credentials, Stop> {
    let Some(reference) = &entry.credentials_secret_ref else { return Ok(Credentials::default()) };
    let (host, name) = (scope.host(), &reference.name);
    let unreadable = |message: String| Err(Stop::Because(Blocked::waits(Wait::Right, Reason::CredentialsUnreadable, message)));
    let secret = format!("Secret {name} in namespace {host}, with the credentials for {}", entry.url);
    let how = || {
        format!(
            "kubectl create secret docker-registry {name} -n {host} --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"
        )
    };
    let value = match secrets::read(&scope.cluster.access, scope.cluster.clients.operator(), &host, name, KEY, &secret).await {
        Ok(value) => value,
        Err(Unreadable::Failed(error)) => return Err(error.into()),
        Err(Unreadable::NotAllowed(message)) => return unreadable(message),
        Err(Unreadable::NoSecret) => return unreadable(format!("{secret}, does not exist: {}", how())),
        Err(Unreadable::NoKey) => return unreadable(format!("{secret}, has no key {KEY}: {}", how())),
    };
    match Credentials::parse(&value.0) {
        Ok(credentials) => Ok(credentials),
        Err(why) => unreadable(format!("the key {KEY} of {secret}, {why}: {}", how())),
    }
}

/// Objects that are known to be cluster-scoped and are not allowed in this target are refused before their version is stored. Kinds that
/// only the target knows are checked there.
async fn cluster_scoped(scope: Scope<'_>, source: &str, written: &Written) -> Result<Option<ExportOutcome>, ReconcileError> {
    let Some(target) = scope.related.target.clone() else { return Ok(None) };
    for held in written.bundle.objects() {
        let Some(unwelcome) = cluster_scope::judge(held, &target.name_any(), &target.spec.cluster_scoped) else { continue };
        let found = scope.cluster.discovery.resource(object::api_version(held), object::kind(held)).await?;
        if let Some((_, false)) = found {
            let message = format!("{source} can't be deployed: {}", unwelcome.message);
            let until = if unwelcome.may_be_listed() { Until::Wait(Wait::Somebody) } else { Until::End };
            return Ok(Some(ExportOutcome::Blocked(Blocked { reason: unwelcome.reason, message, until })));
        }
    }
    Ok(None)
}

fn blocked(error: &OciError) -> Blocked {
    Blocked { reason: error.reason(), message: error.to_string(), until: error.until() }
}
