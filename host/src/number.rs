//! JSON numbers compared by value, exactly, however they are written: `1` is `1.0`, and `1e400` is less than `1e401`.

use std::cmp::Ordering;

use serde_json::Number;

/// How two numbers compare.
pub fn compare(one: &Number, other: &Number) -> Ordering {
    compare_texts(one.as_str(), other.as_str())
}

/// The same of two texts in JSON's grammar for numbers.
pub fn compare_texts(one: &str, other: &str) -> Ordering {
    if one == other {
        return Ordering::Equal;
    }
    if let (Some(one), Some(other)) = (small_integer(one), small_integer(other)) {
        return one.cmp(&other);
    }
    let (one, other) = (Decimal::of(one), Decimal::of(other));
    match (one.sign, other.sign) {
        (1, 1) => one.compare_size(&other),
        (-1, -1) => other.compare_size(&one),
        (one, other) => one.cmp(&other),
    }
}

/// What fits; most numbers are such integers.
fn small_integer(text: &str) -> Option<i64> {
    const DIGITS_MAX: usize = 18;
    if text.len() > DIGITS_MAX {
        return None;
    }
    text.parse().ok()
}

/// `0.digits × 10^exponent`, the first digit not 0.
struct Decimal<'a> {
    /// -1, 0 or 1.
    sign: i8,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i128,
}

impl<'a> Decimal<'a> {
    fn of(text: &'a str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.trim_start_matches('0').as_bytes();
        let mut fraction = fraction.trim_end_matches('0').as_bytes();
        let mut point = i128::try_from(whole.len()).unwrap_or(i128::MAX);
        if whole.is_empty() {
            let zeros = fraction.iter().take_while(|digit| **digit == b'0').count();
            fraction = &fraction[zeros..];
            point = -i128::try_from(zeros).unwrap_or(i128::MAX);
        }
        let sign = match (whole.is_empty() && fraction.is_empty(), negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        Self { sign, whole, fraction, exponent: exponent_of(exponent).saturating_add(point) }
    }

    /// Of two numbers of one sign.
    fn compare_size(&self, other: &Self) -> Ordering {
        self.exponent.cmp(&other.exponent).then_with(|| self.compare_digits(other))
    }

    /// Missing digits are zeros.
    fn compare_digits(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = (self.digits(), other.digits());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return Ordering::Equal,
                (one, other) => match one.unwrap_or(b'0').cmp(&other.unwrap_or(b'0')) {
                    Ordering::Equal => {}
                    different => return different,
                },
            }
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied()
    }
}

/// An exponent of more than 38 digits counts as the largest there is: no two such numbers are told apart by it.
fn exponent_of(text: &str) -> i128 {
    let most = if text.starts_with('-') { i128::MIN / 2 } else { i128::MAX / 2 };
    text.parse().unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value() {
        // Each line is greater than the one before; what stands in one line is equal.
        let ordered: [&[&str]; 17] = [
            &["-1e401"],
            &["-1e400", "-10e399", "-0.1E+401"],
            &["-18446744073709551617"],
            &["-18446744073709551616", "-18446744073709551616.0"],
            &["-1.5", "-15e-1", "-1.50"],
            &["-1", "-1.0", "-1e0"],
            &["-1e-400"],
            &["0", "-0", "0.0", "0e5", "-0.000e-10", "0e99999999999999999999999999999999999999999999"],
            &["1e-400", "0.01e-398"],
            &["0.1", "1e-1", "0.10"],
            &["0.10000000000000000001"],
            &["1", "1.0", "1e0", "10e-1", "0.001e3", "1E+0"],
            &["9007199254740992"],
            &["9007199254740993", "9007199254740993.00"],
            &["18446744073709551616", "1.8446744073709551616e19"],
            &["1e400", "1E400", "1e+400"],
            &["1e999999999999999999999999999999999999999999"],
        ];
        for (i, ones) in ordered.iter().enumerate() {
            for (j, others) in ordered.iter().enumerate() {
                for (one, other) in ones.iter().flat_map(|one| others.iter().map(move |other| (one, other))) {
                    assert_eq!(compare_texts(one, other), i.cmp(&j), "{one} {other}");
                }
            }
        }
    }
}
