//! Shares what was deployed as the request asks: the delegate creates `RoleBindings` in the target, with its own right to bind. If one is
//! refused, the deployment stays and the refusal is listed.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::api::names::{self, short_hash};
use crate::api::plan::PlanResult;
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

/// What became of the shares.
#[derive(Debug, Default)]
pub struct Shares {
    /// Those that are there: the names of their bindings.
    pub made: Vec<String>,
    /// Those that were refused.
    pub refused: Vec<ObjectError>,
    /// What the delegate needs for those that were refused for lack of rights; of what it holds, it is the operator that may not use it.
    pub missing: Vec<Right>,
    /// Why some could not be tried, where that may pass.
    pub transient: Option<String>,
}

/// What is to be done about one.
enum Binding {
    /// Nothing: it is there.
    Made,
    /// It is written on what was seen.
    Wanted { seen: Option<Value> },
    /// Somebody else has something of its name.
    Taken,
}

/// Makes the bindings, as the delegate, under the claim. Those that are as they shall be are not written; the others on the version that
/// was seen, and only while the claim is held after that: whoever slept in between brings nothing back that was taken away.
pub async fn share(fence: &Fence, delegate: &DelegateClient, wanted: &[ShareGrant]) -> Shares {
    let claim = fence.claim();
    let pen = Pen { target: Target::new(delegate, claim.namespace()), fence };
    let mut shares = Shares::default();
    for grant in wanted {
        let key = key(claim.solution(), grant);
        match bind(&pen, claim.solution(), grant, &key).await {
            Ok(true) => shares.made.push(key.name),
            Ok(false) => shares.refused.push(errors::failure(&key, "NameTaken", &taken(&key))),
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

/// One binding; whether it is there now, or its name is somebody else's.
async fn bind(pen: &Pen<'_>, solution: &str, grant: &ShareGrant, key: &Key) -> Result<bool, Failure> {
    let served = bindings();
    let body = manifest(solution, grant);
    let seen = match judge(pen.get(key, &served).await?, solution, &body) {
        Binding::Made => return Ok(true),
        Binding::Taken => return Ok(false),
        Binding::Wanted { seen } => seen,
    };
    pen.still_holds(key).await?;
    // By force: what somebody changed in a generated binding is put right.
    let put = Put { key, served: &served, body: &body, seen: seen.as_ref(), force: true };
    pen.put(&put, |found| Ok(is_of(solution, found))).await?;
    Ok(true)
}

/// What would be refused, found out by dry runs as the delegate.
///
/// # Errors
/// Where the target can't be asked.
pub async fn preflight(delegate: &DelegateClient, namespace: &str, solution: &str, wanted: &[ShareGrant]) -> kube::Result<Vec<PlanResult>> {
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
            Ok(false) => refused.push(errors::result(&key, "NameTaken", &taken(&key))),
            Err(error) if matches!(errors::classify(&error), Cause::Transient | Cause::Stale) => return Err(error),
            Err(error) => {
                let said = refusal(solution, grant, errors::classify(&error), &errors::object_error(&key, &error));
                refused.push(errors::result(&key, &said.reason, &format!("would not be shared: {}", said.message)));
            }
        }
    }
    Ok(refused)
}

/// What a delegate needs to share these roles. Who makes a binding needs the right to bind what it binds.
pub fn rights(namespace: &str, cluster_roles: &[String]) -> Vec<Right> {
    let mut rights: Vec<Right> = ["get", "patch", "create"].map(|verb| Right::on(verb, RBAC, "rolebindings", namespace)).to_vec();
    rights.extend(cluster_roles.iter().map(|role| Right::on("bind", RBAC, "clusterroles", namespace).named(role)));
    rights
}

/// Why a share was refused. Who may not bind a role is told so, in place of all the rules of that role.
fn refusal(solution: &str, grant: &ShareGrant, cause: Cause, error: &ObjectError) -> ObjectError {
    let key = key(solution, grant);
    if matches!(cause, Cause::Escalation | Cause::Unauthorized) {
        let message = format!("{}: the delegate may not make {key}, for which it needs the verb bind on the role", said(grant));
        return errors::failure(&key, cause.reason(), &message);
    }
    errors::failure(&key, &error.reason, &format!("{}: {}", said(grant), error.message))
}

/// What is to be done where this is there.
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

/// The name of the binding that a share becomes.
pub fn name(solution: &str, grant: &ShareGrant) -> String {
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
    format!("{key} of the target was not made by Pilotage for this solution, and is left alone: delete or rename it, then ask again")
}

/// What was shared with whom, for people.
pub fn said(grant: &ShareGrant) -> String {
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
