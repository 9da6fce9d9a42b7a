//! Quantities as Kubernetes writes them (`500m`, `1Gi`, `2e3`), exact to billionths, which is the API server's precision.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

/// The number of parts in one unit of a quantity.
const ONE: i128 = 1_000_000_000;

/// A quantity. A value that is too large becomes the largest one that can be represented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

impl Quantity {
    /// A whole number.
    pub(crate) fn whole(number: u64) -> Self {
        Self(i128::from(number).saturating_mul(ONE))
    }

    /// Parses a quantity. A part finer than a billionth counts as a billionth. `None` if the text is not a quantity.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (factor, tens) = scale(suffix)?;
        // All digits as one number, and the exponent of ten that corrects it.
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let exponent = tens.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let amount = scaled(digits, factor, exponent);
        Some(Self(if is_negative { -amount } else { amount }))
    }

    /// The quantity multiplied by this number.
    pub(crate) fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// Whether it is more than zero.
    pub(crate) fn is_positive(self) -> bool {
        self.0 > 0
    }
}

/// The digits times `factor` times ten to the power of `exponent`, rounded up.
fn scaled(digits: &str, factor: i128, exponent: i32) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    let Some(amount) = digits.parse::<i128>().ok().and_then(|digits| digits.checked_mul(factor)) else { return i128::MAX };
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match (exponent < 0, power) {
        (false, Some(power)) => amount.saturating_mul(power),
        (false, None) => i128::MAX,
        (true, Some(power)) => amount / power + i128::from(amount % power != 0),
        (true, None) => 1,
    }
}

/// The meaning of a suffix: a factor, and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let tens = |power| Some((1, power));
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "n" => tens(-9),
        "u" => tens(-6),
        "m" => tens(-3),
        "" => tens(0),
        "k" => tens(3),
        "M" => tens(6),
        "G" => tens(9),
        "T" => tens(12),
        "P" => tens(15),
        "E" => tens(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => tens(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Formats it in the largest unit of which it is a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / ONE;
        if self.0 % ONE != 0 {
            return match (self.0 % 1_000_000, self.0 % 1_000) {
                (0, _) => write!(f, "{}m", self.0 / 1_000_000),
                (_, 0) => write!(f, "{}u", self.0 / 1_000),
                _ => write!(f, "{}n", self.0),
            };
        }
        let binary = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        match binary.iter().find(|(_, bits)| whole != 0 && whole % (1_i128 << bits) == 0) {
            Some((unit, bits)) => write!(f, "{}{unit}", whole >> bits),
            None => write!(f, "{whole}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn the_same_amount_is_the_same_however_it_is_written() {
        for same in [
            ["1", "1000m", "1e0"],
            ["1Gi", "1024Mi", "1073741824"],
            ["2k", "2E3", "2000"],
            ["0.5", "500m", ".5"],
            ["1.5Gi", "1536Mi", "1610612736."],
        ] {
            assert!(same.iter().all(|text| read(text) == read(same[0])), "{same:?}");
        }
        assert_eq!(read("-1") + read("+1"), Quantity::default());
        assert_eq!(read("0.0000000001"), read("1n"), "rounded up, as the API server does");
        assert!(read("100m") < read("0.2") && read("1E") < read("1Ei"));
    }

    #[test]
    fn what_is_no_quantity_is_none_and_what_is_too_large_is_as_large_as_can_be() {
        for nonsense in ["", "-", ".", "1.2.3", "Gi", "1 Gi", "1KiB", "1e", "0x10", "1,5"] {
            assert_eq!(Quantity::parse(nonsense), None, "{nonsense}");
        }
        let most = read("1e2000000000");
        assert_eq!((most, most + read("1"), most.times(7)), (most, most, most));
        assert_eq!(read(&"9".repeat(300)), most);
        assert_eq!(read("1e-2000000000"), read("1n"));
    }

    #[test]
    fn it_is_told_in_the_largest_whole_unit() {
        for (text, told) in [("3", "3"), ("1500m", "1500m"), ("2048Mi", "2Gi"), ("1000", "1000"), ("0", "0"), ("3u", "3u"), ("4n", "4n")] {
            assert_eq!(read(text).to_string(), told);
        }
    }
}
