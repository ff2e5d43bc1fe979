//! A window on a segment: big sequential reads, small memory.
//!
//! Owns one buffer. Invariant: a page that can't be read is all zeros here and remembered as unreadable; it never
//! passes a CRC.

use super::bytes::len_u32;
use super::format::PAGE;
use super::storage::Storage;

/// Bytes that are read at once.
const CHUNK: u32 = 128 * 1024;

/// Part of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    name: String,
    start: u32,
    bytes: Vec<u8>,
    limit: u32,
    /// Pages that could not be read.
    pub(crate) unreadable: u32,
}

impl Window {
    /// A window on the first `limit` bytes of `name`.
    pub(crate) fn new(name: String, limit: u32) -> Self {
        Self { name, start: 0, bytes: Vec::new(), limit, unreadable: 0 }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// More of the file is there now; what was read at its end is read again.
    pub(crate) fn extend(&mut self, limit: u32) {
        if limit > self.limit {
            self.limit = limit;
            self.bytes.clear();
        }
    }

    /// `length` bytes from `offset`, or `None` behind the end.
    pub(crate) fn slice<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) -> Option<&[u8]> {
        let end = offset.checked_add(length).filter(|end| *end <= self.limit)?;
        let held = self.start.saturating_add(len_u32(self.bytes.len()));
        if offset < self.start || end > held {
            self.fill(storage, offset, length);
        }
        let at = offset.checked_sub(self.start)? as usize;
        self.bytes.get(at..at + length as usize)
    }

    fn fill<S: Storage>(&mut self, storage: &mut S, offset: u32, length: u32) {
        self.start = offset - offset % PAGE;
        let wanted = length.saturating_add(offset - self.start).max(CHUNK).min(self.limit.saturating_sub(self.start));
        self.bytes.clear();
        self.bytes.resize(wanted as usize, 0);
        if storage.read(&self.name, u64::from(self.start), &mut self.bytes).is_ok() {
            return;
        }
        // Somewhere in the chunk a page can't be read: find out which, and keep the others.
        for (index, page) in self.bytes.chunks_mut(PAGE as usize).enumerate() {
            let at = u64::from(self.start).saturating_add(index as u64 * u64::from(PAGE));
            if storage.read(&self.name, at, page).is_err() {
                page.fill(0);
                self.unreadable = self.unreadable.saturating_add(1);
            }
        }
    }
}
