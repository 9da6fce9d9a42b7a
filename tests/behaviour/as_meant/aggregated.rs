//! The rules of an aggregated role belong to its controller.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::{in_qa, succeeded};
use crate::scoped::{RBAC, ROLE, Swept, allow, bot, cluster_role, grant, may_be_deployed, may_be_exported, named};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregated_role_arrives_without_the_rules_that_others_gave_it() {
    let world = World::new("aggregated").await;
    let _swept = Swept::after(&world);
    may_be_exported(&world).await;
    may_be_deployed(&world, "qa").await;
    // Somebody who aggregates roles grants rights that they can't know. The API server allows this only with the right to escalate.
    let escalates = json!([{"apiGroups": [RBAC], "resources": ["clusterroles"], "verbs": ["escalate"]}]);
    grant(&world, "escalates", escalates, &bot(&world, "qa")).await;
    for environment in ["dev", "qa"] {
        allow(&world, environment, &[ROLE]).await;
    }
    let (all, label) = (named(&world, "all"), format!("{}/aggregate", named(&world, "shop")));
    let mut aggregated = cluster_role(&all);
    aggregated.as_object_mut().unwrap().remove("rules");
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {(label.as_str()): "true"}}]});
    // Another team's role, which the solution does not bring.
    let mut theirs = cluster_role(&named(&world, "theirs"));
    theirs["metadata"]["labels"] = json!({(label.as_str()): "true"});
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["components"] = json!([{"group": RBAC, "kind": "ClusterRole"}]);
    world.apply(&[theirs, aggregated, solution]).await;
    let roles: Api<ClusterRole> = Api::all(world.admin.clone());
    let filled = || async { roles.get(&all).await.ok()?.rules.filter(|rules| !rules.is_empty()) };
    world.until("the role is aggregated", async || filled().await).await;

    // It is exported. Only after that is its name free in the same cluster.
    world.ask(&world.request("taken", "qa", "orders", "1.0.0")).await;
    world.fails("taken", "DryRunRefused").await;
    roles.delete(&all, &DeleteParams::default()).await.unwrap();
    succeeded(world.deploy("to-qa", "qa", "orders", "1.0.0").await);
    world.until("the role is aggregated there too", async || filled().await).await;
    let managers = in_qa(&world, "clusterrole", &all)["metadata"]["managedFields"].clone();
    let owners: Vec<&str> = managers
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["fieldsV1"].get("f:rules").is_some())
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert_eq!(owners, ["clusterrole-aggregation-controller"], "{managers:?}");
}
