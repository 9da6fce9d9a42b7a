use proptest::prelude::*;

use super::*;

fn stage(name: &str, previous: Option<&str>) -> StageView {
    StageView { name: name.into(), previous: previous.map(Into::into), target: format!("{name}-target"), ready: Ok(()) }
}

fn development(name: &str, found: Option<(EnvironmentType, Result<(), &str>)>) -> Development {
    let found = found.map(|(type_, validated)| EnvironmentView { type_, validated: validated.map_err(str::to_owned) });
    Development { name: name.into(), found }
}

fn view(stages: &[(&str, Option<&str>)]) -> View {
    View {
        development: vec![development("dev", Some((EnvironmentType::Development, Ok(()))))],
        stages: stages.iter().map(|(name, previous)| stage(name, *previous)).collect(),
        foreign: BTreeSet::from(["elsewhere".to_owned()]),
        retention: None,
    }
}

fn judged(view: &View) -> (&'static str, String) {
    match judge(view).outcome {
        Ok(good) => (good.reason.as_str(), good.message),
        Err(failure) => (failure.reason.as_str(), failure.message),
    }
}

fn listed(view: &View) -> Vec<String> {
    judge(view).stages.into_iter().map(|s| s.name).collect()
}

const STANDARD: &[(&str, Option<&str>)] = &[("prod", Some("qa")), ("qa", None), ("audit", Some("qa"))];

#[test]
fn stages_are_listed_in_order_with_branches() {
    assert_eq!(judged(&view(STANDARD)).0, "Ready");
    assert_eq!(listed(&view(STANDARD)), ["qa", "audit", "prod"]);
}

#[test]
fn a_pipeline_needs_a_development_environment() {
    let with = |development: Vec<Development>| judged(&View { development, ..view(STANDARD) });
    assert_eq!(with(vec![]).0, "NoDevelopmentEnvironment");
    assert_eq!(with(vec![development("dev", None)]).0, "UnknownEnvironment");
    assert_eq!(with(vec![development("qa", Some((EnvironmentType::Target, Ok(()))))]).0, "WrongEnvironmentType");
    let (reason, message) = with(vec![development("dev", Some((EnvironmentType::Development, Err("NotManaged"))))]);
    assert_eq!(reason, "EnvironmentNotValidated");
    assert!(message.contains("dev (NotManaged)"), "{message}");
}

#[test]
fn an_impossible_retention_is_told() {
    let with =
        |schedule: &str, zone: Option<&str>| judged(&View { retention: Some((schedule.into(), zone.map(Into::into))), ..view(STANDARD) });
    assert_eq!(with("0 3 * * *", Some("Europe/Prague")).0, "Ready");
    assert_eq!(with("0 3 31 2 *", None).0, "RetentionInvalid");
    assert!(with("0 3 * * *", Some("Europe/Pragu")).1.contains("Europe/Pragu is not a time zone"));
}

#[test]
fn one_development_environment_that_fails_does_not_hold_up_the_others() {
    let mut view = view(STANDARD);
    view.development.push(development("lab", Some((EnvironmentType::Development, Err("NotManaged")))));
    let (reason, message) = judged(&view);
    assert_eq!(reason, "SomeEnvironmentsNotValidated");
    assert!(message.contains("lab (NotManaged)"), "{message}");
}

#[test]
fn a_pipeline_has_one_to_seven_stages() {
    assert_eq!(judged(&view(&[])).0, "NoStages");
    let names: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let chain: Vec<(&str, Option<&str>)> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), i.checked_sub(1).map(|p| names[p].as_str()))).collect();
    assert_eq!(judged(&view(&chain[..7])).0, "Ready");
    assert_eq!(judged(&view(&chain)).0, "TooManyStages");
    assert_eq!(listed(&view(&chain)).len(), 8, "they are shown, to see which to move");
}

#[test]
fn a_previous_stage_is_one_of_the_same_pipeline() {
    let (reason, message) = judged(&view(&[("qa", None), ("prod", Some("gone"))]));
    assert_eq!(reason, "UnknownPreviousStage");
    assert!(message.contains("prod") && message.contains("gone"), "{message}");
    assert_eq!(judged(&view(&[("qa", None), ("prod", Some("elsewhere"))])).0, "ForeignPreviousStage");
}

#[test]
fn there_is_one_first_stage() {
    let (reason, message) = judged(&view(&[("a", None), ("b", None)]));
    assert_eq!(reason, "MultipleFirstStages");
    assert!(message.contains('a') && message.contains('b'), "{message}");
}

#[test]
fn stages_in_a_circle_are_named() {
    let (reason, message) = judged(&view(&[("a", Some("b")), ("b", Some("a"))]));
    assert_eq!(reason, "StageCycle");
    assert!(message.contains("a → b → a"), "{message}");
    let (reason, message) = judged(&view(&[("qa", None), ("x", Some("x"))]));
    assert_eq!((reason, message.contains("x → x")), ("StageCycle", true), "{message}");
    assert_eq!(listed(&view(&[("b", Some("a")), ("a", Some("b"))])), ["a", "b"]);
}

#[test]
fn a_stage_that_is_not_ready_does_not_hold_up_those_before_it() {
    let mut view = view(STANDARD);
    view.stages[0].ready = Err("DelegateLacksHostRole".into());
    let verdict = judge(&view);
    assert_eq!(verdict.outcome.as_ref().map(|g| g.reason.as_str()), Ok("SomeStagesNotReady"));
    assert!(verdict.outcome.is_ok_and(|g| g.message.contains("prod (DelegateLacksHostRole)")));
    assert_eq!(verdict.stages.iter().map(|s| s.ready).collect::<Vec<_>>(), [true, true, false]);
}

proptest! {
    /// Any graph, whatever its arrows: an order that has every stage once and after its previous one, or a reason.
    #[test]
    fn any_graph_has_an_order_or_a_reason(previous in prop::collection::vec(prop::option::of(0usize..9), 0..8)) {
        let name = |i: usize| format!("s{i}");
        let stages: Vec<StageView> =
            previous.iter().enumerate().map(|(i, p)| stage(&name(i), p.map(name).as_deref())).collect();
        match order(&stages, &BTreeSet::new()) {
            Ok(order) => {
                prop_assert_eq!(order.len(), stages.len());
                for (at, stage) in order.iter().enumerate() {
                    let before: Vec<&str> = order[..at].iter().map(|s| s.name.as_str()).collect();
                    prop_assert!(!before.contains(&stage.name.as_str()));
                    if let Some(previous) = &stage.previous {
                        prop_assert!(before.contains(&previous.as_str()));
                    } else {
                        prop_assert_eq!(at, 0);
                    }
                }
            }
            Err(failure) => {
                // The reason is a true one: something is unknown, or there is not one first stage that leads to all.
                let heads = stages.iter().filter(|s| s.previous.is_none()).count();
                let unknown = previous.iter().flatten().any(|p| *p >= stages.len());
                let expected = match (unknown, heads) {
                    (true, _) => "UnknownPreviousStage",
                    (false, 2..) => "MultipleFirstStages",
                    (false, _) => "StageCycle",
                };
                prop_assert_eq!(failure.reason.as_str(), expected);
            }
        }
    }
}

#[test]
fn branches_are_summed_up_behind_a_comma() {
    let stage = |name: &str, previous: Option<&str>| StageSummary {
        name: name.into(),
        previous_stage: previous.map(Into::into),
        target_environment: name.into(),
        ready: true,
    };
    let stages = [stage("qa", None), stage("prod", Some("qa")), stage("eu", Some("qa"))];
    assert_eq!(in_one_line(&stages), "qa → prod, qa → eu");
    assert_eq!(in_one_line(&[]), "");
}
