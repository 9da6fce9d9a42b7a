//! Which objects of a bundle may go to a target namespace at all, judged before anything is sent there.

use std::collections::{BTreeSet, HashMap};

use kube::core::ApiResource;
use serde_json::Value;

use super::errors;
use super::findings::{Findings, PlanError};
use super::object::{self, Item, Key};
use super::plan::PlanInput;
use super::projection::namespace;
use super::resources::Resources;
use crate::api::names;

/// The most bytes that etcd takes in one request where nobody has set it otherwise. A dry run never gets there, so that it would be found
/// out midway.
const MAX_OBJECT: usize = 1536 * 1024;

/// The objects that may go there, labelled as members of the set; the others are in the findings.
pub(super) async fn admit(
    input: &PlanInput<'_>,
    set: &str,
    resources: &impl Resources,
    findings: &mut Findings,
) -> Result<Vec<Item>, PlanError> {
    let mut served: HashMap<(&str, &str), Option<(ApiResource, bool)>> = HashMap::new();
    let mut seen = BTreeSet::new();
    let mut items = Vec::with_capacity(input.objects.len());
    for object in input.objects {
        let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
        let key = Key {
            group: object::group_of(api_version).to_owned(),
            kind: kind.to_owned(),
            name: object::metadata(object, "name").unwrap_or_default().to_owned(),
        };
        if let Some((reason, message)) = refusal(&key, object, input) {
            findings.refuse(&key, reason, &message);
            continue;
        }
        let resource = if let Some(known) = served.get(&(api_version, kind)) {
            known.clone()
        } else {
            let found = resources.resource(api_version, kind).await.map_err(PlanError::Transient)?;
            served.insert((api_version, kind), found.clone());
            found
        };
        match resource {
            None => findings.refuse(&key, "KindNotFound", &kind_not_found(&key, api_version)),
            Some((_, false)) => findings.refuse(
                &key,
                "ClusterScoped",
                &format!("{key} belongs to the whole cluster and not to a namespace: have the target cluster's administrator install it, and leave it out of the solution"),
            ),
            Some((resource, true)) if seen.insert(key.clone()) => {
                let mut body = object.clone();
                object::set_label(&mut body, names::APPLYSET_PART_OF, set);
                namespace::enter(&mut body, input.namespace);
                items.push(Item { key, resource, body });
            }
            Some(_) => findings.refuse(&key, "Duplicate", &format!("{key} is in the solution more than once: keep one of them")),
        }
    }
    Ok(items)
}

/// What the manifest alone says against it.
fn refusal(key: &Key, object: &Value, input: &PlanInput<'_>) -> Option<(&'static str, String)> {
    if key.kind.is_empty() || text(object, "apiVersion").is_empty() {
        return Some((
            "Malformed",
            "an object of the solution has no apiVersion or no kind: correct the manifest and raise the version".to_owned(),
        ));
    }
    if !object::is_plain_name(&key.name) {
        return Some((
            "InvalidName",
            format!("a {} of the solution has no name, or one that Kubernetes does not allow: give it a fixed metadata.name", key.kind),
        ));
    }
    if key.group.is_empty() && key.kind == "Secret" {
        return Some((
            "SecretNotAllowed",
            format!("{key}: Secrets are never deployed: declare a connection reference and create the Secret in the target"),
        ));
    }
    if key.group.is_empty() && key.kind == "ConfigMap" && key.name == names::applyset_parent_name(input.solution) {
        return Some((
            "ReservedName",
            format!("{key}: this name is that of the record of what the solution put into the namespace: give the ConfigMap another name"),
        ));
    }
    let size = size(object);
    if size > MAX_OBJECT {
        return Some((
            "TooLarge",
            format!(
                "{key} has {size} bytes, settings included, and a cluster stores objects of {MAX_OBJECT} at most: divide it, or keep what is large in a volume or an image"
            ),
        ));
    }
    match object::metadata(object, "namespace") {
        Some(other) if other != input.namespace => Some((
            "OtherNamespace",
            errors::bounded(
                &format!("{key} names the namespace {other}, and the target is {}: leave metadata.namespace out", input.namespace),
                errors::MAX_MESSAGE,
            ),
        )),
        _ => None,
    }
}

/// How many bytes the object has as it is sent.
fn size(object: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // What is counted can't fail to be written.
    let _ = serde_json::to_writer(&mut counter, object);
    counter.0
}

fn kind_not_found(key: &Key, api_version: &str) -> String {
    if key.group.contains('.') && !key.group.ends_with(".k8s.io") {
        format!(
            "{key}: the target's cluster does not serve {} in {api_version}: have its administrator install the CustomResourceDefinition of group {} that defines this kind and version",
            key.kind, key.group
        )
    } else {
        format!("{key}: the target's cluster does not serve {} in {api_version}: use an API version that it serves", key.kind)
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    struct Cluster;

    impl Resources for Cluster {
        async fn resource(&self, api_version: &str, kind: &str) -> Result<Option<(ApiResource, bool)>, kube::Error> {
            let group = object::group_of(api_version);
            let known = matches!((group, kind), ("", "ConfigMap" | "Secret" | "Namespace") | ("apps", "Deployment"));
            Ok(known.then(|| (ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)), kind != "Namespace")))
        }

        async fn preferred(&self, group: &str, kind: &str) -> Result<Option<(ApiResource, bool)>, kube::Error> {
            self.resource(if group.is_empty() { "v1" } else { "apps/v1" }, kind).await
        }
    }

    #[tokio::test]
    async fn what_may_not_go_to_a_target_is_refused_by_name() {
        let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let objects = [
            map(json!({"name": "fine"})),
            map(json!({"name": "fine"})),
            map(json!({"name": "elsewhere", "namespace": "kube-system"})),
            map(json!({"name": "here", "namespace": "qa"})),
            map(json!({"name": "a/../../x"})),
            map(json!({"name": "pilotage-orders"})),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "canary"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
            json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "w"}}),
            json!({"metadata": {"name": "m"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"a": "x".repeat(5_000_000)}}),
        ];
        let mut findings = Findings::default();
        let items = admit(&PlanInput::new("qa", "orders", &objects), "set-id", &Cluster, &mut findings).await.unwrap();
        assert_eq!(items.iter().map(|i| i.key.name.as_str()).collect::<Vec<_>>(), ["fine", "here"]);
        assert_eq!(object::label(&items[0].body, names::APPLYSET_PART_OF), Some("set-id"));
        let Err(PlanError::Refused(results)) = findings.into_result(String::new()) else { panic!() };
        let reasons: Vec<&str> = results.iter().map(|r| r.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "Duplicate",
                "OtherNamespace",
                "InvalidName",
                "ReservedName",
                "SecretNotAllowed",
                "ClusterScoped",
                "KindNotFound",
                "Malformed",
                "TooLarge"
            ]
        );
        assert!(results[8].message.starts_with("ConfigMap big has 5000"), "{}", results[8].message);
        assert!(results[6].message.contains("CustomResourceDefinition of group example.test"));
        assert!(results.iter().all(|r| !r.message.contains("canary")));
    }
}
