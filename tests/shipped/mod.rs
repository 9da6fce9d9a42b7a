//! What tests push to a registry, and requests for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline};
use pilotage_harness::Registry;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::world::World;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A folder with these files.
pub fn folder(world: &World, files: &[(&str, &str)]) -> PathBuf {
    let name = format!("pushed-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let dir = world.plane.dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// A manifest of a `ConfigMap`.
pub fn config(name: &str, greeting: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{app.kubernetes.io/part-of: orders}}\ndata:\n  greeting: {greeting}\n"
    )
}

/// Pushes bytes as the only layer of an artifact in Flux's layout, with oras.
pub fn push_layer(world: &World, registry: &Registry, reference: &str, layer: &[u8]) -> String {
    let dir = folder(world, &[("config.json", "{}")]);
    std::fs::write(dir.join("layer"), layer).unwrap();
    let config = "config.json:application/vnd.cncf.flux.config.v1+json";
    let file = "layer:application/vnd.cncf.flux.content.v1.tar+gzip";
    registry.push_oras(reference, &dir, &["--config", config, file]).unwrap()
}

/// A compressed archive with one entry whose name no well-meaning program would write.
pub fn archive(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

/// Lets the pipeline accept artifacts from these repositories.
pub async fn takes_from(world: &World, entries: Value) {
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    let patch = Patch::Merge(json!({"spec": {"artifactRepositories": entries}}));
    pipelines.patch("standard", &PatchParams::default(), &patch).await.unwrap();
    world.ready::<Pipeline>("standard").await;
}

/// A request to QA for that version of orders, from a registry. `which` is `{"tag": …}` or `{"digest": …}`.
pub fn request(world: &World, name: &str, version: &str, url: &str, which: &Value) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    request["spec"]["artifact"] = json!({"oci": {"url": url}});
    for (key, value) in which.as_object().unwrap() {
        request["spec"]["artifact"]["oci"][key] = value.clone();
    }
    serde_json::from_value(request).unwrap()
}

/// The greeting of a `ConfigMap` in a namespace.
pub async fn greeting(world: &World, namespace: &str, name: &str) -> Option<String> {
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(world.admin.clone(), namespace);
    maps.get_opt(name).await.unwrap().and_then(|map| map.data?.remove("greeting"))
}
