//! A world of its own for each test: a host with its development, QA and production namespaces, people, delegates and grants. All worlds
//! are on the one control plane that `make test` starts. Dropping a world deletes its namespaces.

pub mod filling;
pub mod recorder;
pub mod refusal;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource, ResourceExt};
use pilotage::api::{DeploymentRequest, condition};
use pilotage_harness::install::Operator;
use pilotage_harness::{ControlPlane, Installed, Kubectl, Options, audit, dev};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long a test waits for a condition before it fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where a test works.
pub struct World {
    /// The control plane.
    pub plane: ControlPlane,
    /// A cluster administrator.
    pub admin: Client,
    /// The host namespace.
    pub host: String,
    /// The development namespace; its Environment is called `dev`.
    pub dev: String,
    /// The first target; its Environment is called `qa`, its stage too, its delegate `bot-qa`.
    pub qa: String,
    /// The second target; its Environment is called `prod`, its stage too, its delegate `bot-prod`.
    pub prod: String,
    /// Whether its namespaces are kept.
    pub keep: bool,
    /// Where the audit log ended when the world was created.
    since: u64,
}

/// A client for a kubeconfig. If proofs are requested, its last call is recorded.
pub async fn client(kubeconfig: PathBuf) -> Client {
    recorder::wrap(filling::wrap(unrecorded(kubeconfig).await))
}

/// A client for a kubeconfig, for calls that are not the test's own.
pub async fn unrecorded(kubeconfig: PathBuf) -> Client {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig).unwrap(), &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

impl World {
    /// A world on the running control plane, with pipeline `standard` from `dev` through `qa` to `prod`. Both stages have delegates.
    /// Everything is ready.
    pub async fn new(name: &str) -> Self {
        Self::bare(name).await.with_pipeline().await
    }

    /// The same world with its pipeline, ready to use.
    pub async fn with_pipeline(self) -> Self {
        self.configure().await;
        self
    }

    /// Creates the pipeline of a bare world and waits until everything is ready.
    pub async fn configure(&self) {
        self.configure_with(self.pipeline()).await;
    }

    /// The same with a changed pipeline.
    pub async fn configure_with(&self, pipeline: Vec<Value>) {
        // Whoever writes a stage owns it, and only owners may let it use the delegates.
        let olga = self.olga().await;
        for object in pipeline {
            self.apply_as(&olga, &object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
        }
        for stage in ["qa", "prod"] {
            self.ready::<pilotage::api::Stage>(stage).await;
        }
        self.ready::<pilotage::api::Pipeline>("standard").await;
        // The generated binding of the makers takes effect a moment later.
        let dana = self.dana().await;
        let request = self.request("probe", "qa", "none", "1.0.0");
        self.until("the pipeline is shared with the makers", async || {
            Api::<DeploymentRequest>::namespaced(dana.clone(), &self.host)
                .create(&kube::api::PostParams { dry_run: true, ..Default::default() }, &request)
                .await
                .ok()
        })
        .await;
    }

    /// Namespaces, grants and delegates, but no objects of Pilotage's own kinds.
    pub async fn bare(name: &str) -> Self {
        let plane = ControlPlane::from_env().expect("a control plane: run `make test`");
        Self::on(plane, name).await
    }

    /// The same on a control plane of the test's own.
    pub async fn on(plane: ControlPlane, name: &str) -> Self {
        let admin = client(plane.admin_kubeconfig()).await;
        let since = audit::end(&plane.audit_log());
        let prefix = format!("{name}-{}-{}", std::process::id() % 100_000, NUMBER.fetch_add(1, Ordering::Relaxed));
        let world = Self {
            plane,
            admin,
            host: format!("{prefix}-host"),
            dev: format!("{prefix}-dev"),
            qa: format!("{prefix}-qa"),
            prod: format!("{prefix}-prod"),
            keep: std::env::var_os("KEEP").is_some(),
            since,
        };
        world.apply(&world.namespaces()).await;
        world.apply(&world.grants()).await;
        world
    }

    /// A world where the operator acts with lent tokens: on the control plane of this run if that is of an older version, and otherwise on
    /// one of its own, where everything is installed as on an older one. Its operator ends with the value.
    pub async fn lending(name: &str, program: &'static str) -> (Self, Option<Operator>) {
        let shared = ControlPlane::from_env().expect("a control plane: run `make test`");
        if shared.lends_tokens() {
            return (Self::on(shared, name).await.with_pipeline().await, None);
        }
        let (plane, operator) = tokio::task::spawn_blocking(|| {
            let plane = ControlPlane::start(&Options { installed: Installed::LendingTokens, ..Options::default() }).unwrap();
            let operator = dev::operate(&plane, program.as_ref()).unwrap();
            (plane, operator)
        })
        .await
        .unwrap();
        (Self::on(plane, name).await.with_pipeline().await, Some(operator))
    }

    /// In this world, the operator or a delegate is refused things on purpose. The audit check is told.
    pub async fn provokes_refusals(self) -> Self {
        let labelled = Patch::Merge(json!({"metadata": {"labels": {(pilotage_harness::watch_recorder::PROVOKES): "true"}}}));
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        for namespace in [&self.host, &self.dev, &self.qa, &self.prod] {
            namespaces.patch(namespace, &PatchParams::default(), &labelled).await.unwrap();
        }
        self
    }

    fn namespaces(&self) -> Vec<Value> {
        let namespace =
            |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        vec![
            namespace(&self.host, json!({"pilotage.dev/host": "true"})),
            namespace(&self.dev, json!({"pilotage.dev/developed-in": self.host})),
            namespace(&self.qa, json!({"pilotage.dev/managed-by": self.host})),
            namespace(&self.prod, json!({"pilotage.dev/managed-by": self.host})),
        ]
    }

    /// What a platform team grants: to the operator, the delegates, olga (administrator and stage owner), dana (a maker), and eve (an
    /// approver of steps).
    pub fn grants(&self) -> Vec<Value> {
        let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
        let user = |name: &str| json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}]);
        let account =
            |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": self.host}});
        let mut all = vec![account("bot-qa"), account("bot-prod")];
        all.push(binding(&self.host, "pilotage-host", "ClusterRole", "pilotage-host", &operator));
        all.push(binding(&self.dev, "pilotage-export", "ClusterRole", "view", &operator));
        all.push(binding(&self.dev, "pilotage-development", "ClusterRole", "pilotage-development", &operator));
        all.push(binding(
            &self.dev,
            "makers",
            "ClusterRole",
            "edit",
            &json!([{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"}]),
        ));
        all.push(binding(&self.host, "administrators", "ClusterRole", "pilotage-administrator", &user("olga")));
        all.push(binding(&self.host, "approvers", "ClusterRole", "pilotage-approver", &user("eve")));
        let rules = json!([
            {"apiGroups": ["pilotage.dev"], "resources": ["environments"], "verbs": ["use"]},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["bot-qa", "bot-prod"], "verbs": ["delegate"]},
        ]);
        all.extend(role(&self.host, "olga", &rules, &user("olga")));
        let bots = ["bot-qa", "bot-prod"];
        let act = if self.plane.lends_tokens() {
            json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": bots, "verbs": ["create"]}])
        } else {
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["serviceaccounts"], "resourceNames": bots, "verbs": ["impersonate:serviceaccount"]}])
        };
        all.extend(role(&self.host, "pilotage-delegates", &act, &operator));
        for (namespace, bot) in [(&self.qa, "bot-qa"), (&self.prod, "bot-prod")] {
            let subject = json!([{"kind": "ServiceAccount", "name": bot, "namespace": self.host}]);
            all.push(binding(&self.host, bot, "ClusterRole", "pilotage-delegate", &subject));
            all.extend(role(namespace, bot, &target_rules(""), &subject));
            all.extend(role(namespace, "pilotage-operator", &target_rules("impersonate-on:serviceaccount:"), &operator));
        }
        all
    }

    /// Three environments, the pipeline `standard` shared with the makers, and its stages `qa` and `prod`.
    pub fn pipeline(&self) -> Vec<Value> {
        let environment = |name: &str, type_: &str, namespace: &str| {
            self.host_object("Environment", name, json!({"type": type_, "namespace": namespace}))
        };
        let stage = |name: &str, previous: Option<&str>| {
            let mut spec = json!({
                "pipeline": "standard",
                "targetEnvironment": name,
                "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": format!("bot-{name}")},
                "deployment": {"timeout": "2m"},
            });
            if let Some(previous) = previous {
                spec["previousStage"] = previous.into();
            }
            self.host_object("Stage", name, spec)
        };
        vec![
            environment("dev", "Development", &self.dev),
            environment("qa", "Target", &self.qa),
            environment("prod", "Target", &self.prod),
            self.host_object(
                "Pipeline",
                "standard",
                json!({"developmentEnvironments": ["dev"], "sharedWith": [{"kind": "Group", "name": "makers"}]}),
            ),
            stage("qa", None),
            stage("prod", Some("qa")),
        ]
    }

    /// An object of Pilotage's own kinds in the host.
    pub fn host_object(&self, kind: &str, name: &str, spec: Value) -> Value {
        let mut object = json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": self.host}});
        object["spec"] = spec;
        object
    }

    /// A Solution in development that selects by `app.kubernetes.io/part-of`.
    pub fn solution(&self, name: &str, version: &str) -> Value {
        json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Solution", "metadata": {"name": name, "namespace": self.dev}, "spec": {"version": version}})
    }

    /// A `ConfigMap` of a solution in development.
    pub fn config(&self, solution: &str, name: &str, data: Value) -> Value {
        let labels = json!({"app.kubernetes.io/part-of": solution});
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": self.dev, "labels": labels},
        });
        object["data"] = data;
        object
    }

    /// A request of dana's, for clients that fill in nothing, as kubectl.
    pub fn danas(&self, mut request: Value) -> Value {
        self.write_as("dana", &["makers"], &mut request);
        request
    }

    /// Writes into a request or a stage whose it is, where the API server doesn't: for clients that fill in nothing, as kubectl.
    pub fn write_as(&self, who: &str, groups: &[&str], object: &mut Value) {
        if !self.plane.lends_tokens() {
            return;
        }
        if object["kind"] == "DeploymentRequest" {
            let groups = [groups, &["system:authenticated"]].concat();
            object["spec"]["requestedBy"] = json!({"username": who, "groups": groups});
        } else if object["kind"] == "Stage" {
            let groups: Vec<&&str> = groups.iter().filter(|group| !group.starts_with("system:")).collect();
            object["spec"]["owner"] = json!({"username": who, "groups": groups});
        }
    }

    /// A request of the world's pipeline.
    pub fn request(&self, name: &str, stage: &str, solution: &str, version: &str) -> DeploymentRequest {
        let spec = json!({"pipeline": "standard", "stage": stage, "solution": {"name": solution, "version": version}});
        serde_json::from_value(self.host_object("DeploymentRequest", name, spec)).unwrap()
    }

    /// A maker, with the rights from sharing and `edit` in development.
    pub async fn dana(&self) -> Client {
        client(self.plane.user_kubeconfig("dana", &["makers"]).unwrap()).await
    }

    /// The administrator of the host, who owns its stages.
    pub async fn olga(&self) -> Client {
        client(self.plane.user_kubeconfig("olga", &[]).unwrap()).await
    }

    /// An approver of steps. She is no delegate.
    pub async fn eve(&self) -> Client {
        client(self.plane.user_kubeconfig("eve", &[]).unwrap()).await
    }

    /// A delegate with its own real token: `bot-qa` or `bot-prod`.
    pub async fn bot(&self, stage: &str) -> Client {
        client(self.plane.service_account_kubeconfig(&self.host, &format!("bot-{stage}")).unwrap()).await
    }

    /// Creates a request as dana.
    pub async fn ask(&self, request: &DeploymentRequest) -> DeploymentRequest {
        Api::<DeploymentRequest>::namespaced(self.dana().await, &self.host)
            .create(&kube::api::PostParams::default(), request)
            .await
            .unwrap()
    }

    /// Decides the approval of a request with the delegate's own token.
    pub async fn decide(&self, stage: &str, request: &str, decision: &str) -> kube::Result<DeploymentRequest> {
        self.approve_as(self.bot(stage).await, request, decision).await
    }

    /// Decides the approval of a request as somebody.
    pub async fn approve_as(&self, who: Client, request: &str, decision: &str) -> kube::Result<DeploymentRequest> {
        let patch = Patch::Merge(json!({"status": {"approval": {"decision": decision, "comments": "as tested"}}}));
        Api::<DeploymentRequest>::namespaced(who, &self.host).patch_status(request, &PatchParams::default(), &patch).await
    }

    /// Creates a request, waits for its gate, approves, and waits for its end.
    pub async fn deploy(&self, name: &str, stage: &str, solution: &str, version: &str) -> DeploymentRequest {
        self.ask(&self.request(name, stage, solution, version)).await;
        self.approved(name, stage).await
    }

    /// Waits for the gate of a request, approves as the delegate, and waits for the end.
    pub async fn approved(&self, name: &str, stage: &str) -> DeploymentRequest {
        let waiting = self.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
        if !ended(&waiting) {
            self.decide(stage, name, "Approved").await.unwrap();
        }
        self.end(name).await
    }

    /// Waits for the end of a request.
    pub async fn end(&self, name: &str) -> DeploymentRequest {
        self.until_request(name, ended).await
    }

    /// Waits until a request is as wanted.
    pub async fn until_request(&self, name: &str, wanted: impl Fn(&DeploymentRequest) -> bool) -> DeploymentRequest {
        let api: Api<DeploymentRequest> = Api::namespaced(self.admin.clone(), &self.host);
        let start = Instant::now();
        loop {
            let request = api.get(name).await.unwrap();
            if wanted(&request) {
                return request;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "request {name} is not as wanted after {PATIENCE:?}: {}",
                serde_json::to_string_pretty(&request.status).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until `look` returns something.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an object of the host is `Ready` in its latest generation.
    pub async fn ready<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize,
    {
        self.until(&format!("{} {name} is ready", K::kind(&())), async || {
            let object = Api::<K>::namespaced(self.admin.clone(), &self.host).get(name).await.ok()?;
            let value = serde_json::to_value(&object).ok()?;
            let seen = value.pointer("/status/observedGeneration")?.as_i64() == object.meta().generation;
            let conditions: Vec<condition::Condition> = serde_json::from_value(value.pointer("/status/conditions")?.clone()).ok()?;
            (seen && condition::is_true(&conditions, "Ready")).then_some(())
        })
        .await;
    }

    /// The reason and the message of a condition of an object of the host.
    pub async fn condition<K>(&self, name: &str, type_: &str) -> Option<(String, String)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize,
    {
        let object = Api::<K>::namespaced(self.admin.clone(), &self.host).get(name).await.ok()?;
        let value = serde_json::to_value(&object).ok()?;
        let conditions: Vec<condition::Condition> = serde_json::from_value(value.pointer("/status/conditions")?.clone()).ok()?;
        condition::find(&conditions, type_).map(|c| (c.reason.clone(), c.message.clone()))
    }

    /// kubectl as dana.
    pub fn danas_kubectl(&self) -> Kubectl {
        self.plane.kubectl_as(&self.plane.user_kubeconfig("dana", &["makers"]).unwrap())
    }

    /// kubectl as olga.
    pub fn olgas_kubectl(&self) -> Kubectl {
        self.plane.kubectl_as(&self.plane.user_kubeconfig("olga", &[]).unwrap())
    }

    /// The calls by which the operator, under any identity, changed something in a namespace or tried to: only dry runs, or none.
    pub fn operator_writes(&self, namespace: &str, dry_run: bool) -> Vec<audit::Call> {
        let (mut calls, _) = audit::since(&self.plane.audit_log(), self.since).unwrap();
        calls.retain(|c| {
            c.user == "system:serviceaccount:pilotage-system:pilotage" && c.namespace == namespace && c.is_write() && c.dry_run == dry_run
        });
        calls
    }

    /// Waits until a request waits with that reason. Returns the message.
    pub async fn waits_for(&self, request: &str, reason: &str) -> String {
        let waiting = self.until_request(request, |r| outcome(r).0 == reason).await;
        assert!(!ended(&waiting), "{request} has ended: {:?}", outcome(&waiting));
        outcome(&waiting).1
    }

    /// Waits until a request has failed, and checks the reason. Returns the message.
    pub async fn fails(&self, request: &str, reason: &str) -> String {
        let failed = self.end(request).await;
        let (actual, message) = outcome(&failed);
        assert_eq!((phase(&failed).as_str(), actual.as_str()), ("Failed", reason), "{message}");
        message
    }

    /// Waits until a condition of an object of the host has that reason. Returns the message.
    pub async fn until_condition<K>(&self, name: &str, type_: &str, reason: &str) -> String
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize,
    {
        self.until(&format!("{} {name} says {reason}", K::kind(&())), async || {
            self.condition::<K>(name, type_).await.filter(|(actual, _)| actual == reason).map(|(_, message)| message)
        })
        .await
    }

    /// Lets the delegate, and the operator as the delegate, read Secrets of QA with these names.
    pub async fn may_look_at(&self, secrets: &[&str]) {
        let rbac = "rbac.authorization.k8s.io";
        for (name, verb, subject) in [
            ("look", "get", json!({"kind": "ServiceAccount", "namespace": self.host, "name": "bot-qa"})),
            (
                "look-as",
                "impersonate-on:serviceaccount:get",
                json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"}),
            ),
        ] {
            let metadata = json!({"name": name, "namespace": self.qa});
            let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": [verb]}]);
            self.apply(&[
                json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules}),
                json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
                        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}, "subjects": [subject]}),
            ])
            .await;
        }
    }

    /// Applies objects as the cluster's administrator.
    pub async fn apply(&self, objects: &[Value]) {
        for object in objects {
            self.apply_as(&self.admin, object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
        }
    }

    /// Applies one object, server-side.
    pub async fn apply_as(&self, who: &Client, object: &Value) -> kube::Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        let types = object.types.clone().unwrap();
        let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(who.clone(), namespace, &resource),
            None => Api::all_with(who.clone(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object)).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let (admin, names) = (self.plane.admin_kubeconfig(), [self.host.clone(), self.dev.clone(), self.qa.clone(), self.prod.clone()]);
        // `drop` can't wait for the test's own runtime.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let api: Api<Namespace> = Api::all(client(admin).await);
                let confirm = json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": names[0]}}});
                let _ = api.patch(&names[0], &PatchParams::default(), &Patch::Merge(&confirm)).await;
                for name in &names {
                    let _ = api.delete(name, &DeleteParams::default()).await;
                }
            });
            Ok::<(), std::io::Error>(())
        });
        let _ = deleted.join();
    }
}

/// The phase of a request.
pub fn phase(request: &DeploymentRequest) -> String {
    request.status.as_ref().map(|s| s.run.phase.clone()).unwrap_or_default()
}

/// Whether a request has ended.
pub fn ended(request: &DeploymentRequest) -> bool {
    request.status.as_ref().is_some_and(|s| s.run.end_time.is_some())
}

/// The reason and the message of the summary of a request.
pub fn outcome(request: &DeploymentRequest) -> (String, String) {
    let conditions = request.status.as_ref().map(|s| s.run.conditions.as_slice()).unwrap_or_default();
    condition::find(conditions, "Succeeded").map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}

/// The rules for the kinds of the tests' applications.
pub fn target_rules(prefix: &str) -> Value {
    let mut verbs: Vec<String> = ["get", "list", "patch", "delete"].iter().map(|v| format!("{prefix}{v}")).collect();
    if prefix.is_empty() {
        verbs.push("create".into());
    }
    let kinds = [
        ("", json!(["configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods"])),
        ("apps", json!(["deployments", "statefulsets", "daemonsets"])),
        ("batch", json!(["jobs", "cronjobs"])),
        ("autoscaling", json!(["horizontalpodautoscalers"])),
        ("policy", json!(["poddisruptionbudgets"])),
        ("networking.k8s.io", json!(["ingresses", "networkpolicies"])),
    ];
    kinds.iter().map(|(group, resources)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs})).collect()
}

pub fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": subjects,
    })
}

/// A Role and its `RoleBinding`.
pub fn role(namespace: &str, name: &str, rules: &Value, subjects: &Value) -> [Value; 2] {
    [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": namespace}, "rules": rules}),
        binding(namespace, name, "Role", name, subjects),
    ]
}
