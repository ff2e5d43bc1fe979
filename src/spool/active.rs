//! The segment that is being written: commits, frames, routes, footer.
//!
//! ```text
//!  offset ─▶ [frames of the open commit][zeros to the page's end]
//!            write: appends at `offset`, pads with zeros       sync: durable = next page; the next write begins a commit
//! ```
//!
//! Owns offset, durable offset, the routes given in this run and the segment's summary. Invariants: what is below
//! `durable` is never written again; behind the last frame of a page there are zeros; room for the footer remains.

use std::collections::BTreeMap;

use super::bytes::{Put, len_u16, len_u32};
use super::core::frame_head;
use super::format::{COMMIT_MAX, Commit, FRAME_HEAD, FrameHead, Header, Kind, PAGE, Run, Seed, page_up};
use super::pending::Item;
use super::pool::Slot;
use super::sabotage::{self, Fault};
use super::squeeze::squeeze;
use super::storage::{Deferred, Storage, StorageError};
use super::summary::Summary;
use super::types::Route;

/// The age clock and the wall clock, as commit heads name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) age_ms: u64,
    pub(crate) wall_ns: i64,
    pub(crate) synced: bool,
}

/// A footer as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) data_end: u32,
    pub(crate) next: u64,
    pub(crate) stamp: Stamp,
    /// The run that sealed it.
    pub(crate) run: Run,
    /// Bytes of its routes, records and gaps: what they take when they are written densely.
    pub(crate) dense: u32,
    pub(crate) summary: Summary,
}

/// Room that a write begins with: most records make one frame that fits.
const WRITE_BYTES: usize = 512;
/// Bytes of a footer's frame around the summary, and the pointer at the segment's end.
const FOOTER_REST: usize = FRAME_HEAD as usize + 4 + 8 + 8 + 8 + 1 + 24 + 4 + 4;

impl Footer {
    /// The bytes from the offset given to the segment's end.
    fn encode(&self, header: &Header) -> (u32, Vec<u8>) {
        let mut body = Vec::new();
        body.put_u32(self.data_end);
        body.put_u64(self.next);
        body.put_u64(self.stamp.age_ms);
        body.put_i64(self.stamp.wall_ns);
        body.put_u8(u8::from(self.stamp.synced));
        self.run.encode(&mut body);
        body.put_u32(self.dense);
        self.summary.encode(&mut body);
        let start = header.size.saturating_sub(footer_room(&self.summary, 0));
        let head = FrameHead {
            length: len_u32(body.len()),
            kind: Kind::Footer,
            flags: 0,
            route: 0,
            count: 0,
            first: self.next,
            time_ns: 0,
        };
        let mut out = Vec::new();
        head.put(&mut out, start, Seed { salt: header.salt, segment: header.number }, &body);
        out.resize((header.size.saturating_sub(start) as usize).saturating_sub(4), 0);
        out.put_u32(start);
        (start, out)
    }

    /// Reads the footer of a segment; `None` if it was not sealed, or the footer is damaged.
    pub(crate) fn read<S: Storage>(storage: &mut S, slot: Slot, header: &Header) -> Option<Self> {
        let mut last = vec![0; PAGE as usize];
        let last_at = slot.size.checked_sub(PAGE)?;
        storage.read(&slot.name(), u64::from(last_at), &mut last).ok()?;
        let start = u32::from_le_bytes(*last.last_chunk::<4>()?);
        if start < PAGE || start > last_at || start % PAGE != 0 {
            return None;
        }
        let mut frame = last;
        if start < last_at {
            frame = vec![0; (slot.size - start) as usize];
            storage.read(&slot.name(), u64::from(start), &mut frame).ok()?;
        }
        let (_, head) = FrameHead::peek(&frame)?;
        let frame = frame.get(..usize::try_from(head.size()).ok()?)?;
        let seed = Seed { salt: header.salt, segment: header.number };
        if head.kind != Kind::Footer || !FrameHead::check(frame, start, seed) {
            return None;
        }
        let mut take = super::bytes::Take::new(frame.get(FRAME_HEAD as usize..)?);
        Some(Self {
            data_end: take.u32()?,
            next: take.u64()?,
            stamp: Stamp { age_ms: take.u64()?, wall_ns: take.i64()?, synced: take.u8()? != 0 },
            run: Run::decode(&mut take)?,
            dense: take.u32()?,
            summary: Summary::decode(&mut take)?,
        })
    }
}

impl Footer {
    /// Whether a footer stands at the segment's end that ends where the segment does and can't be read: one of an
    /// earlier life of the file ends elsewhere.
    pub(crate) fn is_torn<S: Storage>(storage: &mut S, slot: Slot, end: u64) -> bool {
        let mut last = vec![0; PAGE as usize];
        let Some(last_at) = slot.size.checked_sub(PAGE) else { return false };
        if storage.read(&slot.name(), u64::from(last_at), &mut last).is_err() {
            return true;
        }
        FrameHead::peek(&last).is_some_and(|(_, head)| head.kind == Kind::Footer && head.first == end)
    }
}

/// Bytes at the segment's end that the footer takes.
fn footer_room(summary: &Summary, growth: usize) -> u32 {
    page_up(len_u32(summary.encoded_len() + growth + FOOTER_REST))
}

/// Frames that are written together.
#[derive(Debug)]
pub(crate) struct Write {
    at: u32,
    bytes: Vec<u8>,
    commit_start: u32,
}

impl Write {
    fn end(&self) -> u32 {
        self.at.saturating_add(len_u32(self.bytes.len()))
    }

    fn push(&mut self, head: &FrameHead, seed: Seed, body: &[u8]) {
        let in_page = self.end() % PAGE;
        if in_page != 0 && PAGE - in_page < FRAME_HEAD {
            let padded = self.bytes.len() + (PAGE - in_page) as usize;
            self.bytes.resize(padded, 0);
        }
        head.put(&mut self.bytes, self.at, seed, body);
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) slot: Slot,
    /// Its file's name.
    name: String,
    pub(crate) header: Header,
    pub(crate) run: Run,
    pub(crate) summary: Summary,
    /// Only delivery state and gaps may be written: it came from the reserve.
    pub(crate) reserve: bool,
    /// Something is written and no flush of it was begun.
    dirty: bool,
    /// A flush is under way.
    flushing: bool,
    /// Age clock at its first record.
    pub(crate) first_age_ms: Option<u64>,
    /// Age clock at its last record.
    pub(crate) last_age_ms: u64,
    /// Bytes of its routes, records and gaps.
    pub(crate) dense: u32,
    /// Where the log was cut before this run.
    cut: u32,
    offset: u32,
    /// End of what was written last; behind it there are zeros up to the page's end.
    written_end: u32,
    durable: u32,
    commit_start: Option<u32>,
    /// Where the last frame stands, if it is a state that is not durable, and up to which number the log went before it:
    /// the next state may take its place.
    state_at: Option<(u32, u64)>,
    routes: BTreeMap<Route, u16>,
}

impl Active {
    /// A segment with nothing but its header.
    pub(crate) fn new(slot: Slot, header: Header, run: Run) -> Self {
        // The header is durable together with the first commit, not before.
        Self { durable: 0, ..Self::resume(slot, header, run, Summary::default(), PAGE) }
    }

    /// A segment that is gone on with, from the page at or behind `cut`.
    pub(crate) fn resume(slot: Slot, header: Header, run: Run, summary: Summary, cut: u32) -> Self {
        let offset = page_up(cut);
        Self {
            slot,
            name: slot.name(),
            header,
            run,
            summary,
            reserve: false,
            dirty: false,
            flushing: false,
            first_age_ms: None,
            last_age_ms: header.age_ms,
            dense: 0,
            cut,
            offset,
            written_end: offset,
            durable: offset,
            commit_start: None,
            state_at: None,
            routes: BTreeMap::new(),
        }
    }

    pub(crate) fn durable_offset(&self) -> u32 {
        self.durable
    }

    /// The payload with which the next record would end at a page's end. For tests.
    #[cfg(test)]
    pub(crate) fn page_filler(&self, route: &Route) -> usize {
        let begun = self.begin(0, Stamp::default());
        let route = match self.route(route) {
            Ok(_) => 0,
            Err(_) => FRAME_HEAD as usize + 1 + route.source.len() + route.blob.len(),
        };
        let used = (begun.end() % PAGE) as usize + route + FRAME_HEAD as usize;
        (2 * PAGE as usize - used) % PAGE as usize
    }

    /// Bytes written so far.
    pub(crate) fn used(&self) -> u32 {
        self.offset
    }

    fn seed(&self) -> Seed {
        Seed { salt: self.run.salt, segment: self.header.number }
    }

    /// Begins a write; a commit head comes first where one is due.
    pub(crate) fn begin(&self, first: u64, stamp: Stamp) -> Write {
        match self.commit_start {
            Some(start) if self.offset.saturating_sub(start) < COMMIT_MAX.min(self.header.size / 2) => {
                Write { at: self.offset, bytes: Vec::with_capacity(WRITE_BYTES), commit_start: start }
            }
            _ => self.begin_commit(first, stamp, None),
        }
    }

    /// Begins the first write of a run in a segment that is gone on with.
    pub(crate) fn begin_run(&self, first: u64, stamp: Stamp) -> Write {
        self.begin_commit(first, stamp, Some(self.cut))
    }

    fn begin_commit(&self, first: u64, stamp: Stamp, cut: Option<u32>) -> Write {
        let at = page_up(self.offset);
        let commit = Commit {
            segment_salt: self.header.salt,
            segment: self.header.number,
            run: self.run,
            durable: self.durable,
            cut: cut.unwrap_or_default(),
            age_ms: stamp.age_ms,
            wall_ns: stamp.wall_ns,
            first,
            opens_run: cut.is_some(),
            packed: self.header.packed,
            synced: stamp.synced,
        };
        let (head, body) = commit.encode();
        let mut write = Write { at, bytes: Vec::with_capacity(WRITE_BYTES), commit_start: at };
        write.push(&head, Seed { salt: self.header.salt, segment: self.header.number }, &body);
        write
    }

    /// What follows is of another run; it begins on a page of its own.
    pub(crate) fn enter_run(&mut self, run: Run) {
        self.run = run;
        self.cut = self.offset;
        self.offset = page_up(self.offset);
        self.commit_start = None;
        self.state_at = None;
        self.routes.clear();
    }

    /// Bytes of a write so far.
    pub(crate) fn bytes(write: &Write) -> u32 {
        len_u32(write.bytes.len())
    }

    /// Adds a frame of this run.
    pub(crate) fn push(&self, write: &mut Write, head: &FrameHead, body: &[u8]) {
        write.push(head, self.seed(), body);
    }

    /// Adds a record, after its route if that is new here; `false`, and nothing has changed, if it does not fit.
    pub(crate) fn push_record(&mut self, write: &mut Write, item: &Item, route: &Route, payload: &[u8]) -> bool {
        let (before, known) = (write.bytes.len(), self.route(route));
        if known.is_err() && self.routes_full() {
            return false;
        }
        let index = known.unwrap_or_else(|index| index);
        if known.is_err() {
            let mut body = Vec::with_capacity(route.blob.len() + route.source.len() + 1);
            body.put_name(&route.source);
            body.extend_from_slice(&route.blob);
            let head = frame_head(Kind::Route, &body, item.first, 0, 0);
            self.push(write, &FrameHead { route: index, ..head }, &body);
        }
        let (body, flags) = squeeze(payload);
        let head = frame_head(Kind::Record, &body, item.first, item.count, item.time_ns);
        self.push(write, &FrameHead { route: index, flags, ..head }, &body);
        if !self.fits(write, Summary::growth(&route.source), 0) {
            write.bytes.truncate(before);
            return false;
        }
        self.dense = self.dense.saturating_add(len_u32(body.len()).saturating_add(FRAME_HEAD));
        if known.is_err() {
            let bytes = route.blob.len() + route.source.len() + 1;
            self.dense = self.dense.saturating_add(len_u32(bytes).saturating_add(FRAME_HEAD));
            self.add_route(route, index);
        }
        let run = self.run;
        self.summary.add_record(&run, &route.source, item.first, item.count, item.time_ns);
        true
    }

    /// The route's index, if it was given in this run, and the index that it would get.
    pub(crate) fn route(&self, route: &Route) -> Result<u16, u16> {
        self.routes.get(route).copied().ok_or(len_u16(self.routes.len()))
    }

    pub(crate) fn routes_full(&self) -> bool {
        self.routes.len() >= usize::from(u16::MAX)
    }

    pub(crate) fn add_route(&mut self, route: &Route, index: u16) {
        self.routes.insert(route.clone(), index);
    }

    /// Whether the write, and then a footer grown by `growth`, fit. `spare` bytes are to remain free.
    pub(crate) fn fits(&self, write: &Write, growth: usize, spare: u32) -> bool {
        let footer = footer_room(&self.summary, growth);
        let summary_max = (self.header.size / 8) as usize;
        u64::from(page_up(write.end())) + u64::from(footer) + u64::from(spare) <= u64::from(self.header.size)
            && self.summary.encoded_len() + growth <= summary_max
    }

    /// Writes to the page cache.
    pub(crate) fn write<S: Storage>(&mut self, storage: &mut S, mut write: Write) -> Result<(), StorageError> {
        let end = write.end();
        // A write that stays within its page finds the zeros of the one that began it, unless it takes a longer one back.
        if write.at.is_multiple_of(PAGE) || page_up(end) != page_up(write.at) || write.at != self.written_end {
            let padded = page_up(end).saturating_sub(write.at) as usize;
            write.bytes.resize(padded, 0);
        }
        storage.write(&self.name, u64::from(write.at), &write.bytes)?;
        self.offset = end;
        self.written_end = end;
        self.state_at = None;
        self.commit_start = Some(write.commit_start);
        self.dirty = true;
        Ok(())
    }

    /// Writes the header page, and gives up what stood in the file before.
    pub(crate) fn write_header<S: Storage>(&self, storage: &mut S) -> Result<(), StorageError> {
        storage.write(&self.name, 0, &self.header.encode())
    }

    /// Takes back the last frame if it is a state that is not durable; gives the offset for [`Self::undo`], and the number
    /// that the log goes to then.
    pub(crate) fn rewind(&mut self, log_end: u64) -> (u32, u64) {
        let before = self.offset;
        let (offset, log_end) = self.state_at.unwrap_or((before, log_end));
        self.offset = offset;
        (before, log_end)
    }

    /// The frame that was taken back stands after all.
    pub(crate) fn undo(&mut self, offset: u32) {
        self.offset = offset;
    }

    /// The frame written last, of this size, is a state alone; before it the log went up to `log_end`.
    pub(crate) fn state_written(&mut self, size: u32, log_end: u64) {
        self.state_at = self.offset.checked_sub(size).map(|offset| (offset, log_end));
    }

    /// Makes all that was written durable.
    pub(crate) fn sync<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        if !sabotage::on(Fault::NoSync) {
            storage.sync(&self.name)?;
        }
        self.end_commit();
        self.durable = page_up(self.offset);
        self.flushing = false;
        Ok(())
    }

    /// Begins to make all that was written durable. What is written from now on is not.
    pub(crate) fn begin_flush<S: Deferred>(&mut self, storage: &mut S) -> Result<S::Flush, StorageError> {
        let flush = storage.begin_flush(&self.name)?;
        self.end_commit();
        self.flushing = true;
        Ok(flush)
    }

    /// The flush is made: what was written up to here by then is durable. Gives the bytes that were not before.
    pub(crate) fn flushed(&mut self, to: u32) -> u32 {
        self.flushing = false;
        let bytes = to.saturating_sub(self.durable);
        self.durable = self.durable.max(to);
        bytes
    }

    /// No page is written again that a flush was begun for.
    fn end_commit(&mut self) {
        if !sabotage::on(Fault::PageWrittenTwice) {
            self.offset = page_up(self.offset);
            self.commit_start = None;
        }
        self.state_at = None;
        self.dirty = false;
    }

    /// Something is written and not durable.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty || self.flushing
    }

    /// Something is written that no flush was begun for.
    pub(crate) fn wants_flush(&self) -> bool {
        self.dirty
    }

    /// Writes the footer; nothing is written into the segment after it. Not durable yet.
    pub(crate) fn seal<S: Storage>(
        &mut self,
        storage: &mut S,
        next: u64,
        stamp: Stamp,
    ) -> Result<Footer, StorageError> {
        // A tail that was torn before this run stays outside, if nothing was written behind it.
        let untouched = self.offset == page_up(self.cut);
        let footer = Footer {
            data_end: if untouched { self.cut } else { page_up(self.offset) },
            next,
            stamp,
            run: self.run,
            dense: self.dense,
            summary: self.summary.clone(),
        };
        let (start, bytes) = footer.encode(&self.header);
        storage.write(&self.name, u64::from(start), &bytes)?;
        self.dirty = true;
        Ok(footer)
    }
}
