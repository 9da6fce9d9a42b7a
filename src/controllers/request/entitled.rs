//! Whether those in whose name something is deployed still have the rights for it: the requester, and the owner of the stage.

use std::time::Duration;

use futures::future::OptionFuture;

use super::origin::Origin;
use crate::identity::access::{self, Access, Right};
use crate::policy::request::observed::{DelegateView, Observed, RightsOutcome};
use crate::policy::request::rights;
use crate::policy::stage;
use crate::runtime::controller::ReconcileError;

/// Checks the rights that admission checked when request and stage were written, and the rights to what is deployed. It borrows nothing of
/// a reconciliation, so that it can run beside slower calls. An answer that is at most `age` old counts.
pub(super) async fn entitled(access: Access, observed: &Observed, origin: Origin, age: Duration) -> Result<RightsOutcome, ReconcileError> {
    if let Some(blocked) = origin.unusable() {
        return Ok(RightsOutcome::Blocked(blocked.clone()));
    }
    let (Some(stage), Some(requester)) = (observed.stage.present(), &observed.request.requester) else { return Ok(RightsOutcome::Held) };
    let (host, pipeline) = (&observed.request.host, &observed.request.pipeline);
    let deploys = Right::on("deploy", crate::api::GROUP, "pipelines", host).named(pipeline);
    let requester = access::as_authenticated(requester);
    let delegate = match (&stage.delegate, &stage.owner) {
        (DelegateView::ServicePrincipal { name }, Some(owner)) => Some((name, access::as_authenticated(owner))),
        _ => None,
    };
    let answering: OptionFuture<_> = delegate
        .as_ref()
        .map(|(name, owner)| {
            let asked = stage::to_answer_for(host, name);
            let access = &access;
            async move { access.any_lately(owner, &asked, age).await }
        })
        .into();
    let (may_deploy, answers, lacking) =
        futures::join!(access.lately(&requester, &deploys, true, age), answering, origin.lacking(&access, &requester, age));
    let mut missing = Vec::new();
    if !may_deploy? {
        missing.push(rights::unshared(host, pipeline, &requester));
    }
    if let (Some(false), Some((name, owner))) = (answers.transpose()?, &delegate) {
        missing.push(rights::disowned(&observed.request.stage, host, name, owner));
    }
    missing.extend(lacking?);
    Ok(rights::together(missing).map_or(RightsOutcome::Held, RightsOutcome::Blocked))
}
