//! What is deployed is what was meant: a changed object becomes what it would be if it were created anew, except for what others own.

mod aggregated;
mod drifted;
mod given_up;
mod scaled;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use pilotage::api::plan::{FieldChange, Plan, PlannedObject};
use pilotage::api::{DeploymentRequest, Stage};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// The kinds that are deleted in development before a new version.
const KINDS: &str = "deployments,services,networkpolicies,horizontalpodautoscalers,serviceaccounts,configmaps";

/// Replaces the version of solution `app` in development, and leaves nothing of the old one.
async fn develop(world: &World, version: &str, objects: &[Value]) {
    world.plane.kubectl().ok(&["delete", KINDS, "-n", &world.dev, "-l", "app.kubernetes.io/part-of=app", "--wait=true"]).unwrap();
    world.apply(objects).await;
    world.apply(&[world.solution("app", version)]).await;
}

/// Puts a version into development and deploys it to QA.
async fn deployed(world: &World, version: &str, objects: &[Value]) -> Plan {
    develop(world, version, objects).await;
    let name = format!("to-qa-{version}");
    plan(&succeeded(world.deploy(&name, "qa", "app", version).await))
}

fn succeeded(request: DeploymentRequest) -> DeploymentRequest {
    assert_eq!(phase(&request), "Succeeded", "{:?} {:?}", outcome(&request), request.status.as_ref().map(|s| &s.run.errors));
    request
}

fn plan(request: &DeploymentRequest) -> Plan {
    request.status.as_ref().and_then(|s| s.run.plan.clone()).unwrap()
}

/// An object of the solution in development.
fn object(world: &World, api_version: &str, kind: &str, name: &str, spec: Option<Value>) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "app"}}});
    if let Some(spec) = spec {
        object["spec"] = spec;
    }
    object
}

/// A Deployment of one container, with further fields of its spec and of its pods' spec.
fn web(world: &World, image: &str, spec: Value, pod: Value) -> Value {
    let mut pods = json!({"containers": [{"name": "web", "image": format!("registry.example.test/web:{image}")}]});
    extend(&mut pods, pod);
    let mut all = json!({"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": pods}});
    extend(&mut all, spec);
    object(world, "apps/v1", "Deployment", "web", Some(all))
}

fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// An object in QA.
fn in_qa(world: &World, kind: &str, name: &str) -> Value {
    world.plane.kubectl().json(&["get", kind, name, "-n", &world.qa, "--show-managed-fields"]).unwrap()
}

fn deployments(world: &World) -> Api<Deployment> {
    Api::namespaced(world.admin.clone(), &world.qa)
}

/// Stage `qa` with these deployment settings.
async fn stage(world: &World, deployment: Value) {
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = deployment;
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
}

/// Pods that no node accepts.
fn stuck() -> Value {
    json!({"nodeSelector": {"there": "is-none"}})
}

fn planned<'a>(plan: &'a Plan, kind: &str) -> &'a PlannedObject {
    plan.objects.iter().find(|o| o.kind == kind).unwrap_or_else(|| panic!("no {kind}: {:?}", plan.objects))
}

fn change(field: &str, old: Option<&str>, new: Option<&str>) -> FieldChange {
    FieldChange { field: field.to_owned(), old: old.map(str::to_owned), new: new.map(str::to_owned) }
}
