//! A whole life: a pipeline is created, and a version goes from development through QA to production.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::DeleteParams;
use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::proxy::Write;
use crate::state;
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

    /// How many objects are deployed to each target.
    pub fn size(&self) -> usize {
        self.manifests.len()
    }
}

/// Lives it in a bare world. The approvers decide as soon as they are asked.
pub async fn live(world: &World, application: &Application) {
    world.configure().await;
    deploy(world, application).await;
}

/// Raises the version in QA: one object is changed, one is new, one is gone, one is the same.
pub async fn upgrade(world: &World, application: &Application) {
    let config = |name: &str, greeting: &str| world.config(&application.name, name, json!({"greeting": greeting}));
    world.apply(&[config("orders", "good morning"), config("orders-more", "good night"), world.solution(&application.name, "1.5.0")]).await;
    Api::<Service>::namespaced(world.admin.clone(), &world.dev).delete("orders", &DeleteParams::default()).await.unwrap();
    world.ask(&world.request("orders-qa-2", "qa", &application.name, "1.5.0")).await;
    end(world, "orders-qa-2", "qa").await;
}

/// Makes QA restore the replaced version if a deployment fails, and makes it refuse the next version midway.
pub async fn will_fail(world: &World) {
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": "2m", "onFailure": "Rollback"});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<pilotage::api::Stage>("qa").await;
    world.refuses_image(":1.5.0").await;
}

/// The same as [`upgrade`], but the Deployment is refused when the others are written: the previous version is restored.
pub async fn upgrade_in_vain(world: &World, application: &Application) {
    let mut deployment = application.objects(world).into_iter().find(|o| o["kind"] == "Deployment").unwrap();
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/orders:1.5.0");
    let config = |name: &str, greeting: &str| world.config(&application.name, name, json!({"greeting": greeting}));
    let solution = world.solution(&application.name, "1.5.0");
    world.apply(&[config("orders", "good morning"), config("orders-more", "good night"), deployment, solution]).await;
    Api::<Service>::namespaced(world.admin.clone(), &world.dev).delete("orders", &DeleteParams::default()).await.unwrap();
    world.ask(&world.request("orders-qa-2", "qa", &application.name, "1.5.0")).await;
    let request = decided(world, "orders-qa-2", "qa").await;
    assert_eq!((phase(&request).as_str(), outcome(&request).0.as_str()), ("Failed", "RolledBack"), "{:?}", outcome(&request));
}

/// The part that begins when everything is ready.
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
    let request = decided(world, name, stage).await;
    assert_eq!(phase(&request), "Succeeded", "{name}: {:?}", outcome(&request));
}

/// Approves a request when it asks, and waits until it ends.
async fn decided(world: &World, name: &str, stage: &str) -> DeploymentRequest {
    let waiting = world.until_request(name, |r| ended(r) || phase(r) == "AwaitingApproval").await;
    if !ended(&waiting) {
        let bot = world.bot(stage).await;
        world.until("the approval is taken", async || world.approve_as(bot.clone(), name, "Approved").await.ok()).await;
    }
    world.end(name).await
}

/// The API server's answers to the writes of each target object that were carried out.
fn effective<'a>(world: &World, writes: &'a [Write]) -> BTreeMap<&'a str, Vec<u16>> {
    let mut effective: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for write in writes.iter().filter(|write| is_to_target(world, &write.line)) {
        if let Some(code) = write.code.filter(|code| (200..300).contains(code)) {
            effective.entry(&write.line).or_default().push(code);
        }
    }
    effective
}

/// Whether each object of the application was created once in each target.
pub fn created_once(world: &World, application: &Application, writes: &[Write]) -> Result<(), String> {
    let effective = effective(world, writes);
    // For each target its objects, and the parent of the set.
    let expected = 2 * (application.size() + 1);
    if effective.len() != expected {
        return Err(format!("{} objects were created, not {expected}: {:?}", effective.len(), effective.keys()));
    }
    let wrong = effective.iter().find(|(_, codes)| codes.iter().filter(|code| **code == 201).count() != 1);
    wrong.map_or(Ok(()), |(line, codes)| Err(format!("not created once: {line}: {codes:?}")))
}

/// All writes to targets that were carried out, sorted, in a form in which two worlds can be compared.
pub fn carried_out(world: &World, writes: &[Write]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (line, codes) in effective(world, writes) {
        let line = anywhere(world, line);
        all.extend(codes.iter().map(|code| format!("{line}: {code}")));
    }
    all.sort();
    all
}

/// Writes that may occur once more, in the same form: repetitions of writes that were running when their operator was killed, and that the
/// next operator could not see yet.
pub fn repeatable(world: &World, writes: &[Write]) -> Vec<String> {
    writes.iter().filter(|write| write.orphan).map(|write| format!("{}: 200", anywhere(world, &write.line))).collect()
}

fn anywhere(world: &World, line: &str) -> String {
    line.replace(&world.qa, "QA").replace(&world.prod, "PROD")
}

/// Whether each was created once, and not written again.
pub fn written_once(world: &World, application: &Application, writes: &[Write]) -> Result<(), String> {
    created_once(world, application, writes)?;
    let wrong = effective(world, writes).into_iter().find(|(_, codes)| codes.len() != 1);
    wrong.map_or(Ok(()), |(line, codes)| Err(format!("written more than once: {line}: {codes:?}")))
}

/// Checks that each object of QA was written there once.
pub fn written_once_in_qa(world: &World, writes: &[Write]) {
    let effective = effective(world, writes);
    assert!(effective.len() > 1, "something came to QA");
    let again: Vec<_> = effective.iter().filter(|(_, codes)| codes.len() != 1).collect();
    assert!(again.is_empty(), "written more than once: {again:?}");
}

/// What an undisturbed life of the small application leaves behind.
pub async fn reference() -> &'static Value {
    static REFERENCE: tokio::sync::OnceCell<Value> = tokio::sync::OnceCell::const_new();
    REFERENCE
        .get_or_init(|| async {
            let world = fixture::world(fixture::shared(), "reference").await;
            let mut fixture = Fixture::start(&world, |_| {}).await;
            fixture.tending(live(&world, &Application::small())).await;
            fixture.settle(&world).await;
            state::of(&world).await
        })
        .await
}

/// Compares what is there with what an undisturbed life leaves behind, and counts creations.
pub async fn check(world: &World, fixture: &mut Fixture) {
    fixture.settle(world).await;
    let differences = state::differences(reference().await, &state::of(world).await);
    assert!(differences.is_empty(), "it ended otherwise than undisturbed:\n  {}\n{}", differences.join("\n  "), writes_and_log(fixture));
    let writes = fixture.proxy.writes();
    created_once(world, &Application::small(), &writes).unwrap_or_else(|why| panic!("{why}\n{}", writes_and_log(fixture)));
}

/// Whether a write is one to a target.
pub fn is_to_target(world: &World, line: &str) -> bool {
    [&world.qa, &world.prod].iter().any(|target| line.contains(&format!("/namespaces/{target}/")))
}

/// The details of a run that failed.
pub fn writes_and_log(fixture: &Fixture) -> String {
    let writes: Vec<String> =
        fixture.proxy.writes().iter().enumerate().map(|(i, w)| format!("{:3} {} {:?}", i + 1, w.line, w.code)).collect();
    format!("the operator's writes:\n{}\nits log ends:\n{}", writes.join("\n"), fixture.tail())
}
