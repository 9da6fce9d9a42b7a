//! The files that make a host, by who has to apply them. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use super::answers::{Answers, StageAnswer};
use crate::api::GROUP;
use crate::api::environment::EnvironmentType;
use crate::cli::grant;
use crate::identity::delegate::Delegate;
use crate::identity::grants;
use crate::policy::environment::opt_in_verb;

/// A file with manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    /// Its name. Files are applied in the order of their names.
    pub(super) name: String,
    /// Who has the rights to apply it.
    pub(super) applied_by: String,
    /// The manifests, as YAML.
    pub(super) manifests: String,
}

/// All files.
///
/// # Errors
/// If an object can't be written as YAML, which is a defect.
pub(super) fn of(answers: &Answers) -> anyhow::Result<Vec<File>> {
    let mut files = vec![file(
        "1-cluster.yaml",
        "an administrator of the cluster: it makes the host, and lets the operator act as the delegates there and in the targets alone",
        &cluster(answers)?,
    )];
    for namespace in &answers.development {
        files.push(file(
            &format!("2-{namespace}.yaml"),
            &format!("an administrator of namespace {namespace}: it lets host {} export from it", answers.host),
            &development(answers, namespace),
        ));
    }
    for stage in &answers.stages {
        files.push(file(
            &format!("2-{}.yaml", stage.target),
            &format!("an administrator of namespace {}: it lets host {} deploy to it, as {}", stage.target, answers.host, stage.delegate),
            &target(answers, stage),
        ));
    }
    let whom: Vec<String> = answers.administrators.iter().map(|s| grants::described(s.kind, &s.name, s.namespace.as_deref())).collect();
    files.push(file(
        "3-host.yaml",
        &format!("an administrator of the host ({}): whoever applies it owns the stages", whom.join(", ")),
        &host(answers)?,
    ));
    Ok(files)
}

fn file(name: &str, applied_by: &str, manifests: &[String]) -> File {
    let mut once: Vec<String> = Vec::new();
    // A grant is several manifests, and two grants may share one.
    for manifest in manifests.iter().flat_map(|text| text.split("---\n")) {
        if !once.iter().any(|known| known == manifest) {
            once.push(manifest.to_owned());
        }
    }
    let manifests = format!("# To be applied by {applied_by}.\n{}", once.join("---\n"));
    File { name: name.to_owned(), applied_by: applied_by.to_owned(), manifests }
}

fn delegate(answers: &Answers, stage: &StageAnswer) -> Delegate {
    Delegate::ServicePrincipal { namespace: answers.host.clone(), name: stage.delegate.clone() }
}

fn cluster(answers: &Answers) -> anyhow::Result<Vec<String>> {
    let host = &answers.host;
    let mut all = Vec::new();
    if answers.with_namespaces {
        for name in answers.development.iter().chain(answers.stages.iter().map(|stage| &stage.target)) {
            all.push(yaml(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?);
        }
    }
    all.push(grants::host(host));
    for stage in &answers.stages {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": stage.delegate, "namespace": host}});
        all.push(yaml(&account)?);
        let delegate = delegate(answers, stage);
        all.push(grants::delegate_in_host(host, &delegate.subject()));
        all.push(grants::operator_as_delegate(&stage.target, &delegate, answers.delegation));
        all.push(grants::operator_in_target_too(&delegate, &grant::usual(&stage.target)));
    }
    all.extend(answers.development.iter().map(|namespace| grants::operator_exports_too(namespace)));
    all.extend(answers.approvers.iter().map(|who| grants::delegate_in_host(host, who)));
    let targets = answers.stages.iter().map(|stage| stage.target.as_str());
    let environments: Vec<&str> = answers.development.iter().map(String::as_str).chain(targets).collect();
    let mut accounts: Vec<&str> = answers.stages.iter().map(|stage| stage.delegate.as_str()).collect();
    accounts.dedup();
    for who in &answers.administrators {
        all.push(grants::administrator(host, None, who));
        all.push(grants::configures(host, &answers.pipeline, &environments, &accounts, who));
    }
    Ok(all)
}

fn development(answers: &Answers, namespace: &str) -> Vec<String> {
    let mut all =
        vec![grants::opt_in(&answers.host, namespace, opt_in_verb(EnvironmentType::Development)), grants::operator_exports(namespace)];
    all.extend(answers.makers.iter().map(|who| grants::has_role(namespace, "edit", who)));
    all
}

fn target(answers: &Answers, stage: &StageAnswer) -> Vec<String> {
    let who = delegate(answers, stage).subject();
    vec![
        grants::opt_in(&answers.host, &stage.target, opt_in_verb(EnvironmentType::Target)),
        grants::delegate_in_target(&stage.target, &who),
        grants::delegate_in_target_too(&who, &grant::usual(&stage.target)),
    ]
}

fn host(answers: &Answers) -> anyhow::Result<Vec<String>> {
    let object = |kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": answers.host});
        yaml(&json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": metadata, "spec": spec}))
    };
    let environment = |name: &str, type_: EnvironmentType| object("Environment", name, json!({"type": type_, "namespace": name}));
    let mut all = Vec::new();
    for name in &answers.development {
        all.push(environment(name, EnvironmentType::Development)?);
    }
    for stage in &answers.stages {
        all.push(environment(&stage.target, EnvironmentType::Target)?);
    }
    let mut pipeline = json!({"developmentEnvironments": answers.development});
    if !answers.makers.is_empty() {
        pipeline["sharedWith"] = json!(answers.makers);
    }
    all.push(object("Pipeline", &answers.pipeline, pipeline)?);
    let mut previous: Option<&str> = None;
    for stage in &answers.stages {
        let mut spec = json!({
            "pipeline": answers.pipeline, "targetEnvironment": stage.target,
            "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": stage.delegate},
        });
        if let Some(previous) = previous {
            spec["previousStage"] = previous.into();
        }
        if stage.is_automatic {
            spec["approval"] = json!({"by": "Automatic"});
        } else if !answers.approvers.is_empty() {
            spec["approval"] = json!({"by": "Approvers", "approvers": answers.approvers});
        }
        all.push(object("Stage", &stage.name, spec)?);
        previous = Some(&stage.name);
    }
    Ok(all)
}

fn yaml(object: &Value) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(object)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::answers::tests::flags;
    use super::*;
    use crate::api::approvers::ApprovalBy;

    fn files(line: &str) -> Vec<File> {
        of(&flags(line).answers(Some("olga")).unwrap()).unwrap()
    }

    const LINE: &str = "--host h --dev d --stages test=t,qa=q,prod=p --makers makers --approvers release --automatic test";

    #[test]
    fn each_file_has_what_one_person_may_apply() {
        let files = files(LINE);
        assert_eq!(
            files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
            ["1-cluster.yaml", "2-d.yaml", "2-t.yaml", "2-q.yaml", "2-p.yaml", "3-host.yaml"]
        );
        for file in &files {
            let objects: Vec<Value> = serde_saphyr::from_multiple(&file.manifests).unwrap();
            assert!(!objects.is_empty() && objects.iter().all(|o| o["kind"].is_string()), "{}", file.manifests);
            let namespace = file.name.strip_prefix("2-").and_then(|rest| rest.strip_suffix(".yaml"));
            if let Some(namespace) = namespace {
                assert!(objects.iter().all(|o| o["metadata"]["namespace"] == namespace), "{}", file.manifests);
                // Whoever administers a namespace does not hold these verbs.
                assert!(!file.manifests.contains("impersonate"), "{}", file.manifests);
            }
        }
    }

    #[test]
    fn the_host_is_as_the_answers_say_and_its_types_read_it() {
        let files = files(LINE);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&files.last().unwrap().manifests).unwrap();
        let stages: Vec<crate::api::Stage> =
            objects.iter().filter(|o| o["kind"] == "Stage").map(|o| serde_json::from_value(o.clone()).unwrap()).collect();
        assert_eq!(stages.iter().map(|s| s.spec.previous_stage.as_deref()).collect::<Vec<_>>(), [None, Some("test"), Some("qa")]);
        let by: Vec<_> = stages.iter().map(|s| s.spec.approval.as_ref().unwrap().by).collect();
        assert_eq!(by, [ApprovalBy::Automatic, ApprovalBy::Approvers, ApprovalBy::Approvers]);
    }

    #[test]
    fn nothing_is_written_twice_where_one_delegate_deploys_everywhere() {
        let cluster = &files("--host h --dev d --stages qa=q,prod=p --makers m --delegate bot")[0].manifests;
        assert_eq!(cluster.matches("kind: ServiceAccount\nmetadata:").count(), 1, "{cluster}");
    }
}
