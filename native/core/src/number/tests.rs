//! Numbers of all kinds against exact fractions.

use proptest::prelude::*;

use super::*;
use crate::interop::{edn_of_value, parse_edn_value};

/// What a text of a number means, worked out another way: digits times a power of ten, or a fraction.
fn oracle(value: &Value) -> BigRational {
    let ten = |power: i64| {
        let power = BigInt::from(10u8).pow(u32::try_from(power).unwrap());
        BigRational::from_integer(power)
    };
    match value {
        Value::Int(n) => BigRational::from_integer(BigInt::from(*n)),
        Value::BigInt(digits) => BigRational::from_integer(digits.parse().unwrap()),
        Value::Float(x) => BigRational::from_float(*x).unwrap(),
        Value::Ratio(ratio) => {
            let (numerator, denominator) = ratio.parts();
            BigRational::new(numerator.parse().unwrap(), denominator.parse().unwrap())
        }
        Value::Decimal(decimal) => {
            let number: BigInt = decimal.coefficient().parse().unwrap();
            let number = BigRational::from_integer(number);
            let number = if decimal.is_negative() { -number } else { number };
            match decimal.exponent() {
                exponent @ 0.. => number * ten(exponent),
                exponent => number / ten(-exponent),
            }
        }
        other => panic!("{other} is no number"),
    }
}

/// Numbers of all kinds, many of them close to each other.
pub(crate) fn number() -> BoxedStrategy<Value> {
    let text = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-3i64..4).prop_map(|n| n.to_string()),
        "-?[1-9][0-9]{15,40}",
        (-3i64..4, 0u32..3, -3i64..4)
            .prop_map(|(n, zeros, e)| { format!("{n}.{}E{e}M", "0".repeat(zeros as usize + 1)) }),
        "-?[0-9]{1,25}\\.[0-9]{1,25}M",
        "-?[1-9][0-9]{0,18}\\.[0-9]{1,20}",
        "-?[1-9]e-?[0-9]{1,3}",
        "-?[1-9][0-9]{0,25}/[1-9][0-9]{0,25}",
        Just("9007199254740992.0".to_owned()),
        Just("9007199254740993".to_owned()),
        Just("-0.0".to_owned()),
        Just("0M".to_owned()),
        Just("0.00M".to_owned()),
    ];
    let float = any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Float);
    let small = (-8i32..8).prop_map(|n| Value::Float(f64::from(n) / 4.0));
    prop_oneof![6 => text.prop_map(|text| parse_edn_value(&text).unwrap()), 1 => float, 1 => small]
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_order_is_that_of_fractions(a in number(), b in number(), c in number()) {
        let expected = oracle(&a).cmp(&oracle(&b));
        prop_assert_eq!(compare(&a, &b), Some(expected), "{} {}", a, b);
        prop_assert_eq!(Exact::of(&a).unwrap().cmp(&Exact::of(&b).unwrap()), expected);
        // Equality is finer, and the order of values agrees with it.
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        if a.cmp(&b).is_le() && b.cmp(&c).is_le() {
            prop_assert!(a.cmp(&c).is_le());
        }
        if a == b {
            let hash = |value: &Value| {
                use std::hash::{BuildHasher, RandomState};
                thread_local!(static STATE: RandomState = RandomState::new());
                STATE.with(|state| state.hash_one(value))
            };
            prop_assert_eq!(hash(&a), hash(&b));
            prop_assert_eq!(expected, Ordering::Equal);
        }
    }

    #[test]
    fn numbers_survive_text(a in number()) {
        let again = parse_edn_value(&edn_of_value(&a)).unwrap();
        prop_assert_eq!(&again, &a);
        prop_assert_eq!(edn_of_value(&again), edn_of_value(&a));
        prop_assert_eq!(oracle(&again), oracle(&a));
    }

    #[test]
    fn numbers_survive_the_beam(a in number()) {
        let mut bytes = Vec::new();
        crate::etf::encode(&a, &mut bytes);
        let again = crate::etf::decode(&bytes, &crate::etf::Limits::default()).unwrap();
        if let Value::Ratio(_) = a {
            // The BEAM has none.
            let is_named = again.items().is_some_and(|items| items[0] == Value::sym("ratio"));
            prop_assert!(is_named);
        } else {
            prop_assert_eq!(&again, &a);
            prop_assert_eq!(again.to_string(), a.to_string());
        }
    }

    #[test]
    fn numbers_with_a_point_are_never_rounded(text in "-?(0|[1-9][0-9]{0,24})\\.[0-9]{1,25}(e-?[0-9]{1,2})?") {
        let value = float_or_decimal(&text).unwrap();
        let exact = Exact::as_written(&value).unwrap();
        let decimal = Value::Decimal(Decimal::parse(&text).unwrap().into());
        prop_assert_eq!(exact, Exact::of(&decimal).unwrap(), "{}", text);
    }

    #[test]
    fn sums_are_exact(numbers in proptest::collection::vec(number(), 0..6)) {
        let numbers: Vec<Value> =
            numbers.into_iter().filter(|n| !matches!(n, Value::Float(_))).collect();
        let mut sum = Sum::default();
        let mut expected = BigRational::default();
        for number in &numbers {
            sum.add(&Sum::of(number).unwrap());
            expected += oracle(number);
        }
        prop_assert_eq!(sum.exact(), &Exact::from(expected.clone()));
        prop_assert_eq!(sum.compare(&Sum::default()), Some(expected.cmp(&BigRational::default())));
        let back = sum.exact().negated().plus(sum.exact());
        prop_assert_eq!(back, Exact::default());
    }

    #[test]
    fn sums_of_floats_are_never_told_apart_by_rounding(
        numbers in proptest::collection::vec((-1000i32..1000, 1u32..1000), 1..30),
        order in any::<u64>(),
    ) {
        let floats: Vec<f64> =
            numbers.iter().map(|&(n, d)| f64::from(n) / f64::from(d)).collect();
        let mut sum = Sum::default();
        floats.iter().for_each(|x| sum.add(&Sum::of(&Value::Float(*x)).unwrap()));
        // What a system that adds them in another order has.
        let mut shuffled = floats.clone();
        let turn = (order as usize) % shuffled.len();
        shuffled.rotate_left(turn);
        let system = Sum::of(&Value::Float(shuffled.iter().sum())).unwrap();
        prop_assert!(sum.compare(&system).is_none_or(Ordering::is_eq));
    }
}

#[test]
fn sums_of_floats_differ_by_more_than_rounding() {
    let sum = |numbers: &[f64]| {
        let mut sum = Sum::default();
        numbers.iter().for_each(|x| sum.add(&Sum::of(&Value::Float(*x)).unwrap()));
        sum
    };
    assert_eq!(sum(&[0.1, 0.2]).compare(&sum(&[0.3])), Some(Ordering::Equal));
    assert_eq!(sum(&[0.1, 0.2]).compare(&sum(&[0.30000000000000004])), None);
    assert_eq!(sum(&[0.1, 0.2]).compare(&sum(&[0.300001])), Some(Ordering::Less));
    assert!(Sum::of(&Value::Float(f64::NAN)).is_none());
}

#[test]
fn kinds_are_different_values_and_zeros_at_the_end_are_not() {
    let value = |text: &str| parse_edn_value(text).unwrap();
    for (a, b) in
        [("1.0M", "1.00M"), ("10M", "1E1M"), ("2/4", "1/2"), ("0.0", "-0.0"), ("0M", "-0.0M")]
    {
        assert_eq!(value(a), value(b));
    }
    for (a, b) in [("1", "1.0"), ("1", "1M"), ("1.0", "1.0M"), ("1/2", "0.5"), ("1/2", "0.5M")] {
        assert_ne!(value(a), value(b));
        assert_eq!(compare(&value(a), &value(b)), Some(Ordering::Equal));
    }
    assert_eq!(compare(&value("##NaN"), &value("1")), None);
    assert_eq!(compare(&value("##Inf"), &value("1e400")), Some(Ordering::Greater));
    assert_eq!(value("##NaN"), value("##NaN"));
    assert_eq!(compare(&value("\"1\""), &value("1")), None);
}
