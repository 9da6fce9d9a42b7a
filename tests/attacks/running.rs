//! Attacks on a request that is writing to its target.

use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::attempt::refused;
use crate::scene::{patch, requests, running, shared};
use crate::world::ended;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_is_not_deleted_canceled_or_held() {
    let world = shared("running").await;
    running(&world, "stuck").await;
    let dana = world.dana().await;
    let none = DeleteParams::default();
    let words = ["the request is deploying and can't be deleted", "status.endTime"];
    refused(26, "its requester deletes it", requests(&world, dana.clone()).delete("stuck", &none), 422, &words).await;
    refused(26, "an administrator deletes it", requests(&world, world.olga().await).delete("stuck", &none), 422, &words).await;
    refused(26, "the cluster's administrator deletes it", requests(&world, world.admin.clone()).delete("stuck", &none), 422, &words).await;
    let admin = requests(&world, world.admin.clone());
    let everything = ListParams::default();
    refused(26, "all requests are deleted at once", admin.delete_collection(&none, &everything), 422, &words).await;

    let cancel = patch(&world, dana.clone(), "stuck", json!({"spec": {"cancel": true}}));
    refused(56, "a cancellation while it deploys", cancel, 422, &["the deployment has started: it can't be canceled any more"]).await;
    let words = ["finalizers and ownerReferences of a request are the operator's"];
    let hold = json!({"metadata": {"finalizers": ["example.test/hold"]}});
    refused(25, "a finalizer on a running request", patch(&world, dana.clone(), "stuck", hold), 403, &words).await;
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000000"}]}});
    refused(25, "an owner on a running request", patch(&world, dana.clone(), "stuck", owner.clone()), 403, &words).await;
    refused(25, "an owner, by an administrator", patch(&world, world.olga().await, "stuck", owner), 403, &words).await;
    for key in ["labels", "annotations"] {
        let mark = json!({"metadata": {key: {"pilotage.dev/mark": "x"}}});
        let words = ["begin with pilotage.dev/ are the operator's"];
        refused(25, &format!("Pilotage's own {key} on a running request"), patch(&world, dana.clone(), "stuck", mark), 403, &words).await;
    }
    let still = requests(&world, world.admin.clone()).get("stuck").await.unwrap();
    assert!(!ended(&still) && still.metadata.deletion_timestamp.is_none(), "{:?}", still.metadata);
}
