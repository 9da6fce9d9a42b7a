//! How far one sink has been told. This only calculates, from what the pipeline's status stores.
//!
//! It must stay small whatever is stored, lose nothing, and not start from the beginning after a restart. So it has a point in time.
//! Requests that were created before it have been told completely, except for those that are listed as open. Of the requests that were
//! created after it, those that have been told completely are listed as done. The point follows the newest request that the operator has
//! seen. It uses the API server's clock, never the operator's own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::pipeline::{MAX_REQUESTS, OpenRequest, SinkCursor, Trigger};

/// How far the point stays behind the newest request. The clocks of API servers differ, and requests become visible in the order of etcd.
const SLACK: SignedDuration = SignedDuration::from_secs(15);

/// The part of a request that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) uid: String,
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// When it ended.
    pub(crate) ended: Option<Timestamp>,
}

/// How far a sink has been told of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Everything that will ever be sent about it.
    Whole,
    /// Everything up to and including this trigger.
    UpTo(Option<Trigger>),
}

/// A request of which a part has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    /// Empty if it is not known: the status stores no names.
    name: String,
    last: Option<Trigger>,
}

/// How far one sink has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    since: Timestamp,
    open: BTreeMap<String, Open>,
    done: BTreeSet<String>,
}

impl Progress {
    /// Continues where a leader stopped.
    pub(crate) fn resume(cursor: &SinkCursor) -> Self {
        let open = cursor.open.iter().map(|o| (o.uid.clone(), Open { name: String::new(), last: o.last }));
        Self { since: cursor.since, open: open.collect(), done: cursor.done.iter().cloned().collect() }
    }

    /// A new sink. It is told everything about requests that have not ended or ended just now. Older requests are history.
    pub(crate) fn begin(requests: &[View], now: Timestamp) -> Self {
        let mut new = Self { since: Timestamp::UNIX_EPOCH, open: BTreeMap::new(), done: BTreeSet::new() };
        new.done.extend(requests.iter().filter(|r| r.ended.is_some_and(|at| at < now - SLACK)).map(|r| r.uid.clone()));
        new.advance(requests);
        new
    }

    /// The point in time. Older requests matter only if they are open.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// The requests of which a part has been told, by uid and name. The name is empty if it is not known.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&str, &str)> {
        self.open.iter().map(|(uid, open)| (uid.as_str(), open.name.as_str()))
    }

    /// Whether the request is listed as open.
    pub(crate) fn is_open(&self, uid: &str) -> bool {
        self.open.contains_key(uid)
    }

    /// How far the sink has been told about a request.
    pub(crate) fn told(&self, uid: &str, created: Timestamp) -> Told {
        match self.open.get(uid) {
            Some(open) => Told::UpTo(open.last),
            None if self.done.contains(uid) || created < self.since => Told::Whole,
            None => Told::UpTo(None),
        }
    }

    /// The sink was told of a trigger.
    pub(crate) fn sent(&mut self, uid: &str, name: &str, trigger: Trigger) {
        let open = self.open.entry(uid.to_owned()).or_insert_with(|| Open { name: name.to_owned(), last: None });
        open.last = open.last.max(Some(trigger));
    }

    /// The sink was told everything that will ever be sent about a request.
    pub(crate) fn finish(&mut self, uid: &str) {
        self.open.remove(uid);
        self.done.insert(uid.to_owned());
    }

    /// Moves the point as far as possible, so that the lists are as short as possible. `requests` are all requests of the pipeline, except
    /// for those that were created before the point and are not open.
    pub(crate) fn advance(&mut self, requests: &[View]) {
        let newest = requests.iter().map(|r| r.created).max();
        let mut since = newest.map_or(self.since, |newest| (newest - SLACK).max(self.since));
        let mut untold: Vec<&View> = requests.iter().filter(|r| self.told(&r.uid, r.created) != Told::Whole).collect();
        untold.sort_by_key(|r| r.created);
        let listed = untold.iter().filter(|r| self.open.contains_key(&r.uid)).count();
        let mut room = MAX_REQUESTS.saturating_sub(listed.max(self.open.len()));
        for request in untold.iter().filter(|r| r.created < since).copied().collect::<Vec<_>>() {
            if self.open.contains_key(&request.uid) {
                continue;
            }
            if room == 0 {
                // A request that does not fit into the list holds the point back.
                since = request.created.max(self.since);
                break;
            }
            room -= 1;
            self.open.insert(request.uid.clone(), Open { name: request.name.clone(), last: None });
        }
        self.since = since;
        let kept: BTreeSet<&str> = requests.iter().filter(|r| r.created >= since).map(|r| r.uid.as_str()).collect();
        self.done.retain(|uid| kept.contains(uid.as_str()));
    }

    /// What the pipeline's status stores. What does not fit is sent again by the next leader.
    pub(crate) fn cursor(&self) -> SinkCursor {
        let open = self.open.iter().take(MAX_REQUESTS).map(|(uid, o)| OpenRequest { uid: uid.clone(), last: o.last });
        SinkCursor { since: self.since, open: open.collect(), done: self.done.iter().take(MAX_REQUESTS).cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn request(number: usize, created: i64, ended: Option<i64>) -> View {
        View { uid: format!("u{number}"), name: format!("r{number}"), created: at(created), ended: ended.map(at) }
    }

    fn whole(progress: &Progress, request: &View) -> bool {
        progress.told(&request.uid, request.created) == Told::Whole
    }

    #[test]
    fn a_new_sink_is_told_of_what_is_under_way_and_not_of_history() {
        let all = [request(0, 10, Some(20)), request(1, 10, None), request(2, 900, Some(995)), request(3, 1000, None)];
        let progress = Progress::begin(&all, at(1000));
        let told: Vec<bool> = all.iter().map(|r| whole(&progress, r)).collect();
        assert_eq!(told, [true, false, false, false]);
        assert!(!whole(&progress, &request(4, 1000, None)), "and of what is made from now on");
    }

    #[test]
    fn a_restart_changes_nothing_in_what_was_told() {
        let all: Vec<View> = (0..50).map(|n| request(n, 1000 + i64::try_from(n).unwrap_or(0), Some(1100))).collect();
        let mut progress = Progress::begin(&[], at(0));
        for r in &all {
            progress.sent(&r.uid, &r.name, Trigger::OnDeploymentRequested);
            if r.created < at(1030) {
                progress.finish(&r.uid);
            }
        }
        progress.advance(&all);
        let cursor = progress.cursor();
        let resumed = Progress::resume(&cursor);
        for r in &all {
            assert_eq!(resumed.told(&r.uid, r.created), progress.told(&r.uid, r.created), "{r:?}");
            assert_eq!(whole(&resumed, r), r.created < at(1030), "{r:?}");
        }
        assert_eq!(resumed.told("u40", at(1040)), Told::UpTo(Some(Trigger::OnDeploymentRequested)));
        assert!(cursor.done.is_empty(), "the point is at 1034, and what was done lies before it: {cursor:?}");
    }

    #[test]
    fn one_that_waits_for_days_does_not_let_the_lists_grow() {
        let mut progress = Progress::begin(&[], at(0));
        let mut all = vec![request(0, 1000, None)];
        progress.sent("u0", "r0", Trigger::OnApprovalStarted);
        for n in 1..5000 {
            let new = request(n, 1000 + i64::try_from(n).unwrap_or(0), Some(1));
            progress.finish(&new.uid);
            all.push(new);
            progress.advance(&all);
            all.retain(|r| r.created >= progress.since() || progress.is_open(&r.uid));
        }
        let cursor = progress.cursor();
        assert_eq!(cursor.open.len(), 1);
        assert!(cursor.done.len() <= 16, "{}", cursor.done.len());
        assert_eq!(progress.told("u0", at(1000)), Told::UpTo(Some(Trigger::OnApprovalStarted)));
        assert!(whole(&progress, &request(17, 1017, Some(1))));
    }

    #[test]
    fn the_point_follows_what_was_seen_and_not_the_clock() {
        let mut progress = Progress::begin(&[], at(1_000_000));
        progress.advance(&[request(0, 1000, None)]);
        assert!(progress.since() < at(1000));
        assert!(!whole(&progress, &request(1, 999, None)), "one that another API server's clock dates back");
        progress.advance(&[request(0, 1000, None)]);
        progress.advance(&[]);
        assert!(!whole(&progress, &request(2, 1000, None)), "and one that is seen late");
    }

    #[test]
    fn more_open_requests_than_the_list_holds_are_not_forgotten() {
        let many: Vec<View> = (0..MAX_REQUESTS + 500).map(|n| request(n, 1000 + i64::try_from(n).unwrap_or(0), None)).collect();
        let mut progress = Progress::begin(&[], at(0));
        progress.advance(&many);
        let resumed = Progress::resume(&progress.cursor());
        assert!(progress.cursor().open.len() <= MAX_REQUESTS);
        for r in &many {
            assert_eq!(resumed.told(&r.uid, r.created), Told::UpTo(None), "{r:?}");
        }
    }

    #[test]
    fn a_trigger_sent_late_does_not_take_back_a_later_one() {
        let mut progress = Progress::begin(&[], at(0));
        progress.sent("u", "r", Trigger::OnDeploymentStarted);
        progress.sent("u", "r", Trigger::OnApprovalStarted);
        assert_eq!(progress.told("u", at(1)), Told::UpTo(Some(Trigger::OnDeploymentStarted)));
    }

    /// What happens in the model.
    #[derive(Clone, Debug)]
    enum Happens {
        /// A request is created: this many seconds after the newest one, by an API server whose clock is slow by that much.
        Made(i64, i64),
        /// A request ends.
        Ended(usize),
        /// The sink takes the next trigger of a request.
        Taken(usize),
        /// Progress is recorded.
        Recorded,
        /// The leader ends, and another one continues from what is recorded.
        Crashed,
    }

    fn happens() -> impl proptest::strategy::Strategy<Value = Happens> {
        use proptest::prelude::*;
        prop_oneof![
            3 => (0i64..30, 0i64..10).prop_map(|(later, behind)| Happens::Made(later, behind)),
            3 => (0usize..40).prop_map(Happens::Ended),
            8 => (0usize..40).prop_map(Happens::Taken),
            2 => Just(Happens::Recorded),
            1 => Just(Happens::Crashed),
        ]
    }

    /// One sink and its requests. Each request has two triggers. The second happens when it ends.
    struct Model {
        progress: Progress,
        recorded: SinkCursor,
        requests: Vec<View>,
        /// How often each trigger of each request was taken.
        taken: Vec<[u32; 2]>,
        /// Those that are recorded as completely told.
        certain: BTreeSet<usize>,
    }

    impl Model {
        fn new() -> Self {
            let progress = Progress::begin(&[], at(0));
            let recorded = progress.cursor();
            Self { progress, recorded, requests: Vec::new(), taken: Vec::new(), certain: BTreeSet::new() }
        }

        /// Takes the next trigger of a request, as a sink worker does. Returns whether there was one.
        fn take(&mut self, index: usize) -> bool {
            const TRIGGERS: [Trigger; 2] = [Trigger::OnDeploymentRequested, Trigger::OnDeploymentCompleted];
            let request = &self.requests[index];
            let Told::UpTo(last) = self.progress.told(&request.uid, request.created) else { return false };
            let happened = if request.ended.is_some() { 2 } else { 1 };
            let Some(next) = (0..happened).find(|n| Some(TRIGGERS[*n]) > last) else { return false };
            self.taken[index][next] += 1;
            self.progress.sent(&request.uid, &request.name, TRIGGERS[next]);
            if next == 1 {
                self.progress.finish(&request.uid);
            }
            true
        }

        fn step(&mut self, happens: &Happens) {
            match happens {
                Happens::Made(later, behind) => {
                    let newest = self.requests.iter().map(|r| r.created.as_second()).max().unwrap_or(1000);
                    let number = self.requests.len();
                    self.requests.push(request(number, newest + later - behind, None));
                    self.taken.push([0, 0]);
                }
                Happens::Ended(index) => {
                    if let Some(request) = self.requests.get_mut(*index) {
                        request.ended = Some(at(1));
                    }
                }
                Happens::Taken(index) => {
                    if *index < self.requests.len() {
                        self.take(*index);
                    }
                }
                Happens::Recorded => {
                    // As a dispatcher reads them: requests that are older than the point and not open are not read.
                    let seen: Vec<View> = self
                        .requests
                        .iter()
                        .filter(|r| r.created >= self.progress.since() || self.progress.is_open(&r.uid))
                        .cloned()
                        .collect();
                    self.progress.advance(&seen);
                    self.recorded = self.progress.cursor();
                    self.certain = (0..self.requests.len()).filter(|n| whole(&self.progress, &self.requests[*n])).collect();
                }
                Happens::Crashed => self.progress = Progress::resume(&self.recorded),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_happens_in_whatever_order_every_trigger_is_taken_and_no_history_is_repeated(
            events in proptest::collection::vec(happens(), 0..120)
        ) {
            let mut model = Model::new();
            for happens in &events {
                let before = model.taken.clone();
                model.step(happens);
                for index in &model.certain {
                    proptest::prop_assert_eq!(before.get(*index), model.taken.get(*index), "{} was told again", index);
                }
            }
            for index in 0..model.requests.len() {
                model.requests[index].ended = Some(at(1));
                while model.take(index) {}
                proptest::prop_assert!(model.taken[index].iter().all(|count| *count > 0), "{}: {:?}", index, model.taken[index]);
            }
        }
    }
}
