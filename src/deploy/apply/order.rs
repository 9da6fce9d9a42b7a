//! The order in which objects are applied: first what others need, then workloads, then traffic.

/// The number of waves.
const WAVES: usize = 4;

/// The wave of a kind. The order is that of kustomize and Helm, with as few waves as the real dependencies need, because each wave waits
/// for the one before:
///
/// 0. who acts and what bounds it: `ServiceAccounts`, quotas, limits, network policies, roles; classes, and definitions of kinds;
/// 1. what workloads read: `RoleBindings` (their Role must be there), `ConfigMaps`, volume claims, Services,
///    and custom resources;
/// 2. workloads and their disruption budgets;
/// 3. what scales workloads and brings traffic to them.
pub(crate) fn wave(group: &str, kind: &str) -> usize {
    match (group, kind) {
        ("", "ServiceAccount" | "ResourceQuota" | "LimitRange")
        | ("networking.k8s.io", "NetworkPolicy" | "IngressClass")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass")
        | ("node.k8s.io", "RuntimeClass")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => 0,
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "Pod" | "ReplicationController")
        | ("batch", "Job" | "CronJob")
        | ("policy", "PodDisruptionBudget") => 2,
        ("autoscaling" | "gateway.networking.k8s.io" | "keda.sh", _)
        | ("networking.k8s.io", "Ingress")
        | ("networking.istio.io", "VirtualService" | "Gateway")
        | ("traefik.io" | "traefik.containo.us", "IngressRoute" | "IngressRouteTCP" | "IngressRouteUDP")
        | ("projectcontour.io", "HTTPProxy")
        | ("route.openshift.io", "Route") => 3,
        _ => 1,
    }
}

/// The indexes of the objects, given by group and kind, in the waves in which they are applied. Empty waves are left out. Within a wave the
/// given order is kept. Pruning takes the waves in reverse.
pub(crate) fn waves<'a>(kinds: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<usize>> {
    let mut waves = vec![Vec::new(); WAVES];
    for (index, (group, kind)) in kinds.into_iter().enumerate() {
        waves[wave(group, kind)].push(index);
    }
    waves.retain(|wave| !wave.is_empty());
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workloads_need_comes_before_them_and_traffic_after() {
        let kinds = [
            ("networking.k8s.io", "Ingress"),
            ("apps", "Deployment"),
            ("", "Service"),
            ("", "ConfigMap"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
            ("rbac.authorization.k8s.io", "Role"),
            ("", "ServiceAccount"),
            ("autoscaling", "HorizontalPodAutoscaler"),
            ("postgresql.cnpg.io", "Cluster"),
            ("policy", "PodDisruptionBudget"),
        ];
        assert_eq!(waves(kinds), vec![vec![5, 6], vec![2, 3, 4, 8], vec![1, 9], vec![0, 7]]);
    }

    #[test]
    fn waves_without_objects_are_left_out() {
        assert_eq!(waves([("apps", "Deployment")]), vec![vec![0]]);
        assert!(waves(std::iter::empty()).is_empty());
    }
}
