use super::super::check::Remedy;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

fn holder(host: &str, name: &str, created: i64, opted_in: bool) -> Holder {
    Holder {
        host: host.into(),
        name: name.into(),
        uid: format!("{host}-{name}"),
        created: at(created),
        held: false,
        type_: EnvironmentType::Target,
        opted_in,
    }
}

/// An Environment of a namespace to which nothing can be objected.
fn view() -> View {
    View {
        me: holder("host", "qa", 100, true),
        namespace: "contoso-qa".into(),
        environment_id: None,
        cluster: None,
        recorded_id: None,
        found: Some(NamespaceView { uid: "n1".into(), terminating: false, is_host: false, region: Some("eu".into()) }),
        host_region: Some("eu".into()),
        cross_region: false,
        rivals: Vec::new(),
    }
}

fn with(change: impl FnOnce(&mut View)) -> View {
    let mut view = view();
    change(&mut view);
    view
}

fn namespace(view: &mut View, change: impl FnOnce(&mut NamespaceView)) {
    if let Some(found) = view.found.as_mut() {
        change(found);
    }
}

fn outside(change: impl FnOnce(&mut View)) -> (&'static str, String) {
    from_outside(&with(change)).err().map_or(("", String::new()), |f| (f.reason.as_str(), f.message))
}

fn inside(inside: &Inside) -> (&'static str, String) {
    from_inside(&view(), inside).err().map_or(("", String::new()), |f| (f.reason.as_str(), f.message))
}

#[test]
fn a_namespace_that_opted_in_may_be_used() {
    assert!(from_outside(&view()).is_ok());
    assert_eq!(from_inside(&view(), &Inside::default()), Ok(()));
}

#[test]
fn only_targets_can_be_in_another_cluster() {
    assert_eq!(can_be_remote(EnvironmentType::Target), Ok(()));
    let refused = can_be_remote(EnvironmentType::Development).err();
    assert_eq!(refused.map(|f| (f.reason.as_str(), f.remedy)), Some(("RemoteDevelopmentUnsupported", Remedy::Edit)));
}

/// The view of the same namespace in another cluster.
fn remotely(change: impl FnOnce(&mut View)) -> Failure {
    let there = There { name: "eu-prod".into(), user: "system:serviceaccount:delegates:pilotage".into() };
    let view = with(|v| {
        v.cluster = Some(there);
        change(v);
    });
    let inside = Inside {
        prerequisites: vec![PrerequisiteView {
            kind: "Cluster".into(),
            name: "main".into(),
            state: PrerequisiteState::Forbidden(Right::on("get", "postgresql.cnpg.io", "clusters", "contoso-qa").named("main")),
        }],
        lacks: None,
    };
    from_outside(&view).and_then(|_| from_inside(&view, &inside)).err().unwrap()
}

#[test]
fn what_is_wrong_in_another_cluster_names_it_and_grants_to_its_own_user() {
    let said = |failure: Failure, reason: &str| {
        assert_eq!((failure.reason.as_str(), failure.remedy), (reason, Remedy::Polled));
        assert!(failure.message.contains("cluster eu-prod"), "{}", failure.message);
        failure.message
    };
    said(remotely(|v| v.found = None), "NamespaceNotFound");
    said(remotely(|v| namespace(v, |n| n.terminating = true)), "NamespaceTerminating");
    let user = "{kind: ServiceAccount, name: \"pilotage\", namespace: delegates}";
    let message = said(remotely(|v| v.me.opted_in = false), "NotManaged");
    assert!(
        message.contains(user)
            && message.contains("applies in cluster eu-prod what follows")
            && message.contains("(kubectl label namespace contoso-qa"),
        "{message}"
    );
    let message = said(remotely(|_| ()), "PrerequisiteNotReadable");
    assert!(message.contains(user) && message.contains("namespace: contoso-qa}"), "{message}");
    // Names are a cluster's own.
    assert_eq!(remotely(|v| v.namespace = "host".into()).reason.as_str(), "PrerequisiteNotReadable");
}

#[test]
fn a_namespace_must_exist_and_stay() {
    let was_there = |v: &mut View| {
        v.recorded_id = Some("n1".into());
        v.found = None;
    };
    assert_eq!(outside(was_there).0, "NamespaceNotFound");
    assert_eq!(outside(|v| namespace(v, |n| n.terminating = true)).0, "NamespaceTerminating");
}

#[test]
fn a_host_is_no_environment() {
    assert_eq!(outside(|v| namespace(v, |n| n.is_host = true)).0, "HostIsEnvironment");
    assert_eq!(outside(|v| v.namespace = "host".into()).0, "HostIsEnvironment", "also before it is labelled as a host");
}

#[test]
fn another_namespace_than_the_one_meant_is_refused() {
    let (reason, message) = outside(|v| v.environment_id = Some("n0".into()));
    assert_eq!(reason, "IdentityMismatch");
    assert!(message.contains("set spec.environmentId to n1"), "{message}");
}

#[test]
fn a_recreated_namespace_waits_until_it_is_accepted() {
    let (reason, message) = outside(|v| v.recorded_id = Some("n0".into()));
    assert_eq!(reason, "IdentityChanged");
    assert!(message.contains("set spec.environmentId to n1"), "{message}");
    let accepted = with(|v| {
        v.recorded_id = Some("n0".into());
        v.environment_id = Some("n1".into());
    });
    assert!(from_outside(&accepted).is_ok());
}

#[test]
fn the_oldest_environment_keeps_its_namespace() {
    let (reason, message) = outside(|v| v.rivals = vec![holder("host", "older", 50, true)]);
    assert_eq!(reason, "NamespaceTaken");
    assert!(message.contains("Environment older"), "{message}");
    assert_eq!(outside(|v| v.rivals = vec![holder("host", "younger", 150, true)]).0, "");
    let same_age = |name: &str| outside(|v| v.rivals = vec![holder("host", name, 100, true)]).0;
    assert_eq!((same_age("a"), same_age("z")), ("NamespaceTaken", ""), "the uid decides between two of one age");
}

#[test]
fn an_environment_of_the_same_second_does_not_take_a_namespace_away() {
    let among = |held: bool, rival: Holder| {
        let view = with(|v| {
            v.me.held = held;
            v.rivals = vec![rival];
        });
        from_outside(&view).err().map_or("", |f| f.reason.as_str())
    };
    let (smaller_uid, larger_uid) = (holder("host", "a", 100, true), holder("host", "z", 100, true));
    assert_eq!(among(true, smaller_uid.clone()), "", "who has held it keeps it");
    assert_eq!(among(false, Holder { held: true, ..larger_uid }), "NamespaceTaken");
    assert_eq!(among(true, Holder { held: true, ..smaller_uid }), "NamespaceTaken", "both have held it: the uid decides");
    assert_eq!(among(true, holder("host", "z", 50, true)), "NamespaceTaken", "the older one comes before");
}

#[test]
fn one_namespace_has_one_role() {
    let development = Holder { type_: EnvironmentType::Development, ..holder("host", "dev", 50, true) };
    assert_eq!(outside(|v| v.rivals = vec![development]).0, "NamespaceTaken");
}

#[test]
fn environments_of_other_hosts_are_not_named() {
    let (reason, message) = outside(|v| v.rivals = vec![holder("secret-host", "secret-name", 50, true)]);
    assert_eq!(reason, "NamespaceTaken");
    assert!(message.contains("another host") && !message.contains("secret"), "{message}");
}

#[test]
fn a_host_that_was_not_opted_in_to_can_block_no_namespace() {
    assert_eq!(outside(|v| v.rivals = vec![holder("squatter", "qa", 1, false)]).0, "");
}

#[test]
fn of_two_environments_exactly_one_holds_the_namespace() {
    for (mine, others) in [(true, true), (true, false), (false, true)] {
        for (my_age, other_age, held) in [(1, 2, true), (2, 1, true), (1, 1, true), (1, 1, false)] {
            for other_host in ["host", "other"] {
                let (me, other) = (holder("host", "a", my_age, mine), holder(other_host, "b", other_age, others));
                let other = Holder { held, ..other };
                let valid = |me: &Holder, rival: &Holder| {
                    from_outside(&with(|v| {
                        v.me = me.clone();
                        v.rivals = vec![rival.clone()];
                    }))
                    .is_ok()
                };
                assert!(valid(&me, &other) != valid(&other, &me), "{me:?} {other:?}");
            }
        }
    }
}

#[test]
fn of_a_namespace_that_did_not_opt_in_nothing_is_told() {
    type Change = fn(&mut View);
    let strange = |v: &mut View| v.me.opted_in = false;
    let said = outside(strange);
    assert!(said.0 == "NotManaged" && !said.1.contains("n1"), "{said:?}");
    let states: [Change; 6] = [
        |v| v.found = None,
        |v| namespace(v, |n| n.terminating = true),
        |v| namespace(v, |n| n.is_host = true),
        |v| namespace(v, |n| n.region = Some("us".into())),
        |v| v.environment_id = Some("n0".into()),
        |v| v.rivals = vec![holder("other", "theirs", 1, true)],
    ];
    for state in states {
        let same = outside(|v| {
            strange(v);
            state(v);
        });
        assert_eq!(same, said, "whether it exists, and what it is");
    }
    // What it was validated as before is known, and that it goes may be why its grants are gone.
    let goes = outside(|v| {
        strange(v);
        v.recorded_id = Some("n1".into());
        namespace(v, |n| n.terminating = true);
    });
    assert_eq!(goes.0, "NamespaceTerminating");
}

#[test]
fn a_namespace_that_never_opted_in_is_told_both_ways_to_do_so() {
    let failure = from_outside(&with(|v| v.me.opted_in = false)).err();
    let message = failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
    assert_eq!(failure.map(|f| (f.reason.as_str(), f.remedy)), Some(("NotManaged", Remedy::Polled)), "no watch tells of a binding");
    assert!(message.contains("kubectl label namespace contoso-qa pilotage.dev/managed-by=host"), "{message}");
    assert!(message.contains("verbs: [\"manage\"]") && message.contains("system:serviceaccounts:host"), "{message}");
    let (_, message) = outside(|v| v.me = Holder { type_: EnvironmentType::Development, ..holder("host", "dev", 1, false) });
    assert!(message.contains("pilotage.dev/developed-in=host") && message.contains("verbs: [\"develop\"]"), "{message}");
}

#[test]
fn regions_agree_unless_the_host_allows_otherwise() {
    let us = |v: &mut View| namespace(v, |n| n.region = Some("us".into()));
    assert_eq!(outside(us).0, "RegionMismatch");
    let allowed = with(|v| {
        us(v);
        v.cross_region = true;
    });
    assert!(from_outside(&allowed).is_ok());
    let nowhere = |v: &mut View| namespace(v, |n| n.region = None);
    let (reason, message) = outside(nowhere);
    assert_eq!(reason, "RegionMismatch", "nobody knows that it is the same");
    assert!(message.contains("kubectl label namespace contoso-qa topology.kubernetes.io/region=eu"), "{message}");
    let (reason, message) = outside(|v| v.host_region = None);
    assert_eq!(reason, "RegionMismatch");
    assert!(message.contains("kubectl label namespace host topology.kubernetes.io/region=eu"), "{message}");
    let neither = with(|v| {
        nowhere(v);
        v.host_region = None;
    });
    assert!(from_outside(&neither).is_ok(), "where nobody speaks of regions there is one");
}

#[test]
fn prerequisites_must_be_there_and_ready() {
    let right = || Right::on("get", "postgresql.cnpg.io", "clusters", "contoso-qa").named("main");
    let with_state = |state| {
        inside(&Inside { prerequisites: vec![PrerequisiteView { kind: "Cluster".into(), name: "main".into(), state }], lacks: None })
    };
    assert_eq!(with_state(PrerequisiteState::Ready).0, "");
    assert_eq!(with_state(PrerequisiteState::Absent).0, "PrerequisiteNotFound");
    assert_eq!(with_state(PrerequisiteState::Unserved("no such kind".into())).0, "PrerequisiteNotFound");
    assert_eq!(with_state(PrerequisiteState::NotReady("is not".into())).0, "PrerequisiteNotReady");
    assert_eq!(with_state(PrerequisiteState::NotAllowed("it is a Secret".into())).0, "PrerequisiteNotAllowed");
    let (reason, message) = with_state(PrerequisiteState::Forbidden(right()));
    assert_eq!(reason, "PrerequisiteNotReadable");
    assert!(message.contains("resources: [clusters], resourceNames: [\"main\"], verbs: [\"get\"]"), "{message}");
}

#[test]
fn a_development_environment_must_be_readable() {
    let (reason, message) = inside(&Inside { lacks: Some(Right::on("list", "", "configmaps", "contoso-qa")), ..Inside::default() });
    assert_eq!(reason, "SourceNotReadable");
    assert!(message.contains("kind: ClusterRole, name: view") && message.contains("pilotage-system"), "{message}");
}

#[test]
fn a_claim_is_orphaned_by_proof_alone() {
    assert!(is_orphaned(ClaimHolder::Ended) && is_orphaned(ClaimHolder::Gone));
    assert!(!is_orphaned(ClaimHolder::Running) && !is_orphaned(ClaimHolder::NotCached));
}
