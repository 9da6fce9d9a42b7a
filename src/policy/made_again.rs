//! What runs in a target, as the artifacts' records say. It is used for an Environment that was deleted and applied again for the same
//! namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;

use crate::api::artifact::{DeploymentRecord, Outcome};
use crate::api::environment::{Claim, DeployedSolution, FailedDeployment, MAX_SOLUTIONS};
use crate::api::{Artifact, DeploymentRequest};

/// A target: the namespace, not the Environment that names it.
pub(crate) struct Target<'a> {
    /// The uid of its namespace.
    pub(crate) environment_id: &'a str,
    /// Its cluster; `None` for the host's own.
    pub(crate) cluster: Option<String>,
}

/// What runs there, what failed there and was left, and who is deploying there now: one entry for each solution, from the latest
/// deployments.
pub(crate) fn solutions(artifacts: &[Arc<Artifact>], open: &[Arc<DeploymentRequest>], target: &Target<'_>) -> Vec<DeployedSolution> {
    let mut all: BTreeMap<&str, DeployedSolution> = BTreeMap::new();
    let mut records: Vec<(&Artifact, &DeploymentRecord)> = Vec::new();
    for artifact in artifacts {
        let deployments = artifact.status.iter().flat_map(|status| &status.deployments);
        let here = deployments.filter(|d| d.environment_id == target.environment_id && d.cluster == target.cluster);
        records.extend(here.map(|record| (artifact.as_ref(), record)));
    }
    records.sort_by_key(|(_, record)| (record.ended_at, record.started_at));
    for (artifact, record) in records {
        let name = artifact.spec.solution.name.as_str();
        let entry = all.entry(name).or_insert_with(|| DeployedSolution { name: name.to_owned(), ..DeployedSolution::default() });
        // Objects of each version may be left. The next success finds that there are none.
        entry.may_have(&artifact.spec.cluster_scoped);
        match (record.outcome, &record.restored) {
            (Outcome::Succeeded, _) => succeeded(entry, artifact, record),
            // The version that it replaced was restored.
            (Outcome::Failed, Some(_)) => entry.failed = None,
            (Outcome::Failed, None) => {
                entry.failed = Some(FailedDeployment {
                    version: artifact.spec.solution.version.clone(),
                    digest: artifact.spec.digest.clone(),
                    request: record.request.clone(),
                    at: record.ended_at,
                });
            }
        }
    }
    for request in open {
        let Some(claim) = claim(request, target) else { continue };
        let name = request.spec.solution.name.as_str();
        let entry = all.entry(name).or_insert_with(|| DeployedSolution { name: name.to_owned(), ..DeployedSolution::default() });
        let deployed = artifacts.iter().find(|a| a.spec.solution == request.spec.solution && a.spec.digest == claim.digest);
        entry.may_have(deployed.map(|artifact| artifact.spec.cluster_scoped.as_slice()).unwrap_or_default());
        if entry.claim.as_ref().is_none_or(|earlier| earlier.since < claim.since) {
            entry.claim = Some(claim);
        }
    }
    let mut latest: Vec<DeployedSolution> = all.into_values().collect();
    latest.sort_by_key(|solution| std::cmp::Reverse((solution.claim.is_some(), solution.deployed_at)));
    latest.truncate(MAX_SOLUTIONS);
    latest.sort_by(|a, b| a.name.cmp(&b.name));
    latest
}

fn succeeded(entry: &mut DeployedSolution, artifact: &Artifact, record: &DeploymentRecord) {
    *entry = DeployedSolution {
        name: std::mem::take(&mut entry.name),
        version: Some(artifact.spec.solution.version.clone()),
        digest: Some(artifact.spec.digest.clone()),
        settings_digest: Some(record.settings_digest.clone()),
        request: Some(record.request.clone()),
        requested_by: Some(record.requested_by.clone()),
        on_behalf_of: record.on_behalf_of.clone(),
        deployed_by: Some(record.deployed_by.clone()),
        deployed_at: Some(record.ended_at),
        cluster_scoped: std::mem::take(&mut entry.cluster_scoped),
        failed: None,
        claim: None,
    };
}

/// The claim of a request that has begun to deploy there. It held the claim when it began, and nobody else could have begun since.
fn claim(request: &DeploymentRequest, target: &Target<'_>) -> Option<Claim> {
    let run = &request.status.as_ref()?.run;
    let (plan, since) = (run.plan.as_ref()?, run.start_time?);
    (plan.environment_id == target.environment_id).then(|| Claim {
        request: request.name_any(),
        request_uid: request.uid().unwrap_or_default(),
        digest: plan.artifact_digest.clone(),
        since,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(number: u8, environment: &str, outcome: &str, more: &Value) -> Value {
        let mut record = json!({
            "requestUID": format!("r{number}"), "request": format!("request-{number}"), "pipeline": "p", "stage": "qa", "stageUID": "s",
            "environment": "qa", "environmentUID": "e", "environmentId": environment, "settingsDigest": "sha256:s", "requestedBy": "dana",
            "deployedBy": "bot", "startedAt": format!("2026-01-0{number}T00:00:00Z"), "endedAt": format!("2026-01-0{number}T01:00:00Z"),
            "outcome": outcome,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        record
    }

    fn artifact(version: &str, deployments: &[Value]) -> Arc<Artifact> {
        let artifact = json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "Artifact", "metadata": {"name": format!("orders-{version}"), "namespace": "host"},
            "spec": {
                "solution": {"name": "orders", "version": version}, "digest": format!("sha256:{version}"), "source": {"environment": "dev"},
                "exportedBy": {"username": "dana"}, "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 1, "size": 1, "storedSize": 1, "chunks": 1,
                "clusterScoped": [{"group": "scheduling.k8s.io", "kind": "PriorityClass"}],
            },
            "status": {"deployments": deployments},
        });
        Arc::new(serde_json::from_value(artifact).unwrap())
    }

    fn here() -> Target<'static> {
        Target { environment_id: "n1", cluster: None }
    }

    #[test]
    fn the_latest_success_in_that_very_namespace_is_what_runs() {
        let none = json!({});
        let artifacts = [
            artifact("1.1.0", &[record(2, "n1", "Succeeded", &none)]),
            artifact("1.0.0", &[record(1, "n1", "Succeeded", &none)]),
            artifact("1.2.0", &[record(3, "n2", "Succeeded", &none)]),
            artifact("1.3.0", &[record(4, "n1", "Succeeded", &json!({"cluster": "another"}))]),
        ];
        let found = solutions(&artifacts, &[], &here());
        assert_eq!(found.len(), 1);
        let orders = &found[0];
        assert_eq!((orders.version.as_deref(), orders.digest.as_deref()), (Some("1.1.0"), Some("sha256:1.1.0")));
        assert_eq!((orders.request.as_deref(), orders.failed.as_ref(), orders.claim.as_ref()), (Some("request-2"), None, None));
        assert_eq!(orders.cluster_scoped.len(), 1, "once: {orders:?}");
        assert_eq!(solutions(&artifacts, &[], &Target { environment_id: "n3", cluster: None }), []);
    }

    #[test]
    fn what_failed_and_was_left_is_said_and_what_was_put_back_is_not() {
        let none = json!({});
        let first = artifact("1.0.0", &[record(1, "n1", "Succeeded", &none)]);
        let failed = |more: &Value| {
            let second = artifact("1.1.0", &[record(2, "n1", "Failed", more)]);
            let found = solutions(&[second, first.clone()], &[], &here());
            (found[0].version.clone(), found[0].failed.as_ref().map(|failed| failed.version.clone()))
        };
        assert_eq!(failed(&none), (Some("1.0.0".into()), Some("1.1.0".into())));
        assert_eq!(failed(&json!({"restored": "1.0.0"})), (Some("1.0.0".into()), None));
        let mended = artifact("1.1.0", &[record(2, "n1", "Failed", &none), record(3, "n1", "Succeeded", &none)]);
        assert_eq!(solutions(&[mended], &[], &here())[0].failed, None);
    }

    #[test]
    fn who_has_begun_to_deploy_there_keeps_the_claim() {
        let request = |environment: &str, started: Value| -> Arc<DeploymentRequest> {
            let request = json!({
                "apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest", "metadata": {"name": "next", "namespace": "host", "uid": "r9"},
                "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "orders", "version": "1.1.0"}},
                "status": {"startTime": started, "plan": {"hash": "h", "artifactDigest": "sha256:1.1.0", "settingsDigest": "", "environmentId": environment,
                    "stageUID": "s", "delegate": "bot"}},
            });
            Arc::new(serde_json::from_value(request).unwrap())
        };
        let artifacts = [artifact("1.0.0", &[record(1, "n1", "Succeeded", &json!({}))]), artifact("1.1.0", &[])];
        let started = json!("2026-01-09T00:00:00Z");
        let found = solutions(&artifacts, &[request("n1", started.clone())], &here());
        let claim = found[0].claim.as_ref().unwrap();
        assert_eq!((claim.request_uid.as_str(), claim.digest.as_str()), ("r9", "sha256:1.1.0"));
        assert_eq!(found[0].version.as_deref(), Some("1.0.0"));
        for other in [request("n2", started), request("n1", Value::Null)] {
            assert_eq!(solutions(&artifacts, &[other], &here())[0].claim, None);
        }
    }
}
