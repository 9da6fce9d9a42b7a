//! Claims that are bound when the first pod uses them (`volumeBindingMode: WaitForFirstConsumer`). Until then there is nothing to wait for.
//! A solution may bring such a claim for pods that come later, as those of a `CronJob` do.

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::object::{self, Key};
use crate::cluster::retry::retrying;

/// The annotation in which the scheduler names the node for the first pod of a claim.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The most classes that are read.
const MAX_CLASSES: usize = 16;

/// The class of a claim that is not bound, and for which no pod was scheduled yet.
pub(crate) fn class_of_unused<'a>(key: &Key, claim: &'a Value) -> Option<&'a str> {
    let is_claim = key.group.is_empty() && key.kind == "PersistentVolumeClaim";
    let text = |pointer: &str| claim.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let is_new = matches!(text("/status/phase"), "" | "Pending") && text("/spec/volumeName").is_empty();
    let is_unused = is_claim && is_new && !object::is_being_deleted(claim) && object::annotation(claim, SELECTED_NODE).is_none();
    Some(text("/spec/storageClassName")).filter(|class| is_unused && !class.is_empty())
}

/// The classes that bind a claim when the first pod uses it. A class that can't be read is left out.
pub(crate) async fn lazy(reader: &Client, classes: BTreeSet<&str>) -> BTreeSet<String> {
    let api: Api<StorageClass> = Api::all(reader.clone());
    let api = &api;
    let looked = classes.into_iter().take(MAX_CLASSES).map(|name| async move {
        let class = retrying(|| api.get_opt(name)).await.ok().flatten()?;
        (class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")).then(|| name.to_owned())
    });
    join_all(looked).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_unused_until_it_is_bound_or_a_pod_was_placed_for_it() {
        let class = |kind: &str, claim: Value| {
            let key = Key { group: String::new(), kind: kind.into(), name: "reports".into() };
            class_of_unused(&key, &claim).map(str::to_owned)
        };
        let claim = |phase: &str, annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"storageClassName": "lazy"}, "status": {"phase": phase}});
        assert_eq!(class("PersistentVolumeClaim", claim("Pending", json!({}))).as_deref(), Some("lazy"));
        assert_eq!(
            class("PersistentVolumeClaim", json!({"spec": {"storageClassName": "lazy"}})).as_deref(),
            Some("lazy"),
            "as it was written"
        );
        for other in [
            claim("Bound", json!({})),
            claim("Lost", json!({})),
            claim("Pending", json!({(SELECTED_NODE): "node-1"})),
            json!({"spec": {"storageClassName": ""}}),
            json!({"spec": {}}),
            json!({"spec": {"storageClassName": "lazy", "volumeName": "by-hand"}}),
        ] {
            assert_eq!(class("PersistentVolumeClaim", other.clone()), None, "{other}");
        }
        assert_eq!(class("Pod", claim("Pending", json!({}))), None);
    }
}
