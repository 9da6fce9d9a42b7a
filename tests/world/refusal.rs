//! A policy of the target that refuses what it accepts in a dry run: deployments that fail midway.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::World;

impl World {
    /// Makes QA refuse Deployments of that image when they are written, but not in a dry run.
    pub async fn refuses_image(&self, image: &str) {
        let name = self.qa.clone();
        let rules =
            json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE", "UPDATE"]}]);
        let expression = format!(
            "(request.dryRun && !('probe' in object.metadata.?labels.orValue({{}}))) || !object.spec.template.spec.containers.exists(c, c.image.endsWith('{image}'))"
        );
        self.apply(&[
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.qa}}, "resourceRules": rules,
                    },
                    "validations": [{"expression": expression, "message": "not this image"}],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            }),
        ])
        .await;
        let template = json!({
            "metadata": {"labels": {"app": "probe"}}, "spec": {"containers": [{"name": "a", "image": format!("a{image}")}]},
        });
        let probe: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "probe", "labels": {"probe": "true"}},
            "spec": {"selector": {"matchLabels": {"app": "probe"}}, "template": template},
        }))
        .unwrap();
        let deployments = Api::<Deployment>::namespaced(self.admin.clone(), &self.qa);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let denied = async || deployments.create(&dry_run, &probe).await.err().filter(|e| e.to_string().contains("not this image"));
        self.until("the policy of QA is in force", denied).await;
    }

    /// Removes the policy.
    pub async fn refuses_no_more(&self) {
        let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(self.admin.clone());
        bindings.delete(&self.qa, &DeleteParams::default()).await.unwrap();
        let policies = Api::<ValidatingAdmissionPolicy>::all(self.admin.clone());
        policies.delete(&self.qa, &DeleteParams::default()).await.unwrap();
    }
}
