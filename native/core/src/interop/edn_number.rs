//! Numbers of EDN that are not plain small integers.

use std::sync::Arc;

use crate::value::Value;

/// No number of a history has more digits; turning them into binary takes quadratic time.
const DIGITS_MAX: usize = 4096;

/// The number that a token is, and whether it was a ratio (which becomes a float): integers with sign,
/// `N`, `0x`, octal or radix, floats with exponent or `M`, and ratios.
pub(super) fn parse(token: &str) -> Option<(Value, bool)> {
    if token.len() > DIGITS_MAX {
        return None;
    }
    let (negative, digits) = match token.as_bytes().first()? {
        b'-' => (true, &token[1..]),
        b'+' => (false, &token[1..]),
        _ => (false, token),
    };
    if let Some(value) = integer(negative, digits) {
        return Some((value, false));
    }
    if let Some((numerator, denominator)) = digits.split_once('/') {
        return ratio(negative, numerator, denominator).map(|value| (value, true));
    }
    let is_float = digits.ends_with('M') || digits.contains(['.', 'e', 'E']);
    let digits = digits.strip_suffix('M').unwrap_or(digits);
    let plain = is_float
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let magnitude: f64 = plain.then(|| digits.parse().ok()).flatten()?;
    Some((Value::Float(if negative { -magnitude } else { magnitude }), false))
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
    let magnitude = num_bigint::BigUint::parse_bytes(digits.as_bytes(), radix)?;
    let sign = if negative { num_bigint::Sign::Minus } else { num_bigint::Sign::Plus };
    let number = num_bigint::BigInt::from_biguint(sign, magnitude);
    Some(match i64::try_from(&number) {
        Ok(n) => Value::Int(n),
        Err(_) => Value::BigInt(Arc::new(number.to_string())),
    })
}

fn ratio(negative: bool, numerator: &str, denominator: &str) -> Option<Value> {
    let natural = |digits: &str| -> Option<f64> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (numerator, denominator) = (natural(numerator)?, natural(denominator)?);
    let quotient = numerator / denominator;
    let valid = denominator != 0.0 && quotient.is_finite();
    valid.then_some(Value::Float(if negative { -quotient } else { quotient }))
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
            ("2.50M", "2.5"),
            ("3M", "3.0"),
        ] {
            let (value, is_ratio) = parse(token).unwrap_or_else(|| panic!("{token}"));
            assert_eq!(value.to_string(), expected, "{token}");
            assert!(!is_ratio);
        }
        assert_eq!(parse("-1/4"), Some((Value::Float(-0.25), true)));
    }

    #[test]
    fn what_is_no_number() {
        for token in
            ["1a", "0x", "08", "1/0", "1/-2", "37r1", "1.2.3", "1e", "--1", "N", "+", "0xN"]
        {
            assert_eq!(parse(token), None, "{token}");
        }
    }
}
