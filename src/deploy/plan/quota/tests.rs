use std::collections::BTreeSet;

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use super::*;
use crate::cluster::object::{Item, Served};
use crate::deploy::plan::created_anew::Handover;
use crate::deploy::plan::members::Set;
use crate::deploy::plan::planned::{ParentPlan, Pruning};
use crate::identity::delegate::Delegate;

fn item(action: PlannedAction, kind: &str, name: &str, body: Value, live: Option<Value>) -> PlannedItem {
    let group = if kind == "Deployment" { "apps" } else { "" };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let mut body = body;
    body["apiVersion"] = resource.api_version.clone().into();
    body["kind"] = kind.into();
    let key = Key { group: group.into(), kind: kind.into(), name: name.into() };
    PlannedItem {
        item: Item { key, served: Served::in_namespaces(resource), body },
        action,
        live,
        would_be: None,
        fields: vec![],
        handover: Handover::default(),
    }
}

fn planned(items: Vec<PlannedItem>, is_new: bool) -> Planned {
    Planned {
        namespace: "qa".into(),
        solution: "orders".into(),
        set: Set::new("orders", "qa", "uid"),
        delegate: Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() },
        force: false,
        parent: ParentPlan::new((!is_new).then(BTreeSet::new), BTreeSet::new()),
        items,
        pruning: Pruning::default(),
        held: vec![],
        left_alone: BTreeSet::new(),
        left_in_cluster: BTreeSet::new(),
        warnings: vec![],
        reported_on: BTreeSet::new(),
    }
}

fn quota(spec: &Value, used: &Value) -> ResourceQuota {
    let hard = spec["hard"].clone();
    serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec, "status": {"hard": hard, "used": used}})).unwrap()
}

fn short(quota: &ResourceQuota, planned: &Planned) -> Vec<String> {
    judge(std::slice::from_ref(quota), planned, &asked(planned)).short.into_iter().map(|r| r.message).collect()
}

fn services(count: usize) -> Vec<PlannedItem> {
    (0..count).map(|n| item(PlannedAction::Create, "Service", &format!("s{n}"), json!({"spec": {"ports": []}}), None)).collect()
}

#[test]
fn the_sum_is_held_against_what_is_left_and_told_with_it() {
    let two = quota(&json!({"hard": {"services": "2"}}), &json!({"services": "0"}));
    assert!(short(&two, &planned(services(2), true)).is_empty());
    let told = short(&two, &planned(services(3), true));
    assert!(told[0].contains("ResourceQuota q of namespace qa: services: hard 2, used 0, asked for 3 more. "), "{told:?}");
    let used = quota(&json!({"hard": {"services": "4"}}), &json!({"services": "3"}));
    assert!(short(&used, &planned(services(2), true))[0].contains("hard 4, used 3, asked for 2 more"));
}

#[test]
fn the_record_of_a_new_solution_counts_and_what_stays_or_shrinks_does_not() {
    let none = quota(&json!({"hard": {"configmaps": "1", "count/configmaps": "1"}}), &json!({"configmaps": "1", "count/configmaps": "1"}));
    assert!(short(&none, &planned(vec![], true))[0].contains("count/configmaps: hard 1, used 1, asked for 1 more"));
    let stays = item(PlannedAction::Unchanged, "ConfigMap", "a", json!({}), None);
    assert!(!asked(&planned(vec![stays], false)).grows());
    let with = |replicas: u64| json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [{}]}}}});
    let scaled = |to: u64| planned(vec![item(PlannedAction::Update, "Deployment", "web", with(to), Some(with(3)))], false);
    let full = quota(&json!({"hard": {"pods": "4"}}), &json!({"pods": "3"}));
    assert!(short(&full, &scaled(4)).is_empty() && short(&full, &scaled(2)).is_empty());
    assert!(short(&full, &scaled(5))[0].contains("pods: hard 4, used 3, asked for 2 more"));
}

#[test]
fn a_quota_for_some_pods_is_left_to_the_server_and_pods_that_say_nothing_are_told() {
    let deployment = || {
        planned(
            vec![item(PlannedAction::Create, "Deployment", "web", json!({"spec": {"template": {"spec": {"containers": [{}]}}}}), None)],
            false,
        )
    };
    let scoped = quota(&json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}), &json!({}));
    assert!(short(&scoped, &deployment()).is_empty());
    let cpu = quota(&json!({"hard": {"requests.cpu": "1"}}), &json!({}));
    let plan = deployment();
    let verdict = judge(&[cpu], &plan, &asked(&plan));
    assert!(verdict.short.is_empty());
    assert!(verdict.told[0].reason == "QuotaNeedsResources" && verdict.told[0].message.contains("requests.cpu of Deployment web"));
}

#[test]
fn quotas_are_read_from_the_cache_of_the_server_within_a_limit() {
    let request = kube::core::Request::new("/x").list(&page()).unwrap();
    let query = request.uri().query().unwrap_or_default();
    for part in ["limit=", "resourceVersion=1", "resourceVersionMatch=NotOlderThan"] {
        assert!(query.contains(part), "{query}");
    }
}
