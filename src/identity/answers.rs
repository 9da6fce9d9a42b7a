//! Recent answers of access reviews. Requests that come together ask the same questions, and share the answers. The caller says how old an
//! answer may be, and asks again if it doesn't accept a certain answer from the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::Right;
use crate::api::reference::Identity;

/// The longest time for which an answer is used.
pub(crate) const RECENT: Duration = Duration::from_secs(3);
/// How old an answer may be right before a write to a target. An API server itself takes that long to learn that a right was taken away.
pub(crate) const JUST_NOW: Duration = Duration::from_millis(100);
/// The most questions that are cached.
const MOST: usize = 1024;

/// A right of somebody.
pub(crate) type Question = (Identity, Right);

/// When the question was asked, and the answer.
type Answer = Option<(Instant, bool)>;

/// A cached answer. Whoever holds the lock is asking.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Answer>>;

/// The answers, by question.
#[derive(Default)]
pub(crate) struct Answers {
    slots: Mutex<HashMap<Question, Slot>>,
}

impl Answers {
    /// The slot of a question. `None` if too many questions are cached: then the caller asks without the cache.
    pub(crate) fn slot(&self, question: Question) -> Option<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST && !slots.contains_key(&question) {
            slots.retain(|_, slot| slot.try_lock().map_or(true, |answer| answer.is_some_and(|(at, _)| at.elapsed() < RECENT)));
            if slots.len() >= MOST {
                return None;
            }
        }
        Some(slots.entry(question).or_default().clone())
    }

    /// Whether the last answer was yes, however old it is.
    pub(crate) fn was_yes(&self, question: &Question) -> bool {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(question).cloned();
        slot.is_some_and(|slot| slot.try_lock().is_ok_and(|answer| answer.is_some_and(|(_, held)| held)))
    }
}

/// Whether `answer` has the accepted value and is young enough.
pub(crate) fn is_believed(answer: &Answer, believed: bool, age: Duration) -> bool {
    answer.is_some_and(|(at, held)| held == believed && at.elapsed() < age.min(RECENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: usize) -> Question {
        (Identity { username: number.to_string(), ..Identity::default() }, Right::on("get", "", "pods", "n"))
    }

    #[test]
    fn an_answer_is_believed_while_it_is_young_and_only_the_one_that_may_be() {
        let now = Some((Instant::now(), true));
        assert!(is_believed(&now, true, RECENT) && is_believed(&now, true, JUST_NOW));
        assert!(!is_believed(&now, false, RECENT), "no is asked for again");
        assert!(!is_believed(&now, true, Duration::ZERO) && !is_believed(&None, true, RECENT));
        let before = Instant::now().checked_sub(Duration::from_secs(1)).map(|at| (at, true));
        assert!(is_believed(&before, true, RECENT) && !is_believed(&before, true, JUST_NOW));
        let long_ago = Instant::now().checked_sub(RECENT).map(|at| (at, true));
        assert!(!is_believed(&long_ago, true, Duration::from_hours(1)), "whoever asks can't believe it for longer");
    }

    #[test]
    fn no_more_questions_are_remembered_than_may_be() {
        let answers = Answers::default();
        for number in 0..MOST {
            *answers.slot(question(number)).unwrap().try_lock().unwrap() = Some((Instant::now(), true));
        }
        assert!(answers.slot(question(MOST)).is_none(), "all are young");
        assert!(answers.slot(question(7)).is_some() && answers.was_yes(&question(7)) && !answers.was_yes(&question(MOST)));
        for number in 0..MOST {
            *answers.slot(question(number)).unwrap().try_lock().unwrap() = None;
        }
        assert!(answers.slot(question(MOST)).is_some(), "old ones make room");
    }
}
