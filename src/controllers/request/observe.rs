//! What a decision is based on. It is read from the caches, or live if the decision would end the request.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt};
use semver::{Version, VersionReq};
use serde::de::DeserializeOwned;

use super::origin;
use crate::api::condition::{self, Condition, ConditionStatus, READY};
use crate::api::names;
use crate::api::reason::Reason;
use crate::api::request_status::{Approval, StepDecision, condition_types};
use crate::api::stage::DelegateType;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, Stage, duration};
use crate::policy::request::observed::{
    ArtifactView, ClaimView, CurrentVersion, Decided, DelegateView, DeploymentView, Lookup, Observed, PipelineView, PreviousStage,
    Replaced, RequestView, Rival, SolutionView, SourceView, StageView, StepOutcomes, TargetView,
};
use crate::policy::stage::TargetCluster;
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;
use crate::runtime::status_writer::{Recorded, StatusWriter};
use crate::runtime::trimmed;

/// The objects that a request is about. `None`: the request does not name it, or it was not found.
#[derive(Clone, Default)]
pub(crate) struct RelatedObjects {
    pub(crate) pipeline: Option<Arc<Pipeline>>,
    pub(crate) stage: Option<Arc<Stage>>,
    /// The stage before.
    pub(crate) previous: Option<Arc<Stage>>,
    /// The Environment of the stage before.
    pub(crate) previous_environment: Option<Arc<Environment>>,
    /// The stage's target.
    pub(crate) target: Option<Arc<Environment>>,
    /// The development environment.
    pub(crate) source: Option<Arc<Environment>>,
    /// The Solution in development.
    pub(crate) solution: Option<Arc<Solution>>,
    pub(crate) artifact: Option<Arc<Artifact>>,
    /// All requests for the same solution that have not ended, with the environment of each.
    pub(crate) others: Vec<(Arc<DeploymentRequest>, Option<String>)>,
    /// The development environments of the pipeline that have a Solution of that name. Only the metadata of the Solutions is read.
    pub(crate) developed_in: Vec<Arc<Environment>>,
    /// A request that brings a solution which this one depends on to the same target, and that was accepted.
    pub(crate) dependency: Option<Arc<DeploymentRequest>>,
    /// Whether all this was read live.
    pub(crate) confirmed: bool,
}

/// Reads them from the caches.
pub(crate) async fn cached(cluster: &Cluster, request: &DeploymentRequest) -> Result<RelatedObjects, ReconcileError> {
    Ok(gather(Reader { cluster, is_live: false }, request).await?)
}

/// Reads everything live.
pub(crate) async fn live(cluster: &Cluster, request: &DeploymentRequest) -> Result<RelatedObjects, ReconcileError> {
    Ok(gather(Reader { cluster, is_live: true }, request).await?)
}

async fn gather(reader: Reader<'_>, request: &DeploymentRequest) -> kube::Result<RelatedObjects> {
    let (cluster, host) = (reader.cluster, request.namespace().unwrap_or_default());
    let (stores, environments) = (&cluster.stores, &cluster.records.environments);
    let solution_name = request.spec.solution.name.as_str();
    let pipeline = reader.watched(&stores.pipelines, &host, Some(&request.spec.pipeline)).await?;
    let stage = reader.watched(&stores.stages, &host, Some(&request.spec.stage)).await?;
    let previous = reader.watched(&stores.stages, &host, stage.as_ref().and_then(|s| s.spec.previous_stage.as_deref())).await?;
    let target_of = |stage: &Option<Arc<Stage>>| stage.as_ref().map(|s| s.spec.target_environment.clone());
    let previous_environment = reader.recorded(environments, &host, target_of(&previous).as_deref()).await?;
    let target = reader.recorded(environments, &host, target_of(&stage).as_deref()).await?;
    let artifact = match reader.recorded(&cluster.records.artifacts, &host, Some(&artifact_name(request))).await? {
        Some(short) if trimmed::is_shortened(short.as_ref()) => get::<Artifact>(cluster, &host, Some(&short.name_any())).await?,
        // Its status names an artifact, so a cache without it is behind.
        None if is_stored(request) && !reader.is_live => get::<Artifact>(cluster, &host, Some(&artifact_name(request))).await?,
        artifact => artifact,
    };
    let mut developed_in = Vec::new();
    for name in origin::candidates(pipeline.as_deref(), stage.as_deref()) {
        let Some(environment) = reader.watched(&stores.environments, &host, Some(name)).await? else { continue };
        if reader.watched(&stores.solutions, &environment.spec.namespace, Some(solution_name)).await?.is_some() {
            developed_in.push(environment);
        }
    }
    let source = source_name(request, pipeline.as_deref(), artifact.as_deref(), &developed_in);
    let source = reader.recorded(environments, &host, source.as_deref()).await?;
    let solution = match &source {
        Some(source) => reader.recorded(&cluster.records.solutions, &source.spec.namespace, Some(solution_name)).await?,
        None => None,
    };
    let to = |other: &DeploymentRequest| {
        stores.stages.get(&ObjectRef::new(&other.spec.stage).within(&host)).map(|stage| stage.spec.target_environment.clone())
    };
    let others = reader.requests(&host, solution_name).await?;
    let others = others.into_iter().filter(|other| competes(request, other)).map(|other| (other.clone(), to(&other))).collect();
    let dependency = origin::dependency(stores, &host, stage.as_deref(), artifact.as_deref());
    Ok(RelatedObjects {
        pipeline,
        stage,
        previous,
        previous_environment,
        target,
        source,
        solution,
        artifact,
        others,
        developed_in,
        dependency,
        confirmed: reader.is_live,
    })
}

/// Reads from the caches, or everything live.
#[derive(Clone, Copy)]
struct Reader<'a> {
    cluster: &'a Cluster,
    is_live: bool,
}

impl Reader<'_> {
    /// An object that others write, as the cache has it.
    async fn watched<K>(self, store: &Store<K>, namespace: &str, name: Option<&str>) -> kube::Result<Option<Arc<K>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        match name {
            Some(name) if !self.is_live => Ok(store.get(&ObjectRef::new(name).within(namespace))),
            name => get(self.cluster, namespace, name).await,
        }
    }

    /// An object with records of the operator in its status: from the cache, or from the operator's own last write.
    async fn recorded<K: Recorded>(self, records: &StatusWriter<K>, namespace: &str, name: Option<&str>) -> kube::Result<Option<Arc<K>>> {
        match name {
            Some(name) if !self.is_live => Ok(records.newest(namespace, name).await),
            name => get(self.cluster, namespace, name).await,
        }
    }

    /// The requests for a solution. From the cache only those that have not ended.
    async fn requests(self, host: &str, solution: &str) -> kube::Result<Vec<Arc<DeploymentRequest>>> {
        if !self.is_live {
            return Ok(self.cluster.stores.open_requests_for(host, solution).collect());
        }
        let params = ListParams::default().fields(&format!("spec.solution.name={solution}"));
        let requests = Api::<DeploymentRequest>::namespaced(self.cluster.clients.operator(), host).list(&params).await?;
        Ok(requests.items.into_iter().map(Arc::new).collect())
    }
}

/// Reads one object live.
pub(super) async fn get<K>(cluster: &Cluster, namespace: &str, name: Option<&str>) -> kube::Result<Option<Arc<K>>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match name {
        Some(name) => Ok(Api::<K>::namespaced(cluster.clients.operator(), namespace).get_opt(name).await?.map(Arc::new)),
        None => Ok(None),
    }
}

/// The name of the artifact that the request is about.
pub(crate) fn artifact_name(request: &DeploymentRequest) -> String {
    names::artifact_name(&request.spec.solution.name, &request.spec.solution.version)
}

/// Whether an artifact was stored for the request.
fn is_stored(request: &DeploymentRequest) -> bool {
    request.status.as_ref().is_some_and(|status| status.run.artifact.is_some())
}

/// Whether the other may have to be waited for. What only plans stands in nobody's way.
fn competes(request: &DeploymentRequest, other: &DeploymentRequest) -> bool {
    other.spec.solution.name == request.spec.solution.name
        && !other.spec.plan_only
        && other.status.as_ref().is_none_or(|s| s.run.end_time.is_none())
        && other.metadata.deletion_timestamp.is_none()
}

/// The development environment: the one that the request names, the one that the artifact came from, or the pipeline's only one. An
/// artifact from a registry came from none. It is not meant if the solution is developed and the request names nothing.
fn source_name(
    request: &DeploymentRequest,
    pipeline: Option<&Pipeline>,
    artifact: Option<&Artifact>,
    developed_in: &[Arc<Environment>],
) -> Option<String> {
    let stored = developed_in.is_empty() && artifact.is_some_and(|a| a.spec.source.oci.is_some());
    let from_registry = request.spec.artifact.is_some() || stored;
    if from_registry && request.spec.source_environment.is_none() {
        return None;
    }
    let only = pipeline.and_then(|p| match p.spec.development_environments.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    });
    request.spec.source_environment.clone().or_else(|| artifact.and_then(|a| a.spec.source.environment.clone())).or(only)
}

/// The views that decisions are made on.
pub(crate) fn views(
    request: &DeploymentRequest,
    related: &RelatedObjects,
    outcomes: &StepOutcomes,
    accept_timeout: std::time::Duration,
) -> Result<Observed, ReconcileError> {
    let solution = &request.spec.solution.name;
    let target_name = related.stage.as_ref().map(|s| s.spec.target_environment.clone());
    let rivals = related
        .others
        .iter()
        .filter(|(_, environment)| *environment == target_name && target_name.is_some())
        .map(|(other, _)| rival(other))
        .collect();
    let previous_in_flight = related.previous.as_ref().and_then(|previous| {
        let in_flight = |other: &DeploymentRequest| {
            other.spec.stage == previous.name_any() && other.spec.solution.version == request.spec.solution.version
        };
        related.others.iter().find(|(other, _)| in_flight(other)).map(|(other, _)| other.name_any())
    });
    Ok(Observed {
        request: request_view(request)?,
        pipeline: related.pipeline.as_deref().map(pipeline_view).into(),
        stage: related.stage.as_deref().map(|s| stage_view(s, related)).into(),
        target: related.target.as_deref().map(|e| target_view(e, solution, related.artifact.as_deref())).into(),
        source: related.source.as_deref().map(source_view).into(),
        solution: match related.solution.as_deref() {
            Some(s) => Lookup::Present(SolutionView { version: version(&s.spec.version)? }),
            None => Lookup::Absent,
        },
        artifact: related.artifact.as_deref().map(artifact_view).into(),
        rivals,
        previous_in_flight,
        dependency_in_flight: related.dependency.as_ref().map(|other| other.name_any()),
        developed_in: related.developed_in.iter().map(|environment| environment.name_any()).collect(),
        confirmed: related.confirmed,
        outcomes: outcomes.clone(),
        accept_timeout,
    })
}

fn request_view(request: &DeploymentRequest) -> Result<RequestView, ReconcileError> {
    let status = request.status.clone().unwrap_or_default();
    let spec = &request.spec;
    let scheduled_time = match spec.scheduled_time.as_deref().filter(|t| !t.is_empty()) {
        Some(text) => text.parse::<Timestamp>().map(Some).map_err(|_| text.to_owned()),
        None => Ok(None),
    };
    Ok(RequestView {
        name: request.name_any(),
        uid: request.uid().unwrap_or_default(),
        host: request.namespace().unwrap_or_default(),
        created_at: request.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        pipeline: spec.pipeline.clone(),
        stage: spec.stage.clone(),
        solution: spec.solution.name.clone(),
        version: version(&spec.solution.version)?,
        source_environment: spec.source_environment.clone(),
        repository: spec.artifact.as_ref().map(|a| a.oci.url.clone()),
        registry_source: status.run.source.clone().or_else(|| {
            let oci = &spec.artifact.as_ref()?.oci;
            Some(format!("{}@{}", oci.url, oci.digest.as_deref()?))
        }),
        share_with: spec.share_with.clone(),
        plan_only: spec.plan_only,
        cancel: spec.cancel,
        requester: spec.requested_by.clone(),
        scheduled_time,
        artifact_digest: status.run.artifact.map(|a| a.digest),
        plan_hash: status.run.plan.as_ref().map(|p| p.hash.clone()),
        gates: status.run.gates,
        pre_export: status.pre_export_step.map(step_decision),
        approval: status.approval.map(approval),
        pre_deployment: status.pre_deployment_step.map(step_decision),
        on_failure: status.run.plan.as_ref().map(|p| p.on_failure).unwrap_or_default(),
        replaces: status.run.plan.and_then(|p| Some(Replaced { version: p.replaces_version?, digest: p.replaces? })),
        rollback: status.run.rollback,
        waiting: status.run.waiting,
        start_time: status.run.start_time,
        end_time: status.run.end_time,
    })
}

fn step_decision(decision: StepDecision) -> Decided<crate::api::request_status::StepOutcome> {
    Decided { decision: decision.decision, by: decision.by.unwrap_or_default(), comments: decision.comments, plan_hash: None }
}

fn approval(decision: Approval) -> Decided<crate::api::request_status::ApprovalDecision> {
    Decided { decision: decision.decision, by: decision.by.unwrap_or_default(), comments: decision.comments, plan_hash: decision.plan_hash }
}

fn pipeline_view(pipeline: &Pipeline) -> PipelineView {
    let status = pipeline.status.as_ref();
    PipelineView {
        not_ready: not_ready(pipeline.metadata.generation, status.map(|s| (s.observed_generation, s.conditions.as_slice()))),
        development_environments: pipeline.spec.development_environments.clone(),
        artifact_repositories: pipeline.spec.artifact_repositories.iter().map(|r| r.url.clone()).collect(),
        allow_redeployments: pipeline.spec.allow_redeployments,
        suspended: pipeline.spec.suspend,
    }
}

fn stage_view(stage: &Stage, related: &RelatedObjects) -> StageView {
    let spec = &stage.spec;
    let status = stage.status.as_ref();
    let delegate = match &spec.delegated_deployment {
        Some(d) if d.type_ == DelegateType::ServicePrincipal => {
            DelegateView::ServicePrincipal { name: d.service_account_name.clone().unwrap_or_default() }
        }
        Some(_) => DelegateView::StageOwner { owner: spec.owner.clone().unwrap_or_default() },
        None => DelegateView::Requester,
    };
    let previous = related.previous.as_deref().zip(related.previous_environment.as_deref());
    let place = previous.map(|(stage, environment)| origin::place(stage, environment));
    let lasting = |text: &str| duration::parse(text).unwrap_or_default();
    StageView {
        uid: stage.uid().unwrap_or_default(),
        pipeline: spec.pipeline.clone(),
        not_ready: not_ready(stage.metadata.generation, status.map(|s| (s.observed_generation, s.conditions.as_slice()))),
        previous: spec.previous_stage.clone().map(|name| PreviousStage { name, place }),
        target_environment: spec.target_environment.clone(),
        delegate,
        approval: spec.approval.clone().unwrap_or_default(),
        owner: spec.owner.clone(),
        pre_export_step: spec.pre_export_step_required,
        pre_deployment_step: spec.pre_deployment_step_required,
        gate_timeout: lasting(&spec.gates.timeout),
        allow_self_approval: spec.gates.allow_self_approval,
        windows: spec.windows.clone(),
        soak: spec.soak.as_deref().map(lasting).unwrap_or_default(),
        deployment_timeout: lasting(&spec.deployment.timeout),
        on_failure: spec.deployment.on_failure,
        sharing: spec.sharing.clone(),
    }
}

fn target_view(environment: &Environment, solution: &str, artifact: Option<&Artifact>) -> TargetView {
    let status = environment.status.as_ref();
    let entry = status.and_then(|s| s.solutions.iter().find(|d| d.name == solution));
    let current = entry.and_then(|d| {
        let version = d.version.as_ref().and_then(|v| Version::parse(v).ok())?;
        Some(CurrentVersion { version, digest: d.digest.clone().unwrap_or_default(), request: d.request.clone().unwrap_or_default() })
    });
    let missing_dependencies = artifact
        .map(|a| a.spec.dependencies.as_slice())
        .unwrap_or_default()
        .iter()
        .filter_map(|dependency| {
            let running = status.and_then(|s| s.solutions.iter().find(|d| d.name == dependency.name)).and_then(|d| d.version.clone());
            let Ok(wanted) = VersionReq::parse(&dependency.version) else {
                return Some(format!(
                    "{} {} (no requirement that can be read: correct it in the Solution, as >=2.1, and raise the version)",
                    dependency.name, dependency.version
                ));
            };
            let satisfied = running.as_ref().and_then(|v| Version::parse(v).ok()).is_some_and(|version| wanted.matches(&version));
            let runs = running.map_or_else(|| "does not run there".to_owned(), |v| format!("runs in version {v}"));
            (!satisfied).then(|| format!("{} {} ({runs})", dependency.name, dependency.version))
        })
        .collect();
    TargetView {
        not_ready: not_ready(environment.metadata.generation, status.map(|s| (s.observed_generation, s.conditions.as_slice()))),
        environment_id: status.and_then(|s| s.environment_id.clone()).unwrap_or_default(),
        uid: environment.uid().unwrap_or_default(),
        cluster: environment.spec.cluster.as_ref().map(|cluster| TargetCluster {
            name: cluster.kubeconfig_secret_ref.name.clone(),
            delegate_namespace: cluster.delegate_namespace.clone(),
        }),
        current,
        failed: entry.and_then(|d| d.failed.as_ref()).map(|failed| failed.request.clone()),
        claim: entry.and_then(|d| d.claim.as_ref()).map(|c| ClaimView { request: c.request.clone(), request_uid: c.request_uid.clone() }),
        missing_dependencies,
    }
}

fn source_view(environment: &Environment) -> SourceView {
    let status = environment.status.as_ref();
    SourceView {
        name: environment.name_any(),
        not_ready: not_ready(environment.metadata.generation, status.map(|s| (s.observed_generation, s.conditions.as_slice()))),
        namespace: environment.spec.namespace.clone(),
    }
}

pub(crate) fn artifact_view(artifact: &Artifact) -> ArtifactView {
    let records = artifact.status.as_ref().map(|s| s.deployments.as_slice()).unwrap_or_default();
    ArtifactView {
        digest: artifact.spec.digest.clone(),
        stored_at: artifact.metadata.creation_timestamp.as_ref().map_or(artifact.spec.exported_at, |t| t.0),
        not_listed: (
            artifact.spec.kinds_not_listed.iter().map(ToString::to_string).collect(),
            artifact.spec.kinds_not_listed.len() + usize::try_from(artifact.spec.kinds_not_listed_omitted).unwrap_or_default(),
        ),
        source_environment: artifact.spec.source.environment.clone(),
        registry_source: artifact.spec.source.oci.clone(),
        deployments: records
            .iter()
            .map(|d| DeploymentView {
                request: d.request.clone(),
                request_uid: d.request_uid.clone(),
                pipeline: d.pipeline.clone(),
                stage: d.stage.clone(),
                stage_uid: d.stage_uid.clone(),
                environment: d.environment.clone(),
                environment_uid: d.environment_uid.clone(),
                environment_id: d.environment_id.clone(),
                cluster: d.cluster.clone(),
                ended_at: d.ended_at,
                outcome: d.outcome,
                failure: d.reason.as_deref().map(recorded).zip(d.message.clone()),
                restored: d.restored.clone(),
            })
            .collect(),
    }
}

fn rival(other: &DeploymentRequest) -> Rival {
    let conditions = other.status.as_ref().map(|s| s.run.conditions.as_slice()).unwrap_or_default();
    let queued = condition::find(conditions, condition_types::SUCCEEDED).is_some_and(|c| c.reason == Reason::Queued);
    let opened = [condition_types::PRE_DEPLOYMENT_STEP_COMPLETED, condition_types::APPROVED, condition_types::ACCEPTED]
        .into_iter()
        .find_map(|type_| condition::find(conditions, type_).filter(|c| c.status == ConditionStatus::True))
        .map(|c| c.last_transition_time);
    Rival { name: other.name_any(), uid: other.uid().unwrap_or_default(), queued_since: opened.filter(|_| queued) }
}

/// Why an object is not ready, by its `Ready` condition. `None` if it is.
fn not_ready(generation: Option<i64>, status: Option<(i64, &[Condition])>) -> Option<String> {
    match status {
        Some((observed, conditions)) if generation.is_none_or(|g| g == observed) => match condition::find(conditions, READY) {
            Some(ready) if ready.status == ConditionStatus::True => None,
            Some(ready) => Some(format!("{}: {}", ready.reason, ready.message)),
            None => Some("not looked at yet".to_owned()),
        },
        _ => Some("its newest state was not looked at yet".to_owned()),
    }
}

fn version(text: &str) -> Result<Version, ReconcileError> {
    Version::parse(text).map_err(|e| ReconcileError::Other(format!("version {text} is not semver: {e}")))
}

/// The reason of a record. If another version of the operator wrote it, it may not be known here. The message of the record still says it.
fn recorded(reason: &str) -> Reason {
    Reason::of(reason).unwrap_or(Reason::DeploymentFailed)
}
