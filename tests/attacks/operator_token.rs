//! Attacks with the operator's own token on what it must not control: decisions, rights, targets, policies, the past.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pilotage::api::Stage;
use serde_json::{Value, json};

use crate::attempt::refused;
use crate::scene::{acting_as, at_the_gate, operator, patch, patch_status, requests, running};
use crate::world::{World, client, phase};

#[tokio::test(flavor = "multi_thread")]
async fn it_hands_on_no_rights_but_those_of_makers() {
    let world = World::new("hands").await;
    let own = client(operator(&world)).await;
    let bindings: Api<RoleBinding> = Api::namespaced(own.clone(), &world.host);
    let to = |kind: &str, role: &str| -> RoleBinding {
        serde_json::from_value(json!({
            "metadata": {"name": "stolen", "labels": {"pilotage.dev/pipeline": "standard"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}],
        }))
        .unwrap()
    };
    let words = ["attempting to grant RBAC permissions not currently held"];
    for (kind, role) in [
        ("ClusterRole", "pilotage-administrator"),
        ("ClusterRole", "pilotage-approver"),
        ("ClusterRole", "pilotage-delegate"),
        ("ClusterRole", "cluster-admin"),
        ("Role", "olga"),
    ] {
        let attempt = to(kind, role);
        refused(
            125,
            &format!("the operator binds {kind} {role} to somebody"),
            bindings.create(&PostParams::default(), &attempt),
            403,
            &words,
        )
        .await;
    }
    // RBAC would let it grant what it holds itself.
    let words = ["the operator binds nothing but pilotage-user, pilotage-user-shared and the Role that it made"];
    for (kind, role) in [("ClusterRole", "pilotage-host"), ("Role", "pilotage-delegates")] {
        let attempt = to(kind, role);
        let what = format!("the operator binds {kind} {role}, which it holds itself, to somebody");
        refused(205, &what, bindings.create(&PostParams::default(), &attempt), 403, &words).await;
    }
    let made: Api<Role> = Api::namespaced(own.clone(), &world.host);
    let role = |rules: Value| -> Role {
        let metadata = json!({"name": "pilotage-deploy-stolen", "labels": {"pilotage.dev/pipeline": "standard"}});
        serde_json::from_value(json!({"metadata": metadata, "rules": rules})).unwrap()
    };
    let words = ["the operator makes Roles that let somebody get and deploy one pipeline, and no others"];
    let (group, resource, verb) = if world.plane.lends_tokens() {
        ("", "serviceaccounts/token", "create")
    } else {
        ("authentication.k8s.io", "serviceaccounts", "impersonate:serviceaccount")
    };
    for (what, rules) in [
        ("to act as a delegate", json!([{"apiGroups": [group], "resources": [resource], "resourceNames": ["bot-qa"], "verbs": [verb]}])),
        ("to store artifacts", json!([{"apiGroups": ["pilotage.dev"], "resources": ["artifacts"], "verbs": ["create"]}])),
        ("to deploy through any pipeline", json!([{"apiGroups": ["pilotage.dev"], "resources": ["pipelines"], "verbs": ["deploy"]}])),
    ] {
        let attempt = role(rules);
        refused(205, &format!("the operator makes a Role {what}"), made.create(&PostParams::default(), &attempt), 403, &words).await;
    }
    let events: Api<Event> = Api::namespaced(own.clone(), "kube-system");
    let event: Event = serde_json::from_value(json!({"metadata": {"name": "forged"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "pilotage", "reportingInstance": "pilotage", "action": "forged", "reason": "Forged", "type": "Normal"}))
    .unwrap();
    let words = ["pilotage-system:pilotage", "cannot create", "events"];
    refused(206, "the operator writes an Event outside of hosts", events.create(&PostParams::default(), &event), 403, &words).await;

    let roles: Api<ClusterRole> = Api::all(own.clone());
    let more = Patch::Merge(json!({"rules": []}));
    let words = ["pilotage-system:pilotage", "cannot patch", "clusterroles"];
    refused(125, "the operator changes its own ClusterRole", roles.patch("pilotage", &PatchParams::default(), &more), 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_nobody_in_targets_and_holds_no_secrets() {
    let world = World::new("nobody").await;
    let own = client(operator(&world)).await;
    let me = "pilotage-system:pilotage";
    let maps: Api<ConfigMap> = Api::namespaced(own.clone(), &world.qa);
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stolen"}}));
    let params = PatchParams::apply("pilotage").force();
    refused(126, "the operator writes to a target as itself", maps.patch("stolen", &params, &apply), 403, &[me, "cannot patch"]).await;
    refused(126, "the operator reads a target as itself", maps.list(&ListParams::default()), 403, &[me, "cannot list"]).await;
    let dev: Api<ConfigMap> = Api::namespaced(own.clone(), &world.dev);
    refused(126, "the operator writes to development", dev.patch("stolen", &params, &apply), 403, &[me, "cannot patch"]).await;
    let namespaces: Api<Namespace> = Api::all(own.clone());
    refused(126, "the operator deletes a target", namespaces.delete(&world.qa, &DeleteParams::default()), 403, &[me, "cannot delete"])
        .await;
    let mine = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/managed-by": world.host}}}));
    let attempt = async { namespaces.patch("kube-public", &PatchParams::default(), &mine).await };
    refused(126, "the operator opts a namespace in", attempt, 403, &[me, "cannot patch", "namespaces"]).await;

    for namespace in [&world.host, &world.dev, &world.qa, &"pilotage-system".to_owned()] {
        let secrets: Api<Secret> = Api::namespaced(own.clone(), namespace);
        let what = format!("the operator reads Secrets in {}", namespace.rsplit('-').next().unwrap());
        refused(127, &what, secrets.list(&ListParams::default()), 403, &[me, "cannot list", "secrets"]).await;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(own.clone(), &world.host);
    let token = serde_json::from_value(json!({"spec": {"audiences": []}, "metadata": {}})).unwrap();
    let attempt = async { accounts.create_token_request("bot-qa", &PostParams::default(), &token).await };
    // Of those that are lent, lent_tokens says more.
    let words =
        if world.plane.lends_tokens() { &["pilotage-lent-token-request"][..] } else { &[me, "cannot create", "serviceaccounts/token"] };
    refused(127, "the operator makes a token of a delegate", attempt, 403, words).await;
    for account in ["default", "unlent"] {
        let other = acting_as(operator(&world), &format!("system:serviceaccount:{}:{account}", world.host), &[]).await;
        let api: Api<ConfigMap> = Api::namespaced(other, &world.qa);
        let what = format!("the operator acts as ServiceAccount {account}, which nobody lent");
        refused(128, &what, api.list(&ListParams::default()), 403, &[me, "cannot impersonate"]).await;
    }
    let dana = acting_as(operator(&world), "dana", &[]).await;
    let forged = world.request("forged", "qa", "orders", "1.0.0");
    let attempt = async { requests(&world, dana).create(&PostParams::default(), &forged).await };
    refused(128, "the operator asks as a maker", attempt, 403, &[me, "cannot impersonate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_changes_no_policy_no_configuration_and_no_past() {
    let world = World::new("past").await;
    let own = client(operator(&world)).await;
    let me = "pilotage-system:pilotage";
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(own.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(own.clone());
    let weak = Patch::Merge(json!({"spec": {"failurePolicy": "Ignore"}}));
    let name = "pilotage-request-status";
    let attempt = async { policies.patch(name, &PatchParams::default(), &weak).await };
    refused(129, "the operator weakens a policy", attempt, 403, &[me, "cannot patch"]).await;
    refused(129, "the operator removes a policy's binding", bindings.delete(name, &DeleteParams::default()), 403, &[me, "cannot delete"])
        .await;
    let stages: Api<Stage> = Api::namespaced(own.clone(), &world.host);
    let lax = Patch::Merge(json!({"spec": {"gates": {"allowSelfApproval": true}}}));
    refused(129, "the operator configures a stage", stages.patch("qa", &PatchParams::default(), &lax), 403, &[me, "cannot patch"]).await;

    at_the_gate(&world, "orders").await;
    let attempt = patch(&world, own.clone(), "orders", json!({"spec": {"cancel": true}}));
    refused(130, "the operator cancels somebody's request", attempt, 403, &[me, "cannot patch"]).await;
    // It may delete requests, for retention. It can't delete others.
    let words = ["the operator removes only requests that have ended"];
    let attempt = async { requests(&world, own.clone()).delete("orders", &DeleteParams::default()).await };
    refused(130, "the operator deletes a request that waits", attempt, 403, &words).await;
    world.decide("qa", "orders", "Rejected").await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Rejected");
    let frozen = ["the request has ended: its status is frozen"];
    let set = |patch: Value| patch_status(&world, own.clone(), "orders", patch);
    for (what, change) in [
        ("the operator reopens a request that has ended", json!({"status": {"endTime": null, "phase": "Pending"}})),
        ("the operator rewrites how a request ended", json!({"status": {"phase": "Succeeded"}})),
        ("the operator empties the status of a request that has ended", json!({"status": null})),
    ] {
        refused(131, what, set(change), 422, &frozen).await;
    }
    // What has ended may be deleted: retention.
    requests(&world, own.clone()).delete("orders", &DeleteParams::default()).await.unwrap();

    running(&world, "stuck").await;
    let attempt = async { requests(&world, own).delete("stuck", &DeleteParams::default()).await };
    refused(130, "the operator deletes a request that deploys", attempt, 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_what_makers_see() {
    let world = World::new("view-forged").await;
    crate::scene::orders(&world).await;
    let forged = Patch::Merge(json!({"status": {"deployments": []}}));
    let api = |who: kube::Client| Api::<pilotage::api::Solution>::namespaced(who, &world.dev);
    let plain = PatchParams::default();
    let words = ["dana", "cannot patch", "solutions/status"];
    refused(132, "a maker writes their Solution's status", api(world.dana().await).patch_status("orders", &plain, &forged), 403, &words)
        .await;
    let words = ["this status is written by the operator alone"];
    refused(132, "the cluster's administrator does", api(world.admin.clone()).patch_status("orders", &plain, &forged), 403, &words).await;
}
