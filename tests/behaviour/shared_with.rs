//! Sharing after the deployment: the delegate binds in the target what the request asked for, if its stage allows it and its own rights
//! suffice. What is refused is listed, and the deployment still succeeds.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::plan::PlanResult;
use pilotage::api::{DeploymentRequest, Stage, condition};
use serde_json::{Value, json};

use crate::grant::grant;
use crate::world::{World, ended, outcome, phase};

/// A world whose stage `qa` lets requesters share `view` with groups, and `edit`.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let sharing = json!({"spec": {"sharing": {"clusterRoles": ["view", "edit"], "subjectKinds": ["Group", "ServiceAccount"]}}});
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(sharing)).await.unwrap();
    world.ready::<Stage>("qa").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world
}

/// A request with these shares.
fn sharing(world: &World, name: &str, version: &str, with: &Value) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    request["spec"]["shareWith"] = with.clone();
    serde_json::from_value(request).unwrap()
}

async fn bindings(world: &World) -> Vec<RoleBinding> {
    let of_solution = ListParams::default().labels("pilotage.dev/solution=orders,app.kubernetes.io/managed-by=pilotage");
    Api::<RoleBinding>::namespaced(world.admin.clone(), &world.qa).list(&of_solution).await.unwrap().items
}

fn told(request: &DeploymentRequest, type_: &str) -> (condition::ConditionStatus, String, String) {
    let conditions = &request.status.as_ref().unwrap().run.conditions;
    let found = condition::find(conditions, type_).unwrap_or_else(|| panic!("no condition {type_}: {conditions:?}"));
    (found.status, found.reason.clone(), found.message.clone())
}

/// What an approver is told, without what could not be looked for in development.
fn results(request: &DeploymentRequest) -> Vec<PlanResult> {
    let results = request.status.as_ref().unwrap().run.plan.clone().unwrap().results;
    results.into_iter().filter(|result| result.reason != "NotLookedFor").collect()
}

/// Whether this user may read the deployed `ConfigMap`.
fn may_read(world: &World, who: &[&str]) -> bool {
    let args = [&["auth", "can-i", "get", "configmaps/orders", "-n", &world.qa], who].concat();
    world.plane.kubectl().run(&args).unwrap().ok
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_is_bound_by_the_delegate_at_the_end_and_stays() {
    let world = world("share").await;
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--share", "view", "--apply"]);
    }
    let with = json!([
        {"kind": "Group", "name": "qa-team", "clusterRole": "view"},
        {"kind": "ServiceAccount", "name": "probe", "namespace": world.dev, "clusterRole": "view"},
    ]);
    let team = ["--as=tess", "--as-group=qa-team"];
    assert!(!may_read(&world, &team));
    world.ask(&sharing(&world, "to-qa", "1.0.0", &with)).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    assert!(results(&waiting).is_empty(), "nothing speaks against it");
    assert!(bindings(&world).await.is_empty(), "nothing is shared before it is deployed");
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let (status, reason, message) = told(&end, "Shared");
    assert_eq!((status, reason.as_str()), (condition::ConditionStatus::True, "Shared"), "{message}");
    assert!(
        message.contains("ClusterRole view with Group qa-team") && message.contains(&format!("ServiceAccount {}/probe", world.dev)),
        "{message}"
    );
    assert_eq!(bindings(&world).await.len(), 2);
    assert!(may_read(&world, &team));
    // Created by the delegate, and by nobody else.
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let made: Vec<_> = world.operator_writes(&world.qa, false).into_iter().filter(|c| c.resource == "rolebindings").collect();
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|call| call.impersonated_user.as_deref() == Some(bot.as_str())), "{made:?}");

    // The next version neither prunes nor writes them, whether it asks for them or not.
    for (version, with) in [("1.1.0", json!([])), ("1.2.0", with)] {
        world.apply(&[world.solution("orders", version)]).await;
        let name = format!("to-qa-{}", version.replace('.', "-"));
        world.ask(&sharing(&world, &name, version, &with)).await;
        let end = world.approved(&name, "qa").await;
        assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    }
    assert_eq!(bindings(&world).await.len(), 2);
    assert_eq!(world.operator_writes(&world.qa, false).iter().filter(|c| c.resource == "rolebindings").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_delegate_may_not_share_is_shown_before_and_listed_after_and_the_deployment_stands() {
    let world = world("share-refused").await.provokes_refusals().await;
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--share", "view", "--apply"]);
    }
    let with = json!([
        {"kind": "Group", "name": "qa-team", "clusterRole": "edit"},
        {"kind": "Group", "name": "qa-team", "clusterRole": "view"},
    ]);
    world.ask(&sharing(&world, "to-qa", "1.0.0", &with)).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    let results = results(&waiting);
    assert_eq!(results.len(), 1, "{results:?}");
    assert!(
        results[0].kind == "RoleBinding" && results[0].message.starts_with("would not be shared: ClusterRole edit with Group qa-team: "),
        "{results:?}"
    );
    assert!(told(&waiting, "Validated").2.contains("1 of the shares refused"), "{:?}", told(&waiting, "Validated"));
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert!(outcome(&end).1.contains("not shared: "), "{:?}", outcome(&end));
    let (status, reason, message) = told(&end, "Shared");
    assert_eq!((status, reason.as_str()), (condition::ConditionStatus::False, "SharingRefused"));
    let rule = "resources: [clusterroles], resourceNames: [\"edit\"], verbs: [\"bind\"]";
    assert!(message.contains("shared: ClusterRole view with Group qa-team; not shared: ") && message.contains(rule), "{message}");
    let errors = end.status.unwrap().run.errors;
    assert_eq!((errors.len(), errors[0].kind.as_str()), (1, "RoleBinding"), "{errors:?}");
    let bound: Vec<String> = bindings(&world).await.iter().map(|b| b.role_ref.name.clone()).collect();
    assert_eq!(bound, ["view"]);

    // After the printed grant is applied, the next deployment shares it.
    world.plane.kubectl().apply(&message[message.find("apiVersion:").unwrap()..]).unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.ask(&sharing(&world, "again", "1.1.0", &with)).await;
    let end = world.approved("again", "qa").await;
    assert_eq!(told(&end, "Shared").1, "Shared", "{:?}", told(&end, "Shared"));
    assert_eq!(bindings(&world).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stage_does_not_allow_is_refused_at_once_with_what_it_allows() {
    let world = world("share-forbidden").await;
    for (name, with) in [
        ("role", json!([{"kind": "Group", "name": "qa-team", "clusterRole": "admin"}])),
        ("kind", json!([{"kind": "User", "name": "dana", "clusterRole": "view"}])),
    ] {
        world.ask(&sharing(&world, name, "1.0.0", &with)).await;
        let message = world.fails(name, "SharingNotAllowed").await;
        assert!(message.contains("stage qa does not let requesters share ClusterRole "), "{message}");
        assert!(message.contains("it allows ClusterRoles view, edit with subjects of kind Group, ServiceAccount"), "{message}");
    }
    assert!(world.operator_writes(&world.qa, false).is_empty());
    // A ServiceAccount without its namespace does not exist.
    let nobody = sharing(&world, "nobody", "1.0.0", &json!([{"kind": "ServiceAccount", "name": "ci", "clusterRole": "view"}]));
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let error = requests.create(&kube::api::PostParams::default(), &nobody).await.unwrap_err().to_string();
    assert!(error.contains("namespace is for kind ServiceAccount, and required there"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_of_somebody_else_is_left_alone_and_what_the_stage_allows_is_part_of_what_is_approved() {
    let world = world("share-taken").await;
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--share", "view", "--share", "edit", "--apply"]);
    }
    let with = json!([{"kind": "Group", "name": "qa-team", "clusterRole": "view"}]);
    world.ask(&sharing(&world, "first", "1.0.0", &with)).await;
    let end = world.approved("first", "qa").await;
    assert_eq!(told(&end, "Shared").1, "Shared", "{:?}", told(&end, "Shared"));
    // Somebody takes over the binding.
    let mut theirs = bindings(&world).await.remove(0);
    let roles = Api::<RoleBinding>::namespaced(world.admin.clone(), &world.qa);
    theirs.labels_mut().clear();
    theirs.metadata.managed_fields = None;
    roles.replace(&theirs.name_any(), &kube::api::PostParams::default(), &theirs).await.unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.ask(&sharing(&world, "second", "1.1.0", &with)).await;
    let waiting = world.until_request("second", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    let results = results(&waiting);
    assert!(
        results.len() == 1 && results[0].reason == "NameTaken" && results[0].message.contains("so Pilotage does not change it"),
        "{results:?}"
    );

    // The stage now allows more than when it was planned: what would be done is not what was to be approved.
    let more = json!({"spec": {"sharing": {"clusterRoles": ["view", "edit", "admin"], "subjectKinds": ["Group"]}}});
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
    world.ready::<Stage>("qa").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    world.fails("second", "PlanChanged").await;
}
