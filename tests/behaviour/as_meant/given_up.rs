//! What a version doesn't say any more is gone, even if a default or an equivalent field would bring it back.

use serde_json::{Value, json};

use super::{change, deployed, develop, in_qa, object, plan, planned, stage, stuck, succeeded, web};
use crate::world::{World, outcome, phase};

const ACCOUNT: &str = "/spec/template/spec/serviceAccountName";

fn account(world: &World) -> (Value, Value) {
    let pod = in_qa(world, "deployment", "web")["spec"]["template"]["spec"].clone();
    (pod["serviceAccountName"].clone(), pod["serviceAccount"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_a_version_gives_up_is_gone_and_on_the_way_back_too() {
    let world = World::new("account-given-up").await;
    for namespace in [&world.dev, &world.qa] {
        let offered = json!({"pilotage.dev/connection": "true"});
        world
            .apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerful", "namespace": namespace, "labels": offered}})])
            .await;
    }
    let with = || web(&world, "1", json!({}), json!({"serviceAccountName": "powerful"}));
    deployed(&world, "1.0.0", &[with()]).await;
    assert_eq!(account(&world).0, "powerful");

    // Nothing else changes. The server would fill in the account again from its older name.
    let second = deployed(&world, "2.0.0", &[web(&world, "1", json!({}), json!({}))]).await;
    assert_eq!(account(&world), (Value::Null, Value::Null));
    assert!(planned(&second, "Deployment").changes.contains(&change(ACCOUNT, Some("powerful"), None)), "{:?}", second.objects);

    stage(&world, json!({"timeout": "10s", "onFailure": "Rollback"})).await;
    let mut pod = stuck();
    pod["serviceAccountName"] = "powerful".into();
    develop(&world, "3.0.0", &[web(&world, "1", json!({}), pod)]).await;
    let third = world.deploy("third", "qa", "app", "3.0.0").await;
    assert_eq!(phase(&third), "Failed", "{:?}", outcome(&third));
    assert_eq!(account(&world), (Value::Null, Value::Null), "{:?}", outcome(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_goes_with_the_version_is_not_run_as_any_more() {
    let world = World::new("account-gone").await;
    let runner = object(&world, "v1", "ServiceAccount", "runner", None);
    deployed(&world, "1.0.0", &[runner, web(&world, "1", json!({}), json!({"serviceAccountName": "runner"}))]).await;
    let second = deployed(&world, "2.0.0", &[web(&world, "2", json!({}), json!({}))]).await;
    assert_eq!((second.update, second.delete), (1, 1), "{:?}", second.objects);
    assert_eq!(account(&world), (Value::Null, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_is_changed_there_and_back() {
    let world = World::new("strategy").await;
    stage(&world, json!({"timeout": "10s", "onFailure": "Rollback"})).await;
    let strategy = || in_qa(&world, "deployment", "web")["spec"]["strategy"].clone();
    deployed(&world, "1.0.0", &[web(&world, "1", json!({}), json!({}))]).await;
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    assert_eq!(strategy(), rolling);
    let recreate = json!({"strategy": {"type": "Recreate"}});
    deployed(&world, "2.0.0", &[web(&world, "1", recreate.clone(), json!({}))]).await;
    assert_eq!(strategy(), json!({"type": "Recreate"}));
    deployed(&world, "3.0.0", &[web(&world, "1", json!({}), json!({}))]).await;
    assert_eq!(strategy(), rolling);
    develop(&world, "4.0.0", &[web(&world, "1", recreate, stuck())]).await;
    let fourth = world.deploy("fourth", "qa", "app", "4.0.0").await;
    let rolled_back = fourth.status.as_ref().and_then(|s| s.run.rollback.clone());
    assert_eq!((phase(&fourth), rolled_back.map(|r| r.version)), ("Failed".to_owned(), Some("3.0.0".to_owned())), "{:?}", outcome(&fourth));
    assert_eq!(strategy(), rolling, "{:?}", outcome(&fourth));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_derives_is_derived_anew() {
    let world = World::new("derived").await;
    let policy = |egress: bool| {
        let mut spec = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
        if egress {
            spec["egress"] = json!([{"to": [{"podSelector": {}}]}]);
        }
        object(&world, "networking.k8s.io/v1", "NetworkPolicy", "web", Some(spec))
    };
    let latest = |image: &str| web(&world, image, json!({}), json!({}));
    deployed(&world, "1.0.0", &[policy(false), latest("latest")]).await;
    let second = deployed(&world, "2.0.0", &[policy(true), latest("2")]).await;
    assert_eq!(in_qa(&world, "networkpolicy", "web")["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(in_qa(&world, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    let fields = &planned(&second, "NetworkPolicy").fields;
    assert!(fields.iter().any(|field| field.starts_with("/spec/policyTypes")), "the approver sees it: {fields:?}");
    deployed(&world, "3.0.0", &[policy(false), latest("2")]).await;
    assert_eq!(in_qa(&world, "networkpolicy", "web")["spec"]["policyTypes"], json!(["Ingress"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_by_an_empty_map_or_list_arrives() {
    let world = World::new("empty").await;
    let pod = json!({"containers": [{"name": "web", "image": "registry.example.test/web:1", "securityContext": {}}], "securityContext": {},
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "facts", "downwardAPI": {}}]});
    let policy = object(
        &world,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "none",
        Some(json!({"podSelector": {}, "ingress": [], "policyTypes": ["Ingress"]})),
    );
    develop(&world, "1.0.0", &[]).await;
    // Created and not applied: what the server filled in can only be told from what was written by its meaning.
    for object in [policy, web(&world, "1", json!({}), pod)] {
        let created = world.plane.kubectl().run_with(&["create", "-f", "-"], &object.to_string()).unwrap();
        assert!(created.ok, "{}", created.stderr);
    }
    let made = succeeded(world.deploy("made", "qa", "app", "1.0.0").await);
    assert_eq!(plan(&made).create, 2);
    let pod = in_qa(&world, "deployment", "web")["spec"]["template"]["spec"].clone();
    assert_eq!((&pod["containers"][0]["securityContext"], &pod["securityContext"]), (&json!({}), &json!({})));
    assert_eq!(pod["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(pod["volumes"][1]["downwardAPI"], json!({"defaultMode": 420}), "no empty folder in its place");
    assert_eq!(in_qa(&world, "networkpolicy", "none")["spec"], json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
}
