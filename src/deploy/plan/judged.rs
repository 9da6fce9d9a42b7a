//! The objects that a plan checks: as they are in the target, and as they will be.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::plan::PlannedAction;
use crate::cluster::object::{self, Key};
use crate::deploy::plan::connections::Uses;
use crate::deploy::plan::exposure::{self, Exposure};
use crate::deploy::plan::planned::{Planned, PlannedItem};
use crate::deploy::plan::prerequisites::{self, Needed};
use crate::deploy::plan::rbac_changes::{self, Gift};

impl Planned {
    /// What will be used. The objects count as the target will have them, not only as they are written.
    pub(crate) fn uses(&self) -> Uses {
        Uses::of(&self.namespace, self.of_solution().iter().copied())
    }

    /// What will be needed.
    pub(crate) fn needs(&self) -> Needed {
        prerequisites::of(self.of_solution().iter().copied())
    }

    /// Controllers add credentials for pulling images and tokens to accounts. Those belong to the controllers, so an account that comes
    /// with a solution counts as it is written.
    fn of_solution(&self) -> Vec<&Value> {
        fn seen(item: &PlannedItem) -> &Value {
            let is_account = item.item.key.group.is_empty() && item.item.key.kind == "ServiceAccount";
            if is_account { &item.item.body } else { item.outcome() }
        }
        self.items.iter().map(seen).collect()
    }

    /// What the objects of the solution use as they are now.
    pub(crate) fn used_before(&self) -> Uses {
        Uses::of(&self.namespace, self.live().iter().copied())
    }

    /// What they need as they are now.
    pub(crate) fn needed_before(&self) -> Needed {
        prerequisites::of(self.live().iter().copied())
    }

    /// The solution's own objects, as they are now.
    fn live(&self) -> Vec<&Value> {
        let own = |item: &&PlannedItem| item.live.as_ref().is_some_and(|live| self.set.owns(live, item.item.served.is_namespaced));
        self.items.iter().filter(own).filter_map(|item| item.live.as_ref()).collect()
    }

    /// Who gets what by the roles and bindings that are created or changed; in sentences. Those that grant most come first.
    pub(crate) fn powers(&self) -> Vec<(Key, Gift)> {
        let roles: Vec<&Value> = self.items.iter().map(PlannedItem::outcome).collect();
        let written = self.items.iter().filter(|i| i.action != PlannedAction::Unchanged);
        let mut gifts: Vec<(Gift, Key)> = written
            .flat_map(|i| rbac_changes::of(i.outcome(), &self.namespace, &roles).into_iter().map(|gift| (gift, i.item.key.clone())))
            .collect();
        gifts.sort();
        gifts.into_iter().map(|(gift, key)| (key, gift)).collect()
    }

    /// What will be open to others, or will reach others' objects, and doesn't now.
    pub(crate) fn exposures(&self) -> Vec<(Key, Exposure)> {
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

    /// The accounts that are created. They are checked for existing bindings in the target.
    pub(crate) fn new_accounts(&self) -> BTreeSet<String> {
        let is_new = |item: &&PlannedItem| {
            let key = &item.item.key;
            item.action == PlannedAction::Create && key.group.is_empty() && key.kind == "ServiceAccount"
        };
        self.items.iter().filter(is_new).map(|item| object::name(&item.item.body).to_owned()).collect()
    }

    /// Whether the object is one of the plan's own.
    pub(crate) fn brings(&self, key: &Key) -> bool {
        self.items.iter().any(|item| item.item.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::plan::applyset;
    use crate::deploy::plan::planned::tests;

    fn item(action: PlannedAction, body: &Value, live: Option<Value>, would_be: Option<Value>) -> PlannedItem {
        let mut item = tests::item(object::name(body), action);
        item.item.key = Key::of(body);
        item.item.body = body.clone();
        item.live = live;
        item.would_be = would_be;
        item
    }

    fn planned(items: Vec<PlannedItem>) -> Planned {
        tests::planned(items, Vec::new())
    }

    fn deployment(pod: Value) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {"template": {}}});
        object["spec"]["template"]["spec"] = pod;
        object
    }

    #[test]
    fn what_the_target_makes_of_objects_is_used_and_what_it_adds_to_accounts_is_not() {
        let plain = deployment(json!({"containers": []}));
        let merged = deployment(json!({"containers": [], "serviceAccountName": "root"}));
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own"}});
        let mut added = account.clone();
        added["imagePullSecrets"] = json!([{"name": "own-dockercfg-x7k"}]);
        let plan = planned(vec![
            item(PlannedAction::Create, &plain, None, Some(merged)),
            item(PlannedAction::Update, &account, Some(added.clone()), Some(added)),
        ]);
        assert!(plan.uses().has("ServiceAccount", "root"));
        assert!(!plan.uses().has("Secret", "own-dockercfg-x7k"));
        assert!(plan.new_accounts().is_empty());
        let new = planned(vec![item(PlannedAction::Create, &account, None, None)]);
        assert_eq!(new.new_accounts().into_iter().collect::<Vec<_>>(), ["own"]);
    }

    #[test]
    fn only_what_is_new_is_told_to_be_opened_and_used() {
        let open = deployment(json!({"hostNetwork": true, "serviceAccountName": "runner", "containers": []}));
        let mut live = open.clone();
        live["metadata"]["labels"] = json!({"applyset.kubernetes.io/part-of": applyset::id("orders", "qa")});
        let again = planned(vec![item(PlannedAction::Update, &open, Some(live), Some(open.clone()))]);
        assert!(again.exposures().is_empty() && again.used_before().has("ServiceAccount", "runner"));
        // Nothing of somebody else's object was the solution's.
        let taken = planned(vec![item(PlannedAction::Update, &open, Some(open.clone()), Some(open.clone()))]);
        assert!(!taken.used_before().has("ServiceAccount", "runner"));
        let first = planned(vec![item(PlannedAction::Create, &open, None, Some(open.clone()))]);
        assert_eq!(first.exposures().len(), 1);
    }
}
