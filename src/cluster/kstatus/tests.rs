use serde_json::{Value, json};

use super::*;

fn is_current(object: &Value) -> bool {
    assess(object) == Health::Current
}

fn waits_for(object: &Value) -> String {
    match assess(object) {
        Health::InProgress(what) => what,
        other => panic!("{other:?}"),
    }
}

fn fails_with(object: &Value) -> String {
    match assess(object) {
        Health::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

fn deployment_with(status: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders", "generation": 2},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 600}, "status": status})
}

#[test]
fn a_deployment_is_current_when_all_its_pods_are_new_and_available() {
    let conditions = json!([{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "conditions": conditions});
    assert!(is_current(&deployment_with(&done)));

    for (field, value, expected) in [
        ("observedGeneration", 1, "generation 1 and not yet 2"),
        ("updatedReplicas", 1, "1 of 2 pods are of the new version"),
        ("replicas", 3, "1 old pods still run"),
        ("availableReplicas", 1, "1 of 2 pods are available"),
        ("readyReplicas", 0, "0 of 2 pods are ready"),
    ] {
        let mut status = done.clone();
        status[field] = json!(value);
        assert!(waits_for(&deployment_with(&status)).contains(expected), "{field}");
    }
    assert_eq!(waits_for(&deployment_with(&json!({}))), "its controller has not seen it yet");
}

#[test]
fn a_deployment_fails_when_its_deadline_is_exceeded_and_says_why_pods_are_missing() {
    let quota = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods"});
    let waiting = json!({"observedGeneration": 2, "conditions": [quota.clone()]});
    assert!(waits_for(&deployment_with(&waiting)).contains("exceeded quota"));
    let failed = json!({"observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet has timed out"}, quota]});
    assert_eq!(
        fails_with(&deployment_with(&failed)),
        "ProgressDeadlineExceeded: ReplicaSet has timed out (FailedCreate: exceeded quota: pods)"
    );
}

#[test]
fn a_deployment_without_replicas_is_current_once_it_was_seen() {
    let mut object = deployment_with(&json!({"observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}));
    object["spec"]["replicas"] = json!(0);
    assert!(is_current(&object));
}

#[test]
fn a_stateful_set_waits_for_its_revision_and_honours_a_partition() {
    let set = |spec: Value, status: Value| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1}, "spec": spec, "status": status});
    let done = json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3, "currentRevision": "b", "updateRevision": "b"});
    assert!(is_current(&set(json!({"replicas": 3}), done)));
    let rolling = json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "currentReplicas": 2, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"});
    assert_eq!(waits_for(&set(json!({"replicas": 3}), rolling.clone())), "1 of 3 pods are of the new version");
    let partition = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    assert!(is_current(&set(partition, rolling.clone())));
    assert!(is_current(&set(json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), rolling)));
}

#[test]
fn a_daemon_set_waits_for_every_node() {
    let set =
        |status: Value| json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}, "status": status});
    let done = json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2});
    assert!(is_current(&set(done.clone())));
    let mut partly = done;
    partly["numberAvailable"] = json!(1);
    assert_eq!(waits_for(&set(partly)), "1 of 2 nodes have an available pod");
    assert_eq!(waits_for(&set(json!({"observedGeneration": 1}))), "its controller has not counted the nodes yet");
}

#[test]
fn a_job_is_waited_for_until_it_ends() {
    let job = |status: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generation": 1}, "spec": {}, "status": status});
    assert_eq!(waits_for(&job(json!({}))), "it has not started yet");
    assert!(waits_for(&job(json!({"startTime": "t", "active": 1}))).contains("1 active"));
    assert!(is_current(&job(json!({"conditions": [{"type": "Complete", "status": "True"}]}))));
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]});
    assert_eq!(fails_with(&job(failed)), "it failed: BackoffLimitExceeded: Job has reached the specified backoff limit");
}

#[test]
fn a_pod_is_judged_by_its_phase_and_containers() {
    let pod = |status: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "status": status});
    assert!(is_current(&pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))));
    assert!(is_current(&pod(json!({"phase": "Succeeded"}))));
    assert_eq!(
        fails_with(&pod(
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]})
        )),
        "containers crash again and again: app"
    );
    assert!(fails_with(&pod(json!({"phase": "Failed", "reason": "Evicted"}))).contains("Evicted"));
    let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    assert!(waits_for(&pod(unscheduled)).contains("0/3 nodes"));
}

#[test]
fn claims_services_and_definitions_follow_kstatus() {
    let claim = |phase: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase}});
    assert!(is_current(&claim("Bound")));
    assert!(waits_for(&claim("Pending")).contains("not bound"));
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": spec});
    assert!(is_current(&service(json!({"clusterIP": "10.0.0.1"}))));
    assert!(is_current(&service(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}))));
    assert_eq!(waits_for(&service(json!({"type": "LoadBalancer"}))), "it has no cluster IP yet");
    let definition =
        |c: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "status": {"conditions": [c]}});
    assert!(is_current(&definition(json!({"type": "Established", "status": "True"}))));
    assert!(waits_for(&definition(json!({"type": "Established", "status": "False", "reason": "Installing"}))).contains("installed"));
    assert!(
        fails_with(&definition(json!({"type": "NamesAccepted", "status": "False", "reason": "Conflict", "message": "taken"})))
            .contains("taken")
    );
}

#[test]
fn custom_resources_are_judged_by_the_standard_conditions() {
    let widget =
        |status: Value| json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"generation": 3}, "status": status});
    let condition = |type_: &str, status: &str| json!({"observedGeneration": 3, "conditions": [{"type": type_, "status": status, "reason": "R", "message": "m"}]});
    assert!(is_current(&json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"generation": 1}})));
    assert!(is_current(&widget(condition("Ready", "True"))));
    assert_eq!(waits_for(&widget(condition("Ready", "False"))), "Ready is False: R: m");
    assert_eq!(waits_for(&widget(condition("Available", "Unknown"))), "Available is Unknown: R: m");
    assert_eq!(waits_for(&widget(condition("Reconciling", "True"))), "R: m");
    assert_eq!(fails_with(&widget(condition("Stalled", "True"))), "R: m");
    let old = json!({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]});
    assert!(waits_for(&widget(old)).contains("generation 2 and not yet of 3"));
}

#[test]
fn an_object_that_is_being_deleted_is_not_current() {
    assert_eq!(waits_for(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"deletionTimestamp": "t"}})), "it is being deleted");
}
