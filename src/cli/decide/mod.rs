//! `kubectl pilotage approve` and `reject`: a decision at the gate that is open, under the caller's own name or the delegate's.

mod delegate;
mod gate;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::gate::{GateName, Open};
use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::{plan, prompt};
use crate::api::request_status::StepOutcome;
use crate::api::{DeploymentRequest, GROUP, duration};
use crate::cli::names::object_name;

/// How often the request is read while waiting for its gate.
const POLL: Duration = Duration::from_millis(500);

/// Let a request pass the gate that is open. The plan is shown first; what is approved is that plan, and no other. The namespace (-n) is
/// the host.
#[derive(Args, Debug)]
pub struct ApproveArgs {
    #[command(flatten)]
    decision: DecisionArgs,
}

/// End a request at the gate that is open. The plan is shown first. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct RejectArgs {
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args, Debug)]
struct DecisionArgs {
    /// The request.
    #[arg(value_parser = object_name)]
    request: String,
    /// Text for the requester.
    #[arg(long)]
    comments: Option<String>,
    /// For those who can read the host, for example TICKET=CHG-17; may be given several times.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// The gate. Without it, the one that is open is decided.
    #[arg(long, value_enum)]
    gate: Option<GateName>,
    /// Decide without being asked. Needed where there is no terminal.
    #[arg(long)]
    yes: bool,
    /// The person on whose behalf you decide. Shown, not verified.
    #[arg(long, value_name = "PERSON")]
    on_behalf_of: Option<String>,
    /// Decide as the stage's delegate, with a token of its own that is valid for ten minutes. You need the right to ask for it: create on
    /// serviceaccounts/token.
    #[arg(long)]
    as_delegate: bool,
    /// Wait until a gate is open.
    #[arg(long)]
    wait: bool,
    /// How long to wait for the gate, for example 15m.
    #[arg(long, default_value = "15m", requires = "wait", value_name = "DURATION")]
    timeout: String,
}

/// Lets the request pass.
///
/// # Errors
/// If there is nothing to decide, the caller may not decide it, or the API server refuses the decision.
pub async fn approve(connection: &Connection, args: ApproveArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    decide(connection, &args.decision, true, out).await
}

/// Ends the request.
///
/// # Errors
/// The same as for [`approve`].
pub async fn reject(connection: &Connection, args: RejectArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    decide(connection, &args.decision, false, out).await
}

async fn decide(connection: &Connection, args: &DecisionArgs, passes: bool, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let name = &args.request;
    let properties = properties(&args.properties)?;
    connection.named()?;
    let host = connection.namespace().to_owned();
    let request = read(connection, &host, args).await?;
    let open = gate::open(&request, args.gate)
        .map_err(|why| Exit::Failed.because(format!("there is nothing to decide on request {name} of host {host}: {why}")))?;
    let me = connection.caller().await?;
    let (decider, as_who) = if args.as_delegate {
        let requester = request.spec.requested_by.as_ref().map(|requester| requester.username.as_str());
        if requester == Some(me.username.as_str()) && !open.gate.allow_self_approval {
            return Err(not_yours(name, &host, "you asked for it, and nobody decides their own request under another name either"));
        }
        let delegate = delegate::connection(connection, &host, open.delegate()).await?;
        let who = delegate.caller().await?;
        (delegate, who)
    } else {
        (connection.clone(), me.clone())
    };
    if let Some(why) = open.refusal(&request, &as_who) {
        let hint = if open.delegate().is_some() && !args.as_delegate {
            "; with the right to ask for the delegate's token, decide with --as-delegate"
        } else {
            ""
        };
        return Err(not_yours(name, &host, &format!("{why}{hint}")));
    }
    let stage = &request.spec.stage;
    if open.is_by_right() && !may_approve(&decider, &host, stage).await? {
        let why =
            format!("{} is decided by holders of the verb approve on stage {stage} (ClusterRole pilotage-approver)", open.name.field());
        return Err(not_yours(name, &host, &format!("{why}, and {} is none", as_who.username)));
    }
    writeln!(out, "{:<16}{name} of host {host}, gate {}", "request:", open.name.field())?;
    write!(out, "{}", plan::said(&request))?;
    let word = if passes { open.name.yes() } else { format!("{:?}", StepOutcome::Rejected) };
    if !args.yes {
        let verb = if passes { "Approve" } else { "Reject" };
        let question = format!("{verb} request {name} as {}? It can't be taken back", as_who.username);
        if !prompt::confirm(&question, "look at the plan above, and decide with --yes")? {
            bail!("nothing was decided");
        }
    }
    // With a delegate's token, the person is known to this program alone.
    let person = args.on_behalf_of.clone().or_else(|| args.as_delegate.then_some(me.username));
    let mut patch = patch(&request, &open, &word, args.comments.as_deref(), &properties, person.as_deref());
    // Newer API servers fill this in, and all compare it.
    patch["status"][open.name.field()]["by"] = as_who.username.clone().into();
    let requests = Api::<DeploymentRequest>::namespaced(decider.client(), &host);
    match requests.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            bail!("request {name} of host {host} changed since it was read, and nothing was decided: look again")
        }
        Err(error) => return Err(error).with_context(|| format!("request {name} of host {host} was not decided")),
    }
    let done = json!({"request": name, "host": host, "gate": open.name.field(), "decision": word, "by": as_who.username, "onBehalfOf": person,
        "planHash": open.gate.plan_hash});
    let said = format!("request {name} of host {host}: {} is {word} by {}", open.name.field(), as_who.username);
    out.one(&done, &format!("deploymentrequest.{GROUP}/{name}"), &said)
}

/// The request, once a gate is open where that is waited for.
async fn read(connection: &Connection, host: &str, args: &DecisionArgs) -> anyhow::Result<DeploymentRequest> {
    let timeout = duration::parse(&args.timeout)
        .ok_or_else(|| Exit::Usage.because(format!("--timeout {} is not a duration such as 15m", args.timeout)))?;
    let (requests, name) = (Api::<DeploymentRequest>::namespaced(connection.client(), host), &args.request);
    let deadline = Instant::now() + timeout;
    loop {
        let request = requests.get(name).await.with_context(|| {
            format!("reading request {name} of host {host} (-n names the host; whoever decides needs ClusterRole pilotage-delegate there)")
        })?;
        let ended = request.status.as_ref().is_some_and(|status| status.run.end_time.is_some());
        let closed = gate::open(&request, args.gate).err();
        match closed {
            Some(why) if args.wait && !ended => {
                if Instant::now() >= deadline {
                    return Err(Exit::TimedOut.because(format!("no gate of request {name} opened within {}: {why}", args.timeout)));
                }
            }
            _ => return Ok(request),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn not_yours(name: &str, host: &str, why: &str) -> anyhow::Error {
    Exit::NotAllowed.because(format!("request {name} of host {host} is not yours to decide: {why}"))
}

/// Whether they hold `approve` on the stage.
async fn may_approve(connection: &Connection, host: &str, stage: &str) -> anyhow::Result<bool> {
    let wanted = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("stages".to_owned()),
        verb: Some("approve".to_owned()),
        namespace: Some(host.to_owned()),
        name: Some(stage.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(wanted), ..SelfSubjectAccessReviewSpec::default() },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::<SelfSubjectAccessReview>::all(connection.client()).create(&PostParams::default(), &review).await;
    Ok(answer.context("asking what you may do")?.status.is_some_and(|status| status.allowed))
}

fn properties(given: &[String]) -> anyhow::Result<BTreeMap<&str, &str>> {
    let mut properties = BTreeMap::new();
    for text in given {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| Exit::Usage.because(format!("--property {text}: write NAME=VALUE")))?;
        if properties.insert(name, value).is_some() {
            return Err(Exit::Usage.because(format!("--property {name}: name each once")));
        }
    }
    Ok(properties)
}

/// The decision as it is sent. The approval names the plan that was shown. The decisions at the other gates have no field for it, so they
/// are for the request as it was read.
fn patch(
    request: &DeploymentRequest,
    open: &Open<'_>,
    word: &str,
    comments: Option<&str>,
    properties: &BTreeMap<&str, &str>,
    person: Option<&str>,
) -> Value {
    let mut decision = json!({"decision": word});
    if let Some(comments) = comments {
        decision["comments"] = comments.into();
    }
    if !properties.is_empty() {
        decision["properties"] = json!(properties);
    }
    if let Some(person) = person {
        decision["onBehalfOf"] = person.into();
    }
    let mut patch = json!({});
    if open.name == GateName::Approval {
        // The plan that was shown, and not what the gate pins: if they differ, the API server refuses the decision.
        let plan = request.status.as_ref().and_then(|status| status.run.plan.as_ref());
        if let Some(hash) = plan.map(|plan| plan.hash.clone()).or_else(|| open.gate.plan_hash.clone()) {
            decision["planHash"] = hash.into();
        }
    } else {
        patch["metadata"] = json!({"resourceVersion": request.metadata.resource_version});
    }
    patch["status"] = json!({open.name.field(): decision});
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> DeploymentRequest {
        let plan = json!({"hash": "sha256:shown", "artifactDigest": "", "settingsDigest": "", "environmentId": "", "stageUID": "", "delegate": "bot"});
        let gate = json!({"openedAt": "2026-01-01T00:00:00Z", "planHash": "sha256:pinned", "approver": "bot"});
        serde_json::from_value(json!({"metadata": {"name": "r", "resourceVersion": "7"}, "spec": {"pipeline": "p", "stage": "qa",
            "solution": {"name": "o", "version": "1.0.0"}}, "status": {"plan": plan, "gates": {"approval": gate, "preDeploymentStep": gate}}}))
        .unwrap()
    }

    #[test]
    fn what_was_shown_is_what_is_approved() {
        let request = request();
        let mut open = gate::open(&request, None).unwrap();
        let properties = properties(&[]).unwrap();
        let sent = patch(&request, &open, "Approved", Some("fine"), &properties, None);
        assert_eq!(sent, json!({"status": {"approval": {"decision": "Approved", "comments": "fine", "planHash": "sha256:shown"}}}));
        open.name = GateName::PreDeployment;
        let sent = patch(&request, &open, "Rejected", None, &properties, Some("eve"));
        assert_eq!(
            sent,
            json!({"metadata": {"resourceVersion": "7"}, "status": {"preDeploymentStep": {"decision": "Rejected", "onBehalfOf": "eve"}}})
        );
    }

    #[test]
    fn a_property_has_a_name_and_is_named_once() {
        let given = |all: &[&str]| properties(&all.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).map(|p| p.len()).ok();
        assert_eq!((given(&["A=1", "B="]), given(&["A"]), given(&["=1"]), given(&["A=1", "A=2"])), (Some(2), None, None, None));
    }
}
