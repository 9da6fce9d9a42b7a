//! What the target refuses is found in the dry run, before anybody is asked to approve it.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::{nothing_was_written, world};
use crate::world::World;

/// The request fails in the dry run, never opens its gate, writes nothing, and names object, reason and what to do.
async fn is_refused(world: &World, parts: &[&str]) {
    let message = world.fails("to-qa", "DryRunRefused").await;
    assert!(message.starts_with("nothing was written; "), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let ended = world.end("to-qa").await.status.unwrap();
    assert!(ended.run.gates.approval.is_none(), "nobody is asked to approve what can't be done");
    assert!(!world.operator_writes(&world.qa, true).is_empty(), "the dry run was made");
    nothing_was_written(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_of_the_target_denies_is_said_in_its_words() {
    let world = world("denied").await;
    let name = world.qa.clone();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]);
    world
        .apply(&[
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}}, "resourceRules": rules,
                    },
                    "validations": [{
                        "expression": "!('experimental' in object.metadata.?labels.orValue({}))",
                        "message": "experiments stay out of QA",
                    }],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            }),
        ])
        .await;
    let mut experiment = world.config("orders", "experiment", json!({}));
    experiment["metadata"]["labels"]["experimental"] = "true".into();
    world.apply(std::slice::from_ref(&experiment)).await;
    experiment["metadata"]["namespace"] = world.qa.clone().into();
    let experiment: ConfigMap = serde_json::from_value(experiment).unwrap();
    let in_qa = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    world.until("the policy of QA is in force", async || in_qa.create(&dry_run, &experiment).await.err().map(|_| ())).await;

    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    is_refused(
        &world,
        &[
            "ConfigMap experiment: DeniedByPolicy: ",
            "experiments stay out of QA",
            "(change the solution so that the policy of the target cluster allows it)",
        ],
    )
    .await;
    let (policies, bindings) =
        (Api::<ValidatingAdmissionPolicy>::all(world.admin.clone()), Api::<ValidatingAdmissionPolicyBinding>::all(world.admin.clone()));
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_said_with_its_name() {
    let world = world("quota").await.provokes_refusals().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": world.qa},
        "spec": {"hard": {"configmaps": "0"}},
    });
    world.apply(&[quota]).await;
    let kubectl = world.plane.kubectl();
    let refused = ["create", "configmap", "probe", "-n", &world.qa, "--dry-run=server"];
    world.until("the quota is in force", async || kubectl.run(&refused).unwrap().stderr.contains("exceeded quota").then_some(())).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "QuotaExceeded").await;
    for words in
        ["ConfigMap orders: QuotaExceeded: ", "exceeded quota: few", "(raise the quota of the target namespace, or free some of it)"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert!(world.operator_writes(&world.qa, false).is_empty());
    // Somebody else can make room, and nobody has to ask again.
    kubectl.ok(&["delete", "resourcequota", "few", "-n", &world.qa]).unwrap();
    world.until_request("to-qa", |r| crate::world::phase(r) == "AwaitingApproval").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_does_not_fit_the_schema_is_said_with_the_field() {
    let world = World::new("schema").await;
    // Development is correct. The value for QA is not.
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] = json!([{
        "name": "REPLICAS", "type": "Number",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "path": "/spec/replicas"},
    }]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [{"name": "orders", "image": "orders"}]}},
        },
    });
    world.apply(&[solution, deployment]).await;
    let mut request = serde_json::to_value(world.request("to-qa", "qa", "orders", "1.0.0")).unwrap();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "REPLICAS", "value": "-1"}]});
    world.ask(&serde_json::from_value(request).unwrap()).await;
    // The manifest need not be corrected.
    let setting =
        "(environment variable REPLICAS of the request wrote this field: make a new request with another value in deploymentSettings";
    is_refused(&world, &["Deployment orders: Invalid: ", "spec.replicas", setting]).await;
}
