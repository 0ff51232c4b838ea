//! Numbers of EDN that are not plain small integers. None is rounded: what no float holds is a decimal.

use std::sync::Arc;

use crate::number::{self, Decimal, Ratio};
use crate::value::Value;

/// The most digits of what has to be turned into binary, which takes quadratic time: ratios and integers
/// that are not decimal. Decimal integers have no such limit.
const DIGITS_MAX: usize = 4096;

/// The number that a token is: integers with sign, `N`, `0x`, octal or radix, floats with exponent, decimals
/// with `M`, and ratios.
pub(super) fn parse(token: &str) -> Option<Value> {
    let (negative, digits) = match token.as_bytes().first()? {
        b'-' => (true, &token[1..]),
        b'+' => (false, &token[1..]),
        _ => (false, token),
    };
    if let Some(value) = integer(negative, digits) {
        return Some(value);
    }
    if let Some((numerator, denominator)) = digits.split_once('/') {
        return ratio(negative, numerator, denominator);
    }
    let plain = |digits: &str| {
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
    };
    if let Some(digits) = digits.strip_suffix('M') {
        let decimal =
            plain(digits).then(|| Decimal::parse(token.trim_end_matches('M'))).flatten()?;
        return Some(Value::Decimal(Arc::new(decimal)));
    }
    let is_float = plain(digits) && digits.contains(['.', 'e', 'E']);
    is_float.then(|| number::float_or_decimal(token)).flatten()
}

fn integer(negative: bool, digits: &str) -> Option<Value> {
    let digits = digits.strip_suffix('N').unwrap_or(digits);
    let (radix, digits) =
        if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            (16, hex)
        } else if let Some((radix, digits)) = digits.split_once(['r', 'R']) {
            let radix: u32 = radix.parse().ok()?;
            ((2..=36).contains(&radix).then_some(radix)?, digits)
        } else if digits.len() > 1 && digits.starts_with('0') {
            (8, &digits[1..])
        } else {
            (10, digits)
        };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    if radix == 10 {
        return Some(number::integer(negative, digits));
    }
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let magnitude = num_bigint::BigUint::parse_bytes(digits.as_bytes(), radix)?;
    let sign = if negative { num_bigint::Sign::Minus } else { num_bigint::Sign::Plus };
    Some(number::big_int(&num_bigint::BigInt::from_biguint(sign, magnitude)))
}

fn ratio(negative: bool, numerator: &str, denominator: &str) -> Option<Value> {
    let natural = |digits: &str| {
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !natural(numerator) || !natural(denominator) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    Ratio::value(&format!("{sign}{numerator}"), denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind() {
        for (token, expected) in [
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "9223372036854775808N"),
            ("-123456789012345678901234567890N", "-123456789012345678901234567890N"),
            ("7N", "7"),
            ("-0x1F", "-31"),
            ("017", "15"),
            ("2r101", "5"),
            ("1.5", "1.5"),
            ("-1.5e3", "-1500.0"),
            ("1E-2", "0.01"),
            ("2.50M", "2.50M"),
            ("-3M", "-3M"),
            ("1e-3M", "0.001M"),
            ("5E+40M", "5E40M"),
            ("-1/4", "-1/4"),
            ("6/4", "3/2"),
            ("4/2", "2"),
            ("0.30000000000000001", "0.30000000000000001M"),
            ("1e400", "1E400M"),
            ("1.7976931348623157E308", "1.7976931348623157e308"),
        ] {
            let value = parse(token).unwrap_or_else(|| panic!("{token}"));
            assert_eq!(value.to_string(), expected, "{token}");
        }
        let long = "7".repeat(100_000);
        assert_eq!(parse(&long).map(|value| value.to_string()), Some(format!("{long}N")));
    }

    #[test]
    fn what_is_no_number() {
        for token in [
            "1a",
            "0x",
            "08",
            "1/0",
            "1/-2",
            "37r1",
            "1.2.3",
            "1e",
            "--1",
            "N",
            "+",
            "0xN",
            "1NM",
            "1MM",
            "1/",
            "1e999999999M",
        ] {
            assert_eq!(parse(token), None, "{token}");
        }
    }
}
