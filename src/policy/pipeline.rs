//! Whether a pipeline can be used: its development environments, and its stages in order.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Check, Failure, Good, Remedy, edit, watched};
use super::windows;
use crate::api::environment::EnvironmentType;
use crate::api::pipeline::{MAX_SUMMARY, StageSummary};
use crate::api::reason::Reason;

/// The most stages of a pipeline.
pub(crate) const MOST_STAGES: usize = 7;

/// A pipeline and what it is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The development environments that it links.
    pub(crate) development: Vec<Development>,
    /// The stages that name it.
    pub(crate) stages: Vec<StageView>,
    /// The stages of the same host that name other pipelines.
    pub(crate) foreign: BTreeSet<String>,
    /// `spec.retention.schedule` and `spec.retention.timeZone`.
    pub(crate) retention: Option<(String, Option<String>)>,
}

/// A development environment as a pipeline links it.
#[derive(Clone, Debug)]
pub(crate) struct Development {
    /// The Environment's name.
    pub(crate) name: String,
    /// The Environment, where there is one.
    pub(crate) found: Option<EnvironmentView>,
}

/// An Environment.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentView {
    /// Its role.
    pub(crate) type_: EnvironmentType,
    /// Whether it is validated; otherwise why not, in one word.
    pub(crate) validated: Result<(), String>,
}

/// A stage of the pipeline.
#[derive(Clone, Debug)]
pub(crate) struct StageView {
    pub(crate) name: String,
    /// `spec.previousStage`.
    pub(crate) previous: Option<String>,
    /// `spec.targetEnvironment`.
    pub(crate) target: String,
    /// Whether it is ready; otherwise why not, in one word.
    pub(crate) ready: Result<(), String>,
}

/// What is said of a pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether it can be used.
    pub(crate) outcome: Result<Good, Failure>,
    /// Its stages; in order if there is one.
    pub(crate) stages: Vec<StageSummary>,
}

/// Checks a pipeline. It can be used if its structure is right and one of its development environments can be exported from. A stage that
/// is not ready blocks only deployments to it, not to the stages before it.
pub(crate) fn judge(view: &View) -> Verdict {
    let order = order(&view.stages, &view.foreign);
    let listed: Vec<&StageView> = order.as_ref().map_or_else(|_| by_name(view), Clone::clone);
    let checked = retention_is_possible(view)
        .and_then(|()| development_is_linked(view))
        .and_then(|()| development_exists(view))
        .and_then(|()| development_has_its_type(view))
        .and_then(|()| stage_count(view))
        .and_then(|()| order.map(|_| ()))
        .and_then(|()| development_is_validated(view));
    Verdict { outcome: checked.map(|()| good(view)), stages: listed.into_iter().map(summary).collect() }
}

fn by_name(view: &View) -> Vec<&StageView> {
    let mut stages: Vec<&StageView> = view.stages.iter().collect();
    stages.sort_by(|a, b| a.name.cmp(&b.name));
    stages
}

/// The stages in order: each after its previous one, by their distance from the first, then by name.
///
/// # Errors
/// Why there is no such order.
pub(crate) fn order<'a>(stages: &'a [StageView], foreign: &BTreeSet<String>) -> Result<Vec<&'a StageView>, Failure> {
    let known: BTreeMap<&str, &StageView> = stages.iter().map(|s| (s.name.as_str(), s)).collect();
    for (stage, previous) in known.values().filter_map(|s| s.previous.as_deref().map(|p| (s, p))) {
        previous_is_known(stage, previous, &known, foreign)?;
    }
    let mut heads = known.values().filter(|s| s.previous.is_none());
    let Some(head) = heads.next() else { return if known.is_empty() { Ok(Vec::new()) } else { Err(cycle(&known)) } };
    let others: Vec<&str> = heads.map(|s| s.name.as_str()).collect();
    if !others.is_empty() {
        return edit(
            Reason::MultipleFirstStages,
            format!(
                "stages {} and {} have no previousStage, and a pipeline has one first stage: set spec.previousStage on all others",
                head.name,
                others.join(", ")
            ),
        )
        .map(|()| Vec::new());
    }
    let mut followers: BTreeMap<&str, Vec<&StageView>> = BTreeMap::new();
    for stage in known.values() {
        if let Some(previous) = &stage.previous {
            followers.entry(previous).or_default().push(stage);
        }
    }
    let mut order = vec![*head];
    let mut next = 0;
    while let Some(stage) = order.get(next) {
        next += 1;
        order.extend(followers.remove(stage.name.as_str()).unwrap_or_default());
    }
    // Every previous stage is known. So a stage that can't be reached from the first one is on a cycle, or after one.
    if order.len() < known.len() { Err(cycle(&known)) } else { Ok(order) }
}

fn previous_is_known(stage: &StageView, previous: &str, known: &BTreeMap<&str, &StageView>, foreign: &BTreeSet<String>) -> Check {
    if known.contains_key(previous) {
        return Ok(());
    }
    if foreign.contains(previous) {
        return watched(
            Reason::ForeignPreviousStage,
            format!(
                "stage {}: its previousStage {previous} is part of another pipeline; correct spec.previousStage of {}, or spec.pipeline of \
                 {previous}",
                stage.name, stage.name
            ),
        );
    }
    watched(
        Reason::UnknownPreviousStage,
        format!("stage {}: its previousStage {previous} does not exist; create it, or correct spec.previousStage", stage.name),
    )
}

/// Names one cycle. At least one stage is known to be on one, or after one.
fn cycle(known: &BTreeMap<&str, &StageView>) -> Failure {
    let previous = |name: &str| known.get(name).and_then(|s| s.previous.as_deref());
    let on_cycle = known.keys().find(|start| {
        let mut at = previous(start);
        for _ in 0..known.len() {
            match at {
                Some(name) if name == **start => return true,
                Some(name) => at = previous(name),
                None => return false,
            }
        }
        false
    });
    let mut path: Vec<&str> = on_cycle.into_iter().copied().collect();
    while let Some(before) = path.last().and_then(|name| previous(name))
        && path.len() <= known.len()
    {
        path.push(before);
        if path.first() == path.last() {
            break;
        }
    }
    path.reverse();
    Failure {
        reason: Reason::StageCycle,
        message: format!(
            "stages follow each other in a circle ({}): take spec.previousStage from the one that is to be first",
            path.join(" → ")
        ),
        remedy: Remedy::Watched,
    }
}

fn retention_is_possible(view: &View) -> Check {
    let Some((schedule, zone)) = &view.retention else { return Ok(()) };
    windows::check_schedule(schedule, zone.as_deref())
        .or_else(|why| edit(Reason::RetentionInvalid, format!("schedule \"{schedule}\": {why}; correct spec.retention")))
}

fn development_is_linked(view: &View) -> Check {
    if view.development.is_empty() {
        return edit(
            Reason::NoDevelopmentEnvironment,
            "no development environment is linked: name at least one Environment of type Development in spec.developmentEnvironments",
        );
    }
    Ok(())
}

fn development_exists(view: &View) -> Check {
    let missing: Vec<&str> = view.development.iter().filter(|d| d.found.is_none()).map(|d| d.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    watched(
        Reason::UnknownEnvironment,
        format!("Environment {} does not exist in this namespace: create it, or correct spec.developmentEnvironments", missing.join(", ")),
    )
}

fn development_has_its_type(view: &View) -> Check {
    let targets: Vec<&str> = view
        .development
        .iter()
        .filter(|d| d.found.as_ref().is_some_and(|e| e.type_ == EnvironmentType::Target))
        .map(|d| d.name.as_str())
        .collect();
    if targets.is_empty() {
        return Ok(());
    }
    edit(
        Reason::WrongEnvironmentType,
        format!(
            "Environment {} is of type Target: link Environments of type Development in spec.developmentEnvironments",
            targets.join(", ")
        ),
    )
}

fn stage_count(view: &View) -> Check {
    match view.stages.len() {
        0 => watched(Reason::NoStages, "the pipeline has no stages: create a Stage that names it in spec.pipeline"),
        1..=MOST_STAGES => Ok(()),
        count => watched(
            Reason::TooManyStages,
            format!(
                "the pipeline has {count} stages, and at most {MOST_STAGES} are allowed: delete Stages, or move them to another pipeline"
            ),
        ),
    }
}

fn development_is_validated(view: &View) -> Check {
    let unvalidated = unvalidated(view);
    if unvalidated.len() < view.development.len() {
        return Ok(());
    }
    watched(
        Reason::EnvironmentNotValidated,
        format!("no development environment is validated: {}; the condition Validated of each says what to do", unvalidated.join(", ")),
    )
}

fn unvalidated(view: &View) -> Vec<String> {
    let why = |d: &Development| d.found.as_ref().and_then(|e| e.validated.as_ref().err().map(|why| format!("{} ({why})", d.name)));
    view.development.iter().filter_map(why).collect()
}

fn good(view: &View) -> Good {
    let mut waiting: Vec<String> =
        view.stages.iter().filter_map(|s| s.ready.as_ref().err().map(|why| format!("{} ({why})", s.name))).collect();
    waiting.sort();
    let unvalidated = unvalidated(view);
    let mut sentences = Vec::new();
    if !waiting.is_empty() {
        sentences.push(format!("stages not ready yet: {}", waiting.join(", ")));
    }
    if !unvalidated.is_empty() {
        sentences.push(format!("development environments not validated: {}", unvalidated.join(", ")));
    }
    let reason = match (waiting.is_empty(), unvalidated.is_empty()) {
        (true, true) => Reason::Ready,
        (false, _) => Reason::SomeStagesNotReady,
        (true, false) => Reason::SomeEnvironmentsNotValidated,
    };
    let message = if sentences.is_empty() {
        format!("{} stages can be deployed to", view.stages.len())
    } else {
        format!("can be used; {}", sentences.join("; "))
    };
    Good { reason, message }
}

fn summary(stage: &StageView) -> StageSummary {
    StageSummary {
        name: stage.name.clone(),
        previous_stage: stage.previous.clone(),
        target_environment: stage.target.clone(),
        ready: stage.ready.is_ok(),
    }
}

/// The stages in one line: `qa → prod`, and a branch behind a comma with the stage that it leaves from: `qa → prod, qa → eu`.
pub(crate) fn in_one_line(stages: &[StageSummary]) -> String {
    let mut line = String::new();
    let mut last: Option<&str> = None;
    for stage in stages {
        match &stage.previous_stage {
            Some(previous) if last == Some(previous) => line.push_str(" → "),
            Some(previous) => {
                line.push_str(", ");
                line.push_str(previous);
                line.push_str(" → ");
            }
            None if line.is_empty() => {}
            None => line.push_str(", "),
        }
        line.push_str(&stage.name);
        last = Some(&stage.name);
    }
    line.chars().take(MAX_SUMMARY).collect()
}

#[cfg(test)]
mod tests;
