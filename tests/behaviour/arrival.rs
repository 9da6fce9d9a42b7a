//! Whether the deployed objects are the exported ones, except for what a namespace and its controllers give each object.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::world::World;

/// The objects of a file, labelled as parts of a solution.
pub fn objects(file: &Path, solution: &str) -> Vec<Value> {
    labelled(&std::fs::read_to_string(file).unwrap(), solution)
}

/// The objects of a YAML text, labelled as parts of a solution.
pub fn labelled(yaml: &str, solution: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.retain(|object| !object.is_null());
    for object in &mut objects {
        object["metadata"]["labels"]["app.kubernetes.io/part-of"] = solution.into();
    }
    objects
}

/// What a person would call the same: an object without what a namespace and its controllers give it.
pub fn essence(mut object: Value) -> Value {
    fn remove(object: &mut Value, path: &str, keys: &[&str]) {
        if let Some(map) = object.pointer_mut(path).and_then(Value::as_object_mut) {
            for key in keys {
                map.remove(*key);
            }
        }
    }
    remove(&mut object, "", &["status"]);
    remove(
        &mut object,
        "/metadata",
        &["namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences"],
    );
    let annotations = [
        "kubectl.kubernetes.io/last-applied-configuration",
        "deployment.kubernetes.io/revision",
        "deprecated.daemonset.template.generation",
        "pv.kubernetes.io/bind-completed",
        "kubernetes.io/limit-ranger",
    ];
    remove(&mut object, "/metadata/annotations", &annotations);
    remove(&mut object, "/metadata/labels", &["applyset.kubernetes.io/part-of"]);
    match object["kind"].as_str().unwrap() {
        "Service" => {
            remove(&mut object, "/spec", &["clusterIP", "clusterIPs", "healthCheckNodePort"]);
            for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
                port.as_object_mut().unwrap().remove("nodePort");
            }
        }
        "PersistentVolumeClaim" => remove(&mut object, "/spec", &["volumeName"]),
        "Job" => {
            let generated = ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
            remove(&mut object, "/spec", &["selector"]);
            remove(&mut object, "/metadata/labels", &generated);
            remove(&mut object, "/spec/template/metadata/labels", &generated);
        }
        "Pod" => {
            remove(&mut object, "/spec", &["nodeName", "volumes"]);
            for container in object["spec"]["containers"].as_array_mut().unwrap() {
                container.as_object_mut().unwrap().remove("volumeMounts");
            }
        }
        "RoleBinding" => {
            for subject in object["subjects"].as_array_mut().unwrap() {
                subject.as_object_mut().unwrap().remove("namespace");
            }
        }
        _ => {}
    }
    for map in ["labels", "annotations"] {
        if object["metadata"][map] == json!({}) {
            remove(&mut object, "/metadata", &[map]);
        }
    }
    object
}

/// The objects that a namespace now has of a solution, of the solution's kinds: by kind and name. Objects that controllers created are left
/// out.
pub async fn live(world: &World, namespace: &str, solution: &str, kinds: &HashSet<GroupVersionKind>) -> BTreeMap<String, Value> {
    let of_solution = ListParams::default().labels(&format!("app.kubernetes.io/part-of={solution}"));
    let mut found = BTreeMap::new();
    for kind in kinds {
        let api = Api::<DynamicObject>::namespaced_with(world.admin.clone(), namespace, &ApiResource::from_gvk(kind));
        for object in api.list(&of_solution).await.unwrap() {
            if object.owner_references().iter().any(|owner| owner.controller == Some(true)) {
                continue;
            }
            let mut value = serde_json::to_value(&object).unwrap();
            // Items of a list do not repeat their kind.
            value["kind"] = kind.kind.clone().into();
            found.insert(format!("{} {}", kind.kind, object.name_any()), value);
        }
    }
    found
}

/// The essences of all of them.
pub fn essences(objects: &BTreeMap<String, Value>) -> Value {
    objects.iter().map(|(name, object)| (name.clone(), essence(object.clone()))).collect()
}

/// Group, version and kind.
pub fn kind_of(object: &Value) -> GroupVersionKind {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    GroupVersionKind::gvk(group, version, kind)
}
