//! Whether a request may be carried out at all. If a check can never pass, the request is refused at once. If it can still pass, the
//! request waits until the accept time-out, and says for what.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::known;
use super::observed::{Observed, Obstacle, PipelineView, Place, SourceView, StageView, TargetView};
use super::sharing;
use super::step::{End, Ending, Progress, Step, Waiting};
use crate::api::artifact::Outcome;
use crate::api::repository::{self, Repository};
use crate::policy::clock;

/// For this long after a request's creation, refusals wait for other objects of the same `kubectl apply`.
const SETTLING: Duration = Duration::from_secs(2);
/// How often, first and later, the operator checks again for missing things that it can't watch: rights, registries, other clusters.
const ASKED_AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// The objects that an accepted request refers to.
pub struct Subject<'a> {
    /// Its pipeline.
    pub pipeline: &'a PipelineView,
    /// Its stage.
    pub stage: &'a StageView,
    /// The stage's target.
    pub target: &'a TargetView,
}

/// Checks everything that must hold.
pub fn accept(o: &Observed, now: Timestamp) -> Result<Subject<'_>, Step> {
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
    Ok(Subject { pipeline, stage, target })
}

/// Refuses what the schema accepts and this version of Pilotage can't do yet. Nothing is ignored silently.
fn supported(o: &Observed) -> Result<(), Step> {
    let refuse = |reason: &str, message: &str| Err(Ending::step(End::Failed, Progress::Acceptance, reason, message));
    if o.request.requester.is_none() {
        return refuse(
            "RequesterUnknown",
            "spec.requestedBy is empty: the admission policies of Pilotage were not in force when the request was made. Install them and make a new request",
        );
    }
    if let Err(text) = &o.request.scheduled_time {
        return refuse(
            "ScheduledTimeInvalid",
            &format!("spec.scheduledTime \"{text}\" is not a time of RFC 3339, for example 2026-12-01T06:00:00Z"),
        );
    }
    Ok(())
}

fn pipeline(o: &Observed, now: Timestamp) -> Result<&PipelineView, Step> {
    let name = &o.request.pipeline;
    let Some(pipeline) = known(&o.pipeline, Progress::Acceptance, "the pipeline")? else {
        return Err(gone_or_awaited(o, "PipelineNotFound", &format!("pipeline {name} does not exist in host {}", o.request.host), now));
    };
    if pipeline.suspended {
        return Err(wait(
            o,
            "PipelineSuspended",
            &format!("pipeline {name} is suspended (spec.suspend): an administrator stopped new deployments"),
            now,
        ));
    }
    if let Some(why) = &pipeline.not_ready {
        return Err(wait(o, "PipelineNotReady", &format!("pipeline {name} is not ready: {why}"), now));
    }
    Ok(pipeline)
}

fn stage(o: &Observed, now: Timestamp) -> Result<&StageView, Step> {
    let name = &o.request.stage;
    let Some(stage) = known(&o.stage, Progress::Acceptance, "the stage")? else {
        return Err(gone_or_awaited(o, "StageNotFound", &format!("stage {name} does not exist in host {}", o.request.host), now));
    };
    if stage.pipeline != o.request.pipeline {
        return Err(refuse(
            o,
            "StageOfOtherPipeline",
            &format!(
                "stage {name} is part of pipeline {}, not of {}; make a new request that names the right one",
                stage.pipeline, o.request.pipeline
            ),
            now,
        ));
    }
    if let Some(message) = sharing::forbidden(name, stage, &o.request.share_with) {
        return Err(refuse(o, "SharingNotAllowed", &message, now));
    }
    if let Some(why) = &stage.not_ready {
        return Err(wait(o, "StageNotReady", &format!("stage {name} is not ready: {why}"), now));
    }
    Ok(stage)
}

fn target<'a>(o: &'a Observed, stage: &StageView, now: Timestamp) -> Result<&'a TargetView, Step> {
    let name = &stage.target_environment;
    let Some(target) = known(&o.target, Progress::Acceptance, "the target environment")? else {
        return Err(gone_or_awaited(
            o,
            "EnvironmentNotFound",
            &format!("environment {name}, the target of stage {}, does not exist in host {}", o.request.stage, o.request.host),
            now,
        ));
    };
    match &target.not_ready {
        Some(why) => Err(wait(
            o,
            "EnvironmentNotReady",
            &format!("environment {name}, the target of stage {}, is not ready: {why}", o.request.stage),
            now,
        )),
        None => Ok(target),
    }
}

/// First stages: the development environment and the Solution in it.
fn source(o: &Observed, pipeline: &PipelineView, now: Timestamp) -> Result<(), Step> {
    // If the version is exported already, it is not looked for in development again.
    if o.request.artifact_digest.is_some() {
        return Ok(());
    }
    if let Some(repository) = from_registry(o) {
        listed(o, pipeline, &repository, now)?;
        return if o.request.repository.is_some() { Ok(()) } else { nothing_developed(o, now) };
    }
    let name = match (&o.request.source_environment, pipeline.development_environments.as_slice()) {
        (Some(name), linked) if !linked.contains(name) => {
            return Err(refuse(
                o,
                "SourceNotLinked",
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
            return Err(refuse(
                o,
                "SourceAmbiguous",
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
        return Err(gone_or_awaited(
            o,
            "EnvironmentNotFound",
            &format!("development environment {name} does not exist in host {}", o.request.host),
            now,
        ));
    };
    if let Some(why) = &source.not_ready {
        return Err(wait(o, "EnvironmentNotReady", &format!("development environment {name} is not ready: {why}"), now));
    }
    // The Solution may have moved on from a stored version.
    if o.artifact.present().is_some() {
        return Ok(());
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
fn nothing_developed(o: &Observed, now: Timestamp) -> Result<(), Step> {
    let settled = o.request.created_at + SETTLING;
    if now < settled {
        let message = format!("names no source: waits until {settled} for a Solution {} that may come with it", o.request.solution);
        return Err(Waiting::watched(Progress::Acceptance, "SourceNotNamed", message, Some(settled)));
    }
    if o.confirmed { Ok(()) } else { Err(Step::Confirm) }
}

/// The pipeline's administrator decides what the operator fetches, and with which credentials. Makers don't.
fn listed(o: &Observed, pipeline: &PipelineView, wanted: &Repository, now: Timestamp) -> Result<(), Step> {
    if repository::covering(pipeline.artifact_repositories.iter().map(String::as_str), wanted).is_some() {
        return Ok(());
    }
    let has = if pipeline.artifact_repositories.is_empty() { "none".to_owned() } else { pipeline.artifact_repositories.join(", ") };
    Err(refuse(
        o,
        "RepositoryNotAllowed",
        &format!(
            "{wanted} is not, and not below, a repository that pipeline {} takes artifacts from (it has: {has}); nothing was asked there. Make a new request that names one of these, or let an administrator add it to spec.artifactRepositories",
            o.request.pipeline
        ),
        now,
    ))
}

fn solution(o: &Observed, source: &SourceView, now: Timestamp) -> Result<(), Step> {
    let name = &o.request.solution;
    let Some(solution) = known(&o.solution, Progress::Acceptance, "the solution")? else {
        return Err(gone_or_awaited(
            o,
            "SolutionNotFound",
            &format!("solution {name} does not exist in development environment {} (namespace {})", source.name, source.namespace),
            now,
        ));
    };
    if solution.version == o.request.version {
        return Ok(());
    }
    Err(refuse(
        o,
        "VersionDiffers",
        &format!(
            "solution {name} in development environment {} is at version {}, the request is for {}, which was never exported; set the Solution's spec.version, or ask for {}",
            source.name, solution.version, o.request.version, solution.version
        ),
        now,
    ))
}

/// Later stages: the previous stage succeeded with this very artifact. The artifact's own record proves it.
fn previous_stage(o: &Observed, stage: &StageView, now: Timestamp) -> Result<(), Step> {
    let Some(previous) = &stage.previous else { return Ok(()) };
    if let Some(name) = &o.request.source_environment {
        return Err(refuse(
            o,
            "SourceNotAllowed",
            &format!(
                "stage {} comes after {}: it deploys what the first stage exported, not environment {name}; make a new request without sourceEnvironment",
                o.request.stage, previous.name
            ),
            now,
        ));
    }
    if let Some(url) = &o.request.repository {
        return Err(refuse(
            o,
            "SourceNotAllowed",
            &format!(
                "stage {} comes after {}: it deploys what the first stage stored, not what is in {url}; make a new request without artifact",
                o.request.stage, previous.name
            ),
            now,
        ));
    }
    let Some(place) = &previous.place else {
        return Err(gone_or_awaited(
            o,
            "PreviousStageNotFound",
            &format!("stage {}, which comes before {}, does not exist", previous.name, o.request.stage),
            now,
        ));
    };
    if o.artifact.present().is_some_and(|artifact| place.first_success(artifact).is_some()) {
        return Ok(());
    }
    let what = format!("{} {}", o.request.solution, o.request.version);
    if let Some(request) = &o.previous_in_flight {
        // As long as that request takes. It ends at the latest by its own time-outs. Then this request goes on or is refused.
        return Err(Waiting::watched(
            at(o),
            "PreviousStageInProgress",
            format!(
                "{what} is on its way to stage {} with request {request}; it must succeed there first, and is waited for",
                previous.name
            ),
            None,
        ));
    }
    let first = format!("ask for a deployment to {} first, then make a new request", previous.name);
    let message = match succeeded_elsewhere(o, place) {
        Some(elsewhere) => format!("{what} succeeded in stage {} when {elsewhere}; {first}", previous.name),
        None => format!("{what} has not succeeded in stage {}, which comes before {}; {first}", previous.name, o.request.stage),
    };
    Err(refuse(o, "PreviousStageNotSucceeded", &message, now))
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
fn version(o: &Observed, pipeline: &PipelineView, target: &TargetView) -> Result<(), Step> {
    // Later, an overtaken version is `Superseded`.
    if pipeline.allow_redeployments || o.request.plan_hash.is_some() {
        return Ok(());
    }
    match &target.current {
        // If a later deployment failed and was left, a request for the version on record restores it.
        Some(current) if current.version == o.request.version && target.failed.is_some() => Ok(()),
        Some(current) if current.version >= o.request.version => Err(Ending::step(
            End::Failed,
            Progress::Acceptance,
            "VersionNotHigher",
            format!(
                "stage {} runs {} {} (request {}); {} is not higher. Raise the version, or let an administrator set allowRedeployments on pipeline {}",
                o.request.stage, o.request.solution, current.version, current.request, o.request.version, o.request.pipeline
            ),
        )),
        _ => Ok(()),
    }
}

fn dependencies(o: &Observed, target: &TargetView, now: Timestamp) -> Result<(), Step> {
    if target.missing_dependencies.is_empty() {
        return Ok(());
    }
    let missing = target.missing_dependencies.join("; ");
    let message = format!("solutions that {} depends on do not run in the target: {missing}", o.request.solution);
    // A request that is not accepted itself delays no other. So two requests that wait for each other both end.
    if let Some(request) = o.dependency_in_flight.as_ref().filter(|_| o.request.plan_hash.is_none()) {
        let message = format!("{message}. Request {request} brings one of them, and is waited for");
        return Err(Waiting::watched(at(o), "DependencyMissing", message, None));
    }
    Err(wait(o, "DependencyMissing", &message, now))
}

/// Refuses the request, but only when no object of the same `kubectl apply` can still arrive, and live reads have confirmed the cache.
fn refuse(o: &Observed, reason: &str, message: &str, now: Timestamp) -> Step {
    let settled = clock::after(o.request.created_at, SETTLING);
    if now < settled {
        return Waiting::watched(Progress::Acceptance, reason, message, Some(settled));
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, Progress::Acceptance, reason, message)
}

/// Waits until the accept time-out.
fn wait(o: &Observed, reason: &str, message: &str, now: Timestamp) -> Step {
    let deadline = deadline(o);
    if now < deadline {
        return Waiting::watched(at(o), reason, waits(message, deadline), Some(deadline));
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, at(o), reason, waited(message, deadline))
}

/// Before acceptance, a missing object is waited for, because everything may have been applied at once. After acceptance it ends the
/// request.
fn gone_or_awaited(o: &Observed, reason: &str, message: &str, now: Timestamp) -> Step {
    if o.request.plan_hash.is_none() {
        return wait(o, reason, message, now);
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, at(o), reason, format!("{message} any more; nothing was written"))
}

/// Waits for a right until the deadline. The check becomes less frequent the longer the right is missing. The message is the rule to grant.
pub(super) fn wait_for_right(o: &Observed, at: Progress, obstacle: &Obstacle, now: Timestamp) -> Step {
    let deadline = deadline(o);
    if now < deadline {
        let waited = Duration::try_from(now.duration_since(clock::before(deadline, o.accept_timeout))).unwrap_or_default();
        let poll = (waited / 20).clamp(ASKED_AGAIN_AFTER.0, ASKED_AGAIN_AFTER.1);
        return Waiting::polled(at, &obstacle.reason, waits(&obstacle.message, deadline), Some(deadline), poll);
    }
    Ending::step(End::Failed, at, &obstacle.reason, waited(&obstacle.message, deadline))
}

/// A message that ends with a grant must keep the grant at its end, because people apply it as printed.
pub(super) fn waits(message: &str, deadline: Timestamp) -> String {
    if message.ends_with('\n') { format!("waits until {deadline}: {message}") } else { format!("{message}. Waits until {deadline}") }
}

/// The same after waiting in vain.
pub(super) fn waited(message: &str, deadline: Timestamp) -> String {
    if message.ends_with('\n') { format!("waited until {deadline}: {message}") } else { format!("{message}. It waited until {deadline}") }
}

/// How far the request had come when it lost something that it needs.
fn at(o: &Observed) -> Progress {
    super::decide::reached(o)
}

/// Until when a request waits for something missing: the accept time-out. It starts again at the last gate, at the scheduled time, or at
/// the success in the previous stage, which may be long after the request's creation.
fn deadline(o: &Observed) -> Timestamp {
    let gates = &o.request.gates;
    let stage_timeout = o.stage.present().map_or(Duration::ZERO, |s| s.gate_timeout);
    let opened = [&gates.pre_export_step, &gates.approval, &gates.pre_deployment_step]
        .into_iter()
        .flatten()
        .map(|g| clock::after(g.opened_at, stage_timeout))
        .max();
    let scheduled = o.request.scheduled_time.clone().ok().flatten();
    // The request may have waited that long for the one to the previous stage.
    let previous = o.stage.present().and_then(|stage| stage.previous.as_ref()?.place.as_ref());
    let proven = previous.zip(o.artifact.present()).and_then(|(place, artifact)| place.first_success(artifact));
    let last = [Some(o.request.created_at), opened, scheduled, proven].into_iter().flatten().max().unwrap_or(o.request.created_at);
    clock::after(last, o.accept_timeout)
}
