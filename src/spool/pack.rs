//! Packing: sealed segments that are mostly padding are written densely before anything is dropped.
//!
//! ```text
//!   │ r . . . │ r . . . │ r . . . │  ──▶  │ r r r │     the old ones are freed when the new one is durable
//! ```
//!
//! It goes on a little with each flush, while there is one free file more than the reserve: about as many bytes are read for each
//! byte written as let it be done when the segment is full that is written meanwhile. In a full buffer the oldest segment goes
//! one segment early for that file. Only where room is needed before, and with `drop-newest`, the rest is done at once.
//!
//! Owns [`Packing`]. Invariants: a packed segment holds every unsettled number of those that it replaces, under the same
//! numbers, boots and times; it counts only where what it replaces is not there any more as a whole, so a crash
//! at any moment leaves one or the other; what it leaves out is durably settled before its sources are freed; delivery state
//! never stands in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::active::{Active, Stamp, Write};
use super::bytes::{Put, Take, len_u32};
use super::core::{Segment, Spool};
use super::format::{COMMIT_MAX, FRAME_HEAD, FrameHead, Header, Kind, PAGE, Run};
use super::gap;
use super::pool::{RESERVE, Slot};
use super::retain::read_gaps;
use super::sabotage::{self, Fault};
use super::scan::{Scan, Step};
use super::storage::{Storage, StorageError};
use super::summary::Summary;
use super::types::{GapReason, Route, WhenFull};

/// So many segments become one at a time, and so many bytes are read for it: what one packing may cost.
const PACK_MAX: usize = 32;
const PACK_READ_MAX: u32 = 72 << 20;

/// For each byte written so many are read for a packing that is under way: as many segments become one while one is
/// filled.
const PACK_PACE: u32 = 32;
/// Smaller segments are packed at once where it has to be: that takes no longer than a few flushes, and the segment that would
/// go early for it is a large part of a small buffer.
const AHEAD_MIN: u32 = 256 << 10;

/// A packing that is under way.
#[derive(Debug)]
pub(super) struct Packing {
    packer: Packer,
    sources: Vec<Segment>,
    /// So many of them are copied.
    copied: usize,
    /// Where the next one is being read.
    walk: Option<Walk>,
}

/// A source that is being read.
#[derive(Debug)]
struct Walk {
    scan: Scan,
    routes: BTreeMap<u16, Route>,
}

impl Packing {
    fn slot(&self) -> Slot {
        self.packer.active.slot
    }
}

/// A packed segment while it is written.
#[derive(Debug)]
struct Packer {
    active: Active,
    write: Option<Write>,
    /// A run was entered and nothing is written of it.
    run_begins: bool,
    /// The number behind the last one that was copied.
    next: u64,
    stamp: Stamp,
    /// Something did not fit.
    full: bool,
}

impl<S: Storage> Spool<S> {
    /// The segments that become one: as many as can be, the oldest of such.
    pub(super) fn packable(&self) -> Option<(usize, usize)> {
        let size = self.pool.segment_size();
        // Header and footer, and the page that each commit leaves half empty.
        let room = size.saturating_sub(size / 32).saturating_sub(4 * PAGE);
        let mut best: Option<(usize, usize)> = None;
        for from in 0..self.index.len() {
            let (mut sum, mut read, mut run) = (0u32, 0u32, None);
            let fits = |segment: &&Segment| {
                let (Some(dense), Some(end)) = (segment.dense, segment.data_end) else { return false };
                // A new run begins on a page of its own.
                let page = if run == Some(segment.header.run) { 0 } else { PAGE };
                let page = if segment.header.run == segment.last_run { page } else { page + PAGE };
                run = Some(segment.last_run);
                sum = sum.saturating_add(dense).saturating_add(page);
                read = read.saturating_add(end);
                sum <= room && read <= PACK_READ_MAX
            };
            let count = self.index.iter().skip(from).take(PACK_MAX).take_while(fits).count();
            if count >= 2 && best.is_none_or(|(a, b)| count > b - a) {
                best = Some((from, from + count));
            }
        }
        best
    }

    /// Begins a packing if the next segment but one would have to drop something, and there is a file for it.
    pub(super) fn pack_ahead(&mut self) -> Result<(), StorageError> {
        if self.packing.is_some() || self.pool.has_room() || self.pool.free_count() > RESERVE + 1 {
            return Ok(());
        }
        // Where tests choose the size, they try this too.
        let large = self.pool.segment_size() >= AHEAD_MIN || self.options.segment_size.is_some();
        if large && self.pool.free_count() == RESERVE {
            self.drop_ahead()?;
        }
        if self.pool.free_count() == RESERVE + 1 {
            self.begin_packing()?;
        }
        Ok(())
    }

    /// Full, with something to pack: done at once, no append would go on meanwhile. The oldest segment makes the room
    /// for doing it bit by bit, as it would do for the next segment but one.
    fn drop_ahead(&mut self) -> Result<(), StorageError> {
        let oldest = self.droppable().filter(|_| self.options.when_full == WhenFull::DropOldest);
        let (Some(at), Some((from, _))) = (oldest, self.packable()) else { return Ok(()) };
        if at < from {
            self.drop_segment(at, GapReason::BufferFull);
            if self.put_state()? {
                self.flush_for_room()?;
            }
        }
        Ok(())
    }

    /// Goes on with a packing that is under way, as far as so many bytes that were written allow.
    pub(super) fn pack_on(&mut self, written: u32) -> Result<(), StorageError> {
        self.pack_some(written.saturating_mul(PACK_PACE)).map(drop)
    }

    /// Packs some segments to the end, now; `false` if that makes no room.
    pub(super) fn pack(&mut self) -> Result<bool, StorageError> {
        let free = self.pool.free_count();
        if self.packing.is_none() {
            self.begin_packing()?;
        }
        Ok(self.pack_some(u32::MAX)? || self.pool.free_count() > free)
    }

    /// A packing is given up: what is written of it counts no more.
    fn give_up_packing(&mut self, slot: Slot) -> Result<(), StorageError> {
        let void = self.make_void(slot);
        self.pool.put_last(slot);
        void
    }

    /// What stands in this file counts no more, durably: it must not be found again when what it was copied from has
    /// changed.
    pub(super) fn make_void(&mut self, slot: Slot) -> Result<(), StorageError> {
        self.storage.write(&slot.name(), 0, &Header::void())?;
        self.storage.sync(&slot.name())
    }

    fn begin_packing(&mut self) -> Result<(), StorageError> {
        let Some((from, to)) = self.packable() else { return Ok(()) };
        let sources: Vec<Segment> = self.index.get(from..to).unwrap_or_default().to_vec();
        let (Some(oldest), Some(youngest)) = (sources.first(), sources.last()) else { return Ok(()) };
        let Some(slot) = self.pool.take() else { return Ok(()) };
        let number = self.next_segment;
        self.next_segment += 1;
        let header = Header {
            size: slot.size,
            number,
            packed: true,
            first: oldest.first,
            salt: self.rng.next(),
            age_ms: oldest.header.age_ms,
            run: oldest.header.run,
        };
        let active = Active::new(slot, header, oldest.header.run);
        if let Err(error) = active.write_header(&mut self.storage) {
            self.pool.put_last(slot);
            return Err(error);
        }
        let stamp = Stamp { age_ms: youngest.age_ms, ..Stamp::default() };
        let packer = Packer { active, write: None, run_begins: true, next: oldest.first, stamp, full: false };
        self.packing = Some(Packing { packer, sources, copied: 0, walk: None });
        Ok(())
    }

    /// Copies about so many bytes; `true` if that was the end, and segments are free for it.
    fn pack_some(&mut self, mut budget: u32) -> Result<bool, StorageError> {
        let Some(mut packing) = self.packing.take() else { return Ok(false) };
        while let Some(source) = packing.sources.get(packing.copied).copied().filter(|_| !packing.packer.full) {
            if budget == 0 {
                self.packing = Some(packing);
                return Ok(false);
            }
            match self.copy(&mut packing, &source, &mut budget) {
                Ok(false) => {}
                Ok(true) => {
                    packing.copied += 1;
                    packing.walk = None;
                }
                Err(error) => {
                    self.pool.put_last(packing.slot());
                    return Err(error);
                }
            }
        }
        let slot = packing.slot();
        match self.finish_packing(packing) {
            Ok(true) => Ok(true),
            Ok(false) => self.give_up_packing(slot).map(|()| false),
            Err(error) => {
                self.pool.put_last(slot);
                Err(error)
            }
        }
    }

    /// Seals the packed segment, and puts it into the place of what is still there of its sources; `false` if it does not
    /// count.
    fn finish_packing(&mut self, mut packing: Packing) -> Result<bool, StorageError> {
        let (slot, header) = (packing.slot(), packing.packer.active.header);
        let numbers: Vec<u64> = packing.sources.iter().map(|segment| segment.header.number).collect();
        packing.packer.flush(&mut self.storage)?;
        if packing.packer.full {
            // The footers promised less than there is; they are not believed again.
            for segment in self.index.iter_mut().filter(|segment| numbers.contains(&segment.header.number)) {
                segment.dense = None;
            }
            return Ok(false);
        }
        let (Some(oldest), Some(youngest)) = (packing.sources.first(), packing.sources.last()) else {
            return Ok(false);
        };
        let mut active = packing.packer.active;
        let footer = active.seal(&mut self.storage, youngest.end, packing.packer.stamp)?;
        if !sabotage::on(Fault::PackNotSynced) {
            active.sync(&mut self.storage)?;
        }
        // What was left out is settled, and what could not be read is lost: that is durable first.
        if !self.put_state()? {
            return Ok(false);
        }
        if self.active.as_ref().is_some_and(Active::is_dirty) {
            self.flush_for_room()?;
        }
        let place = self.index.iter().position(|segment| numbers.contains(&segment.header.number));
        // All of them were freed meanwhile.
        let Some(place) = place else { return Ok(false) };
        let old: Vec<Segment> = self.index.extract_if(.., |segment| numbers.contains(&segment.header.number)).collect();
        let packed = Segment {
            slot,
            header,
            first: oldest.first,
            end: youngest.end,
            age_ms: youngest.age_ms,
            data_end: Some(footer.data_end),
            last_run: youngest.last_run,
            dense: Some(footer.dense),
            oldest_ns: oldest.oldest_ns,
        };
        self.index.insert(place, packed);
        self.cursor = None;
        for segment in old {
            self.pool.release(&mut self.storage, segment.slot);
        }
        Ok(true)
    }

    /// Copies what is not settled of a source, as far as the budget goes; `true` at its end. What can't be read is lost
    /// here as it would be in reading.
    fn copy(&mut self, packing: &mut Packing, segment: &Segment, budget: &mut u32) -> Result<bool, StorageError> {
        if !self.index.iter().any(|known| known.header.number == segment.header.number) {
            // All in it is settled meanwhile, and its file may hold something else.
            return Ok(true);
        }
        let Packing { packer, walk, .. } = packing;
        let walk = walk.get_or_insert_with(|| {
            let (limit, mode) = segment.extent();
            let scan = Scan::new(segment.slot.name(), &segment.header, limit, mode);
            Walk { scan, routes: BTreeMap::new() }
        });
        while *budget > 0 && !packer.full {
            let (head, run) = match walk.scan.step(&mut self.storage) {
                Step::Frame { head, run } => (head, run),
                Step::Commit { new_run, .. } => {
                    *budget = budget.saturating_sub(PAGE);
                    if new_run {
                        walk.routes.clear();
                    }
                    continue;
                }
                Step::Damage { from, to } => {
                    self.keep_damage(segment, from, to);
                    continue;
                }
                Step::Missing { from, to, before } => {
                    self.lose_in(segment, from, to.min(segment.end), before, walk.scan.run());
                    continue;
                }
                Step::End { .. } => {
                    let (next, run) = (walk.scan.next_number(), walk.scan.run());
                    self.lose_in(segment, next, segment.end, run, Some(segment.last_run));
                    return Ok(true);
                }
            };
            *budget = budget.saturating_sub(FRAME_HEAD.saturating_add(head.length));
            self.copy_frame(packer, walk, segment, run, &head)?;
        }
        Ok(false)
    }

    fn copy_frame(
        &mut self,
        packer: &mut Packer,
        walk: &mut Walk,
        segment: &Segment,
        run: Run,
        head: &FrameHead,
    ) -> Result<(), StorageError> {
        let end = head.first.saturating_add(u64::from(head.count));
        if head.kind == Kind::Route {
            let mut take = Take::new(walk.scan.body(&mut self.storage));
            if let Some(source) = take.name() {
                walk.routes.insert(head.route, Route { source, blob: Arc::from(take.rest()) });
            }
        } else if head.count > 0 && end <= segment.end && self.state.delivery.unsettled_in(head.first, end) > 0 {
            let body = walk.scan.body(&mut self.storage).to_vec();
            match (head.kind, walk.routes.get(&head.route)) {
                (Kind::Record, Some(route)) => packer.record(&mut self.storage, run, head, route, &body)?,
                (Kind::Record, None) => {
                    self.lose(head.first, end, Some(run), None);
                }
                _ => self.copy_gaps(packer, run, head, &body)?,
            }
        }
        Ok(())
    }

    fn copy_gaps(&mut self, packer: &mut Packer, run: Run, head: &FrameHead, body: &[u8]) -> Result<(), StorageError> {
        for (number, gap) in (head.first..).zip(read_gaps(body)) {
            if self.state.delivery.is_done(number) || sabotage::on(Fault::PackLosesGaps) {
                continue;
            }
            let mut body = Vec::new();
            body.put_varint(1);
            gap::encode(&gap, &mut body);
            let head = FrameHead { length: len_u32(body.len()), flags: 0, count: 1, first: number, ..*head };
            packer.gap(&mut self.storage, run, &head, &body)?;
        }
        Ok(())
    }
}

impl Packer {
    fn record<S: Storage>(
        &mut self,
        storage: &mut S,
        run: Run,
        head: &FrameHead,
        route: &Route,
        body: &[u8],
    ) -> Result<(), StorageError> {
        self.enter(storage, run)?;
        let known = self.active.route(route);
        let index = known.unwrap_or_else(|index| index);
        let mut frames = Vec::new();
        if known.is_err() {
            let mut body = Vec::new();
            body.put_name(&route.source);
            body.extend_from_slice(&route.blob);
            let length = len_u32(body.len());
            frames.push((FrameHead { kind: Kind::Route, length, flags: 0, count: 0, route: index, ..*head }, body));
            self.active.add_route(route, index);
        }
        frames.push((FrameHead { route: index, ..*head }, body.to_vec()));
        self.active.summary.add_record(&run, &route.source, head.first, head.count, head.time_ns);
        self.push(storage, head, &frames)
    }

    fn gap<S: Storage>(
        &mut self,
        storage: &mut S,
        run: Run,
        head: &FrameHead,
        body: &[u8],
    ) -> Result<(), StorageError> {
        self.enter(storage, run)?;
        self.active.summary.add_gaps(&run, head.first, 1);
        self.push(storage, head, &[(*head, body.to_vec())])
    }

    /// Frames of another run begin a commit of their own.
    fn enter<S: Storage>(&mut self, storage: &mut S, run: Run) -> Result<(), StorageError> {
        if self.active.run != run {
            self.flush(storage)?;
            self.active.enter_run(run);
            self.run_begins = true;
        }
        Ok(())
    }

    fn push<S: Storage>(
        &mut self,
        storage: &mut S,
        head: &FrameHead,
        frames: &[(FrameHead, Vec<u8>)],
    ) -> Result<(), StorageError> {
        let mut write = match self.write.take() {
            Some(write) => write,
            None if self.run_begins => self.active.begin_run(self.next, self.stamp),
            None => self.active.begin(self.next, self.stamp),
        };
        self.run_begins = false;
        for (head, body) in frames {
            self.active.push(&mut write, head, body);
            self.active.dense = self.active.dense.saturating_add(FRAME_HEAD).saturating_add(head.length);
        }
        self.next = head.first.saturating_add(u64::from(head.count));
        let long = Active::bytes(&write) >= COMMIT_MAX;
        self.write = Some(write);
        if long { self.flush(storage) } else { Ok(()) }
    }

    fn flush<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        let Some(write) = self.write.take() else { return Ok(()) };
        if !self.active.fits(&write, Summary::growth(""), 0) {
            self.full = true;
            return Ok(());
        }
        self.active.write(storage, write)
    }
}
