//! When deployments may start: recurring windows of a stage.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::duration;
use crate::api::stage::{Window, WindowType};
use crate::policy::clock;

/// How long a window lasts at most, whatever its duration says: ten years.
const LONGEST: Duration = Duration::from_hours(87_600);
/// How far back the last start is searched for at first.
const SHORTEST: Duration = Duration::from_mins(2);

/// A window's schedule can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("window with schedule \"{schedule}\": {cause}")]
pub(crate) struct WindowError {
    /// The schedule as written.
    pub(crate) schedule: String,
    /// What is wrong with it.
    pub(crate) cause: String,
}

/// Whether deployments may start now, and otherwise when to check again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// They may.
    Open,
    /// They may not: now is inside a `Deny` window, or outside every `Allow` window.
    Closed {
        /// When that changes; `None` where no `Allow` window ever opens.
        until: Option<Timestamp>,
        /// The schedule of that window.
        schedule: String,
    },
}

/// Whether deployments may start at `now`. `Deny` wins over `Allow`. Without an `Allow` window, all other times are open.
///
/// # Errors
/// Where a schedule, time zone or duration can't be read.
pub(crate) fn opening(windows: &[Window], now: Timestamp) -> Result<Opening, WindowError> {
    let mut allowed: Option<bool> = None;
    let mut next_allowed: Option<(Timestamp, &str)> = None;
    for window in windows {
        let current = occurrence(window, now)?;
        match window.type_ {
            WindowType::Deny => {
                if let Some(end) = current.inside {
                    return Ok(Opening::Closed { until: Some(end), schedule: window.schedule.clone() });
                }
            }
            WindowType::Allow => {
                allowed = Some(allowed.unwrap_or(false) || current.inside.is_some());
                if let Some(next) = current.next
                    && next_allowed.is_none_or(|(earliest, _)| next < earliest)
                {
                    next_allowed = Some((next, &window.schedule));
                }
            }
        }
    }
    if allowed == Some(false) {
        let schedule = next_allowed.map_or_else(|| "none".to_owned(), |(_, schedule)| schedule.to_owned());
        return Ok(Opening::Closed { until: next_allowed.map(|(at, _)| at), schedule });
    }
    Ok(Opening::Open)
}

/// Whether a window can ever open.
///
/// # Errors
/// Where its schedule, time zone or duration can't be read, or never comes.
pub(crate) fn check(window: &Window) -> Result<(), WindowError> {
    let error = |cause: String| WindowError { schedule: window.schedule.clone(), cause };
    match duration::parse(&window.duration) {
        None => return Err(error(format!("duration {} can't be read", window.duration))),
        Some(length) if length.is_zero() => return Err(error("its duration is zero".to_owned())),
        Some(_) => {}
    }
    check_schedule(&window.schedule, window.time_zone.as_deref()).map_err(error)
}

/// Whether a schedule can be read, and ever occurs.
///
/// # Errors
/// Why not.
pub(crate) fn check_schedule(schedule: &str, zone: Option<&str>) -> Result<(), String> {
    // From this date, every day of a year occurs within the four years that are searched, also 29 February.
    const START: &str = "2024-01-01T00:00:00Z";
    let crontab = read(schedule, zone)?;
    crontab.find_next(START).map(|_| ()).map_err(|_| "it never comes: no month has that day".to_owned())
}

/// When a schedule comes next after a time.
///
/// # Errors
/// If the schedule can't be read, or never comes.
pub(crate) fn next(schedule: &str, zone: Option<&str>, after: Timestamp) -> Result<Timestamp, String> {
    let next = read(schedule, zone)?.find_next(after.to_string().as_str()).map_err(|error| error.to_string())?;
    Ok(next.timestamp())
}

/// Parses a schedule, or says in one line why it can't be parsed.
fn read(schedule: &str, zone: Option<&str>) -> Result<cronexpr::Crontab, String> {
    let zone = zone.unwrap_or("UTC");
    let fields = schedule.split_whitespace().count();
    if fields != 5 {
        return Err(format!("it has {fields} fields, and a schedule has five: minute, hour, day of month, month and day of week"));
    }
    // Parsed alone, so that an error of the time zone is not reported as an error of the schedule.
    if cronexpr::parse_crontab(&format!("* * * * * {zone}")).is_err() {
        return Err(format!("{zone} is not a time zone of the IANA database, as Europe/Prague is"));
    }
    cronexpr::parse_crontab(&format!("{schedule} {zone}")).map_err(|error| {
        // The first lines show the position with a mark below it. The last line says what is wrong there.
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches([' ', '^']).to_owned()
    })
}

struct Occurrence {
    inside: Option<Timestamp>,
    next: Option<Timestamp>,
}

fn occurrence(window: &Window, now: Timestamp) -> Result<Occurrence, WindowError> {
    let error = |cause: String| WindowError { schedule: window.schedule.clone(), cause };
    let length = duration::parse(&window.duration).ok_or_else(|| error(format!("duration {} can't be read", window.duration)))?;
    let crontab = read(&window.schedule, window.time_zone.as_deref()).map_err(error)?;
    let find = |after: Timestamp| -> Result<Option<Timestamp>, WindowError> {
        let next = crontab.find_next(after.to_string().as_str()).map_err(|e| error(e.to_string()))?;
        Ok(Some(next.timestamp()))
    };
    // The last start that can still cover `now` is after `now - length`; overlapping starts prolong the window. The search goes back from
    // here, because a window that lasts for years may begin every minute.
    let length = length.min(LONGEST);
    let mut inside = None;
    let mut start = find(now)?;
    let mut back = SHORTEST;
    loop {
        let mut first = find(clock::before(now, back.min(length)))?;
        if first.is_some_and(|at| at <= now) {
            while let Some(at) = first.filter(|at| *at <= now) {
                inside = Some(clock::after(at, length));
                first = find(at)?;
            }
            start = first;
            break;
        }
        if back >= length {
            break;
        }
        back = back.saturating_mul(2);
    }
    Ok(Occurrence { inside, next: start })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(type_: WindowType, schedule: &str, duration: &str, zone: Option<&str>) -> Window {
        Window { type_, schedule: schedule.into(), duration: duration.into(), time_zone: zone.map(Into::into) }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_weekend_freeze_holds_from_friday_evening_to_monday_morning() {
        let freeze = [window(WindowType::Deny, "0 17 * * 5", "60h", None)];
        assert_eq!(opening(&freeze, at("2026-11-20T16:59:59Z")), Ok(Opening::Open));
        assert_eq!(
            opening(&freeze, at("2026-11-20T17:00:00Z")),
            Ok(Opening::Closed { until: Some(at("2026-11-23T05:00:00Z")), schedule: "0 17 * * 5".into() })
        );
        assert_eq!(opening(&freeze, at("2026-11-23T05:00:00Z")), Ok(Opening::Open));
    }

    #[test]
    fn outside_of_every_allow_window_it_is_closed_until_the_next() {
        let office = [window(WindowType::Allow, "0 9 * * 1-5", "8h", None)];
        assert_eq!(opening(&office, at("2026-11-20T10:00:00Z")), Ok(Opening::Open));
        assert_eq!(
            opening(&office, at("2026-11-21T10:00:00Z")),
            Ok(Opening::Closed { until: Some(at("2026-11-23T09:00:00Z")), schedule: "0 9 * * 1-5".into() })
        );
    }

    #[test]
    fn a_window_that_lasts_for_ever_and_begins_every_minute_is_read_at_once() {
        let for_ever = [window(WindowType::Deny, "* * * * *", "999999999h", None)];
        let Opening::Closed { until: Some(until), .. } = opening(&for_ever, at("2026-11-20T10:00:30Z")).unwrap() else { panic!() };
        assert!(until > at("2036-01-01T00:00:00Z"));
        let yearly = [window(WindowType::Deny, "0 0 1 1 *", "2000h", None)];
        assert_eq!(opening(&yearly, at("2026-11-20T10:00:00Z")), Ok(Opening::Open));
        assert_eq!(
            opening(&yearly, at("2026-02-20T10:00:00Z")),
            Ok(Opening::Closed { until: Some(at("2026-03-25T08:00:00Z")), schedule: "0 0 1 1 *".into() })
        );
    }

    #[test]
    fn deny_wins_over_allow() {
        let both = [window(WindowType::Allow, "0 9 * * *", "8h", None), window(WindowType::Deny, "0 12 * * *", "1h", None)];
        assert!(matches!(opening(&both, at("2026-11-20T12:30:00Z")), Ok(Opening::Closed { .. })));
    }

    #[test]
    fn an_impossible_window_is_told_before_anybody_waits_for_it() {
        let said = |schedule: &str, duration: &str, zone: Option<&str>| {
            check(&window(WindowType::Deny, schedule, duration, zone)).err().map(|e| e.to_string()).unwrap_or_default()
        };
        for good in ["0 17 * * 5", "*/5 0-6,22 1,15 JAN-jun mon", "0 0 29 2 *", "0 0 L * 5L", "00 09 15W * 1#2"] {
            assert_eq!(said(good, "1h", Some("Europe/Prague")), "", "{good}");
        }
        for (schedule, duration, zone, why) in [
            ("0 25 * * *", "1h", None, "must be in range 0..=23; found 25"),
            ("0 0 9 * * 1", "1h", None, "it has 6 fields"),
            ("0 9 * * 1", "1h", Some("Europe/Pragu"), "Europe/Pragu is not a time zone"),
            ("0 0 31 2 *", "1h", None, "it never comes"),
            ("0 9 * * 1", "0h", None, "its duration is zero"),
        ] {
            let said = said(schedule, duration, zone);
            assert!(said.contains(why) && !said.contains('\n'), "{schedule}: {said}");
        }
    }

    #[test]
    fn a_schedule_that_can_not_be_read_is_an_error() {
        let error = opening(&[window(WindowType::Deny, "whenever it suits", "1h", None)], at("2026-11-20T12:30:00Z"));
        assert!(error.unwrap_err().to_string().contains("whenever it suits"));
    }
}
