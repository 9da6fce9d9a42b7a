//! A whole life: a pipeline is made, and a version goes from development over QA to production.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::Api;
use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use crate::proxy::Write;
use crate::site::Site;
use crate::world::{World, ended, outcome, phase};

/// What is deployed.
pub struct Application {
    /// Its name.
    pub name: String,
    manifests: Vec<Value>,
}

impl Application {
    /// A `ConfigMap`, a Deployment and a Service.
    pub fn small() -> Self {
        let labels = json!({"app": "orders"});
        let manifests = vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orders"}, "data": {"greeting": "hello"}}),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders"},
                "spec": {"selector": labels, "ports": [{"name": "http", "port": 80}]},
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "orders", "image": "registry.example/orders:1.4.0"}]},
                    },
                },
            }),
        ];
        Self { name: "orders".into(), manifests }
    }

    /// The applications in `shared/solutions` beside the source tree, where there are any.
    pub fn large() -> Vec<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/solutions");
        let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut files: Vec<PathBuf> =
            files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
        files.sort();
        files
            .into_iter()
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap();
                let manifests = serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter().filter(Value::is_object).collect();
                Self { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), manifests }
            })
            .collect()
    }

    /// Its objects in a world's development namespace.
    pub fn objects(&self, world: &World) -> Vec<Value> {
        let part = |mut object: Value| {
            object["metadata"]["namespace"] = json!(world.dev);
            object["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!(self.name);
            object
        };
        let mut objects = vec![world.solution(&self.name, "1.4.0")];
        objects.extend(self.manifests.iter().cloned().map(part));
        objects
    }

    /// How many objects arrive in each target.
    pub fn size(&self) -> usize {
        self.manifests.len()
    }
}

/// Lives it in a bare world, with approvers who decide as soon as they are asked.
pub async fn live(world: &World, application: &Application) {
    world.configure().await;
    deploy(world, application).await;
}

/// The part of it that begins when everything is ready.
pub async fn deploy(world: &World, application: &Application) {
    world.apply(&application.objects(world)).await;
    for stage in ["qa", "prod"] {
        deploy_to(world, application, stage).await;
    }
}

/// One request, from its creation to its end.
pub async fn deploy_to(world: &World, application: &Application, stage: &str) {
    let name = format!("{}-{stage}", application.name);
    world.ask(&world.request(&name, stage, &application.name, "1.4.0")).await;
    end(world, &name, stage).await;
}

/// Approves a request when it asks, and waits until it succeeds.
pub async fn end(world: &World, name: &str, stage: &str) {
    let waiting = world.until_request(name, |r| ended(r) || phase(r) == "AwaitingApproval").await;
    if !ended(&waiting) {
        let bot = world.bot(stage).await;
        world.until("the approval is taken", async || world.approve_as(bot.clone(), name, "Approved").await.ok()).await;
    }
    let request: DeploymentRequest = world.end(name).await;
    assert_eq!(phase(&request), "Succeeded", "{name}: {:?}", outcome(&request));
}

/// Whether each object of the application was created once in each target, and written no second time.
pub fn written_once(world: &World, application: &Application, writes: &[Write]) -> Result<(), String> {
    let mut effective: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for write in writes {
        let Some(code) = write.code.filter(|code| (200..300).contains(code)) else { continue };
        if [&world.qa, &world.prod].iter().any(|target| write.line.contains(&format!("/namespaces/{target}/"))) {
            effective.entry(&write.line).or_default().push(code);
        }
    }
    let wrong: Vec<String> =
        effective.iter().filter(|(_, codes)| **codes != [201]).map(|(line, codes)| format!("{line}: {codes:?}")).collect();
    if !wrong.is_empty() {
        return Err(format!("written otherwise than once: {}", wrong.join("; ")));
    }
    // Of each target its objects, and the parent of the set.
    let expected = 2 * (application.size() + 1);
    if effective.len() != expected {
        return Err(format!("{} objects were created, not {expected}: {:?}", effective.len(), effective.keys()));
    }
    Ok(())
}

/// How many artifacts the host has.
pub async fn artifacts(world: &World) -> usize {
    Api::<pilotage::api::Artifact>::namespaced(world.admin.clone(), &world.host)
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .len()
}

/// What is said of a run that went wrong.
pub fn story(site: &Site) -> String {
    let writes: Vec<String> = site.proxy.writes().iter().enumerate().map(|(i, w)| format!("{:3} {} {:?}", i + 1, w.line, w.code)).collect();
    format!("the operator's writes:\n{}\nits log ends:\n{}", writes.join("\n"), site.tail())
}
