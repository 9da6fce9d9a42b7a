//! Limits are announced before they are reached: large, long, many, odd or half deleted objects are deployed completely, or refused with a
//! message before anything is written.

mod leaving;
mod makers_view;
mod names;
mod sizes;
mod texts;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;

use crate::world::World;

/// The `ConfigMaps` of solution orders in a namespace.
async fn maps(world: &World, namespace: &str) -> Vec<ConfigMap> {
    let params = ListParams::default().labels("app.kubernetes.io/part-of=orders");
    Api::<ConfigMap>::namespaced(world.admin.clone(), namespace).list(&params).await.unwrap().items
}

/// How many writes the operator has made to QA.
fn writes(world: &World) -> usize {
    world.operator_writes(&world.qa, false).len()
}
