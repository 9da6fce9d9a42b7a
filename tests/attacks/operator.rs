//! Attacks with the operator's own token: what somebody can do who has taken over the operator.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pilotage::api::DeploymentRequest;
use serde_json::json;

use crate::attempt::refused;
use crate::scene::{acting_as, at_the_gate, bind, create, delegate, operator, until_may};
use crate::world::{World, client};

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_a_delegate_only_as_far_as_the_target_lets_it() {
    let world = World::new("puppet").await;
    let bot = delegate(&world, "qa");
    // The delegate itself may read Secrets. The target never let the operator do that as the delegate.
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "patch", "create"]}]);
    let names = json!({"name": "secrets", "namespace": world.qa});
    world
        .apply(&[
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": names, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": names,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "secrets"},
                "subjects": [{"kind": "ServiceAccount", "namespace": world.host, "name": "bot-qa"}]}),
        ])
        .await;
    let own: Api<Secret> = Api::namespaced(world.bot("qa").await, &world.qa);
    world.until("the delegate may list Secrets", async || own.list(&ListParams::default()).await.ok()).await;

    let puppet = acting_as(operator(&world), &bot, &[]).await;
    let secrets: Api<Secret> = Api::namespaced(puppet.clone(), &world.qa);
    let secret = Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}}));
    let words = ["pilotage-system:pilotage", "secrets"];
    refused(27, "Secrets read as the delegate", secrets.list(&ListParams::default()), 403, &words).await;
    refused(27, "a Secret written as the delegate", secrets.patch("made", &PatchParams::apply("pilotage"), &secret), 403, &words).await;
    let elsewhere: Api<ConfigMap> = Api::namespaced(puppet.clone(), &world.prod);
    refused(27, "another target written as the delegate", elsewhere.list(&ListParams::default()), 403, &["configmaps"]).await;
    // What it may do. This shows that the other attempts fail for the right reason.
    Api::<ConfigMap>::namespaced(puppet, &world.qa).list(&ListParams::default()).await.unwrap();

    for group in ["system:masters", "makers"] {
        let masters = acting_as(operator(&world), &bot, &[group]).await;
        let attempt = Api::<ConfigMap>::namespaced(masters, &world.qa);
        let what = format!("the delegate with group {group}");
        refused(28, &what, attempt.list(&ListParams::default()), 403, &["cannot impersonate"]).await;
    }
    let root = acting_as(operator(&world), "admin", &["system:masters"]).await;
    refused(
        28,
        "the cluster's administrator",
        Api::<Secret>::namespaced(root, &world.qa).list(&ListParams::default()),
        403,
        &["cannot impersonate"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_asks_for_nothing_and_takes_nothing() {
    let world = World::new("taken").await;
    at_the_gate(&world, "orders").await;
    let own = client(operator(&world)).await;
    let request = serde_json::to_value(world.request("forged", "qa", "orders", "1.0.0")).unwrap();
    refused(57, "the operator makes a request", create(&world, own.clone(), &request), 403, &["pilotage-system:pilotage", "cannot create"])
        .await;
    // Not even with a role that would allow it.
    let account = json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"});
    bind(&world, "too-much", "ClusterRole", "pilotage-user", &account).await;
    until_may(&world, "system:serviceaccount:pilotage-system:pilotage", &[], "create", "deploymentrequests.pilotage.dev").await;
    refused(
        57,
        "the operator makes a request, with the role to",
        create(&world, own.clone(), &request),
        403,
        &["makes none: ask as yourself"],
    )
    .await;

    // In its own namespace it has the right, for a dry run at its start.
    let mut elsewhere = world.request("forged", "qa", "orders", "1.0.0");
    elsewhere.metadata.namespace = None;
    let here: Api<DeploymentRequest> = Api::namespaced(own.clone(), "pilotage-system");
    refused(
        57,
        "the operator makes a request in its own namespace",
        here.create(&PostParams::default(), &elsewhere),
        403,
        &["makes none: ask as yourself"],
    )
    .await;

    let roles: Api<Role> = Api::namespaced(own.clone(), &world.host);
    let words = ["the operator touches only Roles and RoleBindings with the label pilotage.dev/pipeline"];
    refused(57, "the operator deletes somebody's Role", roles.delete("olga", &DeleteParams::default()), 403, &words).await;
    let words = ["attempting to grant RBAC permissions not currently held"];
    let take = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/pipeline": "standard"}}}));
    refused(57, "the operator takes over somebody's Role", roles.patch("olga", &PatchParams::default(), &take), 403, &words).await;
    let empty = json!({"name": "empty", "namespace": world.host});
    world.apply(&[json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": empty, "rules": []})]).await;
    let words = ["the operator touches only Roles and RoleBindings with the label pilotage.dev/pipeline"];
    let label = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/pipeline": "standard"}}}));
    refused(57, "the operator takes over a Role that gives nothing", roles.patch("empty", &PatchParams::default(), &label), 403, &words)
        .await;
    let maps: Api<ConfigMap> = Api::namespaced(own, &world.host);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "made"}})).unwrap();
    let words = ["ConfigMaps with the label pilotage.dev/artifact"];
    refused(57, "the operator makes a ConfigMap that holds no artifact", maps.create(&PostParams::default(), &map), 403, &words).await;
    // Not even with a role that would allow it.
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]}]);
    crate::scene::grant(&world, "maps", rules, &account).await;
    until_may(&world, "system:serviceaccount:pilotage-system:pilotage", &[], "delete", "configmaps").await;
    refused(57, "the operator deletes somebody's ConfigMap", maps.delete("kube-root-ca.crt", &DeleteParams::default()), 403, &words).await;
}
