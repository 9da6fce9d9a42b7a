//! A second control plane without Pilotage, and worlds with production in it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use pilotage::api::{DeploymentRequest, Environment, Stage};
use pilotage_harness::{ControlPlane, Options, audit};
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::proxy::Proxy;
use crate::tcp_proxy::TcpProxy;
use crate::world::{World, client, outcome, role, target_rules};

/// The name of the second cluster in the host.
pub const CLUSTER: &str = "eu";

/// The variable that names the version of the second control plane, if it is to be another one than the first's: `1.33`.
const ITS_VERSION: &str = "PILOTAGE_REMOTE_KUBERNETES";

/// The second control plane. It ends with this process. A test that kills its API server has it alone.
pub fn plane() -> &'static ControlPlane {
    static SECOND: OnceLock<ControlPlane> = OnceLock::new();
    SECOND.get_or_init(|| {
        let kubernetes = std::env::var(ITS_VERSION).ok().map(|version| version.parse().unwrap());
        let plane = ControlPlane::start(&Options { kubernetes, nodes: 1, ..Options::default() }).unwrap();
        let role = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/remote");
        plane.kubectl().ok(&["apply", "-f", role]).unwrap();
        plane
    })
}

/// Many tests share the second control plane, or one has it alone.
pub static TURNS: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// A world whose stage `prod` deploys to the second cluster through a proxy. Its stage `qa` deploys in the host's cluster.
pub struct RemoteFixture {
    /// Its host, development and QA.
    pub world: World,
    /// Its operator.
    pub fixture: Fixture,
    /// The proxy to the second cluster.
    pub proxy: TcpProxy,
    /// An administrator of the second cluster.
    pub admin: Client,
    /// The namespace in the second cluster with the kubeconfig's user, `pilotage`, and the delegate, `bot-prod`.
    pub delegates: String,
    since: u64,
}

impl RemoteFixture {
    /// Everything is granted in both clusters, nothing is configured, and the operator runs.
    pub async fn new(name: &str) -> Self {
        let world = fixture::world(fixture::shared(), name).await;
        let there = tokio::task::block_in_place(plane);
        let proxy = TcpProxy::before(there.server()).await;
        let admin = client(there.admin_kubeconfig()).await;
        let delegates = format!("{}-delegates", world.prod);
        let since = audit::end(&there.audit_log());
        let fixture = Fixture::start(&world, |_| {}).await;
        let remote = Self { world, fixture, proxy, admin, delegates, since };
        for object in remote.grants() {
            remote.apply(&object).await;
        }
        remote.home().await;
        remote.remember(&remote.kubeconfig(&remote.proxy.url())).await;
        remote
    }

    /// The same with its pipeline, ready.
    pub async fn ready(name: &str) -> Self {
        let mut remote = Self::new(name).await;
        remote.configure().await;
        remote
    }

    /// The same with a proxy to the second cluster that can kill the operator around its calls there.
    pub async fn behind_proxy(name: &str) -> (Self, Arc<Proxy>) {
        let mut remote = Self::new(name).await;
        let proxy = Arc::new(Proxy::with_tls(plane()).await);
        remote.fixture.also_behind(proxy.clone());
        remote.remember(&remote.kubeconfig(&proxy.url())).await;
        remote.configure().await;
        (remote, proxy)
    }

    /// Creates the pipeline and waits until everything is ready.
    pub async fn configure(&mut self) {
        let pipeline = self.pipeline();
        self.fixture.tending(self.world.configure_with(pipeline)).await;
    }

    /// The pipeline of every world, except for production.
    pub fn pipeline(&self) -> Vec<Value> {
        let mut all = self.world.pipeline();
        let prod = all.iter_mut().find(|o| o["kind"] == "Environment" && o["metadata"]["name"] == "prod").unwrap();
        prod["spec"]["cluster"] =
            json!({"kubeconfigSecretRef": {"name": CLUSTER, "key": "kubeconfig"}, "delegateNamespace": self.delegates});
        all
    }

    /// What administrators of the second cluster grant.
    fn grants(&self) -> Vec<Value> {
        let namespace =
            |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let account =
            |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": self.delegates}});
        let subject = |name: &str| json!([{"kind": "ServiceAccount", "name": name, "namespace": self.delegates}]);
        let rbac = "rbac.authorization.k8s.io";
        let see = format!("see-{}", self.world.prod);
        let mut all = vec![
            namespace(&self.world.prod, json!({"pilotage.dev/managed-by": self.world.host})),
            namespace(&self.delegates, json!({})),
            account("pilotage"),
            account("bot-prod"),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": see},
                   "rules": [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [self.world.prod], "verbs": ["get"]}]}),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": see},
                   "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": see}, "subjects": subject("pilotage")}),
        ];
        let lend = json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["bot-prod"], "verbs": ["create"]}]);
        all.extend(role(&self.delegates, "lend", &lend, &subject("pilotage")));
        all.extend(role(&self.world.prod, "bot-prod", &target_rules(""), &subject("bot-prod")));
        all
    }

    /// Who may read the kubeconfig in the host's cluster: the operator, and whoever creates the Environment.
    async fn home(&self) {
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [CLUSTER], "verbs": ["get"]}]);
        let subjects = json!([
            {"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"},
            {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "olga"},
        ]);
        self.world.apply(&role(&self.world.host, "kubeconfig", &rules, &subjects)).await;
    }

    /// A kubeconfig of the user in the second cluster, with a new token.
    pub fn kubeconfig(&self, server: &str) -> Value {
        let token = tokio::task::block_in_place(|| plane().service_account_token(&self.delegates, "pilotage").unwrap());
        let authority = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, plane().ca_pem().unwrap());
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "there",
            "clusters": [{"name": "there", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "pilotage", "user": {"token": token}}],
            "contexts": [{"name": "there", "context": {"cluster": "there", "user": "pilotage"}}],
        })
    }

    /// Creates again what is missing in the second cluster.
    pub async fn grant_again(&self) {
        for object in self.grants() {
            self.apply(&object).await;
        }
    }

    /// Writes a kubeconfig to the Secret in the host's cluster.
    pub async fn remember(&self, kubeconfig: &Value) {
        let metadata = json!({"name": CLUSTER, "namespace": self.world.host});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig.to_string()}});
        self.world.apply(&[secret]).await;
    }

    /// Applies an object in the second cluster as its administrator.
    pub async fn apply(&self, object: &Value) {
        self.world.apply_as(&self.admin, object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
    }

    /// Asks for a new check of an object of the host, as an administrator would.
    pub async fn look_again<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let now = format!("{:?}", std::time::Instant::now());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/look": now}}}));
        Api::<K>::namespaced(self.world.admin.clone(), &self.world.host).patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Has the Environment checked until it reports that reason. Returns the message.
    pub async fn environment_says(&mut self, reason: &str) -> String {
        self.says::<Environment>(reason).await
    }

    /// Has the stage checked until it reports that reason. Returns the message.
    pub async fn stage_says(&mut self, reason: &str) -> String {
        self.says::<Stage>(reason).await
    }

    /// A grant takes effect after a moment, and a valid object is checked again after minutes. So the check is asked for again and again.
    async fn says<K>(&mut self, reason: &str) -> String
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let start = std::time::Instant::now();
        loop {
            self.look_again::<K>("prod").await;
            for _ in 0..20 {
                self.fixture.tending(tokio::time::sleep(Duration::from_millis(50))).await;
                let said = self.world.condition::<K>("prod", "Ready").await;
                if let Some((_, message)) = said.clone().filter(|(actual, _)| actual == reason) {
                    return message;
                }
                assert!(start.elapsed() < crate::world::PATIENCE, "waited in vain for {reason}: {said:?}\n{}", self.fixture.tail());
            }
        }
    }

    /// A solution with this many `ConfigMaps` in development.
    pub async fn develop(&self, solution: &str, version: &str, size: usize) {
        let mut objects: Vec<Value> =
            (0..size).map(|n| self.world.config(solution, &format!("{solution}-{n}"), json!({"version": version}))).collect();
        objects.push(self.world.solution(solution, version));
        self.world.apply(&objects).await;
    }

    /// Deploys to a stage with approval. Returns the request after it has ended.
    pub async fn deploy(&mut self, stage: &str, solution: &str, version: &str) -> DeploymentRequest {
        let name = format!("{solution}-{stage}-{}", version.replace('.', "-"));
        let world = &self.world;
        let request = self.fixture.tending(world.deploy(&name, stage, solution, version)).await;
        assert_eq!(outcome(&request).0, "Succeeded", "{name}: {:?}\n{}", outcome(&request), self.fixture.tail());
        request
    }

    /// Asks for a deployment to production of a version that succeeded in QA, and waits for its approval gate.
    pub async fn ask(&mut self, solution: &str, version: &str) -> String {
        self.deploy("qa", solution, version).await;
        let name = format!("{solution}-prod");
        let world = &self.world;
        self.fixture
            .tending(async {
                world.ask(&world.request(&name, "prod", solution, version)).await;
                world.until_request(&name, |r| crate::world::phase(r) == "AwaitingApproval").await;
            })
            .await;
        name
    }

    /// Waits until a request for production waits with that reason. Returns the message.
    pub async fn waits_for(&mut self, request: &str, reason: &str) -> String {
        let world = &self.world;
        self.fixture.tending(world.waits_for(request, reason)).await
    }

    /// Waits until a request for production succeeds.
    pub async fn succeeds(&mut self, request: &str) -> DeploymentRequest {
        let world = &self.world;
        let ended = self.fixture.tending(world.end(request)).await;
        assert_eq!(outcome(&ended).0, "Succeeded", "{request}: {:?}\n{}", outcome(&ended), self.fixture.tail());
        ended
    }

    /// The `ConfigMaps` of a solution in production, by name, with the version in them.
    pub async fn arrived(&self, solution: &str) -> Vec<(String, String)> {
        let maps: Api<ConfigMap> = Api::namespaced(self.admin.clone(), &self.world.prod);
        let listed = maps.list(&ListParams::default().labels(&format!("app.kubernetes.io/part-of={solution}"))).await.unwrap();
        listed.items.into_iter().map(|map| (map.name_any(), map.data.unwrap_or_default().remove("version").unwrap_or_default())).collect()
    }

    /// All calls in the second cluster since the world was created, by the accounts that it created.
    pub fn calls(&self) -> Vec<audit::Call> {
        let (mut calls, _) = audit::since(&plane().audit_log(), self.since).unwrap();
        let accounts = format!("system:serviceaccount:{}:", self.delegates);
        calls.retain(|call| call.user.starts_with(&accounts));
        calls
    }

    /// The writes in the second cluster that were carried out: by whom, what and where. Reviews store nothing.
    pub fn writes(&self) -> Vec<(String, String)> {
        let carried_out = |call: &audit::Call| call.is_write() && !call.dry_run && call.code < 300 && !call.resource.ends_with("reviews");
        let name = |user: &str| user.rsplit(':').next().unwrap_or_default().to_owned();
        let calls = self.calls();
        let written = calls.iter().filter(|call| carried_out(call));
        written.map(|c| (name(&c.user), format!("{} {} {}/{}", c.verb, c.resource, c.name, c.subresource))).collect()
    }

    /// The writes to objects by the delegate, without those of the set's parent.
    pub fn applied(&self, solution: &str) -> Vec<String> {
        let mine = format!(" {solution}-");
        self.writes()
            .into_iter()
            .filter(|(who, what)| who == "bot-prod" && what.replace("configmaps ", " ").contains(&mine))
            .map(|(_, what)| what)
            .collect()
    }

    /// Waits until some but not all of the objects have been written in the second cluster.
    pub async fn midway(&mut self, solution: &str) -> usize {
        self.wait("objects arrive", |remote| Some(remote.applied(solution).len()).filter(|count| *count > 0)).await
    }

    /// Waits for something in the second cluster.
    pub async fn wait<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let start = std::time::Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(start.elapsed() < crate::world::PATIENCE, "waited in vain until {what}\n{}", self.fixture.tail());
            self.fixture.tending(tokio::time::sleep(Duration::from_millis(10))).await;
        }
    }

    /// Deletes an account in the second cluster, and waits until its tokens are rejected: API servers remember them for a while.
    pub async fn revoke(&self, name: &str) {
        let kubeconfig = tokio::task::block_in_place(|| {
            let token = plane().service_account_token(&self.delegates, name).unwrap();
            plane().token_kubeconfig(&token, None).unwrap()
        });
        let bearer = client(kubeconfig).await;
        bearer.apiserver_version().await.unwrap();
        Api::<ServiceAccount>::namespaced(self.admin.clone(), &self.delegates).delete(name, &DeleteParams::default()).await.unwrap();
        self.world.until("its tokens are rejected", async || bearer.apiserver_version().await.err()).await;
    }

    /// Creates it again.
    pub async fn make_account(&self, name: &str) {
        self.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": self.delegates}})).await;
    }

    /// Labels of the namespace of production.
    pub async fn label(&self, labels: Value) {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        Api::<Namespace>::all(self.admin.clone()).patch(&self.world.prod, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Checks who wrote in the second cluster: only the delegate, and the kubeconfig's user for tokens.
    pub fn check_writers(&self) {
        let writes = self.writes();
        let who: BTreeSet<&str> = writes.iter().map(|(who, _)| who.as_str()).collect();
        assert!(who.contains("bot-prod") && who.len() <= 2, "{who:?}");
        for (who, what) in &writes {
            assert!(who == "bot-prod" || who == "pilotage" && what == "create serviceaccounts bot-prod/token", "{who}: {what}");
        }
        assert!(self.calls().iter().all(|call| call.impersonated_user.is_none()), "nobody is impersonated over there");
        assert!(self.world.operator_writes(&self.world.prod, false).is_empty(), "the namespace of the same name at home is left alone");
    }
}
