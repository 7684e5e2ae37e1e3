//! Points in time as people and programs write them: RFC 3339, and ages like `90s`, `15m`, `1h`, `7d`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::history::rfc3339;

const DAY: u64 = 86_400;

/// A time in whole seconds, as RFC 3339 has it: `2026-11-29T06:45:00Z`.
pub(crate) fn text(time: SystemTime) -> String {
    rfc3339(seconds(time))
}

/// Seconds since 1970, without a fraction.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that a text means: a time of RFC 3339, a date, or an age before `now`.
pub(crate) fn parse(text: &str, now: SystemTime) -> Option<SystemTime> {
    match age(text) {
        Some(age) => now.checked_sub(age),
        None => moment(text),
    }
}

/// A number with a unit.
fn age(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', DAY), ('w', 7 * DAY)];
    let (unit, factor) = units.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number: u64 = digits(text.strip_suffix(unit)?)?;
    Some(Duration::from_secs(number.checked_mul(factor)?))
}

/// `2026-11-29T06:45:00Z`, with a fraction that does not count, or with an offset like `+02:00`; `2026-11-29` is its midnight, in UTC.
fn moment(text: &str) -> Option<SystemTime> {
    let (day, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00Z"));
    let (year, month, day) = three(day, '-')?;
    let (time, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let sign = match offset.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = offset[1..].split_once(':')?;
            (time, sign * (digits(hours)? as i64 * 3600 + digits(minutes)? as i64 * 60))
        }
    };
    let (hour, minute, second) = three(time.split('.').next()?, ':')?;
    let is_one = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_one || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = (days(year, month, day) * DAY + hour * 3600 + minute * 60 + second) as i64;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(local - offset).ok()?))
}

fn three(text: &str, separator: char) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(separator).map(digits);
    let all = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(all)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    // 719 468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        for (seconds, words) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_795_934_700, "2026-11-29T06:45:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(text(time), words);
            assert_eq!(parse(words, UNIX_EPOCH), Some(time));
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood_and_ages_count_backwards() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(parse("2026-11-29T08:45:00.25+02:00", now), at(1_795_934_700));
        assert_eq!(parse("2026-11-29T01:15:00-05:30", now), at(1_795_934_700));
        assert_eq!([parse("90s", now), parse("1h", now), parse("2d", now)], [at(999_910), at(996_400), at(827_200)]);
        assert_eq!(parse("2026-11-29", now), parse("2026-11-29T00:00:00Z", now));
        for wrong in ["", "h", "-1h", "yesterday", "2026-11", "2026-13-01T00:00:00Z", "2026-11-29T24:00:00Z", "99y"] {
            assert_eq!(parse(wrong, now), None, "{wrong}");
        }
    }
}
