//! What an error of a target's API server means. This is the only place that decides it.

use std::time::Duration;

use kube::core::response::StatusDetails;

use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::api::request_status::ObjectError;
use crate::cluster::object::Key;
use crate::cluster::redaction::redact;

/// What to do about a manifest that does not fit its schema, where no setting wrote what is wrong.
pub(crate) const CORRECT_THE_MANIFEST: &str = "correct the manifest and raise the solution's version";
/// How deep JSON is read: the object's own lists and maps, and those around it.
pub(crate) const DEEPEST: usize = 127;
/// How the policy on lent tokens begins what it refuses for a missing right.
const LENT_TOKEN_POLICY: &str = "the operator may not act as system:serviceaccount:";
/// How many findings a message names.
const NAMED: usize = 5;
/// The longest wait for which a server's `Retry-After` is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What an error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// Another try may succeed: overload, time-outs, lost connections, lost replies. A write may have been applied.
    Transient,
    /// The caller lacks a right, or the operator lacks the right to act as the caller.
    Unauthorized,
    /// Other field managers own fields that the manifest sets.
    FieldConflict,
    /// The object changed since it was read, or a precondition on its version or uid failed.
    Stale,
    /// A quota of the namespace is used up.
    Quota,
    /// The object would grant more than the delegate holds.
    Escalation,
    /// An admission webhook or policy refused.
    Denied,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The field can't be changed on the existing object.
    Immutable,
    /// The manifest does not fit the schema.
    Invalid,
    /// The namespace, or the resource, does not exist.
    NotFound,
    /// Any other error that does not go away by itself.
    Other,
}

impl Cause {
    /// The cause in one word, for a status.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Transient => Reason::ServerUnavailable,
            Self::Unauthorized => Reason::MissingRights,
            Self::FieldConflict => Reason::FieldConflict,
            Self::Stale => Reason::ChangedMeanwhile,
            Self::Quota => Reason::QuotaExceeded,
            Self::Escalation => Reason::GrantsMoreThanDelegateHolds,
            Self::Denied => Reason::DeniedByPolicy,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::Immutable => Reason::ImmutableField,
            Self::Invalid => Reason::Invalid,
            Self::NotFound => Reason::NotFound,
            Self::Other => Reason::Failed,
        }
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::Transient => "the call is repeated later",
            Self::Unauthorized => "grant the missing right in the target",
            Self::FieldConflict => {
                "leave these fields out of the solution, let their manager give them up, or have the stage take them with spec.deployment.force"
            }
            Self::Stale => "find out who else changes this object, then ask again",
            Self::Quota => "raise the quota of the target namespace, or free some of it",
            Self::Escalation => {
                "let the delegate hold these permissions (or the verbs bind and escalate) where the role is to hold: in the target namespace, or in the whole cluster"
            }
            Self::Denied => "change the solution so that the policy of the target cluster allows it",
            Self::NamespaceTerminating => "wait until the namespace is gone and created again, then confirm the environment",
            Self::Immutable => {
                "give the object another name in the new version, or annotate it with pilotage.dev/recreate=true in development and raise the version: then it is deleted in the target and created anew"
            }
            Self::Invalid => CORRECT_THE_MANIFEST,
            Self::NotFound => "check that the target namespace exists and that its cluster serves this kind",
            Self::Other => "see the message of the API server",
        }
    }
}

/// What the error means.
pub(crate) fn classify(error: &kube::Error) -> Cause {
    let status = match error {
        kube::Error::Api(status) => status,
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => return Cause::Other,
        error if is_too_deep(error) => return Cause::Invalid,
        // Connections, time-outs, incomplete replies: nobody knows what the server did.
        _ => return Cause::Transient,
    };
    let text = status.message.as_str();
    match status.code {
        // Server-side apply answers 500 if a manifest does not fit the schema. So does etcd if it is too large.
        500 if text.contains("failed to create typed patch object") || text.contains("request is too large") => Cause::Invalid,
        // Whoever made the client renews rejected credentials (401).
        401 | 408 | 410 | 429 | 500..=599 => Cause::Transient,
        403 => classify_forbidden(text, status.details.as_ref()),
        404 => Cause::NotFound,
        409 if causes(status.details.as_ref(), "FieldManagerConflict").next().is_some() => Cause::FieldConflict,
        409 => Cause::Stale,
        400 | 422 if is_denial(text) => Cause::Denied,
        422 if text.contains("immutable")
            || text.contains("updates to statefulset spec for fields other than")
            || text.contains("pod updates may not change fields other than")
            || text.contains("cannot change roleRef")
            || text.contains("may not change once set") =>
        {
            Cause::Immutable
        }
        400 | 413 | 422 => Cause::Invalid,
        _ => Cause::Other,
    }
}

/// Whether a reply can't be read because it nests too deeply. It never will be readable.
pub(crate) fn is_too_deep(error: &kube::Error) -> bool {
    matches!(error, kube::Error::SerdeError(error) if error.is_syntax() && error.to_string().contains("recursion limit"))
}

fn classify_forbidden(text: &str, details: Option<&StatusDetails>) -> Cause {
    if text.contains("exceeded quota") || text.contains("failed quota") {
        Cause::Quota
    } else if causes(details, "NamespaceTerminating").next().is_some() || text.contains("because it is being terminated") {
        Cause::NamespaceTerminating
    } else if text.contains("attempting to grant") {
        Cause::Escalation
    } else if is_authorization(text) {
        Cause::Unauthorized
    } else {
        Cause::Denied
    }
}

/// A refusal of the authorizer, not of an admission plugin. The request filter always writes `User "… cannot <verb> resource …`. The second
/// check, for `create` when a patch creates an object, gives the authorizer's own reason. RBAC gives none. Where the operator acts with a
/// lent token, a policy of Pilotage makes the check that the authorizer makes for impersonation.
fn is_authorization(text: &str) -> bool {
    if text.contains(LENT_TOKEN_POLICY) {
        return true;
    }
    let reason = text.split_once("is forbidden:").map_or(text, |(_, reason)| reason).trim();
    reason.is_empty()
        || reason.contains(" cannot ") && reason.contains("resource")
        || reason.starts_with("RBAC:")
        || reason.contains("permission(s)")
}

fn is_denial(text: &str) -> bool {
    text.contains("denied the request") || text.contains("denied request") || text.contains("admission webhook")
}

fn causes<'a>(details: Option<&'a StatusDetails>, reason: &'a str) -> impl Iterator<Item = &'a kube::core::response::StatusCause> {
    details.into_iter().flat_map(|d| &d.causes).filter(move |cause| cause.reason == reason)
}

/// How long the server asks to wait before the next attempt.
pub(crate) fn retry_after(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(MAX_RETRY_AFTER))
}

/// The server's message, without values of fields, cut to what a status takes.
pub fn message(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("the API server answered {} {}", status.code, status.reason),
        kube::Error::Api(status) => conflicts(status.details.as_ref()).unwrap_or_else(|| redact(&without_asides(&status.message))),
        error if is_too_deep(error) => format!("it nests deeper than {DEEPEST} levels, which is more than is read"),
        // A parser's error may quote what it could not parse.
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "the API server's reply was cut off".to_owned(),
        other => redact(&other.to_string()),
    };
    bounded(&text, MAX_MESSAGE)
}

/// Removes two things from a message: the server's note that it did not check all rules of a definition, which names no field (`<nil>`) and
/// nothing to correct; and Go's word for nothing.
fn without_asides(text: &str) -> String {
    const ASIDE: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing \
        errors to complete validation";
    text.replace(&format!(", {ASIDE}"), "").replace(&format!("{ASIDE}, "), "").replace("<nil>", "nothing")
}

/// The fields in conflict and their owners, in place of the server's sentence.
fn conflicts(details: Option<&StatusDetails>) -> Option<String> {
    let fields: Vec<String> = causes(details, "FieldManagerConflict")
        .map(|cause| {
            let manager = cause.message.strip_prefix("conflict with ").unwrap_or(&cause.message);
            format!("{} is managed by {manager}", cause.field)
        })
        .collect();
    (!fields.is_empty()).then(|| fields.join("; "))
}

/// The error as one entry of a plan's results.
pub(crate) fn plan_result(key: &Key, error: &kube::Error) -> PlanResult {
    let cause = classify(error);
    result(key, cause.reason(), &explain(key, error, cause))
}

/// The error as one entry of a request's errors.
pub(crate) fn object_error(key: &Key, error: &kube::Error) -> ObjectError {
    let cause = classify(error);
    failure(key, cause.reason(), &explain(key, error, cause))
}

/// Whether a webhook of the target can't be reached. It may become reachable, but somebody has to be told.
pub(crate) fn is_webhook_failure(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.message.contains(WEBHOOK_FAILED))
}

/// How the API server's message says that it could not call a webhook.
const WEBHOOK_FAILED: &str = "failed calling webhook";
/// How the message says that it may not call a webhook in a dry run.
const NO_DRY_RUN: &str = "does not support dry run";

/// What to do about the error, if its text tells more than its cause.
fn advice(cause: Cause, text: &str) -> &'static str {
    if text.contains(WEBHOOK_FAILED) {
        "have whoever runs this webhook in the target's cluster bring it back, or take its configuration away; the call is repeated meanwhile"
    } else if cause == Cause::Denied && text.contains(NO_DRY_RUN) {
        "have whoever runs this webhook in the target's cluster declare that a dry run has no side effects (sideEffects: None or NoneOnDryRun)"
    } else {
        cause.advice()
    }
}

/// The advice comes last. If both are too long, the server's message is cut.
fn explain(key: &Key, error: &kube::Error, cause: Cause) -> String {
    let text = message(error);
    let tail = format!(" ({})", advice(cause, &text));
    let head = format!("{key}: {text}");
    format!("{}{tail}", bounded(&head, MAX_MESSAGE.saturating_sub(tail.chars().count())))
}

/// An entry of a plan's results, within the bounds of its schema.
pub(crate) fn result(key: &Key, reason: Reason, message: &str) -> PlanResult {
    PlanResult {
        kind: bounded(&key.kind, 63),
        name: bounded(&key.name, 253),
        reason: reason.into(),
        message: bounded(message, MAX_MESSAGE),
    }
}

/// An entry of a request's errors, within the bounds of its schema.
pub(crate) fn failure(key: &Key, reason: Reason, message: &str) -> ObjectError {
    ObjectError {
        kind: bounded(&key.kind, 63),
        name: bounded(&key.name, 253),
        reason: reason.into(),
        message: bounded(message, MAX_MESSAGE),
    }
}

/// An error in one line that names its object once.
pub(crate) fn named(error: &ObjectError) -> String {
    let key = format!("{} {}", error.kind, error.name);
    if error.message.starts_with(&key) { error.message.clone() } else { format!("{key}: {}", error.message) }
}

/// The first few in one line, and how many more there are. People read a message; the status has the rest.
pub(crate) fn first_few(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let few: Vec<String> = all.take(NAMED).collect();
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{tail}", few.join("; "))
}

pub(crate) use crate::text::bounded;

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn api(status: serde_json::Value) -> kube::Error {
        kube::Error::Api(serde_json::from_value::<Status>(status).unwrap().boxed())
    }

    fn refusal(code: u16, message: &str) -> kube::Error {
        api(json!({"code": code, "message": message}))
    }

    #[test]
    fn a_missing_right_is_told_from_the_refusals_of_admission() {
        for (message, cause) in [
            (
                r#"configmaps "x" is forbidden: User "system:serviceaccount:host:bot" cannot patch resource "configmaps" in API group "" in the namespace "qa""#,
                Cause::Unauthorized,
            ),
            (r#"configmaps "x" is forbidden: "#, Cause::Unauthorized),
            (r#"pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"#, Cause::Quota),
            (r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged"#, Cause::Denied),
            (r#"pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#, Cause::Denied),
            (
                r#"roles.rbac.authorization.k8s.io "x" is forbidden: user "u" (groups=["g"]) is attempting to grant RBAC permissions not currently held: {}"#,
                Cause::Escalation,
            ),
            (
                r#"configmaps "x" is forbidden: unable to create new content in namespace qa because it is being terminated"#,
                Cause::NamespaceTerminating,
            ),
            (r#"deployments.apps "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#, Cause::Denied),
        ] {
            assert_eq!(classify(&refusal(403, message)), cause, "{message}");
        }
    }

    #[test]
    fn a_field_conflict_names_the_field_and_its_manager() {
        let error = api(
            json!({"code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas",
            "details": {"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using apps/v1", "field": ".spec.replicas"}]}}),
        );
        assert_eq!(classify(&error), Cause::FieldConflict);
        let key = Key { group: "apps".into(), kind: "Deployment".into(), name: "orders".into() };
        assert_eq!(
            plan_result(&key, &error).message,
            "Deployment orders: .spec.replicas is managed by \"kubectl\" using apps/v1 (leave these fields out of the solution, let their manager give them up, or have the stage take them with spec.deployment.force)"
        );
        assert_eq!(classify(&refusal(409, "Operation cannot be fulfilled: the object has been modified")), Cause::Stale);
    }

    #[test]
    fn nothing_is_called_by_its_name() {
        let aside = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        let said = message(&refusal(422, &format!("Stage \"b\" is invalid: [spec.targetEnvironment: Required value, {aside}]")));
        assert_eq!(said, "Stage \"b\" is invalid: [spec.targetEnvironment: Required value]");
        assert!(!message(&refusal(500, "lookup failed: <nil>")).contains("<nil>"));
    }

    #[test]
    fn what_may_pass_is_transient_and_what_will_not_is_not() {
        for code in [401, 429, 500, 502, 503, 504] {
            assert_eq!(classify(&refusal(code, "busy")), Cause::Transient, "{code}");
        }
        assert_eq!(classify(&refusal(500, "etcdserver: request is too large")), Cause::Invalid);
        let unfit = "failed to create typed patch object (qa/x; apps/v1, Kind=Deployment): .spec.nonsense: field not declared in schema";
        assert_eq!(classify(&refusal(500, unfit)), Cause::Invalid);
        assert_eq!(classify(&refusal(422, "spec.selector: Invalid value: {}: field is immutable")), Cause::Immutable);
        assert_eq!(classify(&refusal(422, "spec.replicas: must be positive")), Cause::Invalid);
        assert_eq!(classify(&refusal(400, "strict decoding error: unknown field \"spec.x\"")), Cause::Invalid);
        assert_eq!(classify(&refusal(400, "admission webhook \"w\" denied the request: no")), Cause::Denied);
        assert_eq!(classify(&refusal(404, "namespaces \"qa\" not found")), Cause::NotFound);
    }

    #[test]
    fn a_webhook_is_said_to_be_its_owners_business() {
        let key = Key { group: String::new(), kind: "ConfigMap".into(), name: "x".into() };
        let gone = refusal(500, r#"Internal error occurred: failed calling webhook "w.example.test": connect: connection refused"#);
        assert_eq!((classify(&gone), is_webhook_failure(&gone)), (Cause::Transient, true));
        assert!(object_error(&key, &gone).message.contains("bring it back"));
        let reluctant = refusal(400, r#"admission webhook "w.example.test" does not support dry run"#);
        assert_eq!((classify(&reluctant), is_webhook_failure(&reluctant)), (Cause::Denied, false));
        assert!(plan_result(&key, &reluctant).message.contains("sideEffects"));
        assert!(!is_webhook_failure(&refusal(500, "busy")));
    }

    #[test]
    fn messages_are_bounded_and_keep_the_advice() {
        let key = Key { group: String::new(), kind: "ConfigMap".into(), name: "x".into() };
        let shown = object_error(&key, &refusal(422, &"x".repeat(5000)));
        assert_eq!(shown.message.chars().count(), MAX_MESSAGE);
        assert!(shown.message.ends_with("raise the solution's version)"));
        assert_eq!(named(&shown), shown.message, "its object is named once");
        assert_eq!(named(&failure(&key, Reason::Invalid, "is wrong")), "ConfigMap x: is wrong");
    }

    #[test]
    fn the_wait_that_the_server_asks_for_is_bounded() {
        let asks = |seconds: u32| retry_after(&api(json!({"code": 429, "details": {"retryAfterSeconds": seconds}})));
        assert_eq!(asks(1), Some(Duration::from_secs(1)));
        assert_eq!(asks(600), Some(MAX_RETRY_AFTER));
        assert_eq!(asks(0), None);
    }
}
