use k8s_openapi::api::authorization::v1::ResourceRule;
use serde_json::json;

use super::*;
use crate::cluster::blocked::{Until, Wait};

fn kind(group: &str, kind: &str, plural: &str, namespaced: bool, verbs: &[&str]) -> KindInfo {
    let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    KindInfo {
        resource: ApiResource { group: group.into(), version: "v1".into(), api_version, kind: kind.into(), plural: plural.into() },
        namespaced,
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
    }
}

fn cluster() -> Vec<KindInfo> {
    vec![
        kind("", "ConfigMap", "configmaps", true, &["get", "list"]),
        kind("", "Secret", "secrets", true, &["get", "list"]),
        kind("", "Namespace", "namespaces", false, &["get", "list"]),
        kind("example.test", "Both", "both", true, &["get", "list"]),
        kind("example.test", "Both", "clusterboth", false, &["get", "list"]),
        kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", false, &["get", "list"]),
        kind("", "Event", "events", true, &["list"]),
        kind("events.k8s.io", "Event", "events", true, &["list"]),
        kind("apps", "Deployment", "deployments", true, &["get", "list"]),
        kind("authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews", true, &["create"]),
        kind("metrics.k8s.io", "PodMetrics", "pods", true, &["list"]),
        kind(GROUP, "Solution", "solutions", true, &["get", "list"]),
    ]
}

/// What an Environment allows that lists nothing.
const NOTHING: Bounds<'static> = Bounds { environment: "dev", allowed: Some(&[]) };

fn component(group: &str, kind: &str) -> GroupKind {
    GroupKind { group: group.into(), kind: kind.into() }
}

fn names(kinds: &[&KindInfo]) -> Vec<String> {
    kinds.iter().map(|k| k.resource.kind.clone()).collect()
}

#[test]
fn secrets_and_what_controllers_make_are_not_even_listed() {
    let cluster = cluster();
    assert_eq!(names(&chosen(&cluster, &[], &NOTHING).unwrap()), ["ConfigMap", "Both", "Deployment"]);
    assert_eq!(names(&chosen(&cluster, &[component("apps", "Deployment")], &NOTHING).unwrap()), ["Deployment"]);
}

#[test]
fn a_component_that_can_not_be_exported_is_told() {
    let cluster = cluster();
    let secret = chosen(&cluster, &[component("", "Secret")], &NOTHING).unwrap_err();
    assert!(secret.to_string().contains("connection reference"), "{secret}");
    assert!(matches!(chosen(&cluster, &[component("", "Deployment")], &NOTHING), Err(ExportError::UnknownComponent { .. })));
    assert!(matches!(chosen(&cluster, &[component("", "Namespace")], &NOTHING), Err(ExportError::NotNamespaced { .. })));
    assert!(matches!(chosen(&cluster, &[component(GROUP, "Solution")], &NOTHING), Err(ExportError::NeverExported { .. })));
}

#[test]
fn what_belongs_to_the_cluster_is_exported_where_it_is_named_and_allowed() {
    let cluster = cluster();
    let class = component("scheduling.k8s.io", "PriorityClass");
    let Err(error) = chosen(&cluster, std::slice::from_ref(&class), &NOTHING) else { panic!() };
    assert_eq!((error.reason().as_str(), error.until()), ("ClusterScoped", Until::Wait(Wait::Right)));
    let words = "add {group: scheduling.k8s.io, kind: PriorityClass} to spec.clusterScoped of Environment dev";
    assert!(error.to_string().contains(words), "{error}");
    let listed = |group: &str, kind: &str| ClusterScopedKind { group: group.into(), kind: kind.into() };
    let allowed = [listed("scheduling.k8s.io", "PriorityClass"), listed("", "Namespace"), listed("example.test", "Both")];
    let bounds = Bounds { environment: "dev", allowed: Some(&allowed) };
    assert_eq!(names(&chosen(&cluster, std::slice::from_ref(&class), &bounds).unwrap()), ["PriorityClass"]);
    assert!(!names(&chosen(&cluster, &[], &bounds).unwrap()).contains(&"PriorityClass".to_owned()), "only what is named");
    assert!(matches!(chosen(&cluster, &[component("", "Namespace")], &bounds), Err(ExportError::NotNamespaced { .. })));
    let both = chosen(&cluster, &[component("example.test", "Both")], &bounds).unwrap();
    assert_eq!(both.iter().map(|k| k.resource.plural.as_str()).collect::<Vec<_>>(), ["both"]);
}

#[test]
fn the_whole_cluster_is_read_by_who_may_list_it_everywhere() {
    let class = kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", false, &["list"]);
    let wanted = to_read(&class.resource, None);
    assert!(wanted.iter().all(|right| right.namespace.is_none()));
    assert_eq!(wanted.iter().map(|right| right.verb.as_str()).collect::<Vec<_>>(), ["get", "list"]);
    let rights = [wanted, to_read(&kind("", "ConfigMap", "configmaps", true, &["list"]).resource, Some("dev"))].concat();
    let missing = ExportError::RequesterMayNotRead { namespace: "dev".into(), requester: "dana".into(), rights };
    let said = missing.to_string();
    let (everywhere, here) = said.split_once("kind: Role\n").unwrap();
    assert!(here.contains("configmaps") && !here.contains("priorityclasses") && here.contains("name: \"dana\""), "{said}");
    assert!(everywhere.contains("kind: ClusterRole\n") && everywhere.contains("priorityclasses"), "{said}");
    let denied = ExportError::OperatorMayNotRead { namespace: "dev".into(), rights: vec![right("list", &class, "dev")] };
    assert!(denied.to_string().contains("kind: ClusterRoleBinding"), "{denied}");
}

#[test]
fn what_a_target_in_the_same_cluster_has_is_not_exported() {
    let class = kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", false, &["list"]);
    let mut listed = Listed { kind: &class, objects: Vec::new(), deleted: Vec::new(), size: 0, biggest: None, is_reported_on: false };
    let live = |name: &str, labels: Value| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name, "labels": labels}});
    take(&mut listed, &live("own", json!({"a": "b"})), "dev");
    take(&mut listed, &live("of-qa", json!({"a": "b", (names::TARGET_UID_LABEL): "uid"})), "dev");
    assert_eq!(listed.objects.iter().map(object::name).collect::<Vec<_>>(), ["own"]);
}

#[test]
fn a_rule_for_some_names_is_no_right_to_list() {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str], names: Option<&str>| ResourceRule {
        api_groups: Some(groups.iter().map(|s| (*s).to_owned()).collect()),
        resources: Some(resources.iter().map(|s| (*s).to_owned()).collect()),
        resource_names: names.map(|n| vec![n.to_owned()]),
        verbs: verbs.iter().map(|s| (*s).to_owned()).collect(),
    };
    let with = |rule: ResourceRule| SubjectRulesReviewStatus { resource_rules: vec![rule], ..SubjectRulesReviewStatus::default() };
    let deployments = kind("apps", "Deployment", "deployments", true, &["list"]).resource;
    assert!(may_list(&with(rule(&["apps"], &["deployments"], &["get", "list"], None)), &deployments));
    assert!(may_list(&with(rule(&["*"], &["*"], &["*"], None)), &deployments));
    assert!(!may_list(&with(rule(&["apps"], &["deployments"], &["get"], None)), &deployments));
    assert!(!may_list(&with(rule(&[""], &["deployments"], &["list"], None)), &deployments));
    assert!(!may_list(&with(rule(&["apps"], &["deployments"], &["list"], Some("orders"))), &deployments));
}

fn taken(live: &[Value]) -> (Vec<Value>, Vec<Key>) {
    let kind = kind("", "ConfigMap", "configmaps", true, &["list"]);
    let mut listed = Listed { kind: &kind, objects: Vec::new(), deleted: Vec::new(), size: 0, biggest: None, is_reported_on: false };
    for object in live {
        take(&mut listed, object, "dev");
    }
    (listed.objects, listed.deleted)
}

#[test]
fn owned_objects_and_those_of_the_namespace_are_left_out() {
    let owned = |controller: bool| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("owned-{controller}"), "ownerReferences": [{"controller": controller}]}});
    let (objects, _) = taken(&[
        owned(true),
        owned(false),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    ]);
    assert_eq!(objects.iter().map(object::name).collect::<Vec<_>>(), ["owned-false"]);
}

#[test]
fn an_object_that_is_being_deleted_is_named() {
    let (objects, deleted) = taken(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ]);
    assert!(objects.is_empty());
    assert_eq!(deleted[0].to_string(), "ConfigMap going");
}

#[test]
fn only_what_an_autoscaler_of_the_bundle_scales_gives_up_its_replicas() {
    let deployment =
        |name: &str| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 2, "x": 1}});
    let mut objects = vec![
        deployment("scaled"),
        deployment("fixed"),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"}}}),
    ];
    crate::cluster::replicas::give_up(&mut objects);
    assert_eq!(objects[0]["spec"], json!({"x": 1}));
    assert_eq!(objects[1]["spec"], json!({"replicas": 2, "x": 1}));
}

#[test]
fn a_missing_right_is_printed_as_the_rule_that_grants_it() {
    let error = ExportError::RequesterMayNotRead {
        namespace: "dev".into(),
        requester: "dana".into(),
        rights: vec![Right::on("get", "apps", "deployments", "dev")],
    };
    assert!(error.to_string().contains("- {apiGroups: [\"apps\"], resources: [deployments], verbs: [\"get\"]}"), "{error}");
    assert_eq!(error.until(), Until::Wait(Wait::Right));
}
