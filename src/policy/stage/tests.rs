use super::*;

fn view(delegate: DelegateView) -> View {
    View {
        policies_in_force: true,
        unfit: None,
        delegation: Delegation::Impersonation,
        host: "host".into(),
        generation: 3,
        pipeline: "standard".into(),
        pipeline_exists: true,
        target_environment: "qa".into(),
        target: Some(Target {
            uid: "e1".into(),
            type_: EnvironmentType::Target,
            namespace: "contoso-qa".into(),
            cluster: None,
            environment_id: Some("n1".into()),
            validated: Ok(()),
        }),
        pinned: None,
        owner: Some(Identity { username: "olga".into(), uid: None, groups: vec!["leads".into()] }),
        window: None,
        delegate,
        delegate_approves: true,
        not_lent: None,
    }
}

fn bot() -> View {
    view(DelegateView::ServicePrincipal { name: "bot".into(), account: Account::Present })
}

fn reason(check: Check) -> &'static str {
    check.err().map_or("", |f| f.reason.as_str())
}

fn broken(change: impl FnOnce(&mut View)) -> &'static str {
    let mut view = bot();
    change(&mut view);
    reason(structure(&view))
}

fn target(view: &mut View, change: impl FnOnce(&mut Target)) {
    if let Some(target) = view.target.as_mut() {
        change(target);
    }
}

/// The answers where everything but what `lacks` says is held.
fn answers(view: &View, lacks: impl Fn(&Review) -> bool) -> Vec<Answer> {
    reviews(view).into_iter().map(|review| (review.clone(), !lacks(&review))).collect()
}

fn judged(view: &View, lacks: impl Fn(&Review) -> bool) -> (&'static str, String) {
    delegation(view, &answers(view, lacks)).err().map_or(("", String::new()), |f| (f.reason.as_str(), f.message))
}

fn pinned(generation: i64, environment: &str, namespace: &str) -> PinnedTarget {
    PinnedTarget { generation, environment_uid: environment.into(), environment_id: namespace.into(), cluster: None }
}

#[test]
fn a_stage_needs_its_policies_pipeline_and_target() {
    assert_eq!(broken(|_| ()), "");
    assert_eq!(broken(|v| v.policies_in_force = false), "PoliciesMissing");
    assert_eq!(broken(|v| v.pipeline_exists = false), "UnknownPipeline");
    let error = WindowError { schedule: "0 25 * * *".into(), cause: "hours".into() };
    assert_eq!(broken(|v| v.window = Some(error)), "WindowInvalid");
    assert_eq!(broken(|v| v.target = None), "UnknownEnvironment");
    assert_eq!(broken(|v| target(v, |t| t.type_ = EnvironmentType::Development)), "WrongEnvironmentType");
    assert_eq!(broken(|v| target(v, |t| t.validated = Err("NotManaged".into()))), "EnvironmentNotValidated");
}

#[test]
fn a_delegate_must_exist() {
    let account = |account| judged(&view(DelegateView::ServicePrincipal { name: "bot".into(), account }), |_| false).0;
    assert_eq!(account(Account::Present), "");
    assert_eq!(account(Account::Absent), "ServicePrincipalNotFound");
    assert_eq!(account(Account::Unreadable), "OperatorLacksHostRole");
    assert_eq!(judged(&View { owner: None, ..view(DelegateView::StageOwner) }, |_| false).0, "OwnerMissing");
}

#[test]
fn a_target_is_pinned_once_for_each_write_of_the_stage() {
    assert_eq!(pin(&bot()), Some(pinned(3, "e1", "n1")));
    assert_eq!(pin(&View { pinned: Some(pinned(2, "e0", "n0")), ..bot() }), Some(pinned(3, "e1", "n1")), "the owner wrote the stage again");
    assert_eq!(pin(&View { pinned: Some(pinned(3, "e0", "n0")), ..bot() }), Some(pinned(3, "e0", "n0")), "nobody confirmed the new one");
    let mut waiting = View { pinned: Some(pinned(2, "e0", "n0")), ..bot() };
    target(&mut waiting, |t| t.validated = Err("NotManaged".into()));
    assert_eq!(pin(&waiting), Some(pinned(2, "e0", "n0")), "what is not valid is not confirmed");
}

#[test]
fn a_recreated_target_waits_for_the_owner() {
    assert_eq!(broken(|v| v.pinned = Some(pinned(3, "e1", "n0"))), "TargetChanged");
    assert_eq!(broken(|v| v.pinned = Some(pinned(3, "e0", "n0"))), "TargetChanged");
    assert_eq!(broken(|v| v.pinned = Some(pinned(2, "e0", "n0"))), "", "written since");
    assert_eq!(broken(|v| v.pinned = Some(pinned(3, "e1", "n1"))), "");
}

#[test]
fn an_environment_that_was_applied_again_for_its_namespace_is_the_same_target() {
    assert_eq!(broken(|v| v.pinned = Some(pinned(3, "e0", "n1"))), "");
    // What another cluster says of its uids is its own word.
    let in_cluster = |pin: Option<&str>| {
        let mut view = bot_there();
        view.pinned = Some(PinnedTarget { cluster: pin.map(str::to_owned), ..pinned(3, "e0", "n1") });
        structure(&view).err().map_or("", |failure| failure.reason.as_str())
    };
    assert_eq!(in_cluster(Some("eu-prod")), "");
    assert_eq!(in_cluster(Some("us-prod")), "TargetChanged");
    assert_eq!(in_cluster(None), "TargetChanged");
    let remote = PinnedTarget { cluster: Some("eu-prod".into()), ..pinned(3, "e0", "n1") };
    assert_eq!(broken(|v| v.pinned = Some(remote)), "TargetChanged");
}

#[test]
fn without_a_delegate_no_right_is_asked_for() {
    assert_eq!(reviews(&view(DelegateView::Requester)), []);
    assert_eq!(delegation(&view(DelegateView::Requester), &[]), Ok(()));
}

#[test]
fn the_owner_must_be_able_to_act_as_the_service_principal_in_one_way() {
    assert_eq!(judged(&bot(), |_| false).0, "");
    for held in ["impersonate", "create", "delegate"] {
        assert_eq!(judged(&bot(), |r| r.need == Need::OwnerActsAsDelegate && r.right.verb != held).0, "", "{held} is enough");
    }
    let (reason, message) = judged(&bot(), |r| r.need == Need::OwnerActsAsDelegate);
    assert_eq!(reason, "NotOwnerOfServicePrincipal");
    assert!(message.contains("resources: [serviceaccounts], resourceNames: [\"bot\"], verbs: [\"delegate\"]"), "{message}");
    assert_eq!(judged(&View { owner: None, ..bot() }, |_| false).0, "NotOwnerOfServicePrincipal");
}

#[test]
fn the_owner_is_asked_about_with_the_groups_that_the_api_server_adds() {
    let asked = reviews(&bot()).into_iter().find(|r| r.need == Need::OwnerActsAsDelegate).and_then(|r| r.who);
    assert_eq!(asked.map(|who| who.groups), Some(vec!["system:authenticated".to_owned(), "leads".to_owned()]));
}

#[test]
fn the_operator_must_be_let_act_as_the_delegate_in_host_and_target() {
    for (verb, place, other) in [
        ("impersonate:serviceaccount", "namespace: host}", "namespace: contoso-qa}"),
        ("impersonate-on:serviceaccount:patch", "namespace: contoso-qa}", "namespace: host}"),
    ] {
        let (reason, message) = judged(&bot(), |r| r.right.verb == verb);
        assert_eq!(reason, "OperatorMayNotActAsDelegate", "{verb}");
        assert!(message.contains(place) && !message.contains(other), "what is there is not printed: {message}");
        let whole = verb == "impersonate:serviceaccount" || message.contains("\"impersonate-on:serviceaccount:get\"");
        assert!(whole && !message.contains("verbs: [\"*\"]"), "applied again, the whole grant stays: {message}");
    }
}

#[test]
fn the_delegate_must_be_able_to_approve_and_to_deploy() {
    let (reason, message) = judged(&bot(), |r| r.need == Need::DelegateApproves);
    assert_eq!(reason, "DelegateLacksHostRole");
    assert!(message.contains("kind: ClusterRole, name: pilotage-delegate"), "{message}");
    let (reason, message) = judged(&bot(), |r| r.need == Need::DelegateDeploys && r.right.verb == "delete");
    assert_eq!(reason, "DelegateLacksTargetAccess");
    assert!(message.contains("{kind: ServiceAccount, name: \"bot\", namespace: host}"), "{message}");
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let (reason, message) = judged(&bot(), |_| true);
    assert_eq!(reason, "NotOwnerOfServicePrincipal");
    for part in
        ["pilotage-owner-of-bot", "pilotage-as-host-bot", "kind: ClusterRole, name: pilotage-delegate", "pilotage-delegate-host-bot"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    let (_, applied) = message.split_once('\n').unwrap();
    let documents: Vec<serde_json::Value> = applied.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
    assert!(documents.len() > 5 && documents.iter().all(|document| document["kind"].is_string()), "it is applied as it stands: {message}");
}

#[test]
fn a_stage_owner_is_impersonated_with_each_of_their_groups() {
    let stage = view(DelegateView::StageOwner);
    assert_eq!(judged(&stage, |_| false).0, "");
    for resource in ["users", "groups"] {
        let (reason, message) = judged(&stage, |r| r.right.resource == resource);
        assert_eq!(reason, "OperatorMayNotActAsDelegate", "{resource}");
        assert!(message.contains("kind: ClusterRoleBinding"), "users lie in no namespace: {message}");
    }
    assert_eq!(judged(&stage, |r| r.need == Need::DelegateApproves).0, "DelegateLacksHostRole");
    assert_eq!(judged(&stage, |r| r.need == Need::DelegateDeploys).0, "DelegateLacksTargetAccess");
    assert!(reviews(&stage).iter().all(|r| r.need != Need::OwnerActsAsDelegate), "they are themselves");
}

#[test]
fn what_the_operator_may_do_is_asked_of_the_account_it_runs_as() {
    assert!(reviews(&bot()).iter().all(|r| (r.need == Need::OperatorActsAsDelegate) == r.who.is_none()));
}

/// The same stage with its target in another cluster.
fn there(delegate: DelegateView) -> View {
    let mut view = view(delegate);
    target(&mut view, |t| t.cluster = Some(TargetCluster { name: "eu-prod".into(), delegate_namespace: "delegates".into() }));
    view
}

fn bot_there() -> View {
    there(DelegateView::ServicePrincipal { name: "bot".into(), account: Account::Present })
}

#[test]
fn only_a_service_account_deploys_to_another_cluster() {
    assert_eq!(judged(&bot_there(), |_| false).0, "");
    for delegate in [DelegateView::Requester, DelegateView::StageOwner] {
        let (reason, message) = judged(&there(delegate), |_| false);
        assert_eq!(reason, "RemoteNeedsServicePrincipal");
        assert!(
            message.contains("cluster eu-prod") && message.contains("namespace delegates") && message.contains("set spec."),
            "{message}"
        );
    }
}

#[test]
fn in_another_cluster_nobody_is_impersonated_and_the_delegate_answers_for_itself() {
    let asked = reviews(&bot_there());
    assert!(asked.iter().all(|review| review.need != Need::OperatorActsAsDelegate && review.need != Need::DelegateDeploys), "{asked:?}");
    let (reason, message) = judged(&bot_there(), |review| review.need == Need::DelegateDeploysThere);
    assert_eq!(reason, "DelegateLacksTargetAccess");
    assert!(message.contains("applies in cluster eu-prod") && message.contains("name: \"bot\", namespace: delegates}"), "{message}");
}

#[test]
fn a_token_that_is_not_given_is_said_beside_what_else_is_missing() {
    let mut view = bot_there();
    view.not_lent = polled(Reason::TokenNotGranted, "no token").err();
    assert_eq!(judged(&view, |_| false).0, "TokenNotGranted");
    let (reason, message) = judged(&view, |review| review.need == Need::DelegateApproves);
    assert!(reason == "DelegateLacksHostRole" && message.ends_with("\n# no token\n"), "{message}");
}

#[test]
fn without_impersonation_only_a_service_account_deploys_and_the_operator_needs_its_tokens() {
    let lending = |delegate: DelegateView| View { delegation: Delegation::LentToken, ..view(delegate) };
    assert_eq!(judged(&lending(DelegateView::Requester), |_| false).0, "NeedsServicePrincipal");
    let (reason, message) = judged(&lending(DelegateView::StageOwner), |_| false);
    assert!(reason == "NeedsServicePrincipal" && message.contains("as its owner"), "{message}");
    let ci = Identity { username: "system:serviceaccount:ci:deployer".into(), ..Identity::default() };
    let owned = View { owner: Some(ci), ..lending(DelegateView::StageOwner) };
    assert_eq!(judged(&owned, |_| false).0, "", "an owner that is a ServiceAccount has tokens too");

    let bot = View { delegation: Delegation::LentToken, ..bot() };
    assert_eq!(judged(&bot, |_| false).0, "");
    let (reason, message) = judged(&bot, |review| review.right.subresource.as_deref() == Some("token") && review.who.is_none());
    assert_eq!(reason, "OperatorMayNotActAsDelegate");
    assert!(message.contains("serviceaccounts/token") && !message.contains("impersonate:serviceaccount"), "{message}");
    let (reason, message) = judged(&bot, |review| review.right.verb == "impersonate-on:serviceaccount:patch");
    assert!(reason == "OperatorMayNotActAsDelegate" && message.contains("impersonate-on:serviceaccount:patch"), "{message}");
}

#[test]
fn a_cluster_on_which_nothing_can_be_deployed_is_named_first() {
    let why = "Kubernetes v1.33.0 has no constrained impersonation";
    let unfit = View { unfit: Some(why.into()), ..bot() };
    let failure = structure(&unfit).err().map(|f| (f.reason.as_str(), f.message));
    assert_eq!(failure, Some(("PoliciesMissing", why.to_owned())));
}
