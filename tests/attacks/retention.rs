//! Attacks on records by way of deletion: purging them, having them removed earlier, and holding what isn't one's own.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pilotage::api::pipeline::SinkCursor;
use pilotage::api::{Artifact, DeploymentRequest, Environment, Pipeline, Stage};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::receiver::Receiver;
use crate::scene::{bind, grant, operator, orders, patch, person, requests, until_kept, until_may, user};
use crate::world::{World, client, phase};

/// A rejected request `rejected`, and a version that ran in qa and was replaced there.
async fn records(name: &str) -> World {
    let world = World::new(name).await;
    orders(&world).await;
    assert_eq!(phase(&world.deploy("first", "qa", "orders", "1.0.0").await), "Succeeded");
    world.apply(&[world.solution("orders", "1.1.0"), world.config("orders", "orders", json!({"a": "b"}))]).await;
    assert_eq!(phase(&world.deploy("second", "qa", "orders", "1.1.0").await), "Succeeded");
    world
}

/// Somebody who administers the pipelines of the host but may not purge.
async fn narrow(world: &World, name: &str) -> kube::Client {
    let rules = json!([
        {"apiGroups": ["pilotage.dev"], "resources": ["pipelines", "environments", "stages"], "verbs": ["create", "get", "update", "patch", "delete"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["pipelines"], "verbs": ["administer"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["environments"], "verbs": ["use"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests", "artifacts"], "verbs": ["get", "list", "update", "patch", "delete"]},
    ]);
    grant(world, name, rules, &user(name)).await;
    until_may(world, name, &[], "administer", "pipelines.pilotage.dev").await;
    person(world, name, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_purges_records_without_the_verb() {
    let world = records("purged").await;
    let none = DeleteParams::default();
    let nora = narrow(&world, "nora").await;
    let record = ["is the record of what happened", "verb purge"];
    let mine = requests(&world, world.dana().await);
    refused(250, "a maker deletes their request that has ended", mine.delete("first", &none), 403, &record).await;
    let administered = requests(&world, nora.clone());
    refused(250, "who may administer deletes a request that has ended", administered.delete("first", &none), 403, &record).await;
    let eve = requests(&world, world.eve().await);
    refused(250, "an approver deletes a request", eve.delete("first", &none), 403, &["eve", "cannot delete"]).await;
    let stranger = requests(&world, person(&world, "stranger", &[]).await);
    refused(250, "an outsider deletes a request", stranger.delete("first", &none), 403, &["stranger", "cannot delete"]).await;
    let artifacts: Api<Artifact> = Api::namespaced(nora, &world.host);
    let proof = ["an artifact that was deployed is the proof of it and stays", "verb purge"];
    refused(250, "who may administer deletes an artifact that was deployed", artifacts.delete("orders-1.0.0", &none), 403, &proof).await;
    // The right on one pipeline is no right on artifacts, which are the host's.
    let one = json!([{"apiGroups": ["pilotage.dev"], "resources": ["pipelines"], "resourceNames": ["standard"], "verbs": ["purge"]}]);
    grant(&world, "nora-too", one, &user("nora")).await;
    until_may(&world, "nora", &[], "purge", "pipelines.pilotage.dev/standard").await;
    refused(250, "who may purge one pipeline deletes an artifact", artifacts.delete("orders-1.0.0", &none), 403, &proof).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_records_removed_earlier_or_holds_what_is_not_theirs() {
    let world = records("shortened").await;
    let nora = narrow(&world, "nora").await;
    let pipelines: Api<Pipeline> = Api::namespaced(nora.clone(), &world.host);
    let plain = PatchParams::default();
    let retention = |limits: Value| Patch::Merge(json!({"spec": {"retention": limits}}));
    let yearly = json!({"schedule": "0 0 1 1 *", "requests": {"maxAge": "8760h"}});
    let words = ["you may not change spec.retention", "verb purge on the pipeline"];
    let short = json!({"schedule": "* * * * *", "requests": {"maxAge": "0s"}});
    refused(251, "retention is set without the verb", pipelines.patch("standard", &plain, &retention(short.clone())), 403, &words).await;
    let olgas: Api<Pipeline> = Api::namespaced(world.olga().await, &world.host);
    olgas.patch("standard", &plain, &retention(yearly)).await.unwrap();
    refused(251, "retention is shortened without the verb", pipelines.patch("standard", &plain, &retention(short.clone())), 403, &words)
        .await;
    refused(251, "retention is taken away without the verb", pipelines.patch("standard", &plain, &retention(Value::Null)), 403, &words)
        .await;
    let unarchived = Patch::Merge(json!({"spec": {"retention": {"archive": "Registry"}}}));
    refused(251, "what goes is archived elsewhere without the verb", pipelines.patch("standard", &plain, &unarchived), 403, &words).await;
    // Without the pipeline its records fall under the limits of the whole host.
    let confirmed = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": "standard"}}}));
    pipelines.patch("standard", &plain, &confirmed).await.unwrap();
    let none = DeleteParams::default();
    let gone = pipelines.delete("standard", &none);
    refused(251, "retention is taken away with its pipeline", gone, 403, &["nor delete a pipeline that has it"]).await;
    let one = json!([{"apiGroups": ["pilotage.dev"], "resources": ["pipelines"], "resourceNames": ["own"], "verbs": ["purge"]}]);
    grant(&world, "nora-too", one, &user("nora")).await;
    until_may(&world, "nora", &[], "purge", "pipelines.pilotage.dev/own").await;
    let mut of_host = short;
    of_host["scope"] = "Host".into();
    let own = world.host_object("Pipeline", "own", json!({"developmentEnvironments": ["dev"], "retention": of_host}));
    let words = ["spec.retention with the scope Host", "verb purge on all pipelines"];
    refused(251, "a pipeline of one's own limits what others keep", world.apply_as(&nora, &own), 403, &words).await;

    let hold = json!({"metadata": {"annotations": {"pilotage.dev/keep": "for ever"}}});
    let words = ["only holders of the verb purge on its pipeline set and remove pilotage.dev/keep"];
    bind(&world, "dana-patches", "ClusterRole", "pilotage-user-shared", &user("dana")).await;
    until_may(&world, "dana", &["makers"], "patch", "deploymentrequests.pilotage.dev").await;
    refused(252, "a maker holds their request", patch(&world, world.dana().await, "first", hold.clone()), 403, &words).await;
    refused(252, "who may administer holds a request", patch(&world, nora.clone(), "first", hold.clone()), 403, &words).await;
    let artifacts: Api<Artifact> = Api::namespaced(nora, &world.host);
    let words = ["holders of the verb purge on the pipelines of the host set and remove the annotation pilotage.dev/keep"];
    refused(252, "who may administer holds an artifact", artifacts.patch("orders-1.0.0", &plain, &Patch::Merge(hold.clone())), 403, &words)
        .await;
    let mut more = hold.clone();
    more["metadata"]["labels"] = json!({"a": "b"});
    let olgas: Api<Artifact> = Api::namespaced(world.olga().await, &world.host);
    refused(252, "an artifact is held and changed at once", olgas.patch("orders-1.0.0", &plain, &Patch::Merge(more)), 403, &words).await;
    let let_go = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/keep": null}}}));
    olgas.patch("orders-1.0.0", &plain, &Patch::Merge(hold)).await.unwrap();
    refused(252, "what others hold is let go", artifacts.patch("orders-1.0.0", &plain, &let_go), 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_deletes_no_proof_and_nothing_that_is_held() {
    let world = records("token").await;
    let own = client(operator(&world)).await;
    let (none, plain) = (DeleteParams::default(), PatchParams::default());
    let artifacts: Api<Artifact> = Api::namespaced(own.clone(), &world.host);
    let words = ["the operator removes only artifacts that were never deployed, or that have no bytes any more"];
    refused(253, "the operator deletes the proof of a deployment", artifacts.delete("orders-1.0.0", &none), 403, &words).await;
    let hold = json!({"metadata": {"annotations": {"pilotage.dev/keep": "audit"}}});
    patch(&world, world.olga().await, "first", hold.clone()).await.unwrap();
    let held = requests(&world, own.clone());
    refused(253, "the operator deletes a request that is held", held.delete("first", &none), 403, &["removes no request that is held"])
        .await;
    world.apply(&[world.solution("orders", "1.2.0")]).await;
    world.ask(&world.request("third", "qa", "orders", "1.2.0")).await;
    world.until_request("third", |r: &DeploymentRequest| phase(r) == "AwaitingApproval").await;
    let olgas: Api<Artifact> = Api::namespaced(world.olga().await, &world.host);
    let held = olgas.patch("orders-1.2.0", &plain, &Patch::Merge(hold)).await.unwrap();
    let words = ["removes no artifact that is held"];
    refused(253, "the operator deletes an artifact that is held", artifacts.delete(&held.name_any(), &none), 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_records_is_not_deleted_in_passing() {
    let world = records("passing").await;
    let none = DeleteParams::default();
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
    let words = ["is the record of what is deployed in namespace", "orders 1.1.0", "confirm-delete=qa"];
    until_kept(&world, &environments, "qa").await;
    refused(254, "an environment is deleted with what runs in it", environments.delete("qa", &none), 403, &words).await;
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    world.apply(&[world.host_object("Pipeline", "other", json!({}))]).await;
    let mut asked = serde_json::to_value(world.request("asked", "none", "orders", "1.0.0")).unwrap();
    asked["spec"]["pipeline"] = "other".into();
    let all = requests(&world, world.admin.clone());
    all.create(&PostParams::default(), &serde_json::from_value(asked).unwrap()).await.unwrap();
    let words = ["pipeline other has requests", "confirm-delete=other"];
    until_kept(&world, &pipelines, "other").await;
    refused(254, "a pipeline is deleted with its requests", pipelines.delete("other", &none), 403, &words).await;
    for request in ["first", "second"] {
        all.delete(request, &none).await.unwrap();
    }
    world.until("its requests are gone", async || all.get_opt("second").await.unwrap().is_none().then_some(())).await;
    let sees = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let words = ["pipeline standard has records of deployments", "confirm-delete=standard"];
    world
        .until("the policy knows that they are gone", async || {
            let error = pipelines.delete("standard", &sees).await.err()?.to_string();
            error.contains("has records of deployments").then_some(())
        })
        .await;
    refused(254, "a pipeline is deleted with its records", pipelines.delete("standard", &none), 403, &words).await;
}

/// A request that was rejected.
async fn rejected(world: &World, name: &str) {
    world.ask(&world.request(name, "qa", "orders", "1.3.0")).await;
    world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", name, "Rejected").await.unwrap();
    world.end(name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_stays_whatever_limits_are_set() {
    let world = World::new("needed").await;
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
        if version == "1.3.0" {
            break;
        }
        assert_eq!(phase(&world.deploy(&format!("to-{version}"), "qa", "orders", version).await), "Succeeded");
        if version == "1.0.0" {
            assert_eq!(phase(&world.deploy("to-prod", "prod", "orders", version).await), "Succeeded");
        }
    }
    // The sink hears of all that is older, and of nothing that follows.
    let receiver = Receiver::start().await;
    let olgas: Api<Pipeline> = Api::namespaced(world.olga().await, &world.host);
    let change = async |patch: Value| olgas.patch("standard", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    change(json!({"spec": {"sinks": [{"url": receiver.url()}]}})).await;
    let status = async || olgas.get("standard").await.unwrap().status.unwrap_or_default();
    for name in ["gone", "held"] {
        rejected(&world, name).await;
    }
    patch(&world, world.olga().await, "held", json!({"metadata": {"annotations": {"pilotage.dev/keep": "audit"}}})).await.unwrap();
    // What runs in production is no stage's way back any more.
    Api::<Stage>::namespaced(world.olga().await, &world.host).delete("prod", &DeleteParams::default()).await.unwrap();
    let before = requests(&world, world.admin.clone()).list(&ListParams::default()).await.unwrap().items;
    let is_told = |cursor: &SinkCursor, request: &DeploymentRequest| {
        let (uid, created) = (request.uid().unwrap(), request.creation_timestamp().unwrap().0);
        !cursor.open.iter().any(|open| open.uid == uid) && (created < cursor.since || cursor.done.contains(&uid))
    };
    let heard = async || status().await.sinks.first().is_some_and(|sink| before.iter().all(|request| is_told(&sink.cursor, request)));
    world.until("the sink has heard all", async || heard().await.then_some(())).await;
    receiver.stop();
    rejected(&world, "untold").await;

    let everything = json!({"schedule": "0 0 1 1 *", "requests": {"maxAge": "0s"}, "artifacts": {"maxAge": "0s"}});
    change(json!({"spec": {"retention": everything}, "metadata": {"annotations": {"pilotage.dev/retain-now": "now"}}})).await;
    let run = world.until("the run has ended", async || status().await.retention?.last_run).await;

    let all = requests(&world, world.admin.clone()).list(&ListParams::default()).await.unwrap();
    let left: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    let is_left = |name: &str| left.iter().any(|l| l == name);
    assert!(!is_left("gone") && !is_left("to-1.0.0"), "what is not needed goes: {left:?}");
    ignored(280, "the request that deployed what runs goes", is_left("to-prod"), &left);
    ignored(280, "the request that holds the settings of the way back goes", is_left("to-1.1.0"), &left);
    ignored(280, "a request goes of which a sink was not told", is_left("untold"), &left);
    ignored(280, "the operator tries to remove what is held", is_left("held") && run.refused == 0, &run);
    let artifacts: Api<Artifact> = Api::namespaced(world.admin.clone(), &world.host);
    let is_whole = async |name: &str| artifacts.get(name).await.unwrap().status.is_none_or(|s| s.bytes_removed.is_none());
    ignored(280, "the bytes of what runs go", is_whole("orders-1.0.0").await, &run);
    ignored(280, "the bytes of the way back go", is_whole("orders-1.1.0").await, &run);
}
