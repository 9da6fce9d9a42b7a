//! Step `Plan`: settings, what the target offers, and the dry run as the delegate.

use super::pass::Pass;
use crate::api::plan::{Plan, PlanResult};
use crate::api::reference::{Identity, Subject, SubjectKind};
use crate::delivery::failure::Failure;
use crate::delivery::plan::{self, PlanError, PlanInput};
use crate::delivery::planned::Planned;
use crate::delivery::{offered, settings};
use crate::driver::controller::ReconcileError;
use crate::identity::access::{self, Right};
use crate::identity::delegate::{Delegate, DelegateClient};
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, grants};
use crate::policy::request::gates;
use crate::policy::request::hash::{PlanInputs, plan_hash};
use crate::policy::request::observed::{DelegateView, Observed, Obstacle, PlanFact, StageView};

/// How many findings a message names.
const NAMED: usize = 5;

/// A plan that can be carried out in this pass.
pub(super) struct Prepared {
    /// As the status shows it.
    pub(super) plan: Plan,
    /// As it is applied.
    pub(super) planned: Planned,
}

impl Pass {
    pub(super) async fn plan(&mut self, observed: &Observed) -> Result<PlanFact, ReconcileError> {
        let (Some(stage), Some(target), Some(artifact)) =
            (observed.stage.present(), self.around.target.clone(), self.around.artifact.clone())
        else {
            return Ok(PlanFact::Refused(Obstacle { reason: "NothingToPlan".into(), message: "stage, target or artifact is gone".into() }));
        };
        let bundle = match self.cluster.artifacts.load(&artifact).await {
            Ok(bundle) => bundle,
            Err(error) if error.failure() != Failure::Refused => return Err(ReconcileError::Other(error.to_string())),
            Err(error) => return Ok(PlanFact::Refused(Obstacle { reason: "ArtifactAltered".into(), message: error.to_string() })),
        };
        if matches!(stage.delegate, DelegateView::StageOwner { .. }) && !artifact.spec.connection_references.is_empty() {
            return Ok(PlanFact::Refused(Obstacle {
                reason: "ConnectionReferencesNeedServicePrincipal".into(),
                message: format!(
                    "{} has connection references, and stage {} deploys as its owner: a person's rights are not lent to a solution's connections. Use a stage with a service principal",
                    observed.request.solution, observed.request.stage
                ),
            }));
        }
        let wanted = self.request.spec.deployment_settings.clone().unwrap_or_default();
        let resolved = match settings::resolve(
            bundle.objects(),
            &artifact.spec.environment_variables,
            &artifact.spec.connection_references,
            &wanted,
        ) {
            Ok(resolved) => resolved,
            Err(results) => return Ok(PlanFact::Refused(refused("SettingsRefused", &results))),
        };
        let client = self.delegate(observed, stage)?;
        let namespace = &target.spec.namespace;
        let access = match offered::check(&client, namespace, &resolved.objects).await {
            Ok(access) => access,
            Err(offered::OfferError::Api(error)) => return Err(error.into()),
            Err(offered::OfferError::Refused(results)) => return Ok(PlanFact::Refused(refused("NotOffered", &results))),
            Err(offered::OfferError::MissingRights(rights)) => {
                return self.missing(&client, namespace, &rights).await.map(PlanFact::Missing);
            }
        };
        let force = self.around.stage.as_ref().is_some_and(|s| s.spec.deployment.force);
        let mut input = PlanInput::new(namespace, &observed.request.solution, &resolved.objects);
        input.force = force;
        input.concurrency = self.cluster.options.apply_concurrency;
        let planned = match plan::plan(&input, &client, &self.cluster.discovery).await {
            Ok(planned) => planned,
            Err(PlanError::Transient(error)) => return Err(error.into()),
            Err(PlanError::MissingRights { rights, .. }) => return self.missing(&client, namespace, &rights).await.map(PlanFact::Missing),
            Err(PlanError::Refused(results)) => return Ok(PlanFact::Refused(refused("DryRunRefused", &results))),
        };
        let replaces = observed.target.present().and_then(|t| t.current.clone());
        let delegate = gates::approver(observed, stage);
        let hash = plan_hash(&PlanInputs {
            request_uid: &observed.request.uid,
            artifact_digest: &artifact.spec.digest,
            settings_digest: &resolved.digest,
            environment_id: observed.target.present().map_or("", |t| &t.environment_id),
            environment_uid: observed.target.present().map_or("", |t| &t.uid),
            delegate: &delegate,
            stage,
            force,
            replaces: replaces.as_ref().map(|r| r.digest.as_str()),
            deletions: &planned.deletions_digest_input(),
        });
        let report = planned.report();
        let summary = format!(
            "dry run as {delegate}: {} to create, {} to change, {} to delete, {} unchanged",
            report.create, report.update, report.delete, report.unchanged
        );
        let plan = Plan {
            hash: hash.clone(),
            artifact_digest: artifact.spec.digest.clone(),
            settings_digest: resolved.digest,
            environment_id: observed.target.present().map(|t| t.environment_id.clone()).unwrap_or_default(),
            stage_uid: stage.uid.clone(),
            delegate,
            replaces: replaces.as_ref().map(|r| r.digest.clone()),
            replaces_version: replaces.as_ref().map(|r| r.version.to_string()),
            create: report.create,
            update: report.update,
            delete: report.delete,
            unchanged: report.unchanged,
            objects: report.objects,
            objects_omitted: report.objects_omitted,
            access,
            results: Vec::new(),
        };
        self.prepared = Some(Prepared { plan, planned });
        Ok(PlanFact::Ready { hash, summary })
    }

    /// The client that acts as the stage's delegate.
    pub(super) fn delegate(&self, observed: &Observed, stage: &StageView) -> Result<DelegateClient, ReconcileError> {
        let person = |who: &Identity| Delegate::User {
            username: who.username.clone(),
            groups: who.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect(),
        };
        let delegate = match &stage.delegate {
            DelegateView::ServicePrincipal { name } => {
                Delegate::ServicePrincipal { namespace: observed.request.host.clone(), name: name.clone() }
            }
            DelegateView::StageOwner { owner } => person(owner),
            // A ServiceAccount that asks is impersonated as one: in user mode the API server refuses it.
            DelegateView::Requester => {
                observed.request.requester.as_ref().map(requester_delegate).unwrap_or_else(|| person(&Identity::default()))
            }
        };
        self.cluster.clients.delegate(&delegate).map_err(|e| ReconcileError::Other(e.to_string()))
    }

    /// Says whose right is missing, the delegate's or the operator's to act as it, and prints the rule to grant.
    pub(super) async fn missing(&self, client: &DelegateClient, namespace: &str, rights: &[Right]) -> Result<Obstacle, ReconcileError> {
        let delegate = client.delegate();
        let (identity, subject) = match delegate {
            Delegate::ServicePrincipal { namespace: host, name } => (
                access::service_account(host, name),
                Subject { kind: SubjectKind::ServiceAccount, name: name.clone(), namespace: Some(host.clone()) },
            ),
            Delegate::User { username, groups } => (
                Identity {
                    username: username.clone(),
                    uid: None,
                    groups: groups.iter().cloned().chain(["system:authenticated".to_owned()]).collect(),
                },
                Subject { kind: SubjectKind::User, name: username.clone(), namespace: None },
            ),
        };
        let mut lacking = Vec::new();
        let mut operator_lacking = Vec::new();
        let operator = access::service_account(OPERATOR_NAMESPACE, OPERATOR_NAME);
        for right in rights {
            if !self.cluster.access.may(&identity, right).await? {
                lacking.push(right.clone());
            }
            // Creating by apply is a patch to whoever impersonates.
            let verb = if right.verb == "create" { "patch" } else { &right.verb };
            let mode = if matches!(delegate, Delegate::ServicePrincipal { .. }) { "serviceaccount" } else { "user-info" };
            let on = Right { verb: format!("impersonate-on:{mode}:{verb}"), ..right.clone() };
            if !operator_lacking.contains(&on) && !self.cluster.access.may(&operator, &on).await? {
                operator_lacking.push(on);
            }
        }
        let username = delegate.username();
        if lacking.is_empty() && operator_lacking.is_empty() {
            return Ok(Obstacle {
                reason: "DelegateLacksTargetAccess".into(),
                message: format!(
                    "the API server refused {username} in namespace {namespace}, though reviews say that it holds these rights; a grant may just have been made, or an authorizer other than RBAC decides. Wanted:\n{}",
                    grants::rules(rights)
                ),
            });
        }
        if lacking.is_empty() {
            return Ok(Obstacle {
                reason: "OperatorMayNotActAsDelegate".into(),
                message: format!(
                    "the operator may not act as {username} in namespace {namespace}. Grant:\n{}",
                    grants::operator_in_target_too(namespace, &subject, &operator_lacking)
                ),
            });
        }
        Ok(Obstacle {
            reason: "DelegateLacksTargetAccess".into(),
            message: format!(
                "{username}, who deploys, lacks rights in namespace {namespace}. Grant:\n{}",
                grants::delegate_in_target_too(namespace, &subject, &lacking)
            ),
        })
    }

    /// Whether the requester could decide in the delegate's place: as it, or with a token of it.
    pub(super) async fn requester_could_approve(&self, observed: &Observed) -> Result<bool, ReconcileError> {
        let (Some(stage), Some(requester)) = (observed.stage.present(), &observed.request.requester) else { return Ok(false) };
        let DelegateView::ServicePrincipal { name } = &stage.delegate else {
            // The owner's own request is refused at the gate by name; nobody else mints a person's credentials.
            return Ok(false);
        };
        let host = &observed.request.host;
        let impersonate = Right::on("impersonate", "", "serviceaccounts", host).named(name);
        let mut token = Right::on("create", "", "serviceaccounts", host).named(name);
        token.subresource = Some("token".into());
        let (impersonate, token) =
            tokio::try_join!(self.cluster.access.may(requester, &impersonate), self.cluster.access.may(requester, &token))?;
        Ok(impersonate || token)
    }
}

fn requester_delegate(requester: &Identity) -> Delegate {
    match requester.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => Delegate::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() },
        None => Delegate::User {
            username: requester.username.clone(),
            groups: requester.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect(),
        },
    }
}

/// Findings in words: the first few, and how many more.
fn refused(reason: &str, results: &[PlanResult]) -> Obstacle {
    let named: Vec<String> = results.iter().take(NAMED).map(|r| format!("{} {}: {}: {}", r.kind, r.name, r.reason, r.message)).collect();
    let more = results.len().saturating_sub(NAMED);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    Obstacle { reason: reason.into(), message: format!("nothing was written; {}{tail}", named.join("; ")) }
}
