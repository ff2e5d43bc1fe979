//! Packing: sealed segments that are mostly padding are written densely before anything is dropped.
//!
//! ```text
//!   │ r . . . │ r . . . │ r . . . │  ──▶  │ r r r │     the old ones are freed when the new one is durable
//! ```
//!
//! Owns nothing. Invariants: a packed segment holds every unsettled number of those that it replaces, under the same
//! numbers, boots and times; it counts only where what it replaces is not there any more as a whole, so a crash
//! at any moment leaves one or the other; delivery state never stands in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::active::{Active, Stamp, Write};
use super::bytes::{Put, Take, len_u32};
use super::core::{Segment, Spool};
use super::format::{COMMIT_MAX, FRAME_HEAD, FrameHead, Header, Kind, PAGE, Run};
use super::gap;
use super::pool::Slot;
use super::retain::read_gaps;
use super::sabotage::{self, Fault};
use super::scan::{Scan, Step};
use super::storage::{Storage, StorageError};
use super::summary::Summary;
use super::types::Route;

/// So many segments become one at a time, and so many bytes are read for it: what one packing may cost.
const PACK_MAX: usize = 32;
const PACK_READ_MAX: u32 = 72 << 20;

/// A packed segment while it is written.
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

    /// Packs some segments; `false` if there are none for it.
    pub(super) fn pack(&mut self) -> Result<bool, StorageError> {
        // What is settled is left out, so that must be durable.
        if self.state_dirty {
            if !self.put_state()? {
                return Ok(false);
            }
            self.flush_for_room()?;
        }
        let Some((from, to)) = self.packable() else { return Ok(false) };
        let Some(slot) = self.pool.take() else { return Ok(false) };
        let sources: Vec<Segment> = self.index.get(from..to).unwrap_or_default().to_vec();
        let packed = self.write_packed(slot, &sources);
        let lost = self.state_dirty;
        let packed = match packed {
            Ok(Some(packed)) if !lost || self.put_state()? => packed,
            Ok(_) => {
                // The footers promised less than there is; they are not believed again.
                for segment in self.index.iter_mut().take(to).skip(from) {
                    segment.dense = None;
                }
                self.make_void(slot)?;
                self.pool.put_last(slot);
                return Ok(false);
            }
            Err(error) => {
                self.pool.put_last(slot);
                return Err(error);
            }
        };
        if lost {
            self.flush_for_room()?;
        }
        // A flush may have freed some of them meanwhile: what is still there is replaced.
        let numbers: Vec<u64> = sources.iter().map(|segment| segment.header.number).collect();
        let place = self.index.iter().position(|segment| numbers.contains(&segment.header.number));
        let old: Vec<Segment> = self.index.extract_if(.., |segment| numbers.contains(&segment.header.number)).collect();
        match place {
            Some(place) => self.index.insert(place, packed),
            None => self.pool.release(&mut self.storage, slot),
        }
        self.cursor = None;
        for segment in old {
            self.pool.release(&mut self.storage, segment.slot);
        }
        Ok(true)
    }

    /// What stands in this file counts no more, durably: it must not be found again when what it was copied from has
    /// changed.
    pub(super) fn make_void(&mut self, slot: Slot) -> Result<(), StorageError> {
        self.storage.write(&slot.name(), 0, &Header::void())?;
        self.storage.sync(&slot.name())
    }

    /// Writes a packed segment, durable; `None` if it did not fit after all.
    fn write_packed(&mut self, slot: Slot, sources: &[Segment]) -> Result<Option<Segment>, StorageError> {
        let (Some(oldest), Some(youngest)) = (sources.first(), sources.last()) else { return Ok(None) };
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
        active.write_header(&mut self.storage)?;
        let stamp = Stamp { age_ms: youngest.age_ms, ..Stamp::default() };
        let mut packer = Packer { active, write: None, run_begins: true, next: oldest.first, stamp, full: false };
        for segment in sources {
            self.copy(&mut packer, segment)?;
        }
        packer.flush(&mut self.storage)?;
        if packer.full {
            return Ok(None);
        }
        let mut active = packer.active;
        let footer = active.seal(&mut self.storage, youngest.end, stamp)?;
        if !sabotage::on(Fault::PackNotSynced) {
            active.sync(&mut self.storage)?;
        }
        Ok(Some(Segment {
            slot,
            header,
            first: oldest.first,
            end: youngest.end,
            age_ms: youngest.age_ms,
            data_end: Some(footer.data_end),
            last_run: youngest.last_run,
            dense: Some(footer.dense),
            oldest_ns: oldest.oldest_ns,
        }))
    }

    /// Copies what is not settled. What can't be read is lost here as it would be in reading.
    fn copy(&mut self, packer: &mut Packer, segment: &Segment) -> Result<(), StorageError> {
        let (limit, mode) = segment.extent();
        let mut scan = Scan::new(segment.slot.name(), &segment.header, limit, mode);
        let mut routes: BTreeMap<u16, Route> = BTreeMap::new();
        while !packer.full {
            let (head, run) = match scan.step(&mut self.storage) {
                Step::Frame { head, run } => (head, run),
                Step::Commit { new_run, .. } => {
                    if new_run {
                        routes.clear();
                    }
                    continue;
                }
                Step::Damage { from, to } => {
                    self.keep_damage(segment, from, to);
                    continue;
                }
                Step::Missing { from, to, before } => {
                    self.lose_in(segment, from, to.min(segment.end), before, scan.run());
                    continue;
                }
                Step::End { .. } => {
                    self.lose_in(segment, scan.next_number(), segment.end, scan.run(), Some(segment.last_run));
                    break;
                }
            };
            let end = head.first.saturating_add(u64::from(head.count));
            if head.kind == Kind::Route {
                let mut take = Take::new(scan.body(&mut self.storage));
                if let Some(source) = take.name() {
                    routes.insert(head.route, Route { source, blob: Arc::from(take.rest()) });
                }
            } else if head.count > 0 && end <= segment.end && self.state.delivery.unsettled_in(head.first, end) > 0 {
                let body = scan.body(&mut self.storage).to_vec();
                match (head.kind, routes.get(&head.route)) {
                    (Kind::Record, Some(route)) => packer.record(&mut self.storage, run, &head, route, &body)?,
                    (Kind::Record, None) => {
                        self.lose(head.first, end, Some(run), None);
                    }
                    _ => self.copy_gaps(packer, run, &head, &body)?,
                }
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
