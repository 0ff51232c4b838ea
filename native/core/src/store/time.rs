//! UTC times in ISO 8601's basic format with milliseconds: `20261120T115401.123Z`.
//!
//! Days from and to the calendar by Howard Hinnant's algorithms (chrono-compatible low-level date
//! algorithms), valid for every year of four digits.

/// The time of `wall_ns` nanoseconds since 1970. Years outside 1970 to 9999 are clamped.
pub fn format_utc_basic(wall_ns: i64) -> String {
    let ms = wall_ns.max(0) / 1_000_000;
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (s, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{ms:03}Z")
}

/// Nanoseconds since 1970 of such a time; `None` for any other text.
pub fn parse_utc_basic(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 20 && bytes[8] == b'T' && bytes[15] == b'.' && bytes[19] == b'Z';
    if !shape {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0i64, |n, digit| n * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let ms = number(16, 19)?;
    let days = days_since_1970(year, month, day);
    let valid = civil(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    let total_ms = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms;
    valid.then(|| total_ms.checked_mul(1_000_000)).flatten()
}

fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        // `date -u -d 2026-11-20T11:54:01.123Z +%s%N`
        assert_eq!(format_utc_basic(1_795_175_641_123_456_789), "20261120T115401.123Z");
        assert_eq!(format_utc_basic(0), "19700101T000000.000Z");
        // A leap day, and a century that has one.
        assert_eq!(format_utc_basic(951_782_400_000_000_000), "20000229T000000.000Z");
        assert_eq!(parse_utc_basic("20261120T115401.123Z"), Some(1_795_175_641_123_000_000));
    }

    #[test]
    fn every_day_survives() {
        for day in 0..60_000i64 {
            let ns = (day * 86_400_000 + day % 86_400_000) * 1_000_000;
            assert_eq!(parse_utc_basic(&format_utc_basic(ns)), Some(ns), "day {day}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in
            ["", "latest", "20261320T115401.123Z", "20260230T115401.123Z", "2026112xT115401.123Z"]
        {
            assert_eq!(parse_utc_basic(text), None, "{text}");
        }
    }
}
