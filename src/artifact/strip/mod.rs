//! Reduces a live object to what a person would have written.
//!
//! `metadata.managedFields` says who wrote which field. These fields were written by people: fields that were applied, fields of the
//! document that a client-side apply left behind, and fields that people changed since. Fields that controllers filled in were not.

pub(crate) mod assigned;
pub(crate) mod defaults;

use serde_json::{Map, Value};

use self::defaults::Declared;
use crate::cluster::fields_v1::{FieldSet, of_document, pick};
use crate::cluster::managed_fields::is_of_cluster;
use crate::cluster::namespace;
use crate::cluster::object;

/// The annotation that holds the document of a client-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How the names of controllers end that write to objects of others. They report no status on objects to which they only add.
const CONTROLLERS: [&str; 7] = ["-controller-manager", "-controller", "-operator", "-webhook", "-injector", "-cainjector", "-autoscaler"];
/// Tools with such names that write what people told them to.
const DELIVERY: [&str; 8] = ["argocd", "kustomize-controller", "helm-controller", "flux", "fleet", "kapp", "rancher", "kubectl"];
/// Fields of every object that are not its content.
const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// One entry of `metadata.managedFields`.
struct Entry<'a> {
    manager: &'a str,
    applied: bool,
    subresource: &'a str,
    api_version: &'a str,
    fields: FieldSet,
}

impl Entry<'_> {
    /// Whether the entry is about the fields that people write; the subresource `scale` is `kubectl scale`.
    fn is_main(&self) -> bool {
        matches!(self.subresource, "" | "scale")
    }

    fn is_cluster(&self) -> bool {
        is_of_cluster(self.manager)
    }

    /// Whether the writer's name says that it adds to what others wrote.
    fn is_controller(&self) -> bool {
        let is_delivery = DELIVERY.iter().any(|tool| self.manager.starts_with(tool));
        !is_delivery && CONTROLLERS.iter().any(|ending| self.manager.ends_with(ending))
    }

    fn has_content(&self) -> bool {
        has_content(&self.fields)
    }

    /// Whether it wrote the annotation of a client-side apply. Its other fields are that document and the server's defaults, which can't be
    /// told apart here.
    fn is_client_side_apply(&self) -> bool {
        !self.applied
            && (self.manager == "kubectl-client-side-apply"
                || self.fields.field("metadata").and_then(|m| m.field("annotations")).is_some_and(|a| a.field(LAST_APPLIED).is_some()))
    }
}

/// The fields of an object, by writer.
#[derive(Default)]
struct Authorship {
    /// Fields that were applied, or that are in the document of a client-side apply.
    declared: Option<FieldSet>,
    /// Declared fields, and fields that people changed otherwise; `None` stands for the whole object.
    written: Option<FieldSet>,
    /// Fields that controllers wrote.
    foreign: Option<FieldSet>,
}

/// Reduces `live`, an object as the API server returned it, to what a person would have written: `apiVersion`, `kind`, `metadata` with
/// `name`, `labels` and `annotations`, and the content. `None` if only the cluster itself wrote the object, for example the claims of a
/// `StatefulSet`. `own` is the namespace that it is exported from.
pub(crate) fn project(live: &Value, own: &str) -> Option<Value> {
    let authorship = authorship(live)?;
    let (written, foreign) = (authorship.written.unwrap_or_default(), authorship.foreign.as_ref());
    let mut body: Map<String, Value> =
        live.as_object()?.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    let keys: Map<String, Value> = ["labels", "annotations"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), live.pointer("/metadata")?.get(name)?.clone())))
        .collect();
    body.insert("metadata".into(), Value::Object(keys));

    let mut object = match pick(&Value::Object(body), &written, foreign) {
        Some(Value::Object(picked)) => picked,
        _ => Map::new(),
    };
    let mut metadata = match object.remove("metadata") {
        Some(Value::Object(picked)) => picked,
        _ => Map::new(),
    };
    metadata.insert("name".into(), object::name(live).into());
    object.insert("apiVersion".into(), object::api_version(live).into());
    object.insert("kind".into(), object::kind(live).into());
    object.insert("metadata".into(), Value::Object(metadata));

    let mut object = Value::Object(object);
    let declared = Declared::of(authorship.declared.as_ref());
    // This comes first: declared fields of a list item are found by the item's keys, and a default may be one of them.
    assigned::strip(&mut object, declared);
    defaults::strip(&mut object, declared);
    if is_tracked_by_label(live) {
        assigned::drop_tracking_label(&mut object);
    }
    namespace::leave(&mut object, own);
    keep_empty_selector(&mut object);
    Some(object)
}

/// The same for an object that was never in a cluster. A person wrote all of it, except for what tools added to mark it as theirs. `own` is
/// the namespace that it was written for; empty if it names none.
pub(crate) fn as_written(object: &Value, own: &str) -> Value {
    let mut kept: Map<String, Value> =
        object.as_object().into_iter().flatten().filter(|(name, _)| *name != "status").map(|(k, v)| (k.clone(), v.clone())).collect();
    let metadata = object.get("metadata").and_then(Value::as_object);
    let own_metadata = metadata.into_iter().flatten().filter(|(name, _)| matches!(name.as_str(), "name" | "labels" | "annotations"));
    kept.insert("metadata".into(), Value::Object(own_metadata.map(|(k, v)| (k.clone(), v.clone())).collect()));
    let mut written = Value::Object(kept);
    let all = of_document(&written, &written, None);
    assigned::strip(&mut written, Declared::of(Some(&all)));
    if !own.is_empty() {
        namespace::leave(&mut written, own);
    }
    written
}

/// Whether Argo CD tracks the object by a label. If it tracks by an annotation, the label is somebody else's.
fn is_tracked_by_label(live: &Value) -> bool {
    let managers = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_argo = |entry: &Value| entry.get("manager").and_then(Value::as_str).is_some_and(|manager| manager.starts_with("argocd-"));
    managers.into_iter().flatten().any(is_argo) && object::annotation(live, "argocd.argoproj.io/tracking-id").is_none()
}

/// A `NetworkPolicy` must have a selector. After a create nobody owns an empty one, which means all pods, because Go's empty object has it
/// already.
fn keep_empty_selector(object: &mut Value) {
    if (object::group(object), object::kind(object)) == ("networking.k8s.io", "NetworkPolicy")
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.entry("podSelector").or_insert_with(|| Value::Object(Map::new()));
    }
}

fn authorship(live: &Value) -> Option<Authorship> {
    let entries = entries(live);
    let document = document(live);
    if entries.is_empty() {
        let declared = document.map(|d| without_envelope(of_document(&d, live, None)));
        return Some(Authorship { written: declared.clone(), declared, foreign: None });
    }
    let version = object::api_version(live);
    let known = union(entries.iter().map(|e| &e.fields));
    let writes_status =
        |manager: &str| !manager.starts_with("kubectl") && entries.iter().any(|e| e.manager == manager && e.subresource == "status");

    let mut declared = document.as_ref().map(|d| without_envelope(of_document(d, live, known.as_ref())));
    let mut updates = None;
    let mut foreign = None;
    let mut controllers = None;
    let mut translated = false;
    for entry in &entries {
        if entry.is_cluster() || !entry.is_main() {
            add(&mut foreign, &entry.fields);
        } else if entry.applied {
            translated |= entry.api_version != version;
            add(&mut declared, &entry.fields);
        } else if document.is_some() && entry.is_client_side_apply() {
            // The document is more precise about what it wrote.
        } else if writes_status(entry.manager) || entry.is_controller() {
            add(&mut foreign, &entry.fields);
            add(&mut controllers, &entry.fields);
        } else {
            translated |= entry.api_version != version;
            add(&mut updates, &entry.fields);
        }
    }

    let mut written = declared.clone();
    if let Some(updates) = &updates {
        add(&mut written, updates);
    }
    // Fields of another version may have other names and places. Then the object is taken as a whole.
    if translated {
        return Some(Authorship { declared, written: None, foreign });
    }
    let content = live.as_object()?.keys().any(|name| !ENVELOPE.contains(&name.as_str()));
    if content && object::kind(live) != "ServiceAccount" && !written.as_ref().is_some_and(has_content) {
        // People at most labelled it. If the cluster made it, the cluster makes it again elsewhere. If another controller made it, which
        // also reports its status, there is nothing else to export.
        if entries.iter().any(|e| e.is_cluster() && e.is_main() && e.has_content()) {
            return None;
        }
        match controllers.filter(has_content) {
            Some(controllers) => add(&mut written, &controllers),
            None => written = None,
        }
        foreign = None;
    }
    Some(Authorship { declared, written, foreign })
}

fn has_content(fields: &FieldSet) -> bool {
    fields.names().any(|name| !ENVELOPE.contains(&name))
}

fn add(to: &mut Option<FieldSet>, fields: &FieldSet) {
    match to {
        Some(existing) => existing.merge(fields.clone()),
        None => *to = Some(fields.clone()),
    }
}

fn union<'a>(sets: impl Iterator<Item = &'a FieldSet>) -> Option<FieldSet> {
    let mut all = None;
    sets.for_each(|set| add(&mut all, set));
    all
}

/// A document contains its version and kind. Managers don't own these as fields.
fn without_envelope(mut fields: FieldSet) -> FieldSet {
    for name in ["apiVersion", "kind", "status"] {
        fields.remove(name);
    }
    fields
}

/// The document of the last client-side apply, if it has the version in which the object was read.
fn document(live: &Value) -> Option<Value> {
    let text = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
    let document: Value = serde_json::from_str(text).ok()?;
    (object::api_version(&document) == object::api_version(live)).then_some(document)
}

/// The entries of `metadata.managedFields`. `None` if one can't be read, because the others would then be incomplete.
fn entries(live: &Value) -> Vec<Entry<'_>> {
    let all = live.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().map(entry).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn entry(entry: &Value) -> Option<Entry<'_>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(Entry {
        manager: text("manager"),
        applied: text("operation") == "Apply",
        subresource: text("subresource"),
        api_version: text("apiVersion"),
        fields: FieldSet::parse(entry.get("fieldsV1")?)?,
    })
}

#[cfg(test)]
mod tests;
