//! Clusters that come and go while the operator runs: what is known about a cluster that is gone is forgotten, with its connections.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{Environment, Stage};
use serde_json::json;

use crate::remote_fixture::{RemoteFixture, TURNS};
use crate::tcp_proxy::TcpProxy;
use crate::world::role;

/// The name of the cluster that comes and goes.
const GUEST: &str = "us";

/// Less than the time after which unused connections end by themselves.
const UNUSED: Duration = Duration::from_secs(7);

impl RemoteFixture {
    /// Everything that a second target needs, with a kubeconfig of its own that leads through `proxy`: its namespace, and who may read
    /// what.
    async fn invite(&self, proxy: &TcpProxy) {
        let (world, namespace) = (&self.world, format!("{}-two", self.world.prod));
        let labels = json!({"pilotage.dev/managed-by": world.host});
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})).await;
        let see = format!("see-{namespace}");
        let rbac = "rbac.authorization.k8s.io";
        let subject = |name: &str| json!([{"kind": "ServiceAccount", "name": name, "namespace": self.delegates}]);
        let mut all = vec![
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": see},
                   "rules": [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [namespace], "verbs": ["get"]}]}),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": see},
                   "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": see}, "subjects": subject("pilotage")}),
        ];
        all.extend(role(&namespace, "bot-prod", &crate::world::target_rules(""), &subject("bot-prod")));
        for object in all {
            self.apply(&object).await;
        }
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [GUEST], "verbs": ["get"]}]);
        let readers = json!([
            {"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"},
            {"kind": "User", "apiGroup": rbac, "name": "olga"},
        ]);
        world.apply(&role(&world.host, "kubeconfig-of-guest", &rules, &readers)).await;
        let metadata = json!({"name": GUEST, "namespace": world.host});
        let kubeconfig = self.kubeconfig(&proxy.url()).to_string();
        world.apply(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig}})]).await;
    }

    /// Makes the guest a target, with a stage after QA.
    async fn welcome(&mut self) {
        let world = &self.world;
        let mut both = self.pipeline();
        both.retain(|o| o["metadata"]["name"] == "prod");
        let olga = world.olga().await;
        for mut object in both {
            object["metadata"]["name"] = json!("guest");
            if object["kind"] == "Environment" {
                object["spec"]["namespace"] = json!(format!("{}-two", world.prod));
                object["spec"]["cluster"]["kubeconfigSecretRef"]["name"] = json!(GUEST);
            } else {
                object["spec"]["targetEnvironment"] = json!("guest");
            }
            world.apply_as(&olga, &object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
        }
        self.fixture.tending(world.ready::<Stage>("guest")).await;
    }

    async fn goodbye(&self) {
        let (olga, host) = (self.world.olga().await, &self.world.host);
        Api::<Stage>::namespaced(olga.clone(), host).delete("guest", &DeleteParams::default()).await.unwrap();
        let environments = Api::<Environment>::namespaced(olga, host);
        // It is the record of what runs in the guest.
        let confirmed = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": "guest"}}}));
        environments.patch("guest", &PatchParams::default(), &confirmed).await.unwrap();
        environments.delete("guest", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cluster_that_went_no_connection_is_left_and_the_others_go_on() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("guest").await;
    let proxy = TcpProxy::before(crate::remote_fixture::plane().server()).await;
    remote.invite(&proxy).await;
    for (round, version) in ["1.0.0", "2.0.0", "3.0.0"].into_iter().enumerate() {
        remote.welcome().await;
        remote.develop("orders", version, 3).await;
        remote.deploy("qa", "orders", version).await;
        // Its own name, because the stage's name differs from that of the solution.
        let (world, name) = (&remote.world, format!("guest-{round}"));
        let request = world.request(&name, "guest", "orders", version);
        let ended = remote
            .fixture
            .tending(async {
                world.ask(&request).await;
                world.approved(&name, "prod").await
            })
            .await;
        assert_eq!(crate::world::phase(&ended), "Succeeded", "{:?}", crate::world::outcome(&ended));
        assert!(proxy.open() > 0, "it was there");
        remote.goodbye().await;
        let gone = Instant::now();
        remote.wait("no connection is left", |_| (proxy.open() == 0).then_some(())).await;
        assert!(gone.elapsed() < UNUSED, "they were closed because the cluster is forgotten, and not because nobody used them");
        // Nothing connects to it any more, and the other cluster is deployed to as before.
        let taken = proxy.taken();
        remote.deploy("prod", "orders", version).await;
        assert!(remote.proxy.open() > 0);
        assert_eq!((proxy.open(), proxy.taken()), (0, taken), "it is left alone");
    }
}
