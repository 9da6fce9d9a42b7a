//! Kubernetes Events: what happened to an object. They are sent in the background and delay nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as StoredEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::identity::access::{Access, Right};
use crate::text;

/// How many Events may wait. Further ones are dropped and logged: Events are a convenience, not the record.
const CAPACITY: usize = 4096;
/// The most characters of an Event's note.
const MAX_NOTE: usize = 1024;

/// The longest object name from which the name of an Event can be made. A dot and a time in hexadecimal digits follow it.
const LONGEST_NAME: usize = 253 - 17;
/// How much of a longer name is kept.
const BEGINNING: usize = 40;

/// How long it is believed that the operator may create Events in a development namespace, and that it may not.
const BELIEVED: (Duration, Duration) = (Duration::from_mins(10), Duration::from_mins(1));

/// Sends Events.
#[derive(Clone)]
pub(crate) struct EventRecorder {
    sender: mpsc::Sender<Told>,
}

/// An Event that waits to be sent.
struct Told {
    object: ObjectReference,
    event: Event,
    /// Whether it is about an object of a development namespace, to which many requests happen. It is created by itself then, as the next
    /// one of the same reason is about another request.
    in_development: bool,
}

impl EventRecorder {
    /// Starts the sender. It ends when the last clone of this is dropped.
    pub(crate) fn start(client: Client) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Told>(CAPACITY);
        let (events, mut rights) = (client.clone(), Rights { access: Access::new(client.clone()), answers: HashMap::new() });
        let recorder = Recorder::new(client, Reporter { controller: "pilotage".into(), instance: None });
        tokio::spawn(async move {
            while let Some(Told { object, event, in_development }) = receiver.recv().await {
                if in_development && !rights.may_tell_in(object.namespace.as_deref().unwrap_or_default()).await {
                    continue;
                }
                let told = if in_development || object.name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
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
        self.send(object, type_, reason, note, false);
    }

    /// Records that `reason` happened to an object of a development namespace, if the operator may create Events there.
    pub(crate) fn tell_in_development(&self, object: ObjectReference, type_: EventType, reason: &str, note: &str) {
        self.send(object, type_, reason, note, true);
    }

    fn send(&self, object: ObjectReference, type_: EventType, reason: &str, note: &str, in_development: bool) {
        let note = text::bounded(note, MAX_NOTE);
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action: reason.to_owned(), secondary: None };
        if self.sender.try_send(Told { object, event, in_development }).is_err() {
            tracing::warn!(reason, "too many Events wait; this one is dropped");
        }
    }
}

/// In which development namespaces the operator may create Events: where their administrator bound it the role for that.
struct Rights {
    access: Access,
    answers: HashMap<String, (bool, Instant)>,
}

impl Rights {
    async fn may_tell_in(&mut self, namespace: &str) -> bool {
        self.answers.retain(|_, (may, since)| since.elapsed() < if *may { BELIEVED.0 } else { BELIEVED.1 });
        if let Some((may, _)) = self.answers.get(namespace) {
            return *may;
        }
        let right = Right::on("create", "events.k8s.io", "events", namespace);
        match self.access.i_may(&right).await {
            Ok(may) => {
                self.answers.insert(namespace.to_owned(), (may, Instant::now()));
                may
            }
            Err(error) => {
                tracing::warn!(%error, namespace, "whether Events may be written there is not known: one is dropped");
                false
            }
        }
    }
}

/// Creates an Event of its own, with a generated name: the recorder counts one up that was told before, and makes names that may be too long.
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
