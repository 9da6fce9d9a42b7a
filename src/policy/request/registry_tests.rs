//! Requests for artifacts from a registry.

use super::decide;
use super::observed::{Lookup, Observed, RightsOutcome};
use super::scenario::{DIGEST, after, head, second};
use super::step::{End, GateKind, Progress, Step};
use super::tests::{ends, waits};
use crate::api::reason::Reason;
use crate::cluster::blocked::{Blocked, Until, Wait};

const URL: &str = "oci://registry.test/team/orders";

fn pinned() -> String {
    format!("{URL}@sha256:{}", "a".repeat(64))
}

/// A request for what is there, with everything in place and nothing done.
fn asked_for() -> Observed {
    let mut o = head();
    o.request.repository = Some(URL.into());
    o.source = Lookup::Absent;
    o.solution = Lookup::Absent;
    o
}

#[test]
fn a_tag_is_looked_up_once_the_requester_may_deploy_and_before_anybody_is_asked() {
    let mut o = asked_for();
    if let Lookup::Present(stage) = &mut o.stage {
        stage.pre_export_step = true;
    }
    o.outcomes.rights = None;
    assert_eq!(decide(&o, after(5)), Step::AskRights);
    o.outcomes.rights = Some(RightsOutcome::Blocked(Blocked {
        until: Until::Wait(Wait::Somebody),
        reason: Reason::RequesterMayNotDeploy,
        message: "x".into(),
    }));
    assert_eq!(waits(decide(&o, after(5))).1, Reason::RequesterMayNotDeploy, "nothing is fetched for them");
    o.outcomes.rights = Some(RightsOutcome::Held);
    assert_eq!(decide(&o, after(5)), Step::Resolve);
    o.request.registry_source = Some(pinned());
    assert_eq!(decide(&o, after(5)), Step::OpenGate(GateKind::PreExportStep));
}

#[test]
fn a_pinned_request_needs_no_development_environment() {
    let mut o = asked_for();
    o.request.registry_source = Some(pinned());
    assert_eq!(decide(&o, after(5)), Step::Export);
}

#[test]
fn a_registry_is_waited_for_as_long_as_anything_else_and_what_it_refuses_is_not() {
    let mut o = asked_for();
    o.outcomes.rights = Some(RightsOutcome::Held);
    let blocked = |until: Until, reason: Reason| Blocked { reason, message: "registry registry.test can't be reached".into(), until };
    o.outcomes.resolve = Some(blocked(Until::Wait(Wait::Server), Reason::RegistryUnreachable));
    let (at, reason, message) = waits(decide(&o, after(5)));
    assert_eq!((at, reason.as_str()), (Progress::Acceptance, "RegistryUnreachable"));
    assert!(message.contains("Waits until"), "{message}");
    let late = after(5) + o.accept_timeout;
    assert_eq!(ends(decide(&o, late)).0, End::Failed);
    o.outcomes.resolve = Some(blocked(Until::End, Reason::WrongMediaType));
    assert_eq!(ends(decide(&o, after(5))).1, Reason::WrongMediaType);
}

#[test]
fn what_the_pipeline_does_not_name_is_not_asked() {
    for url in
        ["oci://registry.test/team-b/orders", "oci://registry.test.evil.test/team", "oci://10.0.0.1/x", "oci://registry.test/team/../x"]
    {
        let mut o = asked_for();
        o.request.repository = Some(url.into());
        o.confirmed = true;
        let (end, reason, message) = ends(decide(&o, after(5)));
        assert_eq!((end, reason.as_str()), (End::Failed, "RepositoryNotAllowed"), "{url}");
        assert!(message.contains("it has: oci://registry.test/team") && message.contains("nothing was asked there"), "{message}");
        assert!(
            message.ends_with("Make a new request that names one of these, or let an administrator add it to spec.artifactRepositories"),
            "{message}"
        );
    }
}

#[test]
fn a_stored_version_is_asked_for_without_naming_where_it_came_from() {
    let mut o = head().stored(-60);
    o.source = Lookup::Absent;
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.source_environment = None;
        artifact.registry_source = Some(pinned());
    }
    assert_eq!(waits(decide(&o, after(1))).1, Reason::SourceNotNamed, "a Solution may come with it, and would be meant");
    assert_eq!(decide(&o, after(5)), Step::Confirm, "nor is a Solution missing because a cache lacks it");
    o.confirmed = true;
    assert_eq!(decide(&o, after(5)), Step::Export);
    let unlisted = o.clone().with_pipeline(|p| p.artifact_repositories = Vec::new());
    let unlisted = Observed { confirmed: true, ..unlisted };
    assert_eq!(ends(decide(&unlisted, after(5))).1, Reason::RepositoryNotAllowed);
}

#[test]
fn a_later_stage_deploys_what_the_first_one_stored() {
    let mut o = second();
    o.request.repository = Some(URL.into());
    o.confirmed = true;
    let (_, reason, message) = ends(decide(&o, after(5)));
    assert_eq!(reason.as_str(), "SourceNotAllowed");
    assert!(message.contains(URL) && message.contains("without artifact") && !message.contains(DIGEST), "{message}");
}
