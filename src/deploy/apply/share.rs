//! Shares what was deployed as the request asks: the delegate creates `RoleBindings` in the target, with its own right to bind. If one is
//! refused, the deployment stays and the refusal is listed.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::api::names::{self, short_hash};
use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::api::reference::SubjectKind;
use crate::api::request::ShareGrant;
use crate::api::request_status::ObjectError;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Key, Served};
use crate::cluster::retry::retrying;
use crate::deploy::apply::target::{Mode, Target};
use crate::deploy::apply::write::{Failure, Pen, Put};
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;
use crate::identity::fence::Fence;
use crate::identity::grants;

/// The API group of what is bound.
const RBAC: &str = "rbac.authorization.k8s.io";

/// The result of sharing.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// The shares that exist: the names of their bindings.
    pub(crate) made: Vec<String>,
    /// Those that were refused.
    pub(crate) refused: Vec<ObjectError>,
    /// What the delegate needs for those that were refused for lack of rights. If it holds these rights, the operator may not use them.
    pub(crate) missing: Vec<Right>,
    /// Why some could not be tried, if that may pass.
    pub(crate) transient: Option<String>,
}

/// What must be done about one share.
enum Binding {
    /// Nothing: it exists.
    Made,
    /// It is written on the version that was seen.
    Wanted { seen: Option<Value> },
    /// Somebody else has something of its name.
    Taken,
}

/// Makes the bindings, as the delegate, under the claim. Bindings that are as they should be are not written. The others are written on the
/// version that was seen, and only if the claim is still held after that. So a process that slept in between doesn't restore what was taken
/// away.
pub(crate) async fn share(fence: &Fence, delegate: &DelegateClient, wanted: &[ShareGrant]) -> Shares {
    let claim = fence.claim();
    let pen = Pen { target: Target::new(delegate, claim.namespace()), fence };
    let mut shares = Shares::default();
    for grant in wanted {
        let key = key(claim.solution(), grant);
        match bind(&pen, claim.solution(), grant, &key).await {
            Ok(true) => shares.made.push(key.name),
            Ok(false) => shares.refused.push(errors::failure(&key, Reason::NameTaken, &taken(&key))),
            Err(failure) if failure.is_transient || matches!(failure.cause, Cause::Transient | Cause::Stale) => {
                shares.transient = Some(failure.error.message);
            }
            Err(failure) => {
                if matches!(failure.cause, Cause::Unauthorized | Cause::Escalation) {
                    shares.missing.extend(rights(claim.namespace(), std::slice::from_ref(&grant.cluster_role)));
                }
                shares.refused.push(refusal(claim.solution(), grant, failure.cause, &failure.error));
            }
        }
    }
    shares.missing.sort();
    shares.missing.dedup();
    shares
}

/// One binding. Returns whether it exists now, or its name belongs to somebody else.
async fn bind(pen: &Pen<'_>, solution: &str, grant: &ShareGrant, key: &Key) -> Result<bool, Failure> {
    let served = bindings();
    let body = manifest(solution, grant);
    let seen = match judge(pen.get(key, &served).await?, solution, &body) {
        Binding::Made => return Ok(true),
        Binding::Taken => return Ok(false),
        Binding::Wanted { seen } => seen,
    };
    pen.still_holds(key).await?;
    // By force: changes of others to a generated binding are undone.
    let put = Put { key, served: &served, body: &body, seen: seen.as_ref(), force: true };
    pen.put(&put, |found| Ok(is_of(solution, found))).await?;
    Ok(true)
}

/// The shares that would be refused, by dry runs as the delegate.
///
/// # Errors
/// If the target can't be asked.
pub(crate) async fn preflight(
    delegate: &DelegateClient,
    namespace: &str,
    solution: &str,
    wanted: &[ShareGrant],
) -> kube::Result<Vec<PlanResult>> {
    let target = Target::new(delegate, namespace);
    let served = bindings();
    let mut refused = Vec::new();
    for grant in wanted {
        let (key, body) = (key(solution, grant), manifest(solution, grant));
        let tried = async {
            let live = retrying(|| target.get(&served, &key.name)).await?;
            match judge(live, solution, &body) {
                Binding::Made => Ok(true),
                Binding::Taken => Ok(false),
                Binding::Wanted { .. } => retrying(|| target.apply(&served, &key.name, &body, true, Mode::DryRun)).await.map(|_| true),
            }
        };
        match tried.await {
            Ok(true) => {}
            Ok(false) => refused.push(errors::result(&key, Reason::NameTaken, &taken(&key))),
            Err(error) if matches!(errors::classify(&error), Cause::Transient | Cause::Stale) => return Err(error),
            Err(error) => {
                let cause = errors::classify(&error);
                let said = refusal(solution, grant, cause, &errors::object_error(&key, &error));
                refused.push(errors::result(&key, cause.reason(), &format!("would not be shared: {}", said.message)));
            }
        }
    }
    Ok(refused)
}

/// What a delegate needs to share these roles. Whoever makes a binding needs the right to bind its role.
pub(crate) fn rights(namespace: &str, cluster_roles: &[String]) -> Vec<Right> {
    let mut rights: Vec<Right> = ["get", "patch", "create"].map(|verb| Right::on(verb, RBAC, "rolebindings", namespace)).to_vec();
    rights.extend(cluster_roles.iter().map(|role| Right::on("bind", RBAC, "clusterroles", namespace).named(role)));
    rights
}

/// Why a share was refused. If the delegate may not bind a role, the message says so, and doesn't list all rules of that role.
fn refusal(solution: &str, grant: &ShareGrant, cause: Cause, error: &ObjectError) -> ObjectError {
    let key = key(solution, grant);
    if matches!(cause, Cause::Escalation | Cause::Unauthorized) {
        let message = format!("{}: the delegate may not make {key}, for which it needs the verb bind on the role", said(grant));
        return errors::failure(&key, cause.reason(), &message);
    }
    errors::failure(&key, cause.reason(), &format!("{}: {}", said(grant), error.message))
}

/// What must be done, given the existing binding.
fn judge(live: Option<Value>, solution: &str, wanted: &Value) -> Binding {
    match live {
        Some(live) if !is_of(solution, &live) => Binding::Taken,
        Some(live) if live["roleRef"] == wanted["roleRef"] && live["subjects"] == wanted["subjects"] => Binding::Made,
        seen => Binding::Wanted { seen },
    }
}

/// Whether a binding was made for the solution.
fn is_of(solution: &str, binding: &Value) -> bool {
    object::label(binding, names::SOLUTION_LABEL) == Some(solution)
}

fn bindings() -> Served {
    Served::in_namespaces(ApiResource::erase::<RoleBinding>(&()))
}

fn key(solution: &str, grant: &ShareGrant) -> Key {
    let namespace = grant.namespace.as_deref().unwrap_or_default();
    let hash = short_hash(&format!("{} {:?} {namespace} {}", grant.cluster_role, grant.kind, grant.name));
    Key { group: RBAC.into(), kind: "RoleBinding".into(), name: format!("pilotage-share-{solution}-{hash}") }
}

/// The name of the binding for a share.
pub(crate) fn name(solution: &str, grant: &ShareGrant) -> String {
    key(solution, grant).name
}

fn manifest(solution: &str, grant: &ShareGrant) -> Value {
    let subject = match (grant.kind, &grant.namespace) {
        (SubjectKind::ServiceAccount, namespace) => json!({"kind": "ServiceAccount", "name": grant.name, "namespace": namespace}),
        (SubjectKind::User, _) => json!({"kind": "User", "apiGroup": RBAC, "name": grant.name}),
        (SubjectKind::Group, _) => json!({"kind": "Group", "apiGroup": RBAC, "name": grant.name}),
    };
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "RoleBinding",
        "metadata": {
            "name": key(solution, grant).name,
            "labels": {(names::MANAGED_BY): names::FIELD_MANAGER, (names::SOLUTION_LABEL): solution},
        },
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": grant.cluster_role},
        "subjects": [subject],
    })
}

fn taken(key: &Key) -> String {
    format!(
        "{key} of the target was not made by Pilotage for this solution, so Pilotage does not change it: delete or rename it, then ask again"
    )
}

/// What was shared with whom, for people.
pub(crate) fn said(grant: &ShareGrant) -> String {
    let who = grants::described(grant.kind, &grant.name, grant.namespace.as_deref());
    format!("ClusterRole {} with {who}", grant.cluster_role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::plan::MAX_MESSAGE;

    fn grant(kind: SubjectKind, name: &str, namespace: Option<&str>, role: &str) -> ShareGrant {
        ShareGrant { kind, name: name.into(), namespace: namespace.map(str::to_owned), cluster_role: role.into() }
    }

    #[test]
    fn each_share_is_a_binding_of_its_own() {
        let all = [
            grant(SubjectKind::Group, "qa", None, "view"),
            grant(SubjectKind::User, "qa", None, "view"),
            grant(SubjectKind::Group, "qa", None, "edit"),
            grant(SubjectKind::ServiceAccount, "qa", Some("ci"), "view"),
        ];
        let names: std::collections::BTreeSet<String> = all.iter().map(|g| key("orders", g).name).collect();
        assert_eq!(names.len(), all.len());
        let binding = manifest("orders", &all[3]);
        assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": "qa", "namespace": "ci"}]));
        assert_eq!(binding["metadata"]["labels"]["pilotage.dev/solution"], "orders");
        assert_eq!(said(&all[3]), "ClusterRole view with ServiceAccount ci/qa");
        assert_eq!(said(&all[0]), "ClusterRole view with Group qa");
    }

    #[test]
    fn a_refusal_fits_its_schema_however_many_rules_the_role_has() {
        let text = format!(
            "rolebindings is forbidden: user \"bot\" is attempting to grant RBAC permissions not currently held:\n{}",
            "{rule}\n".repeat(2000)
        );
        let refused = |grant: &ShareGrant, reason: &str, code: u16, text: &str| {
            let error = kube::Error::Api(kube::core::Status::failure(text, reason).with_code(code).boxed());
            refusal("orders", grant, errors::classify(&error), &errors::object_error(&key("orders", grant), &error))
        };
        let edit = grant(SubjectKind::Group, "qa", None, "edit");
        let said = refused(&edit, "Forbidden", 403, &text);
        assert_eq!(said.reason, "GrantsMoreThanDelegateHolds");
        assert!(said.message.starts_with("ClusterRole edit with Group qa: ") && said.message.contains("the verb bind"), "{}", said.message);
        assert!(refused(&edit, "Invalid", 422, &"x".repeat(5000)).message.chars().count() <= MAX_MESSAGE);
    }

    #[test]
    fn who_shares_needs_to_bind_each_role() {
        let rights = rights("qa", &["view".into()]);
        let said: Vec<String> = rights.iter().map(|r| format!("{} {} {:?}", r.verb, r.resource, r.name)).collect();
        assert_eq!(
            said,
            ["get rolebindings None", "patch rolebindings None", "create rolebindings None", "bind clusterroles Some(\"view\")"]
        );
    }
}
