//! What a version needs in its target and does not bring is found before anybody is asked to approve.

use std::collections::BTreeSet;

use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use super::{nothing_was_written, world};
use crate::world::{World, outcome, phase};

/// A Deployment of the solution in development with these pods.
fn deployment(world: &World, name: &str, pod: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "app", "image": "registry.example.test/app:1"}]});
    spec.as_object_mut().unwrap().extend(pod.as_object().unwrap().clone());
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": spec}},
    })
}

/// The findings of a request that has ended without asking anybody for approval.
async fn against(world: &World, request: &str) -> BTreeSet<String> {
    let run = world.end(request).await.status.unwrap().run;
    assert!(run.gates.approval.is_none(), "nobody is asked to approve what can't run");
    nothing_was_written(world).await;
    run.plan.unwrap().results.iter().map(|r| format!("{} {} {}", r.kind, r.name, r.reason)).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_and_claims_that_are_nowhere_are_named_one_each_until_they_are_there() {
    let world = world("required").await;
    let map = |name: &str, optional: bool| json!({"configMapRef": {"name": name, "optional": optional}});
    let pod = json!({
        "containers": [{"name": "app", "image": "registry.example.test/app:1",
            "envFrom": [map("orders", false), map("absent", false), map("maybe", true)]}],
        "volumes": [
            {"name": "own", "configMap": {"name": "orders"}},
            {"name": "roots", "configMap": {"name": "kube-root-ca.crt"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "absent-claim"}},
            {"name": "keys", "secret": {"secretName": "maybe", "optional": true}}],
    });
    // The delegate checks whether an optional Secret of the pods exists.
    world.may_look_at(&["maybe"]).await;
    world.apply(&[deployment(&world, "orders", &pod)]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "MissingInTarget").await;
    for part in [
        "nothing was written; ".to_owned(),
        format!(
            "ConfigMap absent: NotFound: Deployment orders uses ConfigMap absent, which does not come with the solution and does not exist in namespace {}: label it in development as part of the solution and raise the version, or create it there",
            world.qa
        ),
        "PersistentVolumeClaim absent-claim: NotFound: Deployment orders uses".to_owned(),
    ] {
        assert!(message.contains(&part), "{part:?} is not said: {message}");
    }
    nothing_was_written(&world).await;

    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "absent", "namespace": world.qa}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "absent-claim", "namespace": world.qa}, "spec": claim}),
        ])
        .await;
    // It continues by itself.
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || crate::world::ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_secrets_accounts_and_what_the_dry_run_refuses_are_said_at_once() {
    let world = world("nowhere").await;
    let of_orders = json!({"app.kubernetes.io/part-of": "orders"});
    let claim = json!({"storageClassName": "no-storage", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    // The StatefulSet's claims replace this volume of its template: nothing is missing.
    let mut shadowed =
        deployment(&world, "store", &json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-here"}}]}));
    shadowed["kind"] = "StatefulSet".into();
    shadowed["spec"]["serviceName"] = "store".into();
    shadowed["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    world.may_look_at(&["no-secret"]).await;
    world
        .apply(&[
            deployment(&world, "first", &json!({"priorityClassName": "no-priority", "serviceAccountName": "no-account"})),
            deployment(&world, "second", &json!({"runtimeClassName": "no-runtime", "imagePullSecrets": [{"name": "no-secret"}]})),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": claim,
                "metadata": {"name": "data", "namespace": world.dev, "labels": of_orders}}),
            shadowed,
            // Somebody else's object with the name of an object of the solution.
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orders", "namespace": world.qa,
                "labels": {"applyset.kubernetes.io/part-of": "another"}}}),
        ])
        .await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    // One of them needs another version: waiting would not help.
    world.fails("to-qa", "DryRunRefused").await;
    let results = world.end("to-qa").await.status.unwrap().run.plan.unwrap().results;
    let class = results.iter().find(|result| result.kind == "StorageClass").map(|result| result.message.as_str());
    assert_eq!(
        class,
        Some(
            "PersistentVolumeClaim data names StorageClass no-storage, which the target's cluster does not have: set the name of one that it has by an environment variable, or have its administrator create it (with provisioner kubernetes.io/no-provisioner where volumes are made by hand)"
        )
    );
    let expected = set(&[
        "ConfigMap orders OwnedByAnotherSet",
        "PriorityClass no-priority NotFound",
        "RuntimeClass no-runtime NotFound",
        "Secret no-secret NotOffered",
        "ServiceAccount no-account NotOffered",
        "StorageClass no-storage NotFound",
    ]);
    assert_eq!(against(&world, "to-qa").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_others_can_put_right_is_printed_in_one_round_and_awaited() {
    let world = world("one-round").await.provokes_refusals().await;
    let pod = json!({"serviceAccountName": "no-account", "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "app", "image": "registry.example.test/app:1", "envFrom": [
            {"secretRef": {"name": "one"}}, {"secretRef": {"name": "two"}}, {"secretRef": {"name": "three"}}, {"secretRef": {"name": "four"}},
            {"configMapRef": {"name": "absent"}}, {"secretRef": {"name": "unseen"}}]}]});
    // The delegate may read whether these exist, except for one.
    world.may_look_at(&["pull", "one", "two", "three", "four"]).await;
    world.apply(&[deployment(&world, "orders", &pod)]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    let command = format!(
        "kubectl label secret/four secret/one secret/pull secret/three secret/two serviceaccount/no-account -n {} pilotage.dev/connection=true",
        world.qa
    );
    for part in [&command, "ConfigMap absent (NotFound)", ". Besides, system:serviceaccount:", "resourceNames: [\"unseen\"]"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    nothing_was_written(&world).await;
    // What is printed is done once each, by somebody who may.
    let kubectl = world.plane.kubectl();
    kubectl.apply(super::grant(&message)).unwrap();
    let waits = world.waits_for("to-qa", "NotOffered").await;
    assert!(waits.contains("Secret unseen (NotOffered)") || waits.contains("Secret unseen: NotOffered"), "{waits}");
    for name in ["pull", "one", "two", "three", "four", "unseen"] {
        kubectl.ok(&["create", "secret", "generic", name, "-n", &world.qa]).unwrap();
    }
    kubectl.ok(&["create", "serviceaccount", "no-account", "-n", &world.qa]).unwrap();
    kubectl.ok(&["create", "configmap", "absent", "-n", &world.qa]).unwrap();
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    kubectl.ok(&words).unwrap();
    kubectl.ok(&["label", "secret/unseen", "-n", &world.qa, "pilotage.dev/connection=true"]).unwrap();
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(end.status.unwrap().run.plan.unwrap().access.len(), 7);

    // The next version uses nothing new.
    world.apply(&[world.solution("orders", "1.1.0"), world.config("orders", "orders", json!({"a": "b"}))]).await;
    world.ask(&world.request("next", "qa", "orders", "1.1.0")).await;
    let next = world.until_request("next", |r| phase(r) == "AwaitingApproval" || crate::world::ended(r)).await;
    assert_eq!(phase(&next), "AwaitingApproval", "{:?}", outcome(&next));
    assert_eq!(next.status.unwrap().run.plan.unwrap().access, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_ingresses_that_is_not_there_is_told_and_holds_up_nothing() {
    let world = world("unserved").await;
    let rules = json!([{"host": "a.example.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}}]}}]);
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"ingressClassName": "no-ingress", "rules": rules},
        "metadata": {"name": "web", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}}});
    world.apply(&[ingress]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || crate::world::ended(r)).await;
    let mut results = waiting.status.unwrap().run.plan.unwrap().results;
    results.retain(|one| one.reason != "NotLookedFor");
    let [told] = &results[..] else { panic!("{results:?}") };
    assert_eq!((told.kind.as_str(), told.name.as_str(), told.reason.as_str()), ("IngressClass", "no-ingress", "NotFound"));
    assert!(
        told.message.starts_with("Ingress web names IngressClass no-ingress") && told.message.contains("nothing serves it"),
        "{told:?}"
    );
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_waits_for_those_that_it_depends_on() {
    let world = world("depends").await;
    let mut orders = world.solution("orders", "1.0.0");
    orders["spec"]["dependencies"] = json!([{"name": "base", "version": ">=1.1"}]);
    world.apply(&[orders, world.solution("base", "1.0.0"), world.config("base", "base", json!({"version": "1.0.0"}))]).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let none = world.waits_for("orders", "DependencyMissing").await;
    assert!(
        none.starts_with("solutions that orders depends on do not run in the target: base >=1.1 (does not run there). Waits until "),
        "{none}"
    );
    let succeeded = |request: &DeploymentRequest| assert_eq!(phase(request), "Succeeded", "{:?}", outcome(request));
    succeeded(&world.deploy("base", "qa", "base", "1.0.0").await);
    let old = world.until_request("orders", |r| outcome(r).1.contains("base >=1.1 (runs in version 1.0.0)")).await;
    assert_eq!(outcome(&old).0, "DependencyMissing");
    world.apply(&[world.solution("base", "1.1.0"), world.config("base", "base", json!({"version": "1.1.0"}))]).await;
    succeeded(&world.deploy("base-2", "qa", "base", "1.1.0").await);
    succeeded(&world.approved("orders", "qa").await);
}
