//! From one segment to the next: sealing, opening, the reserve, and back from memory to the disk.
//!
//! Owns the rule who may have a segment: records leave [`RESERVE`] free files behind, delivery state and gaps may
//! take these. Invariants: a segment is sealed and durable before the next one is opened; an opening frame, with the
//! whole state and all values, is durable before anything follows it; a file is freed only on durable state.

use super::active::Active;
use super::bytes::Put;
use super::core::{Segment, Spool, frame_head};
use super::format::{Header, Kind, PAGE};
use super::pool::RESERVE;
use super::sabotage::{self, Fault};
use super::storage::{Storage, StorageError};
use super::survey::Values;
use super::types::{Error, GapReason, WhenFull};

impl<S: Storage> Spool<S> {
    /// Goes on in another segment; `false` if there is none, for what is to be written.
    pub(super) fn roll(&mut self, for_record: bool) -> Result<bool, StorageError> {
        if !self.may_roll(for_record)? {
            return Ok(false);
        }
        if self.active.as_ref().is_some_and(|active| active.reserve && for_record) {
            self.make_room()?;
            // With the reserve filled again this segment is as good as any.
            self.mark_reserve();
            return Ok(self.pool.free_count() >= RESERVE);
        }
        self.seal()?;
        if !self.open_segment()? {
            return Ok(false);
        }
        if for_record {
            self.make_room()?;
            self.pack_ahead()?;
        }
        self.mark_reserve();
        Ok(true)
    }

    /// While the reserve is not whole, the active segment takes nothing that would keep it from being freed.
    pub(super) fn mark_reserve(&mut self) {
        let reserve = self.pool.free_count() < RESERVE;
        if let Some(active) = self.active.as_mut() {
            active.reserve = reserve;
        }
    }

    fn may_roll(&mut self, for_record: bool) -> Result<bool, StorageError> {
        // A disk that others have filled gives no new file; what is free already has to do.
        // One more than is needed now: a packing that is begun in time takes it.
        let filled = self.pool.fill_reserve(&mut self.storage, RESERVE + 2);
        let wanted = if for_record { RESERVE + 1 } else { 1 };
        if self.pool.free_count() < wanted {
            self.free_what_is_done()?;
        }
        if !for_record && filled.is_ok() && self.pool.free_count() == 0 {
            self.give_up_oldest();
        }
        // Once it is sealed, the active segment may be the oldest that can go: a disk that others have filled.
        let delivery = &self.state.delivery;
        let active = self.active.as_ref().is_some_and(|active| !delivery.pins(active.header.first, self.log_end));
        let drops = self.options.when_full == WhenFull::DropOldest;
        let packs = self.packing.is_some() || self.packable().is_some();
        let goes = packs || (drops && (active || self.droppable().is_some()));
        Ok(match for_record {
            true => self.pool.free_count() > RESERVE || (goes && self.pool.free_count() >= 1),
            false => self.pool.free_count() >= 1,
        })
    }

    /// With all files in use, and no room for another one, the state itself finds no place: the oldest segment that is not
    /// in flight makes room, also with `drop-newest`. Its gap stands in the opening of the segment that takes its file. One
    /// crash after another in a full buffer leads here, each before the reserve was whole again.
    pub(super) fn give_up_oldest(&mut self) -> bool {
        // The youngest holds the state, where no other is written.
        let last = self.index.len().saturating_sub(usize::from(self.active.is_none()));
        let Some(at) = self.droppable().filter(|at| *at < last) else { return false };
        self.drop_segment(at, GapReason::BufferFull);
        let segment = self.index.remove(at);
        self.pool.release(&mut self.storage, segment.slot);
        true
    }

    /// What was acknowledged may free a segment once that is durable.
    fn free_what_is_done(&mut self) -> Result<(), StorageError> {
        let settled = self.index.iter().any(|segment| self.is_settled(segment));
        if settled && self.put_state()? {
            self.flush_for_room()?;
        }
        Ok(())
    }

    pub(super) fn flush_for_room(&mut self) -> Result<(), StorageError> {
        if let Some(active) = self.active.as_mut() {
            active.sync(&mut self.storage)?;
            self.now_durable();
        }
        Ok(())
    }

    fn is_settled(&self, segment: &Segment) -> bool {
        self.state.delivery.unsettled_in(segment.first, segment.end) == 0
    }

    /// Packs, and then drops the oldest segments, until the reserve is free again.
    pub(super) fn make_room(&mut self) -> Result<(), StorageError> {
        let _ = self.pool.fill_reserve(&mut self.storage, RESERVE);
        while self.pool.free_count() < RESERVE || self.pool.over_budget() {
            if self.pack()? {
                continue;
            }
            // A limit that was lowered holds whatever is to go.
            let drops = self.options.when_full == WhenFull::DropOldest || self.pool.over_budget();
            let Some(at) = self.droppable().filter(|_| drops) else { break };
            self.drop_segment(at, GapReason::BufferFull);
            if sabotage::on(Fault::DropAheadOfGap) {
                self.collect(u64::MAX);
                continue;
            }
            if !self.put_state()? && !self.roll(false)? {
                break;
            }
            self.flush_for_room()?;
            let _ = self.pool.fill_reserve(&mut self.storage, RESERVE);
        }
        Ok(())
    }

    /// Frees segments in which nothing counts any more, of those that end here. The state must be durable for their numbers.
    pub(super) fn collect(&mut self, below: u64) {
        let mut at = 0;
        while let Some(segment) = self.index.get(at).copied() {
            if segment.end <= below && self.is_settled(&segment) {
                self.index.remove(at);
                self.pool.release(&mut self.storage, segment.slot);
            } else {
                at += 1;
            }
        }
    }

    /// Ends the active segment, durable.
    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        let stamp = self.stamp();
        let next = self.log_end;
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        let footer = active.seal(&mut self.storage, next, stamp)?;
        if !sabotage::on(Fault::SealNotSynced) {
            active.sync(&mut self.storage)?;
        }
        let segment = Segment {
            slot: active.slot,
            header: active.header,
            first: active.header.first,
            end: next,
            age_ms: active.last_age_ms,
            data_end: Some(footer.data_end),
            last_run: active.run,
            dense: Some(footer.dense),
            oldest_ns: active.summary.oldest_ns(),
        };
        self.active = None;
        self.index.push(segment);
        // The state stands in that segment alone until the next one is opened: nothing is freed before.
        self.state_dirty = true;
        self.now_durable();
        Ok(())
    }

    /// Begins a segment with the state and all values, durable; `false` if there is no file for it.
    pub(super) fn open_segment(&mut self) -> Result<bool, StorageError> {
        let Some(slot) = self.pool.take() else { return Ok(false) };
        let number = self.next_segment;
        self.next_segment += 1;
        let first = self.log_end;
        let header = Header {
            size: slot.size,
            number,
            packed: false,
            first,
            salt: self.rng.next(),
            age_ms: self.clock.at(self.now),
            run: self.run,
        };
        let mut active = Active::new(slot, header, self.run);
        let lease = self.lease();
        match self.write_opening(&mut active, lease) {
            Ok(()) => {
                self.active = Some(active);
                self.values_unwritten = false;
                self.state_written(lease);
                self.now_durable();
                Ok(true)
            }
            Err(error) => {
                self.pool.put_last(slot);
                Err(error)
            }
        }
    }

    /// The state alone; where it would take too much of a segment, without the open gaps' counts per source.
    pub(super) fn opening_state(&self, lease: u64) -> Vec<u8> {
        let body = self.change_body(0, 0, false, lease);
        let fits = body.len() <= (self.pool.segment_size() / 8) as usize;
        if fits { body } else { self.change_body(0, 0, true, lease) }
    }

    fn write_opening(&mut self, active: &mut Active, lease: u64) -> Result<(), StorageError> {
        active.write_header(&mut self.storage)?;
        let mut body = self.opening_state(lease);
        let none = Values::new();
        let values = if sabotage::on(Fault::ValuesOnce) { &none } else { &self.values };
        body.put_varint(values.len() as u64);
        for ((owner, key), value) in values {
            body.put_name(owner);
            body.put_name(key);
            body.put_varint(value.len() as u64);
            body.extend_from_slice(value);
        }
        let stamp = self.stamp();
        let mut write = active.begin(active.header.first, stamp);
        if sabotage::on(Fault::NoOpening) {
            active.write(&mut self.storage, write)?;
            return active.sync(&mut self.storage);
        }
        active.push(&mut write, &frame_head(Kind::Opening, &body, active.header.first, 0, stamp.wall_ns), &body);
        active.write(&mut self.storage, write)?;
        active.sync(&mut self.storage)
    }

    /// Opens a segment where none is written; `made` tells whether there are as many files as there may be.
    pub(super) fn open_first(&mut self, made: bool) -> Result<bool, StorageError> {
        Ok(self.open_segment()? || (made && self.give_up_oldest() && self.open_segment()?))
    }

    /// Back from memory: a new segment takes what is pending. The old one is not trusted any more.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let made = self.pool.fill_reserve(&mut self.storage, RESERVE + 1).is_ok();
        match self.open_first(made) {
            Ok(true) => {}
            Ok(false) => return Err(Error::Full),
            Err(error) => {
                self.fail(error.clone());
                return Err(error.into());
            }
        }
        self.trouble = None;
        self.retry_after = std::time::Duration::ZERO;
        if let Err(error) = self.make_room() {
            self.fail(error.clone());
            return Err(error.into());
        }
        self.mark_reserve();
        Ok(())
    }

    /// The largest record with its route that fits into any segment.
    pub(super) fn frame_max(&self) -> usize {
        (self.pool.segment_size() / 2).saturating_sub(PAGE) as usize
    }
}
