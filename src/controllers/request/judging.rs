//! What prevents a plan, found all at once, so that it can be corrected all at once. And what an approver is told about it.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;

use super::acting::Acting;
use super::planning::Hindrance;
use super::scope::Scope;
use super::stop::Stop;
use crate::api::names::CONNECTION_LABEL;
use crate::api::plan::{AccessedObject, MAX_ACCESS, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::blocked::{Blocked, Wait};
use crate::cluster::errors::{self, Cause, bounded};
use crate::cluster::object::Key;
use crate::cluster::packed::packed;
use crate::deploy::plan::connections::{self, Offers, Uses};

use crate::deploy::plan::dangling_bindings;
use crate::deploy::plan::planned::Planned;
use crate::deploy::plan::prerequisites::{self, Missing, Needed};
use crate::deploy::plan::rbac_changes;
use crate::identity::access::{Access, Right};
use crate::identity::delegate::DelegateClient;
use crate::policy::request::{sharing, told};
use crate::runtime::controller::ReconcileError;

/// How many findings a message describes in full. The others are only named.
const IN_FULL: usize = 5;
/// The most characters of a list of names in a message. A grant may follow it.
const MAX_NAMES: usize = 8_000;

/// Looks for what objects use and need.
pub(super) struct Judge<'a> {
    pub(super) client: &'a DelegateClient,
    /// Reads classes, which belong to nobody.
    pub(super) reader: &'a Client,
    pub(super) namespace: &'a str,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    offers: Offers,
    /// What does not exist.
    missing: Vec<PlanResult>,
    /// What is told but prevents nothing: classes of ingresses that do not exist, claims of the target that are mounted.
    pub(super) warnings: Vec<PlanResult>,
    /// The rights that the delegate needs.
    pub(super) rights: BTreeSet<Right>,
}

impl Judge<'_> {
    /// Looks for everything at once.
    pub(super) async fn look(&self, uses: &Uses, needed: &Needed) -> Result<Found, kube::Error> {
        let (offers, missing) = futures::join!(
            connections::check(self.client, self.namespace, uses),
            prerequisites::check(self.client, self.reader, self.namespace, needed.clone())
        );
        let mut offers = offers?;
        let Missing { results, warnings, rights } = missing?;
        let rights = rights.into_iter().chain(std::mem::take(&mut offers.rights)).collect();
        Ok(Found { offers, missing: results, warnings, rights })
    }

    /// What the target makes of the objects counts like what they say themselves. It is known after the dry run. So only what was not
    /// looked for before is looked for then.
    pub(super) async fn beyond(&self, planned: &Planned, uses: &Uses, needed: &Needed) -> Result<Found, kube::Error> {
        self.look(&planned.uses().beyond(uses), &prerequisites::beyond(planned.needs(), needed)).await
    }
}

impl Found {
    /// Adds what another search found.
    pub(super) fn merge(&mut self, others: Self) {
        self.offers.merge(others.offers);
        self.missing.extend(others.missing);
        self.warnings.extend(others.warnings);
        self.rights.extend(others.rights);
    }

    /// Whether nothing prevents the plan.
    pub(super) fn is_fine(&self) -> bool {
        self.offers.refused.is_empty() && self.missing.is_empty() && self.rights.is_empty()
    }

    /// What is used and was not used before, how much of it is not listed, and what to tell about it.
    pub(super) fn used(&mut self, planned: &Planned, connected: &BTreeMap<String, String>) -> (Vec<AccessedObject>, i32, Vec<PlanResult>) {
        let before = planned.used_before();
        let is_new = |one: &AccessedObject| !before.has(&one.kind, &one.name);
        self.offers.used.retain(is_new);
        self.offers.awaited.retain(is_new);
        let needed_before = planned.needed_before();
        let is_mounted = |one: &PlanResult| {
            one.kind == "PersistentVolumeClaim"
                && needed_before.contains_key(&(prerequisites::Kind::PersistentVolumeClaim, one.name.clone()))
        };
        self.warnings.retain(|one| !is_mounted(one));
        let mut access = std::mem::take(&mut self.offers.used);
        let omitted = access.split_off(access.len().min(MAX_ACCESS));
        let key = Key { group: String::new(), kind: "Solution".into(), name: planned.solution().to_owned() };
        let parts = packed(omitted.iter().map(|one| format!("{} {} ({})", one.kind, one.name, one.used_by)), ", ");
        let mut told: Vec<PlanResult> = parts
            .into_iter()
            .map(|part| errors::result(&key, Reason::UsesMore, &format!("uses these of the target too: {part}")))
            .collect();
        told.extend(self.offers.told(planned.solution()));
        told.extend(planned.uses().connected(connected).beyond(&before).told());
        (access, i32::try_from(omitted.len()).unwrap_or(i32::MAX), told)
    }
}

/// What the solution's own bindings share although the stage does not allow it. Once the request has started, this was checked before.
pub(super) fn forbidden(scope: Scope<'_>, namespace: &str, objects: &[serde_json::Value]) -> Vec<PlanResult> {
    let Some(stage) = scope.related.stage.as_ref().filter(|_| scope.status().start_time.is_none()) else { return Vec::new() };
    sharing::forbidden_by_binding(&scope.request.spec.stage, stage.spec.sharing.as_ref(), &rbac_changes::shared(objects, namespace))
}

/// What an approver is told about what the plan grants and exposes. `Err` means that it is more than can be told.
pub(super) async fn told(access: &Access, acting: &Acting, planned: &Planned) -> Result<Vec<PlanResult>, Stop<PlanResult>> {
    let listed = told::gifts(planned.solution(), &planned.powers())
        .and_then(|gifts| Ok((gifts, told::exposures(planned.solution(), &planned.exposures())?)));
    let (gifts, exposures) = listed.map_err(Stop::Because)?;
    let bound = bound_already(access, acting, planned).await?;
    told::all(planned.solution(), &[gifts, bound, exposures]).map_err(Stop::Because)
}

/// What the target already grants to accounts that the plan creates.
async fn bound_already(access: &Access, acting: &Acting, planned: &Planned) -> Result<Vec<PlanResult>, ReconcileError> {
    let accounts = planned.new_accounts();
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let [here, everywhere] = dangling_bindings::rights(planned.namespace());
    let (here, everywhere) = tokio::try_join!(acting.may_ask(access, &here), acting.may_ask(access, &everywhere))?;
    Ok(dangling_bindings::look(&acting.client, planned.namespace(), &accounts, [here, everywhere], |key| planned.brings(key)).await?)
}

/// Why a plan can't be carried out: the request waits if others can correct everything, or it ends.
pub(super) async fn hindrance(
    scope: Scope<'_>,
    acting: &Acting,
    namespace: &str,
    found: Found,
    refused: Vec<PlanResult>,
) -> Result<Hindrance, ReconcileError> {
    let Found { offers, missing, rights, .. } = found;
    let reason = reason(&offers.refused, &missing, &refused);
    let results: Vec<PlanResult> = [offers.refused, missing, refused].into_iter().flatten().collect();
    if !rights.is_empty() {
        let rights: Vec<Right> = rights.into_iter().collect();
        let mut obstacle = acting.missing(scope, namespace, &rights).await?;
        if !results.is_empty() {
            // What is to be granted follows at the end of the message.
            obstacle.message = format!("{}. Besides, {}", said(&results, scope.target_namespace()), obstacle.message);
        }
        return Ok(Hindrance::Blocked(obstacle));
    }
    Ok(match reason {
        Ok(reason) => Hindrance::Awaited(reason, results),
        Err(reason) => Hindrance::Refused(reason, results),
    })
}

/// What the request waits for, with everything that was found.
pub(super) fn awaited(namespace: &str, reason: Reason, results: &[PlanResult]) -> Blocked {
    Blocked::waits(Wait::Somebody, reason, format!("nothing was written; {}", said(results, namespace)))
}

/// The reason. `Ok`: the request waits for everything that was found. `Err`: the request ends.
fn reason(unoffered: &[PlanResult], missing: &[PlanResult], refused: &[PlanResult]) -> Result<Reason, Reason> {
    let is = |results: &[PlanResult], reason: Reason| results.iter().any(|one| one.reason == reason);
    let waits = [Reason::NotOffered, Reason::ClusterScoped, Cause::Escalation.reason(), Cause::Quota.reason()];
    let ends = |one: &PlanResult| !waits.iter().any(|waits| one.reason == *waits);
    if is(refused, Reason::SharingNotAllowed) {
        return Err(Reason::SharingNotAllowed);
    }
    if unoffered.iter().chain(refused).any(ends) {
        return Err(Reason::DryRunRefused);
    }
    if is(unoffered, Reason::NotOffered) || is(refused, Reason::NotOffered) {
        return Ok(Reason::NotOffered);
    }
    if !missing.is_empty() {
        return Ok(Reason::MissingInTarget);
    }
    Ok(refused.first().map_or_else(|| Reason::DryRunRefused, |one| Reason::of(&one.reason).unwrap_or(Reason::DryRunRefused)))
}

/// The first findings in full, and the others by name, so that everything can be corrected in one round.
pub(super) fn said(results: &[PlanResult], namespace: &str) -> String {
    let (first, rest) = results.split_at(results.len().min(IN_FULL));
    let full: Vec<String> = first.iter().map(|r| format!("{} {}: {}: {}", r.kind, r.name, r.reason, r.message)).collect();
    let mut text = full.join("; ");
    if rest.is_empty() {
        return text;
    }
    let names: Vec<String> = rest.iter().map(|r| format!("{} {} ({})", r.kind, r.name, r.reason)).collect();
    text = format!("{text}; and besides {}", bounded(&names.join(", "), MAX_NAMES));
    let unoffered: Vec<String> =
        results.iter().filter(|r| r.reason == Reason::NotOffered).map(|r| format!("{}/{}", r.kind.to_lowercase(), r.name)).collect();
    if unoffered.len() > 1 {
        let all = bounded(&unoffered.join(" "), MAX_NAMES);
        text = format!(
            "{text}. All that is not offered is offered, once it is there, with: kubectl label {all} -n {namespace} {CONNECTION_LABEL}=true"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(kind: &str, name: &str, reason: &str) -> PlanResult {
        PlanResult { kind: kind.into(), name: name.into(), reason: reason.into(), message: "why".into() }
    }

    #[test]
    fn what_somebody_else_can_put_right_is_waited_for_and_what_needs_a_version_ends() {
        let secret = [result("Secret", "a", "NotOffered")];
        let map = [result("ConfigMap", "m", "NotFound")];
        let of = |reason: &str| [result("Deployment", "d", reason)];
        assert_eq!(reason(&secret, &map, &[]), Ok(Reason::NotOffered));
        assert_eq!(reason(&[], &map, &[]), Ok(Reason::MissingInTarget));
        assert_eq!(reason(&[], &[], &of("ClusterScoped")), Ok(Reason::ClusterScoped));
        assert_eq!(reason(&[], &[], &of("GrantsMoreThanDelegateHolds")), Ok(Reason::GrantsMoreThanDelegateHolds));
        assert_eq!(reason(&secret, &map, &of("ClusterScoped")), Ok(Reason::NotOffered));
        assert_eq!(reason(&secret, &map, &of("Invalid")), Err(Reason::DryRunRefused));
        assert_eq!(reason(&[result("Secret", "..", "InvalidName")], &[], &[]), Err(Reason::DryRunRefused));
        assert_eq!(reason(&secret, &[], &of("SharingNotAllowed")), Err(Reason::SharingNotAllowed));
        // A kind that the target does not serve is not what the target lacks.
        assert_eq!(reason(&[], &[], &of("NotFound")), Err(Reason::DryRunRefused));
    }

    #[test]
    fn all_that_is_to_be_put_right_is_named_and_offered_by_one_command() {
        let many: Vec<PlanResult> = (0..8).map(|n| result("Secret", &format!("s{n}"), "NotOffered")).collect();
        let text = said(&many, "qa");
        assert!(
            text.starts_with("Secret s0: NotOffered: why; Secret s1: ") && text.contains("; and besides Secret s5 (NotOffered), Secret s6"),
            "{text}"
        );
        assert!(text.ends_with("kubectl label secret/s0 secret/s1 secret/s2 secret/s3 secret/s4 secret/s5 secret/s6 secret/s7 -n qa pilotage.dev/connection=true"), "{text}");
        assert_eq!(said(&many[..1], "qa"), "Secret s0: NotOffered: why");
    }
}
