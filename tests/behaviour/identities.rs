//! The identities that a stage may deploy as: a service principal (see `solutions`), the stage's owner, and, without a delegate, the
//! requester. Each uses its own rights, those of its groups, or those of a `ServiceAccount`. Nobody else writes to the target.

use std::path::Path;

use kube::api::PostParams;
use kube::{Api, Client};
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use serde_json::{Value, json};

use crate::arrival::objects;
use crate::grant::{configure, grant};
use crate::solutions::applications;
use crate::world::{World, client, outcome, phase};

/// Makes QA's stage deploy as `type_` says, or as the requester.
fn delegation(type_: Option<&'static str>) -> impl Fn(&mut Value) {
    move |object| {
        if object["kind"] == "Stage" {
            match type_ {
                Some(type_) => object["spec"]["delegatedDeployment"] = json!({"type": type_}),
                None => drop(object["spec"].as_object_mut().unwrap().remove("delegatedDeployment")),
            }
        }
    }
}

/// Every write to QA was made as this identity, by the operator.
fn written_by(world: &World, who: &str) {
    let writes = world.operator_writes(&world.qa, false);
    assert!(!writes.is_empty(), "nothing was written");
    for call in writes {
        assert_eq!(call.impersonated_user.as_deref(), Some(who), "{} {}", call.verb, call.uri);
    }
}

/// An application in development, as version 1.0.0; its name.
async fn develop(world: &World, file: &Path) -> String {
    let solution = file.file_stem().unwrap().to_str().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(file, solution)});
    let applied = world.plane.kubectl().run_with(&["apply", "--namespace", &world.dev, "-f", "-"], &list.to_string()).unwrap();
    assert!(applied.ok, "{}", applied.stderr);
    world.apply(&[world.solution(solution, "1.0.0")]).await;
    solution.to_owned()
}

/// Creates a request as somebody, as soon as the pipeline is shared with them.
async fn ask_as(world: &World, who: Client, request: &DeploymentRequest) {
    let requests = Api::<DeploymentRequest>::namespaced(who, &world.host);
    world.until("the pipeline is shared", async || requests.create(&PostParams::default(), request).await.ok()).await;
}

async fn as_the_stage_owner(file: &Path) {
    let world = World::bare(&format!("owner-{}", file.file_stem().unwrap().to_str().unwrap())).await;
    let solution = develop(&world, file).await;
    configure(&world, delegation(Some("StageOwner"))).await;
    let message = world.until_condition::<Stage>("qa", "Ready", "OperatorMayNotActAsDelegate").await;
    // Whether the operator may act as olga is granted in the whole cluster. Another test may have granted it already.
    assert!(message.contains("the operator may not act as olga") && message.contains("impersonate-on:user-info:patch"), "{message}");
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--solution", &solution, "--from", &world.dev, "--apply"]);
    }
    world.ready::<Stage>("qa").await;
    ask_as(&world, world.dana().await, &world.request("to-qa", "qa", &solution, "1.0.0")).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    assert!(outcome(&waiting).1.contains("for the approval by olga"), "{:?}", outcome(&waiting));
    // The identity that deploys also approves.
    let other = world.approve_as(world.bot("qa").await, "to-qa", "Approved").await.unwrap_err().to_string();
    assert!(other.contains("is not yours: a request is decided by the delegate"), "{other}");
    world.approve_as(world.olga().await, "to-qa", "Approved").await.unwrap();
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{solution}: {:?}", outcome(&end));
    let run = end.status.unwrap().run;
    assert_eq!((run.deployed_by.as_deref(), run.plan.unwrap().delegate.as_str()), (Some("olga"), "olga"));
    written_by(&world, "olga");
}

#[tokio::test(flavor = "multi_thread")]
async fn published_applications_are_deployed_and_approved_by_the_stage_owner() {
    let applications = applications();
    futures::future::join_all(applications.iter().map(|file| as_the_stage_owner(file))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_owner_lends_no_connections() {
    let world = World::bare("owner-connections").await;
    configure(&world, delegation(Some("StageOwner"))).await;
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["connectionReferences"] = json!([{"name": "db", "secretName": "db"}]);
    world.apply(&[solution, world.config("orders", "orders", json!({}))]).await;
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--least", "--apply"]);
    }
    world.ready::<Stage>("qa").await;
    ask_as(&world, world.dana().await, &world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.fails("to-qa", "ConnectionReferencesNeedServicePrincipal").await;
    assert!(message.contains("orders has connection references") && message.contains("Use a stage with a service principal"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_makes_a_stage_deploy_as_the_owner() {
    let world = World::new("owner-only").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage").unwrap();
    delegation(Some("StageOwner"))(&mut stage);
    stage["spec"]["owner"] = json!({"username": "olga"});
    let error = world.apply_as(&world.admin, &stage).await.unwrap_err().to_string();
    assert!(error.contains("a stage that deploys as its owner is written by that owner alone"), "{error}");
}

async fn as_the_requester(file: &Path) {
    let world = World::bare(&format!("requester-{}", file.file_stem().unwrap().to_str().unwrap())).await.provokes_refusals().await;
    let solution = develop(&world, file).await;
    configure(&world, delegation(None)).await;
    world.ready::<Stage>("qa").await;
    // The right to act as a person holds in the whole cluster. This person exists only in this world.
    let (maker, group) = (format!("maker-{}", world.host), "makers");
    let who = client(world.plane.user_kubeconfig(&maker, &[group]).unwrap()).await;
    ask_as(&world, who, &world.request("to-qa", "qa", &solution, "1.0.0")).await;
    // It waits with the exact grant: the requester's own rights in the target, and the operator's right to act as them with their groups.
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    let lead =
        format!("{maker}, who deploys, lacks rights in namespace {}, and the operator may not act as {maker} there. Grant:\n", world.qa);
    assert!(message.starts_with("waits until ") && message.contains(&lead), "{message}");
    for (resource, name) in [("users", maker.as_str()), ("groups", group)] {
        let rule = format!("resources: [{resource}], resourceNames: [\"{name}\"], verbs: [\"impersonate:user-info\"]");
        assert!(message.contains(&rule), "{message}");
    }
    assert!(!message.contains("system:authenticated"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty(), "nothing is written before it is granted");
    world.plane.kubectl().apply(&message[message.find("apiVersion:").unwrap()..]).unwrap();
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{solution}: {:?}", outcome(&end));
    let status = end.status.unwrap();
    assert_eq!((status.run.deployed_by.as_deref(), status.approval), (Some(maker.as_str()), None), "no gate, as there is no delegate");
    written_by(&world, &maker);
    world.plane.kubectl().ok(&["delete", "clusterrole,clusterrolebinding", &format!("pilotage-as-{maker}")]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn published_applications_are_deployed_by_their_requester_once_that_is_granted() {
    let applications = applications();
    futures::future::join_all(applications.iter().map(|file| as_the_requester(file))).await;
}

/// A world with a stage without a delegate, and a solution of one `ConfigMap`. The pipeline is also shared with the subjects of
/// `shared_with`.
async fn undelegated(name: &str, shared_with: impl Fn(&World) -> Value) -> World {
    let world = World::bare(name).await.provokes_refusals().await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let subject = shared_with(&world);
    configure(&world, |object| {
        delegation(None)(object);
        if object["kind"] == "Pipeline" {
            object["spec"]["sharedWith"].as_array_mut().unwrap().push(subject.clone());
        }
    })
    .await;
    world.ready::<Stage>("qa").await;
    world.ready::<Pipeline>("standard").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_come_through_groups_deploy() {
    let world = undelegated("through-groups", |_| json!({"kind": "Group", "name": "leads"})).await;
    // One of the two groups lets her make requests, the other deploy. She herself has no rights.
    let gina = client(world.plane.user_kubeconfig("gina", &["leads", "deployers"]).unwrap()).await;
    let bind = |namespace: &str, role: &str, group: &str| {
        let role = format!("--clusterrole={role}");
        world.plane.kubectl().ok(&["create", "rolebinding", group, &role, "--group", group, "-n", namespace]).unwrap();
    };
    bind(&world.dev, "view", "leads");
    bind(&world.qa, "edit", "deployers");
    ask_as(&world, gina, &world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "OperatorMayNotActAsDelegate").await;
    assert!(message.contains("the operator may not act as gina"), "{message}");
    let printed = grant(&world, &["operator", "--stage", "qa", "--request", "to-qa", "--least"]);
    assert!(
        printed.contains("resources: [groups], resourceNames: [\"leads\"]") && printed.contains("resourceNames: [\"deployers\"]"),
        "{printed}"
    );
    // One group is not enough: the call is sent with all her groups. With fewer groups it would not be made as gina.
    let some = printed.lines().filter(|line| !line.contains("[\"deployers\"]")).collect::<Vec<_>>().join("\n");
    world.plane.kubectl().apply(&some).unwrap();
    let message = world
        .until("the request misses the group alone", async || {
            let request = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).get("to-qa").await.unwrap();
            Some(outcome(&request).1).filter(|m| !m.contains("impersonate-on:user-info"))
        })
        .await;
    assert!(message.contains("resourceNames: [\"deployers\"]"), "{message}");
    grant(&world, &["operator", "--stage", "qa", "--request", "to-qa", "--least", "--apply"]);
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    written_by(&world, "gina");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_asks_and_deploys_as_itself() {
    let world = undelegated("account-asks", |world| json!({"kind": "ServiceAccount", "name": "ci", "namespace": world.dev})).await;
    let name = format!("system:serviceaccount:{}:ci", world.dev);
    world.plane.kubectl().ok(&["create", "serviceaccount", "ci", "-n", &world.dev]).unwrap();
    world.plane.kubectl().ok(&["create", "rolebinding", "ci", "--clusterrole=view", "--user", &name, "-n", &world.dev]).unwrap();
    let ci = client(world.plane.service_account_kubeconfig(&world.dev, "ci").unwrap()).await;
    ask_as(&world, ci, &world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    assert!(message.contains(&format!("{name}, who deploys, lacks rights in namespace {}", world.qa)), "{message}");
    // As a ServiceAccount, in its own namespace, not as a user: the API server would refuse that.
    assert!(
        message.contains("resources: [serviceaccounts], resourceNames: [\"ci\"], verbs: [\"impersonate:serviceaccount\"]"),
        "{message}"
    );
    assert!(message.contains(&format!("namespace: {}}}\nrules:\n- {{apiGroups: [\"authentication.k8s.io\"]", world.dev)), "{message}");
    assert!(!message.contains("user-info"), "{message}");
    world.plane.kubectl().apply(&message[message.find("apiVersion:").unwrap()..]).unwrap();
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    written_by(&world, &name);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_holds_by_a_group_of_the_system_is_not_lent() {
    let world = undelegated("system-group", |_| json!({"kind": "User", "name": "root"})).await;
    let root = client(world.plane.user_kubeconfig("root", &["system:masters"]).unwrap()).await;
    world.plane.kubectl().ok(&["create", "rolebinding", "root", "--clusterrole=view", "--user=root", "-n", &world.dev]).unwrap();
    ask_as(&world, root, &world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    assert!(message.contains("root, who deploys, lacks rights") && !message.contains("system:masters"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}
