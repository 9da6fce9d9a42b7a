//! What retention decides from, read from the objects of one host.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use kube::Resource;
use semver::Version;

use super::{ArtifactView, Bytes, EnvironmentView, HostView, Limits, PipelineView, RequestView, StageView};
use crate::api::names::{KEEP_ANNOTATION, TOOL_KEYS};
use crate::api::pipeline::SinkCursor;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Stage};

/// The objects of one host.
pub(crate) struct Objects<'a, P, S, E, R, A> {
    pub(crate) pipelines: &'a [P],
    pub(crate) stages: &'a [S],
    pub(crate) environments: &'a [E],
    pub(crate) requests: &'a [R],
    pub(crate) artifacts: &'a [A],
}

impl<'a, P, S, E, R, A> Objects<'a, P, S, E, R, A>
where
    P: Borrow<Pipeline>,
    S: Borrow<Stage>,
    E: Borrow<Environment>,
    R: Borrow<DeploymentRequest>,
    A: Borrow<Artifact>,
{
    /// The view. What is being deleted is not in it.
    pub(crate) fn view(&self) -> HostView<'a> {
        let pipelines = || self.pipelines.iter().map(Borrow::<Pipeline>::borrow);
        let requests = self.requests.iter().map(Borrow::<DeploymentRequest>::borrow);
        let artifacts = self.artifacts.iter().map(Borrow::<Artifact>::borrow);
        let sinks: HashMap<&str, Vec<Cursor<'a>>> = pipelines().map(|p| (name(p), cursors(p))).collect();
        HostView {
            pipelines: pipelines().map(pipeline).collect(),
            stages: self.stages.iter().map(|s| stage(s.borrow())).collect(),
            environments: self.environments.iter().map(|e| environment(e.borrow())).collect(),
            requests: requests.filter(|r| r.metadata.deletion_timestamp.is_none()).map(|r| request(r, &sinks)).collect(),
            artifacts: artifacts.filter(|a| a.metadata.deletion_timestamp.is_none()).map(artifact).collect(),
        }
    }
}

fn name(object: &impl Resource) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn uid(object: &impl Resource) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

fn created(object: &impl Resource) -> Timestamp {
    object.meta().creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default()
}

/// Whether an object has a label or an annotation of that name.
fn has(object: &impl Resource, key: &str) -> bool {
    let meta = object.meta();
    [meta.annotations.as_ref(), meta.labels.as_ref()].into_iter().flatten().any(|map| map.contains_key(key))
}

fn pipeline(pipeline: &Pipeline) -> PipelineView<'_> {
    PipelineView {
        name: name(pipeline),
        created: created(pipeline),
        limits: pipeline.spec.retention.as_ref().map(Limits::of),
        sources: pipeline.spec.development_environments.iter().map(String::as_str).collect(),
        repositories: pipeline.spec.artifact_repositories.iter().map(|r| r.url.as_str()).collect(),
    }
}

fn stage(stage: &Stage) -> StageView<'_> {
    StageView {
        name: name(stage),
        pipeline: &stage.spec.pipeline,
        previous: stage.spec.previous_stage.as_deref(),
        environment: &stage.spec.target_environment,
    }
}

fn environment(environment: &Environment) -> EnvironmentView<'_> {
    EnvironmentView { name: name(environment), solutions: environment.status.as_ref().map_or(&[], |s| &s.solutions) }
}

/// How far a sink has been told.
struct Cursor<'a> {
    since: Timestamp,
    open: HashSet<&'a str>,
    done: HashSet<&'a str>,
}

impl<'a> Cursor<'a> {
    fn of(cursor: &'a SinkCursor) -> Self {
        Self {
            since: cursor.since,
            open: cursor.open.iter().map(|o| o.uid.as_str()).collect(),
            done: cursor.done.iter().map(String::as_str).collect(),
        }
    }

    fn is_told(&self, uid: &str, created: Timestamp) -> bool {
        !self.open.contains(uid) && (created < self.since || self.done.contains(uid))
    }
}

/// How far the sinks that a pipeline has now were told. A sink that is not in the status is new, and is told no history.
fn cursors(pipeline: &Pipeline) -> Vec<Cursor<'_>> {
    let is_used = |url: &str| pipeline.spec.sinks.iter().any(|sink| sink.url == url);
    let sinks = pipeline.status.iter().flat_map(|s| &s.sinks).filter(|sink| is_used(&sink.url));
    sinks.map(|sink| Cursor::of(&sink.cursor)).collect()
}

fn request<'a>(request: &'a DeploymentRequest, sinks: &HashMap<&str, Vec<Cursor<'a>>>) -> RequestView<'a> {
    let spec = &request.spec;
    let of_pipeline = sinks.get(spec.pipeline.as_str()).map_or(&[][..], Vec::as_slice);
    RequestView {
        name: name(request),
        uid: uid(request),
        pipeline: &spec.pipeline,
        solution: &spec.solution.name,
        version: &spec.solution.version,
        ended: request.status.as_ref().and_then(|s| s.run.end_time),
        held: has(request, KEEP_ANNOTATION),
        tool: TOOL_KEYS.into_iter().find(|key| has(request, key)),
        untold: !of_pipeline.iter().all(|cursor| cursor.is_told(uid(request), created(request))),
    }
}

fn artifact(artifact: &Artifact) -> ArtifactView<'_> {
    let (spec, status) = (&artifact.spec, artifact.status.as_ref());
    ArtifactView {
        name: name(artifact),
        uid: uid(artifact),
        solution: &spec.solution.name,
        version: Version::parse(&spec.solution.version).ok(),
        version_text: &spec.solution.version,
        digest: &spec.digest,
        source: spec.source.environment.as_deref(),
        registry_source: spec.source.oci.as_deref(),
        stored: spec.exported_at,
        held: has(artifact, KEEP_ANNOTATION),
        bytes: match status.and_then(|s| s.bytes_removed.as_ref()) {
            None => Bytes::Whole,
            Some(removed) if removed.complete => Bytes::Removed,
            Some(_) => Bytes::Removing,
        },
        archived: status.and_then(|s| s.bytes_removed.as_ref()).is_some_and(|removed| removed.archived_in.is_some()),
        deployments: status.map_or(&[], |s| &s.deployments),
    }
}
