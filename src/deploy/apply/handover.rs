//! Hands fields that must be removed over to Pilotage: an apply removes fields that it owned and does not set any more.

use serde_json::{Value, json};

use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Item};
use crate::cluster::retry::retrying;
use crate::deploy::apply::target::Mode;
use crate::deploy::apply::write::{Failure, STALE_ATTEMPTS, STALE_WAIT, Writer, is_as_it_was};
use crate::deploy::plan::created_anew::Handover;

impl Writer<'_> {
    /// Changes who owns fields of the object that the plan saw, and nothing else. Returns the object afterwards. If the process is
    /// interrupted after this, the next apply removes these fields by itself.
    pub(crate) async fn hand_over(&self, item: &Item, seen: Value, handover: &Handover) -> Result<Value, Failure> {
        let Item { key, served, .. } = item;
        let mut current = seen.clone();
        for attempt in 1..=STALE_ATTEMPTS {
            self.pen.stands(key)?;
            let Some(fields) = handover.managed_fields(&current, &served.resource.api_version) else { return Ok(current) };
            let of = |name: &str| object::metadata(&current, name).unwrap_or_default().to_owned();
            let patch = json!({"metadata": {"uid": of("uid"), "resourceVersion": of("resourceVersion"), "managedFields": fields}});
            let error = match retrying(|| self.pen.target.merge(served, &key.name, &patch, Mode::Write(self.pen.fence))).await {
                Ok(object) => return Ok(object),
                Err(error) => error,
            };
            if errors::classify(&error) != Cause::Stale {
                return Err(Failure::of_call(key, &error, vec![self.pen.target.right("patch", served)]));
            }
            let found = self.pen.get(key, served).await?;
            let Some(now) = found.filter(|now| object::metadata(now, "uid") == object::metadata(&seen, "uid")) else {
                return Err(Failure::changed(key, "was deleted"));
            };
            if !self.set.owns(&now, served.is_namespaced) || !is_as_it_was(&seen, &now) {
                return Err(Failure::changed(key, "was changed by somebody else"));
            }
            current = now;
            self.pen.still_holds(key).await?;
            tokio::time::sleep(STALE_WAIT * attempt).await;
        }
        Err(Failure::restless(key))
    }
}
