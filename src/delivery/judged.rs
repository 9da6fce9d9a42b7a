//! What a plan is judged on: the objects as they will be in the target, and as they are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::exposure::{self, Exposure};
use super::object::{self, Key};
use super::offered::Uses;
use super::planned::{Planned, PlannedItem};
use super::powers::{self, Gift};
use super::required::{self, Needed};
use crate::api::plan::PlannedAction;

impl Planned {
    /// What will be used: what the target makes of the objects counts, not only what they say.
    pub fn uses(&self) -> Uses {
        Uses::of(&self.namespace, self.of_solution().iter().copied())
    }

    /// What will be needed.
    pub fn needs(&self) -> Needed {
        required::of(self.of_solution().iter().copied())
    }

    /// What controllers add to accounts, credentials for pulling images and tokens, is theirs: an account that comes with a solution is
    /// judged by what it says itself.
    fn of_solution(&self) -> Vec<&Value> {
        fn seen(item: &PlannedItem) -> &Value {
            let is_account = item.item.key.group.is_empty() && item.item.key.kind == "ServiceAccount";
            if is_account { &item.item.body } else { item.outcome() }
        }
        self.items.iter().map(seen).collect()
    }

    /// What the objects of the solution use as they are now.
    pub fn used_before(&self) -> Uses {
        Uses::of(&self.namespace, self.live().iter().copied())
    }

    /// What they need as they are now.
    pub fn needed_before(&self) -> Needed {
        required::of(self.live().iter().copied())
    }

    /// The solution's own objects, as they are.
    fn live(&self) -> Vec<&Value> {
        let own = |item: &&PlannedItem| item.live.as_ref().is_some_and(|live| self.set.owns(live, item.item.served.is_namespaced));
        self.items.iter().filter(own).filter_map(|item| item.live.as_ref()).collect()
    }

    /// The roles and their bindings that are created or changed, and who gets what by them; in sentences; those that give most first.
    pub fn powers(&self) -> Vec<(Key, Gift)> {
        let roles: Vec<&Value> = self.items.iter().map(PlannedItem::outcome).collect();
        let written = self.items.iter().filter(|i| i.action != PlannedAction::Unchanged);
        let mut gifts: Vec<(Gift, Key)> = written
            .flat_map(|i| powers::of(i.outcome(), &self.namespace, &roles).into_iter().map(|gift| (gift, i.item.key.clone())))
            .collect();
        gifts.sort();
        gifts.into_iter().map(|(gift, key)| (key, gift)).collect()
    }

    /// What will be open to others, or opens others' things, and is not so now.
    pub fn exposures(&self) -> Vec<(Key, Exposure)> {
        let own: Vec<&Value> = self.items.iter().map(PlannedItem::outcome).collect();
        let written = self.items.iter().filter(|i| i.action != PlannedAction::Unchanged);
        let mut found: Vec<(Exposure, Key)> = Vec::new();
        for item in written {
            let before = item.live.as_ref().map(|live| exposure::of(live, &own)).unwrap_or_default();
            let now = exposure::of(item.outcome(), &own).into_iter().filter(|exposure| !before.contains(exposure));
            found.extend(now.map(|exposure| (exposure, item.item.key.clone())));
        }
        found.sort();
        found.into_iter().map(|(exposure, key)| (key, exposure)).collect()
    }

    /// The accounts that are created: whether something in the target waits for one of their name is to be known.
    pub fn new_accounts(&self) -> BTreeSet<String> {
        let is_new = |item: &&PlannedItem| {
            let key = &item.item.key;
            item.action == PlannedAction::Create && key.group.is_empty() && key.kind == "ServiceAccount"
        };
        self.items.iter().filter(is_new).map(|item| object::name(&item.item.body).to_owned()).collect()
    }

    /// Whether the object is one of the plan's own.
    pub fn brings(&self, key: &Key) -> bool {
        self.items.iter().any(|item| item.item.key == *key)
    }
}
