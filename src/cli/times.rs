//! How points in time are shown: as ages to people, as they are to programs.

use jiff::Timestamp;

/// How points in time are shown.
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// As the time since then, as kubectl does: `90s`, `5m`, `3h20m`, `12d`.
    Ages(Timestamp),
    /// As RFC 3339.
    Absolute,
}

impl Times {
    /// One point in time; nothing where it is not known.
    pub fn show(&self, at: Option<Timestamp>) -> String {
        match (self, at) {
            (_, None) => String::new(),
            (Self::Absolute, Some(at)) => at.to_string(),
            (Self::Ages(now), Some(at)) => age(now.as_second() - at.as_second()),
        }
    }
}

/// A number of seconds in the two units that matter.
pub fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..0 => format!("in {}", age(-seconds)),
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 > 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_the_units_that_matter() {
        let shown = [5, 119, 120, 125, 3600, 10_800, 12_000, 100_000, 172_800, 180_000, 40_000_000, -90].map(age);
        assert_eq!(shown, ["5s", "119s", "2m", "2m5s", "60m", "3h", "3h20m", "27h", "2d", "2d2h", "462d", "in 90s"]);
    }

    #[test]
    fn programs_get_the_time_itself() {
        let at: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        assert_eq!(Times::Absolute.show(Some(at)), "2026-11-30T10:00:00Z");
        assert_eq!(Times::Ages("2026-11-30T10:00:30Z".parse().unwrap()).show(Some(at)), "30s");
        assert_eq!(Times::Absolute.show(None), "");
    }
}
