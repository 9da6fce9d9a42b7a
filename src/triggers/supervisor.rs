//! Starts a dispatcher for each pipeline that has sinks, and starts it again if it fails.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dispatcher::Dispatcher;
use super::sender::Sender;
use super::wake_ups::{self, Orders};
use crate::api::Pipeline;
use crate::runtime::Cluster;

/// How long to wait before a failed dispatcher is started again.
const CLOSED: Duration = Duration::from_secs(1);

/// Tells sinks what happens, until `stop`. Only the leader runs this.
pub(crate) async fn run(cluster: Arc<Cluster>, orders: Orders, stop: CancellationToken) {
    let Orders { mut receiver, wake_ups } = orders;
    wake_ups.wake();
    let sender = Sender::new();
    let mut dispatchers: JoinSet<ObjectRef<Pipeline>> = JoinSet::new();
    let open = |dispatchers: &mut JoinSet<_>, pipeline: ObjectRef<Pipeline>, after: Duration| {
        let host = pipeline.namespace.clone().unwrap_or_default();
        let found = cluster.stores.pipelines.get(&pipeline).filter(|p| wake_ups::needs_dispatcher(p));
        if found.is_none() || !cluster.serves(&host) {
            return;
        }
        let Some(changes) = wake_ups.open(&pipeline) else { return };
        let dispatcher = Dispatcher::new(cluster.clone(), sender.clone(), pipeline.clone());
        let (wake_ups, stop) = (wake_ups.clone(), stop.clone());
        dispatchers.spawn(async move {
            tokio::time::sleep(after).await;
            // It runs in a task of its own, so that a defect ends only this dispatcher.
            if let Err(error) = tokio::spawn(dispatcher.run(changes, stop)).await {
                tracing::error!(%pipeline, %error, "telling the sinks of a pipeline broke down; begun anew from what is recorded");
            }
            wake_ups.close(&pipeline);
            pipeline
        });
    };
    for pipeline in cluster.stores.pipelines.state() {
        open(&mut dispatchers, ObjectRef::from_obj(pipeline.as_ref()), Duration::ZERO);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(pipeline) = receiver.recv() => open(&mut dispatchers, pipeline, Duration::ZERO),
            // The pipeline may have got sinks again while the dispatcher stopped.
            Some(Ok(pipeline)) = dispatchers.join_next() => open(&mut dispatchers, pipeline, CLOSED),
        }
    }
    while dispatchers.join_next().await.is_some() {}
}
