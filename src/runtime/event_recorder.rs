//! Kubernetes Events: what happened to an object. They are sent in the background and delay nothing.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as StoredEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::text;

/// How many Events may wait. Further ones are dropped and logged: Events are a convenience, not the record.
const CAPACITY: usize = 4096;
/// The most characters of an Event's note.
const MAX_NOTE: usize = 1024;

/// The longest object name from which the name of an Event can be made. A dot and a time in hexadecimal digits follow it.
const LONGEST_NAME: usize = 253 - 17;
/// How much of a longer name is kept.
const BEGINNING: usize = 40;

/// Sends Events.
#[derive(Clone)]
pub(crate) struct EventRecorder {
    sender: mpsc::Sender<(ObjectReference, Event)>,
}

impl EventRecorder {
    /// Starts the sender. It ends when the last clone of this is dropped.
    pub(crate) fn start(client: Client) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Event)>(CAPACITY);
        let events = client.clone();
        let recorder = Recorder::new(client, Reporter { controller: "pilotage".into(), instance: None });
        tokio::spawn(async move {
            while let Some((object, event)) = receiver.recv().await {
                let told = if object.name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
                    publish_by_itself(&events, &event, object).await
                } else {
                    recorder.publish(&event, &object).await
                };
                if let Err(error) = told {
                    tracing::warn!(%error, reason = event.reason, "an Event could not be written");
                }
            }
        });
        Self { sender }
    }

    /// Records that `reason` happened to `object`.
    pub(crate) fn tell(&self, object: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let note = text::bounded(note, MAX_NOTE);
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action: reason.to_owned(), secondary: None };
        if self.sender.try_send((object, event)).is_err() {
            tracing::warn!(reason, "too many Events wait; this one is dropped");
        }
    }
}

/// Creates an Event for an object whose name is too long for the recorder.
async fn publish_by_itself(client: &Client, event: &Event, object: ObjectReference) -> kube::Result<()> {
    let name: String = object.name.iter().flat_map(|name| name.chars()).take(BEGINNING).collect();
    // The API server generates the rest of the name. A dot before the hyphen would make the name invalid.
    let name = format!("{}-", name.trim_end_matches(['.', '-']));
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let type_ = match event.type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let stored = StoredEvent {
        metadata: ObjectMeta { generate_name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        action: Some(event.action.clone()),
        reason: Some(event.reason.clone()),
        note: event.note.clone(),
        type_: Some(type_.to_owned()),
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        regarding: Some(object),
        reporting_controller: Some("pilotage".to_owned()),
        reporting_instance: Some("pilotage".to_owned()),
        ..StoredEvent::default()
    };
    Api::<StoredEvent>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &stored).await.map(|_| ())
}
