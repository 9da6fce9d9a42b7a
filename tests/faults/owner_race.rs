//! The labels of a cluster-scoped object give it to another owner while a deployment is about to write it: it stays theirs.

use std::fmt::Write as _;

use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::proxy::Action;
use crate::scoped::{CLASS, Swept, allow, class, may_be_deployed, named};
use crate::shipped::{config, folder, request, takes_from};
use crate::world::{World, ended, outcome, phase};

/// A class with a description that can be changed.
fn described(world: &World, name: &str, description: &str) -> Value {
    let mut class = class(&named(world, name), 7);
    class["description"] = description.into();
    class
}

/// Version 1.0.0 has two classes. 1.1.0 no longer has one of them, and changes the other. The class with that name gets another owner while
/// a call with `verb` to it is held.
async fn handed_on(world_name: &str, verb: &str, class_name: &str) {
    let world = fixture::world(fixture::shared(), world_name).await;
    let _swept = Swept::after(&world);
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    let classes: Api<PriorityClass> = Api::all(world.admin.clone());
    let name = named(&world, class_name);
    let request = fixture
        .tending(async {
            world.configure().await;
            let registry = Registry::start(&world.plane).unwrap();
            let url = registry.url("team/orders");
            takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
            may_be_deployed(&world, "qa").await;
            allow(&world, "qa", &[CLASS]).await;
            let versions = [
                ("1.0.0", vec![described(&world, "kept", "first"), described(&world, "gone", "first")]),
                ("1.1.0", vec![described(&world, "kept", "second")]),
            ];
            for (version, objects) in versions {
                let mut text = config("orders", version);
                for object in objects {
                    writeln!(text, "---\n{object}").unwrap();
                }
                registry.push_flux(&format!("team/orders:{version}"), &folder(&world, &[("app.yaml", &text)])).unwrap();
            }
            world.ask(&request(&world, "first", "1.0.0", &url, &json!({"tag": "1.0.0"}))).await;
            let first = world.approved("first", "qa").await;
            assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

            world.ask(&request(&world, "second", "1.1.0", &url, &json!({"tag": "1.1.0"}))).await;
            world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
            let line = format!("{verb} /apis/scheduling.k8s.io/v1/priorityclasses/{name}");
            let watched = line.clone();
            proxy.follow(move |call| if call.write.is_some() && call.line == watched { Action::Hold } else { Action::Forward });
            world.decide("qa", "second", "Approved").await.unwrap();
            let under_way = async || proxy.writes().iter().any(|w| w.line == line && w.code.is_none()).then_some(());
            world.until("the write is on its way", under_way).await;
            // One label less: this changes no generation, and does not conflict with an apply.
            let theirs = json!({"metadata": {"labels": {"pilotage.dev/target-uid": null}}});
            classes.patch(&name, &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
            proxy.release();
            world.until_request("second", ended).await
        })
        .await;
    let (reason, message) = outcome(&request);
    assert_eq!((phase(&request).as_str(), reason.as_str()), ("Failed", "ApplyFailed"), "{message}");
    for part in [&format!("PriorityClass {name} was taken over by somebody else"), "find out by whom", "kubectl pilotage retry second"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let left = classes.get(&name).await.unwrap();
    assert_eq!((left.description.as_deref(), left.metadata.deletion_timestamp), (Some("first"), None), "it is as it was handed on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_by_now_is_not_changed_for_them() {
    Box::pin(handed_on("handed-changed", "PATCH", "kept")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_by_now_is_not_deleted_for_them() {
    Box::pin(handed_on("handed-deleted", "DELETE", "gone")).await;
}
