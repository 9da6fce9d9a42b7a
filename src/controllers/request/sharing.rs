//! Step `Share`: the delegate creates in the target what the request asks to share.

use super::acting::{Acting, acting};
use super::scope::Scope;
use crate::api::Environment;
use crate::api::plan::PlanResult;
use crate::api::request_status::ObjectError;
use crate::deploy::apply::share::{self, Shares};
use crate::identity::claimed::Claimed;
use crate::policy::request::observed::{Observed, ShareOutcome};
use crate::runtime::controller::ReconcileError;

/// The result of sharing, and what was refused.
pub(super) struct ShareFound {
    pub(super) outcome: ShareOutcome,
    pub(super) errors: Vec<ObjectError>,
}

/// What could not be shared, for those who decide before. It is checked only if there is something to share.
pub(super) async fn preflight(scope: Scope<'_>, acting: &Acting, target: &Environment) -> Result<Vec<PlanResult>, ReconcileError> {
    let spec = &scope.request.spec;
    Ok(share::preflight(&acting.client, &target.spec.namespace, &spec.solution.name, &spec.share_with).await?)
}

/// Shares, and reports what was refused, with the grant that would allow it. None of it fails the deployment.
pub(super) async fn share(scope: Scope<'_>, observed: &Observed) -> Result<ShareFound, ReconcileError> {
    let spec = &scope.request.spec;
    let claim = scope.related.target.as_ref().and_then(|t| Claimed::from_environment(t, &spec.solution.name, &scope.uid()));
    let Some(claim) = claim else { return Ok(unreachable("the claim on the environment is gone")) };
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return stop.told(|blocked| unreachable(&blocked.message)),
    };
    let fence = scope.fence(claim);
    let claim = fence.claim();
    let Shares { made, refused, missing, transient } = share::share(&fence, &acting.client, &spec.share_with).await;
    if let Some(why) = transient {
        return Ok(unreachable(&why));
    }
    let made = spec.share_with.iter().filter(|grant| made.contains(&share::name(claim.solution(), grant))).map(share::said).collect();
    let mut said: Vec<String> = refused.iter().map(|error| error.message.clone()).collect();
    if !missing.is_empty() {
        said.push(acting.missing(scope, claim.namespace(), &missing).await?.message);
    }
    Ok(ShareFound { outcome: ShareOutcome::Done { made, refused: said.join("; ") }, errors: refused })
}

fn unreachable(why: &str) -> ShareFound {
    ShareFound { outcome: ShareOutcome::Unreachable(why.to_owned()), errors: Vec::new() }
}
