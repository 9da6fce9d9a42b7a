//! A share that runs while other things happen: what a target's owner took away meanwhile does not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Stage};
use pilotage_harness::process::Signal;
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::proxy::{Action, Proxy};
use crate::world::{World, ended, outcome, phase, role};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Lets the delegate of QA share `view`, and requesters ask for it.
async fn may_share(world: &World) {
    let bot = json!([{"kind": "ServiceAccount", "name": "bot-qa", "namespace": world.host}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let bindings = |verbs: &[&str]| json!({"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": verbs});
    let bind = json!({"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]});
    let as_bot = bindings(&["impersonate-on:serviceaccount:get", "impersonate-on:serviceaccount:patch"]);
    world.apply(&role(&world.qa, "shares", &json!([bindings(&["get", "patch", "create"]), bind]), &bot)).await;
    world.apply(&role(&world.qa, "shares-as", &json!([as_bot]), &operator)).await;
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    let sharing = json!({"spec": {"sharing": {"clusterRoles": ["view"], "subjectKinds": ["Group"]}}});
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(sharing)).await.unwrap();
    world.ready::<Stage>("qa").await;
}

async fn asks(world: &World, name: &str, version: &str) -> DeploymentRequest {
    world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    request["spec"]["shareWith"] = json!([{"kind": "Group", "name": "qa-team", "clusterRole": "view"}]);
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let waiting = world.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    let bot = world.bot("qa").await;
    world.until("the approval is taken", async || world.approve_as(bot.clone(), name, "Approved").await.ok()).await
}

fn bindings(world: &World) -> Api<RoleBinding> {
    Api::namespaced(world.admin.clone(), &world.qa)
}

/// The binding of the share, where it is there.
async fn shared(world: &World) -> Option<RoleBinding> {
    let all = bindings(world).list(&kube::api::ListParams::default().labels("pilotage.dev/solution=orders")).await.unwrap();
    all.items.into_iter().next()
}

/// What its owner did to the binding of the first version. The next version corrects that.
async fn altered(world: &World) -> String {
    let binding = shared(world).await.expect("the first version was shared");
    let name = binding.metadata.name.unwrap();
    let nobody = Patch::Merge(json!({"subjects": []}));
    bindings(world).patch(&name, &PatchParams::default(), &nobody).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_arrives_late_does_not_bring_back_what_its_owner_took_away() {
    let world = fixture::world(fixture::shared(), "late-share").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    let line = Box::pin(fixture.tending(async {
        world.configure().await;
        may_share(&world).await;
        asks(&world, "first", "1.0.0").await;
        let first = world.end("first").await;
        assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
        let name = altered(&world).await;
        let line = format!("PATCH /apis/{RBAC}/v1/namespaces/{}/rolebindings/{name}", world.qa);
        let (watched, mut is_held) = (line.clone(), false);
        proxy.follow(move |call| {
            if call.write.is_some() && call.line == watched && !is_held {
                is_held = true;
                return Action::Outlive;
            }
            Action::Forward
        });
        asks(&world, "second", "2.0.0").await;
        let second = world.end("second").await;
        assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
        bindings(&world).delete(&name, &DeleteParams::default()).await.unwrap();
        line
    }))
    .await;
    assert_eq!(fixture.restarts(), 1, "its maker is dead");
    let held = proxy.writes().iter().position(|w| w.line == line && w.code.is_none()).expect("a write that is under way");
    proxy.release();
    let code = world.until("the late write has arrived", async || proxy.writes()[held].code).await;
    assert_eq!(code, 409);
    assert!(shared(&world).await.is_none(), "who took it away meant it");
}

/// Short, because the test waits until it has expired.
const LEASE_SECONDS: &str = "3";

#[tokio::test(flavor = "multi_thread")]
async fn who_slept_between_reading_and_sharing_shares_nothing() {
    let world = fixture::world(fixture::shared(), "sleeping-share").await;
    let (lease, plane) = (world.host.clone(), &world.plane);
    let operator = async |name: &str| {
        let proxy = Proxy::start(plane).await;
        let kubeconfig = plane.token_kubeconfig(&fixture::token(plane), Some(&proxy.url())).unwrap();
        let log = plane.dir().join(format!("{lease}-{name}.log"));
        (proxy, fixture::start(&kubeconfig, &log, &world.host, &lease, LEASE_SECONDS))
    };
    let (proxy, mut sleeper) = operator("sleeper").await;
    world.configure().await;
    may_share(&world).await;
    let (_second_proxy, second) = operator("second").await;
    // The plan has read it before the first object is written.
    let (reading, object) = (format!("/namespaces/{}/rolebindings/", world.qa), format!("/namespaces/{}/configmaps/orders", world.qa));
    let (mut is_written, reads) = (false, Arc::new(AtomicBool::new(false)));
    let seen = reads.clone();
    proxy.follow(move |call| {
        is_written |= call.write.is_some() && call.line.contains(&object);
        if is_written && call.line.starts_with("GET ") && call.line.contains(&reading) {
            seen.store(true, Ordering::Release);
            return Action::Hold;
        }
        Action::Forward
    });
    asks(&world, "first", "1.0.0").await;
    world.until("it reads what is there", async || reads.load(Ordering::Acquire).then_some(())).await;
    sleeper.signal(Signal::STOP).unwrap();

    // The standby shares it and ends the request, and the owner deletes the binding.
    let first = world.end("first").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let binding = shared(&world).await.expect("it was shared");
    bindings(&world).delete(binding.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();

    proxy.release();
    sleeper.signal(Signal::CONT).unwrap();
    world.until("the sleeper has understood and ended", async || (!sleeper.runs()).then_some(())).await;
    assert!(shared(&world).await.is_none(), "it slept, and what it read is not true any more");
    second.stop().unwrap();
}
