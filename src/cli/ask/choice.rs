//! Which stage a deployment is for: the one that is named, or the only one that can be next.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::api::reason::Reason;
use crate::api::solution_stages::SolutionStage;
use crate::api::stage::Window;
use crate::api::{GROUP, Solution};
use crate::cli::exit::Exit;
use crate::policy::windows::{self, Opening};

/// A stage, and the version for it.
#[derive(Debug)]
pub struct Choice {
    /// The stage as the Solution's status tells of it.
    pub stage: SolutionStage,
    /// The version.
    pub version: String,
}

/// How something is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Nothing is to be deployed.
    pub dry_run: bool,
    /// It comes from a registry, and so to a first stage.
    pub from_registry: bool,
}

/// Chooses among the stages that the Solution's status tells of.
///
/// # Errors
/// If there is none, if there are several, or if something stands in the way that no wait takes away.
pub async fn choose(client: &Client, solution: &Solution, to: Option<&str>, version: Option<&str>, how: How) -> anyhow::Result<Choice> {
    let all = solution.status.as_ref().map(|s| s.stages.as_slice()).unwrap_or_default();
    let named: Vec<&SolutionStage> = all.iter().filter(|stage| to.is_none_or(|to| is_named(stage, to))).collect();
    if all.is_empty() {
        return Err(Exit::NotFound.because(format!("Solution {} can't be asked for: {}", solution.name_any(), why_none(solution))));
    }
    if named.is_empty() {
        let known: Vec<String> = all.iter().map(|stage| flag(stage, all)).collect();
        let to = to.unwrap_or_default();
        return Err(Exit::NotFound.because(format!("there is no stage {to} that {} can go to: {}", solution.name_any(), known.join(", "))));
    }
    let mut allowed = Vec::new();
    for stage in &named {
        if may_deploy(client, stage).await? {
            allowed.push(*stage);
        }
    }
    if let (true, [first, ..]) = (allowed.is_empty(), &named[..]) {
        return Err(Exit::NotAllowed.because(format!(
            "pipeline {} of host {} is not shared with you, but with {}: ask its administrator",
            first.pipeline, first.host, first.shared_with
        )));
    }
    if let (true, [named]) = (how.from_registry, &allowed[..])
        && let Some(previous) = &named.previous_stage
    {
        return Err(Exit::Usage.because(format!(
            "what comes from a registry goes to a first stage, and stage {} comes after {previous}: leave out --artifact once it has succeeded there",
            named.stage
        )));
    }
    let stage = if let ([only], Some(_)) = (&allowed[..], to) { only } else { next_of(solution, &allowed, all, version, how)? };
    let Some(version) = version.map(str::to_owned).or_else(|| stage.next.clone()) else {
        return Err(Exit::Failed.because(format!("{}. With --version another one is asked for", told(stage))));
    };
    let already = stage.obstacles.iter().find(|o| o.reason == Reason::RequestedAlready && stage.next.as_ref() == Some(&version));
    match already {
        Some(already) if !how.dry_run => Err(Exit::Failed.because(already.message.clone())),
        _ => Ok(Choice { stage: stage.clone(), version }),
    }
}

/// The only stage that can be next.
fn next_of<'a>(
    solution: &Solution,
    allowed: &[&'a SolutionStage],
    all: &[SolutionStage],
    version: Option<&str>,
    how: How,
) -> anyhow::Result<&'a SolutionStage> {
    let is_next = |stage: &SolutionStage| if how.from_registry { stage.previous_stage.is_none() } else { is_next(stage, version) };
    let is_asked = |stage: &SolutionStage| stage.obstacles.iter().any(|o| o.reason == Reason::RequestedAlready) && !how.from_registry;
    let next: Vec<&SolutionStage> = allowed.iter().copied().filter(|stage| is_next(stage)).collect();
    let free: Vec<&SolutionStage> = next.iter().copied().filter(|stage| !is_asked(stage)).collect();
    match (&free[..], &next[..]) {
        ([only], _) | ([], [only]) => Ok(only),
        ([], []) => {
            let why: Vec<String> = allowed.iter().map(|stage| format!("\n  {}", told(stage))).collect();
            Err(Exit::Failed.because(format!(
                "nothing can be next for {}{}:{}",
                solution.name_any(),
                version.map(|version| format!(" {version}")).unwrap_or_default(),
                why.concat()
            )))
        }
        (several, _) => {
            let several = if several.is_empty() { &next } else { several };
            let each = several.iter().map(|stage| {
                let next = version.filter(|_| how.from_registry).or(stage.next.as_deref()).unwrap_or_default();
                format!("\n  --to {}  ({next}, pipeline {} of host {})", flag(stage, all), stage.pipeline, stage.host)
            });
            Err(Exit::Usage.because(format!("several stages can be next, name one of them:{}", each.collect::<String>())))
        }
    }
}

fn is_next(stage: &SolutionStage, version: Option<&str>) -> bool {
    stage.next.as_deref().is_some_and(|next| version.is_none_or(|version| version == next))
}

fn is_named(stage: &SolutionStage, to: &str) -> bool {
    match to.split_once('/') {
        Some((host, name)) => stage.host == host && stage.stage == name,
        None => stage.stage == to,
    }
}

/// How a stage is named: with its host only if that is needed.
fn flag(stage: &SolutionStage, all: &[SolutionStage]) -> String {
    let is_ambiguous = all.iter().filter(|other| other.stage == stage.stage).count() > 1;
    if is_ambiguous { format!("{}/{}", stage.host, stage.stage) } else { stage.stage.clone() }
}

/// Why nothing can be asked for in a stage.
fn told(stage: &SolutionStage) -> String {
    let why: Vec<&str> = stage.obstacles.iter().map(|o| o.message.as_str()).collect();
    format!("stage {}: {}", stage.stage, if why.is_empty() { "another version can be next".to_owned() } else { why.join("; ") })
}

/// Why the status tells of no stage.
fn why_none(solution: &Solution) -> String {
    let conditions = solution.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let ready = crate::api::condition::find(conditions, crate::api::condition::READY);
    ready.map_or_else(|| "its status tells of no stage".to_owned(), |ready| ready.message.clone())
}

/// Whether the caller may ask for deployments through the stage's pipeline. Everybody may ask that about themselves.
async fn may_deploy(client: &Client, stage: &SolutionStage) -> anyhow::Result<bool> {
    let attributes = ResourceAttributes {
        group: Some(GROUP.into()),
        resource: Some("pipelines".into()),
        verb: Some("deploy".into()),
        name: Some(stage.pipeline.clone()),
        namespace: Some(stage.host.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let answer =
        answer.with_context(|| format!("asking whether you may deploy through pipeline {} of host {}", stage.pipeline, stage.host))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// What a request for the stage will wait for, whoever approves it.
pub fn waits(stage: &SolutionStage, now: Timestamp) -> Vec<String> {
    let soaks = stage.soaked_at.filter(|at| now < *at).map(|at| {
        format!(
            "it will wait until {at}, for the soak time since the success in stage {}",
            stage.previous_stage.as_deref().unwrap_or_default()
        )
    });
    let windows: Vec<Window> = stage.windows.iter().cloned().map(Window::from).collect();
    let closed = match windows::opening(&windows, now) {
        Ok(Opening::Closed { until, schedule }) => {
            let until = until.map_or_else(|| "a window opens".to_owned(), |at| at.to_string());
            Some(format!(
                "it will wait until {until}: the windows of stage {} (schedule \"{schedule}\") let nothing start now",
                stage.stage
            ))
        }
        Ok(Opening::Open) | Err(_) => None,
    };
    soaks.into_iter().chain(closed).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stage(host: &str, name: &str, next: Option<&str>, reason: Option<&str>) -> SolutionStage {
        let obstacles: Vec<_> =
            reason.into_iter().map(|reason| json!({"reason": reason, "message": format!("{name} is in the way")})).collect();
        serde_json::from_value(json!({"host": host, "stage": name, "pipeline": "standard", "order": 1, "sharedWith": "Group makers",
            "next": next, "obstacles": obstacles}))
        .unwrap()
    }

    fn solution() -> Solution {
        serde_json::from_value(json!({"metadata": {"name": "orders"}, "spec": {"version": "1.1.0"}})).unwrap()
    }

    fn chosen(all: &[SolutionStage], version: Option<&str>) -> Result<String, String> {
        let allowed: Vec<&SolutionStage> = all.iter().collect();
        let found = next_of(&solution(), &allowed, all, version, How::default());
        found.map(|stage| stage.stage.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_stage_that_can_be_next_is_meant_and_one_that_was_asked_for_only_if_there_is_no_other() {
        let (qa, prod) = (stage("h", "qa", Some("1.1.0"), None), stage("h", "prod", Some("1.0.0"), None));
        let asked = stage("h", "qa", Some("1.1.0"), Some("RequestedAlready"));
        assert_eq!(chosen(&[qa.clone(), stage("h", "prod", None, Some("VersionNotHigher"))], None).unwrap(), "qa");
        assert_eq!(chosen(&[qa.clone(), prod.clone()], Some("1.0.0")).unwrap(), "prod");
        assert_eq!(chosen(&[asked.clone(), prod.clone()], None).unwrap(), "prod");
        assert_eq!(chosen(&[asked], None).unwrap(), "qa");
        let said = chosen(&[qa, prod], None).unwrap_err();
        assert!(said.contains("--to qa  (1.1.0, pipeline standard of host h)\n  --to prod  (1.0.0"), "{said}");
    }

    #[test]
    fn what_comes_from_a_registry_goes_to_a_first_stage_whatever_is_in_development() {
        let (qa, mut prod) = (stage("h", "qa", None, Some("VersionNotHigher")), stage("h", "prod", Some("1.0.0"), None));
        prod.previous_stage = Some("qa".into());
        let from_registry = How { from_registry: true, ..How::default() };
        let found = next_of(&solution(), &[&qa, &prod], &[qa.clone(), prod.clone()], Some("2.0.0"), from_registry).unwrap();
        assert_eq!(found.stage, "qa");
    }

    #[test]
    fn where_nothing_can_be_next_each_stage_says_why() {
        let said = chosen(&[stage("h", "qa", None, Some("VersionNotHigher")), stage("h", "prod", Some("1.0.0"), None)], Some("9.9.9"))
            .unwrap_err();
        assert!(said.contains("nothing can be next for orders 9.9.9") && said.contains("stage qa: qa is in the way"), "{said}");
        assert!(said.contains("stage prod: another version can be next"), "{said}");
    }

    #[test]
    fn a_stage_is_named_with_its_host_where_there_are_several() {
        let all = [stage("a", "qa", None, None), stage("b", "qa", None, None), stage("b", "prod", None, None)];
        assert_eq!(all.iter().map(|one| flag(one, &all)).collect::<Vec<_>>(), ["a/qa", "b/qa", "prod"]);
        assert!(is_named(&all[1], "b/qa") && !is_named(&all[0], "b/qa") && is_named(&all[0], "qa"));
    }

    #[test]
    fn closed_windows_and_soak_times_are_told_before_asking() {
        let mut stage = stage("h", "prod", Some("1.0.0"), None);
        stage.windows = serde_json::from_value(json!([{"type": "Deny", "schedule": "0 0 * * *", "duration": "24h"}])).unwrap();
        stage.soaked_at = Some("2026-12-01T06:00:00Z".parse().unwrap());
        let said = waits(&stage, "2026-12-01T05:00:00Z".parse().unwrap());
        assert!(said.len() == 2 && said[0].contains("2026-12-01T06:00:00Z") && said[1].contains("windows of stage prod"), "{said:?}");
    }
}
