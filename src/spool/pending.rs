//! What is appended and not durable yet, in number order: in the page cache, or in memory alone.
//!
//! ```text
//!   front ── written into the active segment ──│── not written ── back
//! ```
//!
//! Owns the items. Invariants: numbers grow; the written ones are a prefix; bytes and gaps are counted as they come
//! and go, so that no caller walks the queue for them.

use std::collections::VecDeque;

use super::types::{Gap, Route};

/// What an item takes beside its payload, roughly.
const ITEM_BYTES: usize = 64;

/// Something appended that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) time_ns: i64,
    pub(super) body: ItemBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemBody {
    Record { route: Route, payload: Vec<u8> },
    Gap(Gap),
}

impl Item {
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    pub(super) fn is_record(&self) -> bool {
        matches!(self.body, ItemBody::Record { .. })
    }

    fn bytes(&self) -> usize {
        ITEM_BYTES
            + match &self.body {
                ItemBody::Record { payload, .. } => payload.len(),
                ItemBody::Gap(gap) => gap.sources.len() * ITEM_BYTES,
            }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    items: VecDeque<Item>,
    written: usize,
    bytes: usize,
    gaps: usize,
}

impl Pending {
    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.gaps += usize::from(!item.is_record());
        self.items.push_back(item);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Item> {
        let item = self.items.remove(at)?;
        self.bytes = self.bytes.saturating_sub(item.bytes());
        self.gaps -= usize::from(!item.is_record());
        self.written -= usize::from(at < self.written);
        Some(item)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Item> {
        self.items.get(at)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Item> + ExactSizeIterator {
        self.items.iter()
    }

    /// The items that end behind `number`.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &Item> {
        self.items.range(self.items.partition_point(|item| item.end() <= number)..)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first number, of all or of what is not written.
    pub(super) fn first(&self) -> Option<u64> {
        self.items.front().map(|item| item.first)
    }

    pub(super) fn unwritten_first(&self) -> Option<u64> {
        self.items.get(self.written).map(|item| item.first)
    }

    /// Where the first item stands that is not written.
    pub(super) fn unwritten(&self) -> Option<usize> {
        (self.written < self.items.len()).then_some(self.written)
    }

    /// Whether something waits for nothing but a flush.
    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }

    /// The next `count` items are in the active segment now.
    pub(super) fn mark_written(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.items.len());
    }

    /// The active segment is lost: all of it has to be written again.
    pub(super) fn mark_unwritten(&mut self) {
        self.written = 0;
    }

    /// What is written is durable, as far as it ends at `number`, and leaves.
    pub(super) fn drop_written(&mut self, number: u64) {
        let count = self.items.partition_point(|item| item.end() <= number).min(self.written);
        for item in self.items.drain(..count) {
            self.bytes = self.bytes.saturating_sub(item.bytes());
            self.gaps -= usize::from(!item.is_record());
        }
        self.written -= count;
    }

    /// Gaps from place `at` on, with their places.
    pub(super) fn gaps_from(&self, at: usize) -> impl Iterator<Item = (usize, &Gap)> {
        let items = if self.gaps == 0 { None } else { Some(self.items.range(at.min(self.items.len())..)) };
        items.into_iter().flatten().zip(at..).filter_map(|(item, place)| match &item.body {
            ItemBody::Gap(gap) => Some((place, gap)),
            ItemBody::Record { .. } => None,
        })
    }

    /// Number of the first gap.
    pub(super) fn first_gap(&self) -> Option<u64> {
        let at = self.gaps_from(0).next().map(|(place, _)| place)?;
        self.items.get(at).map(|item| item.first)
    }
}
