//! Checks the operator in the audit log: as whom it wrote to targets, which of its rights it used, and what it was refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::audit::{self, Call};
use crate::controlplane::ControlPlane;
use crate::watch_recorder::{PROVOKES, Seen};

/// The operator's user name.
const OPERATOR: &str = "system:serviceaccount:pilotage-system:pilotage";
/// What it holds only to grant it by sharing: group, resource and verb.
const HANDED_ON: [(&str, &str, &str); 2] = [("rbac.authorization.k8s.io", "clusterroles", "bind"), ("pilotage.dev", "pipelines", "deploy")];
/// Starts and ends of requests are stored in whole seconds, and both use the same clock.
const SECOND: f64 = 1.0;

/// The credential of a token, as the audit log names it. Tests have tokens of the operator's account too.
///
/// # Errors
/// If it is no token of a `ServiceAccount`.
pub fn credential(token: &str) -> Result<String> {
    let claims = token.split('.').nth(1).context("the token has no claims")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).context("the token's claims")?)?;
    Ok(format!("JTI={}", claims["jti"].as_str().context("the token has no jti")?))
}

/// A right that was granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Granted {
    role: String,
    group: String,
    resource: String,
    verb: String,
}

/// What the audit log shows.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many writes to targets were checked.
    pub writes: usize,
    /// Writes to targets that no plan covers, or that the operator made as itself.
    pub strangers: Vec<String>,
    /// Rights that were never used.
    pub unused: Vec<Granted>,
    /// Calls that were refused although no test wants them to be refused.
    pub refused: BTreeSet<String>,
}

impl Findings {
    /// What is wrong, in words. `None` if nothing is.
    pub fn complaint(&self) -> Option<String> {
        let mut text = String::new();
        if self.writes == 0 {
            text.push_str("no write to a target is in the audit log\n");
        }
        for stranger in &self.strangers {
            let _ = writeln!(text, "written to a target, and not by the identity of a plan that ran: {stranger}");
        }
        for Granted { role, group, resource, verb } in &self.unused {
            let _ = writeln!(text, "granted in {role} and never used: {verb} {resource} of group {group:?}");
        }
        for refused in &self.refused {
            let _ = writeln!(text, "refused to the operator (a test that means it labels its namespace {PROVOKES}): {refused}");
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Reads the calls of the operators with these credentials.
///
/// # Errors
/// If the audit log or the operator's roles can't be read.
pub fn read(control_plane: &ControlPlane, credentials: &[String], seen: &Seen) -> Result<Findings> {
    let mut calls: Vec<Call> = audit::read(&control_plane.audit_log())?.into_iter().filter(|call| call.user == OPERATOR).collect();
    let lent = lent(&calls, credentials);
    calls.retain(|call| credentials.contains(&call.credential) || lent.contains(&call.credential));
    let roles = control_plane.kubectl().json(&["get", "clusterrole", "pilotage", "pilotage-host"])?;
    let role = control_plane.kubectl().json(&["get", "role", "pilotage", "-n", "pilotage-system"])?;
    let granted = roles["items"].as_array().into_iter().flatten().chain([&role]).flat_map(granted);
    // Older versions don't have these kinds, and the role is the same on all.
    let there = |right: &Granted| !control_plane.lends_tokens() || !right.resource.starts_with("mutatingadmissionpolic");
    let granted = granted.filter(there).collect();
    Ok(judge(&calls, seen, granted))
}

/// The credentials that the operators with these credentials asked for: tokens of delegates.
fn lent(calls: &[Call], credentials: &[String]) -> BTreeSet<String> {
    let asked = calls.iter().filter(|call| credentials.contains(&call.credential));
    asked.filter_map(|call| call.annotations.get("authentication.kubernetes.io/issued-credential-id").cloned()).collect()
}

/// The rights of a role, each verb on each resource.
fn granted(role: &Value) -> Vec<Granted> {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = format!("{} {}", role["kind"].as_str().unwrap_or_default(), role["metadata"]["name"].as_str().unwrap_or_default());
    let mut all = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    all.push(Granted { role: name.clone(), group: group.clone(), resource: resource.clone(), verb });
                }
            }
        }
    }
    all
}

fn judge(calls: &[Call], seen: &Seen, granted: Vec<Granted>) -> Findings {
    let mut findings = Findings::default();
    let targets: BTreeSet<&String> = seen.plans.values().filter_map(|plan| seen.namespaces.get(&plan.environment_id)).collect();
    for call in calls {
        if call.code == 403 {
            if !is_meant(call, seen) {
                findings.refused.insert(format!("{} {}: {}", call.verb, call.uri.split('?').next().unwrap_or_default(), call.message));
            }
            continue;
        }
        // Reviews of rights write nothing.
        let of_cluster = call.namespace.is_empty() && call.group != "authorization.k8s.io";
        if call.is_write() && (of_cluster || targets.contains(&call.namespace)) {
            findings.writes += 1;
            if !covered(call, seen) {
                let who = call.impersonated_user.as_deref().unwrap_or("the operator itself");
                findings.strangers.push(format!("{} {} by {who}", call.verb, call.uri));
            }
        }
    }
    findings.unused = granted.into_iter().filter(|right| !handed_on(right) && !calls.iter().any(|call| uses(call, right))).collect();
    findings
}

/// Whether a plan for that namespace names the identity that wrote, and, unless it was a dry run, was being carried out then. The log does
/// not say whether deletions were dry runs.
fn covered(call: &Call, seen: &Seen) -> bool {
    let Some(who) = &call.impersonated_user else { return false };
    let tried = call.dry_run || call.verb == "delete";
    // A dry run that is refused for other reasons leaves no plan.
    call.dry_run
        || seen
            .plans
            .values()
            .filter(|plan| call.namespace.is_empty() || seen.namespaces.get(&plan.environment_id) == Some(&call.namespace))
            .any(|plan| plan.delegate == *who && (tried || plan.ran.is_some_and(|(from, to)| from <= call.at && call.at <= to + SECOND)))
}

/// Whether the operator asked with that call whether the policies are in force: a dry run that they have to refuse.
fn is_probe(call: &Call) -> bool {
    call.dry_run && call.verb == "create" && call.resource == "deploymentrequests" && call.namespace == "pilotage-system"
}

/// The API server's message about objects of a kind whose definition a test deletes. No right is missing.
const KIND_IS_GOING: &str = "while custom resource definition is terminating";

/// Whether a test wants the call to be refused, or its namespace or its kind was being deleted. A cluster-scoped object has no namespace:
/// its name contains its world's name, or the delegate's namespace counts.
fn is_meant(call: &Call, seen: &Seen) -> bool {
    let account = call.impersonated_user.as_deref().and_then(|user| user.strip_prefix("system:serviceaccount:"));
    let home = match account.and_then(|account| account.split_once(':')) {
        Some((namespace, _)) if call.namespace.is_empty() => namespace,
        _ => &call.namespace,
    };
    let after_its_world =
        |namespace: &String| namespace.rsplit_once('-').is_some_and(|(world, _)| call.name.starts_with(&format!("{world}-")));
    is_probe(call)
        || call.message.ends_with(KIND_IS_GOING)
        || seen.provoking.contains(home)
        || call.namespace.is_empty() && seen.provoking.iter().any(after_its_world)
        || seen.ending.get(home).is_some_and(|since| *since <= call.at)
}

fn handed_on(right: &Granted) -> bool {
    HANDED_ON.contains(&(right.group.as_str(), right.resource.as_str(), right.verb.as_str()))
}

/// Whether the operator made that call as itself and used this right. An apply that creates an object needs `create` too.
fn uses(call: &Call, right: &Granted) -> bool {
    let resource = if call.subresource.is_empty() { call.resource.clone() } else { format!("{}/{}", call.resource, call.subresource) };
    let made = call.verb == "patch" && call.code == 201;
    call.impersonated_user.is_none()
        && (call.code != 403 || is_probe(call))
        && call.group == right.group
        && resource == right.resource
        && (call.verb == right.verb || made && right.verb == "create")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch_recorder::Plan;

    fn call(verb: &str, code: u16, at: f64, who: Option<&str>) -> Call {
        Call {
            at,
            user: OPERATOR.into(),
            verb: verb.into(),
            code,
            resource: "configmaps".into(),
            namespace: "qa".into(),
            impersonated_user: who.map(str::to_owned),
            ..Call::default()
        }
    }

    fn seen() -> Seen {
        let mut seen = Seen::default();
        seen.namespaces.insert("n1".into(), "qa".into());
        seen.plans.insert("r1".into(), Plan { environment_id: "n1".into(), delegate: "bot".into(), ran: Some((10.0, 20.0)) });
        seen
    }

    #[test]
    fn a_write_is_covered_by_its_identity_while_its_plan_is_carried_out() {
        let strangers = |call: Call| judge(&[call], &seen(), Vec::new()).strangers.len();
        assert_eq!(strangers(call("patch", 201, 15.0, Some("bot"))), 0);
        assert_eq!(strangers(call("patch", 201, 15.0, None)), 1, "as itself");
        assert_eq!(strangers(call("patch", 201, 15.0, Some("dana"))), 1, "as somebody else");
        assert_eq!(strangers(call("patch", 201, 9.0, Some("bot"))), 1, "before its start");
        assert_eq!(strangers(call("patch", 201, 22.0, Some("bot"))), 1, "after its end");
        assert_eq!(strangers(Call { dry_run: true, ..call("patch", 201, 5.0, Some("bot")) }), 0);
        assert_eq!(strangers(Call { dry_run: true, ..call("patch", 201, 5.0, None) }), 1, "not even a dry run as itself");
        assert!(judge(&[], &seen(), Vec::new()).complaint().is_some_and(|c| c.contains("no write to a target")));
    }

    #[test]
    fn what_is_written_to_the_whole_cluster_is_looked_at_too() {
        let of_cluster = |at: f64, who: Option<&str>| Call { namespace: String::new(), ..call("patch", 201, at, who) };
        let strangers = |call: Call| judge(&[call], &seen(), Vec::new()).strangers.len();
        assert_eq!(strangers(of_cluster(15.0, Some("bot"))), 0);
        assert_eq!(
            (strangers(of_cluster(22.0, Some("bot"))), strangers(of_cluster(15.0, Some("dana"))), strangers(of_cluster(15.0, None))),
            (1, 1, 1)
        );
        let review = Call { group: "authorization.k8s.io".into(), ..of_cluster(1.0, None) };
        assert_eq!(strangers(review), 0);
        let refused = Call { code: 403, ..of_cluster(1.0, Some("system:serviceaccount:qa:bot")) };
        assert_eq!(judge(std::slice::from_ref(&refused), &seen(), Vec::new()).refused.len(), 1);
        let mut meant = seen();
        meant.provoking.insert("qa".into());
        assert_eq!(judge(&[refused], &meant, Vec::new()).refused.len(), 0, "the delegate's namespace says that it is meant");
        // The right to act as the delegate is refused already: the log names nobody.
        let unknown = |name: &str| Call { code: 403, name: name.into(), ..of_cluster(1.0, None) };
        meant.provoking = ["world-1-host".to_owned()].into();
        let refused = |name: &str| judge(&[unknown(name)], &meant, Vec::new()).refused.len();
        assert_eq!((refused("world-1-orders"), refused("world-12-orders"), refused("orders")), (0, 1, 1));
    }

    #[test]
    fn a_right_is_used_by_a_call_of_its_own_and_not_by_one_as_somebody_else() {
        let right = |verb: &str| Granted { role: "r".into(), group: String::new(), resource: "configmaps".into(), verb: verb.into() };
        let unused = |calls: &[Call], verb: &str| judge(calls, &seen(), vec![right(verb)]).unused.len();
        assert_eq!(unused(&[call("get", 404, 1.0, None)], "get"), 0);
        assert_eq!(unused(&[call("get", 200, 1.0, Some("bot"))], "get"), 1);
        assert_eq!(unused(&[call("get", 403, 1.0, None)], "get"), 1);
        assert_eq!((unused(&[call("patch", 201, 1.0, None)], "create"), unused(&[call("patch", 200, 1.0, None)], "create")), (0, 1));
    }

    #[test]
    fn a_refusal_is_excused_only_where_a_test_says_that_it_means_it() {
        let refused = call("get", 403, 1.0, None);
        assert_eq!(judge(std::slice::from_ref(&refused), &seen(), Vec::new()).refused.len(), 1);
        let mut meant = seen();
        meant.provoking.insert("qa".into());
        assert_eq!(judge(std::slice::from_ref(&refused), &meant, Vec::new()).refused.len(), 0);
        let mut ending = seen();
        ending.ending.insert("qa".into(), 0.5);
        assert_eq!(judge(std::slice::from_ref(&refused), &ending, Vec::new()).refused.len(), 0, "its grants go with it");
        ending.ending.insert("qa".into(), 1.5);
        assert_eq!(judge(std::slice::from_ref(&refused), &ending, Vec::new()).refused.len(), 1, "it was there still");
        let message = "flows.test \"a\" is forbidden: create not allowed while custom resource definition is terminating".to_owned();
        assert_eq!(judge(&[Call { message, ..refused }], &seen(), Vec::new()).refused.len(), 0, "its definition was being deleted");
    }

    #[test]
    fn a_token_is_known_by_its_id() {
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(r#"{"jti": "a-b"}"#));
        assert_eq!(credential(&token).unwrap_or_default(), "JTI=a-b");
        assert!(credential("nonsense").is_err());
    }
}
