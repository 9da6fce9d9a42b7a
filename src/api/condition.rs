//! `metav1.Condition` with bounds, and how conditions are read and set.

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::text;

/// The summary of environments, pipelines and stages.
pub const READY: &str = "Ready";
/// Of an Environment: its namespace was given to the host.
pub const VALIDATED: &str = "Validated";

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known (yet).
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// One observation of the object's state, in the standard form of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, in CamelCase, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// `True`, `False`, or `Unknown` if this is not known yet.
    pub status: ConditionStatus,
    /// The `metadata.generation` of the object that was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub last_transition_time: Timestamp,
    /// Why, in one CamelCase word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, for people: what, on which object, for whom, and what to do about it.
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}

/// The most characters that a condition's message may have.
const MAX_MESSAGE: usize = 32_768;

/// One condition as a controller states it. Time and generation are added when the condition is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    /// The condition's type.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one CamelCase word for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

impl Observation {
    /// An observation with the given words.
    pub fn new(type_: &'static str, status: impl Into<ConditionStatus>, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: status.into(), reason, message: message.into() }
    }
}

/// Sets `observation` in `conditions`. The transition time moves only when the status changes.
pub fn set(conditions: &mut Vec<Condition>, observation: &Observation, generation: Option<i64>, now: Timestamp) {
    let message = truncate(&observation.message);
    match conditions.iter_mut().find(|c| c.type_ == observation.type_) {
        Some(existing) => {
            // What a definition holds by default was said of no moment.
            if existing.status != observation.status || existing.last_transition_time == Timestamp::UNIX_EPOCH {
                existing.last_transition_time = whole_seconds(now);
            }
            existing.status = observation.status;
            existing.reason = observation.reason.into();
            existing.message = message;
            existing.observed_generation = generation;
        }
        None => conditions.push(Condition {
            type_: observation.type_.to_owned(),
            status: observation.status,
            observed_generation: generation,
            last_transition_time: whole_seconds(now),
            reason: observation.reason.into(),
            message,
        }),
    }
}

/// A message in one line for a table: its first sentence, or as many of its words as fit.
pub fn in_a_line(message: &str) -> String {
    const ROOM: usize = 96;
    let line = message.lines().next().unwrap_or_default().trim_end_matches([':', ' ']);
    // An account is known by its namespace and name, and by what it is to the full message.
    let sentence = line.split_once(". ").map_or(line, |(first, _)| first).replace("system:serviceaccount:", "");
    if sentence.chars().count() <= ROOM {
        return sentence;
    }
    let cut: String = sentence.chars().take(ROOM - 2).collect();
    let whole = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    format!("{} …", whole.trim_end_matches([',', ';', ':']))
}

/// The condition of that type, if there is one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether there is a condition of that type and it is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True)
}

/// The time without fractions of a second, as Kubernetes stores times in conditions.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Escapes characters that control a terminal, and cuts the message to the bound of the schema, between two characters and with a mark.
fn truncate(message: &str) -> String {
    const MARK: &str = " […]";
    let message = text::plain(message);
    if message.chars().count() <= MAX_MESSAGE {
        return message.into_owned();
    }
    let mut cut: String = message.chars().take(MAX_MESSAGE - MARK.chars().count()).collect();
    cut.push_str(MARK);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, &Observation::new("Ready", false, Reason::NoStages, "a"), Some(1), at(10));
        set(&mut conditions, &Observation::new("Ready", false, Reason::StageCycle, "b"), Some(2), at(20));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("StageCycle", Some(2)));
        set(&mut conditions, &Observation::new("Ready", true, Reason::Ready, "c"), Some(2), at(30));
        assert_eq!(conditions[0].last_transition_time, at(30));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn what_nobody_looked_at_before_changes_when_somebody_does() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &Observation::new("Succeeded", ConditionStatus::Unknown, Reason::NotLookedAt, ""),
            None,
            Timestamp::UNIX_EPOCH,
        );
        set(&mut conditions, &Observation::new("Succeeded", ConditionStatus::Unknown, Reason::Soaking, ""), Some(1), at(10));
        set(&mut conditions, &Observation::new("Succeeded", ConditionStatus::Unknown, Reason::Soaking, ""), Some(1), at(20));
        assert_eq!(conditions[0].last_transition_time, at(10));
    }

    #[test]
    fn a_line_is_the_first_sentence_as_far_as_it_fits() {
        assert_eq!(in_a_line("waits for eve. She has until noon"), "waits for eve");
        assert_eq!(in_a_line("waits for the approval by system:serviceaccount:host:bot"), "waits for the approval by host:bot");
        assert_eq!(in_a_line("an administrator applies:\nkind: Role"), "an administrator applies");
        assert_eq!(in_a_line("pilotage.dev/host and 1.4.0 stay whole"), "pilotage.dev/host and 1.4.0 stay whole");
        let long = in_a_line(&"wörter ".repeat(40));
        assert!(long.chars().count() <= 96 && long.ends_with("wörter …"), "{long}");
        assert_eq!(in_a_line(&"x".repeat(200)).chars().count(), 96);
    }

    #[test]
    fn a_message_is_cut_to_what_the_schema_allows() {
        let mut conditions = Vec::new();
        set(&mut conditions, &Observation::new("Ready", false, Reason::NoStages, "ä".repeat(MAX_MESSAGE + 5)), None, at(0));
        assert_eq!(conditions[0].message.chars().count(), MAX_MESSAGE);
        assert!(conditions[0].message.ends_with("[…]"));
    }
}
