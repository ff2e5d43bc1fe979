//! Durations and sizes: reading them, saying what would be right, and writing them back.

use std::time::Duration;

/// Units of durations, longest first, with their milliseconds.
const DURATION_UNITS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What people write for a unit of time where they don't know ours.
const DURATION_ALIASES: &[(&str, u64)] = &[
    ("msec", 1),
    ("millis", 1),
    ("milliseconds", 1),
    ("sec", 1_000),
    ("secs", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("min", 60_000),
    ("mins", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("hr", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("w", 604_800_000),
    ("week", 604_800_000),
    ("weeks", 604_800_000),
];

/// Units of sizes, largest first.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// What people write for a unit of size; most mean powers of two.
const SIZE_ALIASES: &[(&str, u64)] =
    &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40), ("byte", 1), ("bytes", 1)];

/// A duration as `"10s"`: one whole number and one unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    strict(text, DURATION_UNITS).map(Duration::from_millis)
}

/// A size as `"64MiB"`: one whole number and one unit, in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    strict(text, SIZE_UNITS)
}

/// Our way of writing what somebody wrote in theirs: `1h 30min` is `90m`.
pub(super) fn duration_meant(text: &str) -> Option<String> {
    let millis = meant(text, DURATION_UNITS, DURATION_ALIASES)?;
    Some(show_duration(Duration::from_millis(millis)))
}

/// Our way of writing what somebody wrote in theirs: `64 mb` is `64MB`.
pub(super) fn size_meant(text: &str) -> Option<String> {
    meant(text, SIZE_UNITS, SIZE_ALIASES).map(show_size)
}

/// As in the file, in the largest unit that needs no fraction.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "s")
}

/// As in the file, in the largest unit that needs no fraction.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, SIZE_UNITS, "B")
}

fn show(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units.iter().find(|(_, worth)| amount >= *worth && amount.is_multiple_of(*worth));
    unit.map_or_else(|| format!("0{zero}"), |(name, worth)| format!("{}{name}", amount / worth))
}

fn strict(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let worth = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(worth)
}

/// Reads generously: fractions, spaces, long names, several parts that are added.
fn meant(text: &str, units: &[(&str, u64)], aliases: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let tail = tail.trim_start();
        let unit_end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let named = |list: &[(&str, u64)]| list.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|u| u.1);
        let worth = named(units).or_else(|| named(aliases))?;
        total = total.checked_add(scaled(number, worth)?)?;
        rest = tail.trim_start();
    }
    (total > 0).then_some(total)
}

/// A decimal number times the worth of its unit, if that is whole.
fn scaled(number: &str, worth: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    if fraction.is_empty() {
        return whole.checked_mul(worth);
    }
    let tens = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(worth)?;
    if !part.is_multiple_of(tens) {
        return None;
    }
    whole.checked_mul(worth)?.checked_add(part / tens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_strictly() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "10", "s", "10 s", "1.5s", "1h30m", "-1s", "10S", "99999999999999999999s", "١s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_meant_is_said_in_our_words() {
        let said = |text| duration_meant(text);
        assert_eq!(said("1h30m").as_deref(), Some("90m"));
        assert_eq!(said("1.5s").as_deref(), Some("1500ms"));
        assert_eq!(said("10 sec").as_deref(), Some("10s"));
        assert_eq!(said("2 weeks").as_deref(), Some("14d"));
        assert_eq!(said("10"), None);
        assert_eq!(said("10 parsec"), None);
        assert_eq!(size_meant("64 mib").as_deref(), Some("64MiB"));
        assert_eq!(size_meant("512M").as_deref(), Some("512MiB"));
        assert_eq!(size_meant("1.5GiB").as_deref(), Some("1536MiB"));
    }

    #[test]
    fn written_back_as_they_are_read() {
        for text in ["0s", "1ms", "90m", "36h", "2d"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Some(text));
        }
        for text in ["0B", "1B", "64KiB", "1MB", "3TiB"] {
            assert_eq!(size(text).map(show_size).as_deref(), Some(text));
        }
        assert_eq!(size("1000KB"), Some(1_000_000));
    }
}
