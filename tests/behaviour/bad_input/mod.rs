//! If anything is wrong with a request or with what it needs, the request says what, on which object, and what to do. Nothing is written to
//! the target.

mod references;
mod required;
mod rights;
mod target;
mod versions;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::world::World;

/// A world with a solution that can be requested.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world
}

/// Neither the operator nor anybody that it acts as wrote to QA, and nothing of the solution is there.
async fn nothing_was_written(world: &World) {
    let written = world.operator_writes(&world.qa, false);
    assert!(written.is_empty(), "{:?}", written.iter().map(|c| (&c.verb, &c.uri, c.code)).collect::<Vec<_>>());
    let of_solution = ListParams::default().labels("app.kubernetes.io/part-of=orders");
    let there = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).list(&of_solution).await.unwrap();
    assert!(there.items.is_empty());
}

/// The part of a message that can be applied as it is.
fn grant(message: &str) -> &str {
    &message[message.find("apiVersion:").unwrap_or_else(|| panic!("no grant is printed: {message}"))..]
}
