//! The dry run: finds out what a deployment would do, as the identity that will deploy.

pub mod applyset;
pub(crate) mod connections;
pub(crate) mod created_anew;
pub(crate) mod dangling_bindings;
pub(crate) mod data_loss;
pub(crate) mod diff;
pub(crate) mod dry_run_order;
pub(crate) mod exposure;
pub(crate) mod findings;
pub(crate) mod input;
pub(crate) mod judged;
pub(crate) mod live_state;
pub(crate) mod meaning;
pub(crate) mod members;
pub(crate) mod planned;
pub(crate) mod prerequisites;
pub(crate) mod quota;
pub(crate) mod rbac_changes;
pub(crate) mod usage;
pub(crate) mod validate;
pub(crate) mod values;

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use serde_json::Value;

use self::applyset::GroupKind;
use self::created_anew::Handover;
use self::dry_run_order::Provided;
pub(crate) use self::findings::PlanError;
use self::findings::{Findings, Obstacle};
use self::input::{Created, PlanInput};
use self::live_state::{Members, Scope};
use self::members::{Set, Standing};
use self::planned::{ParentPlan, Planned, PlannedItem, Pruning};
use self::validate::admit;
use crate::api::names;
use crate::api::plan::PlannedAction;
use crate::artifact::strip::assigned;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Item, Key};
use crate::cluster::replicas;
use crate::cluster::resources::Resources;
use crate::cluster::retry::retrying;
use crate::deploy::apply::release;
use crate::deploy::apply::target::{Mode, Target};
use crate::identity::delegate::DelegateClient;

/// How often an object that changes during the plan is read again.
const ROUNDS: usize = 4;

/// Finds out by server-side dry run, as the delegate, what a deployment of the objects would do.
///
/// Nothing is written. All objects are checked even if some are refused, so that everything that is missing is known at once. The parent,
/// the lists and the first dry runs are requested at the same time. A dry run reports the object's version on which it was made. So it is
/// compared with exactly that version, and repeated if the two differ.
///
/// # Errors
/// See [`PlanError`].
pub(crate) async fn plan(input: &PlanInput<'_>, delegate: &DelegateClient, resources: &impl Resources) -> Result<Planned, PlanError> {
    let target = Target::new(delegate, input.namespace);
    let set = Set::new(input.solution, input.namespace, input.cluster.namespace_uid).of_host(input.host);
    let concurrency = input.concurrency.max(1);
    let scope = Scope { target: &target, namespace: input.namespace, solution: input.solution, set: &set, concurrency };

    let mut refused = Findings::default();
    let mut items = admit(input, &set, resources, &mut refused).await?;
    for item in &mut items {
        assigned::leave_rules(&mut item.body);
    }
    let kinds = live_state::distinct(items.iter().map(|item| &item.served));
    let first_runs = stream::iter(0..items.len())
        .map(|index| {
            let (item, target) = (&items[index], &target);
            async move { dry_run(target, item, input.force).await }
        })
        .buffered(concurrency)
        .collect::<Vec<_>>();
    let new_parent = ParentPlan::new(None, kinds.iter().map(|served| GroupKind::of(&served.resource)).collect());
    let surveyed = async {
        if !input.is_first {
            return (scope.survey(&kinds).await, None);
        }
        match try_parent(&scope, &new_parent).await {
            // It would be created, so it does not exist and has no members. The dry run's answer replaces a read.
            Ok(Parent::New) => (Default::default(), Some(Ok(Parent::New))),
            tried => (scope.survey(&kinds).await, Some(tried)),
        }
    };
    let (((mut survey, mut findings), first_parent), first_runs) = futures::join!(surveyed, first_runs);
    findings.merge(refused);
    scope.survey_former(&mut survey, &kinds, &input.cluster, resources, &mut findings).await?;

    let (pruning, parent, left_in_cluster) = prune(&survey, &set, &items, input.may_delete);
    let first_parent = first_parent.filter(|_| parent == new_parent);
    let work = items.into_iter().zip(first_runs).map(|(item, run)| Task { live: member(&survey.members, &item), item, run }).collect();
    let wanted = Wanted { force: input.force, pruning, parent, tried_parent: first_parent };
    let Settled { items, pruning, held, parent } = finish(&scope, work, wanted, &mut findings).await;
    findings.into_result(delegate.delegate().username())?;
    Ok(Planned {
        namespace: input.namespace.to_owned(),
        solution: input.solution.to_owned(),
        set,
        delegate: delegate.delegate().clone(),
        force: input.force,
        parent,
        items,
        pruning,
        held,
        left_alone: survey.left_alone,
        left_in_cluster,
        warnings: target.warnings().results(),
        reported_on: input.reported_on.iter().map(GroupKind::from).collect(),
    })
}

/// One object after its dry run, still to be compared with the existing one.
struct Task {
    item: Item,
    live: Option<Value>,
    run: Result<Value, kube::Error>,
}

/// What else must be done about the set, in addition to writing its objects.
struct Wanted {
    force: bool,
    pruning: Pruning,
    parent: ParentPlan,
    tried_parent: Option<Result<Parent, Obstacle>>,
}

/// What a dry run says about the parent of the set.
#[derive(Clone, Copy)]
enum Parent {
    /// It would be created.
    New,
    There,
}

/// The calls that were found to be allowed.
struct Settled {
    items: Vec<PlannedItem>,
    pruning: Pruning,
    held: Vec<Key>,
    parent: ParentPlan,
}

/// Compares all objects, and proves that the prunes and the write of the parent are allowed; all at the same time.
async fn finish(scope: &Scope<'_>, work: Vec<Task>, wanted: Wanted, findings: &mut Findings) -> Settled {
    let Wanted { force, pruning, parent, tried_parent } = wanted;
    let Pruning { deletions, releases } = pruning;
    let provided = Provided::by(work.iter().map(|task| &task.item.key));
    let scaled = replicas::by_others(work.iter().map(|task| &task.item.body));
    let (provided, scaled) = (&provided, &scaled);
    let settled = stream::iter(work)
        .map(|Task { item, live, run }| async move {
            let key = item.key.clone();
            (key, settle(scope, provided, scaled, item, force, live, run).await)
        })
        .buffered(scope.concurrency)
        .collect::<Vec<_>>();
    let deleted = stream::iter(0..deletions.len())
        .map(|index| {
            let deletion = &deletions[index];
            async move {
                let outcome =
                    retrying(|| scope.target.delete(&deletion.served, &deletion.key.name, &deletion.uid, None, Mode::DryRun)).await;
                (index, outcome)
            }
        })
        .buffer_unordered(scope.concurrency)
        .collect::<Vec<_>>();
    let released = stream::iter(releases)
        .map(|release| async move { (release.key.clone(), release::rehearse(scope.target, scope.set, release).await) })
        .buffered(scope.concurrency)
        .collect::<Vec<_>>();
    let recorded = async {
        match tried_parent {
            Some(tried) => tried,
            None => try_parent(scope, &parent).await,
        }
    };
    let (settled, deleted, released, recorded) = futures::join!(settled, deleted, released, recorded);
    for (index, outcome) in deleted {
        if let Err(error) = outcome {
            let deletion = &deletions[index];
            findings.add(&deletion.key, Obstacle::Call { error, rights: vec![scope.target.right("delete", &deletion.served)] });
        }
    }
    if let Err(obstacle) = recorded {
        findings.add(&scope.parent_key(), obstacle);
    }
    let mut pruning = Pruning { deletions, releases: Vec::new() };
    let mut held = Vec::new();
    for (key, outcome) in released {
        match outcome {
            Ok(Some(release)) => pruning.releases.push(release),
            Ok(None) => held.push(key),
            Err(obstacle) => findings.add(&key, obstacle),
        }
    }
    let mut items = Vec::with_capacity(settled.len());
    for (key, outcome) in settled {
        match outcome {
            Ok(item) => items.push(item),
            Err(obstacle) => findings.add(&key, obstacle),
        }
    }
    Settled { items, pruning, held, parent }
}

/// Makes a dry run of the write of the parent of the set.
async fn try_parent(scope: &Scope<'_>, parent: &ParentPlan) -> Result<Parent, Obstacle> {
    let Some(kinds) = parent.widened().or(parent.narrowed()) else { return Ok(Parent::There) };
    let (served, manifest) = (live_state::config_maps(), scope.set.parent(kinds));
    let name = names::applyset_parent_name(scope.solution);
    match retrying(|| scope.target.apply(&served, &name, &manifest, true, Mode::DryRun)).await {
        // What a dry run creates has a uid, but no version.
        Ok(would_be) if object::metadata(&would_be, "resourceVersion").is_none_or(str::is_empty) => Ok(Parent::New),
        Ok(_) => Ok(Parent::There),
        Err(error) => {
            let rights = scope.target.rights_to_apply(&served, parent.known.is_some(), &error);
            Err(Obstacle::Call { error, rights })
        }
    }
}

/// Compares one object with the existing one. The dry run and the read must be of the same version.
async fn settle(
    scope: &Scope<'_>,
    provided: &Provided,
    scaled: &BTreeSet<Key>,
    mut item: Item,
    force: bool,
    mut live: Option<Value>,
    run: Result<Value, kube::Error>,
) -> Result<PlannedItem, Obstacle> {
    let (target, set) = (scope.target, scope.set);
    let mut run = Some(run);
    if live.as_ref().is_some_and(|live| set.has_adopted(live)) {
        set.mark_adopted(&mut item.body);
        run = None;
    }
    let mut last = None;
    for _ in 0..ROUNDS {
        if let Some(found) = live.as_ref().filter(|found| set.owns(found, item.served.is_namespaced))
            && meaning::yield_replicas(target, scaled, &mut item, found, force).await
        {
            run = None;
        }
        let outcome = match run.take() {
            Some(outcome) => outcome,
            None => dry_run(target, &item, force).await,
        };
        let would_be = match outcome {
            Ok(would_be) => would_be,
            Err(error) if errors::classify(&error) == Cause::Stale => continue,
            Err(error) => return refused(scope, provided, item, live, error, force).await,
        };
        // What a dry run creates has a uid, but no version.
        if object::metadata(&would_be, "resourceVersion").is_none_or(str::is_empty) {
            if set.is_marked_adopted(&item.body) {
                // It is gone. Whatever takes its place is the set's own.
                Set::unmark_adopted(&mut item.body);
                live = None;
                continue;
            }
            return Ok(PlannedItem {
                item,
                action: PlannedAction::Create,
                live: None,
                would_be: Some(would_be),
                fields: Vec::new(),
                handover: Handover::default(),
            });
        }
        if !live.as_ref().is_some_and(|live| object::same_state(live, &would_be)) {
            live = read(target, &item).await?;
        }
        let standing = set.check_owner(&item.key, &item.served, live.as_ref())?;
        let is_adopted = standing == Standing::Adoptable || live.as_ref().is_some_and(|live| set.has_adopted(live));
        if is_adopted && !set.is_marked_adopted(&item.body) {
            set.mark_adopted(&mut item.body);
            continue;
        }
        match &live {
            Some(found) if object::same_state(found, &would_be) => return judged(target, set, item, live, would_be, standing, force).await,
            _ => last = Some((would_be, standing)),
        }
    }
    // Its status changes faster than it can be read. The apply names the version that it is for.
    if let (Some(_), Some((would_be, standing))) = (&live, last) {
        return judged(target, set, item, live, would_be, standing, force).await;
    }
    let key = &item.key;
    let message = format!("{key} is deleted and created again all the time in the target: find out by whom, then ask again");
    Err(Obstacle::Refusal(errors::result(key, Cause::Stale.reason(), &message)))
}

/// What is planned for an object whose dry run the server refuses: nothing, unless the refusal will disappear later, or the object is
/// created anew.
async fn refused(
    scope: &Scope<'_>,
    provided: &Provided,
    mut item: Item,
    mut live: Option<Value>,
    error: kube::Error,
    force: bool,
) -> Result<PlannedItem, Obstacle> {
    let (target, set) = (scope.target, scope.set);
    let cause = errors::classify(&error);
    let comes_later = live.is_none() && provided.will_satisfy(&item, &error);
    let mut standing = if live.is_some() { Standing::Own } else { Standing::Free };
    // First say who owns the object, then what is wrong with writing to it; and who gets back what the role of the same name once gave
    // them.
    if live.is_none() && !matches!(cause, Cause::Transient | Cause::Unauthorized) {
        // In a namespace the write finds this out too: it creates, or changes nothing.
        let needs_to_know = cause == Cause::FieldConflict || !item.served.is_namespaced;
        match read(target, &item).await {
            Ok(found) => {
                standing = set.check_owner(&item.key, &item.served, found.as_ref())?;
                live = found;
            }
            Err(obstacle) if needs_to_know => return Err(obstacle),
            Err(_) => {}
        }
    }
    let is_adopted = standing == Standing::Adoptable || live.as_ref().is_some_and(|live| set.has_adopted(live));
    if comes_later {
        if is_adopted {
            set.mark_adopted(&mut item.body);
        }
        let action = match standing {
            Standing::Free => PlannedAction::Create,
            Standing::Own => PlannedAction::Update,
            Standing::Adoptable => PlannedAction::Adopts,
        };
        return Ok(PlannedItem { item, action, live, would_be: None, fields: Vec::new(), handover: Handover::default() });
    }
    if let (Cause::Invalid, false, Some(found)) =
        (cause, is_adopted, live.as_ref().filter(|found| set.owns(found, item.served.is_namespaced)))
        && let Some(planned) = meaning::instead(target, &item, found, force).await?
    {
        return Ok(planned);
    }
    if cause == Cause::Immutable && is_adopted {
        let message = format!(
            "{}, and {} was not put there by this solution, so that it is neither deleted nor created anew: give the object another name in the new version, or have its owner delete it",
            errors::message(&error),
            item.key
        );
        return Err(Obstacle::Refusal(errors::result(&item.key, cause.reason(), &message)));
    }
    if cause == Cause::Immutable && may_be_recreated(&item, set, live.as_ref()) {
        return recreated(target, item, live).await;
    }
    let rights = target.rights_to_apply(&item.served, live.is_some(), &error);
    Err(Obstacle::Call { error, rights })
}

/// Whether an immutable object may be deleted and created anew: its maker asks for it, and it is the set's own.
fn may_be_recreated(item: &Item, set: &Set, live: Option<&Value>) -> bool {
    object::annotation(&item.body, names::RECREATE_ANNOTATION) == Some("true")
        && live.is_some_and(|live| set.owns(live, item.served.is_namespaced))
}

/// Plans that an object is created anew, if it may be deleted.
async fn recreated(target: &Target, item: Item, live: Option<Value>) -> Result<PlannedItem, Obstacle> {
    let uid = live.as_ref().and_then(|live| object::metadata(live, "uid")).unwrap_or_default();
    retrying(|| target.delete(&item.served, &item.key.name, uid, None, Mode::DryRun))
        .await
        .map_err(|error| Obstacle::Call { error, rights: vec![target.right("delete", &item.served)] })?;
    Ok(PlannedItem { item, action: PlannedAction::Recreate, live, would_be: None, fields: Vec::new(), handover: Handover::default() })
}

/// What happens to an existing object. Fields of an adopted object are never handed over: the object stays as its owner wants it, except
/// for what the manifest sets.
async fn judged(
    target: &Target,
    set: &Set,
    item: Item,
    live: Option<Value>,
    would_be: Value,
    standing: Standing,
    force: bool,
) -> Result<PlannedItem, Obstacle> {
    let is_theirs = standing == Standing::Adoptable || live.as_ref().is_some_and(|live| set.has_adopted(live));
    if !is_theirs {
        return meaning::judged(target, item, live, would_be, force).await;
    }
    let planned = meaning::compared(item, live, would_be);
    Ok(if standing == Standing::Adoptable { PlannedItem { action: PlannedAction::Adopts, ..planned } } else { planned })
}

async fn dry_run(target: &Target, item: &Item, force: bool) -> Result<Value, kube::Error> {
    retrying(|| target.apply(&item.served, &item.key.name, &item.body, force, Mode::DryRun)).await
}

async fn read(target: &Target, item: &Item) -> Result<Option<Value>, Obstacle> {
    retrying(|| target.get(&item.served, &item.key.name))
        .await
        .map_err(|error| Obstacle::Call { error, rights: vec![target.right("get", &item.served)] })
}

fn member(members: &Members, item: &Item) -> Option<Value> {
    members.get(&(item.served.resource.api_version.clone(), item.key.clone())).map(|(_, object)| object.clone())
}

/// What is deleted or released, what happens to the parent, and which cluster-scoped kinds have objects afterwards.
fn prune<'a>(
    survey: &live_state::Survey,
    set: &Set,
    items: impl IntoIterator<Item = &'a Item>,
    may_delete: Option<&Created>,
) -> (Pruning, ParentPlan, BTreeSet<GroupKind>) {
    let mut keys = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let mut of_cluster = survey.left_in_cluster(set, may_delete);
    for item in items {
        keys.insert(&item.key);
        let kind = GroupKind::of(&item.served.resource);
        if !item.served.is_namespaced {
            of_cluster.insert(kind.clone());
        }
        kinds.insert(kind);
    }
    let (pruning, parent) = live_state::prune(survey, set, &keys, kinds, may_delete);
    (pruning, parent, of_cluster)
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Controllers run on several threads. So their futures must be `Send`, or this does not compile.
    #[test]
    fn plans_can_be_made_on_any_thread() {
        fn is_send<T: Send>(_: impl FnOnce() -> T) {}
        fn all(delegate: &DelegateClient, planned: Planned, resources: &NoResources, fence: &crate::identity::fence::Fence) {
            let input = PlanInput::new("", "", &[]);
            is_send(|| plan(&input, delegate, resources));
            is_send(|| crate::deploy::apply::apply(fence, delegate, planned, 1));
        }
        let _ = all;
    }

    struct NoResources;

    impl Resources for NoResources {
        async fn resource(&self, _: &str, _: &str) -> Result<Option<(kube::core::ApiResource, bool)>, kube::Error> {
            Ok(None)
        }

        async fn preferred(&self, _: &str, _: &str) -> Result<Option<(kube::core::ApiResource, bool)>, kube::Error> {
            Ok(None)
        }
    }
}
