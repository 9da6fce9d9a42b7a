//! Deletes what an earlier version had and this one has not, once all that is new is healthy.

use futures::{StreamExt as _, stream};

use super::order;
use super::target::Target;
use super::write::{Failure, Pen, Writer};
use super::{ApplyError, check_claim, succeeded};
use crate::cluster::object::{Key, Served};
use crate::deploy::health::Healthy;
use crate::deploy::plan::live_state::config_maps;
use crate::deploy::plan::planned::{Deletion, Pruning};
use crate::identity::delegate::DelegateClient;
use crate::identity::fence::Fence;

/// A deleted object that still exists.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub(crate) key: Key,
    pub(crate) served: Served,
    pub(crate) uid: String,
}

/// Deletes what earlier versions put there and this one, which is healthy, lacks; as the delegate that applied it, under the claim. Adopted
/// objects are released.
///
/// The waves are those of [`apply`] in reverse, and exactly the uids are deleted that the plan named. The parent of the set names the kinds
/// until all objects are gone. Pruning again does nothing.
///
/// # Errors
/// What failed.
pub(crate) async fn prune(fence: &Fence, delegate: &DelegateClient, healthy: &Healthy, concurrency: usize) -> Result<(), ApplyError> {
    let applied = healthy.applied();
    check_claim(fence.claim(), delegate, (&applied.solution, &applied.namespace, &applied.delegate))?;
    if applied.pruned.get().is_some() {
        return Ok(());
    }
    let Pruning { deletions, releases } = &applied.pruning;
    let writer = Writer { pen: Pen { target: Target::new(delegate, &applied.namespace), fence }, set: applied.set.clone(), force: false };
    let (writer, concurrency) = (&writer, concurrency.max(1));

    let mut waves = order::waves(deletions.iter().map(|d| (d.key.group.as_str(), d.key.kind.as_str())));
    waves.reverse();
    let mut leaving = Vec::new();
    for wave in waves {
        let outcomes: Vec<Result<Option<Leaving>, Failure>> =
            stream::iter(wave).map(|index| leave(writer, &deletions[index])).buffer_unordered(concurrency).collect().await;
        leaving.extend(succeeded(outcomes)?.into_iter().flatten());
    }
    let outcomes: Vec<Result<(), Failure>> =
        stream::iter(0..releases.len()).map(|index| writer.release(&releases[index])).buffer_unordered(concurrency).collect().await;
    succeeded(outcomes)?;

    if let Some(kinds) = applied.parent.narrowed() {
        let manifest = writer.set.parent(kinds);
        writer.write_parent(&config_maps(), &manifest, applied.parent.live.as_ref()).await.map_err(|f| ApplyError::from(vec![f]))?;
    }
    // Another process that pruned meanwhile found the same.
    let _ = applied.pruned.set(leaving);
    Ok(())
}

/// Deletes objects of an earlier version, and returns those that still exist.
async fn leave(writer: &Writer<'_>, deletion: &Deletion) -> Result<Option<Leaving>, Failure> {
    let left = writer.delete(deletion).await?;
    Ok(left.map(|_| Leaving { key: deletion.key.clone(), served: deletion.served.clone(), uid: deletion.uid.clone() }))
}
