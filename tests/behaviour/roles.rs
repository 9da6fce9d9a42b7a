//! What Pilotage's roles allow, and what they don't: the API server is asked about somebody who holds one of them.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pilotage::api::reference::Identity;
use pilotage::api::{DeploymentRequest, GROUP, Pipeline, Solution};
use pilotage::identity::access::{Access, Right, as_authenticated};
use serde_json::json;

use crate::world::{World, client, ended, outcome, phase};

const OURS: [&str; 5] = ["environments", "pipelines", "stages", "deploymentrequests", "artifacts"];
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

fn person(name: &str, groups: &[&str]) -> Identity {
    as_authenticated(&Identity { username: name.into(), uid: None, groups: groups.iter().map(|&g| g.into()).collect() })
}

/// Whether they hold each of the rights. The answer must be the same for all.
async fn hold(access: &Access, who: &Identity, rights: Vec<Right>, wanted: bool) {
    for right in rights {
        assert_eq!(access.may(who, &right).await.unwrap(), wanted, "{}: {right:?}", who.username);
    }
}

fn on(host: &str, verbs: &[&str], resources: &[&str]) -> Vec<Right> {
    resources.iter().flat_map(|resource| verbs.iter().map(|verb| Right::on(verb, GROUP, resource, host))).collect()
}

/// Everything else in a namespace that would give somebody more than the role is for.
fn others(host: &str) -> Vec<Right> {
    let mut rights = Vec::new();
    for (group, resource) in [
        ("", "secrets"),
        ("", "configmaps"),
        ("", "pods"),
        ("", "serviceaccounts"),
        ("apps", "deployments"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    ] {
        rights.extend(["get", "list", "create", "patch", "delete"].map(|verb| Right::on(verb, group, resource, host)));
    }
    rights.push(Right::on("impersonate", "", "serviceaccounts", host));
    rights.push(Right::on("delegate", "", "serviceaccounts", host).named("bot-other"));
    rights.push(Right::on("create", "", "serviceaccounts", host).of_subresource("token"));
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_holds_what_it_is_for_and_nothing_else() {
    let world = World::new("roles").await;
    let (host, access) = (&world.host, Access::new(world.admin.clone()));
    let kubectl = world.plane.kubectl();
    for (name, role) in [("ada", "administrator"), ("con", "configurator"), ("vic", "viewer"), ("amy", "approver")] {
        let (role, user) = (format!("--clusterrole=pilotage-{role}"), format!("--user={name}"));
        kubectl.ok(&["create", "rolebinding", name, &role, &user, "-n", host]).unwrap();
    }
    let status = |verb: &str| Right::on(verb, GROUP, "deploymentrequests", host).of_subresource("status");

    // An administrator may configure and run all pipelines of the host, and nothing else there: the role includes no environment and no
    // delegate. A configurator may not run them.
    for (who, runs) in [(person("ada", &[]), true), (person("con", &[]), false)] {
        let configuration = ["environments", "pipelines", "stages"];
        hold(&access, &who, on(host, &["create", "update", "patch", "delete", "get", "list", "watch"], &configuration), true).await;
        hold(&access, &who, on(host, &READ, &OURS), true).await;
        hold(&access, &who, on(host, &["administer"], &["pipelines"]), true).await;
        // What runs nowhere may be deleted, and by an administrator what is there may be held and purged. Admission enforces this.
        hold(&access, &who, on(host, &["delete"], &["artifacts"]), true).await;
        hold(&access, &who, on(host, &["create", "deletecollection"], &["artifacts"]), false).await;
        let keeping = [on(host, &["purge"], &["pipelines"]), on(host, &["update", "patch"], &["artifacts"])].concat();
        hold(&access, &who, keeping, runs).await;
        let running = [on(host, &["deploy"], &["pipelines"]), on(host, &["create"], &["deploymentrequests"])].concat();
        hold(&access, &who, running, runs).await;
        hold(&access, &who, [on(host, &["approve"], &["stages"]), on(host, &["use"], &["environments"])].concat(), false).await;
        hold(&access, &who, [others(host), vec![status("patch")]].concat(), false).await;
    }

    let vic = person("vic", &[]);
    hold(&access, &vic, on(host, &READ, &OURS), true).await;
    hold(&access, &vic, [on(host, &WRITE, &OURS), vec![status("patch")], others(host)].concat(), false).await;

    // An approver decides steps and changes nothing else.
    let amy = person("amy", &[]);
    hold(&access, &amy, [on(host, &READ, &OURS), vec![status("patch"), Right::on("approve", GROUP, "stages", host)]].concat(), true).await;
    hold(
        &access,
        &amy,
        [on(host, &WRITE, &OURS), on(host, &["deploy", "administer", "purge"], &["pipelines"]), others(host)].concat(),
        false,
    )
    .await;

    // A maker uses what is shared with them. They create, edit and delete no pipeline, and see nothing of a private pipeline's host.
    let dana = person("dana", &["makers"]);
    let shared = |verb: &str, name: &str| Right::on(verb, GROUP, "pipelines", host).named(name);
    hold(&access, &dana, vec![shared("get", "standard"), shared("deploy", "standard")], true).await;
    hold(&access, &dana, on(host, &["create", "delete"], &["deploymentrequests"]), true).await;
    hold(
        &access,
        &dana,
        vec![shared("get", "other"), shared("deploy", "other"), shared("administer", "standard"), shared("purge", "standard")],
        false,
    )
    .await;
    hold(&access, &dana, on(host, &WRITE, &["environments", "pipelines", "stages", "artifacts"]), false).await;
    hold(&access, &dana, on(host, &READ, &["environments", "stages", "deploymentrequests", "artifacts"]), false).await;
    hold(&access, &dana, [others(host), vec![status("get"), status("patch")]].concat(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsharing_takes_effect_at_once_and_visibility_goes_with_the_pipeline() {
    let world = World::new("unshare").await;
    let access = Access::new(world.admin.clone());
    let dana = person("dana", &["makers"]);
    let reads = Right::on("list", GROUP, "deploymentrequests", &world.host);
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let patch = async |spec: serde_json::Value| {
        pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        world.ready::<Pipeline>("standard").await;
    };
    assert!(!access.may(&dana, &reads).await.unwrap(), "Private: makers see neither the host nor each other");
    patch(json!({"visibility": "Shared"})).await;
    world.until("makers see requests", async || access.may(&dana, &reads).await.unwrap().then_some(())).await;
    patch(json!({"sharedWith": []})).await;
    // When the pipeline is ready with the new list, they have lost access.
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let error = requests.create(&PostParams::default(), &world.request("late", "qa", "orders", "1.0.0")).await.unwrap_err().to_string();
    // Two rights were taken away, and the API server may notice the second a moment after the first. Each of them alone refuses.
    let refusals = ["cannot create resource \"deploymentrequests\"", "you may not deploy through this pipeline"];
    assert!(refusals.iter().any(|refusal| error.contains(refusal)), "{error}");
    world.until("makers see nothing any more", async || (!access.may(&dana, &reads).await.unwrap()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requesters_cancel_and_reschedule_their_own_and_administrators_any_and_makers_see_their_own_work() {
    let world = World::new("own-requests").await;
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let shared =
        json!({"spec": {"visibility": "Shared", "sharedWith": [{"kind": "Group", "name": "makers"}, {"kind": "User", "name": "carl"}]}});
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(shared)).await.unwrap();
    world.ready::<Pipeline>("standard").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    for name in ["mine", "theirs"] {
        world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
        world.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    }
    let of = |who: kube::Client| Api::<DeploymentRequest>::namespaced(who, &world.host);
    let (dana, olga) = (of(world.dana().await), of(world.olga().await));
    let carl = of(client(world.plane.user_kubeconfig("carl", &[]).unwrap()).await);
    let later = Patch::Merge(json!({"spec": {"scheduledTime": "2999-01-01T00:00:00Z"}}));
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    for (what, patch) in [("reschedules", &later), ("cancels", &cancel)] {
        let error = world
            .until("carl sees requests", async || {
                carl.patch("mine", &PatchParams::default(), patch)
                    .await
                    .err()
                    .map(|e| e.to_string())
                    .filter(|e| !e.contains("cannot patch"))
            })
            .await;
        assert!(error.contains("request"), "carl {what} nobody else's: {error}");
    }
    assert!(carl.delete("mine", &DeleteParams::default()).await.is_err(), "nor deletes it");
    world.until("dana reschedules her own", async || dana.patch("mine", &PatchParams::default(), &later).await.ok()).await;
    olga.patch("theirs", &PatchParams::default(), &later).await.unwrap();
    dana.patch("mine", &PatchParams::default(), &cancel).await.unwrap();
    olga.patch("theirs", &PatchParams::default(), &cancel).await.unwrap();
    for name in ["mine", "theirs"] {
        let end = world.end(name).await;
        assert_eq!(phase(&end), "Canceled", "{:?}", outcome(&end));
    }
    // Her view is the status of the Solution in her own namespace. It says what became of the request, and nothing about the host.
    let view = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    let seen = world
        .until("the view tells", async || {
            let status = view.get("orders").await.unwrap().status?;
            status.deployments.into_iter().find(|d| d.phase == "Canceled")
        })
        .await;
    assert_eq!((seen.stage.as_str(), seen.requester.as_str(), seen.pipeline.as_str()), ("qa", "dana", "standard"));
    assert!(seen.message.is_some_and(|m| m.contains("canceled before anything was written")));
    let elsewhere = Api::<Solution>::namespaced(client(world.plane.user_kubeconfig("carl", &[]).unwrap()).await, &world.dev);
    assert!(elsewhere.get("orders").await.is_err(), "carl has no view there");
}
