//! When records were taken, by their numbers: for how old the oldest is that waits.
//!
//! ```text
//!   level 0: each of the last 32 records    level 1: every second one of the last 64    level 2: every fourth ...
//! ```
//!
//! Owns these marks, in memory alone. Invariant: what is known of a record is off by a fifteenth of the records since it at
//! the most, and some kilobytes are enough for all.

use std::collections::VecDeque;

/// Marks of a level.
const MARKS: usize = 32;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    levels: Vec<VecDeque<(u64, i64)>>,
    count: u64,
}

impl Times {
    /// A record whose first message has this number; numbers grow.
    pub(super) fn add(&mut self, number: u64, time_ns: i64) {
        self.count = self.count.saturating_add(1);
        for level in 0..=self.count.trailing_zeros() as usize {
            if self.levels.len() <= level {
                self.levels.push(VecDeque::with_capacity(MARKS));
            }
            let Some(marks) = self.levels.get_mut(level) else { return };
            if marks.len() >= MARKS {
                marks.pop_front();
            }
            marks.push_back((number, time_ns));
        }
    }

    /// The time of the record that this number is in, or of one shortly before; `None`: nothing is known of it.
    pub(super) fn of(&self, number: u64) -> Option<i64> {
        let last = |marks: &VecDeque<(u64, i64)>| {
            let behind = marks.partition_point(|(first, _)| *first <= number);
            marks.get(behind.checked_sub(1)?).copied()
        };
        self.levels.iter().filter_map(last).max_by_key(|(first, _)| *first).map(|(_, time_ns)| time_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_off_by_a_fifteenth_of_what_came_since() {
        const ALL: u64 = 100_000;
        let mut times = Times::default();
        assert_eq!(times.of(1), None);
        for record in 0..ALL {
            times.add(10 + 3 * record, record as i64);
        }
        assert_eq!(times.of(9), None, "before the first");
        for record in (ALL / 2..ALL).chain([ALL - 1]) {
            let since = ALL - record;
            for number in [10 + 3 * record, 12 + 3 * record] {
                let known = times.of(number).expect("a mark") as u64;
                assert!(known <= record && record - known <= since / 15, "{record}: {known}, {since} since");
            }
        }
        assert!(times.levels.len() <= 17);
    }
}
