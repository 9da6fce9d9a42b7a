//! Durations as Kubernetes writes them: `72h`, `1h30m`, `90s`.

use std::time::Duration;

/// The form of a duration in a schema.
pub const PATTERN: &str = "^([0-9]{1,9}[hms])+$";
/// The most characters of a duration in a schema.
pub const MAX_LENGTH: usize = 32;

/// Reads `h`, `m` and `s` parts in any number. `None` where the text is not of that form (the schema's pattern refuses such).
///
/// Not `kube::core::Duration`: that panics where the number is too large, takes empty texts, signs and fractions too, and prints 72h as
/// 259200s.
pub fn parse(text: &str) -> Option<Duration> {
    let mut total = 0u64;
    let mut digits = String::new();
    let mut parts = 0;
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
        parts += 1;
    }
    (digits.is_empty() && parts > 0).then_some(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        assert_eq!(parse("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        for bad in ["", "1", "h", "1d", "1h5", "-1h", "99999999999999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
