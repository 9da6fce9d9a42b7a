//! Whether a request may be carried out at all. If a check can never pass, the request is refused at once. If it can still pass, the
//! request waits until the accept time-out, and says for what.

use std::ops::ControlFlow::{self, Break, Continue};

use jiff::Timestamp;

use super::observed::{Observed, PipelineView, Place, SourceView, StageView, TargetView};
use super::sharing;
use super::step::{End, Ending, Progress, Step, Waiting};
use super::waiting::{SETTLING, gone_or_awaited, known, reached, refuse, since, wait};
use crate::api::GROUP;
use crate::api::artifact::Outcome;
use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::api::repository::{self, Repository};
use crate::cluster::errors;
use crate::cluster::object::Key;

/// The objects that an accepted request refers to.
pub(crate) struct Subject<'a> {
    pub(crate) pipeline: &'a PipelineView,
    pub(crate) stage: &'a StageView,
    /// The stage's target.
    pub(crate) target: &'a TargetView,
}

/// Checks everything that must hold.
pub(crate) fn accept(o: &Observed, now: Timestamp) -> ControlFlow<Step, Subject<'_>> {
    supported(o)?;
    let pipeline = pipeline(o, now)?;
    let stage = stage(o, now)?;
    let target = target(o, stage, now)?;
    if stage.previous.is_some() {
        previous_stage(o, stage, now)?;
    } else {
        source(o, pipeline, now)?;
    }
    version(o, pipeline, target)?;
    dependencies(o, target, now)?;
    Continue(Subject { pipeline, stage, target })
}

/// Refuses what the schema accepts and this version of Pilotage can't do yet. Nothing is ignored silently.
fn supported(o: &Observed) -> ControlFlow<Step> {
    let refuse = |reason: Reason, message: &str| Break(Ending::step(End::Failed, Progress::Acceptance, reason, message));
    if o.request.requester.is_none() {
        return refuse(
            Reason::RequesterUnknown,
            "spec.requestedBy is empty: the admission policies of Pilotage were not in force when the request was made. Install them and make a new request",
        );
    }
    if let Err(text) = &o.request.scheduled_time {
        return refuse(
            Reason::ScheduledTimeInvalid,
            &format!("spec.scheduledTime \"{text}\" is not a time of RFC 3339, for example 2026-12-01T06:00:00Z"),
        );
    }
    Continue(())
}

fn pipeline(o: &Observed, now: Timestamp) -> ControlFlow<Step, &PipelineView> {
    let name = &o.request.pipeline;
    let Some(pipeline) = known(&o.pipeline, Progress::Acceptance, "the pipeline")? else {
        return Break(gone_or_awaited(
            o,
            Reason::PipelineNotFound,
            &format!("pipeline {name} does not exist in host {}", o.request.host),
            now,
        ));
    };
    if pipeline.suspended && !o.request.plan_only {
        return Break(wait(
            o,
            Reason::PipelineSuspended,
            &format!("pipeline {name} is suspended (spec.suspend): an administrator stopped new deployments"),
            now,
        ));
    }
    if let Some(why) = &pipeline.not_ready {
        return Break(wait(o, Reason::PipelineNotReady, &format!("pipeline {name} is not ready: {why}"), now));
    }
    Continue(pipeline)
}

fn stage(o: &Observed, now: Timestamp) -> ControlFlow<Step, &StageView> {
    let name = &o.request.stage;
    let Some(stage) = known(&o.stage, Progress::Acceptance, "the stage")? else {
        return Break(gone_or_awaited(o, Reason::StageNotFound, &format!("stage {name} does not exist in host {}", o.request.host), now));
    };
    if stage.pipeline != o.request.pipeline {
        return Break(refuse(
            o,
            Reason::StageOfOtherPipeline,
            &format!(
                "stage {name} is part of pipeline {}, not of {}; make a new request that names the right one",
                stage.pipeline, o.request.pipeline
            ),
            now,
        ));
    }
    if let Some(message) = sharing::forbidden(name, stage, &o.request.share_with) {
        return Break(refuse(o, Reason::SharingNotAllowed, &message, now));
    }
    if let Some(why) = &stage.not_ready {
        return Break(wait(o, Reason::StageNotReady, &format!("stage {name} is not ready: {why}"), now));
    }
    Continue(stage)
}

fn target<'a>(o: &'a Observed, stage: &StageView, now: Timestamp) -> ControlFlow<Step, &'a TargetView> {
    let name = &stage.target_environment;
    let Some(target) = known(&o.target, Progress::Acceptance, "the target environment")? else {
        return Break(gone_or_awaited(
            o,
            Reason::EnvironmentNotFound,
            &format!("environment {name}, the target of stage {}, does not exist in host {}", o.request.stage, o.request.host),
            now,
        ));
    };
    match &target.not_ready {
        Some(why) => Break(wait(
            o,
            Reason::EnvironmentNotReady,
            &format!("environment {name}, the target of stage {}, is not ready: {why}", o.request.stage),
            now,
        )),
        None => Continue(target),
    }
}

/// First stages: the development environment and the Solution in it.
fn source(o: &Observed, pipeline: &PipelineView, now: Timestamp) -> ControlFlow<Step> {
    // If the version is exported already, it is not looked for in development again.
    if o.request.artifact_digest.is_some() {
        return Continue(());
    }
    if let Some(repository) = from_registry(o) {
        listed(o, pipeline, &repository, now)?;
        return if o.request.repository.is_some() { Continue(()) } else { nothing_developed(o, now) };
    }
    let name = match (&o.request.source_environment, pipeline.development_environments.as_slice()) {
        (Some(name), linked) if !linked.contains(name) => {
            return Break(refuse(
                o,
                Reason::SourceNotLinked,
                &format!(
                    "environment {name} is not a development environment of pipeline {} (it has: {}); make a new request that names one of these",
                    o.request.pipeline,
                    linked.join(", ")
                ),
                now,
            ));
        }
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, linked) => {
            return Break(refuse(
                o,
                Reason::SourceAmbiguous,
                &format!(
                    "pipeline {} has several development environments ({}); make a new request with spec.sourceEnvironment",
                    o.request.pipeline,
                    linked.join(", ")
                ),
                now,
            ));
        }
    };
    let Some(source) = known(&o.source, Progress::Acceptance, "the source environment")? else {
        return Break(gone_or_awaited(
            o,
            Reason::EnvironmentNotFound,
            &format!("development environment {name} does not exist in host {}", o.request.host),
            now,
        ));
    };
    if let Some(why) = &source.not_ready {
        return Break(wait(o, Reason::EnvironmentNotReady, &format!("development environment {name} is not ready: {why}"), now));
    }
    // The Solution may have moved on from a stored version.
    if o.artifact.present().is_some() {
        return Continue(());
    }
    solution(o, source, now)
}

/// The repository that a request of a first stage is about. The request names it, or the stored version came from it. The second case holds
/// only if the request names nothing and nobody develops that solution in the pipeline's own environments.
fn from_registry(o: &Observed) -> Option<Repository> {
    let stored = || {
        let source = o.artifact.present()?.registry_source.as_deref()?;
        repository::pinned(source).map(|(repository, _)| repository)
    };
    match &o.request.repository {
        // The schema accepts no other form.
        Some(url) => Some(Repository::parse(url).unwrap_or_else(|| Repository { registry: url.clone(), path: String::new() })),
        // If the solution is developed here, the request means that Solution.
        None if o.request.source_environment.is_none() && o.developed_in.is_empty() => stored(),
        None => None,
    }
}

/// A request that names nothing means a version stored from a registry only if nobody develops the solution. A Solution of the same
/// `kubectl apply` may still arrive, or may not be in the cache yet.
fn nothing_developed(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    let settled = o.request.created_at + SETTLING;
    if now < settled {
        let message = format!("names no source: waits until {settled} for a Solution {} that may come with it", o.request.solution);
        return Break(Waiting::watched(Progress::Acceptance, Reason::SourceNotNamed, message, Some(settled)));
    }
    if o.confirmed { Continue(()) } else { Break(Step::Confirm) }
}

/// The pipeline's administrator decides what the operator fetches, and with which credentials. Makers don't.
fn listed(o: &Observed, pipeline: &PipelineView, wanted: &Repository, now: Timestamp) -> ControlFlow<Step> {
    if repository::covering(pipeline.artifact_repositories.iter().map(String::as_str), wanted).is_some() {
        return Continue(());
    }
    let has = if pipeline.artifact_repositories.is_empty() { "none".to_owned() } else { pipeline.artifact_repositories.join(", ") };
    Break(refuse(
        o,
        Reason::RepositoryNotAllowed,
        &format!(
            "{wanted} is not, and not below, a repository that pipeline {} takes artifacts from (it has: {has}); nothing was asked there. Make a new request that names one of these, or let an administrator add it to spec.artifactRepositories",
            o.request.pipeline
        ),
        now,
    ))
}

fn solution(o: &Observed, source: &SourceView, now: Timestamp) -> ControlFlow<Step> {
    let name = &o.request.solution;
    let Some(solution) = known(&o.solution, Progress::Acceptance, "the solution")? else {
        return Break(gone_or_awaited(
            o,
            Reason::SolutionNotFound,
            &format!("solution {name} does not exist in development environment {} (namespace {})", source.name, source.namespace),
            now,
        ));
    };
    if solution.version == o.request.version {
        return Continue(());
    }
    Break(refuse(
        o,
        Reason::VersionDiffers,
        &format!(
            "solution {name} in development environment {} is at version {}, the request is for {}, which was never exported; set the Solution's spec.version, or ask for {}",
            source.name, solution.version, o.request.version, solution.version
        ),
        now,
    ))
}

/// Later stages: the previous stage succeeded with this very artifact. The artifact's own record proves it.
fn previous_stage(o: &Observed, stage: &StageView, now: Timestamp) -> ControlFlow<Step> {
    let Some(previous) = &stage.previous else { return Continue(()) };
    if let Some(name) = &o.request.source_environment {
        return Break(refuse(
            o,
            Reason::SourceNotAllowed,
            &format!(
                "stage {} comes after {}: it deploys what the first stage exported, not environment {name}; make a new request without sourceEnvironment",
                o.request.stage, previous.name
            ),
            now,
        ));
    }
    if let Some(url) = &o.request.repository {
        return Break(refuse(
            o,
            Reason::SourceNotAllowed,
            &format!(
                "stage {} comes after {}: it deploys what the first stage stored, not what is in {url}; make a new request without artifact",
                o.request.stage, previous.name
            ),
            now,
        ));
    }
    // What only plans is told of the order in its results, where there is something to plan.
    if o.request.plan_only && o.artifact.present().is_some() {
        return Continue(());
    }
    let Some(place) = &previous.place else {
        return Break(gone_or_awaited(
            o,
            Reason::PreviousStageNotFound,
            &format!("stage {}, which comes before {}, does not exist", previous.name, o.request.stage),
            now,
        ));
    };
    if o.artifact.present().is_some_and(|artifact| place.first_success(artifact).is_some()) {
        return Continue(());
    }
    let what = format!("{} {}", o.request.solution, o.request.version);
    if let Some(request) = o.previous_in_flight.as_ref().filter(|_| !o.request.plan_only) {
        // As long as that request takes. It ends at the latest by its own time-outs. Then this request goes on or is refused.
        return Break(Waiting::watched(
            reached(o),
            Reason::PreviousStageInProgress,
            format!(
                "{what} is on its way to stage {} with request {request}; it must succeed there first, and is waited for since {}",
                previous.name,
                since(o, Reason::PreviousStageInProgress, now)
            ),
            None,
        ));
    }
    let first = format!("ask for a deployment to {} first, then make a new request", previous.name);
    let message = match succeeded_elsewhere(o, place) {
        Some(elsewhere) => format!("{what} succeeded in stage {} when {elsewhere}; {first}", previous.name),
        None => format!("{what} has not succeeded in stage {}, which comes before {}; {first}", previous.name, o.request.stage),
    };
    Break(refuse(o, Reason::PreviousStageNotSucceeded, &message, now))
}

/// What a plan tells of the order: a deployment would be refused as long as the previous stage has not had the version.
pub(crate) fn order_told(o: &Observed) -> Option<PlanResult> {
    let previous = o.stage.present()?.previous.as_ref().filter(|_| o.request.plan_only)?;
    let has_succeeded =
        previous.place.as_ref().zip(o.artifact.present()).is_some_and(|(place, artifact)| place.first_success(artifact).is_some());
    let message = format!(
        "{} {} has not succeeded in stage {}, which comes before {}: a deployment is refused until it has",
        o.request.solution, o.request.version, previous.name, o.request.stage
    );
    let key = Key { group: GROUP.into(), kind: "Stage".into(), name: previous.name.clone() };
    (!has_succeeded).then(|| errors::result(&key, Reason::PreviousStageNotSucceeded, &message))
}

/// Why the success in a stage of the same name does not count for the stage as it is now.
fn succeeded_elsewhere(o: &Observed, place: &Place) -> Option<String> {
    let records = &o.artifact.present()?.deployments;
    let last = records.iter().rfind(|d| d.outcome == Outcome::Succeeded && d.stage == place.stage)?;
    Some(if last.pipeline == place.pipeline {
        let cluster = |name: &Option<String>| name.as_ref().map_or(String::new(), |name| format!(" of cluster {name}"));
        format!(
            "that led to environment {}, a namespace with the uid {}{}; it leads to environment {} now, a namespace with the uid {}{} (request {})",
            last.environment,
            last.environment_id,
            cluster(&last.cluster),
            place.environment,
            place.environment_id,
            cluster(&place.cluster),
            last.request
        )
    } else {
        format!("that was a stage of pipeline {} (request {})", last.pipeline, last.request)
    })
}

/// The version must be higher than the one that runs, unless the pipeline allows others.
fn version(o: &Observed, pipeline: &PipelineView, target: &TargetView) -> ControlFlow<Step> {
    // Later, an overtaken version is `Superseded`.
    if pipeline.allow_redeployments || o.request.plan_hash.is_some() {
        return Continue(());
    }
    match &target.current {
        // If a later deployment failed and was left, a request for the version on record restores it.
        Some(current) if current.version == o.request.version && target.failed.is_some() => Continue(()),
        Some(current) if current.version >= o.request.version => Break(Ending::step(
            End::Failed,
            Progress::Acceptance,
            Reason::VersionNotHigher,
            format!(
                "stage {} runs {} {} (request {}); {} is not higher. Raise the version, or let an administrator set allowRedeployments on pipeline {}",
                o.request.stage, o.request.solution, current.version, current.request, o.request.version, o.request.pipeline
            ),
        )),
        _ => Continue(()),
    }
}

fn dependencies(o: &Observed, target: &TargetView, now: Timestamp) -> ControlFlow<Step> {
    if target.missing_dependencies.is_empty() {
        return Continue(());
    }
    let missing = target.missing_dependencies.join("; ");
    let message = format!("solutions that {} depends on do not run in the target: {missing}", o.request.solution);
    // A request that is not accepted itself delays no other. So two requests that wait for each other both end.
    if let Some(request) = o.dependency_in_flight.as_ref().filter(|_| o.request.plan_hash.is_none() && !o.request.plan_only) {
        let message = format!(
            "{message}. Request {request} brings one of them, and is waited for since {}",
            since(o, Reason::DependencyMissing, now)
        );
        return Break(Waiting::watched(reached(o), Reason::DependencyMissing, message, None));
    }
    Break(wait(o, Reason::DependencyMissing, &message, now))
}
