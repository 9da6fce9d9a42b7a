//! What the caches keep of each object: only what decisions are made on. What only people read, or what only one step of a request needs,
//! is read live. Whoever may write an object decides how large it is, and one operator serves all of them.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicyBindingSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::api::artifact::DeploymentRecord;
use crate::api::names::{self, KEEP_ANNOTATION, KEY_PREFIX, TOOL_KEYS};
use crate::api::request_status::{DeploymentRequestStatus, GateStatus};
use crate::api::solution::SolutionSpec;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, Stage};

/// The most bytes, as JSON, that are kept of what a request wants, or of what an artifact defines. Anything larger is dropped, and whoever
/// needs it reads it live. That costs one call in each reconciliation, and most are far smaller.
pub(crate) const MOST_KEPT: usize = 4096;
/// The most Jobs of an artifact that are kept.
const MOST_JOBS: usize = 16;
/// The mark of a cached copy that lacks something. It is never written to the API server.
const SHORTENED: &str = "shortened";
/// The prefix of the names of Pilotage's own policies. Of other policies only their existence matters.
const OWN_POLICY: &str = "pilotage-";
/// The annotation in which `kubectl apply` stores the whole object again.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The most bytes, as JSON, that are kept of the settings, comments, properties, findings and errors in the records of one artifact.
const MOST_DETAILS: usize = 8192;
/// The mark of a cached copy of which the status lacks something. No status is written on its basis.
const SHORTENED_STATUS: &str = "shortened-status";

/// Whether the copy's status lacks what was too large to keep. Then it has to be read live before it is written.
pub(crate) fn has_shortened_status(object: &impl Resource) -> bool {
    object.meta().annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SHORTENED_STATUS))
}

/// Whether the copy lacks what was too large to keep. Then it has to be read live.
pub(crate) fn is_shortened(object: &impl Resource) -> bool {
    object.meta().annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SHORTENED))
}

fn without_managed_fields(object: &mut impl Resource) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
}

/// Keeps only the metadata that identifies the object and its state.
fn bare(object: &mut impl Resource) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
    meta.labels = None;
    meta.finalizers = None;
    meta.owner_references = None;
}

/// The same, with the labels and annotations by which retention keeps it, as annotations without their values.
fn bare_but_for_marks(object: &mut impl Resource) {
    let meta = object.meta();
    let all = || [meta.annotations.as_ref(), meta.labels.as_ref()].into_iter().flatten();
    let has = |key: &&str| all().any(|map| map.contains_key(*key));
    let marks: BTreeMap<String, String> =
        std::iter::once(KEEP_ANNOTATION).chain(TOOL_KEYS).filter(has).map(|key| (key.to_owned(), String::new())).collect();
    bare(object);
    object.meta_mut().annotations = (!marks.is_empty()).then_some(marks);
}

fn shorten(object: &mut impl Resource) {
    mark(object, SHORTENED);
}

fn mark(object: &mut impl Resource, mark: &str) {
    object.meta_mut().annotations.get_or_insert_default().insert(mark.to_owned(), String::new());
}

fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// Administrators write these objects. A change of their annotations starts a new reconciliation.
pub(crate) fn environment(object: &mut Environment) {
    without_managed_fields(object);
}

/// See [`environment`].
pub(crate) fn pipeline(object: &mut Pipeline) {
    without_managed_fields(object);
}

/// See [`environment`].
pub(crate) fn stage(object: &mut Stage) {
    without_managed_fields(object);
}

/// Of an ended request, others only need what it asked for and that it ended. Nobody needs the lists of its plan. Until it ends, triggers
/// send its notes.
pub(crate) fn request(request: &mut DeploymentRequest) {
    bare_but_for_marks(request);
    let ended = request.status.as_ref().is_some_and(|s| s.run.end_time.is_some());
    if let Some(status) = request.status.as_mut() {
        if let Some(plan) = status.run.plan.as_mut() {
            plan.objects = Vec::new();
        }
        if ended {
            status.run.conditions = Vec::new();
            status.run.plan = None;
            status.run.errors = Vec::new();
            status.approval = None;
            status.pre_export_step = None;
            status.pre_deployment_step = None;
            status.run.gates = GateStatus::default();
        }
    }
    // The record of the run needs settings and properties.
    let noted: usize = request.status.as_mut().map(properties).into_iter().flatten().map(|properties| size(properties)).sum();
    let too_large = size(&request.spec.deployment_settings) + size(&request.spec.share_with) + noted > MOST_KEPT;
    if ended || too_large {
        request.spec.deployment_settings = None;
        request.spec.share_with = Vec::new();
        request.status.as_mut().map(properties).into_iter().flatten().for_each(BTreeMap::clear);
    }
    if ended {
        request.spec.notes = None;
        request.spec.on_behalf_of = None;
        request.spec.requested_by = None;
    } else if too_large {
        shorten(request);
    }
}

/// What approvers noted at the gates.
fn properties(status: &mut DeploymentRequestStatus) -> impl Iterator<Item = &mut BTreeMap<String, String>> {
    let steps = [status.pre_export_step.as_mut(), status.pre_deployment_step.as_mut()].into_iter().flatten().map(|d| &mut d.properties);
    status.approval.as_mut().map(|d| &mut d.properties).into_iter().chain(steps)
}

/// The list of an artifact's objects and the texts of its definitions are for people. If the definitions are large, none is kept.
pub(crate) fn artifact(artifact: &mut Artifact) {
    bare_but_for_marks(artifact);
    // Jobs may have removed themselves before the next version was exported.
    artifact.spec.objects.retain(|object| object.kind == "Job");
    artifact.spec.objects.truncate(MOST_JOBS);
    artifact.spec.objects.shrink_to_fit();
    artifact.spec.exported_by.groups = Vec::new();
    for variable in &mut artifact.spec.environment_variables {
        variable.description = None;
    }
    if has_large_definitions(artifact) {
        artifact.spec.environment_variables = Vec::new();
        artifact.spec.connection_references = Vec::new();
        artifact.spec.dependencies = Vec::new();
        shorten(artifact);
    }
    let records = artifact.status.as_mut().map(|status| status.deployments.as_mut_slice()).unwrap_or_default();
    if records.iter().map(details).sum::<usize>() > MOST_DETAILS {
        records.iter_mut().for_each(DeploymentRecord::drop_details);
        mark(artifact, SHORTENED_STATUS);
    }
}

/// The size of what only people read in a record, or a rollback, which reads it live.
fn details(record: &DeploymentRecord) -> usize {
    let said = record.decisions.iter().map(|d| size(&d.comments) + size(&d.properties)).sum::<usize>();
    size(&record.settings) + size(&record.findings) + size(&record.errors) + said
}

/// Whether an artifact defines more than is kept. What people wrote about its variables does not count.
pub(crate) fn has_large_definitions(artifact: &Artifact) -> bool {
    let spec = &artifact.spec;
    let said: usize = spec.environment_variables.iter().filter(|v| v.description.is_some()).map(|v| size(&v.description)).sum();
    let fields = spec.environment_variables.iter().filter(|v| v.description.is_some()).count() * r#","description":"#.len();
    size(&spec.environment_variables) + size(&spec.connection_references) + size(&spec.dependencies) > MOST_KEPT + said + fields
}

/// The version of a Solution, and its status. An export reads the rest live.
pub(crate) fn solution(solution: &mut Solution) {
    bare(solution);
    let version = std::mem::take(&mut solution.spec.version);
    solution.spec = SolutionSpec {
        version,
        description: None,
        selector: None,
        components: Vec::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    };
    shorten(solution);
}

/// The labels that decisions are based on.
pub(crate) fn namespace(namespace: &mut PartialObjectMeta<Namespace>) {
    let labels = namespace.metadata.labels.take();
    bare(namespace);
    let kept = labels.map(|mut labels| {
        labels.retain(|key, _| key.starts_with(KEY_PREFIX) || key == names::REGION_LABEL);
        labels
    });
    namespace.metadata.labels = kept;
}

/// Of other policies, only that they exist.
pub(crate) fn validating_policy(object: &mut ValidatingAdmissionPolicy) {
    bare(object);
    object.status = None;
    if !object.name_any().starts_with(OWN_POLICY) {
        object.spec = None;
    }
}

/// See [`validating_policy`].
pub(crate) fn validating_binding(object: &mut ValidatingAdmissionPolicyBinding) {
    bare(object);
    if !object.name_any().starts_with(OWN_POLICY) {
        object.spec = ValidatingAdmissionPolicyBindingSpec::default();
    }
}

/// See [`validating_policy`].
pub(crate) fn mutating_policy(object: &mut MutatingAdmissionPolicy) {
    bare(object);
    if !object.name_any().starts_with(OWN_POLICY) {
        object.spec = None;
    }
}

/// See [`validating_policy`].
pub(crate) fn mutating_binding(object: &mut MutatingAdmissionPolicyBinding) {
    bare(object);
    if !object.name_any().starts_with(OWN_POLICY) {
        object.spec = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As much metadata as anybody can put on an object without breaking its schema.
    fn metadata() -> serde_json::Value {
        let much = "x".repeat(200_000);
        json!({"name": "orders", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
            "annotations": {"a": much}, "labels": {"l": "x"}, "finalizers": ["f/f"], "managedFields": [{"manager": "m"}]})
    }

    #[test]
    fn a_solution_is_kept_by_its_version_and_its_window_however_large_it_is() {
        let variables: Vec<_> = (0..128)
            .map(|i| json!({"name": format!("v{i}"), "default": "x".repeat(4096), "target": {"kind": "ConfigMap", "name": "n", "path": "/p"}}))
            .collect();
        let mut kept: Solution = serde_json::from_value(
            json!({"metadata": metadata(), "spec": {"version": "1.0.0", "environmentVariables": variables}, "status": {"summary": "qa: 1.0.0"}}),
        )
        .unwrap();
        solution(&mut kept);
        assert!(size(&kept) < 400, "{} bytes", size(&kept));
        assert_eq!((kept.spec.version.as_str(), kept.resource_version().as_deref()), ("1.0.0", Some("7")));
        assert_eq!(kept.status.as_ref().map(|s| s.summary.as_str()), Some("qa: 1.0.0"));
        assert!(is_shortened(&kept), "an export reads it live");
    }

    #[test]
    fn a_request_keeps_small_settings_and_says_that_it_lacks_large_ones() {
        let asked = |value: String| -> DeploymentRequest {
            let settings = json!({"environmentVariables": [{"name": "A", "value": value}]});
            serde_json::from_value(json!({"metadata": metadata(), "spec": {"pipeline": "p", "stage": "s", "notes": "for the triggers",
                "solution": {"name": "orders", "version": "1.0.0"}, "deploymentSettings": settings}}))
            .unwrap()
        };
        let (mut small, mut large) = (asked("1".into()), asked("1".repeat(MOST_KEPT)));
        request(&mut small);
        request(&mut large);
        assert!(!is_shortened(&small) && small.spec.deployment_settings.is_some());
        assert!(is_shortened(&large) && large.spec.deployment_settings.is_none());
        assert!(size(&small) < 500 && size(&large) < 500, "{} and {} bytes", size(&small), size(&large));
    }

    #[test]
    fn an_artifact_keeps_small_definitions_and_says_that_it_lacks_large_ones() {
        let mut small: Artifact = serde_json::from_value(json!({"metadata": metadata(), "spec": {
            "solution": {"name": "orders", "version": "1.0.0"}, "digest": "d", "source": {}, "exportedBy": {"username": "dana"},
            "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 1, "size": 1, "storedSize": 1, "chunks": 1}}))
        .unwrap();
        let mut large = small.clone();
        let variable = |default: String| {
            serde_json::from_value(json!({"name": "A", "default": default, "target": {"kind": "ConfigMap", "name": "n", "path": "/p"}}))
                .unwrap()
        };
        small.spec.environment_variables = vec![variable("1".into())];
        large.spec.environment_variables = vec![variable("1".repeat(MOST_KEPT))];
        artifact(&mut small);
        artifact(&mut large);
        assert!(!is_shortened(&small) && small.spec.environment_variables.len() == 1);
        assert!(is_shortened(&large) && large.spec.environment_variables.is_empty());
    }

    #[test]
    fn records_of_many_bytes_are_kept_without_details_and_never_written_from_the_cache() {
        let with = |value: String| -> Artifact {
            let record = json!({"requestUID": "r", "request": "r", "pipeline": "p", "stage": "qa", "stageUID": "s", "environment": "qa",
                "environmentUID": "e", "environmentId": "n", "settingsDigest": "sha256:s", "requestedBy": "dana", "deployedBy": "bot",
                "settings": {"environmentVariables": [{"name": "A", "value": value}]},
                "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:00:00Z", "outcome": "Succeeded"});
            serde_json::from_value(json!({"metadata": metadata(), "spec": {
                "solution": {"name": "orders", "version": "1.0.0"}, "digest": "d", "source": {}, "exportedBy": {"username": "dana"},
                "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 1, "size": 1, "storedSize": 1, "chunks": 1},
                "status": {"deployments": [record]}}))
            .unwrap()
        };
        let (mut small, mut large) = (with("1".into()), with("1".repeat(MOST_DETAILS)));
        artifact(&mut small);
        artifact(&mut large);
        let settings = |artifact: &Artifact| artifact.status.as_ref().unwrap().deployments[0].settings.clone();
        assert!(!has_shortened_status(&small) && settings(&small).is_some());
        assert!(has_shortened_status(&large) && settings(&large).is_none() && !is_shortened(&large));
    }

    #[test]
    fn a_namespace_keeps_the_labels_that_something_is_decided_by() {
        let mut kept =
            PartialObjectMeta::<Namespace> { metadata: serde_json::from_value(metadata()).unwrap(), ..PartialObjectMeta::default() };
        kept.metadata.labels.get_or_insert_default().insert(names::HOST_LABEL.to_owned(), "true".to_owned());
        namespace(&mut kept);
        let labels: Vec<_> = kept.metadata.labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(labels, [names::HOST_LABEL]);
        assert_eq!(kept.metadata.annotations, None);
    }
}
