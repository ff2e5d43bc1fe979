//! A set of numbers as sorted ranges that don't touch.
//!
//! Owns the ranges of settled numbers above the low-water mark. Invariant: `start < end`, and between two ranges at
//! least one number is missing.

use std::collections::BTreeMap;

/// Numbers, as half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.ends.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// The end of the range that holds `number`.
    pub(crate) fn end_of(&self, number: u64) -> Option<u64> {
        self.ends.range(..=number).next_back().map(|(_, end)| *end).filter(|end| number < *end)
    }

    /// Puts `from..to` in; gives how many numbers were new.
    pub(crate) fn insert(&mut self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let (mut start, mut end, mut known) = (from, to, 0);
        let touching: Vec<(u64, u64)> =
            self.ends.range(..=to).rev().take_while(|(_, e)| **e >= from).map(|(s, e)| (*s, *e)).collect();
        for (s, e) in touching {
            self.ends.remove(&s);
            known += e.min(to).saturating_sub(s.max(from));
            start = start.min(s);
            end = end.max(e);
        }
        self.ends.insert(start, end);
        to - from - known
    }

    /// Takes the lowest range out if it starts at `mark` or below; gives its end.
    pub(crate) fn pop_at(&mut self, mark: u64) -> Option<u64> {
        let (start, end) = self.ends.first_key_value().map(|(s, e)| (*s, *e))?;
        if start > mark {
            return None;
        }
        self.ends.remove(&start);
        Some(end)
    }

    /// The end of the highest range.
    pub(crate) fn last_end(&self) -> Option<u64> {
        self.ends.last_key_value().map(|(_, end)| *end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ends.iter().map(|(s, e)| (*s, *e))
    }

    /// How many numbers of `from..to` are in.
    pub(crate) fn count_in(&self, from: u64, to: u64) -> u64 {
        if self.ends.is_empty() {
            return 0;
        }
        self.clipped(from, to).map(|(s, e)| e - s).sum()
    }

    /// The parts of `from..to` that are not in.
    pub(crate) fn missing_in(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut at = from;
        for (s, e) in self.clipped(from, to) {
            if s > at {
                missing.push((at, s));
            }
            at = e;
        }
        if at < to {
            missing.push((at, to));
        }
        missing
    }

    fn clipped(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.ends.range(..from).next_back().filter(|(_, e)| **e > from).map(|(_, e)| (from, *e));
        let from_there = if from < to { Some(self.ends.range(from..to)) } else { None };
        before
            .into_iter()
            .chain(from_there.into_iter().flatten().map(|(s, e)| (*s, *e)))
            .map(move |(s, e)| (s, e.min(to)))
            .filter(|(s, e)| s < e)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}
