//! Times that people may write arbitrarily far in the future. A time beyond the last one that can be represented becomes that last one.

use std::time::Duration;

use jiff::Timestamp;

/// The time that much later.
pub(crate) fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The time that much earlier.
pub(crate) fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_last_time_there_is_none() {
        let last: Timestamp = "9999-12-30T22:00:00Z".parse().unwrap();
        assert_eq!(after(last, Duration::from_hours(1)), Timestamp::MAX);
        assert_eq!(after(last, Duration::MAX), Timestamp::MAX);
        assert_eq!(before(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MIN);
        assert_eq!(after(Timestamp::UNIX_EPOCH, Duration::from_secs(1)).as_second(), 1);
    }
}
