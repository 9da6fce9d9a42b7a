//! Attacks by somebody who configures a host: stages with other people's delegates, environments that they may not use, Secrets that they
//! can't read.

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::Stage;
use serde_json::{Value, json};

use crate::attempt::refused;
use crate::scene::{bind, grant, person, until_may, user};
use crate::world::World;

fn stage(world: &World, name: &str, spec: &Value) -> Value {
    let mut all = json!({"pipeline": "standard", "targetEnvironment": "qa"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.host_object("Stage", name, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_pointed_only_at_whom_and_what_its_writer_may_use() {
    let world = World::new("stages").await;
    let olga = world.olga().await;
    world.apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "foreign", "namespace": world.host}})]).await;
    let delegated = |name: &str| json!({"delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": name}});
    let words = ["olga could not act as ServiceAccount", "/foreign", "verb delegate"];
    refused(
        19,
        "a new stage with somebody else's ServiceAccount",
        world.apply_as(&olga, &stage(&world, "new", &delegated("foreign"))),
        403,
        &words,
    )
    .await;
    refused(
        19,
        "a stage moved to somebody else's ServiceAccount",
        world.apply_as(&olga, &stage(&world, "qa", &delegated("foreign"))),
        403,
        &words,
    )
    .await;

    // A second administrator, who may use the environments but not act as the delegates.
    bind(&world, "ann", "ClusterRole", "pilotage-administrator", &user("ann")).await;
    grant(&world, "ann-use", json!([{"apiGroups": ["pilotage.dev"], "resources": ["environments"], "verbs": ["use"]}]), &user("ann")).await;
    until_may(&world, "ann", &[], "use", "environments.pilotage.dev").await;
    let ann = person(&world, "ann", &[]).await;
    let qa = |spec: Value| {
        let mut all = delegated("bot-qa");
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        stage(&world, "qa", &all)
    };
    let words = ["ann could not act as ServiceAccount", "/bot-qa", "verb delegate"];
    for (what, object) in [
        ("the target of somebody's delegated stage", qa(json!({"targetEnvironment": "prod"}))),
        ("the pipeline of somebody's delegated stage", qa(json!({"pipeline": "other"}))),
        ("the gates of somebody's delegated stage", qa(json!({"gates": {"allowSelfApproval": true}}))),
    ] {
        refused(20, what, world.apply_as(&ann, &object), 403, &words).await;
    }
    let undelegated = json!({"metadata": {"name": "qa", "namespace": world.host}, "spec": {"delegatedDeployment": null}});
    let stages: Api<Stage> = Api::namespaced(ann.clone(), &world.host);
    let (plain, undelegated) = (PatchParams::default(), Patch::Merge(undelegated));
    let attempt = stages.patch("qa", &plain, &undelegated);
    refused(
        20,
        "the delegate taken from somebody's stage",
        attempt,
        403,
        &["the stage delegates to ServiceAccount", "ann needs the verb delegate"],
    )
    .await;

    let owned = |owner: Option<&str>| {
        let mut spec = json!({"delegatedDeployment": {"type": "StageOwner"}});
        if let Some(owner) = owner {
            spec["owner"] = json!({"username": owner});
        }
        stage(&world, "owned", &spec)
    };
    refused(21, "another person made a stage's owner", world.apply_as(&ann, &owned(Some("olga"))), 403, &["spec.owner is not you (ann)"])
        .await;
    world.apply_as(&olga, &owned(None)).await.unwrap();
    let mut edited = owned(None);
    edited["spec"]["targetEnvironment"] = "prod".into();
    let words = ["a stage that deploys as its owner is written by that owner alone"];
    refused(21, "somebody else points an owner's stage at another target", world.apply_as(&ann, &edited), 403, &words).await;
    refused(21, "the cluster's administrator points it at another target", world.apply_as(&world.admin, &edited), 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_refers_only_to_what_its_writer_may_use_and_read() {
    let world = World::new("config").await;
    bind(&world, "ann", "ClusterRole", "pilotage-administrator", &user("ann")).await;
    until_may(&world, "ann", &[], "create", "stages.pilotage.dev").await;
    let ann = person(&world, "ann", &[]).await;
    let words = ["ann may not deploy to environment", "/qa", "verb use"];
    refused(48, "a stage on an environment that was not granted", world.apply_as(&ann, &stage(&world, "mine", &json!({}))), 403, &words)
        .await;
    let pipeline = |spec: Value| world.host_object("Pipeline", "mine", spec);
    let attempt = pipeline(json!({"developmentEnvironments": ["dev"]}));
    refused(
        48,
        "a pipeline from an environment that was not granted",
        world.apply_as(&ann, &attempt),
        403,
        &["spec.developmentEnvironments[0]", "verb use"],
    )
    .await;

    // A right to one of them gives no right to the others.
    let rules = json!([{"apiGroups": ["pilotage.dev"], "resources": ["environments"], "resourceNames": ["dev"], "verbs": ["use"]}]);
    grant(&world, "ann-dev", rules, &user("ann")).await;
    until_may(&world, "ann", &[], "use", "environments.pilotage.dev/dev").await;
    let attempt = pipeline(json!({"developmentEnvironments": ["dev", "prod"]}));
    refused(
        48,
        "a pipeline from one environment too many",
        world.apply_as(&ann, &attempt),
        403,
        &["spec.developmentEnvironments[1]", "verb use"],
    )
    .await;

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "elsewhere", "namespace": world.host}, "stringData": {"kubeconfig": "canary"}});
    world.apply(&[secret]).await;
    let remote = world.host_object(
        "Environment",
        "remote",
        json!({"type": "Target", "namespace": "production", "cluster": {"kubeconfigSecretRef": {"name": "elsewhere", "key": "kubeconfig"}, "delegateNamespace": "delegates"}}),
    );
    for (name, client) in [("ann", ann.clone()), ("olga", world.olga().await)] {
        let words = [format!("{name} can't read Secret {}/elsewhere", world.host)];
        refused(
            23,
            &format!("{name} makes an Environment of a kubeconfig that they can't read"),
            world.apply_as(&client, &remote),
            403,
            &[&words[0], "verb get"],
        )
        .await;
    }
    let sink = json!({"url": "https://sink.example.test", "signingSecretRef": {"name": "elsewhere", "key": "kubeconfig"}});
    let attempt = pipeline(json!({"developmentEnvironments": ["dev"], "sinks": [sink]}));
    refused(
        49,
        "a sink signed with a key that its writer can't read",
        world.apply_as(&ann, &attempt),
        403,
        &["spec.sinks[0].signingSecretRef", "verb get"],
    )
    .await;
}
