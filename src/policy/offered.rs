//! What can be asked for from a Solution's namespace: the stages that it can go to, which version may be asked for next in each, and what
//! stands in the way. Readers of that namespace see all of this. So it tells of stages and of this solution, and of no other.

use std::time::Duration;

use jiff::Timestamp;
use semver::Version;

use super::check::{self, Failure, Good, Remedy};
use super::clock;
use crate::api::bounds;
use crate::api::condition::Observation;
use crate::api::phase::Phase;
use crate::api::reason::Reason;
use crate::api::reference::{Subject, SubjectKind};
use crate::api::solution::SolutionDeployment;
use crate::api::solution_stages::{MAX_OBSTACLE, MAX_SHARED_WITH, MOST_STAGES, SolutionStage, StageObstacle, StageWindow};
use crate::text;

/// A stage of a pipeline that the namespace feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) host: String,
    pub(crate) pipeline: String,
    pub(crate) stage: String,
    /// Its place in the pipeline, from 1.
    pub(crate) order: i32,
    /// First stages: the host's name for the namespace. Later stages: the stage before.
    pub(crate) after: After,
    /// With whom the pipeline is shared.
    pub(crate) shared_with: String,
    /// Why the pipeline is not ready, in one word.
    pub(crate) pipeline_not_ready: Option<String>,
    /// Whether the pipeline is suspended.
    pub(crate) suspended: bool,
    /// Why the stage is not ready, in one word.
    pub(crate) stage_not_ready: Option<String>,
    /// Whether a version that is not higher may be deployed.
    pub(crate) allow_redeployments: bool,
    pub(crate) windows: Vec<StageWindow>,
    /// The least time since the success in the stage before.
    pub(crate) soak: Duration,
    /// What runs there.
    pub(crate) current: Option<Current>,
}

/// What comes before a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Development: the name of its Environment.
    Development { environment: String },
    /// Another stage, and the version that succeeded there and runs there now, with when it first succeeded.
    Stage { name: String, has: Option<(String, Timestamp)> },
}

/// What runs in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) version: String,
    /// Whether a later deployment failed and was left.
    pub(crate) failed: bool,
}

/// Says of each stage what may be asked for. `version` is the one in development, `deployments` what the status says about requests.
pub(crate) fn stages(offers: &[Offer], version: &str, deployments: &[SolutionDeployment]) -> Vec<SolutionStage> {
    offers.iter().map(|offer| stage(offer, version, deployments)).collect()
}

fn stage(offer: &Offer, version: &str, deployments: &[SolutionDeployment]) -> SolutionStage {
    let (previous_stage, source_environment, wanted, first_success) = match &offer.after {
        After::Development { environment } => (None, Some(environment.clone()), Some(version), None),
        After::Stage { name, has } => {
            (Some(name.clone()), None, has.as_ref().map(|(version, _)| version.as_str()), has.as_ref().map(|(_, at)| *at))
        }
    };
    let mut obstacles = of_pipeline(offer);
    let next = match wanted {
        None => {
            let previous = previous_stage.as_deref().unwrap_or_default();
            obstacles.push(obstacle(
                Reason::PreviousStageNotSucceeded,
                &format!("no version has succeeded in stage {previous} and runs there: ask for a deployment to {previous} first"),
            ));
            None
        }
        Some(wanted) => match not_higher(offer, wanted) {
            Some(why) => {
                obstacles.push(why);
                None
            }
            None => Some(wanted.to_owned()),
        },
    };
    if let Some(next) = &next {
        obstacles.extend(asked_for(offer, next, deployments));
    }
    let soaked_at = first_success.filter(|_| next.is_some() && offer.soak > Duration::ZERO).map(|at| clock::after(at, offer.soak));
    SolutionStage {
        host: offer.host.clone(),
        stage: offer.stage.clone(),
        pipeline: offer.pipeline.clone(),
        order: offer.order,
        previous_stage,
        source_environment,
        shared_with: offer.shared_with.clone(),
        next,
        obstacles,
        windows: offer.windows.clone(),
        soaked_at,
    }
}

/// What stands in the way whatever the version is. Messages of conditions may name what concerns the host alone, so only reasons are told.
fn of_pipeline(offer: &Offer) -> Vec<StageObstacle> {
    let Offer { pipeline, stage, host, .. } = offer;
    let mut obstacles = Vec::new();
    if let Some(why) = &offer.pipeline_not_ready {
        let message =
            format!("pipeline {pipeline} of host {host} is not ready ({why}): its administrator sees what to do in its condition Ready");
        obstacles.push(obstacle(Reason::PipelineNotReady, &message));
    }
    if offer.suspended {
        let message = format!("pipeline {pipeline} of host {host} is suspended: an administrator stopped new deployments");
        obstacles.push(obstacle(Reason::PipelineSuspended, &message));
    }
    if let Some(why) = &offer.stage_not_ready {
        let message = format!("stage {stage} of host {host} is not ready ({why}): its owner sees what to do in its condition Ready");
        obstacles.push(obstacle(Reason::StageNotReady, &message));
    }
    obstacles
}

/// Why the version may not replace the one that runs. The same rule accepts requests.
fn not_higher(offer: &Offer, wanted: &str) -> Option<StageObstacle> {
    let current = offer.current.as_ref().filter(|_| !offer.allow_redeployments)?;
    let (there, version) = (Version::parse(&current.version).ok()?, Version::parse(wanted).ok()?);
    if version > there || (version == there && current.failed) {
        return None;
    }
    let what = match &offer.after {
        After::Development { .. } => format!("development has {wanted}; raise the Solution's spec.version to ship a change"),
        After::Stage { name, .. } => format!("stage {name} has {wanted}; deploy a higher version there first"),
    };
    Some(obstacle(Reason::VersionNotHigher, &format!("stage {} runs {}, and {what}", offer.stage, current.version)))
}

/// A request for that version that has not ended, as far as the status tells of it.
fn asked_for(offer: &Offer, version: &str, deployments: &[SolutionDeployment]) -> Option<StageObstacle> {
    let entry = deployments.iter().find(|d| d.host == offer.host && d.stage == offer.stage)?;
    let first = (&entry.version, &entry.phase, &entry.request, &entry.requester, entry.never_accepted);
    let others = entry.others.iter().map(|o| (&o.version, &o.phase, &o.request, &o.requester, o.never_accepted));
    let is_open = |(asked, phase, _, _, never_accepted): &(&String, &String, &String, &String, bool)| {
        *asked == version && !Phase::has_ended(phase) && !never_accepted
    };
    let (_, phase, request, requester, _) = std::iter::once(first).chain(others).find(is_open)?;
    Some(obstacle(
        Reason::RequestedAlready,
        &format!("request {request} of {requester} asks for {version} already ({phase}): follow it here, or have it withdrawn"),
    ))
}

fn obstacle(reason: Reason, message: &str) -> StageObstacle {
    StageObstacle { reason: reason.into(), message: bounds::text(&text::line(message), MAX_OBSTACLE) }
}

/// Who may ask for deployments, in one line.
pub(crate) fn shared_with(subjects: &[Subject]) -> String {
    let named = |subject: &Subject| match (subject.kind, &subject.namespace) {
        (SubjectKind::ServiceAccount, Some(namespace)) => format!("ServiceAccount {namespace}/{}", subject.name),
        (kind, _) => format!("{kind:?} {}", subject.name),
    };
    bounds::text(&text::line(&subjects.iter().map(named).collect::<Vec<_>>().join(", ")), MAX_SHARED_WITH)
}

/// Puts stages in their order, and drops those that there is no room for: the last of those that nothing may be asked for in, then the last.
/// Returns how many.
pub(crate) fn bound(stages: &mut Vec<SolutionStage>) -> i32 {
    stages.sort_by(|a, b| (&a.host, &a.pipeline, a.order, &a.stage).cmp(&(&b.host, &b.pipeline, b.order, &b.stage)));
    let mut dropped = 0;
    while stages.len() > MOST_STAGES {
        let index = stages.iter().rposition(|stage| stage.next.is_none()).unwrap_or(stages.len() - 1);
        stages.remove(index);
        dropped += 1;
    }
    dropped
}

/// `Ready` of a Solution: whether there is a pipeline that it can be asked for through.
pub(crate) fn ready(stages: &[SolutionStage], namespace: &str) -> Vec<Observation> {
    let is_usable = |stage: &&SolutionStage| stage.obstacles.iter().all(|o| o.reason != Reason::PipelineNotReady);
    let mut usable: Vec<String> = stages.iter().filter(is_usable).map(|s| format!("{} of host {}", s.pipeline, s.host)).collect();
    usable.dedup();
    let outcome = if !usable.is_empty() {
        Ok(Good { reason: Reason::Ready, message: format!("can be asked for through pipeline {}; see status.stages", usable.join(", ")) })
    } else if let Some(first) = stages.first() {
        let message = first.obstacles.iter().find(|o| o.reason == Reason::PipelineNotReady).map(|o| o.message.clone());
        Err(Failure { reason: Reason::PipelineNotReady, message: message.unwrap_or_default(), remedy: Remedy::Watched })
    } else {
        Err(Failure {
            reason: Reason::NoPipeline,
            message: format!(
                "no pipeline that is shared with somebody and has a stage takes solutions from namespace {namespace}: have an administrator link its \
                 Environment to a pipeline (spec.developmentEnvironments), and share that (spec.sharedWith)"
            ),
            remedy: Remedy::Watched,
        })
    };
    check::summary(&outcome)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn qa() -> Offer {
        Offer {
            host: "host".into(),
            pipeline: "standard".into(),
            stage: "qa".into(),
            order: 1,
            after: After::Development { environment: "dev".into() },
            shared_with: "Group makers".into(),
            pipeline_not_ready: None,
            suspended: false,
            stage_not_ready: None,
            allow_redeployments: false,
            windows: Vec::new(),
            soak: Duration::ZERO,
            current: None,
        }
    }

    fn prod(has: Option<&str>) -> Offer {
        let has = has.map(|version| (version.to_owned(), at(100)));
        Offer { stage: "prod".into(), order: 2, after: After::Stage { name: "qa".into(), has }, soak: Duration::from_mins(1), ..qa() }
    }

    fn runs(version: &str, failed: bool) -> Current {
        Current { version: version.into(), failed }
    }

    fn reasons(stage: &SolutionStage) -> Vec<&str> {
        stage.obstacles.iter().map(|o| o.reason.as_str()).collect()
    }

    fn only(offer: Offer) -> SolutionStage {
        stages(&[offer], "1.4.0", &[]).remove(0)
    }

    #[test]
    fn a_first_stage_takes_what_is_in_development_and_a_later_one_what_the_stage_before_has() {
        let told = stages(&[qa(), prod(Some("1.3.0"))], "1.4.0", &[]);
        assert_eq!((told[0].next.as_deref(), told[0].source_environment.as_deref()), (Some("1.4.0"), Some("dev")));
        assert_eq!((told[1].next.as_deref(), told[1].previous_stage.as_deref()), (Some("1.3.0"), Some("qa")));
        assert_eq!(told[1].soaked_at, Some(at(160)));
        assert!(told.iter().all(|stage| stage.obstacles.is_empty()), "{told:?}");
        let waits = only(prod(None));
        assert_eq!((waits.next.as_deref(), reasons(&waits)), (None, vec!["PreviousStageNotSucceeded"]));
    }

    #[test]
    fn what_is_not_higher_is_not_offered_unless_that_is_allowed_or_the_last_one_failed() {
        let told = only(Offer { current: Some(runs("1.4.0", false)), ..qa() });
        assert_eq!((told.next.as_deref(), reasons(&told)), (None, vec!["VersionNotHigher"]));
        assert!(told.obstacles[0].message.contains("raise the Solution's spec.version"), "{:?}", told.obstacles);
        for offered in [
            Offer { current: Some(runs("1.4.0", true)), ..qa() },
            Offer { current: Some(runs("1.5.0", false)), allow_redeployments: true, ..qa() },
            Offer { current: Some(runs("1.3.9", false)), ..qa() },
        ] {
            assert_eq!(only(offered).next.as_deref(), Some("1.4.0"));
        }
    }

    #[test]
    fn all_that_stands_in_the_way_is_told_by_its_reason_alone() {
        let told = only(Offer {
            pipeline_not_ready: Some("StageCycle".into()),
            suspended: true,
            stage_not_ready: Some("TargetChanged".into()),
            ..qa()
        });
        assert_eq!(reasons(&told), ["PipelineNotReady", "PipelineSuspended", "StageNotReady"]);
        assert!(told.obstacles[2].message.starts_with("stage qa of host host is not ready (TargetChanged):"));
    }

    #[test]
    fn a_request_that_asks_for_the_same_is_named_until_it_ends() {
        let entry = |version: &str, phase: &str| -> SolutionDeployment {
            serde_json::from_value(
                json!({"host": "host", "stage": "qa", "pipeline": "standard", "version": version, "phase": phase, "request": "r1",
                "requestUID": "u", "requester": "dana", "at": "2026-01-01T00:00:00Z"}),
            )
            .unwrap()
        };
        let told = |entry| reasons(&stages(&[qa()], "1.4.0", &[entry])[0]).len();
        assert_eq!(told(entry("1.4.0", "AwaitingApproval")), 1);
        assert_eq!((told(entry("1.4.0", "Rejected")), told(entry("1.3.0", "AwaitingApproval"))), (0, 0));
    }

    #[test]
    fn a_solution_is_ready_where_one_pipeline_takes_it() {
        let told = |offers: &[Offer]| {
            let summary = ready(&stages(offers, "1.4.0", &[]), "dev");
            let ready = summary.iter().find(|o| o.type_ == check::READY).unwrap();
            (format!("{:?}", ready.status), ready.reason.to_string())
        };
        let broken = || Offer { pipeline: "broken".into(), pipeline_not_ready: Some("NoStages".into()), ..qa() };
        assert_eq!(told(&[]), ("False".into(), "NoPipeline".into()));
        assert_eq!(told(&[broken()]), ("False".into(), "PipelineNotReady".into()));
        assert_eq!(told(&[broken(), qa()]), ("True".into(), "Ready".into()));
    }

    #[test]
    fn one_stage_more_than_there_is_room_for_drops_one_that_nothing_may_be_asked_for_in() {
        let offer = |number: i32| Offer { stage: format!("s{number:03}"), order: number, ..qa() };
        let mut offers: Vec<Offer> = (0..i32::try_from(MOST_STAGES).unwrap()).map(offer).collect();
        offers.push(Offer { after: After::Stage { name: "x".into(), has: None }, ..offer(0) });
        offers.last_mut().unwrap().stage = "later".into();
        let mut told = stages(&offers, "1.4.0", &[]);
        assert_eq!(bound(&mut told), 1);
        assert!(told.len() == MOST_STAGES && told.iter().all(|s| s.stage != "later"));
    }
}
