use serde_json::{Value, json};

use super::*;

fn managed(manager: &str, operation: &str, api_version: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": api_version, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

fn owned_by(object: &mut Value, managers: Value) -> Ownership {
    object["metadata"]["managedFields"] = managers;
    let owned = Ownership::of(object, object::api_version(object));
    assert!(owned.is_certain);
    owned
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "u", "resourceVersion": "7"}, "spec": spec})
}

fn pods(pod: &Value) -> Value {
    json!({"template": {"spec": pod}})
}

const ITEM: &str = "k:{\"name\":\"web\"}";

fn ours(pod: &Value) -> Value {
    managed("pilotage", "Apply", "apps/v1", &json!({"f:spec": {"f:template": {"f:spec": pod}}}))
}

#[test]
fn an_account_that_is_given_up_goes_with_its_older_name() {
    let container = json!([{"name": "web", "image": "a"}]);
    let former = json!({"containers": container, "serviceAccountName": "powerful", "serviceAccount": "powerful"});
    let mut live = deployment(&pods(&former));
    let owned = owned_by(
        &mut live,
        json!([ours(&json!({"f:serviceAccountName": {}, "f:containers": {ITEM: {".": {}, "f:name": {}, "f:image": {}}}}))]),
    );
    let manifest = deployment(&pods(&json!({"containers": container})));
    // The server fills the one in again from the other, which nobody owns.
    assert!(gives_up(&owned, &manifest, &live), "although nothing would change");
    assert_eq!(
        meant(&owned, &manifest, &live),
        json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"template": {"spec": {"serviceAccountName": null, "serviceAccount": null}}}})
    );
    let anew = deployment(&pods(&json!({"containers": container})));
    let handover = left_behind(&owned, &manifest, &live, &anew, json!({}));
    assert_eq!(handover.takes, json!({"f:spec": {"f:template": {"f:spec": {"f:serviceAccountName": {}, "f:serviceAccount": {}}}}}));
    let after = handover.managed_fields(&live, "apps/v1").unwrap();
    assert_eq!(after[0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:serviceAccount"], json!({}));
    assert_eq!(after[0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][ITEM]["f:image"], json!({}), "the rest stays");
}

#[test]
fn the_defaults_of_a_former_choice_go() {
    let container = json!({"containers": [{"name": "web", "image": "a"}]});
    let with = |strategy: Value| {
        let mut spec = pods(&container);
        spec["strategy"] = strategy;
        deployment(&spec)
    };
    let mut live = with(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}));
    let owned = owned_by(&mut live, json!([ours(&json!({"f:containers": {ITEM: {".": {}, "f:name": {}, "f:image": {}}}}))]));
    let manifest = with(json!({"type": "Recreate"}));
    assert_eq!(meant(&owned, &manifest, &live)["spec"], json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}));
    let handover = left_behind(&owned, &manifest, &live, &manifest, json!({}));
    assert_eq!(
        handover.takes,
        json!({"f:spec": {"f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}}}}),
        "and the type is the manifest's own"
    );
}

#[test]
fn what_the_server_chose_by_its_neighbours_is_chosen_anew() {
    let policy =
        |spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}, "spec": spec});
    let manifest = policy(json!({"podSelector": {}, "ingress": [{}], "egress": [{}]}));
    let mut would_be = policy(json!({"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress"]}));
    let fields = json!({"f:spec": {"f:podSelector": {}, "f:ingress": {}}});
    let owned = owned_by(&mut would_be, json!([managed("pilotage", "Apply", "networking.k8s.io/v1", &fields)]));
    assert!(leaves_behind(&owned, &manifest, &would_be));
    let mut anew = would_be.clone();
    anew["spec"]["policyTypes"] = json!(["Ingress", "Egress"]);
    assert_eq!(left_behind(&owned, &manifest, &would_be, &anew, json!({})).takes, json!({"f:spec": {"f:policyTypes": {}}}));
}

#[test]
fn usual_defaults_cost_no_call() {
    let manifest = deployment(&pods(&json!({"containers": [{"name": "web", "image": "a:1"}]})));
    let mut would_be = deployment(&json!({
        "replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"creationTimestamp": null}, "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {},
            "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "web", "image": "a:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]}}
    }));
    let owned = owned_by(&mut would_be, json!([ours(&json!({"f:containers": {ITEM: {".": {}, "f:name": {}, "f:image": {}}}}))]));
    assert!(!gives_up(&owned, &manifest, &would_be) && !leaves_behind(&owned, &manifest, &would_be));
    // The policy of an image without a tag is not that of one with it.
    would_be["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    assert!(leaves_behind(&owned, &manifest, &would_be));
}

#[test]
fn what_others_own_stays() {
    let mut live = deployment(&pods(&json!({
        "containers": [{"name": "web", "image": "a", "env": [{"name": "DEBUG", "value": "1"}]}, {"name": "sidecar", "image": "s"}]})));
    let set = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
        ITEM: {"f:env": {".": {}, "k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}, "f:value": {}}}},
        "k:{\"name\":\"sidecar\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}});
    let owned = owned_by(
        &mut live,
        json!([
            ours(&json!({"f:containers": {ITEM: {".": {}, "f:name": {}, "f:image": {}}}})),
            managed("kubectl-set", "Update", "apps/v1", &set)
        ]),
    );
    let manifest = deployment(&pods(&json!({"containers": [{"name": "web", "image": "b"}]})));
    assert_eq!(
        meant(&owned, &manifest, &live)["spec"]["template"]["spec"]["containers"],
        json!([{"name": "web", "image": "b", "env": [{"name": "DEBUG", "value": "1"}]}, {"name": "sidecar", "image": "s"}])
    );
    assert!(!gives_up(&owned, &manifest, &live) && !leaves_behind(&owned, &manifest, &live));
}

#[test]
fn a_port_whose_number_was_changed_by_hand_is_found_and_goes() {
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": ports}});
    let mut live = service(json!([{"name": "http", "port": 83, "protocol": "TCP", "targetPort": 8080}]));
    let item = "k:{\"port\":83,\"protocol\":\"TCP\"}";
    let managers = json!([
        managed(
            "kubectl-edit",
            "Update",
            "v1",
            &json!({"f:spec": {"f:ports": {item: {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}}})
        ),
        managed("pilotage", "Apply", "v1", &json!({"f:spec": {"f:selector": {}}}))
    ]);
    let owned = owned_by(&mut live, managers);
    let manifest = service(json!([{"name": "http", "port": 80, "targetPort": 8081}]));
    let drops = drifted(&owned, &manifest, &live);
    assert_eq!(drops, json!({"f:spec": {"f:ports": {item: {}}}}));
    let owned = Ownership::without(&live, "v1", &drops);
    assert_eq!(meant(&owned, &manifest, &live)["spec"], json!({"ports": [{"name": "http", "port": 80, "targetPort": 8081}]}));
    let anew = service(json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8081}]));
    let after = left_behind(&owned, &manifest, &live, &anew, drops).managed_fields(&live, "v1").unwrap();
    assert_eq!(after.as_array().unwrap().len(), 1, "who changed it owns nothing any more: {after}");
    assert_eq!(after[0]["fieldsV1"]["f:spec"]["f:ports"][item]["f:port"], json!({}));
}

#[test]
fn an_addition_is_no_drift() {
    let mut live = deployment(&pods(&json!({"containers": [{"name": "web", "image": "a:1"}, {"name": "sidecar", "image": "s"}]})));
    let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"sidecar\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}});
    let owned = owned_by(&mut live, json!([managed("kubectl-edit", "Update", "apps/v1", &fields)]));
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let manifest = |added: Value| deployment(&pods(&json!({"containers": [container("web", "a:1"), added]})));
    assert_eq!(drifted(&owned, &manifest(container("new", "n")), &live), json!({}));
    let renamed = drifted(&owned, &manifest(container("main", "s:2")), &live);
    assert_eq!(renamed["f:spec"]["f:template"]["f:spec"]["f:containers"], json!({"k:{\"name\":\"sidecar\"}": {}}));
}

#[test]
fn labels_that_are_given_up_go_and_those_of_others_stay() {
    let mut live = deployment(&json!({}));
    live["metadata"]["labels"] = json!({"ours": "1", "shared": "1", "theirs": "1"});
    let labels =
        |names: &[&str]| json!({"f:metadata": {"f:labels": names.iter().map(|n| (format!("f:{n}"), json!({}))).collect::<Map<_, _>>()}});
    let owned = owned_by(
        &mut live,
        json!([
            managed("pilotage", "Apply", "apps/v1", &labels(&["ours", "shared"])),
            managed("kubectl-label", "Update", "apps/v1", &labels(&["shared", "theirs"]))
        ]),
    );
    assert_eq!(meant(&owned, &deployment(&json!({})), &live)["metadata"]["labels"], json!({"ours": null}));
}

#[test]
fn what_would_be_the_same_if_it_were_created_stays() {
    let takes =
        json!({"f:spec": {"f:limit": {}, "f:types": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:x": {}, ".": {}}}}});
    let base = json!({"spec": {"limit": 3, "types": ["a"], "ports": [{"port": 80, "protocol": "TCP", "x": 1}]}});
    let created = json!({"spec": {"limit": 3, "types": ["a", "b"], "ports": [{"port": 80, "protocol": "TCP", "x": 1}]}});
    let kept = json!({"f:spec": {"f:limit": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:x": {}}}}});
    assert_eq!(as_at_creation(&takes, &base, &created), Some(kept));
    assert_eq!(as_at_creation(&takes, &base, &json!({"spec": {}})), None);
    let other = under_another_name(&deployment(&json!({})), &json!({"metadata": {"uid": "1234-5678-9abc-def0"}}));
    assert_eq!(other["metadata"]["name"], "pilotage-anew-123456789abc");
}
