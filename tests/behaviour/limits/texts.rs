//! Texts of every kind, and kinds without a schema, are deployed unchanged.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use pilotage::api::{DeploymentRequest, Solution};
use serde_json::{Value, json};

use super::{maps, writes};
use crate::world::{World, outcome, phase};

/// Values that old or new YAML readers do not take for text, and texts that are difficult to transport.
fn traps() -> Value {
    json!({
        "on": "on", "off": "off", "yes": "y", "no": "no", "norway": "NO", "true": "true", "null": "null", "tilde": "~", "empty": "",
        "exponent": "1e3", "octal": "0o7", "old-octal": "0777", "hexadecimal": "0x1F", "underscores": "1_000", "sexagesimal": "22:22:22",
        "infinity": ".inf", "nan": ".nan", "date": "2026-11-22", "version": "1.10", "large": "12345678901234567890", "merge": "<<",
        "anchor": "&a *a", "tag": "!!int 3", "comment": "a # b", "colon": "a: b", "document": "---\nkind: Secret\n...\n",
        "crlf": "a\r\nb\r\n", "trailing": "a  \n\n\n", "tabs": "\ta\t", "quotes": "'\"`\\", "percent": "%s %d ${HOME} $(id) {{ .Values }}",
        "unicode": "příliš žluťoučký kůň 🚢 é é \u{202e}\u{200b}\u{feff}", "line-separators": "a\u{2028}b\u{2029}c\u{85}d",
        "control": "\u{1}\u{7f}", "astral": "𝒫𝒾𝓁ℴ𝓉",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_look_like_something_else_stay_texts() {
    let world = World::new("texts").await;
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["description"] = json!("příliš žluťoučký 🚢");
    let target = |key: &str| json!({"kind": "ConfigMap", "name": "orders", "path": format!("/data/{key}")});
    solution["spec"]["environmentVariables"] = json!([
        {"name": "ON", "target": target("set-on")},
        {"name": "EXPONENT", "target": target("set-exponent")},
        {"name": "OCTAL", "default": "0777", "target": target("set-octal")},
        {"name": "NUMBER", "type": "Number", "target": target("set-number")},
        {"name": "SHIP", "target": target("set-ship")},
    ]);
    let mut config = world.config("orders", "orders", traps());
    config["metadata"]["annotations"] = json!({"example.test/note": "loď 🚢: \"on\"\n- no"});
    config["binaryData"] = json!({"bytes": "AP/+gA=="});
    world.apply(&[solution]).await;
    // It is created, not applied: when the test's own client applies, YAML readers change it.
    let created: ConfigMap = serde_json::from_value(config.clone()).unwrap();
    Api::namespaced(world.admin.clone(), &world.dev).create(&kube::api::PostParams::default(), &created).await.unwrap();
    let mut request = serde_json::to_value(world.request("first", "qa", "orders", "1.0.0")).unwrap();
    request["spec"]["notes"] = json!("loď 🚢");
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [
        {"name": "ON", "value": "on"}, {"name": "EXPONENT", "value": "1e3"}, {"name": "NUMBER", "value": "1e3"},
        {"name": "SHIP", "value": "🚢\n--- \t"},
    ]});
    world.ask(&serde_json::from_value::<DeploymentRequest>(request).unwrap()).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let comments = "schváleno ✔ \"on\"\u{202e}";
    let patch = kube::api::Patch::Merge(json!({"status": {"approval": {"decision": "Approved", "comments": comments}}}));
    Api::<DeploymentRequest>::namespaced(world.bot("qa").await, &world.host)
        .patch_status("first", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let first = world.end("first").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    let mut expected = traps();
    for (key, value) in
        [("set-on", "on"), ("set-exponent", "1e3"), ("set-octal", "0777"), ("set-number", "1e3"), ("set-ship", "🚢\n--- \t")]
    {
        expected[key] = value.into();
    }
    let [arrived]: [ConfigMap; 1] = maps(&world, &world.qa).await.try_into().unwrap();
    assert_eq!(serde_json::to_value(&arrived.data).unwrap(), expected);
    assert_eq!(serde_json::to_value(&arrived.binary_data).unwrap(), config["binaryData"]);
    assert_eq!(arrived.annotations()["example.test/note"], "loď 🚢: \"on\"\n- no");
    let view = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap().status.unwrap();
    let shown = "schváleno ✔ \"on\"\\u{202e}";
    assert_eq!(
        view.deployments[0].approval_comments.as_deref(),
        Some(shown),
        "the maker reads what the approver wrote, and nothing turns it"
    );
}

/// A kind of which only its existence is known.
fn kind_without_schema(group: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("blobs.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": "Blob", "plural": "blobs", "singular": "blob", "listKind": "BlobList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

fn role(world: &World, namespace: &str, name: &str, group: &str, verbs: &Value, subject: &Value) -> Vec<Value> {
    let metadata = json!({"name": format!("blobs-{name}"), "namespace": namespace});
    let rbac = "rbac.authorization.k8s.io";
    assert!(namespace.starts_with(world.host.trim_end_matches("host")));
    vec![
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata,
               "rules": [{"apiGroups": [group], "resources": ["blobs"], "verbs": verbs}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
               "roleRef": {"apiGroup": rbac, "kind": "Role", "name": format!("blobs-{name}")}, "subjects": [subject]}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_without_a_schema_arrive_with_every_field() {
    let world = World::new("no-schema").await;
    let group = format!("{}.example.test", world.host);
    world.apply(&[kind_without_schema(&group)]).await;
    let operator = json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"});
    let bot = json!({"kind": "ServiceAccount", "namespace": world.host, "name": "bot-qa"});
    let makers = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"});
    let verbs = ["get", "list", "patch", "create", "delete"];
    let on_behalf: Vec<String> = verbs.iter().map(|v| format!("impersonate-on:serviceaccount:{v}")).collect();
    for granted in [
        role(&world, &world.dev, "export", &group, &json!(["get", "list"]), &operator),
        role(&world, &world.dev, "makers", &group, &json!(["get", "list"]), &makers),
        role(&world, &world.qa, "bot", &group, &json!(verbs), &bot),
        role(&world, &world.qa, "operator", &group, &json!(on_behalf), &operator),
    ] {
        world.apply(&granted).await;
    }
    let content = json!({
        "anything": {"goes": [1, 1.5, -0.25, true, null, "on", {"nested": {"deep": ["a", ["b", ["c"]]]}}], "status": {"is": "mine"}},
        "x-y": "z", "replicas": "not a number", "empty": {}, "none": [], "dotted.key/with~all": "kept", "123": 456,
    });
    let mut blob = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Blob",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": content, "extra": {"beside": "spec"},
    });
    world.until("the kind is served", async || world.apply_as(&world.admin, &blob).await.ok()).await;
    world.apply(&[world.solution("orders", "1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, "v1", "Blob"));
    let blobs = Api::<DynamicObject>::namespaced_with(world.admin.clone(), &world.qa, &kind);
    let arrived = blobs.get("orders").await.unwrap().data;
    assert_eq!((&arrived["spec"], &arrived["extra"]), (&content, &json!({"beside": "spec"})));

    let before = writes(&world);
    world.apply(&[world.solution("orders", "1.0.1")]).await;
    let same = world.deploy("same", "qa", "orders", "1.0.1").await;
    assert_eq!((phase(&same).as_str(), writes(&world)), ("Succeeded", before), "nothing is written again");

    // What is removed in development is removed in the target.
    blob["spec"].as_object_mut().unwrap().remove("x-y");
    blob["spec"]["none"] = json!(["one"]);
    world.apply(&[blob.clone(), world.solution("orders", "2.0.0")]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    assert_eq!(blobs.get("orders").await.unwrap().data["spec"], blob["spec"]);
    let definitions = Api::<CustomResourceDefinition>::all(world.admin.clone());
    definitions.delete(&format!("blobs.{group}"), &DeleteParams::default()).await.unwrap();
}
