//! The same grants for a target in another cluster. Some of them are applied there. This command applies none of them.

use anyhow::bail;

use crate::api::environment::RemoteCluster;
use crate::identity::access::Right;
use crate::identity::delegate::Delegate;
use crate::identity::grants;

/// The name of the kubeconfig's user, as `deploy/remote` creates it. It is in the namespace of the delegates.
const USER: &str = "pilotage";

/// What to apply in the host's cluster, and what in the remote cluster.
pub(super) struct Parts {
    here: String,
    there: String,
}

/// A delegate decides in the host's cluster, and deploys as the `ServiceAccount` of the same name in the remote cluster.
pub(super) fn delegate(host: &str, delegate: &Delegate, cluster: &RemoteCluster, target: &str, rights: &[Right]) -> Parts {
    let there = grants::service_account(&cluster.delegate_namespace, &delegate.subject().name);
    let mut parts = vec![
        format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {}, namespace: {}}}\n", there.name, cluster.delegate_namespace),
        grants::delegate_in_target(target, &there),
    ];
    if !rights.is_empty() {
        parts.push(grants::delegate_in_target_too(&there, rights));
    }
    Parts { here: grants::delegate_in_host(host, &delegate.subject()), there: parts.join("---\n") }
}

/// The operator reads the kubeconfig in the host's cluster. In the remote cluster, its user reads the target and requests the delegate's
/// tokens.
pub(super) fn operator(host: &str, delegate: &Delegate, cluster: &RemoteCluster, target: &str) -> Parts {
    let secret = Right::on("get", "", "secrets", host).named(&cluster.kubeconfig_secret_ref.name);
    let user = grants::service_account(&cluster.delegate_namespace, USER);
    let there = [grants::sees_namespace(target, &user), grants::lends_token(&cluster.delegate_namespace, &delegate.subject().name, &user)];
    Parts { here: grants::operator_reads(host, &secret), there: there.join("---\n") }
}

/// Both parts. A comment says where each is applied.
///
/// # Errors
/// If they are to be applied: the caller is connected to one cluster only.
pub(super) fn printed(parts: &Parts, cluster: &RemoteCluster, apply: bool) -> anyhow::Result<String> {
    let name = &cluster.kubeconfig_secret_ref.name;
    if apply {
        bail!(
            "the target is in cluster {name}, which is not the one that you are connected to: leave --apply out, and apply each part where it says"
        );
    }
    Ok(format!("# In the cluster of the host:\n{}---\n# In cluster {name}:\n{}", parts.here, parts.there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> RemoteCluster {
        serde_json::from_value(
            serde_json::json!({"kubeconfigSecretRef": {"name": "eu", "key": "kubeconfig"}, "delegateNamespace": "delegates"}),
        )
        .unwrap()
    }

    #[test]
    fn what_belongs_where_is_said_and_not_applied_from_here() {
        let bot = Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() };
        for parts in [delegate("host", &bot, &cluster(), "prod", &[]), operator("host", &bot, &cluster(), "prod")] {
            let text = printed(&parts, &cluster(), false).unwrap();
            let (here, there) = text.split_once("# In cluster eu:\n").unwrap();
            assert!(here.contains("namespace: host}") && !here.contains("namespace: prod}"), "{here}");
            assert!(there.contains("namespace: delegates}") && !there.contains("namespace: host}"), "{there}");
            let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
            assert!(objects.len() >= 4 && objects.iter().all(|o| o["kind"].is_string()), "{text}");
            assert!(printed(&parts, &cluster(), true).is_err_and(|e| e.to_string().contains("leave --apply out")));
        }
    }
}
