//! What retention removes from a host, and why everything else stays. This only decides: the caller says what there is, and the time.
//!
//! Three things go, each by its own limit: ended requests; the bytes of artifacts, where an artifact that was never deployed goes whole; and
//! artifacts without bytes, which are the records of who deployed what. An artifact may belong to several pipelines. It goes only if all of
//! them let it go.

mod needed;
pub(crate) mod schedule;
pub(crate) mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use semver::Version;

use self::needed::{Needed, belongs_to};
use super::clock;
use crate::api::artifact::DeploymentRecord;
use crate::api::environment::DeployedSolution;
use crate::api::retention::{Archive, KeptBecause, KeptCount, Retention, RetentionCount, age};

/// What there is in a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostView<'a> {
    pub(crate) pipelines: Vec<PipelineView<'a>>,
    pub(crate) stages: Vec<StageView<'a>>,
    pub(crate) environments: Vec<EnvironmentView<'a>>,
    pub(crate) requests: Vec<RequestView<'a>>,
    pub(crate) artifacts: Vec<ArtifactView<'a>>,
}

/// A pipeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct PipelineView<'a> {
    pub(crate) name: &'a str,
    pub(crate) created: Timestamp,
    /// Its own limits.
    pub(crate) limits: Option<Limits>,
    /// Its development environments.
    pub(crate) sources: Vec<&'a str>,
    /// The repositories that it takes artifacts from.
    pub(crate) repositories: Vec<&'a str>,
}

/// The limits of a retention. `None` limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Whether they are for the whole host, where nothing else is said.
    pub(crate) host: bool,
    pub(crate) request_age: Option<Duration>,
    pub(crate) request_count: Option<usize>,
    pub(crate) keep_versions: Option<usize>,
    pub(crate) artifact_age: Option<Duration>,
    pub(crate) record_age: Option<Duration>,
    /// Whether what goes is archived first.
    pub(crate) archive: bool,
}

impl Limits {
    /// The limits as a pipeline states them.
    pub(crate) fn of(retention: &Retention) -> Self {
        let count = |number: Option<i32>| number.and_then(|number| usize::try_from(number).ok());
        let (requests, artifacts) = (retention.requests.as_ref(), retention.artifacts.as_ref());
        Self {
            host: retention.scope == crate::api::retention::RetentionScope::Host,
            request_age: age(requests.and_then(|r| r.max_age.as_ref())),
            request_count: count(requests.and_then(|r| r.max_count)),
            keep_versions: count(artifacts.and_then(|a| a.keep_versions)),
            artifact_age: age(artifacts.and_then(|a| a.max_age.as_ref())),
            record_age: age(retention.records.as_ref().map(|r| &r.max_age)),
            archive: retention.archive == Archive::Registry,
        }
    }
}

/// A stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageView<'a> {
    pub(crate) name: &'a str,
    pub(crate) pipeline: &'a str,
    pub(crate) previous: Option<&'a str>,
    pub(crate) environment: &'a str,
}

/// An environment, with the record of what runs in it.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentView<'a> {
    pub(crate) name: &'a str,
    pub(crate) solutions: &'a [DeployedSolution],
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestView<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) pipeline: &'a str,
    pub(crate) solution: &'a str,
    pub(crate) version: &'a str,
    pub(crate) ended: Option<Timestamp>,
    /// Whether it has the mark that holds it.
    pub(crate) held: bool,
    /// The label or annotation of the tool that applies it.
    pub(crate) tool: Option<&'a str>,
    /// Whether a sink still has to be told of it.
    pub(crate) untold: bool,
}

/// How much of an artifact's bytes is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bytes {
    #[default]
    Whole,
    /// They are being removed.
    Removing,
    Removed,
}

/// An artifact.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactView<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) solution: &'a str,
    /// Its version; `None` if it can't be read.
    pub(crate) version: Option<Version>,
    pub(crate) version_text: &'a str,
    pub(crate) digest: &'a str,
    /// The development environment that it came from.
    pub(crate) source: Option<&'a str>,
    /// The repository and digest that it came from.
    pub(crate) registry_source: Option<&'a str>,
    pub(crate) stored: Timestamp,
    pub(crate) held: bool,
    pub(crate) bytes: Bytes,
    /// Whether its record and its bytes were archived before these were removed.
    pub(crate) archived: bool,
    pub(crate) deployments: &'a [DeploymentRecord],
}

impl ArtifactView<'_> {
    /// When it was stored or last deployed.
    pub(crate) fn last_used(&self) -> Timestamp {
        self.deployments.iter().map(|d| d.ended_at).max().map_or(self.stored, |deployed| deployed.max(self.stored))
    }
}

/// What becomes of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate<'a> {
    /// It goes, or for an artifact: it goes whole.
    Goes,
    /// An artifact's bytes go; the artifact stays as a record.
    LosesBytes,
    /// It stays.
    Stays(Why<'a>),
}

/// Why something stays, and the object that needs it: an environment, a stage, a request, a pipeline or a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Why<'a> {
    pub(crate) because: KeptBecause,
    pub(crate) whom: Option<&'a str>,
}

impl<'a> Why<'a> {
    fn of(because: KeptBecause) -> Self {
        Self { because, whom: None }
    }

    fn by(because: KeptBecause, whom: &'a str) -> Self {
        Self { because, whom: Some(whom) }
    }
}

/// What becomes of each object that the runs of one pipeline are about, by its place in the view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict<'a> {
    pub(crate) requests: Vec<(usize, Fate<'a>)>,
    pub(crate) artifacts: Vec<(usize, Fate<'a>)>,
    /// The requests that are archived before they go.
    pub(crate) archived_requests: HashSet<usize>,
    /// The artifacts that are archived before they, or their bytes, go.
    pub(crate) archived_artifacts: HashSet<usize>,
}

impl Verdict<'_> {
    /// How many objects go.
    pub(crate) fn removes(&self) -> RetentionCount {
        let of = |all: &[(usize, Fate)], fate: Fate| number(all.iter().filter(|(_, f)| *f == fate).count());
        RetentionCount {
            requests: of(&self.requests, Fate::Goes),
            bytes: of(&self.artifacts, Fate::LosesBytes),
            artifacts: of(&self.artifacts, Fate::Goes),
        }
    }

    /// How many objects stay, by reason.
    pub(crate) fn kept(&self) -> Vec<KeptCount> {
        let mut counts: BTreeMap<KeptBecause, (usize, usize)> = BTreeMap::new();
        for (_, fate) in &self.requests {
            if let Fate::Stays(why) = fate {
                counts.entry(why.because).or_default().0 += 1;
            }
        }
        for (_, fate) in &self.artifacts {
            if let Fate::Stays(why) = fate {
                counts.entry(why.because).or_default().1 += 1;
            }
        }
        let count = |(because, (requests, artifacts))| KeptCount { because, requests: number(requests), artifacts: number(artifacts) };
        counts.into_iter().map(count).collect()
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What becomes of what the runs of `pipeline` are about at `now`. Without a pipeline: of everything in the host.
pub(crate) fn decide<'a>(host: &HostView<'a>, pipeline: Option<&str>, now: Timestamp) -> Verdict<'a> {
    let rules = Rules::of(host);
    let needed = Needed::of(host);
    let mut verdict = Verdict::default();
    let newest = newest_requests(host);
    for (index, request) in host.requests.iter().enumerate() {
        let governing = rules.of_pipeline(request.pipeline);
        if pipeline.is_none() || governing.is_some_and(|(name, _)| Some(name) == pipeline) {
            let fate = match governing {
                Some((_, limits)) => of_request(request, limits, &needed, newest[index], now),
                None => Fate::Stays(stays_for(request, &needed).unwrap_or(Why::of(KeptBecause::NoLimit))),
            };
            if fate == Fate::Goes && governing.is_some_and(|(_, limits)| limits.archive) {
                verdict.archived_requests.insert(index);
            }
            verdict.requests.push((index, fate));
        }
    }
    let ranks = Ranks::of(host);
    for (index, artifact) in host.artifacts.iter().enumerate() {
        let owners: Vec<&'a str> = host.pipelines.iter().filter(|p| belongs_to(artifact, p)).map(|p| p.name).collect();
        let governing = rules.of_artifact(&owners);
        let is_meant = pipeline.is_none_or(|pipeline| governing.iter().any(|g| g.limits.is_some_and(|(name, _)| name == pipeline)));
        if is_meant {
            let fate = of_artifact(artifact, index, &governing, &needed, &ranks, now);
            let is_wanted = || governing.iter().any(|g| g.limits.is_some_and(|(_, limits)| limits.archive));
            if !matches!(fate, Fate::Stays(_)) && is_wanted() && is_to_archive(artifact) {
                verdict.archived_artifacts.insert(index);
            }
            verdict.artifacts.push((index, fate));
        }
    }
    verdict
}

/// Whose limits are for which pipeline.
struct Rules<'a> {
    own: HashMap<&'a str, Option<Limits>>,
    /// The limits for what has none of its own, and whose they are.
    default: Option<(&'a str, Limits)>,
}

/// The limits under which an artifact is for one of its pipelines.
struct Governing<'a> {
    /// The pipeline that the artifact belongs to. `None`: it belongs to no pipeline any more.
    owner: Option<&'a str>,
    limits: Option<(&'a str, Limits)>,
}

impl<'a> Rules<'a> {
    fn of(host: &HostView<'a>) -> Self {
        let own = host.pipelines.iter().map(|p| (p.name, p.limits)).collect();
        let for_all = host.pipelines.iter().filter_map(|p| Some((p, p.limits.filter(|limits| limits.host)?)));
        let default = for_all.min_by_key(|(p, _)| (p.created, p.name)).map(|(p, limits)| (p.name, limits));
        Self { own, default }
    }

    /// The pipeline whose limits are for another one, and the limits.
    fn of_pipeline(&self, pipeline: &'a str) -> Option<(&'a str, Limits)> {
        self.own.get(pipeline).copied().flatten().map(|limits| (pipeline, limits)).or(self.default)
    }

    fn of_artifact(&self, owners: &[&'a str]) -> Vec<Governing<'a>> {
        if owners.is_empty() {
            return vec![Governing { owner: None, limits: self.default }];
        }
        owners.iter().map(|owner| Governing { owner: Some(owner), limits: self.of_pipeline(owner) }).collect()
    }
}

/// The place of each ended request among those of its pipeline, the one that ended last first.
fn newest_requests(host: &HostView<'_>) -> Vec<usize> {
    let mut by_pipeline: HashMap<&str, Vec<(Timestamp, usize)>> = HashMap::new();
    for (index, request) in host.requests.iter().enumerate() {
        if let Some(ended) = request.ended {
            by_pipeline.entry(request.pipeline).or_default().push((ended, index));
        }
    }
    let mut ranks = vec![0; host.requests.len()];
    for of_pipeline in by_pipeline.values_mut() {
        of_pipeline.sort_by(|(a, i), (b, j)| b.cmp(a).then_with(|| host.requests[*i].name.cmp(host.requests[*j].name)));
        for (rank, (_, index)) in of_pipeline.iter().enumerate() {
            ranks[*index] = rank;
        }
    }
    ranks
}

/// Why a request stays whatever the limits are.
fn stays_for<'a>(request: &RequestView<'a>, needed: &Needed<'a>) -> Option<Why<'a>> {
    if request.ended.is_none() {
        return Some(Why::of(KeptBecause::NotEnded));
    }
    if request.held {
        return Some(Why::of(KeptBecause::Held));
    }
    if let Some(why) = needed.request(request) {
        return Some(why);
    }
    if let Some(tool) = request.tool {
        return Some(Why::by(KeptBecause::AppliedByTool, tool));
    }
    request.untold.then_some(Why::of(KeptBecause::SinkNotTold))
}

fn of_request<'a>(request: &RequestView<'a>, limits: Limits, needed: &Needed<'a>, rank: usize, now: Timestamp) -> Fate<'a> {
    if let Some(why) = stays_for(request, needed) {
        return Fate::Stays(why);
    }
    let is_old = |age: Duration| request.ended.is_some_and(|ended| is_past(ended, age, now));
    if limits.request_age.is_some_and(is_old) || limits.request_count.is_some_and(|count| rank >= count) {
        return Fate::Goes;
    }
    Fate::Stays(Why::of(match (limits.request_age, limits.request_count) {
        (Some(_), _) => KeptBecause::Young,
        (None, Some(_)) => KeptBecause::Newest,
        (None, None) => KeptBecause::NoLimit,
    }))
}

/// Whether `age` has passed since then. What lies in the future has no age.
fn is_past(since: Timestamp, age: Duration, now: Timestamp) -> bool {
    since <= now && clock::after(since, age) <= now
}

/// The place of each artifact among those of its solution that belong to a pipeline, the one that was stored last first.
struct Ranks<'a>(HashMap<(Option<&'a str>, usize), usize>);

impl<'a> Ranks<'a> {
    fn of(host: &HostView<'a>) -> Self {
        let mut groups: HashMap<(Option<&'a str>, &'a str), Vec<usize>> = HashMap::new();
        for (index, artifact) in host.artifacts.iter().enumerate() {
            let mut is_owned = false;
            for pipeline in host.pipelines.iter().filter(|p| belongs_to(artifact, p)) {
                is_owned = true;
                groups.entry((Some(pipeline.name), artifact.solution)).or_default().push(index);
            }
            if !is_owned {
                groups.entry((None, artifact.solution)).or_default().push(index);
            }
        }
        let mut ranks = HashMap::new();
        for ((owner, _), mut group) in groups {
            group.sort_by(|i, j| {
                let (a, b) = (&host.artifacts[*i], &host.artifacts[*j]);
                b.stored.cmp(&a.stored).then_with(|| b.version.cmp(&a.version)).then_with(|| a.name.cmp(b.name))
            });
            ranks.extend(group.into_iter().enumerate().map(|(rank, index)| ((owner, index), rank)));
        }
        Self(ranks)
    }

    fn rank(&self, owner: Option<&'a str>, index: usize) -> usize {
        self.0.get(&(owner, index)).copied().unwrap_or_default()
    }
}

fn of_artifact<'a>(
    artifact: &ArtifactView<'a>,
    index: usize,
    governing: &[Governing<'a>],
    needed: &Needed<'a>,
    ranks: &Ranks<'a>,
    now: Timestamp,
) -> Fate<'a> {
    // Nothing can be deployed from a part of them.
    if artifact.bytes == Bytes::Removing {
        return Fate::LosesBytes;
    }
    if artifact.held {
        return Fate::Stays(Why::of(KeptBecause::Held));
    }
    if artifact.bytes == Bytes::Removed {
        if let Some(why) = needed.in_use(artifact) {
            return Fate::Stays(why);
        }
        let used = artifact.last_used();
        // Where it was never deployed, it proves nothing: only its bytes had to go before it.
        let is_past = |g: &Governing| {
            let age = g.limits.and_then(|(_, limits)| limits.record_age);
            artifact.deployments.is_empty() || age.is_some_and(|age| is_past(used, age, now))
        };
        return match governing.iter().find(|g| !is_past(g)) {
            None => Fate::Goes,
            Some(by) => Fate::Stays(Why { because: KeptBecause::Record, whom: by.owner }),
        };
    }
    if let Some(why) = needed.bytes(artifact) {
        return Fate::Stays(why);
    }
    if let Some(why) = governing.iter().find_map(|g| within(artifact, g, ranks.rank(g.owner, index), now)) {
        return Fate::Stays(why);
    }
    if artifact.deployments.is_empty() { Fate::Goes } else { Fate::LosesBytes }
}

/// Whether there is something of an artifact that was not archived yet and can be. While its bytes are being removed, they are not whole any
/// more. A record that only ever was the record of these bytes was archived with them.
fn is_to_archive(artifact: &ArtifactView<'_>) -> bool {
    match artifact.bytes {
        Bytes::Whole => true,
        Bytes::Removing => false,
        Bytes::Removed => !(artifact.archived && artifact.deployments.is_empty()),
    }
}

/// Why an artifact is within the limits of one of its pipelines.
fn within<'a>(artifact: &ArtifactView<'a>, governing: &Governing<'a>, rank: usize, now: Timestamp) -> Option<Why<'a>> {
    let because = match governing.limits.map(|(_, limits)| (limits.keep_versions, limits.artifact_age)) {
        None | Some((None, None)) => KeptBecause::NoLimit,
        Some((Some(count), _)) if rank < count => KeptBecause::Newest,
        Some((_, Some(age))) if !is_past(artifact.last_used(), age, now) => KeptBecause::Young,
        Some(_) => return None,
    };
    Some(Why { because, whom: governing.owner })
}

/// The names of the solutions and versions that requests under way are for.
fn under_way<'a>(requests: &[RequestView<'a>]) -> HashMap<(&'a str, &'a str), &'a str> {
    requests.iter().filter(|r| r.ended.is_none()).map(|r| ((r.solution, r.version), r.name)).collect()
}

/// The uids of requests.
type Uids<'a> = HashSet<&'a str>;

#[cfg(test)]
mod tests;
