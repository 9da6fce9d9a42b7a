use serde_json::json;

use super::*;

/// podinfo on Kubernetes 1.36, as the API server returned it, and as its authors wrote it.
fn podinfo(written_by: &str) -> Vec<Value> {
    let text = match written_by {
        "client-side apply" => include_str!("fixtures/podinfo_client_side_apply.json"),
        "server-side apply" => include_str!("fixtures/podinfo_server_side_apply.json"),
        "create" => include_str!("fixtures/podinfo_create.json"),
        _ => include_str!("fixtures/podinfo_written.json"),
    };
    serde_json::from_str(text).unwrap()
}

fn find(objects: &[Value], kind: &str) -> Value {
    objects.iter().find(|o| object::kind(o) == kind).unwrap().clone()
}

fn projected(written_by: &str, kind: &str) -> Value {
    project(&find(&podinfo(written_by), kind), "dev").unwrap()
}

#[test]
fn what_was_applied_is_what_is_exported() {
    for written_by in ["client-side apply", "server-side apply"] {
        for kind in ["Deployment", "Service", "HorizontalPodAutoscaler"] {
            assert_json_diff::assert_json_eq!(projected(written_by, kind), find(&podinfo("authors"), kind));
        }
    }
}

#[test]
fn what_was_created_is_exported_without_the_servers_defaults() {
    for kind in ["Deployment", "Service", "HorizontalPodAutoscaler"] {
        let live = find(&podinfo("create"), kind);
        let exported = project(&live, "dev").unwrap();
        // Defaults that the authors wrote out can't be told from the server's, so that they go too.
        let mut authors = find(&podinfo("authors"), kind);
        defaults::strip(&mut authors, Declared::Nothing);
        assert_json_diff::assert_json_eq!(exported, authors);
        let mut unmanaged = live;
        unmanaged["metadata"].as_object_mut().unwrap().remove("managedFields");
        // The autoscaler's number can't be told from a person's then; the export, which knows the autoscaler, drops it.
        unmanaged["spec"].as_object_mut().unwrap().remove("replicas");
        assert_json_diff::assert_json_eq!(project(&unmanaged, "dev").unwrap(), exported);
    }
}

fn config_map(managers: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "dev", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2,
            "finalizers": ["x/y"], "ownerReferences": [{"kind": "X"}], "labels": {"a": "1", "added": "2"}, "managedFields": managers},
        "data": {"a": "1", "b": "2"}, "status": {"x": 1}})
}

fn manager(name: &str, operation: &str, subresource: &str, fields: &Value) -> Value {
    json!({"manager": name, "operation": operation, "subresource": subresource, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

#[test]
fn edits_of_people_and_of_other_tools_are_added_to_what_was_applied() {
    let applied = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:data": {"f:a": {}}});
    let edited = json!({"f:data": {"f:b": {}}});
    let labelled = json!({"f:metadata": {"f:labels": {"f:added": {}}}});
    let live = config_map(&json!([
        manager("flux", "Apply", "", &applied),
        manager("kubectl-edit", "Update", "", &edited),
        manager("some-ui", "Update", "", &labelled)
    ]));
    assert_eq!(
        project(&live, "dev").unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "1", "added": "2"}}, "data": {"a": "1", "b": "2"}})
    );
}

#[test]
fn what_controllers_added_is_left_behind() {
    let applied = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:data": {"f:a": {}}});
    let added = json!({"f:metadata": {"f:labels": {"f:added": {}}}, "f:data": {"f:b": {}}});
    for (name, and_status) in [("kube-controller-manager", false), ("vpa-updater", false), ("db-operator", true)] {
        let mut managers = vec![manager("kubectl", "Apply", "", &applied), manager(name, "Update", "", &added)];
        if and_status {
            managers.push(manager(name, "Update", "status", &json!({"f:status": {"f:x": {}}})));
        }
        assert_eq!(
            project(&config_map(&json!(managers)), "dev").unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "1"}}, "data": {"a": "1"}}),
            "{name}"
        );
    }
}

#[test]
fn what_only_the_cluster_made_is_nobodys() {
    let made = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:data": {"f:a": {}, "f:b": {}}});
    let mut managers = vec![manager("kube-controller-manager", "Update", "", &made)];
    assert_eq!(project(&config_map(&json!(managers)), "dev"), None);
    managers.push(manager("kubectl-label", "Update", "", &json!({"f:metadata": {"f:labels": {"f:added": {}}}})));
    assert_eq!(project(&config_map(&json!(managers)), "dev"), None);
}

#[test]
fn what_another_controller_made_is_taken_where_nobody_else_wrote_it() {
    let made = json!({"f:data": {"f:a": {}}});
    let live = config_map(&json!([
        manager("operator", "Update", "", &made),
        manager("operator", "Update", "status", &json!({"f:status": {"f:x": {}}})),
        manager("kubectl-label", "Update", "", &json!({"f:metadata": {"f:labels": {"f:a": {}}}}))
    ]));
    assert_eq!(
        project(&live, "dev").unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "1"}}, "data": {"a": "1"}})
    );
}

#[test]
fn an_object_that_was_written_in_another_version_comes_whole() {
    let mut applied = manager("kubectl", "Apply", "", &json!({"f:data": {"f:old": {}}}));
    applied["apiVersion"] = json!("v0");
    let exported = project(&config_map(&json!([applied])), "dev").unwrap();
    assert_eq!(exported["data"], json!({"a": "1", "b": "2"}));
    assert_eq!(exported["metadata"], json!({"name": "c", "labels": {"a": "1", "added": "2"}}));
}

#[test]
fn a_scaled_deployment_keeps_the_number_that_a_person_gave_it() {
    let mut live = find(&podinfo("client-side apply"), "Deployment");
    live["spec"]["replicas"] = json!(4);
    let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
    entries.push(json!({"manager": "kubectl", "operation": "Update", "subresource": "scale", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}));
    assert_eq!(project(&live, "dev").unwrap()["spec"]["replicas"], json!(4));
    let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
    entries.last_mut().unwrap()["manager"] = json!("kube-controller-manager");
    assert_eq!(project(&live, "dev").unwrap()["spec"].get("replicas"), None);
}

#[test]
fn a_container_that_was_edited_in_brings_no_defaults() {
    let mut live = find(&podinfo("client-side apply"), "Deployment");
    let sidecar = json!({"name": "sidecar", "image": "envoy:1", "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log", "resources": {}});
    live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"sidecar\"}": {
        ".": {}, "f:name": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:terminationMessagePath": {}, "f:resources": {}}}}}}});
    let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
    entries.push(json!({"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": fields}));
    let exported = project(&live, "dev").unwrap();
    let containers = exported["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers[1], json!({"name": "sidecar", "image": "envoy:1"}));
    let authors = find(&podinfo("authors"), "Deployment");
    assert_json_diff::assert_json_eq!(containers[0], authors["spec"]["template"]["spec"]["containers"][0]);
}

#[test]
fn unreadable_managed_fields_are_as_good_as_none() {
    let exported = project(&config_map(&json!([manager("x", "Apply", "", &json!({"nonsense": 1}))])), "dev").unwrap();
    assert_eq!(exported["data"], json!({"a": "1", "b": "2"}));
}

#[test]
fn a_network_policy_for_all_pods_keeps_its_empty_selector() {
    // As `kubectl create` leaves it: no manager owns the selector, which is empty in Go's empty object already.
    let live = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "n", "managedFields": [{"manager": "kubectl-create", "operation": "Update", "apiVersion": "networking.k8s.io/v1",
            "fieldsV1": {"f:spec": {"f:ingress": {}, "f:policyTypes": {}}}}]},
        "spec": {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}});
    assert_eq!(project(&live, "dev").unwrap()["spec"], json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}));
}

#[test]
fn a_node_port_that_was_applied_stays_whatever_else_was_left_out_of_its_port() {
    let keyed = json!({"f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:nodePort": {}, "f:port": {}, "f:protocol": {}}}}});
    let document =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "nodePort": 30080}]}});
    let live = |annotations: Value, managers: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations, "managedFields": managers},
            "spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}})
    };
    let kept = json!([{"port": 80, "nodePort": 30080}]);
    let client_side =
        live(json!({(LAST_APPLIED): document.to_string()}), json!([manager("kubectl-client-side-apply", "Update", "", &keyed)]));
    assert_eq!(project(&client_side, "dev").unwrap()["spec"]["ports"], kept);
    let applied = json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:nodePort": {}, "f:port": {}}}}});
    let server_side = live(json!({}), json!([manager("test", "Apply", "", &applied)]));
    assert_eq!(project(&server_side, "dev").unwrap()["spec"]["ports"], kept);
    let created = live(json!({}), json!([manager("kubectl-create", "Update", "", &keyed)]));
    assert_eq!(project(&created, "dev").unwrap()["spec"]["ports"], json!([{"port": 80}]), "the server may have chosen it");
}

#[test]
fn what_controllers_that_report_no_status_add_is_left_behind() {
    let secrets = json!({"f:secrets": {"k:{\"name\":\"app-dockercfg-x\"}": {".": {}, "f:name": {}}},
        "f:imagePullSecrets": {"k:{\"name\":\"app-dockercfg-x\"}": {".": {}, "f:name": {}}},
        "f:metadata": {"f:annotations": {"f:openshift.io/internal-registry-pull-secret-ref": {}}}});
    let account = |adds: &str| {
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "app", "labels": {"a": "1"}, "annotations": {"openshift.io/internal-registry-pull-secret-ref": "app-dockercfg-x"}, "managedFields": [
                manager("kubectl", "Apply", "", &json!({"f:metadata": {"f:labels": {"f:a": {}}}})),
                manager(adds, "Update", "", &secrets)]},
            "secrets": [{"name": "app-dockercfg-x"}], "imagePullSecrets": [{"name": "app-dockercfg-x"}]})
    };
    let left = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "labels": {"a": "1"}}});
    for adds in ["openshift-controller-manager", "pull-secret-controller", "registry-operator"] {
        assert_eq!(project(&account(adds), "dev").unwrap(), left, "{adds}");
    }
    for writes in ["kubectl-patch", "helm-controller", "argocd-application-controller", "some-ui"] {
        let kept = project(&account(writes), "dev").unwrap();
        assert_eq!(kept["imagePullSecrets"], json!([{"name": "app-dockercfg-x"}]), "{writes} writes what people told it to");
    }
}

#[test]
fn the_rules_of_an_aggregated_role_are_its_controllers() {
    let written = json!({"f:aggregationRule": {"f:clusterRoleSelectors": {}}, "f:metadata": {"f:labels": {"f:a": {}}}});
    let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all", "labels": {"a": "1"},
        "managedFields": [
            manager("kubectl-create", "Update", "", &written),
            manager("clusterrole-aggregation-controller", "Apply", "", &json!({"f:rules": {}}))]},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}, "rules": [{"verbs": ["get"]}]});
    for entry in role["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    }
    let expected = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all", "labels": {"a": "1"}},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}});
    assert_eq!(project(&role, "dev").unwrap(), expected);
    role["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(as_written(&role, "dev"), expected, "wherever it comes from");
}
