//! Rates out of counts: what was counted since the look before, by the time that has passed.
//!
//! - A first look gives nothing; a look that comes too soon gives what the one before gave.
//! - A count that has gone back was either begun anew, and there is no rate until the next look, or it is 32 bits wide and
//!   has passed its end.

use std::collections::BTreeMap;

/// Two looks are at least so far apart, in nanoseconds.
const APART_MIN: u64 = 100_000_000;
/// Where a count of 32 bits begins again.
const WRAP: u64 = 1 << 32;

/// The counts of the looks before.
#[derive(Default)]
pub struct Rates(BTreeMap<String, Look>);

struct Look {
    count: u64,
    at: u64,
    rate: Option<Rate>,
    seen: bool,
}

/// What is known of a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// A second.
    Known(f64),
    /// There is one, and not this time: the count began anew.
    Unknown,
}

impl Rates {
    /// The rate of a count, by name; `None` at its first look. `now` in nanoseconds, and never goes back.
    pub fn of(&mut self, name: &str, count: u64, now: u64) -> Option<Rate> {
        let Some(look) = self.0.get_mut(name) else {
            self.0.insert(name.to_owned(), Look { count, at: now, rate: None, seen: true });
            return None;
        };
        look.seen = true;
        let passed = now.saturating_sub(look.at);
        if passed < APART_MIN {
            return look.rate;
        }
        let rate = since(look.count, count).map(|counted| counted as f64 * 1e9 / passed as f64);
        (look.count, look.at) = (count, now);
        look.rate = Some(rate.map_or(Rate::Unknown, Rate::Known));
        look.rate
    }

    /// Forgets what was not asked for since the last time: an interface that comes back begins anew.
    pub fn sweep(&mut self) {
        self.0.retain(|_, look| std::mem::take(&mut look.seen));
    }
}

/// What was counted between two looks; `None` where nobody can know.
fn since(before: u64, now: u64) -> Option<u64> {
    match now.checked_sub(before) {
        Some(counted) => Some(counted),
        // From the upper half of 32 bits to the lower one: it went on. From anywhere else it was begun anew.
        None if (WRAP / 2..WRAP).contains(&before) && now < WRAP / 2 => Some(WRAP - before + now),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_rate_is_what_was_counted_by_the_time_that_passed() {
        let mut rates = Rates::default();
        assert_eq!(rates.of("a", 1000, S), None);
        assert_eq!(rates.of("a", 1000, S), None, "too soon");
        assert_eq!(rates.of("b", 7, S), None, "each for itself");
        assert_eq!(rates.of("a", 3000, 3 * S), Some(Rate::Known(1000.0)));
        assert_eq!(rates.of("a", 9000, 3 * S + S / 20), Some(Rate::Known(1000.0)), "too soon: what was known");
        assert_eq!(rates.of("a", 3000, 4 * S), Some(Rate::Known(0.0)));
    }

    #[test]
    fn a_count_that_begins_anew_has_no_rate_once() {
        let mut rates = Rates::default();
        rates.of("a", 10_000, 0);
        assert_eq!(rates.of("a", 50, S), Some(Rate::Unknown));
        assert_eq!(rates.of("a", 150, 2 * S), Some(Rate::Known(100.0)));
        // 64 bits wide: it can not have passed its end.
        rates.of("b", 1 << 40, 0);
        assert_eq!(rates.of("b", 50, S), Some(Rate::Unknown));
    }

    #[test]
    fn a_count_of_32_bits_passes_its_end() {
        let mut rates = Rates::default();
        rates.of("a", WRAP - 100, 0);
        assert_eq!(rates.of("a", 400, S), Some(Rate::Known(500.0)));
    }

    #[test]
    fn what_goes_away_begins_anew() {
        let mut rates = Rates::default();
        rates.of("a", 1, 0);
        rates.sweep();
        rates.sweep();
        assert_eq!(rates.of("a", 100, S), None);
    }
}
