use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use semver::Version;
use serde_json::json;

use super::view::Objects;
use super::*;
use crate::api::artifact::Outcome;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Stage};

/// The time of all decisions here: day 1,000.
const TODAY: i64 = 1000;

/// A host as the API server has it.
#[derive(Clone, Debug, Default)]
struct Host {
    pipelines: Vec<Pipeline>,
    stages: Vec<Stage>,
    environments: Vec<Environment>,
    requests: Vec<DeploymentRequest>,
    artifacts: Vec<Artifact>,
}

fn day(number: i64) -> Timestamp {
    Timestamp::from_second(number * 86_400).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl Host {
    /// Pipeline `standard` from `dev` through `qa` to `prod`.
    fn standard(retention: &serde_json::Value) -> Self {
        let mut host = Self::default();
        host.pipeline("standard", 1, retention);
        for (stage, previous) in [("qa", None), ("prod", Some("qa"))] {
            host.stages.push(read(json!({"metadata": {"name": stage}, "spec": {"pipeline": "standard", "previousStage": previous, "targetEnvironment": stage}})));
            host.environments
                .push(read(json!({"metadata": {"name": stage}, "spec": {"type": "Target", "namespace": stage}, "status": {}})));
        }
        host
    }

    fn pipeline(&mut self, name: &str, created: i64, retention: &serde_json::Value) {
        self.pipelines.push(read(json!({
            "metadata": {"name": name, "creationTimestamp": day(created)},
            "spec": {"developmentEnvironments": ["dev"], "retention": retention},
        })));
    }

    /// An ended request of that day.
    fn request(&mut self, name: &str, ended: Option<i64>) -> &mut DeploymentRequest {
        let end = ended.map(day);
        self.requests.push(read(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": day(ended.unwrap_or(TODAY))},
            "spec": {"pipeline": "standard", "stage": "qa", "solution": {"name": "orders", "version": "0.0.1"}},
            "status": {"endTime": end},
        })));
        self.requests.last_mut().unwrap()
    }

    fn artifact(&mut self, solution: &str, version: &str, stored: i64) -> &mut Artifact {
        self.artifacts.push(read(json!({
            "metadata": {"name": format!("{solution}-{version}"), "uid": format!("uid-{solution}-{version}")},
            "spec": {"solution": {"name": solution, "version": version}, "digest": format!("{solution}-{version}"), "source": {"environment": "dev"},
                "exportedBy": {"username": "dana"}, "exportedAt": day(stored), "objectCount": 1, "size": 1, "storedSize": 1, "chunks": 1},
            "status": {},
        })));
        self.artifacts.last_mut().unwrap()
    }

    /// Request `name` deployed that version to a stage on that day.
    fn deployed(&mut self, version: &str, stage: &str, on: i64, name: &str) {
        let record = serde_json::from_value(json!({
            "requestUID": format!("uid-{name}"), "request": name, "pipeline": "standard", "stage": stage, "stageUID": stage, "environment": stage,
            "environmentUID": stage, "environmentId": stage, "settingsDigest": "", "requestedBy": "dana", "deployedBy": "bot",
            "startedAt": day(on), "endedAt": day(on), "outcome": "Succeeded",
        }))
        .unwrap();
        let artifact = self.artifacts.iter_mut().find(|a| a.spec.solution.version == version).unwrap();
        artifact.status.get_or_insert_default().deployments.push(record);
        let (digest, solution) = (artifact.spec.digest.clone(), artifact.spec.solution.name.clone());
        let environment = self.environments.iter_mut().find(|e| e.metadata.name.as_deref() == Some(stage)).unwrap();
        let solutions = &mut environment.status.get_or_insert_default().solutions;
        solutions.retain(|s| s.name != solution);
        solutions.push(DeployedSolution {
            name: solution,
            version: Some(version.into()),
            digest: Some(digest),
            request: Some(name.into()),
            ..DeployedSolution::default()
        });
    }

    fn view(&self) -> HostView<'_> {
        let Self { pipelines, stages, environments, requests, artifacts } = self;
        Objects { pipelines, stages, environments, requests, artifacts }.view()
    }

    fn decide(&self) -> (HostView<'_>, Verdict<'_>) {
        let view = self.view();
        let verdict = decide(&view, None, day(TODAY));
        (view, verdict)
    }

    /// What becomes of an object, in one word, and on whose account.
    fn fate(&self, name: &str) -> String {
        let (view, verdict) = self.decide();
        let request = verdict.requests.iter().find(|(i, _)| view.requests[*i].name == name).map(|(_, fate)| *fate);
        let artifact = || verdict.artifacts.iter().find(|(i, _)| view.artifacts[*i].name == name).map(|(_, fate)| *fate);
        match request.or_else(artifact).unwrap_or_else(|| panic!("{name} is not in the verdict")) {
            Fate::Goes => "goes".into(),
            Fate::LosesBytes => "loses its bytes".into(),
            Fate::Stays(Why { because, whom: Some(whom) }) => format!("{because:?} {whom}"),
            Fate::Stays(Why { because, whom: None }) => format!("{because:?}"),
        }
    }
}

/// Everything that is older than ten days goes, and of each solution one version stays.
fn ten_days() -> serde_json::Value {
    json!({"schedule": "0 3 * * *", "requests": {"maxAge": "240h"}, "artifacts": {"keepVersions": 1, "maxAge": "240h"}})
}

#[test]
fn an_ended_request_goes_when_it_is_past_its_age_or_beyond_the_number() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "requests": {"maxAge": "240h", "maxCount": 2}}));
    for (name, ended) in
        [("old", Some(989)), ("third", Some(997)), ("second", Some(998)), ("first", Some(999)), ("open", None), ("future", Some(1001))]
    {
        host.request(name, ended);
    }
    let fates: Vec<String> = ["old", "third", "second", "first", "open", "future"].map(|name| host.fate(name)).into();
    assert_eq!(fates, ["goes", "goes", "goes", "Young", "NotEnded", "Young"]);
}

#[test]
fn a_request_that_something_needs_stays_however_old_it_is() {
    let mut host = Host::standard(&ten_days());
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        host.artifact("orders", version, 1);
        host.request(&format!("to-{version}"), Some(10));
        host.deployed(version, "qa", version.as_bytes()[2].into(), &format!("to-{version}"));
    }
    host.request("held", Some(10)).metadata.labels = Some([("pilotage.dev/keep".into(), String::new())].into());
    let tracked = [("argocd.argoproj.io/tracking-id".to_owned(), "app".to_owned())];
    host.request("from-git", Some(10)).metadata.annotations = Some(tracked.into());
    assert_eq!(host.fate("to-1.0.0"), "goes");
    assert_eq!(host.fate("to-1.1.0"), "WayBack qa", "it has the settings of what ran before");
    assert_eq!(host.fate("to-1.2.0"), "Deployed qa", "it has the settings of what runs");
    assert_eq!(host.fate("held"), "Held");
    assert_eq!(host.fate("from-git"), "AppliedByTool argocd.argoproj.io/tracking-id");
}

#[test]
fn a_request_stays_until_every_sink_was_told_of_it() {
    let mut host = Host::standard(&ten_days());
    host.request("told", Some(10));
    host.request("untold", Some(11));
    let pipeline = &mut host.pipelines[0];
    pipeline.spec.sinks = serde_json::from_value(json!([{"url": "https://one.test"}, {"url": "https://new.test"}])).unwrap();
    let cursor = json!({"since": day(20), "open": [{"uid": "uid-untold"}]});
    let gone = json!({"since": day(1)});
    pipeline.status = Some(
        serde_json::from_value(
            json!({"sinks": [{"url": "https://one.test", "cursor": cursor}, {"url": "https://gone.test", "cursor": gone}]}),
        )
        .unwrap(),
    );
    assert_eq!((host.fate("told").as_str(), host.fate("untold").as_str()), ("goes", "SinkNotTold"));
}

#[test]
fn an_artifact_keeps_its_bytes_while_it_runs_is_the_way_back_or_may_be_asked_for() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": {"maxAge": "240h"}}));
    for (version, stored) in [("1.0.0", 1), ("1.1.0", 2), ("1.2.0", 3), ("1.3.0", 4), ("1.4.0", 5), ("1.1.5", 6)] {
        host.artifact("orders", version, stored);
    }
    for (version, on) in [("1.0.0", 10), ("1.1.0", 11), ("1.2.0", 12), ("1.3.0", 13)] {
        host.deployed(version, "qa", on, &format!("qa-{version}"));
    }
    host.deployed("1.1.0", "prod", 14, "prod-1.1.0");
    let fates: Vec<String> = ["1.0.0", "1.1.0", "1.1.5", "1.2.0", "1.3.0", "1.4.0"].map(|v| host.fate(&format!("orders-{v}"))).into();
    // 1.2.0 succeeded in qa and is higher than what runs in prod; 1.1.5 is lower than what runs in the first stage.
    assert_eq!(fates, ["loses its bytes", "Deployed prod", "goes", "WayBack qa", "Deployed qa", "MayBeAskedFor qa"]);
    host.deployed("1.3.0", "prod", 15, "prod-1.3.0");
    assert_eq!(host.fate("orders-1.1.0"), "WayBack prod");
    assert_eq!(host.fate("orders-1.2.0"), "WayBack qa");
}

#[test]
fn of_what_succeeded_in_one_second_the_highest_versions_are_the_latest() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": {"maxAge": "240h"}}));
    // The uids sort the other way round.
    for (version, uid) in [("1.0.0", "c"), ("1.9.0", "b"), ("1.10.0", "a")] {
        host.artifact("orders", version, 1).metadata.uid = Some(uid.into());
        host.deployed(version, "qa", 10, &format!("qa-{version}"));
    }
    host.deployed("1.10.0", "prod", 11, "prod-1.10.0");
    assert_eq!(["1.0.0", "1.9.0"].map(|v| host.fate(&format!("orders-{v}"))), ["loses its bytes", "WayBack qa"]);
    for artifact in &mut host.artifacts {
        artifact.metadata.uid = artifact.metadata.name.clone();
    }
    assert_eq!(host.fate("orders-1.9.0"), "WayBack qa", "whatever the uids are");
}

#[test]
fn what_is_claimed_failed_or_asked_for_just_now_stays() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": {"maxAge": "240h"}}));
    for version in ["1.0.0", "1.1.0", "1.2.0", "2.0.0"] {
        host.artifact("orders", version, 1);
    }
    host.deployed("2.0.0", "qa", 10, "two");
    let qa = &mut host.environments[0].status.as_mut().unwrap().solutions[0];
    qa.failed = serde_json::from_value(json!({"version": "1.0.0", "digest": "orders-1.0.0", "request": "r", "at": day(1)})).unwrap();
    qa.claim = serde_json::from_value(json!({"request": "c", "requestUID": "c", "digest": "orders-1.1.0", "since": day(1)})).unwrap();
    host.request("again", None).spec.solution.version = "1.2.0".into();
    let fates: Vec<String> = ["1.0.0", "1.1.0", "1.2.0"].map(|v| host.fate(&format!("orders-{v}"))).into();
    assert_eq!(fates, ["Deployed qa", "Deployed qa", "NotEnded again"]);
}

#[test]
fn both_limits_of_artifacts_must_be_passed_and_no_limit_keeps_all() {
    let stale = |retention: &serde_json::Value| {
        let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": retention}));
        for (version, stored) in [("1.0.0", 980), ("1.1.0", 985), ("1.2.0", 995), ("9.0.0", 1)] {
            host.artifact("orders", version, stored);
        }
        host.deployed("9.0.0", "qa", 1, "nine");
        ["1.0.0", "1.1.0", "1.2.0"].map(|v| host.fate(&format!("orders-{v}")))
    };
    assert_eq!(stale(&json!({"keepVersions": 2, "maxAge": "240h"})), ["goes", "Newest standard", "Newest standard"]);
    assert_eq!(stale(&json!({"keepVersions": 1})), ["goes", "goes", "Newest standard"]);
    assert_eq!(stale(&json!({"maxAge": "240h"})), ["goes", "goes", "Young standard"]);
    assert_eq!(stale(&json!({})), ["NoLimit standard", "NoLimit standard", "NoLimit standard"]);
}

#[test]
fn the_record_of_a_deployment_outlives_the_bytes() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": {"maxAge": "240h"}, "records": {"maxAge": "2400h"}}));
    for (version, stored) in [("1.0.0", 1), ("1.1.0", 1), ("3.0.0", 1), ("4.0.0", 1)] {
        host.artifact("orders", version, stored);
    }
    host.deployed("1.0.0", "qa", 899, "one");
    host.deployed("1.1.0", "qa", 950, "two");
    host.deployed("3.0.0", "qa", 951, "three");
    host.deployed("4.0.0", "qa", 952, "four");
    host.deployed("4.0.0", "prod", 953, "five");
    assert_eq!(host.fate("orders-1.0.0"), "loses its bytes");
    for (artifact, complete) in host.artifacts.iter_mut().zip([true, true, false]) {
        let removed = json!({"at": day(960), "pipeline": "standard", "complete": complete});
        artifact.status.get_or_insert_default().bytes_removed = serde_json::from_value(removed).unwrap();
    }
    assert_eq!((host.fate("orders-1.0.0").as_str(), host.fate("orders-1.1.0").as_str()), ("goes", "Record standard"));
    assert_eq!(host.fate("orders-3.0.0"), "loses its bytes", "what was begun is finished");
}

#[test]
fn an_artifact_of_two_pipelines_goes_only_if_both_let_it_go() {
    let mut host = Host::standard(&json!({"schedule": "0 3 * * *", "artifacts": {"maxAge": "240h"}}));
    host.artifact("orders", "1.0.0", 1);
    host.artifact("orders", "2.0.0", 1);
    host.deployed("2.0.0", "qa", 2, "two");
    assert_eq!(host.fate("orders-1.0.0"), "goes");
    host.pipeline("other", 2, &serde_json::Value::Null);
    assert_eq!(host.fate("orders-1.0.0"), "NoLimit other");
    host.pipelines[1].spec.retention = serde_json::from_value(json!({"schedule": "0 3 * * *", "artifacts": {"keepVersions": 2}})).unwrap();
    assert_eq!(host.fate("orders-1.0.0"), "Newest other");
    host.pipelines[1].spec.retention = serde_json::from_value(json!({"schedule": "0 3 * * *", "artifacts": {"keepVersions": 1}})).unwrap();
    // Both were stored on one day: the higher one counts as newer.
    assert_eq!(host.fate("orders-1.0.0"), "goes");
}

#[test]
fn the_limits_of_a_host_are_for_what_has_none_and_the_oldest_count() {
    let mut host = Host::default();
    host.pipeline("standard", 5, &serde_json::Value::Null);
    host.request("old", Some(10));
    host.request("of-gone", Some(10)).spec.pipeline = "gone".into();
    assert_eq!((host.fate("old").as_str(), host.fate("of-gone").as_str()), ("NoLimit", "NoLimit"));
    host.pipeline("younger", 7, &json!({"schedule": "0 3 * * *", "scope": "Host"}));
    host.pipeline("older", 6, &json!({"schedule": "0 3 * * *", "scope": "Host", "requests": {"maxAge": "240h"}}));
    assert_eq!((host.fate("old").as_str(), host.fate("of-gone").as_str()), ("goes", "goes"));
    host.pipelines[0].spec.retention = serde_json::from_value(json!({"schedule": "0 3 * * *", "requests": {"maxCount": 5}})).unwrap();
    assert_eq!((host.fate("old").as_str(), host.fate("of-gone").as_str()), ("Newest", "goes"), "its own limits come first");
    let view = host.view();
    let of = |pipeline: &str| decide(&view, Some(pipeline), day(TODAY)).requests.len();
    assert_eq!((of("standard"), of("older"), of("younger")), (1, 1, 0), "each run is about what its limits are for");
}

#[test]
fn what_goes_is_archived_if_a_pipeline_that_lets_it_go_says_so_and_only_what_is_new() {
    let limits =
        json!({"schedule": "0 3 * * *", "requests": {"maxAge": "240h"}, "artifacts": {"maxAge": "240h"}, "records": {"maxAge": "240h"}});
    let mut archiving = limits.clone();
    archiving["archive"] = "Registry".into();
    let mut host = Host::standard(&limits);
    host.request("old", Some(10));
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        host.artifact("orders", version, 1);
    }
    host.deployed("1.0.0", "qa", 2, "one");
    host.deployed("2.0.0", "qa", 3, "two");
    host.deployed("3.0.0", "qa", 4, "three");
    host.deployed("3.0.0", "prod", 5, "four");
    let archived = |host: &Host| {
        let (view, verdict) = host.decide();
        let requests = verdict.archived_requests.iter().map(|index| view.requests[*index].name.to_owned());
        let artifacts = verdict.archived_artifacts.iter().map(|index| view.artifacts[*index].name.to_owned());
        let mut names: Vec<String> = requests.chain(artifacts).collect();
        names.sort();
        names
    };
    assert_eq!(archived(&host), [""; 0]);
    host.pipeline("other", 2, &archiving);
    assert_eq!(archived(&host), ["orders-1.0.0"], "the artifact came from a development environment of both");
    host.pipelines[0].spec.retention = serde_json::from_value(archiving).unwrap();
    assert_eq!(archived(&host), ["old", "orders-1.0.0"]);
    let removed = |complete: bool| json!({"at": day(960), "pipeline": "standard", "complete": complete, "archivedIn": "oci://r.test/x"});
    let set = |host: &mut Host, complete: bool| {
        host.artifacts[0].status.get_or_insert_default().bytes_removed = serde_json::from_value(removed(complete)).unwrap();
    };
    set(&mut host, false);
    assert_eq!(
        (host.fate("orders-1.0.0").as_str(), archived(&host)),
        ("loses its bytes", vec!["old".to_owned()]),
        "a part is not archived"
    );
    set(&mut host, true);
    assert_eq!((host.fate("orders-1.0.0").as_str(), archived(&host).len()), ("goes", 2), "the record says where it was deployed");
    host.artifacts[0].status.as_mut().unwrap().deployments.clear();
    assert_eq!((host.fate("orders-1.0.0").as_str(), archived(&host)), ("goes", vec!["old".to_owned()]), "that was all of it");
}

/// A host with everything in it, by chance.
fn hosts() -> impl Strategy<Value = Host> {
    let retention = (0..3_u8, 1..40_i64, 1..6_i32, 1..40_i64, any::<bool>()).prop_map(|(which, age, count, artifact_age, both)| {
        let artifacts = if both { json!({"keepVersions": count, "maxAge": format!("{}h", artifact_age * 24)}) } else { json!({"keepVersions": count}) };
        match which {
            0 => json!({"schedule": "0 3 * * *", "requests": {"maxAge": format!("{}h", age * 24)}, "artifacts": artifacts, "records": {"maxAge": "480h"}}),
            1 => json!({"schedule": "0 3 * * *", "requests": {"maxCount": count}, "artifacts": artifacts}),
            _ => json!({"schedule": "0 3 * * *", "requests": {"maxAge": format!("{}h", age * 24), "maxCount": count}}),
        }
    });
    let artifacts = prop::collection::vec((0..2_u8, 0..8_u64, 950..TODAY, 0..12_u8), 0..24);
    let deployments = prop::collection::vec((0..24_usize, any::<bool>(), 950..TODAY), 0..40);
    let requests = prop::collection::vec((prop::option::of(940..TODAY), 0..10_u8, 0..8_u64), 0..30);
    (retention, artifacts, deployments, requests).prop_map(|(retention, artifacts, deployments, requests)| {
        let mut host = Host::standard(&retention);
        let mut seen = BTreeSet::new();
        for (solution, minor, stored, mark) in artifacts {
            if seen.insert((solution, minor)) {
                // Versions of two solutions never meet.
                let artifact = host.artifact(["orders", "billing"][usize::from(solution)], &format!("{solution}.{minor}.0"), stored);
                if mark == 0 {
                    artifact.metadata.annotations = Some([("pilotage.dev/keep".into(), String::new())].into());
                }
            }
        }
        for (number, (which, in_qa, on)) in deployments.into_iter().enumerate() {
            if host.artifacts.is_empty() {
                break;
            }
            let version = host.artifacts[which % host.artifacts.len()].spec.solution.version.clone();
            let name = format!("d{number}");
            host.request(&name, Some(on)).spec.solution.version.clone_from(&version);
            let solution = if version.starts_with('0') { "orders" } else { "billing" };
            host.requests.last_mut().unwrap().spec.solution.name = solution.into();
            host.deployed(&version, if in_qa { "qa" } else { "prod" }, on, &name);
        }
        for (number, (ended, mark, minor)) in requests.into_iter().enumerate() {
            let request = host.request(&format!("r{number}"), ended);
            request.spec.solution.version = format!("0.{minor}.0");
            if mark == 0 {
                request.metadata.labels = Some([("pilotage.dev/keep".into(), String::new())].into());
            }
        }
        host
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Written again, in the simplest words, from the objects themselves.
    #[test]
    fn nothing_that_is_needed_ever_goes(host in hosts()) {
        let (view, verdict) = host.decide();
        let runs: Vec<&DeployedSolution> = view.environments.iter().flat_map(|e| e.solutions).collect();
        for (index, fate) in verdict.requests.iter().filter(|(_, fate)| *fate == Fate::Goes) {
            let request = &host.requests[*index];
            let name = request.metadata.name.as_deref();
            prop_assert!(request.status.as_ref().unwrap().run.end_time.is_some(), "{fate:?}");
            prop_assert!(request.metadata.labels.is_none());
            prop_assert!(!runs.iter().any(|r| r.request.as_deref() == name && r.name == request.spec.solution.name));
        }
        for (index, _) in verdict.artifacts.iter().filter(|(_, fate)| !matches!(fate, Fate::Stays(_))) {
            let artifact = &host.artifacts[*index];
            let solution = &artifact.spec.solution;
            prop_assert!(artifact.metadata.annotations.is_none());
            prop_assert!(!runs.iter().any(|r| r.digest.as_deref() == Some(&artifact.spec.digest)));
            let open = host.requests.iter().any(|r| r.status.as_ref().unwrap().run.end_time.is_none() && r.spec.solution == *solution);
            prop_assert!(!open, "a request under way is for it");
            for (stage, previous) in [("qa", None), ("prod", Some("qa"))] {
                let environment = view.environments.iter().find(|e| e.name == stage).unwrap();
                let current = environment.solutions.iter().find(|s| s.name == solution.name).and_then(|s| s.version.as_deref());
                let is_higher = current.is_none_or(|c| Version::parse(&solution.version).unwrap() > Version::parse(c).unwrap());
                let records = &artifact.status.as_ref().unwrap().deployments;
                let could_come = previous.is_none_or(|previous| records.iter().any(|d| d.stage == previous && d.outcome == Outcome::Succeeded));
                prop_assert!(!(is_higher && could_come), "{stage} may be asked for {}", solution.version);
            }
        }
    }

    #[test]
    fn what_is_past_its_age_goes_unless_something_needs_it(host in hosts()) {
        let (view, verdict) = host.decide();
        let limits = view.pipelines[0].limits.unwrap();
        for (index, fate) in &verdict.requests {
            if let (Fate::Stays(why), Some(age)) = (fate, limits.request_age) {
                let is_old = view.requests[*index].ended.is_some_and(|ended| ended + age <= day(TODAY));
                let is_for_age = matches!(why.because, KeptBecause::Young | KeptBecause::Newest | KeptBecause::NoLimit);
                prop_assert!(!(is_old && is_for_age), "{why:?}");
            }
        }
        let (requests, artifacts) = verdict.kept().iter().fold((0, 0), |(r, a), k| (r + k.requests, a + k.artifacts));
        let removes = verdict.removes();
        prop_assert_eq!(usize::try_from(requests + removes.requests).unwrap(), host.requests.len(), "everything is counted once");
        prop_assert_eq!(usize::try_from(artifacts + removes.bytes + removes.artifacts).unwrap(), host.artifacts.len());
    }

    /// Each removal alone, in any order, leads to the same end: that is what a crash at each of them comes to.
    #[test]
    fn a_run_that_is_broken_off_and_begun_again_removes_the_same(host in hosts(), order in any::<u64>()) {
        let gone = |host: &Host| -> BTreeSet<String> {
            let (view, verdict) = host.decide();
            let requests = verdict.requests.iter().filter(|(_, f)| *f == Fate::Goes).map(|(i, _)| view.requests[*i].uid.to_owned());
            let artifacts = verdict.artifacts.iter().filter(|(_, f)| !matches!(f, Fate::Stays(_))).map(|(i, _)| view.artifacts[*i].uid.to_owned());
            requests.chain(artifacts).collect()
        };
        let (planned, mut left, mut order) = (gone(&host), host.clone(), order);
        let mut removed = BTreeSet::new();
        loop {
            let next: Vec<String> = gone(&left).into_iter().filter(|uid| !removed.contains(uid)).collect();
            if next.is_empty() {
                break;
            }
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uid = next[usize::try_from(order >> 33).unwrap() % next.len()].clone();
            left.requests.retain(|r| r.metadata.uid.as_ref() != Some(&uid));
            for artifact in left.artifacts.iter_mut().filter(|a| a.metadata.uid.as_ref() == Some(&uid)) {
                let done = json!({"at": day(TODAY), "pipeline": "standard", "complete": true});
                artifact.status.get_or_insert_default().bytes_removed = serde_json::from_value(done).unwrap();
            }
            left.artifacts.retain(|a| a.metadata.uid.as_ref() != Some(&uid) || !a.status.as_ref().unwrap().deployments.is_empty());
            removed.insert(uid);
        }
        prop_assert_eq!(removed, planned);
    }
}

#[test]
fn two_thousand_artifacts_and_twenty_thousand_records_are_decided_about() {
    let mut host = Host::standard(&ten_days());
    for solution in 0..40 {
        for minor in 0..50 {
            let stored = 500 + minor * 10;
            let name = format!("s{solution}");
            let records: Vec<serde_json::Value> = (0..10)
                .map(|n| {
                    let request = format!("{name}-{minor}-{n}");
                    json!({"requestUID": format!("uid-{request}"), "request": request, "pipeline": "standard", "stage": if n < 5 { "qa" } else { "prod" },
                        "stageUID": "s", "environment": "e", "environmentUID": "e", "environmentId": "e", "settingsDigest": "", "requestedBy": "dana",
                        "deployedBy": "bot", "startedAt": day(stored), "endedAt": day(stored + n), "outcome": "Succeeded"})
                })
                .collect();
            host.artifact(&name, &format!("1.{minor}.0"), stored).status = serde_json::from_value(json!({"deployments": records})).unwrap();
            for n in 0..10 {
                host.request(&format!("{name}-{minor}-{n}"), Some(stored + n)).spec.solution.name = name.clone();
            }
        }
        for environment in &mut host.environments {
            environment.status.get_or_insert_default().solutions.push(DeployedSolution {
                name: format!("s{solution}"),
                version: Some("1.49.0".into()),
                digest: Some(format!("s{solution}-1.49.0")),
                request: Some(format!("s{solution}-49-9")),
                ..DeployedSolution::default()
            });
        }
    }
    assert_eq!((host.artifacts.len(), host.requests.len()), (2000, 20_000));
    let began = std::time::Instant::now();
    let (_, verdict) = host.decide();
    println!("decided in {:?}", began.elapsed());
    // Of each solution what runs stays, and the version before it. Of these, the requests with their settings stay.
    assert_eq!(verdict.removes().bytes, 40 * 48);
    let kept: Vec<(KeptBecause, i32, i32)> = verdict.kept().into_iter().map(|k| (k.because, k.requests, k.artifacts)).collect();
    assert!(kept.contains(&(KeptBecause::WayBack, 40 * 3, 40)), "{kept:?}");
    assert!(kept.iter().any(|(because, ..)| *because == KeptBecause::Deployed), "{kept:?}");
}
