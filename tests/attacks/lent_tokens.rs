//! Attacks with the operator's stolen token where it acts as delegates with tokens that it is lent, as on Kubernetes 1.33 to 1.35: on tokens
//! that would be more than that, and with a lent token on all that is not the operator's to do.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pilotage::api::Stage;
use pilotage_harness::install::Operator;
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::proof;
use crate::scene::{account, at_the_gate, create, operator, patch_status, requests, until_may};
use crate::world::{World, binding, client, filling, phase, recorder, role, unrecorded};

async fn lending(name: &str) -> (World, Option<Operator>) {
    let (world, operator) = World::lending(name, env!("CARGO_BIN_EXE_pilotage")).await;
    proof::on(operator.as_ref().map(|_| world.plane.dir()));
    (world, operator)
}

async fn done(operator: Option<Operator>) {
    proof::on(None);
    if let Some(operator) = operator {
        tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
    }
}

/// What the operator asks for: a token of that account, bound to a node.
fn wanted() -> Value {
    json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 1800, "boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}}})
}

async fn token(world: &World, account: &str, wanted: &Value) -> kube::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client(operator(world)).await, &world.host);
    let wanted = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    let answer = accounts.create_token_request(account, &PostParams::default(), &wanted).await?;
    Ok(answer.status.and_then(|status| status.token).unwrap_or_default())
}

/// Whoever stole the operator's token, acting as the delegate with a token that it is lent.
async fn lent(world: &World, account: &str) -> Client {
    let token = token(world, account, &wanted()).await.unwrap();
    client(world.plane.token_kubeconfig(&token, None).unwrap()).await
}

/// Gives the delegate of QA rights that no delegate has, so that nothing but the policies can refuse.
async fn with_rights(world: &World, namespace: &str, name: &str, rules: Value) {
    let bot = json!([account(world, "bot-qa")]);
    world.apply(&role(namespace, name, &rules, &bot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_lent_no_token_that_is_more_than_lent() {
    let (world, operator) = lending("unmarked").await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own", "namespace": world.host},
        "spec": {"serviceAccountName": "bot-qa", "containers": [{"name": "own", "image": "registry.example.test/own:1"}]},
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": world.host}});
    world.apply(&[pod, secret]).await;
    let with = |field: &str, value: Value| {
        let mut wanted = wanted();
        wanted["spec"][field] = value;
        wanted
    };
    let bound = |kind: &str| with("boundObjectRef", json!({"apiVersion": "v1", "kind": kind, "name": "own"}));
    let unmarked = ["the operator is lent only tokens that are bound to a Node"];
    for (what, wanted) in [
        ("the operator asks for a token that is bound to nothing", with("boundObjectRef", Value::Null)),
        ("the operator asks for a token that is bound to a pod", bound("Pod")),
        ("the operator asks for a token that is bound to a Secret", bound("Secret")),
    ] {
        refused(290, what, token(&world, "bot-qa", &wanted), 403, &unmarked).await;
    }
    let wanted = with("expirationSeconds", json!(7200));
    let words = ["the operator is lent tokens for an hour at most"];
    refused(290, "the operator asks for a token for two hours", token(&world, "bot-qa", &wanted), 403, &words).await;
    for audiences in [json!(["sts.example.test"]), json!(["https://kubernetes.default.svc", "sts.example.test"])] {
        let what = format!("the operator asks for a token for {audiences}");
        let words = ["the operator is lent tokens only for this API server"];
        refused(290, &what, token(&world, "bot-qa", &with("audiences", audiences)), 403, &words).await;
    }
    // What it is lent is all that is left, and only of the delegates that the host named.
    assert!(!token(&world, "bot-qa", &self::wanted()).await.unwrap().is_empty());
    let words = ["pilotage-system:pilotage", "cannot create", "serviceaccounts/token"];
    refused(290, "the operator asks for a token that nobody lent", token(&world, "default", &self::wanted()), 403, &words).await;
    done(operator).await;
}

/// Also where nothing is ever lent, because somebody may have asked for such a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_the_mark_of_lent_ones_decides_nothing_on_any_version() {
    let world = World::new("marked").await;
    at_the_gate(&world, "orders").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), &world.host);
    let wanted = serde_json::from_value(wanted()).unwrap();
    let token = accounts.create_token_request("bot-qa", &PostParams::default(), &wanted).await.unwrap().status.unwrap().token.unwrap();
    let marked = client(world.plane.token_kubeconfig(&token, None).unwrap()).await;
    let attempt = world.approve_as(marked, "orders", "Approved");
    refused(291, "the delegate's gate, with a token that is bound to a node", attempt, 403, &["lent"]).await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_token_decides_nothing_and_configures_nothing() {
    let (world, operator) = lending("lent-decides").await;
    at_the_gate(&world, "orders").await;
    let stolen = lent(&world, "bot-qa").await;
    let hash = requests(&world, world.admin.clone()).get("orders").await.unwrap().status.unwrap().run.plan.unwrap().hash;
    let me = format!("system:serviceaccount:{}:bot-qa", world.host);
    let decision = json!({"status": {"approval": {"decision": "Approved", "by": me, "planHash": hash}}});
    // Of the two policies that refuse it, either may speak.
    let refusal = patch_status(&world, stolen.clone(), "orders", decision).await.unwrap_err().to_string();
    told(291, "the delegate's gate, with a lent token", &refusal, &["lent", "denied request"]);
    let everything = json!([
        {"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests", "stages", "pipelines"], "verbs": ["get", "create", "patch", "delete", "deploy", "administer"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["environments"], "verbs": ["use"]},
        {"apiGroups": [""], "resources": ["serviceaccounts", "serviceaccounts/token"], "verbs": ["create", "delegate"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"]},
    ]);
    with_rights(&world, &world.host, "too-much", everything).await;
    until_may(&world, &me, &[], "create", "rolebindings.rbac.authorization.k8s.io").await;
    let words = ["with a token that the operator was lent nobody asks, decides or configures"];
    let asks = serde_json::to_value(world.request("own", "qa", "orders", "1.0.0")).unwrap();
    refused(292, "a request, with a lent token", create(&world, stolen.clone(), &asks), 403, &words).await;
    let cancel = crate::scene::patch(&world, stolen.clone(), "orders", json!({"spec": {"cancel": true}}));
    refused(292, "somebody's request canceled, with a lent token", cancel, 403, &words).await;
    let spec = json!({"pipeline": "standard", "targetEnvironment": "qa", "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": "bot-qa"}});
    let stage = world.host_object("Stage", "own", spec);
    refused(292, "a stage, with a lent token", world.apply_as(&stolen, &stage), 403, &words).await;
    let stages: Api<Stage> = Api::namespaced(stolen.clone(), &world.host);
    refused(292, "a stage deleted, with a lent token", stages.delete("qa", &DeleteParams::default()), 403, &words).await;

    let accounts: Api<ServiceAccount> = Api::namespaced(stolen.clone(), &world.host);
    let plain = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}})).unwrap();
    for name in ["bot-qa", "bot-prod"] {
        let attempt = async { accounts.create_token_request(name, &PostParams::default(), &plain).await };
        let words = ["with a token that the operator was lent nobody asks for another token"];
        refused(293, &format!("a token of {name}, with a lent token"), attempt, 403, &words).await;
    }
    let bindings: Api<RoleBinding> = Api::namespaced(stolen, &world.host);
    let approver: RoleBinding =
        serde_json::from_value(binding(&world.host, "own", "ClusterRole", "pilotage-approver", &json!([account(&world, "bot-qa")])))
            .unwrap();
    let words = ["it needs the verb impersonate-on:serviceaccount:patch on rolebindings.rbac.authorization.k8s.io in namespace"];
    refused(294, "a binding in the host, with a lent token", bindings.create(&PostParams::default(), &approver), 403, &words).await;

    // The delegate's own token decides, as ever.
    world.decide("qa", "orders", "Approved").await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
    done(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_token_writes_only_what_the_target_let_the_operator_write() {
    let (world, operator) = lending("lent-writes").await;
    let all = json!([
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"]},
        {"apiGroups": [""], "resources": ["pods", "pods/exec", "pods/eviction", "pods/proxy"], "verbs": ["get", "create", "update"]},
    ]);
    with_rights(&world, &world.qa, "too-much", all).await;
    let bot = json!([account(&world, "bot-qa")]);
    let (name, rules) =
        (format!("{}-too-much", world.qa), json!([{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch"]}]));
    world
        .apply(&[
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": bot}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "somebodys", "namespace": world.qa},
                "spec": {"containers": [{"name": "c", "image": "registry.example.test/c:1"}]}}),
        ])
        .await;
    let me = format!("system:serviceaccount:{}:bot-qa", world.host);
    world
        .until("the delegate may do all that", async || {
            let may = world.plane.kubectl().run(&["auth", "can-i", "patch", "namespaces", "--as", &me]).unwrap().ok;
            may.then_some(())
        })
        .await;
    let stolen = lent(&world, "bot-qa").await;
    let lacks = |what: &str| format!("the operator may not act as {me} here: it needs the verb impersonate-on:serviceaccount:{what}");

    let secrets: Api<Secret> = Api::namespaced(stolen.clone(), &world.qa);
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "own"}})).unwrap();
    let words = lacks("patch on secrets in namespace");
    refused(295, "a kind that was not granted, created", secrets.create(&PostParams::default(), &secret), 403, &[&words]).await;
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}}));
    let forced = PatchParams::apply("pilotage").force();
    refused(295, "a kind that was not granted, applied", secrets.patch("own", &forced, &apply), 403, &[&words]).await;
    world.apply(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": world.qa}})]).await;
    let words = lacks("delete on secrets in namespace");
    refused(295, "a kind that was not granted, deleted", secrets.delete("theirs", &DeleteParams::default()), 403, &[&words]).await;
    let maps: Api<ConfigMap> = Api::namespaced(stolen.clone(), &world.qa);
    let words = lacks("deletecollection on configmaps in namespace");
    let attempt = async { maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await.map(|_| ()) };
    refused(295, "all objects of a granted kind at once", attempt, 403, &[&words]).await;
    let namespaces: Api<Namespace> = Api::all(stolen.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/managed-by": "mine"}}}));
    let attempt = async { namespaces.patch(&world.qa, &PatchParams::default(), &label).await };
    refused(295, "the target's namespace", attempt, 403, &[&lacks("patch on namespaces")]).await;
    let elsewhere: Api<ConfigMap> = Api::namespaced(stolen.clone(), &world.prod);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "own"}})).unwrap();
    let attempt = async { elsewhere.create(&PostParams::default(), &map).await };
    refused(295, "another stage's target", attempt, 403, &["bot-qa", "cannot create"]).await;

    let pods: Api<Pod> = Api::namespaced(stolen.clone(), &world.qa);
    let words = ["with a token that the operator was lent nobody connects to anything"];
    for (subresource, query) in [("exec", "?command=sh"), ("proxy", "")] {
        let request =
            hyper::http::Request::post(format!("{}/somebodys/{subresource}{query}", pods.resource_url())).body(Vec::new()).unwrap();
        let attempt = async { stolen.request_text(request).await };
        refused(296, &format!("a pod's {subresource}"), attempt, 403, &words).await;
    }
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "somebodys", "namespace": world.qa}});
    let body = serde_json::to_vec(&eviction).unwrap();
    let request = hyper::http::Request::post(format!("{}/somebodys/eviction", pods.resource_url())).body(body).unwrap();
    let attempt = async { stolen.request_text(request).await };
    refused(296, "a pod's eviction", attempt, 403, &[&lacks("patch on pods/eviction in namespace")]).await;
    done(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_the_whole_caller_where_nobody_fills_it_in() {
    let (world, operator) = lending("whole-caller").await;
    let dana = recorder::wrap(unrecorded(world.plane.user_kubeconfig("dana", &["makers"]).unwrap()).await);
    let request = |by: Value| {
        let mut request = serde_json::to_value(world.request("forged", "qa", "orders", "1.0.0")).unwrap();
        request["spec"]["requestedBy"] = by;
        request
    };
    let words = [
        "spec.requestedBy is not you (dana)",
        "write this where it is not: requestedBy: {username: 'dana', groups: ['makers', 'system:authenticated']}",
    ];
    for (what, by) in [
        ("nobody, where nobody fills in who asks", Value::Null),
        ("a requester without their groups", json!({"username": "dana"})),
        ("a requester with some of their groups", json!({"username": "dana", "groups": ["system:authenticated"]})),
        ("a requester with another's uid", json!({"username": "dana", "uid": "u-1", "groups": ["makers", "system:authenticated"]})),
        ("another requester", json!({"username": "olga", "groups": ["makers", "system:authenticated"]})),
    ] {
        refused(297, what, create(&world, dana.clone(), &request(by)), 403, &words).await;
    }
    let olga = recorder::wrap(unrecorded(world.plane.user_kubeconfig("olga", &[]).unwrap()).await);
    let spec = json!({"pipeline": "standard", "previousStage": "qa", "targetEnvironment": "prod"});
    let stage = world.host_object("Stage", "unowned", spec);
    let words = ["spec.owner is not you (olga)", "owner: {username: 'olga'}"];
    refused(297, "a stage of nobody, where nobody fills in who owns it", world.apply_as(&olga, &stage), 403, &words).await;

    at_the_gate(&world, "orders").await;
    let own = world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap();
    let bot = recorder::wrap(unrecorded(own).await);
    let decide = |decision: Value| patch_status(&world, bot.clone(), "orders", json!({"status": {"approval": decision}}));
    let me = format!("system:serviceaccount:{}:bot-qa", world.host);
    let words = format!("write this where it is not: by: '{me}'");
    refused(298, "a decision by nobody", decide(json!({"decision": "Approved"})), 403, &[&words]).await;
    let words = ["planHash is not that of the plan at the gate", "with planHash: 'sha256:"];
    refused(298, "a decision on no plan", decide(json!({"decision": "Approved", "by": me})), 422, &words).await;
    done(operator).await;
}

/// What nobody refuses on these versions, and docs/security.md says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_weaker_is_what_is_said_to_be() {
    let (world, operator) = lending("weaker").await;
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": world.qa}, "stringData": {"a": "b"}}),
        ])
        .await;
    with_rights(&world, &world.qa, "reads", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}])).await;
    let stolen = lent(&world, "bot-qa").await;
    let secrets: Api<Secret> = Api::namespaced(stolen.clone(), &world.qa);
    world.until("what the delegate may read is read with a lent token", async || secrets.list(&ListParams::default()).await.ok()).await;

    // The right to ask for tokens is taken away, and the one that is lent stays what it was.
    world.plane.kubectl().ok(&["delete", "rolebinding", "pilotage-delegates", "-n", &world.host]).unwrap();
    world.until("no more are lent", async || token(&world, "bot-qa", &wanted()).await.err()).await;
    secrets.list(&ListParams::default()).await.unwrap();
    // What the target granted the operator still limits it, and takes effect at once.
    let maps: Api<ConfigMap> = Api::namespaced(filling::wrap(stolen), &world.qa);
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}));
    maps.patch("own", &PatchParams::apply("pilotage").force(), &apply).await.unwrap();
    world.plane.kubectl().ok(&["delete", "rolebinding", "pilotage-operator", "-n", &world.qa]).unwrap();
    let after = world
        .until("the target's grant is gone", async || {
            maps.patch("own", &PatchParams::apply("pilotage").force(), &apply).await.err().map(|error| error.to_string())
        })
        .await;
    ignored(299, "a lent token where the target took its grant away", after.contains("impersonate-on:serviceaccount:patch"), &after);
    done(operator).await;
}

#[test]
fn the_page_on_security_lists_the_attacks_that_are_not_tried_on_older_versions() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let versions: Value = serde_saphyr::from_str(&std::fs::read_to_string(root.join("tests/versions.yaml")).unwrap()).unwrap();
    let is_attack = |test: &str| test.split_once("::").is_some_and(|(module, _)| root.join(format!("tests/attacks/{module}.rs")).is_file());
    let left_out: Vec<String> = versions["only"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|only| only["from"] == "1.36" && is_attack(only["test"].as_str().unwrap()))
        .map(|only| format!("| `{}` | {} |", only["test"].as_str().unwrap(), only["because"].as_str().unwrap()))
        .collect();
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `") && line.contains("::")).collect();
    assert_eq!(left_out, listed);
}
