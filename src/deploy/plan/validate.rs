//! Which objects of a bundle may go to a target namespace, or to its cluster, at all. This is checked before anything is sent there.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use serde_json::Value;

use crate::api::names;
use crate::api::plan::MAX_MESSAGE;
use crate::api::reason::Reason;
use crate::cluster::cluster_scope;
use crate::cluster::errors;
use crate::cluster::namespace;
use crate::cluster::object::{self, Item, Key, Served};
use crate::cluster::resources::Resources;
use crate::deploy::plan::findings::{Findings, PlanError};
use crate::deploy::plan::input::PlanInput;
use crate::deploy::plan::members::Set;

/// The most bytes that etcd accepts in one request, by default. A dry run doesn't reach etcd, so a too large object would only be found
/// during the deployment.
const MAX_OBJECT: usize = 1536 * 1024;

/// The objects that may go there, labelled as members of the set. The findings have the others.
pub(crate) async fn admit(
    input: &PlanInput<'_>,
    set: &Set,
    resources: &impl Resources,
    findings: &mut Findings,
) -> Result<Vec<Item>, PlanError> {
    let began = Instant::now();
    let mut kinds: HashMap<(&str, &str), Option<Served>> = HashMap::new();
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
        let found = if let Some(known) = kinds.get(&(api_version, kind)) {
            known.clone()
        } else {
            let found = resources.resource_since(api_version, kind, began).await.map_err(PlanError::Transient)?.map(Served::from);
            kinds.insert((api_version, kind), found.clone());
            found
        };
        let Some(served) = found else {
            findings.refuse(&key, Reason::KindNotFound, &kind_not_found(&key, api_version, input.objects));
            continue;
        };
        let wrong_scope = scope_differs(&key, &served, input);
        let refused = if served.is_namespaced { wrong_scope } else { of_the_cluster(&key, object, input).or(wrong_scope) };
        match refused {
            Some((reason, message)) => findings.refuse(&key, reason, &message),
            None if seen.insert(key.clone()) => {
                let mut body = object.clone();
                set.mark(&mut body, served.is_namespaced);
                namespace::enter(&mut body, input.namespace);
                items.push(Item { key, served, body });
            }
            None => findings.refuse(&key, Reason::Duplicate, &format!("{key} is in the solution more than once: keep one of them")),
        }
    }
    Ok(items)
}

/// Why an object is refused, from its manifest alone.
fn refusal(key: &Key, object: &Value, input: &PlanInput<'_>) -> Option<(Reason, String)> {
    if key.kind.is_empty() || text(object, "apiVersion").is_empty() {
        return Some((
            Reason::Malformed,
            "an object of the solution has no apiVersion or no kind: correct the manifest and raise the version".to_owned(),
        ));
    }
    if !object::is_plain_name(&key.name) {
        return Some((
            Reason::InvalidName,
            format!("a {} of the solution has no name, or one that Kubernetes does not allow: give it a fixed metadata.name", key.kind),
        ));
    }
    if key.group.is_empty() && key.kind == "Secret" {
        return Some((
            Reason::SecretNotAllowed,
            format!("{key}: Secrets are never deployed: declare a connection reference and create the Secret in the target"),
        ));
    }
    if key.group.is_empty() && key.kind == "ConfigMap" && key.name == names::applyset_parent_name(input.solution) {
        return Some((
            Reason::ReservedName,
            format!("{key}: this name is that of the record of what the solution put into the namespace: give the ConfigMap another name"),
        ));
    }
    let size = size(object);
    if size > MAX_OBJECT {
        return Some((
            Reason::TooLarge,
            format!(
                "{key} has {size} bytes, settings included, and a cluster stores objects of {MAX_OBJECT} at most: divide it, or keep what is large in a volume or an image"
            ),
        ));
    }
    match object::metadata(object, "namespace") {
        Some(other) if other != input.namespace => Some((
            Reason::OtherNamespace,
            errors::bounded(
                &format!("{key} names the namespace {other}, and the target is {}: leave metadata.namespace out", input.namespace),
                MAX_MESSAGE,
            ),
        )),
        _ => None,
    }
}

/// Why a cluster-scoped object is refused.
fn of_the_cluster(key: &Key, object: &Value, input: &PlanInput<'_>) -> Option<(Reason, String)> {
    let bounds = input.cluster;
    // Without an owning namespace no such object is allowed, whatever is listed.
    let allowed = if bounds.namespace_uid.is_empty() { &[] } else { bounds.allowed };
    if let Some(unwelcome) = cluster_scope::judge(object, bounds.environment, allowed) {
        return Some((unwelcome.reason, unwelcome.message));
    }
    object::metadata(object, "namespace").is_some().then(|| {
        (
            Reason::ScopeDiffers,
            format!(
                "{key} names a namespace, and the target's cluster serves {} outside of namespaces: leave metadata.namespace out",
                key.kind
            ),
        )
    })
}

/// Why an object is refused whose kind is namespaced in one of the two clusters and cluster-scoped in the other: whoever allowed the one
/// did not allow the other.
fn scope_differs(key: &Key, served: &Served, input: &PlanInput<'_>) -> Option<(Reason, String)> {
    let was_of_cluster = input.cluster.exported?.iter().any(|kind| kind.group == key.group && kind.kind == key.kind);
    let (there, here) = match (was_of_cluster, served.is_namespaced) {
        (true, true) => ("the whole cluster", "namespaces"),
        (false, false) => ("a namespace", "the whole cluster"),
        _ => return None,
    };
    Some((
        Reason::ScopeDiffers,
        format!(
            "{key} belonged to {there} where it was exported from, and in the target's cluster objects of kind {} belong to {here}: have both clusters define the kind alike, and raise the version",
            key.kind
        ),
    ))
}

/// The size of the object as it is sent, in bytes.
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
    // Counting bytes can't fail.
    let _ = serde_json::to_writer(&mut counter, object);
    counter.0
}

fn kind_not_found(key: &Key, api_version: &str, objects: &[Value]) -> String {
    let defines = |object: &&Value| {
        let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        object::kind(object) == "CustomResourceDefinition"
            && field("/spec/group") == Some(&key.group)
            && field("/spec/names/kind") == Some(&key.kind)
    };
    if let Some(definition) = objects.iter().find(defines) {
        return format!(
            "{key}: the target's cluster does not serve {} in {api_version} yet, and a plan is made of what it serves: deploy a version with {} and without the objects of kind {} first, then this one",
            key.kind,
            Key::of(definition),
            key.kind
        );
    }
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
    use kube::core::{ApiResource, GroupVersionKind};
    use serde_json::json;

    use super::*;
    use crate::api::cluster_scoped::ClusterScopedKind;
    use crate::api::reference::GroupKind;
    use crate::deploy::plan::input::ClusterBounds;

    struct Cluster;

    impl Resources for Cluster {
        async fn resource(&self, api_version: &str, kind: &str) -> Result<Option<(ApiResource, bool)>, kube::Error> {
            let group = object::group_of(api_version);
            let of_cluster = matches!((group, kind), ("", "Namespace") | ("scheduling.k8s.io" | "apiextensions.k8s.io", _));
            let known = of_cluster || matches!((group, kind), ("", "ConfigMap" | "Secret") | ("apps", "Deployment"));
            Ok(known.then(|| (ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)), !of_cluster)))
        }

        async fn preferred(&self, group: &str, kind: &str) -> Result<Option<(ApiResource, bool)>, kube::Error> {
            self.resource(if group.is_empty() { "v1" } else { "apps/v1" }, kind).await
        }
    }

    fn set() -> Set {
        Set::new("orders", "qa", "uid")
    }

    /// The reasons and messages of refused objects, and the allowed objects.
    async fn judged(bounds: ClusterBounds<'_>, objects: &[Value]) -> (Vec<(String, String)>, Vec<Item>) {
        let mut findings = Findings::default();
        let input = PlanInput { cluster: bounds, ..PlanInput::new("qa", "orders", objects) };
        let items = admit(&input, &set(), &Cluster, &mut findings).await.unwrap();
        match findings.into_result(String::new()) {
            Ok(()) => (Vec::new(), items),
            Err(PlanError::Refused(results)) => (results.into_iter().map(|r| (r.reason, r.message)).collect(), items),
            Err(other) => panic!("{other}"),
        }
    }

    fn class() -> Value {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1})
    }

    const CLASSES: (&str, &str) = ("scheduling.k8s.io", "PriorityClass");

    fn listed(kinds: &[(&str, &str)]) -> Vec<ClusterScopedKind> {
        kinds.iter().map(|(group, kind)| ClusterScopedKind { group: (*group).into(), kind: (*kind).into() }).collect()
    }

    #[tokio::test]
    async fn the_whole_cluster_is_reached_only_where_the_environment_lists_the_kind() {
        let allowed = listed(&[CLASSES, ("", "Namespace")]);
        let bounds = |allowed| ClusterBounds { environment: "qa", namespace_uid: "uid", allowed, recorded: &[], exported: None };
        let (refused, items) = judged(bounds(&[]), &[class()]).await;
        assert!(items.is_empty());
        assert_eq!(refused[0].0, "ClusterScoped");
        for words in ["add {group: scheduling.k8s.io, kind: PriorityClass} to spec.clusterScoped of Environment qa", "allow-cluster-scoped"]
        {
            assert!(refused[0].1.contains(words), "{}", refused[0].1);
        }
        let (refused, items) = judged(bounds(&allowed), &[class()]).await;
        assert_eq!((refused.len(), items.len()), (0, 1));
        assert!(set().owns(&items[0].body, false), "{}", items[0].body);
        let (refused, _) = judged(ClusterBounds { namespace_uid: "", ..bounds(&allowed) }, &[class()]).await;
        assert_eq!(refused[0].0, "ClusterScoped", "nobody's namespace");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        let (refused, _) = judged(bounds(&allowed), &[namespace]).await;
        assert!(refused[0].1.contains("no solution ever brings"), "{}", refused[0].1);
    }

    #[tokio::test]
    async fn an_object_is_of_a_namespace_or_of_the_cluster_on_both_sides() {
        let (allowed, exported) = (listed(&[CLASSES]), [GroupKind { group: CLASSES.0.into(), kind: CLASSES.1.into() }]);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
        let maps = [GroupKind { group: String::new(), kind: "ConfigMap".into() }];
        let reasons = async |exported: &[GroupKind], object: &Value| {
            let bounds =
                ClusterBounds { environment: "qa", namespace_uid: "uid", allowed: &allowed, recorded: &[], exported: Some(exported) };
            judged(bounds, std::slice::from_ref(object)).await.0.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
        };
        assert!(reasons(&exported, &class()).await.is_empty());
        assert!(reasons(&[], &map).await.is_empty());
        assert_eq!(reasons(&[], &class()).await, ["ScopeDiffers"]);
        assert_eq!(reasons(&maps, &map).await, ["ScopeDiffers"]);
        let mut placed = class();
        placed["metadata"]["namespace"] = "qa".into();
        assert_eq!(reasons(&exported, &placed).await, ["ScopeDiffers"]);
    }

    #[tokio::test]
    async fn definitions_of_our_own_kinds_and_such_as_need_a_webhook_are_refused() {
        let definition = |name: &str, group: &str, conversion: &str| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
                "spec": {"group": group, "names": {"kind": "Widget"}, "conversion": {"strategy": conversion}}})
        };
        let allowed = listed(&[("apiextensions.k8s.io", "CustomResourceDefinition")]);
        let bounds = ClusterBounds { environment: "qa", namespace_uid: "uid", allowed: &allowed, recorded: &[], exported: None };
        for bad in [
            definition("stages.pilotage.dev", "pilotage.dev", "None"),
            definition("stages.pilotage.dev", "example.test", "None"),
            definition("widgets.example.test", "example.test", "Webhook"),
        ] {
            assert_eq!(judged(bounds, &[bad]).await.0[0].0, "NeverDeployed");
        }
        let widget = json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "w"}});
        let (refused, items) = judged(bounds, &[definition("widgets.example.test", "example.test", "None"), widget]).await;
        assert_eq!((refused.len(), items.len()), (1, 1));
        assert!(
            refused[0].1.ends_with(
                "deploy a version with CustomResourceDefinition widgets.example.test and without the objects of kind Widget first, then this one"
            ),
            "{}",
            refused[0].1
        );
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
        let items = admit(&PlanInput::new("qa", "orders", &objects), &set(), &Cluster, &mut findings).await.unwrap();
        assert_eq!(items.iter().map(|i| i.key.name.as_str()).collect::<Vec<_>>(), ["fine", "here"]);
        assert_eq!(object::label(&items[0].body, names::APPLYSET_PART_OF), Some(set().id.as_str()));
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
                "NeverDeployed",
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
