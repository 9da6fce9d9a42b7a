//! Retention: how long a pipeline keeps requests, the bytes of artifacts, and records; and what its last run did.

use std::time::Duration;

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{duration, schedule};

/// How long ended requests, the bytes of artifacts and records are kept. What is needed always stays: what runs or is being deployed, what
/// ran before it in a stage, what a stage may still be asked for, what has not ended, and what is annotated `pilotage.dev/keep`. Whoever
/// changes this needs the verb `purge` on the pipeline, and with the scope `Host` on all pipelines of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(schedule::rule("self.schedule")).message(schedule::FORM))]
#[x_kube(validation = Rule::new(schedule::zone_rule("self.timeZone")).message(schedule::ZONE_FORM))]
pub struct Retention {
    /// When a run begins that removes what is not kept, as a cron expression of five fields. A run that was missed begins as soon as the
    /// operator works again. Another run begins when the annotation `pilotage.dev/retain-now` gets another value.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// The IANA time zone of the schedule. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// `Pipeline`: this is for what belongs to this pipeline. `Host`: it is also for the pipelines of this host that have no retention, and
    /// for what belongs to no pipeline any more. Where several pipelines say `Host`, the oldest one's counts.
    #[serde(default)]
    pub scope: RetentionScope,
    /// Which ended requests are kept. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestRetention>,
    /// Which artifacts keep their bytes. Left out: all. An artifact that was never deployed goes with its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactRetention>,
    /// How long an artifact without bytes stays, as the record of who deployed it where. Left out: as long as its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordRetention>,
    /// `Registry`: what goes is first put into the registry of the operator's `--artifact-store`, below `HOST/archive`, and goes only when
    /// the registry has given it back. If the registry can't be used, nothing goes. `None`: what goes is lost. If several pipelines let an
    /// artifact go, it is archived if one of them says so.
    #[serde(default)]
    pub archive: Archive,
}

/// For what a retention is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RetentionScope {
    /// For what belongs to its pipeline.
    #[default]
    Pipeline,
    /// Also for the pipelines of its host that have none.
    Host,
}

/// Where what goes is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Archive {
    /// Nowhere.
    #[default]
    None,
    /// In the registry that the operator keeps large artifacts in.
    Registry,
}

/// Which ended requests are kept. With both limits, a request goes as soon as it is beyond one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRetention {
    /// The age since its end up to which a request is kept, for example `2160h`. Left out: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub max_age: Option<String>,
    /// How many ended requests of a pipeline are kept, those that ended last. Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_count: Option<i32>,
}

/// Which artifacts keep their bytes. With both limits, the bytes go only when the artifact is beyond both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRetention {
    /// How many versions of each solution keep their bytes at least, those that were stored last. Left out: none for this reason, if
    /// `maxAge` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_versions: Option<i32>,
    /// The age, since it was stored or last deployed, up to which an artifact keeps its bytes, for example `8760h`. Left out: none for this
    /// reason, if `keepVersions` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub max_age: Option<String>,
}

/// How long records of deployments are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordRetention {
    /// The age, since its last deployment ended, up to which an artifact without bytes is kept, for example `87600h`.
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub max_age: String,
}

/// Why something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum KeptBecause {
    /// The request has not ended, or a request that has not ended is for this version.
    NotEnded,
    /// It is what runs in an environment, is being deployed there, or failed there and was left.
    Deployed,
    /// It is what ran in a stage before the version that runs there, so that the stage can go back to it.
    WayBack,
    /// A stage may still be asked for it: it is higher than what runs there.
    MayBeAskedFor,
    /// It has the annotation or label `pilotage.dev/keep`.
    Held,
    /// A tool such as Flux, Argo CD or Helm applies the request, and would make it anew.
    AppliedByTool,
    /// A sink of the pipeline has not been told all of it.
    SinkNotTold,
    /// It is not older than retention allows.
    Young,
    /// It is among the newest, of which retention keeps a number.
    Newest,
    /// No retention is for it, or none that limits this.
    NoLimit,
    /// It has no bytes any more and is the record of its deployments.
    Record,
}

/// The most entries of what is kept: one for each reason.
pub const MAX_KEPT: usize = 16;
/// The most characters of what could not be removed.
pub const MAX_MESSAGE: usize = 1024;
/// The most characters of the annotation that begins a run.
pub const MAX_REQUESTED: usize = 256;

/// What retention did last, and what it does next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// The generation of the pipeline that `nextRun` was decided for.
    #[serde(default)]
    pub observed_generation: i64,
    /// When the next run begins. Left out if the schedule never comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub next_run: Option<Timestamp>,
    /// The value of the annotation `pilotage.dev/retain-now` for which a run was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_REQUESTED))]
    pub requested: Option<String>,
    /// The run that is under way. Left out if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RetentionProgress>,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RetentionRun>,
    /// What the last run kept and why, by number. An object is counted under the first reason that holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_KEPT))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["because".into()]))]
    pub kept: Vec<KeptCount>,
}

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionProgress {
    /// When it began. Ages count up to this time.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
    /// What it was to remove when it began.
    pub removes: RetentionCount,
}

/// How many objects a run removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionCount {
    /// Requests.
    #[serde(default)]
    pub requests: i32,
    /// Artifacts that lose their bytes and stay as a record.
    #[serde(default)]
    pub bytes: i32,
    /// Artifacts that go whole.
    #[serde(default)]
    pub artifacts: i32,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionRun {
    /// When it began.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub ended_at: Timestamp,
    /// What it removed.
    pub removed: RetentionCount,
    /// What it could not remove, and tries again in the next run.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub refused: i32,
    /// Why something could not be removed. Names of objects are in the operator's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
}

/// How many objects were kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptCount {
    /// The reason.
    pub because: KeptBecause,
    /// Requests that were kept.
    #[serde(default)]
    pub requests: i32,
    /// Artifacts that were kept.
    #[serde(default)]
    pub artifacts: i32,
}

/// A stored limit of age, if there is one. The schema accepts no other form.
pub(crate) fn age(text: Option<&String>) -> Option<Duration> {
    text.and_then(|text| duration::parse(text))
}
