//! Time stamps at the beginning of log lines.
//!
//! `2026-11-21T13:22:01.123456+00:00` and with a space, as Erlang's logger and RabbitMQ write them, with
//! an offset, `Z` or nothing; and `=CRASH REPORT==== 21-Nov-2026::13:22:01.123456 ===`. Nothing is taken for
//! UTC. A time of day alone is no time stamp, since it does not say which day.

use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

/// How much of a line is looked at.
const PREFIX_BYTES: usize = 96;

#[expect(clippy::expect_used, reason = "the pattern is a constant, and the tests compile it")]
static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x-u)
        ^(?:.{0,24}?[\s=\[])??
        (?:(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[T\ ]
          |(?<sasl_day>\d{1,2})-(?<name>[A-Z][a-z]{2})-(?<sasl_year>\d{4})::)
        (?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)(?:[.,](?<fraction>\d{1,9}))?
        (?:(?<sign>[+-])(?<off_hour>\d\d):?(?<off_minute>\d\d))?",
    )
    .expect("a valid pattern")
});

/// Nanoseconds since 1970 of the stamp that the line begins with.
pub(super) fn wall_ns(line: &[u8]) -> Option<i64> {
    let prefix = &line[..line.len().min(PREFIX_BYTES)];
    // Most lines of a stack trace have none, and this is quicker than the pattern.
    if !prefix.iter().take(48).any(u8::is_ascii_digit) {
        return None;
    }
    let found = STAMP.captures(prefix)?;
    let (year, month, day) = match number(&found, "year") {
        Some(year) => (year, number(&found, "month")?, number(&found, "day")?),
        None => {
            (number(&found, "sasl_year")?, month_of(&found["name"])?, number(&found, "sasl_day")?)
        }
    };
    let (hour, minute, second) =
        (number(&found, "hour")?, number(&found, "minute")?, number(&found, "second")?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let offset_s = match found.name("sign") {
        None => 0,
        Some(sign) => {
            let offset = number(&found, "off_hour")? * 3600 + number(&found, "off_minute")? * 60;
            if sign.as_bytes() == b"-" { -offset } else { offset }
        }
    };
    let fraction = found.name("fraction").map_or(&b""[..], |digits| digits.as_bytes());
    let nanos = (0..9).fold(0, |n, i| n * 10 + fraction.get(i).map_or(0, |d| i64::from(d - b'0')));
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

fn number(found: &Captures, name: &str) -> Option<i64> {
    std::str::from_utf8(found.name(name)?.as_bytes()).ok()?.parse().ok()
}

fn month_of(name: &[u8]) -> Option<i64> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    MONTHS.chunks(3).position(|month| month == name).map(|place| place as i64 + 1)
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_as_date_does() {
        let ms = |line: &str| wall_ns(line.as_bytes()).map(|ns| ns / 1_000_000);
        // date -u -d 2026-11-21T13:22:01 +%s
        assert_eq!(ms("2026-11-21T13:22:01.500000+00:00 error: x"), Some(1_795_267_321_500));
        assert_eq!(ms("2026-11-21 13:22:01.5 [error] <0.1.0> x"), Some(1_795_267_321_500));
        assert_eq!(ms("2026-11-21T14:22:01+01:00 x"), Some(1_795_267_321_000));
        assert_eq!(ms("2026-11-21T08:52:01-0430"), Some(1_795_267_321_000));
        assert_eq!(
            ms("=CRASH REPORT==== 21-Nov-2026::13:22:01.250000 ==="),
            Some(1_795_267_321_250)
        );
        assert_eq!(ms("[2026-11-21 13:22:01,001] x"), Some(1_795_267_321_001));
        assert_eq!(ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(ms("1970-01-01T00:00:00Z"), Some(0));
        for none in ["13:22:01.123 [error] x", "", "a 12-Foo-2026::01:02:03", "2026-13-01T00:00:00"]
        {
            assert_eq!(ms(none), None, "{none}");
        }
    }
}
