//! A window on a segment: big sequential reads, small memory.
//!
//! Owns the block that is looked at, and some that were before, of which parts may be shared. Invariants: a page that
//! can't be read is all zeros here and remembered as unreadable, it never passes a CRC; a block of which something is
//! shared is not filled again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bytes::len_u32;
use super::format::PAGE;
use super::payload::Payload;
use super::storage::Storage;

/// Bytes that are read at once.
pub(crate) const CHUNK: u32 = 128 * 1024;

/// Blocks that are kept while parts of them are shared, to be filled again.
const SPARE_MAX: usize = 8;

/// Part of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    name: String,
    start: u32,
    block: Arc<Vec<u8>>,
    spare: VecDeque<Arc<Vec<u8>>>,
    limit: u32,
    /// Pages that could not be read.
    pub(crate) unreadable: u32,
    /// Bytes that were read.
    pub(crate) filled: u64,
}

impl Window {
    /// A window on the first `limit` bytes of `name`.
    pub(crate) fn new(name: String, limit: u32) -> Self {
        Self { name, start: 0, block: Arc::default(), spare: VecDeque::new(), limit, unreadable: 0, filled: 0 }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// More of the file is there now; what was read at its end is read again.
    pub(crate) fn extend(&mut self, limit: u32) {
        if limit > self.limit {
            self.limit = limit;
            self.block = Arc::default();
            self.spare.clear();
        }
    }

    /// `length` bytes from `offset`, or `None` behind the end.
    pub(crate) fn slice<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) -> Option<&[u8]> {
        let at = self.hold(storage, offset, length)?;
        self.block.get(at..at + length as usize)
    }

    /// As [`Self::slice`]; it may be kept.
    pub(crate) fn share<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) -> Option<Payload> {
        let at = self.hold(storage, offset, length)?;
        Payload::share(&self.block, at..at + length as usize)
    }

    /// Where in the block these bytes stand.
    fn hold<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) -> Option<usize> {
        let end = offset.checked_add(length).filter(|end| *end <= self.limit)?;
        let held = self.start.saturating_add(len_u32(self.block.len()));
        if offset < self.start || end > held {
            self.fill(storage, offset, length);
        }
        Some(offset.checked_sub(self.start)? as usize)
    }

    /// Goes on with a block that nobody shares any more, or with a new one: fresh memory costs more than reading into it.
    fn change_block(&mut self) {
        let free = self.spare.iter().position(|block| Arc::strong_count(block) == 1);
        let next = free.and_then(|at| self.spare.remove(at)).unwrap_or_default();
        let before = std::mem::replace(&mut self.block, next);
        self.keep(before);
    }

    fn keep(&mut self, block: Arc<Vec<u8>>) {
        self.spare.push_back(block);
        if self.spare.len() > SPARE_MAX {
            self.spare.pop_front();
        }
    }

    /// Goes on with the blocks of a window that is not needed any more.
    pub(crate) fn inherit(&mut self, other: Self) {
        self.spare = other.spare;
        self.keep(other.block);
    }

    fn fill<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) {
        self.start = offset - offset % PAGE;
        let wanted = length.saturating_add(offset - self.start).max(CHUNK).min(self.limit.saturating_sub(self.start));
        self.filled = self.filled.saturating_add(u64::from(wanted));
        if Arc::get_mut(&mut self.block).is_none() {
            self.change_block();
        }
        let Some(bytes) = Arc::get_mut(&mut self.block) else { return };
        bytes.resize(wanted as usize, 0);
        if let Ok(count) = storage.read(&self.name, u64::from(self.start), bytes) {
            // Behind the file's end.
            bytes.get_mut(count..).unwrap_or_default().fill(0);
            return;
        }
        // Somewhere in the chunk a page can't be read: find out which, and keep the others.
        for (index, page) in bytes.chunks_mut(PAGE as usize).enumerate() {
            let at = u64::from(self.start).saturating_add(index as u64 * u64::from(PAGE));
            page.fill(0);
            if storage.read(&self.name, at, page).is_err() {
                page.fill(0);
                self.unreadable = self.unreadable.saturating_add(1);
            }
        }
    }
}
