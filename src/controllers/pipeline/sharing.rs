//! The objects that a pipeline's `sharedWith` generates: a Role and two `RoleBindings` in the host.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::api::names::{FIELD_MANAGER, MANAGED_BY, PIPELINE_LABEL, sharing_name, short_hash};
use crate::api::pipeline::Visibility;
use crate::api::reference::{Subject, SubjectKind};
use crate::api::{GROUP, Pipeline};

/// The API group of Roles.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The most characters of a label's value.
const MOST_LABEL: usize = 63;

/// What the operator generates for one pipeline.
pub(crate) struct Sharing {
    /// `get` and `deploy` on that pipeline.
    pub(crate) role: Role,
    /// The binding of that Role to those that the pipeline is shared with.
    pub(crate) binding: RoleBinding,
    /// What they may do with requests, as the pipeline's visibility says.
    pub(crate) requests: RoleBinding,
}

/// The name of the Role and its binding, and the name of the binding for requests. A pipeline's name can't contain a colon, so two
/// pipelines never share a name here.
pub(crate) fn names(pipeline: &Pipeline) -> (String, String) {
    let name = sharing_name(&pipeline.name_any());
    let requests = format!("{name}:requests");
    (name, requests)
}

/// The objects that should exist. `None` if the pipeline is shared with nobody.
pub(crate) fn desired(pipeline: &Pipeline) -> Option<Sharing> {
    if pipeline.spec.shared_with.is_empty() {
        return None;
    }
    let (name, requests) = names(pipeline);
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: pipeline.namespace(),
        labels: Some(labels(pipeline)),
        owner_references: pipeline.controller_owner_ref(&()).map(|owner| {
            vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference { block_owner_deletion: Some(false), ..owner }]
        }),
        ..ObjectMeta::default()
    };
    let mut subjects: Vec<RbacSubject> = pipeline.spec.shared_with.iter().map(subject).collect();
    subjects.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
    subjects.dedup();
    let reference = |kind: &str, name: &str| RoleRef { api_group: Some(RBAC.to_owned()), kind: kind.to_owned(), name: name.to_owned() };
    let user_role = match pipeline.spec.visibility {
        Visibility::Private => "pilotage-user",
        Visibility::Shared => "pilotage-user-shared",
    };
    Some(Sharing {
        role: Role {
            metadata: metadata(&name),
            rules: Some(vec![PolicyRule {
                api_groups: Some(vec![GROUP.to_owned()]),
                resources: Some(vec![Pipeline::plural(&()).into_owned()]),
                resource_names: Some(vec![pipeline.name_any()]),
                verbs: vec!["get".to_owned(), "deploy".to_owned()],
                ..PolicyRule::default()
            }]),
        },
        binding: RoleBinding { metadata: metadata(&name), role_ref: reference("Role", &name), subjects: Some(subjects.clone()) },
        requests: RoleBinding { metadata: metadata(&requests), role_ref: reference("ClusterRole", user_role), subjects: Some(subjects) },
    })
}

/// Whether the operator generated the object for this pipeline. Other objects are never changed.
pub(crate) fn is_ours(object: &impl Resource, pipeline: &Pipeline) -> bool {
    labels(pipeline).iter().all(|(key, value)| object.labels().get(key) == Some(value))
}

/// Whether labels and owner are as they should be.
pub(crate) fn same_metadata(live: &ObjectMeta, desired: &ObjectMeta) -> bool {
    let has = |key: &String, value: &String| live.labels.as_ref().and_then(|l| l.get(key)) == Some(value);
    let owned_by = |owner| live.owner_references.iter().flatten().any(|o| o == owner);
    desired.labels.iter().flatten().all(|(key, value)| has(key, value)) && desired.owner_references.iter().flatten().all(owned_by)
}

fn labels(pipeline: &Pipeline) -> BTreeMap<String, String> {
    [(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()), (PIPELINE_LABEL.to_owned(), label_value(&pipeline.name_any()))].into()
}

/// A name as the value of a label. Names may be longer than label values: the end of a long name is replaced by a hash.
fn label_value(name: &str) -> String {
    if name.len() <= MOST_LABEL {
        return name.to_owned();
    }
    let hash = short_hash(name);
    let start: String = name.chars().take(MOST_LABEL - hash.len() - 1).collect();
    format!("{start}-{hash}")
}

fn subject(subject: &Subject) -> RbacSubject {
    let (kind, api_group) = match subject.kind {
        SubjectKind::User => ("User", Some(RBAC.to_owned())),
        SubjectKind::Group => ("Group", Some(RBAC.to_owned())),
        SubjectKind::ServiceAccount => ("ServiceAccount", None),
    };
    RbacSubject { kind: kind.to_owned(), api_group, name: subject.name.clone(), namespace: subject.namespace.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str, visibility: &str, shared_with: &str) -> Pipeline {
        let text = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "host", "uid": "uid"}},
                "spec": {{"visibility": "{visibility}", "sharedWith": {shared_with}}}}}"#
        );
        serde_json::from_str(&text).unwrap_or_else(|e| unreachable!("{e}"))
    }

    const MAKERS: &str = r#"[{"kind": "User", "name": "dana"}, {"kind": "Group", "name": "makers"}, {"kind": "User", "name": "dana"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "ci"}]"#;

    #[test]
    fn makers_may_deploy_through_that_pipeline_and_no_other() {
        let sharing = desired(&pipeline("standard", "Private", MAKERS)).unwrap_or_else(|| unreachable!());
        let rule = &sharing.role.rules.as_ref().unwrap_or_else(|| unreachable!())[0];
        assert_eq!(rule.verbs, ["get", "deploy"]);
        assert_eq!(rule.resource_names.as_deref(), Some(&["standard".to_owned()][..]));
        let subjects = sharing.binding.subjects.unwrap_or_default();
        let named: Vec<(&str, &str)> = subjects.iter().map(|s| (s.kind.as_str(), s.name.as_str())).collect();
        assert_eq!(named, [("Group", "makers"), ("ServiceAccount", "ci"), ("User", "dana")]);
        let owner = &sharing.role.metadata.owner_references.unwrap_or_default()[0];
        assert_eq!((owner.controller, owner.block_owner_deletion, owner.uid.as_str()), (Some(true), Some(false), "uid"));
    }

    #[test]
    fn only_a_shared_pipeline_lets_makers_read_requests() {
        let role = |visibility: &str| desired(&pipeline("p", visibility, MAKERS)).map(|s| s.requests.role_ref.name);
        assert_eq!(role("Private").as_deref(), Some("pilotage-user"));
        assert_eq!(role("Shared").as_deref(), Some("pilotage-user-shared"));
    }

    #[test]
    fn a_pipeline_shared_with_nobody_generates_nothing() {
        assert!(desired(&pipeline("p", "Shared", "[]")).is_none());
    }

    #[test]
    fn no_two_pipelines_share_a_generated_name() {
        assert_ne!(names(&pipeline("a", "Private", "[]")).1, names(&pipeline("a-requests", "Private", "[]")).0);
        let long = "p".repeat(80);
        assert_eq!(label_value(&long).len(), 63);
        assert_ne!(label_value(&long), label_value(&format!("{long}x")));
    }

    #[test]
    fn what_somebody_else_made_is_not_ours() {
        let shared = pipeline("p", "Private", MAKERS);
        let mut role = desired(&shared).map(|s| s.role).unwrap_or_default();
        assert!(is_ours(&role, &shared));
        assert!(!is_ours(&role, &pipeline("q", "Private", MAKERS)));
        role.metadata.labels = None;
        assert!(!is_ours(&role, &shared));
    }
}
