//! From pending to written: records, and gaps with the state.
//!
//! Owns no data. Invariants: items are written in number order; numbers that were dropped unwritten are said in a
//! state frame before the next record; what the log names never goes ahead of what it holds; what may have been sent
//! is never refused for want of room: it waits in memory, and what is behind it is refused in its place.

use std::time::Duration;

use super::active::Active;
use super::bytes::{Put, len_u32};
use super::core::{Mark, Spool, frame_head};
use super::format::{FRAME_HEAD, Kind, PAGE};
use super::gap;
use super::pending::{Item, ItemBody};
use super::storage::{Storage, StorageError};
use super::summary::Summary;
use super::types::Error;

/// Bytes that may wait for a flush before one is made anyway.
pub(super) const UNSYNCED_MAX: usize = 1 << 20;
/// With more bytes a write takes no further record.
const GROUP_MAX: u32 = 4 * PAGE;
/// While full, a segment for records is looked for again after so long.
const FULL_RETRY: Duration = Duration::from_secs(1);

impl<S: Storage> Spool<S> {
    /// Writes all that is pending, rolling segments where needed; the disk's refusals lead to memory.
    pub(super) fn write_pending(&mut self) -> Result<(), Error> {
        if self.active.is_none() {
            if self.now.mono < self.retry_at {
                self.trim_memory();
                return Err(self.trouble_error());
            }
            self.restore()?;
        }
        while self.pending.unwritten().is_some() {
            match self.write_next() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fail(error.clone());
                    return Err(error.into());
                }
            }
        }
        if self.pending.has_written() && self.pending.bytes() > UNSYNCED_MAX {
            self.sync_active()?;
        }
        Ok(())
    }

    pub(super) fn trouble_error(&self) -> Error {
        self.trouble.clone().map_or(Error::Full, Error::Storage)
    }

    /// Writes the next item, or drops one if no segment can be had; `false` if all that is left waits for room.
    fn write_next(&mut self) -> Result<bool, StorageError> {
        // Two rolls at most: into a segment with room, and once more if that one came from the reserve.
        for _ in 0..3 {
            // Rolling moves it: what is durable leaves the queue.
            let Some(at) = self.pending.unwritten() else { return Ok(true) };
            let (is_record, handed) = (self.is_record(at), self.is_handed(at));
            let reserve = self.active.as_ref().is_some_and(|active| active.reserve);
            let waits = if is_record || handed { self.full && self.now.mono < self.full_until } else { reserve };
            if waits {
                break;
            }
            let done = match (is_record, handed && reserve) {
                (true, _) => self.put_records(at)?,
                (false, true) => false,
                (false, false) => self.put_gaps(at)?,
            };
            if done {
                self.full &= !is_record;
                return Ok(true);
            }
            if !self.roll(is_record || handed)? {
                self.full_until = self.now.mono.saturating_add(FULL_RETRY);
                break;
            }
        }
        let Some(at) = self.pending.unwritten() else { return Ok(true) };
        if !self.is_record(at) && !self.is_handed(at) {
            // A gap that finds no room waits in memory and in the state; only records are refused.
            self.park_gap(at);
            return Ok(true);
        }
        self.full = true;
        // What may be at the broker is named by no gap (R8): it stays, and the first one that was not handed out goes.
        let behind = self.pending.iter().skip(at).position(|item| item.is_record() && !self.pins(item));
        if let Some(behind) = behind {
            self.refuse_item(at.saturating_add(behind));
        }
        Ok(behind.is_some())
    }

    /// Whether a session may have it, so that it keeps its number.
    fn is_handed(&self, at: usize) -> bool {
        self.pending.get(at).is_some_and(|item| self.pins(item))
    }

    pub(super) fn pins(&self, item: &Item) -> bool {
        self.state.delivery.pins(item.first, item.end())
    }

    fn is_record(&self, at: usize) -> bool {
        self.pending.get(at).is_some_and(Item::is_record)
    }

    /// A gap without room goes back to the open ones; its number is left unused and settled.
    fn park_gap(&mut self, at: usize) {
        let Some(item) = self.pending.remove(at) else { return };
        let (first, end) = (item.first, item.end());
        if let ItemBody::Gap(gap) = item.body {
            let own = super::summary::bare_gap(&self.run, gap.reason, first, end);
            self.state.delivery.drop_range(first, end);
            gap::join(&mut self.state.open_gaps, gap);
            gap::join(&mut self.state.open_gaps, own);
        }
        self.full = true;
        self.hole = true;
        self.state_dirty = true;
    }

    /// Writes the record at `at`, and with it those behind it for which the same write has room.
    fn put_records(&mut self, at: usize) -> Result<bool, StorageError> {
        if self.hole && !self.put_state()? {
            return Ok(false);
        }
        let stamp = self.stamp();
        let Some(active) = self.active.as_mut().filter(|active| !active.reserve) else { return Ok(false) };
        let mut write = active.begin(self.log_end, stamp);
        let (mut count, mut end) = (0, self.log_end);
        for item in self.pending.iter().skip(at) {
            let ItemBody::Record { route, payload } = &item.body else { break };
            if Active::bytes(&write) > GROUP_MAX || !active.push_record(&mut write, item, route, payload) {
                break;
            }
            (count, end) = (count + 1, item.end());
        }
        if count == 0 {
            return Ok(false);
        }
        active.write(&mut self.storage, write)?;
        active.first_age_ms.get_or_insert(stamp.age_ms);
        active.last_age_ms = stamp.age_ms;
        self.log_end = end;
        self.pending.mark_written(count);
        Ok(true)
    }

    /// Writes the gaps from `at` on that follow one another, with the state, in one frame.
    fn put_gaps(&mut self, at: usize) -> Result<bool, StorageError> {
        let Some((first, time_ns)) = self.pending.get(at).map(|item| (item.first, item.time_ns)) else {
            return Ok(true);
        };
        let follows = |(place, item): &(usize, &Item)| {
            !item.is_record() && item.first == first + *place as u64 && item.time_ns == time_ns
        };
        let count = self.pending.iter().skip(at).enumerate().take_while(follows).count();
        self.put_change(at, count)
    }

    /// Writes the state, if it is not written as it stands.
    pub(super) fn put_state(&mut self) -> Result<bool, StorageError> {
        if !self.state_dirty { Ok(true) } else { self.put_change(0, 0) }
    }

    fn put_change(&mut self, at: usize, mut count: usize) -> Result<bool, StorageError> {
        let stamp = self.stamp();
        let Some(active) = self.active.as_ref() else { return Ok(false) };
        let (limit, lease) = ((active.header.size / 8) as usize, self.lease());
        let mut body = self.change_body(at, count, false, lease);
        if body.len() > limit {
            body = self.change_body(at, count, true, lease);
        }
        while body.len() > limit && count > 1 {
            count /= 2;
            body = self.change_body(at, count, true, lease);
        }
        let written = self.pending.get(at).filter(|_| count > 0).map(|item| (item.first, item.time_ns));
        let (first, time_ns) = written.unwrap_or((self.unwritten_first(), stamp.wall_ns));
        let head = frame_head(Kind::Change, &body, first, len_u32(count), time_ns);
        let Some(active) = self.active.as_mut() else { return Ok(false) };
        // Acknowledgements come by the thousand: of the states that no flush has seen only the last one is kept.
        let (before, log_end) = if count == 0 { active.rewind(self.log_end) } else { (active.used(), self.log_end) };
        // The head may survive without the frame: it says no more than the log did before.
        let mut write = active.begin(log_end, stamp);
        active.push(&mut write, &head, &body);
        if !active.fits(&write, Summary::growth(""), 0) {
            active.undo(before);
            return Ok(false);
        }
        active.write(&mut self.storage, write)?;
        if count == 0 {
            active.state_written(len_u32(body.len()).saturating_add(FRAME_HEAD), log_end);
        }
        if count > 0 {
            active.dense = active.dense.saturating_add(len_u32(body.len()).saturating_add(FRAME_HEAD));
            active.summary.add_gaps(&active.run.clone(), first, len_u32(count));
        }
        self.pending.mark_written(count);
        self.state_written(lease);
        Ok(true)
    }

    pub(super) fn state_written(&mut self, lease: u64) {
        self.state_dirty = false;
        self.hole = false;
        self.log_end = self.unwritten_first();
        self.states_written += 1;
        self.written_mark = Mark { lease, done_below: self.state.delivery.done_below() };
    }

    /// Gaps and the whole state. Gaps that are pending and not in this segment yet count as open ones, so that none
    /// is forgotten if only this frame survives; `bare` leaves out the open ones' counts per source.
    pub(super) fn change_body(&self, at: usize, count: usize, bare: bool, lease: u64) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_varint(count as u64);
        let mut open = self.state.open_gaps.clone();
        for (place, gap) in self.pending.unwritten().into_iter().flat_map(|from| self.pending.gaps_from(from)) {
            match (at..at + count).contains(&place) {
                true => gap::encode(gap, &mut body),
                false => open.push(gap.clone()),
            }
        }
        if bare {
            open.iter_mut().for_each(|gap| gap.sources.clear());
        }
        // Numbers that are given but not written yet are not named: they may never be.
        let own = self.pending.get(at + count.saturating_sub(1)).filter(|_| count > 0);
        let next = own.map_or_else(|| self.unwritten_first(), Item::end);
        self.state.encode(next, lease, &open, &mut body);
        body
    }
}
