//! Numbers without rounding: decimals, ratios, one order of all numbers, and exact sums.
//!
//! A [`Value`] keeps every number as it was written. Equality is that of Clojure and of Erlang's `=:=`:
//! `1`, `1.0` and `1M` are three values, `1.0M` and `1.00M` are one, and so are `2/4` and `1/2`. The order
//! is that of the numbers themselves, whatever their kind, as Erlang orders them: a float is the binary
//! fraction that it holds, so `9007199254740993` is greater than `9007199254740992.0`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use num_bigint::{BigInt, Sign};
use num_rational::BigRational;

use crate::value::Value;

/// The greatest exponent of a decimal, either way. Beyond it, arithmetic would need megabytes a number.
pub const EXPONENT_MAX: i64 = 100_000;

/// A decimal number of any precision: digits times a power of ten.
#[derive(Debug, Clone)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: String,
    exponent: i32,
    /// How many zeros were written behind the digits: `1.50M` is shown as that, and equals `1.5M`.
    zero_count: u32,
}

impl Decimal {
    /// The number `coefficient` × 10^`exponent`, the coefficient being decimal digits; `None` if they are
    /// not, or if the exponent is beyond [`EXPONENT_MAX`].
    pub fn new(negative: bool, coefficient: &str, exponent: i64) -> Option<Decimal> {
        if coefficient.is_empty() || !coefficient.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = coefficient.trim_start_matches('0');
        let stripped = digits.trim_end_matches('0');
        let zero_count = u32::try_from(digits.len() - stripped.len()).ok()?;
        if exponent.abs() > EXPONENT_MAX {
            return None;
        }
        let exponent = i32::try_from(exponent + i64::from(zero_count)).ok()?;
        let negative = negative && !stripped.is_empty();
        Some(Decimal { negative, digits: stripped.to_owned(), exponent, zero_count })
    }

    /// The number that a text of digits with a point or an exponent is (`-12.50e3`).
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let shift = i64::try_from(fraction.len()).ok()?;
        if whole.is_empty() {
            return None;
        }
        Decimal::new(negative, &format!("{whole}{fraction}"), exponent.checked_sub(shift)?)
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits as written, without leading zeros.
    pub fn coefficient(&self) -> String {
        if self.digits.is_empty() {
            return "0".to_owned();
        }
        let mut digits = self.digits.clone();
        digits.extend(std::iter::repeat_n('0', self.zero_count as usize));
        digits
    }

    /// The power of ten that the coefficient is multiplied by.
    pub fn exponent(&self) -> i64 {
        i64::from(self.exponent) - i64::from(self.zero_count)
    }

    /// Digits and exponent that equal numbers share.
    fn canonical(&self) -> (bool, &str, i32) {
        let exponent = if self.digits.is_empty() { 0 } else { self.exponent };
        (self.negative, &self.digits, exponent)
    }

    /// The place of the first digit: the number is 0.d₁d₂… × 10^magnitude.
    fn magnitude(&self) -> i64 {
        i64::from(self.exponent) + self.digits.len() as i64
    }

    fn rational(&self) -> BigRational {
        let number: BigInt = self.digits.parse().unwrap_or_default();
        let number = if self.negative { -number } else { number };
        let power = BigInt::from(10u8).pow(self.exponent.unsigned_abs());
        if self.exponent < 0 {
            BigRational::new(number, power)
        } else {
            BigRational::from_integer(number * power)
        }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        let sign = |decimal: &Decimal| match (decimal.digits.is_empty(), decimal.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let by_size = || {
            let magnitudes = self.magnitude().cmp(&other.magnitude());
            magnitudes.then_with(|| self.digits.cmp(&other.digits))
        };
        match (sign(self), sign(other)) {
            (1, 1) => by_size(),
            (-1, -1) => by_size().reverse(),
            (a, b) => a.cmp(&b),
        }
    }
}

/// Plain digits where that is not much longer, else with an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ZEROS_MAX: i64 = 30;
        if self.negative {
            f.write_str("-")?;
        }
        let (digits, exponent) = (self.coefficient(), self.exponent());
        let length = digits.len() as i64;
        if exponent == 0 {
            return f.write_str(&digits);
        }
        if exponent > 0 || -exponent > length + ZEROS_MAX {
            return write!(f, "{digits}E{exponent}");
        }
        match usize::try_from(length + exponent) {
            Ok(whole @ 1..) => write!(f, "{}.{}", &digits[..whole], &digits[whole..]),
            _ => write!(f, "0.{digits:0>width$}", width = (-exponent) as usize),
        }
    }
}

/// A fraction in lowest terms that is no integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ratio(BigRational);

impl Ratio {
    /// The fraction as a value: an integer if it is one. `None` if the texts are no integers or the
    /// denominator is zero.
    pub fn value(numerator: &str, denominator: &str) -> Option<Value> {
        let (numerator, denominator): (BigInt, BigInt) =
            (numerator.parse().ok()?, denominator.parse().ok()?);
        if denominator.sign() == Sign::NoSign {
            return None;
        }
        let ratio = BigRational::new(numerator, denominator);
        Some(match ratio.is_integer() {
            true => big_int(&ratio.to_integer()),
            false => Value::Ratio(std::sync::Arc::new(Ratio(ratio))),
        })
    }

    /// Numerator and denominator, in decimal digits.
    pub fn parts(&self) -> (String, String) {
        (self.0.numer().to_string(), self.0.denom().to_string())
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.numer(), self.0.denom())
    }
}

/// The value of an integer, in its one form.
pub fn big_int(number: &BigInt) -> Value {
    match i64::try_from(number) {
        Ok(n) => Value::Int(n),
        Err(_) => Value::BigInt(std::sync::Arc::new(number.to_string())),
    }
}

/// The value of an integer in decimal digits of any length, with or without leading zeros.
pub fn integer(negative: bool, digits: &str) -> Value {
    let digits = digits.trim_start_matches('0');
    let sign = if negative && !digits.is_empty() { "-" } else { "" };
    let text = format!("{sign}{}", if digits.is_empty() { "0" } else { digits });
    match text.parse() {
        Ok(n) => Value::Int(n),
        Err(_) => Value::BigInt(std::sync::Arc::new(text)),
    }
}

/// The value of an integer in decimal digits, which may begin with a minus.
pub(crate) fn integer_of(text: &str) -> Value {
    match text.strip_prefix('-') {
        Some(digits) => integer(true, digits),
        None => integer(false, text),
    }
}

/// The value of digits with a point or an exponent: a float if that is what a float would be written
/// as, else a decimal, so that nothing is rounded. `None` if it is no number.
pub fn float_or_decimal(text: &str) -> Option<Value> {
    /// As many digits always survive the way through a float and back.
    const SAFE_DIGITS: usize = 15;
    /// Up to here every integer is a float: 2^53.
    const INTEGERS_MAX: f64 = 9_007_199_254_740_992.0;
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let float: f64 = text.parse().ok()?;
    let is_short = text.len() <= SAFE_DIGITS && !text.contains(['e', 'E']);
    if is_short {
        return Some(Value::Float(float));
    }
    let decimal = Decimal::parse(text);
    // Large floats are far from each other, and the digits of one that is written in full are meant.
    let in_full = float.abs() >= INTEGERS_MAX && !text.contains(['e', 'E']);
    let same = |decimal: &Decimal| match in_full {
        true => Exact::of(&Value::Float(float)) == Some(Exact::from(decimal.rational())),
        false => Decimal::parse(&format!("{float:e}")).as_ref() == Some(decimal),
    };
    let is_kept = float.is_finite() && decimal.as_ref().is_some_and(same);
    match decimal {
        Some(_) if is_kept => Some(Value::Float(float)),
        Some(decimal) => Some(Value::Decimal(std::sync::Arc::new(decimal))),
        None => None,
    }
}

/// The order of two numbers of any kinds; `None` if one is no number, or NaN.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Float(a), _) if a.is_infinite() => {
            b.is_number().then_some(if *a > 0.0 { Ordering::Greater } else { Ordering::Less })
        }
        (_, Value::Float(b)) if b.is_infinite() => {
            a.is_number().then_some(if *b > 0.0 { Ordering::Less } else { Ordering::Greater })
        }
        (Value::Decimal(a), Value::Decimal(b)) => Some(a.cmp(b)),
        _ => Some(Exact::of(a)?.cmp(&Exact::of(b)?)),
    }
}

/// A number of a history, compared by its size. Nil, where it is one, is less than all.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a>(&'a Value);

impl<'a> Number<'a> {
    /// The number that a value is; `None` for anything else, and for NaN, which has no size.
    pub fn new(value: &'a Value) -> Option<Number<'a>> {
        compare(value, value).map(|_| Number(value))
    }

    /// As [`Number::new`], nil being less than all numbers.
    pub fn or_nil(value: &'a Value) -> Option<Number<'a>> {
        if value.is_nil() { Some(Number(value)) } else { Number::new(value) }
    }
}

impl PartialEq for Number<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number<'_> {}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.0, other.0).unwrap_or_else(|| other.0.is_nil().cmp(&self.0.is_nil()))
    }
}

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

/// A number in exact arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exact(Repr);

/// An integer of usual size is always [`Repr::Small`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Repr {
    Small(i128),
    Big(Box<BigRational>),
}

impl Default for Exact {
    fn default() -> Exact {
        Exact(Repr::Small(0))
    }
}

impl From<i64> for Exact {
    fn from(n: i64) -> Exact {
        Exact(Repr::Small(i128::from(n)))
    }
}

impl From<i128> for Exact {
    fn from(n: i128) -> Exact {
        Exact(Repr::Small(n))
    }
}

impl From<BigRational> for Exact {
    fn from(number: BigRational) -> Exact {
        let small = number.is_integer().then(|| i128::try_from(number.numer()).ok()).flatten();
        Exact(small.map_or_else(|| Repr::Big(Box::new(number)), Repr::Small))
    }
}

impl Exact {
    /// The number that a value is, a float being the binary fraction that it holds; `None` for anything
    /// else, and for NaN and the infinities.
    pub fn of(value: &Value) -> Option<Exact> {
        Some(match value {
            Value::Int(n) => Exact::from(*n),
            Value::BigInt(digits) => match digits.parse::<i128>() {
                Ok(n) => Exact::from(n),
                Err(_) => Exact::from(BigRational::from_integer(digits.parse().ok()?)),
            },
            Value::Float(x) => Exact::from(BigRational::from_float(*x)?),
            Value::Decimal(decimal) => Exact::from(decimal.rational()),
            Value::Ratio(ratio) => Exact::from(ratio.0.clone()),
            _ => return None,
        })
    }

    /// The number that a text of decimal digits is, with or without a point or an exponent.
    pub fn parse(text: &str) -> Option<Exact> {
        match text.parse::<i128>() {
            Ok(n) => Some(Exact::from(n)),
            Err(_) => Some(Exact::from(Decimal::parse(text)?.rational())),
        }
    }

    /// As [`Exact::of`], but a float is the shortest decimal that names it: `0.1` is one tenth.
    pub fn as_written(value: &Value) -> Option<Exact> {
        match value {
            Value::Float(x) if x.is_finite() => {
                Some(Exact::from(Decimal::parse(&format!("{x:e}"))?.rational()))
            }
            value => Exact::of(value),
        }
    }

    fn rational(&self) -> BigRational {
        match &self.0 {
            Repr::Small(n) => BigRational::from_integer(BigInt::from(*n)),
            Repr::Big(number) => (**number).clone(),
        }
    }

    /// The sum.
    pub fn plus(&self, other: &Exact) -> Exact {
        if let (Repr::Small(a), Repr::Small(b)) = (&self.0, &other.0)
            && let Some(sum) = a.checked_add(*b)
        {
            return Exact::from(sum);
        }
        Exact::from(self.rational() + other.rational())
    }

    /// The number of the other sign.
    pub fn negated(&self) -> Exact {
        match &self.0 {
            Repr::Small(n) if *n != i128::MIN => Exact::from(-n),
            _ => Exact::from(-self.rational()),
        }
    }

    /// The difference.
    pub fn minus(&self, other: &Exact) -> Exact {
        self.plus(&other.negated())
    }

    /// The distance from zero.
    pub fn distance(&self) -> Exact {
        if *self < Exact::default() { self.negated() } else { self.clone() }
    }

    /// The number as an integer of usual size, if it is one.
    pub fn as_i128(&self) -> Option<i128> {
        match &self.0 {
            Repr::Small(n) => Some(*n),
            Repr::Big(_) => None,
        }
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Exact) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Exact {
    fn cmp(&self, other: &Exact) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Small(a), Repr::Small(b)) => a.cmp(b),
            _ => self.rational().cmp(&other.rational()),
        }
    }
}

/// Digits, with a point where the number is a decimal, or a ratio.
impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Small(n) => write!(f, "{n}"),
            Repr::Big(number) if number.is_integer() => write!(f, "{}", number.numer()),
            Repr::Big(number) => match decimal_of(number) {
                Some(decimal) => write!(f, "{decimal}"),
                None => write!(f, "{}/{}", number.numer(), number.denom()),
            },
        }
    }
}

/// The decimal that a fraction is, if it has one that is not long.
fn decimal_of(number: &BigRational) -> Option<Decimal> {
    const PLACES_MAX: u32 = 40;
    (1..=PLACES_MAX).find_map(|places| {
        let scaled = number * BigRational::from_integer(BigInt::from(10u8).pow(places));
        let digits = scaled.is_integer().then(|| scaled.to_integer().to_string())?;
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, digits.as_str()),
        };
        Decimal::new(negative, digits, -i64::from(places))
    })
}

/// A sum of numbers, some of which may be floats. A system that adds floats rounds, so a sum with floats
/// is known up to what rounding can have changed.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    exact: Exact,
    float_count: u32,
    /// The sizes of all floats together.
    float_size: f64,
}

impl Sum {
    /// The sum of one number; `None` for what is no finite number.
    pub fn of(value: &Value) -> Option<Sum> {
        let exact = Exact::as_written(value)?;
        let (float_count, float_size) = match value {
            Value::Float(x) => (1, x.abs()),
            _ => (0, 0.0),
        };
        Some(Sum { exact, float_count, float_size })
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Sum) {
        self.exact = self.exact.plus(&other.exact);
        self.float_count += other.float_count;
        self.float_size += other.float_size;
    }

    /// The sum of what was written, floats being the shortest decimals that name them.
    pub fn exact(&self) -> &Exact {
        &self.exact
    }

    /// The most that rounding can have changed, if every step was rounded once.
    fn noise(&self) -> f64 {
        f64::from(self.float_count) * self.float_size * f64::EPSILON
    }

    /// The order of two sums; `None` if they differ by no more than floats are rounded.
    pub fn compare(&self, other: &Sum) -> Option<Ordering> {
        let order = self.exact.cmp(&other.exact);
        let noise = self.noise() + other.noise();
        if order.is_eq() || noise == 0.0 {
            return Some(order);
        }
        let distance = self.exact.minus(&other.exact).distance();
        let noise = BigRational::from_float(noise).map(Exact::from)?;
        (distance > noise).then_some(order)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.exact, f)
    }
}

#[cfg(test)]
pub(crate) mod tests;
