//! What a request sets is deployed where the solution says, with the target's values. What it must not or can't set is reported.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// A solution with objects that take settings, and with references to three Secrets of development.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let metadata = |name: &str| json!({"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}});
    let variable = |name: &str, type_: &str, object: [&str; 3], path: &str| json!({"name": name, "type": type_, "target": {"apiVersion": object[0], "kind": object[1], "name": object[2], "path": path}});
    let (config, deployment, ingress) =
        (["v1", "ConfigMap", "orders"], ["apps/v1", "Deployment", "orders"], ["networking.k8s.io/v1", "Ingress", "orders"]);
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] = json!([
        variable("URL", "String", config, "/data/api.url"),
        variable("PORT", "Number", config, "/data/port"),
        variable("REPLICAS", "Number", deployment, "/spec/replicas"),
        variable("IMAGE", "String", deployment, "/spec/template/spec/containers/app/image"),
        variable("HOST", "String", ingress, "/spec/rules/0/host"),
        variable("TEAM", "String", deployment, "/metadata/annotations/example.test~1team"),
    ]);
    solution["spec"]["environmentVariables"][0]["required"] = true.into();
    solution["spec"]["environmentVariables"][2]["default"] = "2".into();
    solution["spec"]["connectionReferences"] = json!([
        {"name": "db", "secretName": "dev-db"}, {"name": "pull", "secretName": "dev-pull"}, {"name": "tls", "secretName": "dev-tls"},
    ]);
    let pod = json!({
        "imagePullSecrets": [{"name": "dev-pull"}],
        "containers": [
            {"name": "proxy", "image": "registry.example.test/proxy:1"},
            {"name": "app", "image": "registry.example.test/app:1", "envFrom": [{"secretRef": {"name": "dev-db"}}],
                "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "dev-db", "key": "password"}}}]}],
        "volumes": [{"name": "keys", "projected": {"sources": [{"secret": {"name": "dev-db"}}]}}],
    });
    let backend = json!({"service": {"name": "orders", "port": {"number": 80}}});
    world
        .apply(&[
            solution,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("orders"), "data": {"api.url": "https://dev.test", "port": "80"}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("orders"), "spec": {
                "selector": {"matchLabels": {"app": "orders"}},
                "template": {"metadata": {"labels": {"app": "orders"}}, "spec": pod}}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata("orders"), "spec": {
                "tls": [{"secretName": "dev-tls"}],
                "rules": [{"host": "dev.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}),
        ])
        .await;
    world.may_look_at(&["qa-db", "qa-pull", "qa-tls", "dev-db", "dev-pull", "dev-tls"]).await;
    world
}

/// A request with settings.
fn request(world: &World, name: &str, values: &[(&str, &str)], connections: &[(&str, &str)]) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", "1.0.0")).unwrap();
    request["spec"]["deploymentSettings"] = json!({
        "environmentVariables": values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
        "connectionReferences": connections.iter().map(|(name, secret)| json!({"name": name, "secretName": secret})).collect::<Vec<_>>(),
    });
    serde_json::from_value(request).unwrap()
}

const CONNECTIONS: [(&str, &str); 3] = [("db", "qa-db"), ("pull", "qa-pull"), ("tls", "qa-tls")];

/// Secrets of QA, offered or not.
async fn secrets(world: &World, names: &[&str], offered: bool) {
    for name in names {
        let labels = json!({"pilotage.dev/connection": offered.to_string()});
        world
            .apply(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": world.qa, "labels": labels},
                "stringData": {"password": "canary"}})])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_and_connections_arrive_where_they_are_to_go() {
    let world = world("settings").await;
    secrets(&world, &["qa-db", "qa-pull", "qa-tls"], true).await;
    let values = [
        ("URL", "https://qa.test/přístav"),
        ("PORT", "8080"),
        ("IMAGE", "registry.example.test/app:2"),
        ("HOST", "qa.test"),
        ("TEAM", "pilots"),
    ];
    world.ask(&request(&world, "to-qa", &values, &CONNECTIONS)).await;
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let kubectl = world.plane.kubectl();
    let get = |kind: &str| kubectl.json(&["get", kind, "orders", "-n", &world.qa]).unwrap();
    assert_eq!(get("configmap")["data"], json!({"api.url": "https://qa.test/přístav", "port": "8080"}));
    let deployment = get("deployment");
    assert_eq!(deployment["spec"]["replicas"], json!(2), "the default");
    assert_eq!(deployment["metadata"]["annotations"]["example.test/team"], json!("pilots"));
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], json!("registry.example.test/proxy:1"));
    assert_eq!(pod["containers"][1]["image"], json!("registry.example.test/app:2"));
    assert_eq!(pod["containers"][1]["envFrom"], json!([{"secretRef": {"name": "qa-db"}}]));
    assert_eq!(pod["containers"][1]["env"][0]["valueFrom"]["secretKeyRef"]["name"], json!("qa-db"));
    assert_eq!(pod["volumes"][0]["projected"]["sources"][0]["secret"]["name"], json!("qa-db"));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "qa-pull"}]));
    let ingress = get("ingress");
    assert_eq!((&ingress["spec"]["rules"][0]["host"], &ingress["spec"]["tls"][0]["secretName"]), (&json!("qa.test"), &json!("qa-tls")));
    let plan = end.status.unwrap().run.plan.unwrap();
    let used: Vec<String> = plan.access.iter().map(|a| format!("{} {}", a.kind, a.name)).collect();
    assert_eq!(used, ["Secret qa-db", "Secret qa-pull", "Secret qa-tls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_wrong_or_too_much_is_said_at_once_and_no_value_is_repeated() {
    let world = world("wrong-settings").await;
    world.ask(&request(&world, "wrong", &[("REPLICAS", "canary"), ("TYPO", "canary")], &[("db", "qa-db"), ("queue", "q")])).await;
    let message = world.fails("wrong", "SettingsRefused").await;
    let status = world.end("wrong").await.status.unwrap();
    assert!(!message.contains("canary") && !serde_json::to_string(&status).unwrap().contains("canary"), "{message}");
    let found: BTreeMap<String, String> =
        status.run.plan.unwrap().results.iter().map(|r| (format!("{} {}", r.kind, r.name), r.reason.clone())).collect();
    let expected = [
        ("ConnectionReference pull", "ConnectionReferenceMissing"),
        ("ConnectionReference queue", "UnknownConnectionReference"),
        ("ConnectionReference tls", "ConnectionReferenceMissing"),
        ("EnvironmentVariable REPLICAS", "WrongType"),
        ("EnvironmentVariable TYPO", "UnknownVariable"),
        ("EnvironmentVariable URL", "VariableMissing"),
    ];
    assert_eq!(found, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())).into());

    let long = "x".repeat(4097);
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let refused = requests.create(&PostParams::default(), &request(&world, "long", &[("URL", &long)], &[])).await.unwrap_err().to_string();
    assert!(refused.contains("spec.deploymentSettings.environmentVariables[0].value: Too long"), "{refused}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_the_target_does_not_offer_or_have_are_named_wherever_they_are_used() {
    let world = world("unoffered").await;
    secrets(&world, &["qa-db"], true).await;
    secrets(&world, &["qa-pull"], false).await;
    world.ask(&request(&world, "to-qa", &[("URL", "u")], &CONNECTIONS)).await;
    let message = world.waits_for("to-qa", "NotOffered").await;
    let offer = format!("kubectl label secrets qa-pull -n {} pilotage.dev/connection=true", world.qa);
    for part in [
        "Secret qa-pull: NotOffered: Deployment orders uses Secret qa-pull",
        &offer,
        "Secret qa-tls: NotOffered: Ingress orders uses Secret qa-tls",
        "which is not offered to solutions, or does not exist there",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(!message.contains("qa-db") && !message.contains("canary"), "{message}");

    // Without connection references the names of development stay, and each is looked for.
    let mut plain: Value = world.solution("orders", "1.1.0");
    plain["spec"]["environmentVariables"] = json!([]);
    plain["spec"]["connectionReferences"] = json!([]);
    world.apply(&[plain]).await;
    let mut undeclared = world.request("undeclared", "qa", "orders", "1.1.0");
    undeclared.spec.deployment_settings = None;
    world.ask(&undeclared).await;
    let message = world.waits_for("undeclared", "NotOffered").await;
    for name in ["dev-db", "dev-pull", "dev-tls"] {
        assert!(message.contains(&format!("Secret {name}: NotOffered: ")), "{message}");
    }
    assert!(message.contains("or name another by a connection reference"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
    let there = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get_opt("orders").await.unwrap();
    assert!(there.is_none());

    // Once everything exists and is offered, the request continues by itself.
    secrets(&world, &["qa-pull", "qa-tls"], true).await;
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_setting_wrote_is_said_to_be_the_settings() {
    let world = world("blamed").await;
    secrets(&world, &["qa-db", "qa-pull", "qa-tls"], true).await;
    world.ask(&request(&world, "wrong", &[("URL", "u"), ("REPLICAS", "-1"), ("HOST", "NOT A HOST")], &CONNECTIONS)).await;
    let message = world.fails("wrong", "DryRunRefused").await;
    for part in [
        "environment variable REPLICAS of the request wrote this field: make a new request with another value",
        "environment variable HOST of the request wrote this field",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(!message.contains("correct the manifest"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}
