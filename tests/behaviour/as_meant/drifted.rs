//! What others changed or added in the target, and what controllers add in development.

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{change, deployed, deployments, develop, in_qa, object, planned, stage, web};
use crate::world::World;

fn by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_changed_by_hand_is_named_and_mended_where_the_stage_takes_fields() {
    let world = World::new("port-drift").await;
    let service = |target: i32| {
        let ports = json!([{"name": "http", "port": 80, "targetPort": target}]);
        object(&world, "v1", "Service", "web", Some(json!({"selector": {"app": "web"}, "ports": ports})))
    };
    deployed(&world, "1.0.0", &[service(8080)]).await;
    let ports = json!([{"name": "http", "port": 83, "protocol": "TCP", "targetPort": 8080}]);
    let edited = Patch::Merge(json!({"spec": {"ports": ports}}));
    Api::<Service>::namespaced(world.admin.clone(), &world.qa).patch("web", &by("kubectl-edit"), &edited).await.unwrap();
    let ports = || {
        let ports = in_qa(&world, "service", "web")["spec"]["ports"].clone();
        ports.as_array().unwrap().iter().map(|p| (p["port"].clone(), p["targetPort"].clone())).collect::<Vec<(Value, Value)>>()
    };

    develop(&world, "2.0.0", &[service(8081)]).await;
    world.ask(&world.request("refused", "qa", "app", "2.0.0")).await;
    let message = world.fails("refused", "DryRunRefused").await;
    for part in ["Service web: FieldConflict: ", "\"port\":83", "change them back in the target, or have the stage take them"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(ports(), [(json!(83), json!(8080))]);

    stage(&world, json!({"timeout": "2m", "force": true})).await;
    deployed(&world, "2.1.0", &[service(8081)]).await;
    assert_eq!(ports(), [(json!(80), json!(8081))]);
    // And nothing of it is left that would block the next one.
    stage(&world, json!({"timeout": "2m"})).await;
    deployed(&world, "3.0.0", &[service(8082)]).await;
    assert_eq!(ports(), [(json!(80), json!(8082))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_added_stays_and_stands_in_the_plan() {
    let world = World::new("env-drift").await;
    deployed(&world, "1.0.0", &[web(&world, "1", json!({}), json!({}))]).await;
    let container = json!({"name": "web", "env": [{"name": "DEBUG", "value": "1"}]});
    let set = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [container]}}}}));
    deployments(&world).patch("web", &by("kubectl-set"), &set).await.unwrap();
    let second = deployed(&world, "2.0.0", &[web(&world, "2", json!({}), json!({}))]).await;
    let told = second.results.iter().find(|r| r.reason == "ForeignField").unwrap_or_else(|| panic!("{:?}", second.results));
    assert!(told.message.contains("/spec/template/spec/containers/web/env by kubectl-set"), "{}", told.message);
    let env = in_qa(&world, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    assert_eq!(env, json!([{"name": "DEBUG", "value": "1"}]));
    let image = |tag: &str| format!("registry.example.test/web:{tag}");
    let (old, new) = (image("1"), image("2"));
    let changed = &planned(&second, "Deployment").changes;
    assert_eq!(changed, &[change("/spec/template/spec/containers/0/image", Some(&old), Some(&new))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_controller_adds_to_an_account_is_left_behind() {
    let world = World::new("account-added-to").await;
    let account = object(&world, "v1", "ServiceAccount", "app", None);
    develop(&world, "1.0.0", &[account]).await;
    let added = Patch::Merge(json!({"metadata": {"annotations": {"openshift.io/internal-registry-pull-secret-ref": "app-dockercfg-x"}},
        "secrets": [{"name": "app-dockercfg-x"}], "imagePullSecrets": [{"name": "app-dockercfg-x"}]}));
    let accounts = Api::<ServiceAccount>::namespaced(world.admin.clone(), &world.dev);
    accounts.patch("app", &by("openshift-controller-manager"), &added).await.unwrap();
    super::succeeded(world.deploy("to-qa", "qa", "app", "1.0.0").await);
    let arrived = in_qa(&world, "serviceaccount", "app");
    assert_eq!(
        (&arrived["secrets"], &arrived["imagePullSecrets"], &arrived["metadata"]["annotations"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}
