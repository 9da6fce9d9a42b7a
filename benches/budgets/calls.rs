//! The calls that were made, from the audit log.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use pilotage_harness::ControlPlane;
use pilotage_harness::audit::{self, Call};

/// The operator's user.
pub const OPERATOR: &str = "system:serviceaccount:pilotage-system:pilotage";

/// A place in the audit log, to read on from.
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

impl Mark {
    /// Now.
    pub fn now(plane: &ControlPlane) -> Self {
        let log = plane.audit_log();
        let offset = audit::end(&log);
        Self { log, offset }
    }

    /// The calls that ended since the mark, in the order in which they were received.
    pub fn since(&self) -> Result<Vec<Call>> {
        let mut calls = audit::since(&self.log, self.offset)?.0;
        calls.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(calls)
    }
}

/// The kind of a call, in a word or two.
pub fn kind(call: &Call) -> String {
    let subresource = if call.subresource.is_empty() { String::new() } else { format!("/{}", call.subresource) };
    let dry_run = if call.dry_run { " (dry run)" } else { "" };
    let subject = if call.resource.is_empty() { call.uri.split('?').next().unwrap_or_default() } else { &call.resource };
    format!("{} {subject}{subresource}{dry_run}", call.verb)
}

/// Whether it is housekeeping: watches, Leases and Events.
pub fn is_aside(call: &Call) -> bool {
    call.verb == "watch" || matches!(call.resource.as_str(), "events" | "leases")
}

/// Whether it stores something. Reviews are creations that store nothing.
pub fn stores(call: &Call) -> bool {
    call.is_write() && !call.dry_run && !matches!(call.group.as_str(), "authorization.k8s.io" | "authentication.k8s.io")
}

/// A write of the operator outside targets.
pub fn is_host_write(call: &Call) -> bool {
    call.user == OPERATOR && call.impersonated_user.is_none() && stores(call) && !is_aside(call)
}

/// A write by the operator as a delegate.
pub fn is_target_write(call: &Call) -> bool {
    call.user == OPERATOR && call.impersonated_user.is_some() && stores(call)
}

/// How many calls there are of each kind.
pub fn by_kind<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(kind(call)).or_default() += 1;
    }
    counts
}

/// The same in one line.
pub fn summary<'a>(calls: impl IntoIterator<Item = &'a Call>) -> String {
    let counts = by_kind(calls);
    counts.iter().map(|(kind, count)| format!("{count} x {kind}")).collect::<Vec<_>>().join(", ")
}

/// From the first of these calls to the end of the last, in seconds.
pub fn span<'a>(calls: impl Iterator<Item = &'a Call> + Clone) -> Option<f64> {
    let start = calls.clone().map(|c| c.at).min_by(f64::total_cmp)?;
    let end = calls.map(|c| c.at + c.took).max_by(f64::total_cmp)?;
    Some(end - start)
}

/// All calls with their times, to find out where the time goes.
pub fn trace(title: &str, calls: &[Call]) -> String {
    let start = calls.first().map_or(0.0, |c| c.at);
    let mut text = format!("# {title}: received, took, who, what\n");
    for call in calls.iter().filter(|c| c.verb != "watch" && c.resource != "leases") {
        let who = call.acting_user().rsplit(':').next().unwrap_or_default();
        let (at, took) = ((call.at - start) * 1000.0, call.took * 1000.0);
        let line = format!("{at:8.1} ms {took:6.1} ms  {who:<10} {} {}/{} {}\n", kind(call), call.namespace, call.name, call.code);
        text.push_str(&line);
    }
    text.push('\n');
    text
}
