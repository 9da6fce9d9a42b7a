//! Opens a desk for each pipeline that has sinks, and another one where a desk breaks down.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bell::{self, Orders};
use super::desk::Desk;
use super::sender::Sender;
use crate::api::Pipeline;
use crate::driver::Cluster;

/// How long a desk that broke down stays closed.
const CLOSED: Duration = Duration::from_secs(1);

/// Tells sinks what happens, until `stop`. Only the leader runs this.
pub async fn run(cluster: Arc<Cluster>, orders: Orders, stop: CancellationToken) {
    let Orders { mut receiver, bell } = orders;
    bell.wake();
    let sender = Sender::new();
    let mut desks: JoinSet<ObjectRef<Pipeline>> = JoinSet::new();
    let open = |desks: &mut JoinSet<_>, pipeline: ObjectRef<Pipeline>, after: Duration| {
        let host = pipeline.namespace.clone().unwrap_or_default();
        let found = cluster.stores.pipelines.get(&pipeline).filter(|p| bell::needs_desk(p));
        if found.is_none() || !cluster.serves(&host) {
            return;
        }
        let Some(changes) = bell.open(&pipeline) else { return };
        let desk = Desk::new(cluster.clone(), sender.clone(), pipeline.clone());
        let (bell, stop) = (bell.clone(), stop.clone());
        desks.spawn(async move {
            tokio::time::sleep(after).await;
            // In a task of its own, so that a defect in it ends it alone.
            if let Err(error) = tokio::spawn(desk.run(changes, stop)).await {
                tracing::error!(%pipeline, %error, "telling the sinks of a pipeline broke down; begun anew from what is recorded");
            }
            bell.close(&pipeline);
            pipeline
        });
    };
    for pipeline in cluster.stores.pipelines.state() {
        open(&mut desks, ObjectRef::from_obj(pipeline.as_ref()), Duration::ZERO);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(pipeline) = receiver.recv() => open(&mut desks, pipeline, Duration::ZERO),
            // It may have got sinks again just when it closed.
            Some(Ok(pipeline)) = desks.join_next() => open(&mut desks, pipeline, CLOSED),
        }
    }
    while desks.join_next().await.is_some() {}
}
