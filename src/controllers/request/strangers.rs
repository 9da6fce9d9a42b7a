//! Which requests a message on a Solution may not name: makers of a private pipeline don't read the requests of others.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::scope::Scope;
use crate::api::pipeline::Visibility;
use crate::policy::makers_view;

/// The message as makers may read it.
pub(super) fn unnamed(scope: Scope<'_>, message: &str) -> String {
    let may_read = scope.related.pipeline.as_ref().is_some_and(|pipeline| pipeline.spec.visibility == Visibility::Shared);
    if may_read {
        return message.to_owned();
    }
    let strangers = strangers(scope);
    makers_view::without_strangers(message, |name| strangers.contains(name))
}

/// The other requests that a message may name and that the Solution does not show.
fn strangers(scope: Scope<'_>) -> BTreeSet<String> {
    let (related, solution) = (scope.related, &scope.request.spec.solution.name);
    let others = related.others.iter().map(|(other, _)| other).chain(&related.dependency).map(|other| other.name_any());
    let entries = related.target.iter().flat_map(|target| &target.status).flat_map(|status| &status.solutions);
    let of_target = entries.filter(|entry| entry.name == *solution).flat_map(|entry| {
        let (failed, claim) = (entry.failed.as_ref().map(|f| f.request.clone()), entry.claim.as_ref().map(|c| c.request.clone()));
        [entry.request.clone(), failed, claim].into_iter().flatten()
    });
    let records = related.artifact.iter().flat_map(|artifact| &artifact.status).flat_map(|status| &status.deployments);
    let named: BTreeSet<String> = others.chain(of_target).chain(records.map(|record| record.request.clone())).collect();
    let (own, status) = (scope.request.name_any(), related.solution.as_ref().and_then(|solution| solution.status.as_ref()));
    named.into_iter().filter(|name| *name != own && !status.is_some_and(|status| makers_view::shows(status, name))).collect()
}
