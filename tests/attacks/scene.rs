//! The scene of attacks: more people, requests at a gate, and requests that run.

use std::path::PathBuf;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pilotage::api::{DeploymentRequest, Stage};
use serde_json::{Value, json};

use crate::world::{World, client, filling, phase, recorder};

/// The operator's kubeconfig, with a token of its own.
pub fn operator(world: &World) -> PathBuf {
    world.plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap()
}

/// A person with a certificate.
pub async fn person(world: &World, name: &str, groups: &[&str]) -> Client {
    client(world.plane.user_kubeconfig(name, groups).unwrap()).await
}

/// The user of the kubeconfig, acting as somebody else.
pub async fn acting_as(kubeconfig: PathBuf, user: &str, groups: &[&str]) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(user.into());
    config.auth_info.impersonate_groups = (!groups.is_empty()).then(|| groups.iter().map(|&g| g.into()).collect());
    recorder::wrap(filling::wrap(Client::try_from(config).unwrap()))
}

/// Part of how a stage says that its missing policies are restored.
pub fn restores(world: &World) -> &'static str {
    if world.plane.lends_tokens() { "kubectl replace -k" } else { "kubectl replace -f deploy/admission/" }
}

/// The full name of a delegate.
pub fn delegate(world: &World, stage: &str) -> String {
    format!("system:serviceaccount:{}:bot-{stage}", world.host)
}

/// The requests of the host.
pub fn requests(world: &World, who: Client) -> Api<DeploymentRequest> {
    Api::namespaced(who, &world.host)
}

/// A merge patch of a request.
pub async fn patch(world: &World, who: Client, name: &str, patch: Value) -> kube::Result<DeploymentRequest> {
    requests(world, who).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

/// A merge patch of the status of a request.
pub async fn patch_status(world: &World, who: Client, name: &str, patch: Value) -> kube::Result<DeploymentRequest> {
    requests(world, who).patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

/// Creates a request from fields of its spec and its metadata.
pub async fn create(world: &World, who: Client, request: &Value) -> kube::Result<Value> {
    let api: Api<DeploymentRequest> = requests(world, who);
    // Untyped, so that the body stays as it was written.
    let body = serde_json::to_vec(request).map_err(kube::Error::SerdeError)?;
    let call = kube::core::Request::new(api.resource_url()).create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
    api.into_client().request(call).await
}

/// A Role in the host and its binding to a subject.
pub async fn grant(world: &World, name: &str, rules: Value, subject: &Value) {
    let metadata = json!({"name": name, "namespace": world.host});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules});
    world.apply(&[role]).await;
    bind(world, name, "Role", name, subject).await;
}

/// A binding in the host.
pub async fn bind(world: &World, name: &str, kind: &str, role: &str, subject: &Value) {
    let metadata = json!({"name": name, "namespace": world.host});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role});
    world
        .apply(&[json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]})])
        .await;
}

/// Somebody who administers the pipelines of the host and may use its development environment, but nothing else.
pub async fn administrator(world: &World, name: &str) -> Client {
    bind(world, name, "ClusterRole", "pilotage-administrator", &user(name)).await;
    let rules = json!([{"apiGroups": ["pilotage.dev"], "resources": ["environments"], "resourceNames": ["dev"], "verbs": ["use"]}]);
    grant(world, &format!("{name}-dev"), rules, &user(name)).await;
    until_may(world, name, &[], "use", "environments.pilotage.dev/dev").await;
    until_may(world, name, &[], "patch", "pipelines.pilotage.dev").await;
    person(world, name, &[]).await
}

/// A subject of a binding.
pub fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

/// A `ServiceAccount` of the host as a subject of a binding.
pub fn account(world: &World, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": world.host, "name": name})
}

/// Waits until a grant has taken effect for somebody.
pub async fn until_may(world: &World, user: &str, groups: &[&str], verb: &str, resource: &str) {
    world
        .until(&format!("{user} may {verb} {resource}"), async || {
            let mut args = vec!["auth", "can-i", verb, resource, "-n", &world.host, "--as", user];
            args.extend(groups.iter().flat_map(|group| ["--as-group", group]));
            world.plane.kubectl().run(&args).unwrap().ok.then_some(())
        })
        .await;
}

/// A world in which makers see requests, so that they may patch their own.
pub async fn shared(name: &str) -> World {
    let world = World::new(name).await;
    let pipeline: Api<pilotage::api::Pipeline> = Api::namespaced(world.olga().await, &world.host);
    pipeline.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"visibility": "Shared"}}))).await.unwrap();
    until_may(&world, "dana", &["makers"], "patch", "deploymentrequests.pilotage.dev").await;
    world
}

/// Solution `orders` 1.0.0 of one `ConfigMap`, in development.
pub async fn orders(world: &World) {
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
}

/// A request by dana to `qa` that waits for its approval.
pub async fn at_the_gate(world: &World, name: &str) -> DeploymentRequest {
    orders(world).await;
    world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
    world.until_request(name, |r| phase(r) == "AwaitingApproval").await
}

/// Makes stage `qa` ask for a pre-deployment step, so that an approved request is not deployed yet.
pub async fn with_a_step(world: &World) {
    let stages: Api<Stage> = Api::namespaced(world.olga().await, &world.host);
    let patch = Patch::Merge(json!({"spec": {"preDeploymentStepRequired": true}}));
    let changed = stages.patch("qa", &PatchParams::default(), &patch).await.unwrap();
    world
        .until("the stage is ready again", async || {
            let stage = stages.get("qa").await.unwrap();
            let status = stage.status?;
            let ready = pilotage::api::condition::is_true(&status.conditions, "Ready");
            (ready && Some(status.observed_generation) == changed.metadata.generation).then_some(())
        })
        .await;
}

/// A request by dana that has claimed its target and stays in that state: its pods fit on no node.
pub async fn running(world: &World, name: &str) -> DeploymentRequest {
    let labels = json!({"app.kubernetes.io/part-of": "stuck"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "stuck", "namespace": world.dev, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": "stuck"}}, "template": {
            "metadata": {"labels": {"app": "stuck"}},
            "spec": {"nodeSelector": {"nowhere": "to-be-found"}, "containers": [{"name": "stuck", "image": "registry.example.test/stuck:1"}]},
        }},
    });
    world.apply(&[world.solution("stuck", "1.0.0"), deployment]).await;
    world.ask(&world.request(name, "qa", "stuck", "1.0.0")).await;
    world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", name, "Approved").await.unwrap();
    world.until_request(name, |r| phase(r) == "Deploying").await
}

/// Waits until the API server refuses to delete the object. A policy that looks at other objects sees a copy of them, which follows the
/// writes with a delay.
pub async fn until_kept<K>(world: &World, api: &Api<K>, name: &str)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
    world.until(&format!("{name} is not to be deleted"), async || api.delete(name, &dry_run).await.err()).await;
}
