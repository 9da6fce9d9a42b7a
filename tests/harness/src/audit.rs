//! Who called the API server, and how: its audit log.
//!
//! Every call is in it once, after it has ended. This is true for watches too.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The operator's user name.
const OPERATOR: &str = "system:serviceaccount:pilotage-system:pilotage";

/// A call to the API server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    /// When it was received, in seconds since 1970.
    pub at: f64,
    /// How many seconds it took.
    pub took: f64,
    /// The authenticated user. For a token that the operator was lent it is the operator, which acts as somebody else with it.
    pub user: String,
    /// The groups of that user.
    pub groups: Vec<String>,
    /// Which of that user's credentials it was, for example `JTI=` and the id of a token.
    pub credential: String,
    /// The user that was impersonated. If the impersonation was refused, the log does not say it.
    pub impersonated_user: Option<String>,
    /// The verb that allowed the impersonation, such as `impersonate:user-info`
    /// or `impersonate`.
    pub impersonation: Option<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// The API group; empty for the core group and for no resource.
    pub group: String,
    /// The resource's plural name; empty for calls like `/readyz`.
    pub resource: String,
    /// For example `status`. Mostly empty.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name. Empty for lists. If the server generated the name, the log does not have it.
    pub name: String,
    /// The HTTP status.
    pub code: u16,
    /// The server's message about a failure.
    pub message: String,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// Path and query.
    pub uri: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// `allow` or `forbid`. Empty if the impersonation itself was refused.
    pub decision: String,
    /// Why it was decided: for example the rule of RBAC.
    pub reason: String,
    /// All annotations: those above and what admission policies add.
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Call {
    /// The user whose rights counted: the impersonated user if there is one.
    pub fn acting_user(&self) -> &str {
        self.impersonated_user.as_deref().unwrap_or(&self.user)
    }

    /// Whether it changed something, or would have if it were no dry run and had not failed.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

/// Reads all calls of an audit log.
pub fn read(path: &Path) -> Result<Vec<Call>> {
    Ok(since(path, 0)?.0)
}

/// Reads the calls from a byte offset on. Returns the offset to continue from. An incomplete last line is left for the next time. A line
/// that was incomplete at the offset belongs to the time before.
pub fn since(path: &Path, offset: u64) -> Result<(Vec<Call>, u64)> {
    let mut file = match File::open(path) {
        // The server creates it with the first call.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), offset)),
        file => file.with_context(|| path.display().to_string())?,
    };
    let start = offset.saturating_sub(1);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let end_of_line = |byte: &u8| *byte == b'\n';
    let first = if offset == 0 { Some(0) } else { bytes.iter().position(end_of_line).map(|end| end + 1) };
    let Some((first, whole)) = first.zip(bytes.iter().rposition(end_of_line).map(|last| last + 1)) else { return Ok((Vec::new(), offset)) };
    let calls = bytes[first..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect::<Result<_>>()?;
    Ok((calls, start + whole as u64))
}

/// The offset of the end of an audit log. [`since`] with this offset reads the calls whose lines begin later.
pub fn end(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn parse(line: &[u8]) -> Result<Call> {
    let event: Event = serde_json::from_slice(line).with_context(|| format!("audit log: {}", String::from_utf8_lossy(line)))?;
    let object = event.object_ref.unwrap_or_default();
    let annotation = |name: &str| event.annotations.get(name).cloned().unwrap_or_default();
    let at = seconds(&event.request_received_timestamp)?;
    let lent = event.user.is_lent();
    let (user, impersonated_user) = if lent {
        (OPERATOR.to_owned(), Some(event.user.username))
    } else {
        (event.user.username, event.impersonated_user.map(|user| user.username))
    };
    Ok(Call {
        at,
        took: seconds(&event.stage_timestamp)? - at,
        user,
        groups: event.user.groups,
        credential: event
            .user
            .extra
            .get("authentication.kubernetes.io/credential-id")
            .and_then(|ids| ids.first())
            .cloned()
            .unwrap_or_default(),
        impersonated_user,
        impersonation: event.authentication_metadata.and_then(|metadata| metadata.impersonation_constraint),
        verb: event.verb,
        group: object.api_group,
        resource: object.resource,
        subresource: object.subresource,
        namespace: object.namespace,
        name: object.name,
        code: event.response_status.code,
        message: event.response_status.message,
        dry_run: dry_run(&event.request_uri),
        uri: event.request_uri,
        user_agent: event.user_agent,
        decision: annotation("authorization.k8s.io/decision"),
        reason: annotation("authorization.k8s.io/reason"),
        annotations: event.annotations,
    })
}

/// Whether the query asks for a dry run. For deletions the body may ask for it instead, but the log does not have the body.
fn dry_run(uri: &str) -> bool {
    uri.split_once('?').is_some_and(|(_, query)| query.split('&').any(|part| part == "dryRun=All"))
}

/// Seconds since 1970 of a time such as `2026-01-31T23:59:59.123456Z`.
///
/// # Errors
/// If it is no time.
pub fn seconds(time: &str) -> Result<f64> {
    parse_time(time).with_context(|| format!("audit log: {time:?} is no time"))
}

fn parse_time(time: &str) -> Option<f64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u32>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut clock = clock.split(':');
    let hours: u32 = clock.next()?.parse().ok()?;
    let minutes: u32 = clock.next()?.parse().ok()?;
    let rest: f64 = clock.next()?.parse().ok()?;
    // If years begin in March, they end with the leap day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = f64::from(days) - 719_468.0;
    Some(days * 86_400.0 + f64::from(hours * 3600 + minutes * 60) + rest)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whether this is a delegate's token that the operator was lent: it is bound to a node, and to no pod. The operator acts with it as it
    /// does by impersonation elsewhere, so its calls count as such.
    fn is_lent(&self) -> bool {
        let has = |name: &str| self.extra.contains_key(&format!("authentication.kubernetes.io/{name}"));
        has("node-name") && !has("pod-name")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationMetadata {
    impersonation_constraint: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(parse_time("1970-01-01T00:00:00.000000Z"), Some(0.0));
        assert_eq!(parse_time("2000-02-29T12:00:00.500000Z"), Some(951_825_600.5));
        assert_eq!(parse_time("2026-03-01T00:00:00.000000Z"), Some(1_772_323_200.0));
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn dry_runs_are_told_by_the_query() {
        assert!(dry_run("/api/v1/namespaces/a/pods?fieldManager=x&dryRun=All"));
        assert!(!dry_run("/api/v1/namespaces/a/pods/dryRun=All"));
        assert!(!dry_run("/api/v1/namespaces/a/pods?dryRun="));
    }

    #[test]
    fn a_line_that_was_being_written_is_read_once_by_whoever_was_there_before() {
        let line = |user: &str| {
            format!(
                "{{\"requestURI\":\"/\",\"verb\":\"get\",\"user\":{{\"username\":\"{user}\"}},\"responseStatus\":{{\"code\":200}},\
                 \"requestReceivedTimestamp\":\"1970-01-01T00:00:00.000000Z\",\"stageTimestamp\":\"1970-01-01T00:00:00.000000Z\"}}\n"
            )
        };
        let users = |calls: Vec<Call>| calls.into_iter().map(|call| call.user).collect::<Vec<_>>();
        let path = std::env::temp_dir().join(format!("audit-{}.log", std::process::id()));
        let (first, second) = (line("a"), line("b"));
        std::fs::write(&path, format!("{first}{}", &second[..20])).unwrap();
        let (calls, next) = since(&path, 0).unwrap();
        let midway = end(&path);
        assert_eq!((users(calls), next), (vec!["a".to_owned()], first.len() as u64));
        assert!(since(&path, midway).unwrap().0.is_empty());
        std::fs::write(&path, format!("{first}{second}{}", line("c"))).unwrap();
        assert_eq!(users(since(&path, next).unwrap().0), ["b", "c"]);
        assert_eq!(users(since(&path, midway).unwrap().0), ["c"]);
        std::fs::remove_file(&path).unwrap();
    }
}
