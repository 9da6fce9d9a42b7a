//! Kubernetes Events: what happened to an object, as a story. They are told beside the work and never hold it up.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

/// How many Events may wait; further ones are dropped and logged, for they are a convenience, not the record.
const CAPACITY: usize = 4096;
/// The most characters of an Event's note.
const MAX_NOTE: usize = 1024;

/// Tells what happens.
#[derive(Clone)]
pub struct Story {
    sender: mpsc::Sender<(ObjectReference, Event)>,
}

impl Story {
    /// Starts the teller; it ends when the last clone of this is dropped.
    pub fn start(client: Client) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Event)>(CAPACITY);
        let recorder = Recorder::new(client, Reporter { controller: "pilotage".into(), instance: None });
        tokio::spawn(async move {
            while let Some((object, event)) = receiver.recv().await {
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::warn!(%error, reason = event.reason, "an Event could not be written");
                }
            }
        });
        Self { sender }
    }

    /// Tells that `reason` happened to `object`.
    pub fn tell(&self, object: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let note: String = note.chars().take(MAX_NOTE).collect();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action: reason.to_owned(), secondary: None };
        if self.sender.try_send((object, event)).is_err() {
            tracing::warn!(reason, "too many Events wait; this one is dropped");
        }
    }
}
