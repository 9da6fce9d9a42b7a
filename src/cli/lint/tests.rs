//! Manifests and what is said to them.

use super::*;

fn said(texts: &[&str]) -> Vec<(Severity, String, String)> {
    let mut manifests = Manifests::default();
    for (index, text) in texts.iter().enumerate() {
        manifests.add(&format!("{index}.yaml"), text);
    }
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut found = check(&manifests, now);
    found.sort();
    found.into_iter().map(|f| (f.severity, f.object, f.reason.to_owned())).collect()
}

fn ours(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: pilotage.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: h}}\nspec: {spec}\n")
}

fn host(stages: &[(&str, &str)]) -> String {
    let mut text = ours("Environment", "dev", "{type: Development, namespace: d}");
    text += &ours("Environment", "qa", "{type: Target, namespace: q}");
    text += &ours("Pipeline", "p", "{developmentEnvironments: [dev]}");
    for (name, more) in stages {
        text += &ours("Stage", name, &format!("{{pipeline: p, targetEnvironment: qa{more}}}"));
    }
    text
}

#[test]
fn a_host_that_is_whole_has_nothing_wrong() {
    assert_eq!(said(&[&host(&[("a", ""), ("b", ", previousStage: a")])]), []);
}

#[test]
fn the_examples_and_their_requests_have_nothing_wrong() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/contoso");
    let manifests = Manifests::read(&[root]).unwrap();
    let found = check(&manifests, Timestamp::now());
    assert!(manifests.files > 5 && found.is_empty(), "{found:#?}");
}

#[test]
fn stages_that_go_in_circles_or_begin_twice_or_are_too_many_are_errors() {
    let reason = |stages: &[(&str, &str)]| said(&[&host(stages)]).into_iter().map(|(severity, _, reason)| (severity, reason)).next();
    assert_eq!(reason(&[("a", ", previousStage: b"), ("b", ", previousStage: a")]), Some((Severity::Error, "StageCycle".to_owned())));
    assert_eq!(reason(&[("a", ""), ("b", "")]), Some((Severity::Error, "MultipleFirstStages".to_owned())));
    let names: Vec<(String, String)> =
        (0..8).map(|n| (format!("s{n}"), if n == 0 { String::new() } else { format!(", previousStage: s{}", n - 1) })).collect();
    let eight: Vec<(&str, &str)> = names.iter().map(|(name, more)| (name.as_str(), more.as_str())).collect();
    assert_eq!(reason(&eight), Some((Severity::Error, "TooManyStages".to_owned())));
}

#[test]
fn what_is_not_in_the_files_is_a_warning_as_it_may_be_in_the_cluster() {
    let lonely = ours("Stage", "a", "{pipeline: p, targetEnvironment: qa, previousStage: b}");
    let warned: Vec<String> = said(&[&lonely]).into_iter().map(|(severity, _, reason)| format!("{severity:?} {reason}")).collect();
    assert_eq!(warned, ["Warning UnknownPipeline", "Warning UnknownEnvironment", "Warning UnknownPreviousStage"]);
}

#[test]
fn windows_and_schedules_that_never_come_are_errors() {
    let never = host(&[("a", ", windows: [{type: Allow, schedule: \"0 0 31 2 *\", duration: 1h}]")]);
    assert_eq!(said(&[&never])[0].2, "WindowInvalid");
    let retention = ours("Pipeline", "p", "{developmentEnvironments: [dev], retention: {schedule: \"0 0 31 2 *\"}}");
    assert_eq!(said(&[&retention])[0].2, "RetentionInvalid");
}

#[test]
fn requests_are_held_against_the_stages_and_pipelines_beside_them() {
    let spec =
        "{pipeline: other, stage: b, solution: {name: o, version: 1.0.0}, sourceEnvironment: dev, scheduledTime: \"2020-01-01T00:00:00Z\"}";
    let all = said(&[&host(&[("a", ""), ("b", ", previousStage: a")]), &ours("DeploymentRequest", "r", spec)]);
    let reasons: Vec<&str> = all.iter().map(|(_, _, reason)| reason.as_str()).collect();
    assert_eq!(reasons, ["SourceNotUsed", "WrongPipeline", "InThePast"]);
}

#[test]
fn other_kinds_are_passed_over_and_wrong_ones_of_ours_are_told() {
    assert_eq!(said(&["apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {anything: 1}\n"]), []);
    let kind = said(&[&ours("Pipline", "p", "{}")]);
    assert_eq!(kind[0].2, "UnknownKind");
    assert_eq!(said(&[&ours("Pipeline", "p", "{}").replace("v1alpha1", "v1")])[0].2, "UnknownVersion");
    let twice = said(&[&host(&[]), &ours("Pipeline", "p", "{developmentEnvironments: [dev]}")]);
    assert!(twice.iter().any(|(_, object, reason)| object == "Pipeline p" && reason == "DuplicateObject"), "{twice:?}");
}

#[test]
fn what_is_wrong_is_told_with_the_line_of_its_field() {
    let mut manifests = Manifests::default();
    let pipeline = "# a pipeline\n---\napiVersion: pilotage.dev/v1alpha1\nkind: Pipeline\nmetadata:\n  name: p\nspec:\n  developmentEnvironments: [dev]\n";
    let stage = "---\napiVersion: pilotage.dev/v1alpha1\nkind: Stage\nmetadata: {name: a, namespace: h}\nspec:\n  pipeline: p\n  targetEnviroment: qa\n";
    manifests.add("all.yaml", &format!("{pipeline}{stage}"));
    let found = check(&manifests, "2026-01-01T00:00:00Z".parse().unwrap());
    let told: Vec<_> = found.iter().filter(|f| !f.field.is_empty()).map(|f| (f.field.as_str(), f.line, f.column)).collect();
    assert_eq!(told, [("metadata.namespace", 5, Some(1)), ("spec.targetEnvironment", 13, Some(1)), ("spec.targetEnviroment", 15, Some(3))]);
    let mut list = Manifests::default();
    list.add(
        "list.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: pilotage.dev/v1alpha1\n  kind: Pipline\n  metadata: {name: p}\n",
    );
    assert_eq!((list.documents[0].line, list.documents[0].begins), (4, 1));
}
