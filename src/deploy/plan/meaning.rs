//! Finds out with few calls where an apply would leave something else than the manifest means, and what to do about it.

use std::collections::BTreeSet;

use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::api::plan::PlannedAction;
use crate::cluster::errors::{self, Cause, first_few};
use crate::cluster::managed_fields::Ownership;
use crate::cluster::object::{self, Item, Key, Served};
use crate::cluster::replicas;
use crate::cluster::retry::retrying;
use crate::deploy::apply::target::{Mode, Target};
use crate::deploy::plan::created_anew::{self, Handover};
use crate::deploy::plan::diff;
use crate::deploy::plan::findings::Obstacle;
use crate::deploy::plan::planned::PlannedItem;

/// Leaves the number of replicas to whoever scales the object. The field is removed from the manifest if somebody else has set it. The
/// current number is kept if the manifest gives it up and an autoscaler comes with the version or exists. Returns whether the manifest
/// changed.
pub(crate) async fn yield_replicas(target: &Target, scaled: &BTreeSet<Key>, item: &mut Item, live: &Value, force: bool) -> bool {
    let owned = Ownership::of(live, &item.served.resource.api_version);
    if replicas::leave(&mut item.body, live, &owned, force) {
        return true;
    }
    let gives_up = replicas::gives_up(&item.body, live, &owned);
    let is_kept = gives_up && (scaled.contains(&item.key) || is_autoscaled(target, &item.key).await);
    if is_kept {
        replicas::keep(&mut item.body, live);
    }
    is_kept
}

/// Whether an existing autoscaler scales the object. If that can't be read, the answer is yes, so that running pods keep running.
async fn is_autoscaled(target: &Target, key: &Key) -> bool {
    let served = Served::in_namespaces(ApiResource {
        group: "autoscaling".into(),
        version: "v2".into(),
        api_version: "autoscaling/v2".into(),
        kind: "HorizontalPodAutoscaler".into(),
        plural: "horizontalpodautoscalers".into(),
    });
    match retrying(|| target.list(&served, "")).await {
        Ok(scalers) => replicas::by_others(&scalers).contains(key),
        Err(error) => errors::classify(&error) != Cause::NotFound,
    }
}

/// What happens to an object that an apply would leave as `would_be`. Nothing more, if that is what the manifest means.
///
/// It costs a call if a field that is given up stays, or if the object changes and has a field that nobody owns and that is not a known
/// default.
pub(crate) async fn judged(
    target: &Target,
    item: Item,
    live: Option<Value>,
    would_be: Value,
    force: bool,
) -> Result<PlannedItem, Obstacle> {
    let Some(found) = live.as_ref().filter(|_| created_anew::is_changeable(&item.body)) else { return Ok(compared(item, live, would_be)) };
    let is_update = !diff::changed_fields(found, &would_be).is_empty();
    let drops = if force && is_update { drifted(&item, found) } else { json!({}) };
    let owned = owned(&item, found, &drops);
    let is_suspect = || {
        created_anew::gives_up(&owned, &item.body, &would_be)
            || is_update && (drops != json!({}) || created_anew::leaves_behind(&owned, &item.body, &would_be))
    };
    if !owned.is_certain || !is_suspect() {
        return Ok(compared(item, live, would_be));
    }
    Ok(match meant(target, &item, found, owned, &would_be, drops).await? {
        Some((meant, handover)) if !handover.is_empty() => PlannedItem { handover, ..compared(item, live, meant) },
        _ => compared(item, live, would_be),
    })
}

/// What happens to an object whose apply is refused because of fields that it would leave: what the manifest means, if that is not refused.
/// `None` if it is.
/// refused. `None` where it is.
pub(crate) async fn instead(target: &Target, item: &Item, live: &Value, force: bool) -> Result<Option<PlannedItem>, Obstacle> {
    if !created_anew::is_changeable(&item.body) {
        return Ok(None);
    }
    let drops = drifted(item, live);
    if !force && drops != json!({}) {
        return Err(changed_by_hand(&item.key, &drops));
    }
    let owned = owned(item, live, &drops);
    if !owned.is_certain {
        return Ok(None);
    }
    let found = meant(target, item, live, owned, live, drops).await?.filter(|(_, handover)| !handover.is_empty());
    Ok(found.map(|(meant, handover)| PlannedItem { handover, ..compared(item.clone(), Some(live.clone()), meant) }))
}

/// The existing object, and the object as an apply would leave it.
pub(crate) fn compared(item: Item, live: Option<Value>, would_be: Value) -> PlannedItem {
    let fields = live.as_ref().map(|live| diff::changed_fields(live, &would_be)).unwrap_or_default();
    let action = if fields.is_empty() { PlannedAction::Unchanged } else { PlannedAction::Update };
    PlannedItem { item, action, live, would_be: Some(would_be), fields, handover: Handover::default() }
}

/// What is meant, as the server would complete it, and what is in its way in `base`. `None` if the server refuses it.
async fn meant(
    target: &Target,
    item: &Item,
    live: &Value,
    mut owned: Ownership,
    base: &Value,
    drops: Value,
) -> Result<Option<(Value, Handover)>, Obstacle> {
    let Some(meant) = completed(target, item, live, &owned).await? else { return Ok(None) };
    let handover = created_anew::left_behind(&owned, &item.body, base, &meant, drops.clone());
    if handover.is_empty() {
        return Ok(Some((meant, handover)));
    }
    let created = created(target, item, live).await?;
    let Some(stays) = created.and_then(|created| created_anew::as_at_creation(&handover.takes, base, &created)) else {
        return Ok(Some((meant, handover)));
    };
    owned.leave(&stays);
    let meant = completed(target, item, live, &owned).await?;
    Ok(meant.map(|meant| {
        let handover = created_anew::left_behind(&owned, &item.body, base, &meant, drops);
        (meant, handover)
    }))
}

/// What is meant, as the server would complete it; `None` if the server refuses it.
async fn completed(target: &Target, item: &Item, live: &Value, owned: &Ownership) -> Result<Option<Value>, Obstacle> {
    let patch = created_anew::meant(owned, &item.body, live);
    answered(target, item, retrying(|| target.merge(&item.served, &item.key.name, &patch, Mode::DryRun)).await)
}

/// What the manifest would become if it were created; `None` if that can't be tried: the name has a meaning, a quota is used up, or objects
/// of the kind may not be created.
async fn created(target: &Target, item: &Item, live: &Value) -> Result<Option<Value>, Obstacle> {
    let other = created_anew::under_another_name(&item.body, live);
    let outcome = retrying(|| target.apply(&item.served, object::name(&other), &other, false, Mode::DryRun)).await;
    match outcome {
        Err(error) if errors::classify(&error) == Cause::Unauthorized => Ok(None),
        outcome => answered(target, item, outcome),
    }
}

/// An answer; `None` if the server refuses the call.
fn answered(target: &Target, item: &Item, outcome: Result<Value, kube::Error>) -> Result<Option<Value>, Obstacle> {
    match outcome {
        Ok(object) => Ok(Some(object)),
        Err(error) => match errors::classify(&error) {
            Cause::Transient | Cause::Stale | Cause::Unauthorized => {
                Err(Obstacle::Call { error, rights: vec![target.right("patch", &item.served)] })
            }
            _ => Ok(None),
        },
    }
}

fn owned(item: &Item, live: &Value, drops: &Value) -> Ownership {
    let mut owned = Ownership::without(live, &item.served.resource.api_version, drops);
    owned.leave_assigned(&created_anew::assigned_at_creation(&item.body));
    owned
}

fn drifted(item: &Item, live: &Value) -> Value {
    let owned = Ownership::of(live, &item.served.resource.api_version);
    if owned.is_certain { created_anew::drifted(&owned, &item.body, live) } else { json!({}) }
}

/// Items of its lists belong to others now, because their keys were changed.
fn changed_by_hand(key: &Key, drops: &Value) -> Obstacle {
    let mut paths = Vec::new();
    each_path(drops, "", &mut paths);
    let message = format!(
        "{key}: others changed what items of its lists are told apart by, so that these are theirs now and stand beside those of the solution: {} (change them back in the target, or have the stage take them with spec.deployment.force)",
        first_few(paths.into_iter())
    );
    Obstacle::Refusal(errors::result(key, Cause::FieldConflict.reason(), &message))
}

fn each_path(fields: &Value, path: &str, found: &mut Vec<String>) {
    let Some(map) = fields.as_object().filter(|map| !map.is_empty()) else {
        found.push(path.to_owned());
        return;
    };
    for (name, below) in map {
        let shown = match name.split_once(':') {
            Some(("f", field)) => format!("{path}.{field}"),
            Some((_, keys)) => format!("{path}[{keys}]"),
            None => path.to_owned(),
        };
        each_path(below, &shown, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_by_hand_is_named_with_what_to_do() {
        let key = Key { group: String::new(), kind: "Service".into(), name: "web".into() };
        let drops = json!({"f:spec": {"f:ports": {"k:{\"port\":83,\"protocol\":\"TCP\"}": {}}}});
        let Obstacle::Refusal(result) = changed_by_hand(&key, &drops) else { panic!() };
        assert_eq!(result.reason, "FieldConflict");
        assert!(result.message.contains(".spec.ports[{\"port\":83,\"protocol\":\"TCP\"}] (change them back"), "{}", result.message);
    }
}
