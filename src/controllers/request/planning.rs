//! Step `Plan`: settings, what the target offers, and the dry run as the delegate.

use kube::ResourceExt;

use super::acting::{self, Acting, acting};
use super::export::unreadable;
use super::former;
use super::judging::{self, Judge, awaited, said};
use super::scope::Scope;
use super::sharing;
use super::stop::Stop;
use super::target::{NOT_APPLIED, WriteFound};
use super::told;
use crate::api::environment::DeployedSolution;
use crate::api::plan::{AccessedObject, Plan, PlanResult};
use crate::api::reason::Reason;
use crate::api::request_status::ObjectError;
use crate::api::stage::OnFailure;
use crate::api::{Artifact, Environment};
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::cluster::errors::{first_few, named};
use crate::cluster::node_ports::{self, NodePort};
use crate::deploy::plan::connections::Uses;
use crate::deploy::plan::input::{ClusterBounds, Created, PlanInput};
use crate::deploy::plan::planned::{PlanSummary, Planned};
use crate::deploy::plan::prerequisites;
use crate::deploy::plan::quota;
use crate::deploy::plan::{self, PlanError};
use crate::deploy::settings::{self, Resolved};
use crate::policy::request::acceptance;
use crate::policy::request::adoption;
use crate::policy::request::difference;
use crate::policy::request::gates;
use crate::policy::request::hash::{PlanInputs, plan_hash};
use crate::policy::request::observed::{ApplyOutcome, CurrentVersion, DelegateView, Observed, PlanOutcome, StageView};
use crate::policy::request::warnings;
use crate::runtime::controller::ReconcileError;

/// A plan that can be carried out in this reconciliation.
pub(super) struct Prepared {
    /// The plan as the status shows it.
    pub(super) plan: Plan,
    /// The plan as it is applied.
    pub(super) planned: Planned,
}

/// The result of a dry run.
pub(super) struct DryRun {
    /// What is applied.
    pub(super) planned: Planned,
    settings_digest: String,
    access: Vec<AccessedObject>,
    access_omitted: i32,
    node_ports: Vec<NodePort>,
    /// What an approver should know: about what is used, claims that are mounted, ingresses with classes that do not exist, and what quotas
    /// leave open.
    told: Vec<PlanResult>,
}

/// Why a dry run can't be carried out.
pub(super) enum Hindrance {
    /// A right is missing, a webhook of the target can't be reached, or the artifact can't be used.
    Blocked(Blocked),
    /// Others can correct it: the target does not offer something, or lacks it. The request waits before anything is written.
    Awaited(Reason, Vec<PlanResult>),
    /// The target refuses it, or the settings don't fit: one reason, and one finding for each object.
    Refused(Reason, Vec<PlanResult>),
}

/// The result of planning: whether the plan can be carried out, and what is needed for that. And everything that prevents it, for the
/// status.
pub(super) struct PlanFound {
    pub(super) outcome: PlanOutcome,
    pub(super) prepared: Option<Box<Prepared>>,
    pub(super) results: Vec<PlanResult>,
}

impl From<PlanOutcome> for PlanFound {
    fn from(outcome: PlanOutcome) -> Self {
        Self { outcome, prepared: None, results: Vec::new() }
    }
}

/// Plans what the request asks for.
pub(super) async fn plan(scope: Scope<'_>, observed: &Observed) -> Result<PlanFound, ReconcileError> {
    let (Some(stage), Some(target), Some(artifact)) = (observed.stage.present(), &scope.related.target, &scope.related.artifact) else {
        return Ok(PlanOutcome::Blocked(Blocked {
            until: Until::End,
            reason: Reason::NothingToPlan,
            message: "stage, target or artifact is gone".into(),
        })
        .into());
    };
    if matches!(stage.delegate, DelegateView::StageOwner { .. }) && !artifact.spec.connection_references.is_empty() {
        return Ok(PlanOutcome::Blocked(not_lent(observed)).into());
    }
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return stop.told(|blocked| PlanOutcome::Blocked(blocked).into()),
    };
    match (planned(scope, observed, stage, &acting, target, artifact).await, &acting.remote) {
        // If another cluster does not answer, the status says so.
        (Err(ReconcileError::Api(error)), Some(remote)) => Ok(PlanOutcome::Blocked(acting::unanswered(remote, &error)).into()),
        (outcome, _) => outcome,
    }
}

async fn planned(
    scope: Scope<'_>,
    observed: &Observed,
    stage: &StageView,
    acting: &Acting,
    target: &Environment,
    artifact: &Artifact,
) -> Result<PlanFound, ReconcileError> {
    let dry = match dry_run(scope, acting, target, artifact).await {
        Ok(dry) => dry,
        Err(stop) => return stop.told(|hindrance| hindered(scope, hindrance)),
    };
    let replaces = observed.target.present().and_then(|t| t.current.clone());
    if stage.on_failure == OnFailure::Rollback
        && let Some(replaced) = &replaces
        && let Some(obstacle) = no_way_back(scope, &observed.request.stage, replaced).await?
    {
        return Ok(PlanOutcome::Blocked(obstacle).into());
    }
    let delegate = gates::deployer(observed, stage);
    let marked = dry.planned.marked_for_hash();
    let hash = plan_hash(&PlanInputs {
        request_uid: &observed.request.uid,
        artifact_digest: &artifact.spec.digest,
        settings_digest: &dry.settings_digest,
        environment_id: observed.target.present().map_or("", |t| &t.environment_id),
        environment_uid: observed.target.present().map_or("", |t| &t.uid),
        delegate: &delegate,
        stage,
        force: force(scope),
        replaces: replaces.as_ref().map(|r| r.digest.as_str()),
        marked: &marked,
    });
    let told = match judging::told(&scope.cluster.access, acting, &dry.planned).await {
        Ok(told) => told,
        Err(stop) => return stop.told(|refused| hindered(scope, Hindrance::Refused(Reason::TooMuchToTell, vec![refused]))),
    };
    let report = dry.planned.report();
    let unshared = sharing::preflight(scope, acting, target).await?;
    let warnings = warnings::of(
        &observed.request.solution,
        &observed.request.version,
        replaces.as_ref().map(|r| &r.version),
        [report.delete, report.recreate].map(|count| usize::try_from(count).unwrap_or_default()),
        &report.objects,
    );
    let summary = summary(&delegate, &report, unshared.len(), &warnings);
    let results = results(scope, observed, &dry, warnings, told, unshared).await;
    let plan = Plan {
        hash: hash.clone(),
        artifact_digest: artifact.spec.digest.clone(),
        settings_digest: dry.settings_digest,
        environment_id: observed.target.present().map(|t| t.environment_id.clone()).unwrap_or_default(),
        stage_uid: stage.uid.clone(),
        delegate,
        replaces: replaces.as_ref().map(|r| r.digest.clone()),
        replaces_version: replaces.as_ref().map(|r| r.version.to_string()),
        on_failure: stage.on_failure,
        environment_uid: observed.target.present().map(|t| t.uid.clone()).unwrap_or_default(),
        terms: difference::terms(stage, force(scope)),
        marked_digest: difference::marked_digest(&marked),
        create: report.create,
        update: report.update,
        delete: report.delete,
        recreate: report.recreate,
        adopt: report.adopt,
        release: report.release,
        unchanged: report.unchanged,
        objects: report.objects,
        objects_omitted: report.objects_omitted,
        values_omitted: report.values_omitted,
        access: dry.access,
        results,
        access_omitted: dry.access_omitted,
        // This is counted when the status is written.
        results_omitted: 0,
    };
    let summary = match scope.status().plan.filter(|pinned| pinned.hash != hash) {
        Some(pinned) => difference::told(&pinned, &plan, &first_few(marked.into_iter()), &summary),
        None => summary,
    };
    let prepared = Box::new(Prepared { plan, planned: dry.planned });
    Ok(PlanFound { outcome: PlanOutcome::Ready { hash, summary }, prepared: Some(prepared), results: Vec::new() })
}

/// What an approver should know, in the order in which it is told.
async fn results(
    scope: Scope<'_>,
    observed: &Observed,
    dry: &DryRun,
    warnings: Vec<PlanResult>,
    told: Vec<PlanResult>,
    unshared: Vec<PlanResult>,
) -> Vec<PlanResult> {
    let solution = &observed.request.solution;
    let environment = scope.related.target.as_ref().map(|target| target.name_any()).unwrap_or_default();
    told::first(observed, &dry.planned)
        .into_iter()
        .chain(acceptance::order_told(observed))
        .chain(adoption::told(solution, scope.target_namespace(), &dry.planned.adoptions()))
        .chain(warnings)
        .chain(told)
        .chain(warnings::left_alone(solution, &environment, &dry.planned.left_alone()))
        .chain(unshared)
        .chain(node_ports::told(solution, &dry.node_ports))
        .chain(dry.told.iter().cloned())
        .chain(dry.planned.foreign())
        .chain(told::last(scope, observed, &dry.planned).await)
        .collect()
}

/// Why the replaced version could not be restored as the plan promises: its bytes or its settings are gone.
async fn no_way_back(scope: Scope<'_>, stage: &str, replaced: &CurrentVersion) -> Result<Option<Blocked>, ReconcileError> {
    let version = replaced.version.to_string();
    let blocked = match former::is_there(scope, &version, &replaced.digest).await {
        Ok(()) => return Ok(None),
        Err(stop) => stop.told(|blocked| blocked)?,
    };
    let what = if blocked.reason == Reason::SettingsGone { "can't be put back" } else { "can't be read" };
    let mut message = format!(
        "{version}, which stage {stage} puts back where the deployment fails (onFailure: Rollback), {what}: {}. Or set onFailure: Keep on the stage",
        blocked.message
    );
    if blocked.reason == Reason::SettingsGone {
        message.push_str(", or give this request the settings that run there");
    }
    Ok(Some(Blocked::waits(Wait::Somebody, blocked.reason, message)))
}

/// Settings, what the target offers, and the dry run, as whoever acts. `Err` says why it can't be carried out.
pub(super) async fn dry_run(
    scope: Scope<'_>,
    acting: &Acting,
    target: &Environment,
    artifact: &Artifact,
) -> Result<DryRun, Stop<Hindrance>> {
    let bundle = match scope.bundle(artifact).await {
        Ok(bundle) => bundle,
        Err(error) => {
            return Err(Stop::Because(Hindrance::Blocked(unreadable(&error)?)));
        }
    };
    let wanted = scope.request.spec.deployment_settings.clone().unwrap_or_default();
    let (variables, connections) = (&artifact.spec.environment_variables, &artifact.spec.connection_references);
    match settings::resolve(bundle.objects(), variables, connections, &wanted) {
        Ok(resolved) => {
            let forbidden = judging::forbidden(scope, &target.spec.namespace, &resolved.objects);
            dry_run_resolved(scope, acting, target, artifact, resolved, None, forbidden).await
        }
        Err(results) => Err(Stop::Because(Hindrance::Refused(Reason::SettingsRefused, results))),
    }
}

/// The same for objects that have their settings. `forbidden` is what prevents the plan in any case.
pub(super) async fn dry_run_resolved(
    scope: Scope<'_>,
    acting: &Acting,
    target: &Environment,
    artifact: &Artifact,
    mut resolved: Resolved,
    may_delete: Option<&Created>,
    forbidden: Vec<PlanResult>,
) -> Result<DryRun, Stop<Hindrance>> {
    let namespace = &target.spec.namespace;
    let is_beside_development = target.spec.cluster.is_none() && artifact.spec.source.environment.is_some();
    let node_ports =
        if is_beside_development { node_ports::leave(&mut resolved.objects, &artifact.spec.environment_variables) } else { Vec::new() };
    let mut input = PlanInput::new(namespace, &scope.request.spec.solution.name, &resolved.objects);
    let host = scope.host();
    input.host = &host;
    input.force = force(scope);
    input.may_delete = may_delete;
    input.reported_on = &artifact.spec.kinds_reported_on;
    input.concurrency = scope.cluster.options.apply_concurrency;
    let solutions = target.status.iter().flat_map(|status| &status.solutions);
    let recorded = solutions.into_iter().find(|s: &&DeployedSolution| s.name == scope.request.spec.solution.name);
    let environment = target.name_any();
    input.cluster = ClusterBounds {
        environment: &environment,
        namespace_uid: target.status.as_ref().and_then(|status| status.environment_id.as_deref()).unwrap_or_default(),
        allowed: &target.spec.cluster_scoped,
        recorded: recorded.map(|solution| solution.cluster_scoped.as_slice()).unwrap_or_default(),
        exported: artifact.spec.source.environment.as_ref().map(|_| artifact.spec.cluster_scoped.as_slice()),
    };
    input.is_first = recorded.is_none_or(|solution| solution.version.is_none() && solution.cluster_scoped.is_empty());
    // Everything that prevents the plan is found at once, so that it can be corrected at once.
    let (reader, discovery) = (acting.reader(scope.cluster), acting.discovery(scope.cluster));
    let judge = Judge { client: &acting.client, reader: &reader, namespace };
    let (uses, needed) = (Uses::of(namespace, &resolved.objects).connected(&resolved.connected), prerequisites::of(&resolved.objects));
    let (found, planned) = futures::join!(judge.look(&uses, &needed), plan::plan(&input, &acting.client, discovery.as_ref()));
    let mut found = found?;
    let (planned, mut refused, rights) = match planned {
        Ok(planned) => (Some(planned), Vec::new(), Vec::new()),
        Err(PlanError::Transient(error)) => return Err(error.into()),
        Err(PlanError::Unreachable(waiting)) => return Err(Stop::Because(Hindrance::Blocked(unreachable(&waiting)))),
        Err(PlanError::MissingRights { rights, results, .. }) => (None, results, rights),
        Err(PlanError::Refused(results)) => (None, results, Vec::new()),
    };
    let mut quotas = quota::Verdict::default();
    if let Some(planned) = &planned {
        found.merge(judge.beyond(planned, &uses, &needed).await?);
        // In a rollback, the earlier version replaces what did not fit.
        if may_delete.is_none() {
            quotas = quota::check(&reader, planned, scope.status().plan.is_some()).await?;
        }
    }
    settings::blame(&mut refused, &resolved.written);
    found.rights.extend(rights);
    refused.extend(forbidden);
    refused.append(&mut quotas.short);
    match planned {
        Some(planned) if found.is_fine() && refused.is_empty() => {
            let (access, access_omitted, mut told) = found.used(&planned, &resolved.connected);
            told.append(&mut found.warnings);
            told.append(&mut quotas.told);
            Ok(DryRun { planned, settings_digest: resolved.digest, access, access_omitted, node_ports, told })
        }
        _ => Err(Stop::Because(judging::hindrance(scope, acting, namespace, found, refused).await?)),
    }
}

/// Whether to take over fields of other field managers.
fn force(scope: Scope<'_>) -> bool {
    scope.related.stage.as_ref().is_some_and(|s| s.spec.deployment.force)
}

/// All findings for the status, and the first few for the message.
fn hindered(scope: Scope<'_>, hindrance: Hindrance) -> PlanFound {
    let namespace = scope.target_namespace();
    match hindrance {
        Hindrance::Blocked(obstacle) => PlanOutcome::Blocked(obstacle).into(),
        Hindrance::Awaited(reason, results) => {
            let outcome = PlanOutcome::Blocked(awaited(namespace, reason, &results));
            // It ends with them. Others wait, and look again.
            PlanFound { outcome, prepared: None, results: if scope.request.spec.plan_only { results } else { Vec::new() } }
        }
        Hindrance::Refused(reason, results) => {
            let message = format!("nothing was written; {}", said(&results, namespace));
            PlanFound { outcome: PlanOutcome::Blocked(Blocked { until: Until::End, reason, message }), prepared: None, results }
        }
    }
}

/// The same for a plan that is made again midway, when a part may already be written. It is reported as if the write had been refused.
pub(super) fn hindered_midway(scope: Scope<'_>, hindrance: Hindrance) -> WriteFound {
    match hindrance {
        Hindrance::Blocked(obstacle) => ApplyOutcome::Blocked(obstacle).into(),
        // The requester may have just applied the Environment that lists the kinds.
        Hindrance::Awaited(reason, results) if reason == Reason::ClusterScoped => {
            ApplyOutcome::Blocked(awaited(scope.target_namespace(), reason, &results)).into()
        }
        Hindrance::Awaited(_, results) | Hindrance::Refused(_, results) => {
            not_applied(results.into_iter().map(ObjectError::from).collect(), NOT_APPLIED)
        }
    }
}

/// What could not be applied, for the status, and the first few for the message.
pub(super) fn not_applied(errors: Vec<ObjectError>, what: &str) -> WriteFound {
    let message = format!("{what}: {}", first_few(errors.iter().map(named)));
    WriteFound { outcome: ApplyOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ApplyFailed, message }), errors }
}

/// A solution's connections never use a person's rights.
fn not_lent(observed: &Observed) -> Blocked {
    Blocked::ends(
        Reason::ConnectionReferencesNeedServicePrincipal,
        format!(
            "{} has connection references, and stage {} deploys as its owner: a person's rights are not lent to a solution's connections. Use a stage with a service principal",
            observed.request.solution, observed.request.stage
        ),
    )
}

/// The result of the dry run in one line.
fn summary(delegate: &str, report: &PlanSummary, unshared: usize, warnings: &[PlanResult]) -> String {
    let refused = if unshared > 0 { format!(", {unshared} of the shares refused") } else { String::new() };
    let downgrade = warnings.iter().find(|w| w.reason == Reason::Downgrade).map(|w| format!("; {}", w.message)).unwrap_or_default();
    let anew = if report.recreate > 0 { format!(", {} to delete and create anew", report.recreate) } else { String::new() };
    format!(
        "dry run as {delegate}: {} to create, {} to change, {} to delete{anew}{}, {} unchanged{refused}{downgrade}",
        report.create,
        report.update,
        report.delete,
        adoption::counted(report.adopt, report.release),
        report.unchanged
    )
}

/// What to wait for if webhooks of the target can't be reached.
fn unreachable(waiting: &[PlanResult]) -> Blocked {
    let said = first_few(waiting.iter().map(|r| r.message.clone()));
    Blocked::waits(Wait::Server, Reason::TargetUnavailable, format!("the target can't be asked: {said}"))
}
