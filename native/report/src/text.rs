//! Text that is safe where it is put: HTML, scripts, XML, terminals; and numbers for people.
//!
//! Values in histories come from systems under test and are hostile until escaped.

use std::fmt::Write;

pub(crate) use fuzz_dist_core::clip;

/// For element content and quoted attributes of HTML, SVG and XML 1.0, which has no place for most control
/// characters, not even escaped.
pub(crate) fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c < ' ' || matches!(c, '\u{FFFE}' | '\u{FFFF}') => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON that may stand inside `<script>`: nothing in it can end the element or open a comment.
pub(crate) fn script_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            // Outside strings JSON has none of these, so replacing them everywhere is exact.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(safe, "\\u{:04x}", c as u32);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// One line for a terminal, harmless, cut to a width.
pub(crate) use fuzz_dist_core::text::line;

/// Seconds with milliseconds: `12.345`.
pub(crate) fn seconds(ns: u64) -> String {
    let ms = ns.saturating_add(500_000) / 1_000_000;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// An integer with separators: `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency in milliseconds with a sensible number of digits and its unit.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => format!("{:.0} µs", ms * 1000.0),
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

/// How far a clock is off, with its sign: `+3600.000 s`, `-12.3 ms`.
pub(crate) fn signed_milliseconds(ns: i64) -> String {
    let ms = ns as f64 / 1e6;
    match ms.abs() {
        ..0.05 => "0.0 ms".to_owned(),
        ..1000.0 => format!("{ms:+.1} ms"),
        _ => format!("{:+.3} s", ms / 1000.0),
    }
}

/// `2026-11-20T11:54:01Z` (after Howard Hinnant's `civil_from_days`).
pub(crate) fn utc(wall_ns: i64) -> String {
    let seconds = wall_ns.div_euclid(1_000_000_000);
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::fmt::{self, Display};

    use super::*;
    use fuzz_dist_core::Value;

    #[test]
    fn a_clip_stops_formatting() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("ab")?;
                }
            }
        }
        assert_eq!(clip(&Endless, 3), "aba…");
        assert_eq!(clip(&Value::Int(12), 2), "12");
    }

    #[test]
    fn nothing_leaves_its_place() {
        let hostile = "</script><img src=x onerror='alert(1)'>&\"";
        assert!(!markup(hostile).contains(['<', '>', '\'', '"']));
        let json = serde_json::to_string(hostile).unwrap();
        let safe = script_safe(&json);
        assert!(!safe.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), hostile);
        assert_eq!(markup("a\u{1b}[1m\u{0}<"), "a\u{FFFD}[1m\u{FFFD}&lt;");
        assert_eq!(line("a\u{1b}[31mb\nc", 100), "a·[31mb·c");
        assert_eq!(line("abcdef", 4), "abc…");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(100), "100");
        assert_eq!(seconds(12_345_600_000), "12.346");
        assert_eq!(milliseconds(0.05), "50 µs");
        assert_eq!(milliseconds(1500.0), "1.50 s");
        assert_eq!(signed_milliseconds(-12_340_000), "-12.3 ms");
        assert_eq!(signed_milliseconds(3_600_000_000_000), "+3600.000 s");
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_795_175_641_000_000_000), "2026-11-20T11:54:01Z");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
    }
}
