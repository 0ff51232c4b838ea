//! Checkers that look at numbers, with numbers of every kind and size, read from EDN and from JSON, against
//! fractions of 128-bit integers. Many of the numbers are equal or nearly equal although their kinds differ.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cmp::Ordering;
use std::fmt::Write;

use common::{Random, cases, check};
use fuzz_dist_core::interop::{Format, load_bytes};
use fuzz_dist_core::{History, Verdict};
use serde_json::{Value as Json, json};

/// A number as text, and the fraction that it is.
#[derive(Debug, Clone)]
struct Number {
    text: String,
    numerator: i128,
    denominator: i128,
    /// Numbers of two kinds are never equal.
    kind: u8,
}

impl Number {
    fn size(&self, other: &Number) -> Ordering {
        (self.numerator * other.denominator).cmp(&(other.numerator * self.denominator))
    }

    fn is(&self, other: &Number) -> bool {
        self.kind == other.kind && self.size(other).is_eq()
    }

    /// A fraction as an integer or a ratio of EDN.
    fn ratio(numerator: i128, denominator: i128) -> Number {
        let gcd = |mut a: i128, mut b: i128| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a.abs().max(1)
        };
        let divisor = gcd(numerator, denominator);
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        let text = match denominator {
            1 => numerator.to_string(),
            _ => format!("{numerator}/{denominator}"),
        };
        Number { text, numerator, denominator, kind: u8::from(denominator != 1) }
    }

    fn plus(&self, other: &Number) -> Number {
        let numerator = self.numerator * other.denominator + other.numerator * self.denominator;
        Number::ratio(numerator, self.denominator * other.denominator)
    }
}

const HUGE: i128 = 10_000_000_000_000_000_000_000_000;

/// A number near one of a few places.
fn number(random: &mut Random, in_json: bool, floats: bool) -> Number {
    let base = [0, 0, 1 << 53, i128::from(i64::MAX), HUGE, -HUGE][random.below(6)];
    let step = random.below(5) as i128 - 2;
    match random.below(if in_json { 3 } else { 4 }) {
        0 => Number::ratio(base + step, 1),
        1 if floats && (base == 0 || base == 1 << 53) => {
            let quarters = if base == 0 { step } else { base * 4 + step * 8 };
            let text = format!("{:?}", quarters as f64 / 4.0);
            Number { text, numerator: quarters, denominator: 4, kind: 2 }
        }
        1 | 2 => {
            // Far from zero, so that no float is written like this.
            let base = if base == 0 && in_json { HUGE } else { base };
            let thousandths = base * 1000 + step;
            let (sign, size) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
            let mark = if in_json { "" } else { "M" };
            let text = format!("{sign}{}.{:03}{mark}", size / 1000, size % 1000);
            Number { text, numerator: thousandths, denominator: 1000, kind: 3 }
        }
        _ => Number::ratio(base * 7 + step, 7),
    }
}

/// Text of a history in EDN or JSON.
struct Text {
    text: String,
    in_json: bool,
}

impl Text {
    fn new(in_json: bool) -> Text {
        Text { text: String::new(), in_json }
    }

    fn record(&mut self, op_type: &str, f: &str, value: &str) {
        let line = match self.in_json {
            false => format!("{{:process 0, :type :{op_type}, :f :{f}, :value {value}}}"),
            true => {
                let value = if value == "nil" { "null" } else { value };
                format!("{{\"process\":0,\"type\":\"{op_type}\",\"f\":\"{f}\",\"value\":{value}}}")
            }
        };
        writeln!(self.text, "{line}").unwrap();
    }

    fn done(&mut self, f: &str, argument: &str, result: &str) {
        self.record("invoke", f, argument);
        self.record("ok", f, result);
    }

    fn history(&self) -> History {
        let format = if self.in_json { Format::Json } else { Format::Edn };
        load_bytes("h", self.text.as_bytes(), Some(format)).unwrap().history
    }

    fn expect(&self, name: &str, options: Json, verdict: Verdict) {
        let result = check(name, options, &self.history());
        assert_eq!(result.verdict, verdict, "{}\n{}", result.reason, self.text);
    }
}

fn valid_if(is_valid: bool) -> Verdict {
    if is_valid { Verdict::Valid } else { Verdict::Invalid }
}

fn each(mut run: impl FnMut(&mut Random, bool)) {
    for seed in 0..cases(1500) {
        run(&mut Random(seed), seed % 3 == 0);
    }
}

fn is_sorted(numbers: &[Number], allowed: &[Ordering]) -> bool {
    numbers.windows(2).all(|pair| allowed.contains(&pair[0].size(&pair[1])))
}

/// Numbers in order, now and then with two of them exchanged.
fn nearly_sorted(random: &mut Random, in_json: bool, count: usize) -> Vec<Number> {
    let mut numbers: Vec<Number> = (0..count).map(|_| number(random, in_json, true)).collect();
    numbers.sort_by(Number::size);
    if random.chance(50) {
        let at = random.below(count - 1);
        numbers.swap(at, at + 1);
    }
    numbers
}

#[test]
fn a_priority_queue_gives_the_least_number_first() {
    each(|random, in_json| {
        let count = 2 + random.below(4);
        let out = nearly_sorted(random, in_json, count);
        let mut text = Text::new(in_json);
        let mut put: Vec<&Number> = out.iter().collect();
        while !put.is_empty() {
            let element = put.swap_remove(random.below(put.len()));
            text.done("insert", &element.text, &element.text);
        }
        out.iter().for_each(|element| text.done("delete-min", "nil", &element.text));
        let sorted = is_sorted(&out, &[Ordering::Less, Ordering::Equal]);
        text.expect("linearizable", json!({"model": "priority-queue"}), valid_if(sorted));
    });
}

#[test]
fn what_only_grows_never_gets_smaller() {
    each(|random, in_json| {
        let count = 2 + random.below(4);
        let seen = nearly_sorted(random, in_json, count);
        let mut text = Text::new(in_json);
        seen.iter().for_each(|number| text.done("read", "nil", &number.text));
        let sorted = is_sorted(&seen, &[Ordering::Less, Ordering::Equal]);
        text.expect("monotonic", json!({}), valid_if(sorted));
    });
}

#[test]
fn fencing_tokens_increase() {
    each(|random, in_json| {
        let count = 2 + random.below(4);
        let mut tokens = nearly_sorted(random, in_json, count);
        tokens.retain(|token| token.numerator != 0);
        let mut text = Text::new(in_json);
        for token in &tokens {
            text.done("acquire", "nil", &token.text);
            text.done("release", "nil", "nil");
        }
        if tokens.is_empty() {
            return;
        }
        let sorted = is_sorted(&tokens, &[Ordering::Less]);
        text.expect("lock", json!({}), valid_if(sorted));
    });
}

#[test]
fn the_greatest_number_wins() {
    each(|random, in_json| {
        let mut written: Vec<Number> = Vec::new();
        for _ in 0..2 + random.below(3) {
            let number = number(random, in_json, true);
            if !written.iter().any(|other| other.is(&number)) {
                written.push(number);
            }
        }
        let mut text = Text::new(in_json);
        written.iter().for_each(|number| text.done("write", &number.text, &number.text));
        let read = &written[random.below(written.len())];
        text.done("read", "nil", &read.text);
        let wins = written.iter().all(|other| other.size(read).is_le());
        let result = check("causal", json!({"crdt": "max-write-wins"}), &text.history());
        // Without final reads, convergence stays open.
        let is_invalid = result.verdict == Verdict::Invalid;
        assert_eq!(is_invalid, !wins, "{}\n{}", result.reason, text.text);
    });
}

#[test]
fn identifiers_differ_if_their_digits_do() {
    each(|random, in_json| {
        let count = 2 + random.below(3);
        let ids: Vec<Number> = (0..count).map(|_| number(random, in_json, true)).collect();
        let mut text = Text::new(in_json);
        ids.iter().for_each(|id| text.done("generate", "nil", &id.text));
        let twice = (0..count).any(|i| ids[..i].iter().any(|other| other.is(&ids[i])));
        text.expect("unique-ids", json!({}), valid_if(!twice));
    });
}

#[test]
fn no_element_stands_for_its_neighbour() {
    each(|random, in_json| {
        let added: Vec<Number> =
            (0..1 + random.below(3)).map(|_| number(random, in_json, true)).collect();
        let mut read = added.clone();
        if random.chance(50) {
            let place = random.below(read.len());
            read[place] = number(random, in_json, true);
        }
        let mut text = Text::new(in_json);
        added.iter().for_each(|number| text.done("add", &number.text, &number.text));
        let separator = if in_json { "," } else { " " };
        let texts: Vec<&str> = read.iter().map(|number| number.text.as_str()).collect();
        text.done("read", "nil", &format!("[{}]", texts.join(separator)));
        let within = |a: &[Number], b: &[Number]| a.iter().all(|n| b.iter().any(|m| n.is(m)));
        let same = within(&added, &read) && within(&read, &added);
        text.expect("set", json!({}), valid_if(same));
    });
}

#[test]
fn a_register_returns_what_was_written() {
    each(|random, in_json| {
        let (a, b) = (number(random, in_json, true), number(random, in_json, true));
        let mut text = Text::new(in_json);
        text.done("write", &a.text, &a.text);
        text.done("read", "nil", &b.text);
        text.expect("linearizable", json!({"model": "register"}), valid_if(a.is(&b)));
    });
}

#[test]
fn a_counter_is_the_sum_of_what_was_added() {
    each(|random, _| {
        let mut text = Text::new(false);
        let mut sum = Number::ratio(1, 1);
        text.done("add", "1", "1");
        for _ in 0..1 + random.below(3) {
            let number = number(random, false, false);
            if number.numerator >= 0 {
                text.done("add", &number.text, &number.text);
                sum = sum.plus(&number);
            }
        }
        let off = random.below(3) as i128 - 1;
        let read = sum.plus(&Number::ratio(off, 1000));
        text.done("read", "nil", &read.text);
        text.expect("counter", json!({}), valid_if(off == 0));
    });
}

#[test]
fn a_bank_keeps_its_total() {
    each(|random, _| {
        let (a, b) = (number(random, false, false), number(random, false, false));
        let moved = number(random, false, false);
        let off = random.below(3) as i128 - 1;
        let more = a.plus(&moved);
        let less = b.plus(&Number::ratio(-moved.numerator, moved.denominator));
        let less = less.plus(&Number::ratio(off, 1000));
        let mut text = Text::new(false);
        text.done("read", "nil", &format!("{{0 {}, 1 {}}}", a.text, b.text));
        text.done("read", "nil", &format!("{{0 {}, 1 {}}}", more.text, less.text));
        text.expect("bank", json!({"negative-balances": true}), valid_if(off == 0));
    });
}

#[test]
fn the_rounding_of_floats_is_no_verdict() {
    let counter = |read: &str| {
        let mut text = Text::new(false);
        text.done("add", "0.1", "0.1");
        text.done("add", "0.2", "0.2");
        text.done("read", "nil", read);
        check("counter", json!({}), &text.history()).verdict
    };
    assert_eq!(counter("0.3"), Verdict::Valid);
    assert_eq!(counter("0.30000000000000004"), Verdict::Unknown);
    assert_eq!(counter("0.31"), Verdict::Invalid);
    assert_eq!(counter("##NaN"), Verdict::Unknown);
}

#[test]
fn priorities_without_an_order_are_not_judged() {
    for elements in [["1", "\"a\""], ["nil", "1"], ["##NaN", "1"], ["[[1 2] :a]", "[[2 1] :b]"]] {
        let mut text = Text::new(false);
        elements.iter().for_each(|element| text.done("insert", element, element));
        elements.iter().for_each(|element| text.done("delete-min", "nil", element));
        text.expect("linearizable", json!({"model": "priority-queue"}), Verdict::Unknown);
    }
}
