//! Large numbers of objects. They are applied in parallel, without asking the API server about the kind of each.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How many calls run at once.
pub const CONCURRENCY: usize = 16;

/// Applies objects in parallel.
pub async fn apply(client: &Client, objects: Vec<Value>) -> Result<()> {
    stream::iter(objects)
        .map(|object| {
            let client = client.clone();
            async move { apply_one(&client, &object).await }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

/// Applies one object, server-side.
pub async fn apply_one(client: &Client, object: &Value) -> Result<()> {
    let name = text(object, "/metadata/name");
    let params = PatchParams::apply("bench").force();
    api(client, object).patch(name, &params, &Patch::Apply(object)).await.with_context(|| format!("{} {name}", text(object, "/kind")))?;
    Ok(())
}

/// The API for the kind and namespace of an object.
pub fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = text(object, "/apiVersion").rsplit_once('/').unwrap_or(("", text(object, "/apiVersion")));
    let kind = text(object, "/kind");
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &format!("{}s", kind.to_lowercase()));
    match text(object, "/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The objects of an application. Of five objects, three are `ConfigMaps`, one is a Service and one a Deployment without replicas.
pub fn application(namespace: &str, solution: &str, size: usize) -> Vec<Value> {
    (0..size).map(|index| object(namespace, solution, index)).collect()
}

fn object(namespace: &str, solution: &str, index: usize) -> Value {
    let name = format!("{solution}-{index}");
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": solution}});
    match index % 5 {
        // It selects the pods of the Deployment that comes next: a plan tells of every Service that selects others.
        3 => json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": {"app": format!("{solution}-{}", index + 1)}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
        4 => json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{
                        "name": "app", "image": "registry.example.test/app:1.0.0",
                        "ports": [{"containerPort": 8080, "name": "http"}],
                        "env": [{"name": "GREETING", "value": "hello"}],
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    }]},
                },
            },
        }),
        _ => json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"greeting": "hello", "number": index.to_string(), "text": "what a person would have written ".repeat(8)},
        }),
    }
}
